//! What is left of the tree of a channel of which only a backup is left: F, what spends it, and our
//! balance on that.

use super::grow::bare;
use super::{By, Node, Output, State, Title, What};
use crate::amount::{Height, Sat};
use crate::onchain::claim::{Claim, Name};
use crate::onchain::published::{Published, Role};
use crate::onchain::resolution::Resolution;
use crate::output::Spend;
use bitcoin::{OutPoint, Txid};

/// What there is to know of such a channel.
#[derive(Clone, Copy, Debug)]
pub struct Remains<'a> {
    /// F's output.
    pub funding: OutPoint,
    /// What it holds.
    pub capacity: Sat,
    /// The transaction in a block that spends F, its height, whose doing it is.
    pub spent: Option<(Txid, Height, Spend)>,
    /// What the chain did since, if that is a commitment.
    pub resolution: Option<&'a Resolution>,
    /// What takes our balance on it, whether something did or not.
    pub delivery: Option<&'a Claim>,
    /// The blocks that D waits.
    pub delay: u32,
    /// The best block.
    pub height: Height,
}

/// The tree, from F on.
pub fn of_restored(remains: &Remains<'_>) -> Node {
    let spend = match remains.spent {
        None => awaited(remains.delay),
        Some(spent) => spender(remains, spent),
    };
    let funding = Output {
        what: What::Funding,
        place: Some(remains.funding.vout),
        value: Some(remains.capacity),
        owner: By::Both,
        htlc: None,
        taken: remains.spent.map(|(txid, height, _)| (txid, height)),
        spends: vec![spend],
    };
    // Its block is not in the backup; what is spent is in one.
    let state = if remains.spent.is_some() { State::OnChain } else { State::Published };
    let txid = Some(remains.funding.txid);
    Node { txid, outputs: vec![funding], ..bare(Title::F, By::Both, state) }
}

/// The peer's latest commitment, which it is asked to publish: what it holds is not known.
fn awaited(delay: u32) -> Node {
    let delivery = claim(Name::D, delay);
    let output = balance(What::ToRemote, None, None, vec![delivery]);
    Node { outputs: vec![output], ..bare(Title::C, By::Them, State::Ready) }
}

fn spender(remains: &Remains<'_>, (txid, height, spend): (Txid, Height, Spend)) -> Node {
    let (title, by) = match spend {
        Spend::Mutual => (Title::ES, By::Both),
        Spend::Unknown => (Title::Unknown, By::Both),
        Spend::Local => (Title::C, By::Us),
        Spend::Remote | Spend::Other | Spend::Revoked => (Title::C, By::Them),
    };
    let published = remains.resolution.map(|resolution| &resolution.published);
    Node {
        txid: Some(txid),
        height: Some(height),
        number: published.map(|published| published.number),
        outputs: published.and_then(|published| ours(remains, published)).into_iter().collect(),
        ..bare(title, by, State::OnChain)
    }
}

/// Our balance on the commitment in the block, and what takes it.
fn ours(remains: &Remains<'_>, published: &Published) -> Option<Output> {
    let (place, (value, role)) = published.outputs.first_key_value()?;
    let due = remains.delivery?;
    let taken = remains.resolution?.taken.get(&due.spend.outpoint);
    let taken = taken.map(|taken| (taken.txid, taken.height));
    let ready = due.from <= remains.height.plus(1);
    let delay = due.from.number().saturating_sub(remains.resolution?.height.number());
    let node = Node { from: Some(due.from), ..claim(due.name, delay) };
    let delivery = match taken {
        Some((txid, height)) => {
            Node { state: State::OnChain, txid: Some(txid), height: Some(height), ..node }
        }
        None if ready => Node { state: State::Ready, ..node },
        None => node,
    };
    let what = if *role == Role::ToLocal { What::ToLocal } else { What::ToRemote };
    let output = balance(what, Some(*place), Some(*value), vec![delivery]);
    Some(Output { taken, ..output })
}

fn claim(name: Name, delay: u32) -> Node {
    Node { delay, ..bare(Title::Claim(name), By::Us, State::Waits) }
}

fn balance(what: What, place: Option<u32>, value: Option<Sat>, spends: Vec<Node>) -> Output {
    Output { what, place, value, owner: By::Us, htlc: None, taken: None, spends }
}
