//! Command lines and the requests they become, as tables.

use super::wallet::Wallet;
use super::{Command, Online};
use crate::args::{parse, Cli};
use crate::error::CliError;
use fulmen_proto::json::{to_value, Bytes};
use fulmen_proto::lnrpc::PendingChannelsRequest;
use prost::Name;
use serde_json::{json, Value};

const NODE: &str = "02bf";
const TXID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddee01";

fn command_line(line: &str) -> Result<Cli, clap::Error> {
    parse(std::iter::once("fulmen-cli").chain(line.split_whitespace()))
}

/// The fields of a request that are not zero, as JSON.
fn set<M: Name + Default>(request: &M) -> Value {
    let empty = to_value(&M::default(), Bytes::Hex).unwrap();
    let mut fields = to_value(request, Bytes::Hex).unwrap();
    fields.as_object_mut().unwrap().retain(|name, value| empty.get(name) != Some(value));
    fields
}

/// What a command line asks of the daemon, or the error that the user reads.
fn asked(line: &str) -> Result<Value, String> {
    let command = match command_line(line).map_err(|e| e.to_string())?.command {
        Command::Online(command) => command,
        Command::Unbuilt(name) => return Err(format!("{name} is not built")),
        Command::Startup(_) | Command::Offline(_) => return Err("asks by itself".into()),
    };
    let request = match command {
        Online::GetInfo | Online::ChannelBalance | Online::Stop => Ok(json!({})),
        Online::NewAddress(c) => Ok(set(&c.request())),
        Online::WalletBalance(c) => Ok(set(&c.request())),
        Online::Connect(c) => c.request().map(|r| set(&r)),
        Online::Disconnect(c) => c.request().map(|r| set(&r)),
        Online::ListPeers(c) => Ok(set(&c.request())),
        Online::OpenChannel(c) => c.request().map(|r| set(&r)),
        Online::PendingChannels(c) => {
            Ok(set(&PendingChannelsRequest { include_raw_tx: c.include_raw_tx }))
        }
        Online::ListChannels(c) => c.request().map(|r| set(&r)),
        Online::ClosedChannels(c) => Ok(set(&c.request())),
        Online::CloseChannel(c) => c.request().map(|r| set(&r)),
        Online::AddInvoice(c) => c.request().map(|r| set(&r)),
        Online::LookupInvoice(c) => c.request().map(|r| set(&r)),
        Online::ListInvoices(c) => Ok(set(&c.request())),
        Online::DecodePayReq(c) => c.request().map(|r| set(&r)),
        Online::SendPayment(c) => c.by_hand([7; 32]).map(|r| set(&r)),
        Online::PayInvoice(c) => c.flags.request(40_000).map(|r| set(&r)),
        Online::TrackPayment(c) => c.request().map(|r| set(&r)),
        Online::ListPayments(c) => Ok(set(&c.request())),
        Online::GetRecoveryInfo | Online::Version | Online::ListAliases => Ok(json!({})),
        Online::ListMacaroonIds | Online::ListPermissions => Ok(json!({})),
        Online::BakeMacaroon(c) => c.request().map(|r| set(&r)),
        Online::DeleteMacaroonId(c) => Ok(set(&c.request())),
        Online::DebugLevel(c) => Ok(set(&c.request())),
        Online::SendCoins(c) => c.request().map(|r| set(&r)),
        Online::SendMany(c) => c.request().map(|r| set(&r)),
        Online::EstimateFee(c) => c.request().map(|r| set(&r)),
        Online::ListChainTxns(c) => Ok(set(&c.request())),
        Online::ListUnspent(c) => c.request().map(|r| set(&r)),
        Online::VerifyChanBackup(c) => c.verification().map(|r| set(&r)),
        Online::RestoreChanBackup(c) => c.restoration().map(|r| set(&r)),
        Online::Wallet(Wallet::PendingSweeps) => Ok(json!({})),
        Online::Wallet(Wallet::BumpFee(c)) => c.request().map(|r| set(&r)),
        Online::Wallet(Wallet::BumpCloseFee(c)) => c.request().map(|r| set(&r)),
        Online::Wallet(Wallet::BumpForceCloseFee(c)) => c.request().map(|r| set(&r)),
        Online::Channel(_) | Online::CloseAllChannels(_) | Online::ExportChanBackup(_) => {
            Err(CliError::text("asks by itself"))
        }
        // Their story is in itest/tests/tower_commands.rs.
        Online::Tower(_) | Online::Wtclient(_) => Err(CliError::text("asks by itself")),
    };
    request.map_err(|e| e.to_string())
}

fn check(table: &[(String, Value)]) {
    for (line, request) in table {
        assert_eq!(asked(line).as_ref(), Ok(request), "{line}");
    }
}

fn row(line: &str, request: Value) -> (String, Value) {
    (line.replace("NODE", NODE).replace("TXID", TXID), request)
}

#[test]
fn node_wallet_and_peers() {
    check(&[
        row("getinfo", json!({})),
        row("newaddress p2wkh", json!({})),
        row("newaddress np2wkh", json!({"type": "NESTED_PUBKEY_HASH"})),
        row("newaddress --unused p2tr", json!({"type": "UNUSED_TAPROOT_PUBKEY"})),
        row("walletbalance", json!({})),
        row("walletbalance --account=x", json!({"account": "x"})),
        row("channelbalance", json!({})),
        row("connect NODE@h:1", json!({"addr": {"pubkey": NODE, "host": "h:1"}})),
        row(
            "connect --perm NODE@h:1",
            json!({"addr": {"pubkey": NODE, "host": "h:1"}, "perm": true}),
        ),
        row(
            "connect NODE@h --timeout 1m30s",
            json!({"addr": {"pubkey": NODE, "host": "h"}, "timeout": "90"}),
        ),
        row("disconnect NODE", json!({"pub_key": NODE})),
        row("disconnect --node_key NODE", json!({"pub_key": NODE})),
        row("listpeers", json!({"latest_error": true})),
        row("listpeers --list_errors", json!({})),
        row("stop", json!({})),
    ]);
}

#[test]
fn fees_of_claims() {
    let outpoint = json!({"outpoint": {"txid_bytes": "", "txid_str": TXID, "output_index": 1}});
    let point = json!({"chan_point": {"funding_txid_str": TXID, "output_index": 1}});
    let with = |base: &Value, more: Value| {
        let mut all = base.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    check(&[
        row("wallet pendingsweeps", json!({})),
        row("wallet bumpfee TXID:1", outpoint.clone()),
        row(
            "wallet bumpfee --conf_target 3 --immediate --deadline_delta=9 TXID:1",
            with(&outpoint, json!({"target_conf": 3, "immediate": true, "deadline_delta": 9})),
        ),
        row(
            "wallet bumpfee TXID:1 --sat_per_byte 20 --budget 7000 --force",
            with(&outpoint, json!({"sat_per_vbyte": "20", "budget": "7000", "immediate": true})),
        ),
        row(
            "wallet bumpclosefee TXID:1 --sat_per_vbyte=5",
            with(&point, json!({"starting_feerate": "5"})),
        ),
        row(
            "wallet bumpforceclosefee TXID:1 --deadline_delta 12 --conf_target 4",
            with(&point, json!({"deadline_delta": 12, "target_conf": 4})),
        ),
    ]);
    for (line, text) in [
        ("wallet bumpfee", "OUTPOINT"),
        ("wallet bumpfee abc", "abc is no outpoint"),
        ("wallet bumpfee TXID:1 --conf_target 3 --sat_per_vbyte 9", "not both"),
        ("wallet bumpclosefee TXID:1 --deadline_delta 3", "unexpected argument"),
        ("wallet bumpforceclosefee TXID:1 --conf_target 4294967296", "too large"),
    ] {
        let said = asked(&line.replace("TXID", TXID)).unwrap_err();
        assert!(said.contains(text), "{line}: {said}");
    }
}

#[test]
fn backups() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("b");
    std::fs::write(&file, [0xbe, 0xef]).unwrap();
    let file = file.display();
    let single = json!({"chan_backups": [{"chan_point": null, "chan_backup": "beef"}]});
    let multi = json!({"chan_points": [], "multi_chan_backup": "beef"});
    check(&[
        row("verifychanbackup --multi_backup beef", json!({"multi_chan_backup": multi})),
        row(&format!("verifychanbackup --multi_file {file}"), json!({"multi_chan_backup": multi})),
        row("verifychanbackup --single_backup beef", json!({"single_chan_backups": single})),
        row(
            &format!("verifychanbackup --single_file {file}"),
            json!({"single_chan_backups": single}),
        ),
        row("restorechanbackup --multi_backup beef", json!({"multi_chan_backup": "beef"})),
        row("restorechanbackup --single_backup beef", json!({"chan_backups": single})),
    ]);
    let missing = format!("restorechanbackup --multi_file {file}x");
    for (line, text) in [
        ("verifychanbackup", "no backup is given"),
        ("restorechanbackup --multi_backup aa --single_backup aa", "one backup only"),
        ("verifychanbackup --single_backup xy", "unable to decode single_backup"),
        (missing.as_str(), "cannot read the backup"),
    ] {
        let error = asked(line).unwrap_err();
        assert!(error.contains(text), "{line}: {error}");
    }
}

#[test]
fn channels() {
    let point = json!({"funding_txid_str": TXID, "output_index": 1});
    let open = json!({"node_pubkey": NODE, "local_funding_amount": "20", "push_sat": "5",
                      "min_confs": 1});
    check(&[
        row("openchannel NODE 20 5", open.clone()),
        row("openchannel --node_key=NODE --local_amt=20 --push_amt=5", open.clone()),
        row("openchannel -node_key NODE -push_amt 5 20", open.clone()),
        row("openchannel --local_amt 20 NODE 5", open),
        row(
            "openchannel NODE --fundmax --utxo TXID:1 --base_fee_msat 0 --private --min_confs 0",
            json!({"node_pubkey": NODE, "fund_max": true, "use_base_fee": true, "private": true,
                   "spend_unconfirmed": true,
                   "outpoints": [{"txid_bytes": "", "txid_str": TXID, "output_index": 1}]}),
        ),
        row(
            "openchannel NODE 9 --channel_type anchors --sat_per_byte 3 --fee_rate_ppm 7 --memo m",
            json!({"node_pubkey": NODE, "local_funding_amount": "9", "min_confs": 1,
                   "commitment_type": "ANCHORS", "sat_per_vbyte": "3", "use_fee_rate": true,
                   "fee_rate": "7", "memo": "m"}),
        ),
        row("pendingchannels --include_raw_tx", json!({"include_raw_tx": true})),
        row("listchannels", json!({"peer_alias_lookup": true})),
        row(
            "listchannels --active_only --peer NODE --skip_peer_alias_lookup",
            json!({"active_only": true, "peer": NODE}),
        ),
        row("closedchannels --breach", json!({"breach": true})),
        row("closechannel TXID 1", json!({"channel_point": point, "no_wait": true})),
        row("closechannel TXID:1", json!({"channel_point": point, "no_wait": true})),
        row(
            "closechannel --funding_txid TXID --output_index=1 --force",
            json!({"channel_point": point, "no_wait": true, "force": true}),
        ),
        row(
            "closechannel --chan_point TXID:1 --max_fee_rate 9 --conf_target 6",
            json!({"channel_point": point, "no_wait": true, "max_fee_per_vbyte": "9",
                   "target_conf": 6}),
        ),
    ]);
}

#[test]
fn invoices() {
    check(&[
        row("addinvoice", json!({})),
        row("addinvoice 5 abcd", json!({"value": "5", "r_preimage": "abcd"})),
        row("addinvoice --amt -5", json!({"value": "-5"})),
        row("addinvoice -5", json!({"value": "-5"})),
        row("addinvoice --amt 5 --preimage=abcd", json!({"value": "5", "r_preimage": "abcd"})),
        row(
            "addinvoice --amt_msat 5 --memo tea --expiry 9 --cltv_expiry_delta 18 --private",
            json!({"value_msat": "5", "memo": "tea", "expiry": "9", "cltv_expiry": "18",
                   "private": true}),
        ),
        row("lookupinvoice abcd", json!({"r_hash": "abcd"})),
        row("lookupinvoice --rhash abcd", json!({"r_hash": "abcd"})),
        row("listinvoices", json!({"reversed": true})),
        row(
            "listinvoices --paginate-forwards --max_invoices 2 --index_offset 3",
            json!({"num_max_invoices": "2", "index_offset": "3"}),
        ),
        row("decodepayreq lightning:lnbc1", json!({"pay_req": "lnbc1"})),
        row("decodepayreq --pay_req=LIGHTNING:LNBC1", json!({"pay_req": "LNBC1"})),
    ]);
}

#[test]
fn payments() {
    let by_hand = json!({"dest": NODE, "amt": "400", "payment_hash": "aa", "max_parts": 16,
                         "fee_limit_sat": "400", "timeout_seconds": 60, "final_cltv_delta": 40});
    // SHA256 of the preimage of sevens
    let keysend = "4bb06f8e4e3a7715d201d573d0aa423762e55dabd61a2c02278fa56cc6d294e0";
    check(&[
        row("sendpayment NODE 400 aa 40", by_hand.clone()),
        row("sendpayment -d NODE -a 400 -r aa --final_cltv_delta 40", by_hand),
        row(
            "sendpayment --dest NODE --amt 2000 --keysend --data 9=ff,10=",
            json!({"dest": NODE, "amt": "2000", "payment_hash": keysend, "max_parts": 16,
                   "fee_limit_sat": "100", "timeout_seconds": 60, "dest_custom_records":
                   {"9": "ff", "10": "", "5482373484": "07".repeat(32)}}),
        ),
        row(
            "payinvoice x --fee_limit_percent 10 --timeout 5s --json --outgoing_chan_id 7 \
             --outgoing_chan_id 8 --max_shard_size_sat 3 --time_pref -0.5 -f",
            json!({"fee_limit_sat": "4000", "timeout_seconds": 5, "no_inflight_updates": true,
                   "outgoing_chan_ids": ["7", "8"], "max_shard_size_msat": "3000",
                   "time_pref": -0.5, "max_parts": 16}),
        ),
        row(
            "payinvoice --pay_req x --fee_limit 3 --json --inflight_updates --last_hop NODE",
            json!({"fee_limit_sat": "3", "timeout_seconds": 60, "last_hop_pubkey": NODE,
                   "max_parts": 16}),
        ),
        row("trackpayment aa", json!({"payment_hash": "aa"})),
        row("listpayments", json!({"reversed": true})),
        row(
            "listpayments --include_incomplete --paginate_forwards --max_payments 4 --omit_hops",
            json!({"include_incomplete": true, "max_payments": "4", "omit_hops": true}),
        ),
    ]);
}

#[test]
fn the_wallet_on_chain() {
    let strategy = json!({"addr": "bc1", "amount": "5", "min_confs": 1, "label": "rent",
                          "coin_selection_strategy": "STRATEGY_RANDOM"});
    check(&[
        row("sendcoins bc1 5", json!({"addr": "bc1", "amount": "5", "min_confs": 1})),
        row("sendcoins --addr bc1 --amt=5 --label rent --coin_selection_strategy random", strategy),
        row(
            "sendcoins --sweepall bc1 --sat_per_byte 3 --min_confs 0 --utxo TXID:1",
            json!({"addr": "bc1", "send_all": true, "sat_per_vbyte": "3", "spend_unconfirmed": true,
                   "outpoints": [{"txid_bytes": "", "txid_str": TXID, "output_index": 1}]}),
        ),
        row(
            r#"sendmany {"a":5,"b":6} --conf_target 3"#,
            json!({"AddrToAmount": {"a": "5", "b": "6"}, "target_conf": 3, "min_confs": 1}),
        ),
        row(
            r#"estimatefee {"a":5} --conf_target 3 --coin_selection_strategy=largest"#,
            json!({"AddrToAmount": {"a": "5"}, "target_conf": 3,
                   "coin_selection_strategy": "STRATEGY_LARGEST"}),
        ),
        row("listchaintxns", json!({"end_height": -1})),
        row(
            "listchaintxns --start_height 5 --end_height 9 --max_transactions 2 --index_offset 1",
            json!({"start_height": 5, "end_height": 9, "max_transactions": 2, "index_offset": 1}),
        ),
        row("listunspent", json!({"max_confs": i32::MAX})),
        row("listunspent 3", json!({"min_confs": 3, "max_confs": i32::MAX})),
        row("listunspent 3 6", json!({"min_confs": 3, "max_confs": 6})),
        row("listunspent --max_confs 6 3", json!({"min_confs": 3, "max_confs": 6})),
        row("listunspent --unconfirmed_only", json!({})),
    ]);
}

#[test]
fn macaroons_and_logs() {
    check(&[
        row(
            "bakemacaroon info:read uri:/a/B --root_key_id 7 --allow_external_permissions",
            json!({"permissions": [{"entity": "info", "action": "read"},
                                   {"entity": "uri", "action": "/a/B"}],
                   "root_key_id": "7", "allow_external_permissions": true}),
        ),
        row("deletemacaroonid 7", json!({"root_key_id": "7"})),
        row("debuglevel --show", json!({"show": true})),
        row("debuglevel --level=debug,PEER=trace", json!({"level_spec": "debug,PEER=trace"})),
    ]);
}

#[test]
fn what_cannot_be_asked_is_said() {
    let table = [
        ("sendcoins", "addr argument missing"),
        ("sendcoins bc1", "amt argument missing"),
        ("sendcoins bc1 5 --sweepall", "not both"),
        ("sendcoins bc1 5 --conf_target 2 --sat_per_vbyte 2", "not both"),
        ("sendcoins bc1 5 --coin_selection_strategy best", "invalid value 'best'"),
        ("sendmany a=5", "unable to decode the amounts"),
        ("sendmany", "SEND_JSON_STRING"),
        ("listunspent 1 --unconfirmed_only", "goes without"),
        ("bakemacaroon info", "info is no permission"),
        ("bakemacaroon --root_key 11 info:read", "--root_key is not built"),
        ("deletemacaroonid x", "invalid value 'x'"),
        ("newaddress p2sh", "invalid value 'p2sh'"),
        ("connect 02bf", "pubkey@host:port"),
        ("connect NODE@h --timeout 5", "5 is no duration"),
        ("connect NODE@h --timeout ''", "is no duration"),
        ("connect NODE@h --perm --timeout 5s", "cannot be used with"),
        ("disconnect", "node key argument missing"),
        ("disconnect a b", "unexpected argument b"),
        ("openchannel NODE", "local amt argument missing"),
        ("openchannel NODE x", "unable to decode local amt: x"),
        ("openchannel NODE 1 2 3", "unexpected argument 3"),
        ("openchannel zz 1", "unable to decode node public key"),
        ("openchannel NODE 1 --utxo TXID", "is no outpoint"),
        ("openchannel NODE 1 --psbt", "--psbt is not built"),
        ("openchannel NODE 1 --conf_target 2 --sat_per_vbyte 2", "not both"),
        ("openchannel NODE --fundmax --local_amt 5", "cannot be used with"),
        ("closechannel", "funding txid argument missing"),
        ("closechannel 00 1", "is no outpoint"),
        ("addinvoice --amt 1 --amt_msat 1", "cannot be used with"),
        ("addinvoice 99999999999999999999", "unable to decode amt"),
        ("lookupinvoice xyz", "unable to decode rhash"),
        ("sendpayment NODE 5", "payment hash argument missing"),
        ("sendpayment NODE 5 aa --data 9:ff", "unable to decode record"),
        ("payinvoice x --fee_limit 1 --fee_limit_percent 1", "cannot be used with"),
        ("payinvoice x --timeout 99999999h", "timeout is too long"),
        ("frobnicate", "unrecognized subcommand"),
    ];
    for (line, text) in table {
        let error = asked(&row(line, json!({})).0).unwrap_err();
        assert!(error.contains(text), "{line}: {error}");
    }
}

#[test]
fn global_flags_in_gos_spellings() {
    let line = "-network=regtest --lnddir /x -rpcserver 1.2.3.4:5 --no-macaroons=false \
                --macaroontimeout 9 --macaroonip ::1 getinfo";
    let global = command_line(line).unwrap().global;
    assert_eq!((global.network.as_str(), global.fulmendir.as_str()), ("regtest", "/x"));
    assert_eq!(global.rpcserver, "1.2.3.4:5");
    assert_eq!((global.no_macaroons, global.macaroontimeout), (false, 9));
    assert_eq!(global.macaroonip, Some("::1".parse().unwrap()));
    let global = command_line("-n regtest -no-macaroons getinfo").unwrap().global;
    assert_eq!((global.network.as_str(), global.no_macaroons), ("regtest", true));
    let global = command_line("getinfo").unwrap().global;
    assert_eq!(global.rpcserver, "localhost:10009");
    assert_eq!((global.fulmendir.as_str(), global.network.as_str()), ("~/.fulmen", "mainnet"));
    assert_eq!((global.no_macaroons, global.macaroontimeout), (false, 60));
    let global = command_line("--macaroontimeout -9 getinfo").unwrap().global;
    assert_eq!(global.macaroontimeout, -9);
    assert!(command_line("--network moon getinfo").is_err());
    assert!(command_line("--chain litecoin getinfo").is_err());
    for line in ["-h", "--help", "payinvoice -h", "--version"] {
        assert_eq!(command_line(line).unwrap_err().exit_code(), 0, "{line}");
    }
}

#[test]
fn every_command_builds() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}
