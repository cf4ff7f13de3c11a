//! What is at stake in channels, as text.

use crate::table::{thousands, Canvas, Style};
use fulmen_proto::fulmenrpc::{ChannelRiskResponse, HtlcRisk, Risk};

/// A paragraph for each channel, without a newline at its end.
pub fn risk(answer: &ChannelRiskResponse, canvas: Canvas) -> String {
    let reserve = sat(answer.anchor_reserve_sat);
    let mut text = format!(
        "Height {}; the wallet has {} sat and keeps {reserve} to raise the fees of closes.",
        answer.height,
        sat(answer.wallet_sat),
    );
    let missing = answer.anchor_reserve_sat.saturating_sub(answer.wallet_sat);
    if missing > 0 {
        let more = format!("Send it {} sat more, or it may be unable to do so.", sat(missing));
        text.push_str(&format!("\n{}", Style::Yellow.paint(&more, canvas)));
    }
    if answer.channels.is_empty() {
        text.push_str("\nNo channels.");
    }
    for channel in &answer.channels {
        text.push_str(&format!("\n\n{}", one(channel, answer.height, canvas)));
    }
    text
}

fn one(channel: &Risk, height: u32, canvas: Canvas) -> String {
    let offline = if channel.active { "" } else { ", the peer is away" };
    let name = Style::Bold.paint(&channel.channel_point, canvas);
    let mut lines = vec![format!("{name}\n  {}{offline}", channel.phase)];
    let says = match (channel.close_height, channel.reason.is_empty()) {
        (Some(at), _) => {
            let left = at.saturating_sub(height);
            let style = if left <= 18 { Style::Red } else { Style::Yellow };
            let close = style.paint(&format!("closes at {at}, in {left} blocks"), canvas);
            format!("{close}: {}", channel.reason)
        }
        (None, true) => "no HTLC asks for a close".into(),
        (None, false) => channel.reason.clone(),
    };
    lines.push(says);
    if channel.at_risk_sat > 0 {
        let (at_risk, budget) = (sat(channel.at_risk_sat), sat(channel.fee_budget_sat));
        lines.push(format!("{at_risk} sat at risk; up to {budget} may be paid to save it"));
    }
    lines.extend(channel.htlcs.iter().filter_map(htlc));
    lines.join("\n  ")
}

fn htlc(risk: &HtlcRisk) -> Option<String> {
    let htlc = risk.htlc.as_ref()?;
    let way = if htlc.incoming { "in" } else { "out" };
    let known = if risk.preimage_known { ", R known" } else { "" };
    let worth = match (risk.close_height, risk.gain_sat) {
        (Some(at), Some(gain)) => format!("we close at {at}; it brings {}", sat(gain)),
        (_, None) => "not worth its fees on chain".into(),
        (None, Some(_)) => "no reason to close".into(),
    };
    let amount = sat(htlc.amount_msat / 1_000);
    let (id, expiry) = (htlc.id, htlc.expiry);
    Some(format!("HTLC {id} {way}: {amount} sat, expires at {expiry}{known}; {worth}"))
}

fn sat(value: i64) -> String {
    thousands(&value.to_string())
}
