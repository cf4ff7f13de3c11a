//! What lncli has and fulmen has not yet: known all the same, so that it is refused by name.

use clap::parser::ValueSource;
use clap::{value_parser, Arg, ArgAction, ArgMatches, Command};

/// Commands, and names of groups of commands.
#[rustfmt::skip] // a word list, not one a line
pub const COMMANDS: &[&str] = &[
    "abandonchannel", "addholdinvoice", "autopilot", "batchopenchannel", "buildroute",
    "cancelinvoice", "chain", "createwatchonly", "decryptdebugpackage", "deletecanceledinvoice",
    "deletefwdhistory", "deletepayments", "describegraph", "encryptdebugpackage",
    "estimateroutefee", "feereport", "fish-completion", "fwdinghistory",
    "generatemanpage", "getchaninfo", "getdebuginfo", "getmccfg", "getnetworkinfo", "getnodeinfo",
    "getnodemetrics", "importgraph", "importmc", "loadmc", "neutrino", "peers", "profile",
    "querymc", "queryprob", "queryroutes", "resetmc", "sendcustom",
    "sendtoroute", "setmccfg", "settleinvoice", "signmessage", "subscribecustom",
    "updatechanpolicy", "updatechanstatus", "verifymessage",
];

/// Commands of groups that fulmen has others of.
#[rustfmt::skip] // a word list, not one a line
pub const IN_GROUPS: &[(&str, &[&str])] = &[(
    "wallet",
    &[
        "accounts", "addresses", "estimatefeerate", "gettx", "labeltx", "leaseoutput",
        "listleases", "listsweeps", "psbt", "publishtx", "releaseoutput", "removetx",
        "requiredreserve", "submitpackage",
    ],
)];

/// What a flag takes.
#[derive(Clone, Copy)]
enum Takes {
    Nothing,
    Text,
    Texts,
    Number,
}

/// Flags by their command, none for those that stand before the command.
const FLAGS: &[(&str, &[(&str, Takes)])] = &[
    ("", &[("profile", Takes::Text), ("macfromjar", Takes::Text), ("insecure", Takes::Nothing)]),
    (
        "openchannel",
        &[("psbt", Takes::Nothing), ("base_psbt", Takes::Text), ("no_publish", Takes::Nothing)],
    ),
    ("sendpayment", &[("route_hints", Takes::Text)]),
    ("bakemacaroon", &[("root_key", Takes::Text)]),
    (
        "addinvoice",
        &[
            ("min_real_blinded_hops", Takes::Number),
            ("num_blinded_hops", Takes::Number),
            ("max_blinded_paths", Takes::Number),
            ("blinded_path_omit_node", Takes::Texts),
            ("blinded_path_incoming_channel_list", Takes::Text),
        ],
    ),
];

/// `command` with the flags of this list, hidden from its help.
pub fn with_flags(command: Command) -> Command {
    FLAGS.iter().fold(command, |command, (name, flags)| match *name {
        "" => command.args(hidden(flags)),
        name => command.mut_subcommand(name, |inner| inner.args(hidden(flags))),
    })
}

/// `command` with the commands of this list, hidden from its help. They take anything.
pub fn with_commands(command: Command) -> Command {
    let anything = || Arg::new("words").num_args(0..).trailing_var_arg(true);
    let one = |name: &&'static str| {
        let words = anything().allow_hyphen_values(true);
        Command::new(*name).hide(true).disable_help_flag(true).arg(words)
    };
    let command = command.subcommands(COMMANDS.iter().map(one));
    IN_GROUPS.iter().fold(command, |command, (group, commands)| {
        command.mut_subcommand(group, |group| group.subcommands(commands.iter().map(one)))
    })
}

fn hidden<'a>(flags: &'a [(&'static str, Takes)]) -> impl Iterator<Item = Arg> + 'a {
    flags.iter().map(|(name, takes)| {
        let arg = Arg::new(*name).long(*name).hide(true);
        let arg = if *name == "profile" { arg.short('p') } else { arg };
        match takes {
            Takes::Nothing => arg.action(ArgAction::SetTrue),
            Takes::Text => arg,
            Takes::Texts => arg.action(ArgAction::Append),
            Takes::Number => arg.value_parser(value_parser!(u64)),
        }
    })
}

/// What of this list was asked for.
pub fn asked(matches: &ArgMatches) -> Option<String> {
    let (command, inner) = matches.subcommand()?;
    if COMMANDS.contains(&command) {
        return Some(command.into());
    }
    let inside = IN_GROUPS.iter().filter(|(group, _)| *group == command);
    if let Some((name, _)) = inner.subcommand() {
        if inside.flat_map(|(_, commands)| *commands).any(|unbuilt| *unbuilt == name) {
            return Some(format!("{command} {name}"));
        }
    }
    let of = |name: &str| FLAGS.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, f)| f);
    let before = of("").iter().map(|(flag, _)| (matches, flag));
    let mut flags = before.chain(of(command).iter().map(|(flag, _)| (inner, flag)));
    let given = |(matches, flag): &(&ArgMatches, &&str)| {
        matches.value_source(flag) == Some(ValueSource::CommandLine)
            && !matches!(matches.try_get_one::<bool>(flag), Ok(Some(false)))
    };
    flags.find(given).map(|(_, flag)| format!("--{flag}"))
}
