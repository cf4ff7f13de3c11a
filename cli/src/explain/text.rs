//! The picture as text.

use super::layout::{Row, BAR, CELLS};
use crate::table::{Canvas, Style};

/// Draws rows, a line each.
pub fn draw(rows: &[Row], canvas: Canvas) -> String {
    rows.iter().map(|row| line(row, canvas)).collect::<Vec<_>>().join("\n")
}

fn line(row: &Row, canvas: Canvas) -> String {
    let mut pen = Pen { text: String::new(), column: 0, canvas };
    for goes_on in &row.trail {
        pen.write(if *goes_on { "│  " } else { "   " }, Style::Plain);
    }
    if let Some(last) = row.branch {
        pen.write(if last { "└─ " } else { "├─ " }, Style::Plain);
    }
    for cell in &row.cells {
        pen.go_to(cell.at);
        pen.write(&cell.text, cell.style);
    }
    if let Some(left) = &row.left {
        pen.go_to(BAR);
        let bar = |letter: &str, count: u32| letter.repeat(usize::try_from(count).unwrap_or(0));
        pen.write(&bar("█", left.full), Style::Yellow);
        pen.write(&bar("░", CELLS.saturating_sub(left.full)), Style::Dim);
        pen.write(&format!(" {}", left.words), Style::Plain);
    }
    pen.text.trim_end().to_owned()
}

struct Pen {
    text: String,
    column: usize,
    canvas: Canvas,
}

impl Pen {
    /// At least one space after what is there.
    fn go_to(&mut self, column: usize) {
        let room = column.saturating_sub(self.column);
        let needed = usize::from(self.column > column);
        self.write(&" ".repeat(room.max(needed)), Style::Plain);
    }

    fn write(&mut self, text: &str, style: Style) {
        self.text.push_str(&style.paint(text, self.canvas));
        self.column = self.column.saturating_add(text.chars().count());
    }
}
