//! A channel's transactions and what its HTLCs ask for, and by which names it is found: for people
//! who look at it.

use super::driver::Driver;
use super::record::{load_row, load_rows, ChannelRecord, SpendKind};
use super::services::Services;
use super::ToChannel;
use crate::backup::RestoredRecord;
use crate::store::StoreError;
use bitcoin::secp256k1::PublicKey;
use bitcoin::OutPoint;
use fulmen_channel::amount::{Height, Sat};
use fulmen_channel::changeset::Row;
use fulmen_channel::channel::Channel;
use fulmen_channel::contract::htlc::Htlc;
use fulmen_channel::input::Input;
use fulmen_channel::keys::InMemorySigner;
use fulmen_channel::onchain::deadline::Why;
use fulmen_channel::onchain::resolution::OnChain;
use fulmen_channel::onchain::tree;
use fulmen_channel::protocol::open::{Link, Open};
use fulmen_channel::transactions::commitment::HtlcRef;
use lightning::ln::types::ChannelId;
use tokio::sync::oneshot;

/// A channel to look at.
#[derive(Clone, Debug)]
pub struct Explained {
    /// Its peer.
    pub peer: PublicKey,
    /// Its id.
    pub channel_id: ChannelId,
    /// F's output.
    pub outpoint: OutPoint,
    /// The name it is listed under, and the others: aliases of either side, its place in the chain.
    pub names: (Option<u64>, Vec<u64>),
    /// One word for where it is.
    pub phase: &'static str,
    /// The peer is connected.
    pub active: bool,
    /// The best block.
    pub height: Height,
    /// Its transactions.
    pub tree: tree::Node,
    /// Its HTLCs.
    pub stakes: Vec<Stake>,
    /// Why it failed.
    pub failed: Option<String>,
    /// What a close would be for; once a commitment is in a block, what of it is ours only until
    /// somebody else may take it.
    pub at_risk: Sat,
}

/// An HTLC and what it asks for.
#[derive(Clone, Debug)]
pub struct Stake {
    /// Which one.
    pub tag: HtlcRef,
    /// What it says.
    pub htlc: Htlc,
    /// When we would close for it, and why.
    pub close_at: Option<(Height, Why)>,
    /// What it would bring on chain.
    pub gain: Option<Sat>,
}

impl Explained {
    /// Of a channel that is funded.
    fn of(
        channel: &Channel,
        record: &ChannelRecord,
        phase: &'static str,
        height: Height,
    ) -> Option<Self> {
        let open = channel.funded()?;
        let mut tree = channel.tree()?;
        if let Some(spent) = record.spent.filter(|spent| spent.kind == SpendKind::Unknown) {
            tree.spent_by_unknown(spent.txid);
        }
        let stake = |(tag, case): (HtlcRef, fulmen_channel::onchain::deadline::Case<'_>)| Stake {
            tag,
            htlc: case.htlc.clone(),
            close_at: case.close_at(),
            gain: case.gain(),
        };
        let stakes: Vec<Stake> = open.cases().map(stake).collect();
        let life = &open.life;
        let others = life.short_channel_id.iter().chain(&life.remote_alias).chain(&open.aliases);
        Some(Explained {
            peer: record.peer,
            channel_id: open.channel_id(),
            outpoint: open.contract.funding.outpoint,
            names: (open.listed_as(), others.copied().collect()),
            phase,
            active: open.link == Link::Up,
            height,
            tree,
            at_risk: at_risk(open, &stakes),
            stakes,
            failed: life.failed.clone(),
        })
    }

    /// Of a channel of which only a backup is left.
    pub(super) fn of_restored(
        (record, onchain): (&RestoredRecord, &OnChain),
        signer: &InMemorySigner,
        (phase, active): (&'static str, bool),
        height: Height,
    ) -> Self {
        let (backup, channel) = (&record.backup, record.backup.restored());
        let spent = record.spent.map(|spent| (spent.txid, spent.height, spent.kind.into()));
        Explained {
            peer: backup.peer,
            channel_id: channel.channel_id(),
            outpoint: backup.outpoint,
            names: (None, Vec::new()),
            phase,
            active,
            height,
            tree: channel.tree(backup.capacity, spent, (onchain, height), signer),
            stakes: Vec::new(),
            failed: None,
            at_risk: Sat::ZERO,
        }
    }

    /// When and for which HTLC we would close it; none once it is closing.
    pub fn next_close(&self) -> Option<(Height, Why, &Stake)> {
        let closing = matches!(self.phase, "failed" | "closing" | "closed");
        let due = self.stakes.iter().filter(|_| !closing).filter_map(|stake| {
            let (height, why) = stake.close_at?;
            Some((height, why, stake))
        });
        due.min_by_key(|(height, _, stake)| (*height, stake.tag))
    }
}

fn at_risk(open: &Open, stakes: &[Stake]) -> Sat {
    let sum = |values: &mut dyn Iterator<Item = Sat>| values.fold(Sat::ZERO, Sat::saturating_add);
    match open.claims() {
        Some((_, claims)) => {
            let contested = claims.iter().filter(|claim| claim.until.is_some());
            sum(&mut contested.map(|claim| claim.spend.value()))
        }
        None => {
            let stakes = stakes.iter().filter(|stake| stake.close_at.is_some());
            sum(&mut stakes.map(|stake| stake.htlc.amount.floor()))
        }
    }
}

impl Driver {
    pub(super) fn explained(&self) -> Option<Explained> {
        let record = self.record.as_ref()?;
        Explained::of(&self.channel, record, self.snapshot().phase, self.height)
    }
}

/// Every channel that is not history.
pub async fn live(services: &Services) -> Vec<Explained> {
    let mut all = Vec::new();
    for handle in services.registry.all() {
        let (reply, answer) = oneshot::channel();
        handle.tell(ToChannel::Explain(reply)).await;
        all.extend(answer.await.ok().flatten());
    }
    all
}

/// The channel that is called so, whether it is history or not.
///
/// # Errors
/// [`StoreError`] when the database cannot be read.
pub async fn find(services: &Services, name: &Name) -> Result<Option<Explained>, StoreError> {
    if let Some(found) = live(services).await.into_iter().find(|it| name.fits(it)) {
        return Ok(Some(found));
    }
    let height = services.chain.tip().height;
    let records = ChannelRecord::load_all(&services.store)?;
    for record in records.iter().filter(|record| record.history) {
        let rows = load_rows(&services.store, record.index)?;
        let signer = Box::new(InMemorySigner::from_seed(services.keys.channel_seed(record.index)));
        let Ok(mut channel) = Channel::restore(&rows, signer, services.curve.clone()) else {
            continue;
        };
        // What it wants to do about this block stays inside: it is only looked at.
        let _ = channel.handle(Input::Block(height));
        let explained = Explained::of(&channel, record, "closed", height);
        if let Some(found) = explained.filter(|it| name.fits(it)) {
            return Ok(Some(found));
        }
    }
    let restored = RestoredRecord::load_all(&services.store)?;
    for record in restored.iter().filter(|record| record.is_history(height)) {
        let index = record.backup.index;
        let onchain = load_row(&services.store, index, Row::OnChain)?.unwrap_or_default();
        let signer = InMemorySigner::from_seed(services.keys.channel_seed(index));
        let state = ("closed", false);
        let found = Explained::of_restored((record, &onchain), &signer, state, height);
        if name.fits(&found) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// What somebody calls a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// F's output.
    Point(OutPoint),
    /// Its place in the chain, or an alias.
    Short(u64),
    /// Its id, or that of a transaction of its: in hex.
    Hash(String),
}

impl Name {
    /// Reads one: `txid:index`, a number, `BLOCKxTXxOUTPUT` or 64 digits of hex.
    pub fn parse(text: &str) -> Option<Name> {
        let text = text.trim().to_ascii_lowercase();
        if let Ok(point) = text.parse() {
            return Some(Name::Point(point));
        }
        if let Ok(number) = text.parse() {
            return Some(Name::Short(number));
        }
        let parts: Vec<u64> = text.split('x').map_while(|part| part.parse().ok()).collect();
        if let (true, [block, tx, output]) = (text.matches('x').count() == 2, parts.as_slice()) {
            let fits = *block < 1 << 24 && *tx < 1 << 24 && *output < 1 << 16;
            return fits.then_some(Name::Short(block << 40 | tx << 16 | output));
        }
        let is_hash = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then_some(Name::Hash(text))
    }

    /// The transaction of this channel that it names.
    pub fn txid(&self, channel: &Explained) -> Option<String> {
        let Name::Hash(hash) = self else { return None };
        let named = channel.tree.all().into_iter().filter_map(|node| node.txid);
        named.map(|txid| txid.to_string()).find(|txid| txid == hash)
    }

    fn fits(&self, channel: &Explained) -> bool {
        match self {
            Name::Point(point) => *point == channel.outpoint,
            Name::Short(number) => {
                channel.names.0 == Some(*number) || channel.names.1.contains(number)
            }
            Name::Hash(hash) => {
                *hash == hex::encode(channel.channel_id.0) || self.txid(channel).is_some()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_called_by_its_point_its_place_or_a_hash() {
        let hash = "8f1c2b3a".repeat(8);
        let point = OutPoint { txid: hash.parse().unwrap(), vout: 1 };
        let place = 103 << 40 | 1 << 16 | 1;
        for (text, name) in [
            (format!("{hash}:1"), Some(Name::Point(point))),
            (place.to_string(), Some(Name::Short(place))),
            ("103x1x1".into(), Some(Name::Short(place))),
            (format!(" {}\n", hash.to_uppercase()), Some(Name::Hash(hash.clone()))),
            (String::new(), None),
            ("103x1".into(), None),
            ("103x1x".into(), None),
            ("103x1x1x1".into(), None),
            ("16777216x1x1".into(), None),
            (hash[1..].into(), None),
            (format!("{hash}:"), None),
            ("alice".into(), None),
        ] {
            assert_eq!(Name::parse(&text), name, "{text}");
        }
    }
}
