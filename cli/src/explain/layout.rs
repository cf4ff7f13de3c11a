//! What stands where in the picture: rows of cells on a grid of letters, and the branches between
//! them.
//!
//! ```text
//!         6                 29 31     38                                   75
//!   F …
//!   ├─ C ours …
//!   │  ├─ to_local        547,872  RD     we, from 249                         ██████████ …
//! ```

use crate::table::{thousands, Style};
use fulmen_proto::fulmenrpc::transaction::{Needs, State};
use fulmen_proto::fulmenrpc::{output::What, ExplainChannelResponse, Output, Side, Transaction};

/// Letters for each level of branches.
pub const LEVEL: usize = 3;
/// Where an amount ends, where names begin, what is said of them, and bars.
const AMOUNT: usize = 29;
const TITLE: usize = 31;
const WORDS: usize = 38;
/// Where bars stand.
pub const BAR: usize = 75;
/// Letters of a bar; each stands for this many blocks: two hours.
pub const CELLS: u32 = 10;
const BLOCKS: u32 = 12;

/// A piece of text and the column that it begins at.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The column.
    pub at: usize,
    /// The text.
    pub text: String,
    /// How it is shown.
    pub style: Style,
}

/// Blocks that are left until something.
#[derive(Clone, Debug)]
pub struct Left {
    /// How many of a bar's letters are full.
    pub full: u32,
    /// In words.
    pub words: String,
}

/// One line.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// For each level above, whether its branch goes on below this row.
    pub trail: Vec<bool>,
    /// It is a branch of its own, the last one or not.
    pub branch: Option<bool>,
    /// What is written, from left to right.
    pub cells: Vec<Cell>,
    /// The time left.
    pub left: Option<Left>,
}

/// The picture of an answer.
pub fn rows(answer: &ExplainChannelResponse) -> Vec<Row> {
    let Some(funding) = &answer.funding else { return Vec::new() };
    let picture = Picture { height: answer.height, asked: &answer.asked_txid };
    let mut rows = vec![picture.funding(funding, answer)];
    let spends: Vec<_> = funding.outputs.iter().flat_map(|output| &output.spends).collect();
    let last = spends.len().saturating_sub(1);
    for (place, spend) in spends.into_iter().enumerate() {
        rows.push(Row { trail: vec![true], ..Row::default() });
        picture.spender(spend, place == last, &mut rows);
    }
    rows
}

struct Picture<'a> {
    height: u32,
    asked: &'a str,
}

impl Picture<'_> {
    fn funding(&self, tx: &Transaction, answer: &ExplainChannelResponse) -> Row {
        let point = answer.channel_point.as_str();
        let (txid, index) = point.split_once(':').unwrap_or((point, ""));
        let value = tx.outputs.first().map(amount).unwrap_or_default();
        let stands = match (tx.state(), answer.phase.as_str()) {
            // A backup does not say.
            (State::Published, "restored") => "its block is not known".into(),
            _ => self.stands(tx, "it"),
        };
        let words = format!("{}:{index}  {value} sat, {stands}", short(txid, 16));
        self.headed(Row::default(), 0, "F", words, tx)
    }

    /// A transaction that spends F, and what its outputs wait for.
    fn spender(&self, tx: &Transaction, last: bool, rows: &mut Vec<Row>) {
        let name = match (tx.name.as_str(), tx.by()) {
            ("C", Side::Us) => "C ours".to_owned(),
            ("C", _) => "C theirs".to_owned(),
            (other, _) => other.to_owned(),
        };
        let number = tx.number.map(|number| format!("number {number}, ")).unwrap_or_default();
        let ways = || tx.outputs.iter().flat_map(|output| &output.spends);
        let remedy = ways().any(|way| way.name.ends_with("BR") && way.needs() == Needs::Nothing);
        let breach = if remedy { "revoked before: " } else { "" };
        let who = if tx.by() == Side::Us { "we" } else { "they" };
        let mut words = format!("{breach}{number}{}", self.stands(tx, who));
        if !tx.txid.is_empty() {
            words = format!("{}  {words}", short(&tx.txid, 16));
        }
        let row = Row { branch: Some(last), ..Row::default() };
        rows.push(self.headed(row, LEVEL, &name, words, tx));
        let end = tx.outputs.len().saturating_sub(1);
        for (place, output) in tx.outputs.iter().enumerate() {
            self.output(output, vec![!last], place == end, rows);
        }
    }

    fn headed(&self, row: Row, at: usize, name: &str, words: String, tx: &Transaction) -> Row {
        let after = at.saturating_add(name.chars().count()).saturating_add(2);
        let mut cells = vec![
            Cell { at, text: name.into(), style: Style::Bold },
            Cell { at: after, text: words, style: style(tx) },
        ];
        self.mark(tx, &mut cells);
        Row { cells, ..row }
    }

    /// How a transaction that spends F stands, or F itself.
    fn stands(&self, tx: &Transaction, who: &str) -> String {
        match (tx.state(), tx.needs()) {
            (State::OnChain, _) => self.depth(tx),
            (State::Published, _) => "published, in no block yet".into(),
            (State::Ready, _) => format!("{who} may publish it"),
            (State::Waits, Needs::Agreement) => "once both agree".into(),
            (State::Waits, _) => "not before F is in a block".into(),
            (State::Gone, _) => "not any more".into(),
        }
    }

    fn depth(&self, tx: &Transaction) -> String {
        let Some(height) = tx.height else { return "in a block".into() };
        let deep = self.height.saturating_add(1).saturating_sub(height);
        format!("block {height}, {deep} deep")
    }

    /// An output, and a line for each transaction that may spend it.
    fn output(&self, output: &Output, trail: Vec<bool>, last: bool, rows: &mut Vec<Row>) {
        let whose = if output.owner() == Side::Us { "our" } else { "their" };
        let head = match (output.what(), &output.htlc) {
            (What::Funding, _) => "funding".into(),
            (What::ToLocal, _) => "to_local".into(),
            (What::ToRemote, _) => "to_remote".into(),
            (What::Anchor, _) => format!("{whose} anchor"),
            (What::Htlc, Some(htlc)) if htlc.incoming => format!("HTLC {} in", htlc.id),
            (What::Htlc, Some(htlc)) => format!("HTLC {} out", htlc.id),
            (What::Htlc, None) => "HTLC".into(),
            (What::SecondStage, _) => "second stage".into(),
            (What::Share, _) => format!("{whose} share"),
        };
        let amount = amount(output);
        let begins = LEVEL.saturating_mul(2);
        let amount_at = AMOUNT.saturating_sub(amount.chars().count());
        let mut first = vec![
            Cell { at: begins, text: head, style: Style::Plain },
            Cell { at: amount_at, text: amount, style: Style::Plain },
        ];
        let mut ways = Vec::new();
        for spend in &output.spends {
            self.way(spend, "C", &mut ways);
        }
        let known = output.spends.iter().any(|spend| spend.state() == State::OnChain);
        if let Some(height) = output.taken_height.filter(|_| !known) {
            let text = format!("taken in block {height}");
            ways.push((vec![Cell { at: WORDS, text, style: Style::Green }], None));
        }
        if ways.is_empty() {
            ways.push((Vec::new(), None));
        }
        for (place, (cells, left)) in ways.into_iter().enumerate() {
            let branch = (place == 0).then_some(last);
            let mut trail = trail.clone();
            if branch.is_none() {
                trail.push(!last);
            }
            first.extend(cells);
            rows.push(Row { trail, branch, cells: std::mem::take(&mut first), left });
        }
    }

    /// What may spend an output, and below it what may spend that.
    fn way(&self, tx: &Transaction, above: &str, ways: &mut Vec<(Vec<Cell>, Option<Left>)>) {
        let nested = above != "C";
        let title = if nested { format!("↳ {}", tx.name) } else { tx.name.clone() };
        let title = if tx.name == "Anchor" { "CPFP".into() } else { title };
        let (words, left) = self.says(tx, above);
        let mut cells = vec![
            Cell { at: TITLE, text: title, style: name_style(tx) },
            Cell { at: WORDS, text: words, style: style(tx) },
        ];
        self.mark(tx, &mut cells);
        ways.push((cells, left));
        let below = tx.outputs.iter().filter(|_| tx.state() != State::Gone);
        for spend in below.flat_map(|output| &output.spends) {
            self.way(spend, &tx.name, ways);
        }
    }

    /// Who, when, on which condition; and the blocks until that changes.
    fn says(&self, tx: &Transaction, above: &str) -> (String, Option<Left>) {
        let who = match tx.by() {
            Side::Us => "we",
            Side::Them => "they",
            Side::Both => "both",
            Side::Anybody => "anybody",
        };
        let preimage = match (tx.needs(), tx.by(), tx.preimage_known) {
            (Needs::Preimage, Side::Us, false) => ", if we learn R",
            (Needs::Preimage, _, _) => ", with R",
            _ => "",
        };
        let until = tx.until.map(|until| format!(", before {until}")).unwrap_or_default();
        match tx.state() {
            State::OnChain => (format!("{who}, {}  {}", self.depth(tx), short(&tx.txid, 8)), None),
            State::Published => (format!("{who}, in no block yet"), None),
            State::Gone => ("not any more".into(), None),
            State::Ready => {
                let left = tx.until.map(|until| left(self.height, until, "left"));
                let until = until.replace(" before", " alone before");
                (format!("{who}, now{preimage}{until}"), left)
            }
            State::Waits if tx.needs() == Needs::Revocation => {
                (format!("{who}, if this C is revoked"), None)
            }
            State::Waits => {
                let from = tx.from.filter(|from| *from > self.height.saturating_add(1));
                let left = from.map(|from| left(self.height, from, "to go"));
                let when = match (tx.from, tx.delay) {
                    (Some(from), _) => format!(", from {from}"),
                    (None, 0) => format!(", once {above} is in a block"),
                    (None, 1) => format!(", 1 block after {above}"),
                    (None, delay) => format!(", {delay} blocks after {above}"),
                };
                (format!("{who}{when}{preimage}{until}"), left)
            }
        }
    }

    /// Points to the transaction that was asked for.
    fn mark(&self, tx: &Transaction, cells: &mut Vec<Cell>) {
        if !self.asked.is_empty() && tx.txid == self.asked {
            let last = cells.last().map_or(0, |cell| {
                cell.at.saturating_add(cell.text.chars().count()).saturating_add(1)
            });
            cells.push(Cell { at: last, text: "◀".into(), style: Style::Bold });
        }
    }
}

fn left(height: u32, at: u32, what: &str) -> Left {
    let blocks = at.saturating_sub(height);
    Left { full: blocks.div_ceil(BLOCKS).min(CELLS), words: format!("{blocks} {what}") }
}

fn style(tx: &Transaction) -> Style {
    match tx.state() {
        State::OnChain => Style::Green,
        State::Ready | State::Published => Style::Yellow,
        State::Waits => Style::Plain,
        State::Gone => Style::Dim,
    }
}

fn name_style(tx: &Transaction) -> Style {
    match tx.state() {
        State::Gone => Style::Dim,
        _ if tx.name.ends_with("BR") => Style::Red,
        _ => Style::Bold,
    }
}

fn amount(output: &Output) -> String {
    output.value_sat.map(|value| thousands(&value.to_string())).unwrap_or_default()
}

fn short(txid: &str, letters: usize) -> String {
    let start: String = txid.chars().take(letters).collect();
    format!("{start}…")
}
