//! Pictures, compared letter by letter where they are small enough to be read.

use super::{as_svg, as_text, risk};
use crate::table::Canvas;
use fulmen_proto::fulmenrpc::output::What;
use fulmen_proto::fulmenrpc::transaction::{Needs, State};
use fulmen_proto::fulmenrpc::{
    ChannelRiskResponse, ExplainChannelResponse, Htlc, HtlcRisk, Output, Risk, Side, Transaction,
};

const PLAIN: Canvas = Canvas { width: None, colour: false };
const COLOUR: Canvas = Canvas { width: None, colour: true };

fn tx(name: &str, by: Side, state: State) -> Transaction {
    let (by, state) = (by.into(), state.into());
    Transaction { name: name.into(), by, state, ..Default::default() }
}

fn needing(tx: Transaction, needs: Needs) -> Transaction {
    Transaction { needs: needs.into(), ..tx }
}

fn output(what: What, owner: Side, value: i64, spends: Vec<Transaction>) -> Output {
    let (what, owner) = (what.into(), owner.into());
    Output { what, owner, index: Some(0), value_sat: Some(value), spends, ..Default::default() }
}

fn htlc(incoming: bool) -> Htlc {
    Htlc { id: 3, incoming, amount_msat: 50_000_000, payment_hash: vec![7; 32], expiry: 250 }
}

/// F in block 103 of 108, and what spends it.
fn answer(spends: Vec<Transaction>) -> ExplainChannelResponse {
    let txid = "8f1c2b3a".repeat(8);
    let funding = Transaction {
        txid: txid.clone(),
        height: Some(103),
        outputs: vec![output(What::Funding, Side::Both, 1_000_000, spends)],
        ..tx("F", Side::Us, State::OnChain)
    };
    ExplainChannelResponse {
        channel_point: format!("{txid}:1"),
        height: 108,
        funding: Some(funding),
        ..Default::default()
    }
}

fn open() -> ExplainChannelResponse {
    let delayed = Transaction { delay: 144, ..tx("RD", Side::Us, State::Waits) };
    let remedy = |name| needing(tx(name, Side::Them, State::Waits), Needs::Revocation);
    let second = vec![Transaction { name: "HTRD".into(), ..delayed.clone() }, remedy("HTBR")];
    let second = Output { index: None, ..output(What::SecondStage, Side::Us, 50_000, second) };
    let timeout = Transaction {
        delay: 1,
        from: Some(251),
        outputs: vec![second],
        ..tx("HT", Side::Us, State::Waits)
    };
    let direct = Transaction { delay: 1, until: Some(251), ..tx("HED", Side::Them, State::Waits) };
    let ways = vec![timeout, needing(direct, Needs::Preimage), remedy("HBR")];
    let htlc = Output { htlc: Some(htlc(false)), ..output(What::Htlc, Side::Us, 50_000, ways) };
    let ours = Transaction {
        txid: "0a".repeat(32),
        number: Some(4),
        outputs: vec![output(What::ToLocal, Side::Us, 547_872, vec![delayed, remedy("BR")]), htlc],
        ..tx("C", Side::Us, State::Ready)
    };
    answer(vec![ours, needing(tx("ES", Side::Both, State::Waits), Needs::Agreement)])
}

#[test]
fn an_open_channel_and_what_could_come() {
    let expected = "\
F  8f1c2b3a8f1c2b3a…:1  1,000,000 sat, block 103, 6 deep
│
├─ C ours  0a0a0a0a0a0a0a0a…  number 4, we may publish it
│  ├─ to_local        547,872  RD     we, 144 blocks after C
│  │                           BR     they, if this C is revoked
│  └─ HTLC 3 out       50,000  HT     we, from 251                         ██████████ 143 to go
│                              ↳ HTRD we, 144 blocks after HT
│                              ↳ HTBR they, if this C is revoked
│                              HED    they, 1 block after C, with R, before 251
│                              HBR    they, if this C is revoked
│
└─ ES  once both agree";
    let drawn = as_text(&open(), PLAIN);
    assert_eq!(drawn, expected, "\n{drawn}\n");
}

#[test]
fn a_commitment_in_a_block_and_the_time_that_is_left() {
    let way = |name, from, state| Transaction { from: Some(from), ..tx(name, Side::Us, state) };
    let execution = Transaction {
        txid: "cd".repeat(32),
        height: Some(107),
        preimage_known: true,
        ..needing(tx("HE", Side::Us, State::OnChain), Needs::Preimage)
    };
    let gone = tx("HTD", Side::Them, State::Gone);
    let direct = Transaction { until: Some(130), ..tx("HED", Side::Them, State::Ready) };
    let taken = Output { taken_height: Some(106), ..output(What::Anchor, Side::Them, 330, vec![]) };
    let incoming = vec![execution, gone];
    let outgoing = vec![way("HT", 110, State::Waits), needing(direct, Needs::Preimage)];
    let htlc = |incoming, ways| Output {
        htlc: Some(htlc(incoming)),
        ..output(What::Htlc, Side::Us, 50_000, ways)
    };
    let ours = Transaction {
        txid: "0a".repeat(32),
        height: Some(105),
        outputs: vec![
            taken,
            htlc(true, incoming),
            htlc(false, outgoing),
            output(What::ToLocal, Side::Us, 500_000, vec![way("RD", 249, State::Waits)]),
        ],
        ..tx("C", Side::Us, State::OnChain)
    };
    let mut answer = answer(vec![tx("C", Side::Them, State::Gone), ours]);
    answer.asked_txid = "cd".repeat(32);
    let expected = "\
F  8f1c2b3a8f1c2b3a…:1  1,000,000 sat, block 103, 6 deep
│
├─ C theirs  not any more
│
└─ C ours  0a0a0a0a0a0a0a0a…  block 105, 4 deep
   ├─ their anchor        330         taken in block 106
   ├─ HTLC 3 in        50,000  HE     we, block 107, 2 deep  cdcdcdcd… ◀
   │                           HTD    not any more
   ├─ HTLC 3 out       50,000  HT     we, from 110                         █░░░░░░░░░ 2 to go
   │                           HED    they, now, with R, alone before 130  ██░░░░░░░░ 22 left
   └─ to_local        500,000  RD     we, from 249                         ██████████ 141 to go";
    let drawn = as_text(&answer, PLAIN);
    assert_eq!(drawn, expected, "\n{drawn}\n");
}

#[test]
fn a_breach_is_said_and_what_takes_it_stands_out() {
    let remedy = Transaction { until: Some(249), ..tx("BR", Side::Us, State::Ready) };
    let theirs = Transaction {
        height: Some(105),
        outputs: vec![output(What::ToLocal, Side::Them, 5, vec![remedy])],
        ..tx("C", Side::Them, State::OnChain)
    };
    let answer = answer(vec![theirs]);
    let drawn = as_text(&answer, PLAIN);
    assert!(drawn.contains("└─ C theirs  revoked before: block 105, 4 deep"), "{drawn}");
    assert!(drawn.contains("BR     we, now, alone before 249"), "{drawn}");
    let coloured = as_text(&answer, COLOUR);
    assert!(coloured.contains("\u{1b}[31mBR\u{1b}[0m"), "{coloured:?}");
    assert!(!drawn.contains('\u{1b}'));
}

#[test]
fn no_line_is_too_wide() {
    let drawn = as_text(&open(), PLAIN);
    let widest = drawn.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 104, "{widest}");
}

#[test]
fn the_svg_has_every_text_line_and_bar() {
    let mut answer = open();
    answer.channel_point = "<&>:1".into();
    let svg = as_svg(&answer);
    assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\""), "{svg}");
    assert!(svg.ends_with("</svg>") && svg.contains("&lt;&amp;&gt;"), "{svg}");
    assert_eq!(svg.matches("<rect class=\"f\"").count(), 10, "one bar, all full");
    let text = as_text(&answer, PLAIN);
    for words in ["↳ HTBR", "we, 144 blocks after HT", "547,872", "143 to go"] {
        let drawn = svg.lines().any(|line| line.contains(words));
        assert!(text.contains(words) && drawn, "{words}\n{svg}");
    }
    // What opens closes again, in order.
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap());
        }
    }
    assert!(open.is_empty());
}

#[test]
fn what_is_at_stake_is_said_in_words() {
    let mut answer = ChannelRiskResponse {
        height: 200,
        anchor_reserve_sat: 10_000,
        wallet_sat: 990_000,
        channels: Vec::new(),
    };
    let head = "Height 200; the wallet has 990,000 sat and keeps 10,000 to raise the fees of \
                closes.";
    assert_eq!(risk(&answer, PLAIN), format!("{head}\nNo channels."));
    let small = Htlc { id: 4, amount_msat: 300_000, ..htlc(true) };
    answer.channels.push(Risk {
        channel_point: "ab:0".into(),
        phase: "open".into(),
        close_height: Some(252),
        reason: "HTLC 3, which we offered, expires at height 250".into(),
        at_risk_sat: 50_000,
        fee_budget_sat: 25_000,
        htlcs: vec![
            HtlcRisk {
                htlc: Some(htlc(false)),
                close_height: Some(252),
                gain_sat: Some(49_014),
                preimage_known: false,
            },
            HtlcRisk { htlc: Some(small), preimage_known: true, ..Default::default() },
        ],
        ..Default::default()
    });
    let quiet = Risk {
        channel_point: "cd:1".into(),
        phase: "open".into(),
        active: true,
        ..Default::default()
    };
    answer.channels.push(quiet);
    let expected = "

ab:0
  open, the peer is away
  closes at 252, in 52 blocks: HTLC 3, which we offered, expires at height 250
  50,000 sat at risk; up to 25,000 may be paid to save it
  HTLC 3 out: 50,000 sat, expires at 250; we close at 252; it brings 49,014
  HTLC 4 in: 300 sat, expires at 250, R known; not worth its fees on chain

cd:1
  open
  no HTLC asks for a close";
    assert_eq!(risk(&answer, PLAIN), format!("{head}{expected}"));
    answer.channels[0].close_height = Some(201);
    assert!(risk(&answer, COLOUR).contains("\u{1b}[31mcloses at 201, in 1 blocks"));
    answer.wallet_sat = 10_000;
    assert!(!risk(&answer, PLAIN).contains("Send it"));
    answer.wallet_sat = 8_766;
    assert!(risk(&answer, PLAIN).contains("Send it 1,234 sat more"));
}
