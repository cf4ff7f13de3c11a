//! What watchtowers cover of channels' revoked states, as text.
//!
//! ```text
//!   the cheater's balance  ████████████████████  all 1,204
//!   our balance            ██████████████░░░░░░  870 of 1,204; not 870 to 1203: …
//! ```

use crate::table::{thousands, Canvas, Style};
use fulmen_proto::fulmenrpc::{
    ChannelCoverage, CoverageResponse, OutputCoverage, OutputKind, StateRange, TowerCoverage,
};

/// How wide a bar is.
const BAR: u64 = 20;
/// How many ranges of states are written out.
const RANGES: usize = 4;

/// A paragraph for each channel, without a newline at its end.
pub fn coverage(answer: &CoverageResponse, canvas: Canvas) -> String {
    match answer.channels.is_empty() {
        true => "No channels.".into(),
        false => {
            let all: Vec<String> = answer.channels.iter().map(|it| channel(it, canvas)).collect();
            all.join("\n\n")
        }
    }
}

fn channel(channel: &ChannelCoverage, canvas: Canvas) -> String {
    let name = Style::Bold.paint(&channel.channel_point, canvas);
    let states = channel.revoked_states;
    let format = &channel.format;
    let mut lines = vec![format!("{name}\n  {format}, {} revoked", count(states))];
    if channel.towers.is_empty() {
        lines.push("no watchtower: fulmen-cli wtclient add PUBKEY@HOST:PORT adds one".into());
    }
    lines.extend(channel.towers.iter().map(tower));
    if states > 0 {
        lines.extend(channel.outputs.iter().map(|it| output(it, states, canvas)));
    }
    lines.join("\n  ")
}

fn tower(tower: &TowerCoverage) -> String {
    let short = tower.pubkey.get(..8).unwrap_or(&tower.pubkey);
    let mode = if tower.private { "private" } else { "altruist" };
    let has = tower.states.iter().map(size).fold(0, u64::saturating_add);
    let mut text = format!("tower {short}… ({mode}) has {}", count(has));
    if tower.pending > 0 {
        text.push_str(&format!("; {} waiting for it", number(tower.pending)));
    }
    if !tower.active {
        text.push_str("; it is not used any more");
    }
    if tower.left_out_outputs > 0 {
        text.push_str(&format!(
            "; of {} of them {} outputs are not worth their fee and left out",
            number(tower.partial_states),
            number(tower.left_out_outputs)
        ));
    }
    text
}

fn output(output: &OutputCoverage, states: u64, canvas: Canvas) -> String {
    let name = match output.output() {
        OutputKind::ToCheater => "the cheater's balance",
        OutputKind::ToUs => "our balance",
        OutputKind::HtlcOutput => "HTLCs",
        OutputKind::HtlcSecondStage => "their second stages",
    };
    let covered = states.saturating_sub(output.uncovered_states);
    let filled = match covered.saturating_mul(BAR).checked_div(states).unwrap_or_default() {
        // What is not all does not look like it, nor what is something like nothing.
        BAR if covered < states => BAR.saturating_sub(1),
        0 if covered > 0 => 1,
        filled => filled,
    };
    let part = |sign: &str, times: u64| sign.repeat(usize::try_from(times).unwrap_or_default());
    let (full, empty) = ("█", "░");
    let bar = part(full, filled) + &part(empty, BAR.saturating_sub(filled));
    let style = match covered {
        _ if covered == states => Style::Green,
        0 => Style::Red,
        _ => Style::Yellow,
    };
    let bar = style.paint(&bar, canvas);
    let says = match output.uncovered_states {
        0 if output.race => "all, in a race with the cheater's second stage".into(),
        0 => "all".into(),
        _ => {
            let race = if output.race { ", in a race" } else { "" };
            let (missing, otherwise) = (list(&output.uncovered), &output.otherwise);
            let (covered, states) = (number(covered), number(states));
            format!("{covered} of {states}{race}; not {missing}:\n{:24}{otherwise}", "")
        }
    };
    format!("{name:<21} {bar} {says}")
}

fn list(ranges: &[StateRange]) -> String {
    let one = |range: &StateRange| match range.first == range.last {
        true => range.first.to_string(),
        false => format!("{} to {}", range.first, range.last),
    };
    let mut text: Vec<String> = ranges.iter().take(RANGES).map(one).collect();
    if ranges.len() > RANGES {
        text.push("…".into());
    }
    text.join(", ")
}

fn size(range: &StateRange) -> u64 {
    range.last.saturating_sub(range.first).saturating_add(1)
}

fn count(states: u64) -> String {
    match states {
        1 => "1 state".into(),
        states => format!("{} states", number(states)),
    }
}

fn number(value: u64) -> String {
    thousands(&value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Canvas = Canvas { width: None, colour: false };

    fn range(first: u64, last: u64) -> StateRange {
        StateRange { first, last }
    }

    #[test]
    fn what_is_covered_is_drawn() {
        let output = |kind: OutputKind, uncovered: Vec<StateRange>, race| OutputCoverage {
            output: kind.into(),
            uncovered_states: uncovered.iter().map(size).sum(),
            uncovered,
            race,
            otherwise: "it waits".into(),
            towers: Vec::new(),
        };
        let tower = TowerCoverage {
            pubkey: "02abcdef99".into(),
            active: true,
            states: vec![range(0, 899)],
            pending: 3,
            partial_states: 2,
            left_out_outputs: 5,
            ..TowerCoverage::default()
        };
        let channel = ChannelCoverage {
            channel_point: "aa:0".into(),
            format: "anchors".into(),
            revoked_states: 1_204,
            towers: vec![tower],
            outputs: vec![
                output(OutputKind::ToCheater, vec![], false),
                output(OutputKind::HtlcOutput, vec![range(7, 7), range(900, 1_203)], true),
                output(OutputKind::HtlcSecondStage, vec![range(0, 1_203)], false),
            ],
            ..ChannelCoverage::default()
        };
        let mut answer = CoverageResponse { channels: vec![channel] };
        let text = coverage(&answer, PLAIN);
        let wanted = "\
aa:0
  anchors, 1,204 states revoked
  tower 02abcdef… (altruist) has 900 states; 3 waiting for it; of 2 of them 5 outputs are not \
worth their fee and left out
  the cheater's balance ████████████████████ all
  HTLCs                 ██████████████░░░░░░ 899 of 1,204, in a race; not 7, 900 to 1203:
                        it waits
  their second stages   ░░░░░░░░░░░░░░░░░░░░ 0 of 1,204; not 0 to 1203:
                        it waits";
        assert_eq!(text, wanted);
        answer.channels.clear();
        assert_eq!(coverage(&answer, PLAIN), "No channels.");
    }
}
