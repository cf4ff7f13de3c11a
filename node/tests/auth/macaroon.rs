//! The format and the decision, against vectors made with another implementation.

use fulmen_node::auth::{
    admin, invoice, needs, readonly, verify, Denied, Identifier, Macaroon, Needs, Op, Ops, RootKey,
};
use serde_json::Value;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const INFO: Needs = Needs::Ops(&[("info", "read")]);
const GET_INFO: &str = "/lnrpc.Lightning/GetInfo";
/// 2030-01-02T03:04:05.123456789Z, the end that the vectors name.
const END: Duration = Duration::new(1_893_553_445, 123_456_789);
const TIME_BEFORE: &str = "time-before 2030-01-02T03:04:05.123456789Z";

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/macaroons.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn root_key() -> RootKey {
    bytes(&vectors()["root_key_hex"]).try_into().unwrap()
}

fn case(name: &str) -> Value {
    let vectors = vectors();
    let cases = vectors["cases"].as_array().unwrap();
    cases.iter().find(|case| case["name"] == name).unwrap().clone()
}

fn ops(case: &Value) -> Ops {
    let strings = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
    let pair = |pair: &Value| (pair[0].as_str().unwrap().into(), strings(&pair[1]));
    case["ops"]
        .as_array()
        .unwrap()
        .iter()
        .map(pair)
        .map(|(e, a)| (e, a.into_iter().collect()))
        .collect()
}

#[test]
fn the_vectors_are_made_byte_for_byte() {
    let vectors = vectors();
    let cases = vectors["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let identifier = Identifier {
            nonce: bytes(&vectors["nonce_hex"]),
            storage_id: b"0".to_vec(),
            ops: ops(case),
        };
        assert_eq!(identifier.encode(), bytes(&case["identifier_hex"]), "{}", case["name"]);
        assert_eq!(Identifier::decode(&identifier.encode()), Ok(identifier.clone()));
        let mut macaroon = Macaroon::new(&root_key(), "lnd", identifier.encode());
        assert_eq!(macaroon.encode(), bytes(&case["macaroon_hex"]));
        macaroon.add_caveat(TIME_BEFORE);
        assert_eq!(macaroon.encode(), bytes(&case["with_time_before"]));
        macaroon.add_caveat("ipaddr 127.0.0.1");
        assert_eq!(macaroon.encode(), bytes(&case["with_time_before_and_ipaddr"]));
        assert_eq!(Macaroon::decode(&macaroon.encode()), Ok(macaroon.clone()));
        assert!(macaroon.is_signed_by(&root_key()));
        assert!(!macaroon.is_signed_by(&[0; 32]));
    }
}

#[test]
fn the_usual_macaroons_allow_what_lnds_do() {
    assert_eq!(admin(), ops(&case("admin")));
    assert_eq!(readonly(), ops(&case("readonly")));
    assert_eq!(invoice(), ops(&case("invoice")));
}

/// Asks at `now` after 1970, from `peer`.
fn ask(macaroon: &[u8], needs: Needs, now: Duration, peer: Option<&str>) -> Result<(), Denied> {
    let peer = peer.map(|peer| peer.parse::<IpAddr>().unwrap());
    let key = |id: &[u8]| (id == b"0").then(root_key);
    verify(macaroon, GET_INFO, needs, UNIX_EPOCH + now, peer, key)
}

#[test]
fn permissions_are_all_needed_unless_the_method_itself_is_allowed() {
    let readonly = bytes(&case("readonly")["macaroon_hex"]);
    assert_eq!(ask(&readonly, INFO, END, None), Ok(()));
    assert_eq!(ask(&readonly, Needs::Nothing, END, None), Ok(()));
    const BOTH: &[Op] = &[("info", "read"), ("info", "write")];
    let denied = ask(&readonly, Needs::Ops(BOTH), END, None).unwrap_err();
    assert_eq!(denied.to_string(), "permission denied");
    let uri = bytes(&case("uri_getinfo")["macaroon_hex"]);
    assert_eq!(ask(&uri, Needs::Ops(BOTH), END, None), Ok(()));
    let other = "/lnrpc.Lightning/StopDaemon";
    let denied = verify(&uri, other, INFO, SystemTime::now(), None, |_| Some(root_key()));
    assert_eq!(denied, Err(Denied::Permission));
}

#[test]
fn time_and_place_are_checked() {
    let case = case("admin");
    let timed = bytes(&case["with_time_before"]);
    let tick = Duration::from_nanos(1);
    assert_eq!(ask(&timed, INFO, END - tick, None), Ok(()));
    let error = ask(&timed, INFO, END, None).unwrap_err().to_string();
    assert_eq!(error, format!("caveat \"{TIME_BEFORE}\" not satisfied: macaroon has expired"));

    let placed = bytes(&case["with_time_before_and_ipaddr"]);
    assert_eq!(ask(&placed, INFO, END - tick, Some("127.0.0.1")), Ok(()));
    assert_eq!(ask(&placed, INFO, END - tick, Some("::ffff:127.0.0.1")), Ok(()));
    for elsewhere in [Some("127.0.0.2"), Some("::1"), None] {
        let error = ask(&placed, INFO, END - tick, elsewhere).unwrap_err().to_string();
        assert!(error.contains("macaroon locked to different IP address"), "{error}");
    }
    ask(&placed, INFO, END, Some("127.0.0.1")).unwrap_err();

    for (range, inside, outside) in [
        ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
        ("10.1.2.3/32", "::ffff:10.1.2.3", "10.1.2.4"),
        ("0.0.0.0/0", "8.8.8.8", "::1"),
        ("fe80::/10", "fe80::1", "fec0::1"),
        ("::/0", "2001:db8::1", "127.0.0.1"),
    ] {
        let mut ranged = Macaroon::decode(&bytes(&case["macaroon_hex"])).unwrap();
        ranged.add_caveat(&format!("iprange {range}"));
        assert_eq!(ask(&ranged.encode(), INFO, END, Some(inside)), Ok(()), "{range}");
        for elsewhere in [Some(outside), None] {
            let error = ask(&ranged.encode(), INFO, END, elsewhere).unwrap_err().to_string();
            assert!(error.contains("macaroon locked to different IP range"), "{error}");
        }
    }
}

#[test]
fn a_condition_that_is_not_understood_does_not_hold() {
    for condition in [
        "",
        "moon is full",
        "time-before",
        "time-before tomorrow",
        "time-before 2030-13-01T00:00:00Z",
        "ipaddr",
        "ipaddr 127.0.0.1/8",
        "iprange",
        "iprange 127.0.0.1",
        "iprange 127.0.0.1/33",
        "iprange 127.0.0.1/-1",
        "iprange 127.0.0.1/99999999999",
        "iprange 10.0.0.0/8",
        "iprange 126.0.0.0/8",
        "iprange ::1/0",
        "lnd-custom account x",
        "declared name x",
        "error no",
        "TIME-BEFORE 2999-01-02T03:04:05Z",
    ] {
        let mut macaroon = Macaroon::decode(&bytes(&case("admin")["macaroon_hex"])).unwrap();
        macaroon.add_caveat(condition);
        let denied = ask(&macaroon.encode(), INFO, Duration::ZERO, Some("127.0.0.1"));
        assert!(matches!(denied, Err(Denied::Caveat { .. })), "{condition}: {denied:?}");
    }
    let mut macaroon = Macaroon::decode(&bytes(&case("admin")["macaroon_hex"])).unwrap();
    macaroon.add_caveat("time-before 2030-01-02T04:04:05+01:00");
    assert_eq!(ask(&macaroon.encode(), INFO, Duration::from_secs(1_893_553_444), None), Ok(()));
    ask(&macaroon.encode(), INFO, Duration::from_secs(1_893_553_445), None).unwrap_err();
}

#[test]
fn a_forged_or_changed_macaroon_is_refused() {
    let good = bytes(&case("readonly")["with_time_before"]);
    let mismatch = "verification failed: signature mismatch after caveat verification";
    let with_key = |key| verify(&good, GET_INFO, INFO, UNIX_EPOCH, None, |_| key);
    assert_eq!(with_key(Some([0; 32])).unwrap_err().to_string(), mismatch);
    let unknown = with_key(None).unwrap_err().to_string();
    assert!(unknown.contains("root key with id 0 doesn't exist"), "{unknown}");

    // A caveat taken away, and the signature before it unknown.
    let mut shorter = Macaroon::decode(&good).unwrap();
    shorter.caveats.clear();
    assert_eq!(ask(&shorter.encode(), INFO, END, None).unwrap_err().to_string(), mismatch);

    // Behind the location every byte counts.
    let mut refused = 0;
    for at in 6..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        ask(&changed, INFO, Duration::ZERO, None).expect_err(&format!("byte {at}"));
        refused += 1;
    }
    assert!(refused > 100);
    for length in 0..good.len() {
        let cut = ask(&good[..length], INFO, Duration::ZERO, None);
        assert!(matches!(cut, Err(Denied::Unreadable(_))), "{length}: {cut:?}");
    }
    let longer = [good.as_slice(), &[0]].concat();
    assert!(matches!(ask(&longer, INFO, Duration::ZERO, None), Err(Denied::Unreadable(_))));
    let huge = [2, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert!(matches!(ask(&huge, INFO, Duration::ZERO, None), Err(Denied::Unreadable(_))));
}

#[test]
fn methods_need_what_lnds_need() {
    let needed = |method: &str| {
        needs(method).map(|needs| match needs {
            Needs::Nothing => String::new(),
            Needs::Ops(ops) => {
                let mut ops: Vec<_> = ops.iter().map(|(e, a)| format!("{e}:{a}")).collect();
                ops.sort();
                ops.join(",")
            }
        })
    };
    for line in include_str!("../vectors/permissions.tsv").lines().skip(1) {
        let mut fields = line.split('\t');
        let (method, ops) = (fields.next().unwrap(), fields.next().unwrap());
        if let Some(found) = needed(method) {
            assert_eq!(found, ops, "{method}");
        }
    }
    for method in [
        "GetInfo",
        "NewAddress",
        "WalletBalance",
        "ConnectPeer",
        "ListPeers",
        "OpenChannelSync",
        "PendingChannels",
        "ListChannels",
        "AddInvoice",
        "LookupInvoice",
        "ListInvoices",
        "DecodePayReq",
        "SendPaymentSync",
        "ListPayments",
        "CloseChannel",
        "StopDaemon",
    ] {
        assert!(needs(&format!("/lnrpc.Lightning/{method}")).is_some(), "{method}");
    }
    assert!(needs("/routerrpc.Router/SendPaymentV2").is_some());
    for method in ["", "/", "GetInfo", "/lnrpc.Lightning/Nope", "/nope.Nope/GetInfo"] {
        assert_eq!(needs(method), None, "{method}");
    }
}
