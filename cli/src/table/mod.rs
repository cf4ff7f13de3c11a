//! `--format table`: an answer as aligned columns, or as names and values. Pure.
//!
//! ```text
//! PEER   NODE        CAPACITY      LOCAL                    REMOTE
//! bob    02f5…9c1e  1,000,000    599,056  ███████████░░░░  400,000
//! ```

mod tree;
mod views;

pub use tree::Tree;
pub use views::{lists, Column, Kind, List};

use time::OffsetDateTime;

/// Cells of a bar.
const BAR: usize = 16;
/// No column of ids is cut to less.
const NARROWEST: usize = 9;
const GAP: &str = "  ";

/// What a terminal can show.
#[derive(Clone, Copy, Debug)]
pub struct Canvas {
    /// Columns; ids are shortened to fit. None where nothing has to fit.
    pub width: Option<usize>,
    /// Escape codes for colours may be written.
    pub colour: bool,
}

/// A colour or weight, as the number of its escape code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // colours
pub enum Style {
    Plain,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
}

impl Style {
    /// `text` in it, where colours may be written.
    pub fn paint(self, text: &str, canvas: Canvas) -> String {
        let code = match self {
            Style::Plain => return text.to_owned(),
            Style::Bold => 1,
            Style::Dim => 2,
            Style::Red => 31,
            Style::Green => 32,
            Style::Yellow => 33,
        };
        if canvas.colour && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// `tree` as text without a newline at its end; `lists` names the lists of it that become tables.
/// Without any, names and values.
pub fn render(tree: &Tree, lists: &[List], canvas: Canvas) -> String {
    if lists.is_empty() {
        return pairs(tree, canvas);
    }
    let titled = lists.len() > 1;
    let mut parts = Vec::new();
    for list in lists {
        let Some(Tree::List(rows)) = tree.at(list.name) else { continue };
        if titled && rows.is_empty() {
            continue;
        }
        if titled {
            let title = Style::Bold.paint(&list.name.replace('_', " "), canvas);
            parts.push(format!("{title}\n{}", table(rows, list.columns, canvas)));
        } else {
            parts.push(table(rows, list.columns, canvas));
        }
    }
    if parts.is_empty() {
        parts.push("none".to_owned());
    }
    parts.join("\n\n")
}

/// Names and values, one pair a line.
fn pairs(tree: &Tree, canvas: Canvas) -> String {
    let leaves = tree.leaves();
    let widest = leaves.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    let line = |(name, text): &(String, String)| {
        let name = Style::Bold.paint(&pad(name, widest, false), canvas);
        format!("{name}{GAP}{}", clean(text)).trim_end().to_owned()
    };
    leaves.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Rows under their headers. No rows: the headers alone.
fn table(rows: &[Tree], columns: &[Column], canvas: Canvas) -> String {
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|column| cell(row, column)).collect()).collect();
    let widths = widths(&cells, columns, canvas);
    let mut lines = vec![line(columns.iter().zip(&widths).map(|(column, room)| {
        let text = pad(column.title, *room, column.kind.is_right());
        Style::Bold.paint(&text, canvas)
    }))];
    for (row, cells) in rows.iter().zip(&cells) {
        let shown = columns.iter().zip(cells).zip(&widths).map(|((column, text), room)| {
            if let Kind::Bar { ours, theirs } = column.kind {
                return bar(number(&row.text(ours)), number(&row.text(theirs)), BAR, canvas);
            }
            let text = pad(&fit(text, *room), *room, column.kind.is_right());
            style(text.trim()).paint(&text, canvas)
        });
        lines.push(line(shown));
    }
    lines.join("\n")
}

fn line(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
}

/// How wide each column is: as its widest cell, and ids less until all fits.
fn widths(cells: &[Vec<String>], columns: &[Column], canvas: Canvas) -> Vec<usize> {
    let widest = |(index, column): (usize, &Column)| {
        let cells = cells.iter().filter_map(|row| row.get(index)).map(|cell| width(cell));
        cells.chain([width(column.title)]).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = columns.iter().enumerate().map(widest).collect();
    let gaps = columns.len().saturating_sub(1).saturating_mul(GAP.len());
    let Some(room) = canvas.width else { return widths };
    while widths.iter().sum::<usize>().saturating_add(gaps) > room {
        let ids = widths.iter_mut().zip(columns).filter(|(_, column)| column.kind == Kind::Id);
        let can_give = ids.filter(|(room, column)| **room > NARROWEST.max(width(column.title)));
        match can_give.map(|(room, _)| room).max() {
            Some(widest) => *widest = widest.saturating_sub(1),
            None => break,
        }
    }
    widths
}

fn cell(row: &Tree, column: &Column) -> String {
    let text = row.text(column.path);
    match column.kind {
        Kind::Text | Kind::Id => clean(&text),
        Kind::Number => thousands(&text),
        Kind::Time => when(&text),
        Kind::Bar { .. } => " ".repeat(BAR),
    }
}

/// States of invoices, payments and channels, told apart at a glance.
fn style(text: &str) -> Style {
    match text {
        "SUCCEEDED" | "SETTLED" | "true" => Style::Green,
        "FAILED" | "CANCELED" | "false" => Style::Red,
        "IN_FLIGHT" | "ACCEPTED" | "OPEN" => Style::Yellow,
        _ => Style::Plain,
    }
}

/// A bar of `cells` in which `ours` and `theirs` have their shares.
fn bar(ours: u64, theirs: u64, cells: usize, canvas: Canvas) -> String {
    let sum = u128::from(ours).saturating_add(u128::from(theirs));
    let share = u128::from(ours).saturating_mul(cells as u128).checked_div(sum).unwrap_or(0);
    let share = usize::try_from(share).unwrap_or(cells).min(cells);
    let rest = cells.saturating_sub(share);
    let (full, empty) = ("█".repeat(share), "░".repeat(rest));
    format!("{}{}", Style::Green.paint(&full, canvas), Style::Dim.paint(&empty, canvas))
}

/// A bar for `done` of `all`.
pub fn progress_bar(done: u64, all: u64, canvas: Canvas) -> String {
    bar(done.min(all), all.saturating_sub(done), BAR, canvas)
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

/// An integer with commas; anything else as it is.
pub fn thousands(text: &str) -> String {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return clean(text);
    }
    let mut out = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        let left = digits.len().saturating_sub(index);
        if index > 0 && left % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Seconds since 1970 as a date and time, UTC; nothing for 0.
fn when(text: &str) -> String {
    let time = text.parse().ok().filter(|seconds| *seconds != 0);
    let time = time.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let shown = |time: OffsetDateTime| {
        let (hour, minute, second) = time.to_hms();
        format!("{} {hour:02}:{minute:02}:{second:02}", time.date())
    };
    time.map(shown).unwrap_or_default()
}

/// Without what would move the cursor: names and memos are other people's texts.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn pad(text: &str, room: usize, right: bool) -> String {
    let fill = " ".repeat(room.saturating_sub(width(text)));
    if right {
        format!("{fill}{text}")
    } else {
        format!("{text}{fill}")
    }
}

/// `text`, its middle left out if it is wider than `room`.
fn fit(text: &str, room: usize) -> String {
    let length = width(text);
    if length <= room {
        return text.to_owned();
    }
    let kept = room.saturating_sub(1);
    let tail = kept / 2;
    let head = kept.saturating_sub(tail);
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(length.saturating_sub(tail)).collect();
    format!("{start}…{end}")
}

#[cfg(test)]
mod tests;
