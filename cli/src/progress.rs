//! Progress on a terminal: what is drawn (pure), and drawing it over what was there before.

use crate::table::{progress_bar, render, thousands, Canvas, Column, Kind, List, Tree};
use fulmen_proto::lnrpc::payment::PaymentStatus;
use fulmen_proto::lnrpc::{HtlcAttempt, Payment};
use std::io::Write;

const fn column(title: &'static str, path: &'static str, kind: Kind) -> Column {
    Column { title, path, kind }
}

/// One attempt a row.
const ATTEMPTS: &[List] = &[List {
    name: "htlcs",
    columns: &[
        column("HTLC_STATE", "state", Kind::Text),
        column("ATTEMPT_TIME", "tried", Kind::Text),
        column("RESOLVE_TIME", "resolved", Kind::Text),
        column("RECEIVER_AMT", "amount", Kind::Number),
        column("FEE", "fee", Kind::Number),
        column("TIMELOCK", "timelock", Kind::Text),
        column("CHAN_OUT", "channel", Kind::Text),
        column("ROUTE", "route", Kind::Id),
    ],
}];

/// A payment and its HTLCs, amounts in satoshis.
pub fn payment(payment: &Payment, canvas: Canvas) -> String {
    let rows = payment.htlcs.iter().map(|htlc| attempt(payment, htlc)).collect();
    let tree = Tree::Object(vec![("htlcs".into(), Tree::List(rows))]);
    let (amount, fee) = (payment.value_sat.to_string(), payment.fee_sat.to_string());
    let (amount, fee) = (thousands(&amount), thousands(&fee));
    let state = payment.status().as_str_name();
    let end = match payment.status() {
        PaymentStatus::Succeeded => format!(", preimage: {}", payment.payment_preimage),
        PaymentStatus::Failed => format!(", reason: {}", payment.failure_reason().as_str_name()),
        _ => String::new(),
    };
    format!(
        "{}\nAmount + fee:   {amount} + {fee} sat\nPayment hash:   {}\n\
         Payment status: {state}{end}",
        render(&tree, ATTEMPTS, canvas),
        payment.payment_hash
    )
}

fn attempt(payment: &Payment, htlc: &HtlcAttempt) -> Tree {
    let route = htlc.route.clone().unwrap_or_default();
    let hops: Vec<&str> = route.hops.iter().map(|hop| hop.pub_key.as_str()).collect();
    let first = route.hops.first();
    let amount = route.total_amt_msat.saturating_sub(route.total_fees_msat) / 1000;
    let entries = [
        ("state", htlc.status().as_str_name().to_owned()),
        ("tried", since(payment.creation_time_ns, htlc.attempt_time_ns)),
        ("resolved", since(payment.creation_time_ns, htlc.resolve_time_ns)),
        ("amount", amount.to_string()),
        ("fee", (route.total_fees_msat / 1000).to_string()),
        ("timelock", route.total_time_lock.to_string()),
        ("channel", first.map(|hop| hop.chan_id.to_string()).unwrap_or_default()),
        ("route", hops.join("->")),
    ];
    Tree::Object(entries.into_iter().map(|(name, text)| (name.into(), Tree::Leaf(text))).collect())
}

/// The time from `start` to `end`, both in nanoseconds; a dash while there is no end.
fn since(start: i64, end: i64) -> String {
    match end.checked_sub(start) {
        Some(ns) if end != 0 => format!("{}.{:03}s", ns / 1_000_000_000, ns / 1_000_000 % 1000),
        _ => "-".to_owned(),
    }
}

/// A channel's funding transaction on its way: `left` of `all` confirmations are missing.
pub fn confirmations(left: u32, all: u32, canvas: Canvas) -> String {
    let done = all.saturating_sub(left);
    let bar = progress_bar(u64::from(done), u64::from(all), canvas);
    format!("Waiting for confirmations  {bar}  {done}/{all}")
}

/// A place on the terminal that is drawn again and again.
#[derive(Default)]
pub struct Live {
    shown: String,
}

impl Live {
    /// Draws `text` where the last one stood; nothing if that is the same.
    pub fn draw(&mut self, text: &str) {
        if text != self.shown {
            let up = self.shown.lines().count();
            let back = if up > 0 { format!("\x1b[{up}A\x1b[J") } else { String::new() };
            let mut out = std::io::stdout();
            // a terminal that is gone ends the command at its answer
            let _ = writeln!(out, "{back}{text}").and_then(|()| out.flush());
            self.shown = text.to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fulmen_proto::lnrpc::{htlc_attempt::HtlcStatus, Hop, Route};

    const PLAIN: Canvas = Canvas { width: None, colour: false };

    #[test]
    fn a_payment_is_drawn_with_its_attempts() {
        let hop = Hop { pub_key: "02bf".into(), chan_id: 7, ..Hop::default() };
        let mut htlc = HtlcAttempt {
            attempt_time_ns: 1_012_000_000,
            route: Some(Route {
                total_amt_msat: 5_001_000,
                total_fees_msat: 1000,
                total_time_lock: 190,
                hops: vec![hop],
                ..Route::default()
            }),
            ..HtlcAttempt::default()
        };
        htlc.set_status(HtlcStatus::InFlight);
        let mut paying = Payment {
            creation_time_ns: 1_000_000_000,
            value_sat: 5000,
            fee_sat: 1,
            payment_hash: "aa".into(),
            htlcs: vec![htlc],
            ..Payment::default()
        };
        paying.set_status(PaymentStatus::InFlight);
        let expected = "\
HTLC_STATE  ATTEMPT_TIME  RESOLVE_TIME  RECEIVER_AMT  FEE  TIMELOCK  CHAN_OUT  ROUTE
IN_FLIGHT   0.012s        -                    5,000    1  190       7         02bf
Amount + fee:   5,000 + 1 sat
Payment hash:   aa
Payment status: IN_FLIGHT";
        assert_eq!(payment(&paying, PLAIN), expected);
        paying.htlcs[0].set_status(HtlcStatus::Succeeded);
        paying.htlcs[0].resolve_time_ns = 2_500_000_000;
        paying.payment_preimage = "bb".into();
        paying.set_status(PaymentStatus::Succeeded);
        let ended = payment(&paying, PLAIN);
        assert!(ended.contains("SUCCEEDED   0.012s        1.500s"), "{ended}");
        assert!(ended.ends_with("Payment status: SUCCEEDED, preimage: bb"), "{ended}");
    }

    #[test]
    fn confirmations_fill_a_bar() {
        let two = "Waiting for confirmations  ██████████░░░░░░  2/3";
        assert_eq!(confirmations(1, 3, PLAIN), two);
        assert!(confirmations(9, 3, PLAIN).ends_with("0/3"));
        assert!(confirmations(0, 0, PLAIN).ends_with("0/0"));
    }
}
