//! What the sweeper knows: the channels' claims, what blocks took of them, its own versions.

use super::plan::Waits;
use super::signing::Commitments;
use super::version::Version;
use super::wanted::{Order, Parent, Wanted};
use crate::chain::ChainEvent;
use bitcoin::{Block, OutPoint, ScriptBuf, Txid};
use fulmen_channel::amount::{FeeratePerKw, Height, Sat};
use fulmen_channel::onchain::claim::Claim;
use fulmen_channel::onchain::published::Published;
use fulmen_channel::protocol::settling::Bump;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A commitment in a block, and what we may take of what it left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnChain {
    /// The commitment.
    pub published: Published,
    /// The claims.
    pub claims: Vec<Claim>,
}

/// A claim as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// It.
    pub wanted: Wanted,
    /// The version that takes it.
    pub version: Option<Version>,
    /// Why there is none, or why there is no later one.
    pub waits: Option<Waits>,
}

impl Pending {
    /// The feerate that was offered last.
    pub fn feerate(&self) -> Option<FeeratePerKw> {
        self.version.as_ref().map(Version::feerate)
    }
}

/// Blocks after which a version without claims is given up: what took F in another way is deep by
/// then. One that is in a block itself is settled long before.
const IDLE: u32 = 12;

/// What one channel told.
#[derive(Default)]
struct Told {
    on_chain: Option<(Arc<Published>, Vec<Claim>)>,
    bump: Option<(Arc<Published>, Wanted)>,
}

/// See the module.
#[derive(Default)]
pub struct Known {
    channels: BTreeMap<u64, Told>,
    height: Height,
    /// Claims that a block takes, until their channel tells so too.
    spent: BTreeMap<OutPoint, Height>,
    versions: BTreeMap<Txid, Version>,
    /// Versions that can never confirm, since a block holds something else.
    beaten: BTreeSet<Txid>,
    /// Versions whose claims nobody tells of any more, and since when: what they spend is not in
    /// the chain, as F was spent in another way. No block will ever say so of themselves.
    idle: BTreeMap<Txid, Height>,
    /// Versions that are deep, or a conflict of theirs is: their rows may go.
    settled: BTreeSet<Txid>,
    orders: BTreeMap<OutPoint, Order>,
    /// What bitcoind refused since the last block: what it must pay at least, each alone.
    refused: BTreeMap<OutPoint, Sat>,
    /// What the last plan says of what is not published.
    pub(super) waits: BTreeMap<OutPoint, Waits>,
}

/// What is to be planned: see [`super::plan::World`].
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The best block.
    pub height: Height,
    /// What is to be taken.
    pub wanted: Vec<Wanted>,
    /// The commitments that it is on.
    pub published: Commitments,
    /// What was published and is not settled.
    pub versions: Vec<Version>,
}

impl Known {
    /// After a start, with the versions that are not settled, the best block being `height`.
    pub fn new(versions: Vec<Version>, height: Height) -> Self {
        let versions = versions.into_iter().map(|version| (version.txid(), version)).collect();
        Known { versions, height, ..Known::default() }
    }

    /// All that a channel may take, now or later. Whether that is news.
    pub fn claims(&mut self, channel: u64, on_chain: Option<OnChain>) -> bool {
        let on_chain = on_chain.map(|OnChain { published, claims }| (Arc::new(published), claims));
        let told = self.channels.entry(channel).or_default();
        let news = told.on_chain != on_chain;
        told.on_chain = on_chain;
        self.forget_gone();
        news
    }

    /// A channel's commitment that waits for a block, if there is one. Whether that is news.
    pub fn bump(&mut self, channel: u64, bump: Option<Bump>) -> bool {
        let bump = bump.map(|bump| {
            let claim = Claim { until: bump.deadline, ..bump.anchor };
            let parent = Some(Parent { tx: bump.commitment, fee: bump.fee });
            let Bump { at_risk, patient, .. } = bump;
            let wanted = Wanted { at_risk, patient, parent, ..Wanted::new(channel, claim) };
            (Arc::new(bump.published), wanted)
        });
        let told = self.channels.entry(channel).or_default();
        let news = told.bump != bump;
        told.bump = bump;
        self.forget_gone();
        news
    }

    /// Orders and verdicts about what is not there any more.
    fn forget_gone(&mut self) {
        let present = self.told();
        self.orders.retain(|outpoint, _| present.contains(outpoint));
        self.waits.retain(|outpoint, _| present.contains(outpoint));
        self.refused.retain(|outpoint, _| present.contains(outpoint));
        self.spent.retain(|outpoint, _| present.contains(outpoint));
    }

    /// Every claim that was told, whatever blocks say.
    fn each(&self) -> impl Iterator<Item = (&Arc<Published>, Wanted)> {
        self.channels.iter().flat_map(|(channel, told)| {
            let claims = told.on_chain.iter().flat_map(move |(published, claims)| {
                let wanted = move |claim: &Claim| (published, Wanted::new(*channel, claim.clone()));
                claims.iter().map(wanted)
            });
            let bump = told.bump.iter().map(|(published, wanted)| (published, wanted.clone()));
            claims.chain(bump)
        })
    }

    /// What happened on chain. Whether there is something to plan anew.
    pub fn chain_event(&mut self, event: &ChainEvent) -> bool {
        match event {
            ChainEvent::Connected { at, block, settled, .. } => {
                self.height = at.height;
                self.refused.clear();
                self.block(block, at.height);
                let ours = settled.iter().filter(|txid| self.versions.contains_key(*txid));
                self.settled.extend(ours);
                self.give_up_idle();
                true
            }
            ChainEvent::Disconnected { at, .. } => {
                self.height = at.height.minus(1);
                self.spent.retain(|_, height| *height < at.height);
                true
            }
            ChainEvent::Up => true,
            _ => false,
        }
    }

    /// What the claims that were told spend.
    fn told(&self) -> BTreeSet<OutPoint> {
        self.each().map(|(_, wanted)| wanted.outpoint()).collect()
    }

    /// Whether all that a version takes is still to be taken.
    pub fn asks_for(&self, version: &Version) -> bool {
        let told = self.told();
        let free = |claim| told.contains(claim) && !self.spent.contains_key(claim);
        version.claims.iter().all(|(_, claim)| free(claim))
    }

    /// Coins lent to what can never confirm are the wallet's again.
    fn give_up_idle(&mut self) {
        let told = self.told();
        let is_idle = |v: &Version| v.claims.iter().all(|(_, claim)| !told.contains(claim));
        let idle = self.versions.iter().filter(|(_, version)| is_idle(version));
        let idle: BTreeMap<Txid, Height> = idle
            .map(|(txid, _)| (*txid, self.idle.get(txid).copied().unwrap_or(self.height)))
            .collect();
        let over = idle.iter().filter(|(_, since)| since.plus(IDLE) <= self.height);
        self.beaten.extend(over.map(|(txid, _)| *txid));
        self.idle = idle;
    }

    fn block(&mut self, block: &Block, height: Height) {
        let claims = self.told();
        let mut ours: BTreeMap<OutPoint, Vec<Txid>> = BTreeMap::new();
        for (txid, version) in &self.versions {
            for input in &version.tx.input {
                ours.entry(input.previous_output).or_default().push(*txid);
            }
        }
        for tx in &block.txdata {
            for input in &tx.input {
                let spent = input.previous_output;
                if claims.contains(&spent) {
                    self.spent.insert(spent, height);
                }
                if let Some(versions) = ours.get(&spent) {
                    let txid = tx.compute_txid();
                    self.beaten.extend(versions.iter().filter(|version| **version != txid));
                }
            }
        }
    }

    /// What the operator wants for a claim. Whether there is one.
    pub fn order(&mut self, outpoint: OutPoint, order: Order) -> bool {
        let found = self.each().any(|(_, wanted)| wanted.outpoint() == outpoint);
        if found {
            self.orders.insert(outpoint, order);
        }
        found
    }

    /// Everything that is to be taken.
    pub fn pending(&self) -> Vec<Pending> {
        let of = |outpoint: &OutPoint| {
            let takes = |version: &&Version| version.claims.iter().any(|(_, c)| c == outpoint);
            self.versions.values().filter(takes).max_by_key(|version| version.fee).cloned()
        };
        let pending = self.ordered().map(|(_, wanted)| {
            let outpoint = wanted.outpoint();
            let waits = self.waits.get(&outpoint).copied();
            Pending { version: of(&outpoint), waits, wanted }
        });
        pending.collect()
    }

    fn ordered(&self) -> impl Iterator<Item = (&Arc<Published>, Wanted)> {
        self.each().map(|(published, wanted)| {
            let outpoint = wanted.outpoint();
            let order = self.orders.get(&outpoint).copied().unwrap_or_default();
            let refused = self.refused.get(&outpoint).copied();
            (published, Wanted { order, refused, ..wanted })
        })
    }

    /// What is to be planned now.
    pub fn snapshot(&self) -> Snapshot {
        let free = |wanted: &Wanted| !self.spent.contains_key(&wanted.outpoint());
        let (mut wanted, mut published) = (Vec::new(), BTreeMap::new());
        for (on, claim) in self.ordered().filter(|(_, wanted)| free(wanted)) {
            published.insert(claim.outpoint(), on.clone());
            wanted.push(claim);
        }
        Snapshot {
            height: self.height,
            wanted,
            published,
            versions: self.versions().cloned().collect(),
        }
    }

    /// What was published and is not settled.
    pub fn versions(&self) -> impl Iterator<Item = &Version> {
        self.versions.values()
    }

    /// The wallet says that these versions lost a coin that they spend: it came from a transaction
    /// that a block holds a rival of.
    pub fn lost(&mut self, txids: impl IntoIterator<Item = Txid>) {
        self.beaten.extend(txids);
    }

    /// Versions that are over; `true` for those that something else in a block makes impossible.
    pub fn over(&mut self) -> Vec<(Version, bool)> {
        let beaten = std::mem::take(&mut self.beaten).into_iter().map(|txid| (txid, true));
        let settled = std::mem::take(&mut self.settled).into_iter().map(|txid| (txid, false));
        let over: Vec<(Txid, bool)> = beaten.chain(settled).collect();
        over.into_iter()
            .filter_map(|(txid, beaten)| Some((self.versions.remove(&txid)?, beaten)))
            .collect()
    }

    /// bitcoind does not take `version`: of several claims each is tried alone, for one a quarter
    /// more is offered if it asks for `more`. Whether there is something to plan anew.
    pub fn refused(&mut self, version: &Version, more: bool) -> bool {
        let raised = Sat::new(version.fee.sat().saturating_mul(5) / 4);
        match version.claims.as_slice() {
            [(_, claim)] if more => drop(self.refused.insert(*claim, raised)),
            [_] => return false,
            several => {
                self.refused.extend(several.iter().map(|(_, claim)| (*claim, Sat::ZERO)));
            }
        }
        true
    }

    /// Versions of several claims that no block decided on: whoever can take one of these may drive
    /// the version out of the mempool.
    pub fn batches(&self) -> Vec<Version> {
        let free = |(_, claim): &(u64, OutPoint)| !self.spent.contains_key(claim);
        let stands = |version: &&Version| version.claims.iter().all(free);
        let versions = self.versions.values().filter(|version| version.claims.len() > 1);
        versions.filter(stands).cloned().collect()
    }

    /// A version is durable.
    pub fn add(&mut self, version: Version) {
        self.versions.insert(version.txid(), version);
    }

    /// Where what is left over of a version goes.
    pub fn script_of(&self, txid: &Txid) -> Option<ScriptBuf> {
        self.versions.get(txid)?.script().cloned()
    }

    /// A version is given up.
    pub fn remove(&mut self, txid: &Txid) -> Option<Version> {
        self.versions.remove(txid)
    }

    /// Versions that pay for a commitment that no block holds.
    pub fn packages(&self) -> Vec<Version> {
        let waiting: BTreeSet<OutPoint> = (self.each())
            .filter(|(_, wanted)| wanted.parent.is_some())
            .map(|(_, wanted)| wanted.outpoint())
            .collect();
        let pays = |version: &&Version| version.claims.iter().any(|(_, c)| waiting.contains(c));
        self.versions.values().filter(pays).cloned().collect()
    }
}
