//! The picture as SVG: the same rows, branches as lines, bars as boxes. It says what its colours
//! are for light and for dark surroundings.

use super::layout::{Row, BAR, CELLS, LEVEL};
use crate::table::Style;

/// A letter of the grid, in pixels.
const WIDTH: usize = 8;
const HEIGHT: usize = 20;
const MARGIN: usize = 12;
/// Columns of the grid.
const COLUMNS: usize = 104;

const STYLE: &str = "text{font:13px monospace;white-space:pre;fill:#222}\
    .b{font-weight:bold}.d{fill:#999}.r{fill:#c22;font-weight:bold}.g{fill:#171}.y{fill:#a60}\
    path{fill:none;stroke:#999}.f{fill:#e90}.e{fill:#ddd}\
    @media(prefers-color-scheme:dark){text{fill:#ddd}.d{fill:#777}.g{fill:#6c6}.y{fill:#ec6}\
    .r{fill:#f66}.e{fill:#444}}";

/// Draws rows.
pub fn draw(rows: &[Row]) -> String {
    let (width, height) = (x(COLUMNS).saturating_add(MARGIN), y(rows.len()));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\">\n<style>{STYLE}</style>\n"
    );
    for (number, row) in rows.iter().enumerate() {
        branches(&mut svg, row, y(number));
        let base = y(number).saturating_add(14);
        for cell in &row.cells {
            text(&mut svg, x(cell.at), base, class(cell.style), &cell.text);
        }
        if let Some(left) = &row.left {
            for place in 0..CELLS {
                let class = if place < left.full { "f" } else { "e" };
                let at = BAR.saturating_add(usize::try_from(place).unwrap_or(0));
                let (x, y) = (x(at), y(number).saturating_add(5));
                svg.push_str(&format!(
                    "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"7\" height=\"10\"/>\n"
                ));
            }
            let after = BAR.saturating_add(usize::try_from(CELLS).unwrap_or(0)).saturating_add(1);
            text(&mut svg, x(after), base, "", &left.words);
        }
    }
    svg.push_str("</svg>");
    svg
}

/// The lines to the left of a row.
fn branches(svg: &mut String, row: &Row, top: usize) {
    let (middle, bottom) = (top.saturating_add(HEIGHT / 2), top.saturating_add(HEIGHT));
    let line = |level: usize| x(level.saturating_mul(LEVEL)).saturating_add(WIDTH / 2);
    for (level, _) in row.trail.iter().enumerate().filter(|(_, goes_on)| **goes_on) {
        svg.push_str(&format!("<path d=\"M{} {top}V{bottom}\"/>\n", line(level)));
    }
    if let Some(last) = row.branch {
        let (at, end) = (line(row.trail.len()), if last { middle } else { bottom });
        let right = at.saturating_add(WIDTH.saturating_mul(2));
        svg.push_str(&format!("<path d=\"M{at} {top}V{end}M{at} {middle}H{right}\"/>\n"));
    }
}

fn text(svg: &mut String, x: usize, y: usize, class: &str, text: &str) {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    svg.push_str(&format!("<text{class} x=\"{x}\" y=\"{y}\">{text}</text>\n"));
}

fn class(style: Style) -> &'static str {
    match style {
        Style::Plain => "",
        Style::Bold => "b",
        Style::Dim => "d",
        Style::Red => "r",
        Style::Green => "g",
        Style::Yellow => "y",
    }
}

fn x(column: usize) -> usize {
    column.saturating_mul(WIDTH).saturating_add(MARGIN)
}

fn y(row: usize) -> usize {
    row.saturating_mul(HEIGHT).saturating_add(MARGIN)
}
