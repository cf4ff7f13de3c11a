//! Pictures of a channel: its transactions as a tree, and what is at stake. Pure: an answer of the
//! daemon in, text or SVG out.
//!
//! ```text
//!   answer ─▶ layout: rows of cells ─┬─▶ text
//!                                    └─▶ svg
//! ```

mod layout;
mod risk;
mod svg;
#[cfg(test)]
mod tests;
mod text;

pub use risk::risk;

use crate::table::Canvas;
use fulmen_proto::fulmenrpc::ExplainChannelResponse;

/// The tree as text without a newline at its end.
pub fn as_text(answer: &ExplainChannelResponse, canvas: Canvas) -> String {
    text::draw(&layout::rows(answer), canvas)
}

/// The tree as an SVG document.
pub fn as_svg(answer: &ExplainChannelResponse) -> String {
    svg::draw(&layout::rows(answer))
}
