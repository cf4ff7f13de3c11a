//! A channel drawn in the terminal: F, both commitments, what each output waits for. Data in, text
//! out; names are the Lightning paper's.

use bitcoin::{OutPoint, Txid};
use fulmen_channel::amount::{Height, Sat};

/// The funding transaction and what hangs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// F's output.
    pub funding: OutPoint,
    /// What it holds.
    pub value: Sat,
    /// The block that holds F.
    pub height: Height,
    /// How many blocks deep that is.
    pub depth: u32,
    /// Both sides, by name.
    pub sides: [String; 2],
    /// Each side's commitment, or the settlement that closed the channel.
    pub spends: Vec<Spend>,
}

/// A transaction that spends F.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spend {
    /// A commitment: it may be published.
    Commitment(Commitment),
    /// ES: it was published.
    Settlement(Settlement),
}

/// The cooperative close, as it is on chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// ES.
    pub txid: Txid,
    /// The block that holds it.
    pub height: Height,
    /// What it left to the miner.
    pub fee: Sat,
    /// What it pays, and to whom.
    pub pays: Vec<(Sat, String)>,
}

/// One side's view of the channel's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commitment {
    /// Whose it is: the side that may publish it.
    pub owner: String,
    /// The other side.
    pub other: String,
    /// What it leaves to the miner.
    pub fee: Sat,
    /// Its feerate in satoshi per 1,000 units of weight.
    pub rate: u32,
    /// The owner's balance, if it is worth an output.
    pub to_local: Option<Sat>,
    /// The blocks that the owner waits.
    pub delay: u32,
    /// The other side's balance, if it is worth an output.
    pub to_remote: Option<Sat>,
    /// Payments in flight that are worth an output.
    pub htlcs: Vec<Htlc>,
    /// Whose anchors it has, and what they hold.
    pub anchors: Vec<(String, Sat)>,
}

/// A payment in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Htlc {
    /// What it pays.
    pub amount: Sat,
    /// The commitment's owner offered it.
    pub offered: bool,
    /// From this height on its offerer may take it back.
    pub expiry: Height,
}

/// An output: its name, what it holds, BOLT 3's name, and who may take it, when.
struct Row {
    name: &'static str,
    value: Sat,
    bolt: String,
    takes: Vec<(&'static str, String)>,
}

const BOLD: &str = "1";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const RED: &str = "31";

/// Draws, in colours if asked to. No line is wider than 100 columns for names of up to 6 letters.
pub fn draw(picture: &Picture, colours: bool) -> String {
    let paint = Paint(colours);
    let [one, other] = &picture.sides;
    let outpoint = short(picture.funding.txid);
    let vout = picture.funding.vout;
    let mut text = format!(
        "  {} {outpoint}:{vout}  {} sat for {one} and {other} together; block {}, {} deep\n",
        paint.with("F", BOLD),
        grouped(picture.value),
        picture.height.number(),
        picture.depth,
    );
    let last = picture.spends.len().saturating_sub(1);
    for (number, spend) in picture.spends.iter().enumerate() {
        text.push_str("  │\n");
        let (branch, trunk) = if number == last { ("└─", "  ") } else { ("├─", "│ ") };
        match spend {
            Spend::Commitment(commitment) => {
                let name = format!("C{}", initial(&commitment.owner));
                text.push_str(&format!(
                    "  {branch} {}  {} may publish it; fee {} ({} sat/kw)\n",
                    paint.with(&name, BOLD),
                    commitment.owner,
                    grouped(commitment.fee),
                    commitment.rate,
                ));
                rows(&mut text, trunk, &commitment.rows(&name), &paint);
            }
            Spend::Settlement(settlement) => {
                text.push_str(&format!(
                    "  {branch} {} {}  both signed it; block {}, fee {}\n",
                    paint.with("ES", BOLD),
                    short(settlement.txid),
                    settlement.height.number(),
                    grouped(settlement.fee),
                ));
                rows(&mut text, trunk, &settlement.rows(), &paint);
            }
        }
    }
    text
}

fn rows(text: &mut String, trunk: &str, rows: &[Row], paint: &Paint) {
    let last = rows.len().saturating_sub(1);
    for (number, row) in rows.iter().enumerate() {
        let (branch, below) = if number == last { ("└─", "  ") } else { ("├─", "│ ") };
        for (line, (name, who)) in row.takes.iter().enumerate() {
            let name = format!("{name:<4}");
            let name = paint.with(&name, if name.contains("BR") { RED } else { GREEN });
            let left = match line {
                0 => {
                    let title = paint.with(&format!("{:<6}", row.name), YELLOW);
                    format!("{branch} {title} {:>11}  {:<10}", grouped(row.value), row.bolt)
                }
                _ => format!("{below} {:<30}", ""),
            };
            text.push_str(&format!("  {trunk}  {left} {name} {who}\n"));
        }
    }
}

impl Commitment {
    fn rows(&self, name: &str) -> Vec<Row> {
        let (owner, other, delay) = (&self.owner, &self.other, self.delay);
        let mut rows = Vec::new();
        if let Some(value) = self.to_local {
            let takes = vec![
                ("RD", format!("{owner}, {delay} blocks after {name} (CSV)")),
                ("BR", format!("{other}, at once, if {name} was revoked")),
            ];
            rows.push(Row { name: "RSMC", value, bolt: "to_local".into(), takes });
        }
        if let Some(value) = self.to_remote {
            let takes = vec![("D", format!("{other}, 1 block after {name}"))];
            rows.push(Row { name: "D", value, bolt: "to_remote".into(), takes });
        }
        rows.extend(self.htlcs.iter().map(|htlc| self.htlc(htlc, name)));
        for (whose, value) in &self.anchors {
            let takes = vec![("", format!("{whose}, at once, to raise the fee; anybody after 16"))];
            rows.push(Row { name: "anchor", value: *value, bolt: format!("{whose}'s"), takes });
        }
        rows
    }

    fn htlc(&self, htlc: &Htlc, name: &str) -> Row {
        let (owner, other, from) = (&self.owner, &self.other, htlc.expiry.number());
        let delay = self.delay;
        let (bolt, ours, theirs) = match htlc.offered {
            true => (
                "offered",
                ("HT", format!("{owner}, from height {from}, then HTRD {delay} blocks on")),
                ("HED", format!("{other}, with the preimage R")),
            ),
            false => (
                "received",
                ("HE", format!("{owner}, with the preimage R, then HERD {delay} blocks on")),
                ("HTD", format!("{other}, from height {from}")),
            ),
        };
        let penalty = ("HBR", format!("{other}, at once, if {name} was revoked"));
        let takes = vec![ours, theirs, penalty];
        Row { name: "HTLC", value: htlc.amount, bolt: bolt.into(), takes }
    }
}

impl Settlement {
    fn rows(&self) -> Vec<Row> {
        let row = |(value, who): &(Sat, String)| Row {
            name: "pays",
            value: *value,
            bolt: String::new(),
            takes: vec![("", format!("{who}, at once"))],
        };
        self.pays.iter().map(row).collect()
    }
}

/// Colours, or none.
struct Paint(bool);

impl Paint {
    fn with(&self, text: &str, code: &str) -> String {
        match self.0 {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.into(),
        }
    }
}

fn initial(name: &str) -> String {
    name.chars().take(1).collect()
}

fn short(txid: Txid) -> String {
    let text = txid.to_string();
    format!("{}…", text.get(..16).unwrap_or_default())
}

/// 1234567 as `1,234,567`.
pub fn grouped(amount: Sat) -> String {
    let digits = amount.sat().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digits.len().saturating_sub(at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commitment(owner: &str, other: &str) -> Commitment {
        Commitment {
            owner: owner.into(),
            other: other.into(),
            fee: Sat::new(2_810),
            rate: 2_500,
            to_local: Some(Sat::new(596_530)),
            delay: 144,
            to_remote: Some(Sat::new(400_000)),
            htlcs: Vec::new(),
            anchors: [owner, other].map(|whose| (whose.into(), Sat::new(330))).into(),
        }
    }

    fn picture(spends: Vec<Spend>) -> Picture {
        let txid = "8f1c2b3a".repeat(8).parse().unwrap();
        Picture {
            funding: OutPoint { txid, vout: 1 },
            value: Sat::new(1_000_000),
            height: Height::new(103),
            depth: 6,
            sides: ["alice".into(), "bob".into()],
            spends,
        }
    }

    #[test]
    fn both_commitments_and_what_each_output_waits_for() {
        let spends = [("alice", "bob"), ("bob", "alice")];
        let spends = spends.map(|(owner, other)| Spend::Commitment(commitment(owner, other)));
        let drawn = draw(&picture(spends.into()), false);
        let one = "  │   ├─ RSMC       596,530  to_local   RD   alice, 144 blocks after Ca (CSV)
  │   │                                 BR   bob, at once, if Ca was revoked
  │   ├─ D          400,000  to_remote  D    bob, 1 block after Ca
  │   ├─ anchor         330  alice's         alice, at once, to raise the fee; anybody after 16
  │   └─ anchor         330  bob's           bob, at once, to raise the fee; anybody after 16
";
        let first = "  F 8f1c2b3a8f1c2b3a…:1  1,000,000 sat for alice and bob together; \
                     block 103, 6 deep\n  │\n\
                     \x20 ├─ Ca  alice may publish it; fee 2,810 (2500 sat/kw)\n";
        assert!(drawn.starts_with(&format!("{first}{one}")), "\n{drawn}");
        assert!(drawn.contains("  └─ Cb  bob may publish it"), "\n{drawn}");
        assert_eq!(drawn.lines().count(), 15, "\n{drawn}");
    }

    #[test]
    fn payments_in_flight_and_who_takes_them() {
        let htlcs = [true, false].map(|offered| {
            let (amount, expiry) = (Sat::new(7_000), Height::new(250));
            Htlc { amount, offered, expiry }
        });
        let mut with = commitment("alice", "bob");
        with.htlcs = htlcs.into();
        let drawn = draw(&picture(vec![Spend::Commitment(with)]), false);
        for line in [
            "HTLC         7,000  offered    HT   alice, from height 250, then HTRD 144 blocks",
            "HED  bob, with the preimage R",
            "HTLC         7,000  received   HE   alice, with the preimage R, then HERD 144 blocks",
            "HTD  bob, from height 250",
            "HBR  bob, at once, if Ca was revoked",
        ] {
            assert!(drawn.contains(line), "{line}\n{drawn}");
        }
    }

    #[test]
    fn the_settlement_and_what_is_too_small_is_not_there() {
        let txid = "00".repeat(32).parse().unwrap();
        let pays = vec![(Sat::new(599_000), "alice".to_owned()), (Sat::new(400_000), "bob".into())];
        let (height, fee) = (Height::new(110), Sat::new(1_000));
        let es = Spend::Settlement(Settlement { txid, height, fee, pays });
        let drawn = draw(&picture(vec![es]), false);
        assert!(drawn.contains("  └─ ES 0000000000000000…  both signed it; block 110, fee 1,000"));
        assert!(drawn.contains("├─ pays       599,000"), "\n{drawn}");
        let mut poor = commitment("alice", "bob");
        (poor.to_remote, poor.anchors) = (None, Vec::new());
        let drawn = draw(&picture(vec![Spend::Commitment(poor)]), false);
        assert!(!drawn.contains("to_remote") && !drawn.contains("anchor"), "\n{drawn}");
    }

    #[test]
    fn narrow_and_in_colours_only_if_asked() {
        let mut wide = commitment("abcdef", "mnopqr");
        let (amount, expiry) = (Sat::new(99_999_999), Height::new(4_000_000));
        wide.htlcs = vec![Htlc { amount, offered: true, expiry }; 2];
        wide.delay = 2_016;
        let mut all = picture(vec![Spend::Commitment(wide.clone()), Spend::Commitment(wide)]);
        all.sides = ["abcdef".into(), "mnopqr".into()];
        let plain = draw(&all, false);
        let width = plain.lines().map(|line| line.chars().count()).max();
        assert!(width.unwrap() <= 100, "{width:?}\n{plain}");
        assert!(!plain.contains('\u{1b}'));
        let coloured = draw(&all, true);
        assert!(coloured.contains('\u{1b}'));
        let mut bare = coloured;
        for code in [BOLD, GREEN, YELLOW, RED, "0"] {
            bare = bare.replace(&format!("\u{1b}[{code}m"), "");
        }
        assert_eq!(bare, plain);
    }
}
