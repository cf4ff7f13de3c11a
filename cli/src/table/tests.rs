//! Tables of made-up answers.

use super::views::all;
use super::{lists, progress_bar, render, thousands, when, Canvas, Tree};
use fulmen_proto::json::descriptors;

const PLAIN: Canvas = Canvas { width: None, colour: false };
const CHANNELS: &str = r#"{"channels": [
    {"active": true, "remote_pubkey": "02bf8a7c6d5e4f3a2b1c0d",
     "channel_point": "aa11bb22cc33dd44:0", "capacity": "1000000",
     "local_balance": "750000", "remote_balance": "250000",
     "total_satoshis_sent": "5", "total_satoshis_received": "0", "peer_alias": "bob"},
    {"active": false, "remote_pubkey": "03", "channel_point": "ee55:1",
     "capacity": "20000", "local_balance": "0", "remote_balance": "0", "peer_alias": "e\u001b[2J"}
]}"#;

fn tree(json: &str) -> Tree {
    serde_json::from_str(json).unwrap()
}

fn channels(canvas: Canvas) -> String {
    render(&tree(CHANNELS), lists("lnrpc.ListChannelsResponse"), canvas)
}

#[test]
fn columns_are_aligned_and_numbers_have_commas() {
    let expected = [
        [
            "PEER   NODE                    CHANNEL_POINT        CAPACITY    LOCAL",
            "                ",
        ],
        [
            "bob    02bf8a7c6d5e4f3a2b1c0d  aa11bb22cc33dd44:0  1,000,000  750,000",
            "████████████░░░░",
        ],
        [
            "e?[2J  03                      ee55:1                 20,000        0",
            "░░░░░░░░░░░░░░░░",
        ],
    ];
    let rest = [
        " REMOTE  SENT  RECEIVED  ACTIVE",
        "250,000     5         0  true",
        "      0                  false",
    ];
    let lines = expected.iter().zip(rest).map(|([ids, bar], rest)| [ids, bar, rest].join("  "));
    let expected = lines.collect::<Vec<_>>().join("\n");
    assert_eq!(channels(PLAIN), expected);
}

#[test]
fn ids_give_way_where_room_is_short_and_nothing_else() {
    let narrow = channels(Canvas { width: Some(105), colour: false });
    let longest = narrow.lines().map(|line| line.chars().count()).max();
    assert_eq!(longest, Some(105), "{narrow}");
    assert!(narrow.contains("02bf8a7…a2b1c0d") || narrow.contains("…"), "{narrow}");
    assert!(narrow.contains("1,000,000") && narrow.contains("████████████░░░░"), "{narrow}");
    let narrowest = channels(Canvas { width: Some(10), colour: false });
    assert!(narrowest.contains("02bf…1c0d") && narrowest.contains("1,000,000"), "{narrowest}");
}

#[test]
fn colours_are_for_terminals() {
    let coloured = channels(Canvas { width: None, colour: true });
    assert!(coloured.starts_with("\x1b[1mPEER "), "{coloured:?}");
    assert!(coloured.contains("\x1b[32m████████████\x1b[0m\x1b[2m░░░░\x1b[0m"), "{coloured:?}");
    assert!(coloured.contains("\x1b[31mfalse \x1b[0m"), "{coloured:?}");
    assert!(!coloured.contains("\x1b[2J"));
    assert!(!channels(PLAIN).contains('\x1b'));
}

#[test]
fn single_answers_are_names_and_values_in_their_order() {
    let answer = tree(
        r#"{"version": "1", "num": 7, "none": null, "chains": [{"chain": "bitcoin", "n": -1}],
            "uris": ["a", "b"], "amt": {"sat": "5"}, "yes": true, "rate": 0.5}"#,
    );
    let expected = "\
version          1
num              7
none
chains[0].chain  bitcoin
chains[0].n      -1
uris             a, b
amt.sat          5
yes              true
rate             0.5";
    assert_eq!(render(&answer, &[], PLAIN), expected);
}

#[test]
fn several_lists_have_titles_and_empty_ones_are_left_out() {
    let answer = tree(
        r#"{"pending_open_channels":
            [{"channel": {"capacity": "5"}, "confirmations_until_active": 3}],
            "pending_force_closing_channels": [], "waiting_close_channels": []}"#,
    );
    let shown = render(&answer, lists("lnrpc.PendingChannelsResponse"), PLAIN);
    assert!(shown.starts_with("pending open channels\nNODE"), "{shown}");
    assert!(shown.ends_with("  3") && !shown.contains("waiting"), "{shown}");
    let none = tree(r#"{"pending_open_channels": []}"#);
    assert_eq!(render(&none, lists("lnrpc.PendingChannelsResponse"), PLAIN), "none");
}

#[test]
fn numbers_and_times() {
    for (text, shown) in [
        ("0", "0"),
        ("999", "999"),
        ("1000", "1,000"),
        ("-1234567", "-1,234,567"),
        ("18446744073709551615", "18,446,744,073,709,551,615"),
        ("", ""),
        ("-", "-"),
        ("x1000", "x1000"),
    ] {
        assert_eq!(thousands(text), shown);
    }
    assert_eq!(when("1700000000"), "2023-11-14 22:13:20");
    assert_eq!((when("0"), when("x"), when("99999999999999")), Default::default());
}

#[test]
fn a_bar_is_full_when_all_is_done() {
    assert_eq!(progress_bar(0, 3, PLAIN), "░░░░░░░░░░░░░░░░");
    assert_eq!(progress_bar(1, 3, PLAIN), "█████░░░░░░░░░░░");
    assert_eq!(progress_bar(9, 3, PLAIN), "████████████████");
    assert_eq!(progress_bar(u64::MAX, u64::MAX, PLAIN), "████████████████");
}

/// A column whose path is misspelt would be empty for ever.
#[test]
fn every_column_is_a_field_of_its_message() {
    assert!(all().len() > 5);
    for (message, lists) in all().iter().filter(|(name, _)| name.starts_with("lnrpc.")) {
        let message = descriptors().unwrap().get_message_by_name(message).expect(message);
        for list in lists.iter() {
            let field = message.get_field_by_name(list.name).expect(list.name);
            let row = field.kind().as_message().expect("a list of messages").clone();
            for column in list.columns {
                let paths = match column.kind {
                    super::Kind::Bar { ours, theirs } => vec![ours, theirs],
                    _ => vec![column.path],
                };
                for path in paths {
                    let mut at = Some(row.clone());
                    for name in path.split('.') {
                        let field = at.as_ref().and_then(|m| m.get_field_by_name(name));
                        let field = field.unwrap_or_else(|| panic!("no {path} in {row:?}"));
                        at = field.kind().as_message().cloned();
                    }
                }
            }
        }
    }
}
