//! Our command line beside lncli's table: commands, flags with short, type and default, words.

use crate::args::{definition, parse};
use crate::unbuilt;
use clap::{Arg, ArgAction, Command};
use std::any::TypeId;
use std::collections::BTreeSet;
use std::time::Duration;

const TABLE: &str = include_str!("../../tests/facts/lncli.tsv");

/// Flags that lncli has not.
const OURS: [&str; 3] = ["format", "help", "version"];

/// lncli's words for positional arguments (variables of its code) where ours go by another name.
const WORDS: &[(&str, &str)] = &[
    ("amount", "AMT"),
    ("channelPoint", "CHAN_POINT"),
    ("protoOutPoint", "OUTPOINT"),
    ("chanPointStr", "CHAN_POINT"),
    ("destNode", "DEST"),
    ("delta", "FINAL_CLTV_DELTA"),
    ("destMacFile", "CONSTRAINED_MACAROON_FILE"),
    ("hash", "HASH"),
    ("jsonMap", "SEND_JSON_STRING"),
    ("macBytes", "MACAROON_FILE"),
    ("maxConfirms", "MAX_CONFS"),
    ("minConfirms", "MIN_CONFS"),
    ("nodePubHex", "NODE_KEY"),
    ("parts", "TOWER"),
    ("payReq", "PAY_REQ"),
    ("payreq", "PAY_REQ"),
    ("pubKey", "NODE_KEY"),
    ("rHash", "PAYMENT_HASH"),
    ("req.LocalFundingAmount", "LOCAL_AMT"),
    ("req.PushSat", "PUSH_AMT"),
    ("rootKeyIDString", "ROOT_KEY_ID"),
    ("sourceMacFile", "INPUT_MACAROON_FILE"),
    ("stringAddrType", "KIND"),
    ("targetAddress", "ADDRESS"),
];

/// Commands that take words although the table, which was read off variables, shows none.
const TAKE_WORDS: [(&str, &str); 2] =
    [("closechannel", "FUNDING_TXID OUTPUT_INDEX"), ("bakemacaroon", "PERMISSIONS")];

struct Row<'a> {
    command: &'a str,
    words: &'a str,
    flags: Vec<Flag<'a>>,
}

struct Flag<'a> {
    name: &'a str,
    short: Option<char>,
    kind: &'a str,
    default: &'a str,
}

fn rows() -> Vec<Row<'static>> {
    let mut lines = TABLE.lines();
    assert!(lines.next().unwrap().starts_with("command\tshort\taliases\tpositional"));
    let row = |line: &'static str| {
        let columns: Vec<_> = line.split('\t').collect();
        assert_eq!((columns[1], columns[2]), ("", ""), "lncli has short names now: {line}");
        let flags = columns[4].split(" ; ").filter(|flag| !flag.is_empty()).map(flag);
        Row { command: columns[0], words: columns[3], flags: flags.collect() }
    };
    lines.map(row).collect()
}

/// `--name/-short:type=default`, or with the short one first.
fn flag(text: &'static str) -> Flag<'static> {
    let (names, rest) = text.split_once(':').unwrap();
    let (kind, default) = rest.split_once('=').unwrap_or((rest, ""));
    let (one, other) = names.split_once('/').unwrap_or((names, ""));
    let (one, other) = (one.trim_start_matches('-'), other.trim_start_matches('-'));
    let (name, short) = if one.len() > 1 { (one, other) } else { (other, one) };
    Flag { name, short: short.chars().next(), kind: kind.trim_end_matches(" hidden"), default }
}

fn built(command: &str) -> bool {
    unbuilt_name(command).is_none()
}

/// What of a command is not built: its group, or itself.
fn unbuilt_name(command: &str) -> Option<String> {
    let mut words = command.split(' ');
    let (group, inner) = (words.next().unwrap(), words.next().unwrap_or_default());
    let mut inside = unbuilt::IN_GROUPS.iter().filter(|(name, _)| *name == group);
    if unbuilt::COMMANDS.contains(&group) {
        return Some(group.to_owned());
    }
    let unbuilt = inside.any(|(_, commands)| commands.contains(&inner));
    unbuilt.then(|| format!("{group} {inner}"))
}

fn called(arg: &Arg, name: &str) -> bool {
    let aliases = arg.get_all_aliases().unwrap_or_default();
    arg.get_long() == Some(name) || aliases.contains(&name)
}

/// The types that a value of Go's type `kind` may become here.
fn type_fits(arg: &Arg, kind: &str) -> bool {
    let parser = arg.get_value_parser().type_id();
    let is = |id: TypeId| parser == id;
    let signed = is(TypeId::of::<i64>()) || is(TypeId::of::<i32>());
    let unsigned = is(TypeId::of::<u64>()) || is(TypeId::of::<u32>());
    let (duration, float) = (is(TypeId::of::<Duration>()), is(TypeId::of::<f64>()));
    let switch = is(TypeId::of::<bool>());
    let many = matches!(arg.get_action(), ArgAction::Append);
    match kind {
        "bool" => switch,
        "int" | "int64" => (signed || unsigned) && !many,
        "uint" | "uint64" => unsigned && !many,
        "float64" => float,
        "duration" => duration,
        "string" => !(signed || unsigned || duration || float || switch || many),
        "stringslice" => many,
        other => panic!("{other} is no type of the table"),
    }
}

fn default_fits(arg: &Arg, flag: &Flag) -> bool {
    let defaults: Vec<_> = arg.get_default_values().iter().filter_map(|v| v.to_str()).collect();
    let ours = defaults.first().copied().unwrap_or_default();
    let zero = ["", "0", "false"].contains(&ours);
    match flag.default {
        "" | "0" => zero,
        "routerrpc.DefaultMaxParts" => ours == "16",
        "~/.lnd (per-OS app data dir)" => ours == "~/.fulmen",
        "~/.lnd/tls.cert" => zero, // in the daemon's directory
        theirs => ours == theirs,
    }
}

/// What is different about `command`'s flags.
fn compare_flags(command: &Command, row: &Row) -> Vec<String> {
    let mut wrong = Vec::new();
    for flag in &row.flags {
        let Some(arg) = command.get_arguments().find(|arg| called(arg, flag.name)) else {
            wrong.push(format!("{}: no --{}", row.command, flag.name));
            continue;
        };
        let mut say = |what| wrong.push(format!("{} --{}: {what}", row.command, flag.name));
        if arg.get_short() != flag.short {
            say("another short name");
        }
        if !type_fits(arg, flag.kind) {
            say("another type");
        }
        if !default_fits(arg, flag) {
            say("another default");
        }
    }
    let known = |arg: &Arg| {
        let name = arg.get_long().unwrap_or_default();
        OURS.contains(&name) || row.flags.iter().any(|flag| called(arg, flag.name))
    };
    let flags = command.get_arguments().filter(|arg| !arg.is_positional());
    let extra = flags.filter(|arg| !known(arg));
    wrong.extend(extra.map(|arg| format!("{}: lncli has no --{}", row.command, arg.get_id())));
    wrong
}

/// The positional arguments in order, as the help names them.
fn words(command: &Command) -> String {
    let names = command.get_positionals().filter_map(Arg::get_value_names);
    names.flatten().map(|name| name.as_str()).collect::<Vec<_>>().join(" ")
}

fn expected_words(row: &Row) -> String {
    if let Some((_, words)) = TAKE_WORDS.iter().find(|(command, _)| *command == row.command) {
        return (*words).to_owned();
    }
    let ours = |word: &str| match WORDS.iter().find(|(theirs, _)| *theirs == word) {
        // it is a flag too, and goes by that flag's name
        _ if row.command == "lookupinvoice" => "RHASH".into(),
        Some((_, ours)) => (*ours).to_owned(),
        None => word.to_uppercase(),
    };
    let words = row.words.split(',').filter(|word| !word.is_empty());
    words.map(ours).collect::<Vec<_>>().join(" ")
}

/// A command, or one of a group.
fn found<'a>(definition: &'a Command, name: &str) -> Option<&'a Command> {
    name.split(' ').try_fold(definition, |group, word| group.find_subcommand(word))
}

#[test]
fn every_command_has_lnclis_flags_and_words() {
    let definition = definition();
    let mut wrong = Vec::new();
    for row in rows().iter().filter(|row| built(row.command)) {
        let command = match row.command {
            "(global)" => &definition,
            name => match found(&definition, name) {
                Some(command) => command,
                None => {
                    wrong.push(format!("no command {name}"));
                    continue;
                }
            },
        };
        wrong.extend(compare_flags(command, row));
        let (ours, expected) = (words(command), expected_words(row));
        if ours != expected {
            wrong.push(format!("{}: takes {ours}, not {expected}", row.command));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_command_is_one_of_lnclis() {
    let rows = rows();
    let mut theirs: BTreeSet<_> =
        rows.iter().map(|row| row.command.split(' ').next().unwrap()).skip(1).collect();
    assert!(theirs.insert("channel"), "that is fulmen's own");
    let definition = definition();
    let ours: BTreeSet<_> = definition.get_subcommands().map(Command::get_name).collect();
    assert_eq!(ours, theirs);
    assert!(theirs.len() > 80, "the table is empty");
}

#[test]
fn what_is_not_built_is_named() {
    let mut lines: Vec<(String, String)> = Vec::new();
    for row in rows().iter().filter(|row| !built(row.command)) {
        let name = unbuilt_name(row.command).unwrap();
        lines.push((format!("{} a --flag=1 -h", row.command), name));
    }
    for (line, flag) in [
        ("--profile x getinfo", "--profile"),
        ("-p x getinfo", "--profile"),
        ("--macfromjar x getinfo", "--macfromjar"),
        ("--insecure getinfo", "--insecure"),
        ("openchannel a 1 --psbt", "--psbt"),
        ("sendpayment --route_hints=x", "--route_hints"),
        ("addinvoice --num_blinded_hops 2", "--num_blinded_hops"),
    ] {
        lines.push((line.to_owned(), flag.to_owned()));
    }
    for (line, name) in lines {
        let words = std::iter::once("fulmen-cli").chain(line.split_whitespace());
        match parse(words).unwrap().command {
            super::Command::Unbuilt(said) => assert_eq!(said, name, "{line}"),
            other => panic!("{line} became {other:?}"),
        }
    }
    let off = parse(["fulmen-cli", "openchannel", "a", "1", "--psbt=false"]).unwrap();
    assert!(matches!(off.command, super::Command::Online(super::Online::OpenChannel(_))));
}
