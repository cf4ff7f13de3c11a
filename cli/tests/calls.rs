//! Calls that ask and show: what is sent, what is printed, how it ends.

use super::mock::{admin_macaroon, certificate, one, run, start};
use fulmen_proto::lnrpc::{
    channel_point::FundingTxid, close_status_update, open_status_update, AddInvoiceResponse, Chain,
    ChannelCloseUpdate, ChannelOpenUpdate, ChannelPoint, CloseStatusUpdate, ConnectPeerRequest,
    GetInfoResponse, Invoice, OpenChannelRequest, OpenStatusUpdate, PendingUpdate,
};
use prost::Message;
use serde_json::{json, Value};
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
    let words = [&format!("--rpcserver={free}"), "--network=regtest", "getinfo"];
    let ended = run(daemon.directory.path(), &words, "").await;
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
