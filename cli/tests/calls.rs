//! Calls that ask and show: what is sent, what is printed, how it ends.

use super::mock::{admin_macaroon, certificate, one, run, start};
use super::pty::Pty;
use fulmen_proto::lnrpc::pending_channels_response::{ForceClosedChannel, PendingChannel};
use fulmen_proto::lnrpc::{
    channel_point::FundingTxid, close_status_update, open_status_update, AddInvoiceResponse,
    BakeMacaroonResponse, Chain, Channel, ChannelCloseUpdate, ChannelOpenUpdate, ChannelPoint,
    CloseChannelRequest, CloseStatusUpdate, ConnectPeerRequest, GetInfoResponse, Invoice,
    ListChannelsResponse, ListUnspentResponse, OpenChannelRequest, OpenStatusUpdate, OutPoint,
    PendingChannelsResponse, PendingHtlc, PendingUpdate, SendCoinsResponse, Utxo,
    WalletBalanceResponse,
};
use fulmen_proto::walletrpc::{PendingSweep, PendingSweepsResponse, WitnessType};
use prost::Message;
use serde_json::{json, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{Code, Status};

const TXID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddee01";

fn txid_bytes() -> Vec<u8> {
    hex::decode(TXID).unwrap().into_iter().rev().collect()
}

#[tokio::test]
async fn getinfo_prints_json_and_shows_a_narrowed_macaroon() {
    let daemon = start(|_| {
        one(&GetInfoResponse {
            alias: "alice".into(),
            block_height: 7,
            best_header_timestamp: 1_700_000_000,
            chains: vec![Chain { chain: "bitcoin".into(), network: "regtest".into() }],
            ..GetInfoResponse::default()
        })
    })
    .await;
    let ended = daemon.cli("getinfo").await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.stdout.starts_with("{\n    \"version\": \"\",\n"), "{}", ended.stdout);
    let info: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(info["alias"], json!("alice"));
    assert_eq!(info["block_height"], json!(7));
    assert_eq!(info["best_header_timestamp"], json!("1700000000"));
    assert_eq!(info["chains"], json!([{"chain": "bitcoin", "network": "regtest"}]));
    assert_eq!(daemon.paths(), ["/lnrpc.Lightning/GetInfo"]);

    let sent = daemon.call(0).metadata.get("macaroon").unwrap().to_str().unwrap().to_owned();
    let whole = hex::encode(admin_macaroon());
    let body = &whole[..whole.len() - 2 * 35];
    let caveat = hex::encode("time-before 20");
    assert!(sent.starts_with(body) && sent.contains(&caveat), "{sent}");
    assert!(!sent.contains(&hex::encode("ipaddr")));

    let flags = "--no-macaroons --macaroonip 127.0.0.1 getinfo";
    assert_eq!(daemon.cli(flags).await.code, Some(0));
    assert!(daemon.call(1).metadata.get("macaroon").is_none());
    assert_eq!(daemon.cli("--macaroonip 127.0.0.1 getinfo").await.code, Some(0));
    let sent = daemon.call(2).metadata.get("macaroon").unwrap().to_str().unwrap().to_owned();
    assert!(sent.contains(&hex::encode("ipaddr 127.0.0.1")));
}

#[tokio::test]
async fn addinvoice_prints_bytes_as_hex() {
    let daemon = start(|_| {
        one(&AddInvoiceResponse {
            r_hash: vec![0xab; 32],
            payment_request: "lnbcrt1".into(),
            add_index: 1,
            payment_addr: vec![0xcd; 32],
        })
    })
    .await;
    let ended = daemon.cli("addinvoice --amt=1000 --memo=tea").await;
    let (hash, address) = ("ab".repeat(32), "cd".repeat(32));
    let text = format!(
        "{{\n    \"r_hash\": \"{hash}\",\n    \"payment_request\": \"lnbcrt1\",\n    \
         \"add_index\": \"1\",\n    \"payment_addr\": \"{address}\"\n}}\n"
    );
    assert_eq!((ended.code, ended.stdout), (Some(0), text));
    let asked: Invoice = daemon.call(0).request();
    let expected = Invoice { value: 1000, memo: "tea".into(), ..Invoice::default() };
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn a_refusal_is_printed_as_lncli_does() {
    let daemon = start(|call| match call.path.as_str() {
        "/lnrpc.Lightning/LookupInvoice" => Err(Status::not_found("unable to locate invoice")),
        "/lnrpc.Lightning/ListPeers" => Err(Status::cancelled("gone")),
        _ => Err(Status::new(Code::Unknown, "permission denied")),
    })
    .await;
    let table = [
        ("getinfo", "[fulmen-cli] rpc error: code = Unknown desc = permission denied\n"),
        (
            "lookupinvoice abcd",
            "[fulmen-cli] rpc error: code = NotFound desc = unable to locate invoice\n",
        ),
        ("listpeers", "[fulmen-cli] rpc error: code = Canceled desc = gone\n"),
        ("lookupinvoice", "[fulmen-cli] rhash argument missing\n"),
    ];
    for (line, text) in table {
        let ended = daemon.cli(line).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{line}");
        assert_eq!(ended.stderr, text);
    }
}

#[tokio::test]
async fn only_the_certificate_in_the_file_is_trusted() {
    let daemon = start(|_| one(&GetInfoResponse::default())).await;
    assert_eq!(daemon.cli("getinfo").await.code, Some(0));
    let other = daemon.directory.path().join("other.cert");
    std::fs::write(&other, certificate().0).unwrap();
    let flag = format!("--tlscertpath {} getinfo", other.display());
    let ended = daemon.cli(&flag).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("cannot reach fulmend at localhost:"), "{}", ended.stderr);
    assert!(ended.stderr.contains("UnknownIssuer"), "{}", ended.stderr);
    assert_eq!(daemon.paths().len(), 1);
    std::fs::write(&other, "no certificate").unwrap();
    assert!(daemon.cli(&flag).await.stderr.contains("holds no certificate in PEM"));
    let ended = daemon.cli("--macaroonpath /nowhere/x getinfo").await;
    assert!(ended.stderr.contains("cannot read the macaroon /nowhere/x"), "{}", ended.stderr);
    let flag = format!("--macaroonpath {} getinfo", other.display());
    let ended = daemon.cli(&flag).await;
    assert!(ended.stderr.contains("the macaroon file holds no macaroon"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_daemon_that_is_away_is_named() {
    let daemon = start(|_| one(&GetInfoResponse::default())).await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let words = daemon.words("getinfo").into_iter();
    let aside = |word: String| match word.starts_with("--rpcserver") {
        true => format!("--rpcserver={free}"),
        false => word,
    };
    let ended = run(&words.map(aside).collect::<Vec<_>>(), "").await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains(&format!("cannot reach fulmend at {free}")), "{}", ended.stderr);
    assert!(ended.stderr.contains("refused"), "{}", ended.stderr);
}

#[tokio::test]
async fn openchannel_connects_first_and_waits_when_told() {
    let daemon = start(|call| match call.path.as_str() {
        "/lnrpc.Lightning/ConnectPeer" => {
            Err(Status::unknown("already connected to peer: 02bf@127.0.0.1:1"))
        }
        _ => {
            let pending = PendingUpdate { txid: txid_bytes(), ..PendingUpdate::default() };
            let funding_txid = Some(FundingTxid::FundingTxidBytes(txid_bytes()));
            let point = ChannelPoint { funding_txid, output_index: 1 };
            let open = ChannelOpenUpdate { channel_point: Some(point) };
            let update = |update| {
                OpenStatusUpdate { update: Some(update), pending_chan_id: vec![1] }.encode_to_vec()
            };
            let pending = update(open_status_update::Update::ChanPending(pending));
            Ok(vec![pending, update(open_status_update::Update::ChanOpen(open))])
        }
    })
    .await;
    let pending = format!("{{\n    \"funding_txid\": \"{TXID}\"\n}}\n");
    let open = format!("{{\n    \"channel_point\": \"{TXID}:1\"\n}}\n");
    let ended = daemon.cli("openchannel --connect 127.0.0.1:1 02bf 20000").await;
    assert_eq!((ended.code, ended.stdout), (Some(0), pending.clone()));
    assert_eq!(daemon.paths(), ["/lnrpc.Lightning/ConnectPeer", "/lnrpc.Lightning/OpenChannel"]);
    let connect: ConnectPeerRequest = daemon.call(0).request();
    assert_eq!(connect.addr.unwrap().pubkey, "02bf");
    let asked: OpenChannelRequest = daemon.call(1).request();
    assert_eq!((asked.node_pubkey, asked.local_funding_amount), (vec![2, 0xbf], 20_000));
    let ended = daemon.cli("openchannel --block 02bf 20000").await;
    assert_eq!((ended.code, ended.stdout), (Some(0), pending + &open));
}

#[tokio::test]
async fn closechannel_waits_when_told_and_fails_when_the_stream_ends() {
    let daemon = start(|call| {
        let pending = PendingUpdate { txid: txid_bytes(), ..PendingUpdate::default() };
        let closed = ChannelCloseUpdate {
            closing_txid: txid_bytes(),
            success: true,
            ..ChannelCloseUpdate::default()
        };
        let update = |update| CloseStatusUpdate { update: Some(update) }.encode_to_vec();
        let mut updates = vec![
            update(close_status_update::Update::ClosePending(pending)),
            update(close_status_update::Update::ChanClose(closed)),
        ];
        let asked: fulmen_proto::lnrpc::CloseChannelRequest = call.request();
        if asked.force {
            updates.clear();
        }
        Ok(updates)
    })
    .await;
    let closed = format!("{{\n    \"closing_txid\": \"{TXID}\"\n}}\n");
    let ended = daemon.cli(&format!("closechannel {TXID}:0")).await;
    assert_eq!((ended.code, ended.stdout), (Some(0), closed.clone()));
    let ended = daemon.cli(&format!("closechannel {TXID} 0 --block")).await;
    assert_eq!((ended.code, ended.stdout), (Some(0), closed.repeat(2)));
    let ended = daemon.cli(&format!("closechannel {TXID} 0 --force")).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("ended the stream before"), "{}", ended.stderr);
}

#[tokio::test]
async fn sendcoins_asks_on_a_terminal() {
    let daemon = start(|call| match call.path.as_str() {
        "/lnrpc.Lightning/WalletBalance" => one(&WalletBalanceResponse {
            total_balance: 9,
            confirmed_balance: 7,
            ..WalletBalanceResponse::default()
        }),
        "/lnrpc.Lightning/ListUnspent" => {
            let utxo = |txid: &str, amount_sat| {
                let outpoint = OutPoint { txid_str: txid.into(), ..OutPoint::default() };
                Utxo { outpoint: Some(outpoint), amount_sat, ..Utxo::default() }
            };
            one(&ListUnspentResponse { utxos: vec![utxo(TXID, 5), utxo("00", 6)] })
        }
        _ => one(&SendCoinsResponse { txid: "aa".into() }),
    })
    .await;
    let utxo = format!("sendcoins --sweepall --utxo {TXID}:0 bc1");
    for (line, amount) in
        [("sendcoins bc1 3", 3), ("sendcoins --sweepall bc1", 7), (utxo.as_str(), 5)]
    {
        for (typed, sent) in [("yes\n", true), ("no\n", false)] {
            let before = daemon.paths().len();
            let answers = [("Confirm payment (yes/no): ", typed)];
            let (code, shown) = Pty::run(&daemon, line, &answers).await;
            assert_eq!(code, Some(0), "{shown}");
            assert!(shown.contains(&format!("Amount: {amount}\r\n")), "{shown}");
            let paths = daemon.paths().split_off(before);
            assert_eq!(paths.contains(&"/lnrpc.Lightning/SendCoins".to_owned()), sent);
        }
    }
    let (code, shown) = Pty::run(&daemon, "sendcoins --force bc1 3", &[]).await;
    assert_eq!((code, shown.contains("Confirm")), (Some(0), false), "{shown}");
}

#[tokio::test]
async fn tables_are_for_people() {
    let daemon = start(|call| match call.path.as_str() {
        "/lnrpc.Lightning/ListUnspent" => {
            let outpoint = OutPoint { txid_str: "aa".into(), ..OutPoint::default() };
            let utxo = Utxo { outpoint: Some(outpoint), amount_sat: 50_000, ..Utxo::default() };
            one(&ListUnspentResponse { utxos: vec![utxo] })
        }
        _ => one(&GetInfoResponse { alias: "alice".into(), ..GetInfoResponse::default() }),
    })
    .await;
    let before = daemon.cli("--format table getinfo").await.stdout;
    assert!(before.contains("\nalias                "), "{before}");
    assert_eq!(daemon.cli("getinfo --format=table").await.stdout, before);
    let coins = daemon.cli("listunspent --format=table").await.stdout;
    assert_eq!(coins, "CONFS     SAT  ADDRESS  OUTPOINT\n    0  50,000           aa:0\n");
    // lncli's own shape, in which this one answer differs from the message
    let coins = daemon.cli("listunspent").await.stdout;
    let shape = "{\n    \"utxos\": [\n        {\n            \"address_type\": 0,\n            \
                 \"address\": \"\",\n            \"amount_sat\": 50000,\n            \
                 \"pk_script\": \"\",\n            \"outpoint\": \"aa:0\",\n            \
                 \"confirmations\": 0\n        }\n    ]\n}\n";
    assert_eq!(coins, shape);
}

#[tokio::test]
async fn closeallchannels_tells_how_each_ended() {
    let daemon = start(|call| match call.path.as_str() {
        "/lnrpc.Lightning/ListChannels" => {
            let channel = |active, index: u32| Channel {
                active,
                channel_point: format!("{TXID}:{index}"),
                remote_pubkey: "02bf".into(),
                ..Channel::default()
            };
            one(&ListChannelsResponse { channels: vec![channel(true, 0), channel(false, 1)] })
        }
        _ if call.request::<CloseChannelRequest>().force => Err(Status::unknown("no")),
        _ => {
            let pending = PendingUpdate { txid: txid_bytes(), ..PendingUpdate::default() };
            let update = Some(close_status_update::Update::ClosePending(pending));
            one(&CloseStatusUpdate { update })
        }
    })
    .await;
    let ended = daemon.cli_with_input("closeallchannels --sat_per_vbyte 3", "yes\n").await;
    let closed = |index, txid: &str, error: &str| {
        format!(
            "{{\n    \"remote_pub_key\": \"02bf\",\n    \
             \"channel_point\": \"{TXID}:{index}\",\n    \"closing_txid\": \"{txid}\",\n    \
             \"error\": \"{error}\"\n}}\n"
        )
    };
    assert_eq!((ended.code, ended.stdout), (Some(0), closed(0, TXID, "")));
    assert!(ended.stderr.contains("Close 1 channels? (yes/no): "), "{}", ended.stderr);
    assert_eq!(daemon.call(1).request::<CloseChannelRequest>().sat_per_vbyte, 3);
    let ended = daemon.cli("closeallchannels --force --inactive_only -s").await;
    let refused = closed(1, "", "rpc error: code = Unknown desc = no");
    assert_eq!((ended.code, ended.stdout), (Some(0), refused));
    let ended = daemon.cli("closeallchannels --force --skip_confirmation").await;
    assert_eq!(ended.stdout.matches("channel_point").count(), 2);
    let before = daemon.paths().len();
    let ended = daemon.cli_with_input("closeallchannels --force", "no\n").await;
    assert!(ended.stderr.contains("1 of them without the peer"), "{}", ended.stderr);
    assert!(ended.stderr.contains("nothing was closed"), "{}", ended.stderr);
    assert_eq!((ended.code, daemon.paths().len()), (Some(1), before + 1));
    let ended = daemon.cli("closeallchannels --inactive_only").await;
    assert!(ended.stderr.contains("with --force only"), "{}", ended.stderr);
}

#[tokio::test]
async fn macaroons_are_baked_narrowed_and_shown() {
    let daemon =
        start(|_| one(&BakeMacaroonResponse { macaroon: hex::encode(admin_macaroon()) })).await;
    let baked = daemon.cli("bakemacaroon info:read offchain:read").await.stdout;
    assert_eq!(baked, format!("{}\n", hex::encode(admin_macaroon())));
    let file = |name: &str| daemon.directory.path().join(name).display().to_string();
    let (made, narrow) = (file("made.macaroon"), file("narrow.macaroon"));
    let line = format!("bakemacaroon --save_to {made} --ip_address 127.0.0.1 info:read");
    assert_eq!(daemon.cli(&line).await.stdout, format!("Macaroon saved to {made}\n"));
    let line = format!("constrainmacaroon --timeout 60 --custom_caveat_name x {made} {narrow}");
    assert_eq!(daemon.cli(&line).await.code, Some(0));
    let shown = daemon.cli(&format!("printmacaroon --macaroon_file {narrow}")).await;
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!((&shown["version"], &shown["root_key_id"]), (&json!(2), &json!("0")));
    assert!(shown["permissions"].as_array().unwrap().contains(&json!("offchain:write")));
    let caveats = shown["caveats"].as_array().unwrap();
    assert_eq!((&caveats[0], &caveats[2]), (&json!("ipaddr 127.0.0.1"), &json!("lnd-custom x")));
    assert!(caveats[1].as_str().unwrap().starts_with("time-before 20"), "{caveats:?}");
    let hex = daemon.cli(&format!("printmacaroon {}", baked.trim())).await.stdout;
    assert!(hex.contains("\"caveats\": []"), "{hex}");
    assert!(daemon.cli("printmacaroon abcd").await.stderr.contains("no macaroon of version 2"));
    let calls = daemon.paths().len();
    let wrong = daemon.cli("bakemacaroon --custom_caveat_condition y info:read").await;
    assert!(wrong.stderr.contains("needs custom_caveat_name"), "{}", wrong.stderr);
    assert_eq!(daemon.paths().len(), calls);
}

#[tokio::test]
async fn metadata_goes_with_each_call() {
    let daemon = start(|_| one(&GetInfoResponse::default())).await;
    assert_eq!(daemon.cli("--metadata Tenant:7 --metadata a:b:c getinfo").await.code, Some(0));
    let sent = daemon.call(0).metadata;
    let value = |key: &str| sent.get(key).unwrap().to_str().unwrap();
    assert_eq!((value("tenant"), value("a")), ("7", "b:c"));
    let ended = daemon.cli("--metadata nothing getinfo").await;
    assert!(ended.stderr.contains("nothing is no metadata"), "{}", ended.stderr);
}

/// Answers one SOCKS 5 client; with a `reply` other than 0 it goes nowhere. What it was asked for.
async fn proxy(reply: u8) -> (String, tokio::task::JoinHandle<(String, u16)>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut hello = [0; 3];
        near.read_exact(&mut hello).await.unwrap();
        assert_eq!(hello, [5, 1, 0]);
        near.write_all(&[5, 0]).await.unwrap();
        let mut head = [0; 5];
        near.read_exact(&mut head).await.unwrap();
        assert_eq!(head[..4], [5, 1, 0, 3]);
        let mut host = vec![0; usize::from(head[4])];
        near.read_exact(&mut host).await.unwrap();
        let (host, port) = (String::from_utf8(host).unwrap(), near.read_u16().await.unwrap());
        near.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
        if reply == 0 {
            let mut far = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
        (host, port)
    });
    (address, asked)
}

#[tokio::test]
async fn a_proxy_leads_to_the_daemon() {
    let daemon = start(|_| one(&GetInfoResponse::default())).await;
    let (address, asked) = proxy(0).await;
    let ended = daemon.cli(&format!("--socksproxy {address} getinfo")).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(asked.await.unwrap(), ("localhost".to_owned(), daemon.port));
    let (address, _asked) = proxy(5).await;
    let ended = daemon.cli(&format!("--socksproxy {address} getinfo")).await;
    assert!(ended.stderr.contains("the proxy cannot reach it: reply 5"), "{}", ended.stderr);
    assert_eq!(daemon.paths().len(), 1);
}

#[tokio::test]
async fn the_table_of_pending_channels_has_each_claim_and_the_json_is_lnclis() {
    let second = "ee".repeat(32);
    let point = |of: &str| PendingChannel { channel_point: of.into(), ..Default::default() };
    let htlc = PendingHtlc { outpoint: format!("{second}:0"), stage: 2, ..Default::default() };
    let forced = ForceClosedChannel {
        channel: Some(point("forced:1")),
        closing_txid: TXID.into(),
        pending_htlcs: vec![htlc],
        ..Default::default()
    };
    let pending = PendingChannelsResponse {
        pending_force_closing_channels: vec![forced],
        ..Default::default()
    };
    let claim = |txid: &str, output_index, kind: WitnessType, deadline_height, sat_per_vbyte| {
        PendingSweep {
            outpoint: Some(OutPoint { txid_str: txid.into(), output_index, ..Default::default() }),
            witness_type: kind.into(),
            amount_sat: 50_000,
            maturity_height: 1_210,
            deadline_height,
            budget: 25_000,
            sat_per_vbyte,
            ..Default::default()
        }
    };
    let pending_sweeps = vec![
        claim(TXID, 3, WitnessType::HtlcOfferedRemoteTimeout, 1_250, 12),
        claim(&second, 0, WitnessType::HtlcOfferedTimeoutSecondLevel, 0, 0),
    ];
    let sweeps = PendingSweepsResponse { pending_sweeps };
    let daemon = start(move |call| match call.path.as_str() {
        "/lnrpc.Lightning/PendingChannels" => one(&pending),
        _ => one(&sweeps),
    })
    .await;
    let table = daemon.cli("--format table pendingchannels").await;
    assert_eq!(table.code, Some(0), "{}", table.stderr);
    let (above, claims) = table.stdout.split_once("\n\nclaims\n").unwrap();
    assert!(above.starts_with("pending force closing channels\n"), "{above}");
    let rows: Vec<Vec<&str>> =
        claims.lines().map(|line| line.split_whitespace().collect()).collect();
    let head = ["CHANNEL_POINT", "CLAIM", "OUTPOINT", "SAT", "FROM", "UNTIL", "BUDGET", "SAT_VB"];
    assert_eq!(rows[0], head);
    let outpoint = format!("{TXID}:3");
    let direct = ["forced:1", "HTLC_OFFERED_REMOTE_TIMEOUT", &outpoint];
    assert_eq!(rows[1], [&direct[..], &["50,000", "1,210", "1,250", "25,000", "12"]].concat());
    let outpoint = format!("{second}:0");
    let later = ["forced:1", "HTLC_OFFERED_TIMEOUT_SECOND_LEVEL", &outpoint];
    assert_eq!(rows[2], [&later[..], &["50,000", "1,210", "25,000"]].concat());
    assert_eq!(rows.len(), 3);
    let json = daemon.cli("pendingchannels").await.stdout;
    assert!(json.contains("forced:1") && !json.contains("claims"), "{json}");
    assert_eq!(daemon.paths().len(), 3, "no further call for lncli's answer");
}
