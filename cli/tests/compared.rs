//! The calls that each command makes, beside lncli's table.

use super::mock::{start, Answer, Call};
use fulmen_proto::lnrpc::payment::PaymentStatus;
use fulmen_proto::lnrpc::{
    close_status_update, open_status_update, BakeMacaroonResponse, Channel, ChannelOpenUpdate,
    CloseStatusUpdate, GenSeedResponse, ListChannelsResponse, OpenStatusUpdate, PayReq, Payment,
    PendingUpdate, SubscribeStateResponse, WalletState,
};
use prost::Message;
use std::collections::BTreeSet;

const TABLE: &str = include_str!("facts/lncli.tsv");
const TXID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddee01";

/// Command lines that together make all the calls of their command, and what is typed.
const LINES: &[(&str, &str)] = &[
    ("create", "password\npassword\nn\n"),
    ("unlock --stdin", "password\n"),
    ("changepassword", "password\npassword2\npassword2\n"),
    ("state", ""),
    ("newaddress p2wkh", ""),
    ("estimatefee {\"a\":1}", ""),
    ("sendmany {\"a\":1}", ""),
    ("sendcoins a 1", ""),
    ("listunspent", ""),
    ("connect 02bf@h:1", ""),
    ("disconnect 02bf", ""),
    ("openchannel --connect h:1 02bf 20000", ""),
    ("closechannel TXID:0", ""),
    ("closeallchannels -s", ""),
    ("listpeers", ""),
    ("walletbalance", ""),
    ("channelbalance", ""),
    ("getinfo", ""),
    ("getrecoveryinfo", ""),
    ("pendingchannels", ""),
    ("sendpayment --pay_req=lnbc1 -f", ""),
    ("payinvoice lnbc1", "yes\n"),
    ("addinvoice 5", ""),
    ("lookupinvoice aa", ""),
    ("listinvoices", ""),
    ("listchannels", ""),
    ("listaliases", ""),
    ("closedchannels", ""),
    ("exportchanbackup TXID:0", ""),
    ("exportchanbackup --all", ""),
    ("verifychanbackup --single_backup=aa", ""),
    ("restorechanbackup --multi_backup=aa", ""),
    ("listpayments", ""),
    ("debuglevel --show", ""),
    ("decodepayreq lnbc1", ""),
    ("listchaintxns", ""),
    ("stop", ""),
    ("bakemacaroon info:read", ""),
    ("listmacaroonids", ""),
    ("deletemacaroonid 1", ""),
    ("listpermissions", ""),
    ("trackpayment aa", ""),
    ("version", ""),
    ("wallet pendingsweeps", ""),
    ("wallet bumpfee TXID:0 --budget=5000", ""),
    ("wallet bumpclosefee TXID:0 --conf_target 3", ""),
    ("wallet bumpforceclosefee TXID:0 --sat_per_vbyte 9", ""),
    ("tower info", ""),
    ("wtclient add 02TXID@h:1", ""),
    ("wtclient remove 02TXID", ""),
    ("wtclient deactivate 02TXID", ""),
    ("wtclient towers", ""),
    ("wtclient tower 02TXID", ""),
    ("wtclient session terminate 02TXID", ""),
    ("wtclient stats", ""),
    ("wtclient policy", ""),
];

/// Calls of lncli that ours makes not here, or makes besides, and why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("create", "+lnrpc.State/SubscribeState", "it ends when the daemon serves calls, as unlock"),
    ("changepassword", "+lnrpc.State/SubscribeState", "the same"),
    ("openchannel", "-lnrpc.Lightning/FundingStateStep", "--psbt is not built"),
    ("sendcoins", "-lnrpc.Lightning/ListUnspent", "asked on a terminal only"),
    ("sendcoins", "-lnrpc.Lightning/WalletBalance", "asked on a terminal only"),
];

/// Says yes to everything.
fn agreeable(call: &Call) -> Answer {
    let pending = PendingUpdate { txid: vec![1; 32], ..PendingUpdate::default() };
    Ok(vec![match call.path.as_str() {
        "/lnrpc.WalletUnlocker/GenSeed" => {
            let words = vec!["zoo".to_owned(); 24];
            GenSeedResponse { cipher_seed_mnemonic: words, ..Default::default() }.encode_to_vec()
        }
        "/lnrpc.State/SubscribeState" => {
            let mut state = SubscribeStateResponse::default();
            state.set_state(WalletState::RpcActive);
            state.encode_to_vec()
        }
        "/lnrpc.Lightning/OpenChannel" => {
            let open = open_status_update::Update::ChanPending(pending);
            OpenStatusUpdate { update: Some(open), ..Default::default() }.encode_to_vec()
        }
        "/lnrpc.Lightning/CloseChannel" => {
            let close = close_status_update::Update::ClosePending(pending);
            CloseStatusUpdate { update: Some(close) }.encode_to_vec()
        }
        "/lnrpc.Lightning/ListChannels" => {
            let channel_point = format!("{TXID}:0");
            let channel = Channel { active: true, channel_point, ..Channel::default() };
            ListChannelsResponse { channels: vec![channel] }.encode_to_vec()
        }
        "/lnrpc.Lightning/DecodePayReq" => {
            PayReq { num_satoshis: 5, num_msat: 5000, ..PayReq::default() }.encode_to_vec()
        }
        "/lnrpc.Lightning/BakeMacaroon" => {
            let macaroon = hex::encode(super::mock::admin_macaroon());
            BakeMacaroonResponse { macaroon }.encode_to_vec()
        }
        "/routerrpc.Router/SendPaymentV2" | "/routerrpc.Router/TrackPaymentV2" => {
            let mut payment = Payment::default();
            payment.set_status(PaymentStatus::Succeeded);
            payment.encode_to_vec()
        }
        _ => ChannelOpenUpdate::default().encode_to_vec(), // nothing, of any message
    }])
}

fn served() -> impl Iterator<Item = (&'static str, BTreeSet<String>)> {
    let rows = TABLE.lines().skip(2).map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let calls = columns[5].split(',').filter(|call| !call.is_empty()).map(str::to_owned);
        (columns[0], calls.collect())
    });
    rows.filter(|(command, _)| LINES.iter().any(|(line, _)| first(line) == *command))
}

/// The command: a word, or more for one of a group.
fn first(line: &str) -> &str {
    let words = match line {
        _ if line.starts_with("wtclient session ") => 3,
        _ if ["wallet ", "wtclient ", "tower "].iter().any(|group| line.starts_with(group)) => 2,
        _ => 1,
    };
    line.match_indices(' ').nth(words - 1).map_or(line, |(end, _)| &line[..end])
}

#[tokio::test]
async fn every_command_makes_lnclis_calls() {
    let daemon = start(agreeable).await;
    let mut compared = 0;
    for (command, mut expected) in served() {
        for (_, call, _) in DIFFERENCES.iter().filter(|(of, _, _)| *of == command) {
            match call.split_at(1) {
                ("+", call) => assert!(expected.insert(call.into()), "{command} {call}"),
                (_, call) => assert!(expected.remove(call), "{command} {call}"),
            }
        }
        let mut made = BTreeSet::new();
        for (line, typed) in LINES.iter().filter(|(line, _)| first(line) == command) {
            let before = daemon.paths().len();
            let ended = daemon.cli_with_input(&line.replace("TXID", TXID), typed).await;
            assert_eq!(ended.code, Some(0), "{line}: {}", ended.stderr);
            let paths = daemon.paths().split_off(before);
            made.extend(paths.iter().map(|path| path.trim_start_matches('/').to_owned()));
        }
        assert_eq!(made, expected, "{command}");
        compared += 1;
    }
    assert_eq!(compared, LINES.iter().map(|(line, _)| first(line)).collect::<BTreeSet<_>>().len());
}

#[tokio::test]
async fn what_is_not_built_says_so_and_fails() {
    let daemon = start(agreeable).await;
    for (line, name) in [
        ("describegraph", "describegraph"),
        ("wallet psbt fund --inputs=x", "wallet psbt"),
        ("signmessage -h", "signmessage"),
        ("--macfromjar x getinfo", "--macfromjar"),
        ("openchannel 02bf 20000 --psbt", "--psbt"),
    ] {
        let ended = daemon.cli(line).await;
        let text = format!("[fulmen-cli] {name} is not built into fulmen yet\n");
        assert_eq!((ended.code, ended.stderr), (Some(1), text), "{line}");
    }
    assert_eq!(daemon.paths().len(), 0);
    let unknown = daemon.cli("describegrph").await;
    assert!(unknown.stderr.contains("unrecognized subcommand"), "{}", unknown.stderr);
}

/// No command of ours is left out of the comparison.
#[tokio::test]
async fn every_command_in_the_help_is_compared() {
    let daemon = start(agreeable).await;
    let help = daemon.cli("--help").await.stdout;
    let listed = help.split_once("Commands:").unwrap().1.split_once("Options:").unwrap().0;
    let ours: BTreeSet<&str> = listed
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    let offline = ["constrainmacaroon", "printmacaroon"];
    let own = ["channel"];
    let word = |line: &'static str| line.split(' ').next().unwrap();
    let compared = LINES.iter().map(|(line, _)| word(line)).chain(offline).chain(own);
    assert_eq!(ours, compared.collect::<BTreeSet<_>>());
}
