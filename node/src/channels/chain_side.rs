//! The chain's side of a channel's task: how deep F is, who spent it, our own balance coming back.

use super::driver::Driver;
use super::record::{
    load_penalties, short_channel_id, ChannelRecord, SpendKind, SpentRecord, WATCHED,
};
use super::{policy, Action, CloseUpdate};
use crate::store::Unit;
use crate::sweeper::OnChain;
use bitcoin::{OutPoint, Transaction, Txid};
use fulmen_channel::amount::{Height, Sat};
use fulmen_channel::input::{Command, Input};
use fulmen_channel::onchain::outcome::What;
use fulmen_channel::output::Spend;
use fulmen_channel::params::{CommitmentFormat, Side};
use fulmen_channel::protocol::open::Open;
use fulmen_channel::protocol::settling::DEPTH;

/// Blocks before the last that was processed in which what concerns a channel is looked for again
/// after a start: its rows are written a little later than the block is.
pub(super) const LOOK_BACK: u32 = 144;

impl Driver {
    pub(super) fn block(&mut self, height: Height) {
        self.height = height;
        self.tell(Input::Block(height));
        let known = self.record.as_ref().and_then(|record| record.funding_block);
        if let Some((block, tx_index)) = known {
            self.depth(block, tx_index);
        }
        self.close_if_over();
        if self.record.as_ref().is_some_and(|record| policy::is_overdue(record, height)) {
            self.give_up_waiting();
        }
    }

    /// F did not come within 2,016 blocks: what is not ours yet is forgotten, a zero-conf channel
    /// that was used takes no more payments (BOLT 2, channel_ready).
    fn give_up_waiting(&mut self) {
        let why = "the funding transaction did not confirm within 2016 blocks".to_owned();
        let open = self.channel.funded().filter(|open| open.life.failed.is_none());
        match open.map(|open| (open.may_be_forgotten(), open.contract.params.zero_conf())) {
            Some((true, _)) => self.tell(Input::Command(Command::Abandon(why))),
            Some((false, true)) => self.tell(Input::Command(Command::ForceClose(why))),
            _ => {}
        }
    }

    pub(super) fn unblock(&mut self, height: Height) {
        self.height = height.minus(1);
        self.tell(Input::Unblock(height));
        let Some(record) = &mut self.record else { return };
        // What spent F may never come back, and something else may come in its place: until then
        // the channel is not history.
        let closed = record.unblock_spent(height);
        let unfunded = record.funding_block.is_some_and(|(block, _)| block >= height);
        if unfunded {
            record.funding_block = None;
            // It is waited for anew, and cannot come back in an older block.
            record.opened_height = record.opened_height.max(height.minus(1));
        }
        if closed || unfunded {
            self.save_record();
        }
        if unfunded {
            self.tell(Input::FundingDepth { confirmations: 0, short_channel_id: 0 });
        }
    }

    pub(super) fn funding_confirmed(&mut self, tx: Box<Transaction>, height: Height, index: u32) {
        self.tell(Input::FundingFound(tx));
        if self.channel.funded().is_none() {
            // It was not what was agreed: nothing of it is to be kept.
            return;
        }
        if let Some(record) = &mut self.record {
            record.funding_block = Some((height, index));
            let accepted = !record.initiator;
            self.save_record();
            if accepted {
                self.warn_of_missing_reserve();
            }
        }
        self.depth(height, index);
    }

    /// Tells the contract how deep F is.
    pub(super) fn depth(&mut self, block: Height, tx_index: u32) {
        let Some(open) = self.channel.funded() else { return };
        let scid = short_channel_id(block, tx_index, open.contract.funding.outpoint);
        let past = self.height.number().checked_sub(block.number());
        let confirmations = past.map_or(0, |past| past.saturating_add(1));
        self.tell(Input::FundingDepth { confirmations, short_channel_id: scid });
    }

    pub(super) fn spent_in_block(&mut self, outpoint: OutPoint, tx: Transaction, height: Height) {
        if let Some(record) = &mut self.record {
            if record.outpoint != outpoint {
                return self.tell(Input::OutputSpent { tx: Box::new(tx), height });
            }
            let txid = tx.compute_txid();
            let kind = SpendKind::Other;
            let (limbo, matures_at, settled) = (Sat::ZERO, None, Sat::ZERO);
            let spent = SpentRecord { txid, height, kind, limbo, matures_at, settled };
            record.spent = Some(record.spent.filter(|known| known.txid == txid).unwrap_or(spent));
            if let Some(spent) = &mut record.spent {
                spent.height = height;
            }
        }
        self.spent_by = Some(tx.clone());
        match load_penalties(&self.services().store, self.index) {
            Ok(records) => {
                let tx = Box::new(tx);
                self.tell(Input::FundingSpent { tx, height, records });
            }
            // It comes again after a restart.
            Err(error) => tracing::error!(channel = self.index, "F is spent: {error}"),
        }
    }

    /// Outputs of a commitment, and of what spends them: what happens to them decides what is ours.
    /// Each is asked for once: blocks that were read for it need not be there any more.
    pub(super) fn watch_outputs(&mut self, outpoints: Vec<(OutPoint, Height)>) {
        // What older blocks hold is on disk.
        let near = if self.starts { self.height.minus(LOOK_BACK) } else { Height::new(0) };
        for (outpoint, since) in outpoints {
            if self.watched.insert(outpoint) {
                self.services().registry.watch(self.index, outpoint);
                self.services().chain.watch_spend(outpoint, since.max(near));
            }
        }
    }

    /// Who wait for the close are told of it when it is in the history that they ask for next.
    pub(super) fn spent(&mut self, spend: Spend, txid: Txid, unit: &mut Unit) -> Action {
        let open = self.channel.funded();
        let mutual = self.spent_by.as_ref().filter(|_| spend == Spend::Mutual);
        let shares = open.zip(mutual).map(|(open, tx)| open.shares_in(tx).map(|out| out.cloned()));
        let shares = shares.unwrap_or_default();
        let unknown = self.spent_by.as_ref().filter(|_| spend == Spend::Unknown);
        let found = unknown.map(|tx| self.services().funds.paid_by(tx));
        let begun_by = open.and_then(|open| open.closing.begun_by);
        // An HTLC keeps the channel, so that no payment counts as failed that may still succeed.
        let balance = open.and_then(|open| open.onchain.resolution.as_ref()).and_then(|chain| {
            let outcomes = chain.outcomes();
            outcomes.into_iter().find(|outcome| outcome.what == What::Balance)
        });
        if let Some(ChannelRecord { spent: Some(spent), closed, close_initiator, .. }) =
            &mut self.record
        {
            spent.kind = spend.into();
            *close_initiator = match spend {
                Spend::Mutual => begun_by,
                Spend::Local => Some(Side::Local),
                Spend::Remote | Spend::Revoked | Spend::Other => Some(Side::Remote),
                Spend::Unknown => None,
            };
            let [ours, _] = &shares;
            let shared = ours.as_ref().map(|out| out.value.into());
            spent.settled = shared.or(balance.map(|it| it.value)).or(found).unwrap_or_default();
            *closed |= matches!(spend, Spend::Mutual | Spend::Unknown);
        }
        if let Some(record) = &self.record {
            record.put(unit);
        }
        self.abandon_if_behind();
        self.note_reserve();
        let htlcs = open.into_iter().flat_map(|open| open.contract.htlcs.values());
        let in_flight = htlcs.map(|htlc| htlc.amount.floor()).reduce(Sat::saturating_add);
        let in_flight = in_flight.unwrap_or_default();
        match (found, told(spend, in_flight)) {
            (Some(found), _) => unknown_spend(self.index, txid, found),
            (_, Some((true, words))) => {
                tracing::error!(channel = self.index, "F IS SPENT BY {txid}: {words}");
            }
            (_, Some((false, words))) => {
                tracing::warn!(channel = self.index, "F is spent by {txid}: {words}");
            }
            _ => tracing::info!(channel = self.index, "F is spent by {txid}: {spend:?}"),
        }
        let watchers = std::mem::take(&mut self.close_watchers);
        Action::After(Box::new(move || {
            for watcher in watchers {
                // Whoever asked may be gone: its own affair.
                let _ = watcher.send(CloseUpdate::Confirmed { txid, shares: shares.clone() });
            }
        }))
    }

    /// Nothing of the channel is left, and no reorganisation that we count with changes that.
    pub(super) fn is_history(&self) -> bool {
        let Some(ChannelRecord { closed: true, spent: Some(spent), .. }) = &self.record else {
            return false;
        };
        let spent_deep = spent.height.plus(WATCHED) <= self.height;
        let open = self.channel.funded();
        let is_over = open.and_then(|open| open.is_resolved(WATCHED));
        // As long as the channel is there, what was paid over it does not count as failed.
        spent_deep && is_over.unwrap_or(true) && !open.is_some_and(Open::owes_fates)
    }

    /// Whether nothing of ours is left, as far as the best chain says: F went to both as agreed, or
    /// of the commitment that spent it nothing is ours to take, or all of it is taken, deep.
    fn is_closed(&self) -> bool {
        let spent = self.record.as_ref().and_then(|record| record.spent);
        let (Some(spent), Some(open)) = (spent, self.channel.funded()) else { return false };
        let no_claims = || open.claims().is_none_or(|(_, claims)| claims.is_empty());
        let bare = || open.contract.htlcs.is_empty() && no_claims();
        let resolved = || open.is_resolved(DEPTH) == Some(true);
        match spent.kind {
            SpendKind::Mutual | SpendKind::Unknown => true,
            SpendKind::Other => resolved(),
            SpendKind::Local | SpendKind::Remote | SpendKind::Revoked => bare() || resolved(),
        }
    }

    /// Our state turned out to be old, and our commitment may have been sent before anybody knew:
    /// it is not sent again.
    fn abandon_if_behind(&self) {
        if !self.channel.funded().is_some_and(|open| open.life.behind) {
            return;
        }
        if let (Some(ours), _) = self.channel.commitments() {
            self.services().chain.abandon(ours.txid);
        }
    }

    /// What there is to take on chain has changed.
    pub(super) fn claims_changed(&mut self) {
        self.abandon_if_behind();
        self.tell_sweeper();
        let claims = self.channel.funded().and_then(Open::claims);
        let claims = claims.map(|(_, claims)| claims).unwrap_or_default();
        let limbo = claims.iter().fold(Sat::ZERO, |sum, c| sum.saturating_add(c.spend.value()));
        let delivery = self.channel.funded().and_then(Open::delivery);
        let (matures_at, is_closed) = (delivery.map(|claim| claim.from), self.is_closed());
        if let Some(ChannelRecord { spent: Some(spent), closed, .. }) = &mut self.record {
            (spent.limbo, spent.matures_at) = (limbo, matures_at.or(spent.matures_at));
            // A reorganisation may bring back what was taken.
            *closed = is_closed;
            self.save_record();
        }
    }

    /// Once all that a commitment left is taken, deep in the chain, the channel is closed.
    fn close_if_over(&mut self) {
        let was = self.record.as_ref().is_none_or(|record| record.closed);
        if was || !self.is_closed() {
            return;
        }
        if let Some(record) = &mut self.record {
            record.closed = true;
        }
        self.save_record();
    }

    /// What there is to take on chain, and what to pay for.
    pub(in crate::channels) fn tell_sweeper(&self) {
        let Some(open) = self.channel.funded() else { return };
        let claims = open.claims().map(|(published, claims)| {
            let published = published.clone();
            OnChain { published, claims }
        });
        self.services().sweeper.claims(self.index, claims);
        self.services().sweeper.bump(self.index, self.channel.bump());
    }

    /// Tells whether the wallet must keep a reserve to bump this channel's fees (rules 3.9): with
    /// anchors, until nothing of it is left to take. HT and HE need coins after F is spent.
    pub(super) fn note_reserve(&self) {
        let format = self.channel.funded().map(|open| open.contract.params.format);
        let closed = self.record.as_ref().is_some_and(|record| record.closed);
        let needed = format != Some(CommitmentFormat::StaticRemoteKey) && !closed;
        self.services().registry.set_reserve(self.index, needed);
    }

    /// Tells whether F of a peer's channel is in no block: it may never be. A zero-conf channel is
    /// of a peer that the operator trusts, and used as it is.
    pub(in crate::channels) fn note_promise(&self) {
        let (Some(record), Some(open)) = (&self.record, self.channel.funded()) else { return };
        let waits = record.funding_block.is_none() && !open.contract.params.zero_conf();
        self.services().registry.set_promised(self.index, waits && !record.initiator);
    }

    pub(super) fn save_record(&mut self) {
        self.note_reserve();
        self.note_promise();
        let record = self.record.clone();
        self.carry(|unit| {
            if let Some(record) = record {
                record.put(unit);
            }
        });
        self.flush_soon();
    }
}

/// What the operator must hear of a close (BOLT 5: of funds that may be lost), and whether it costs
/// money for sure. `in_flight`: what HTLCs hold.
fn told(spend: Spend, in_flight: Sat) -> Option<(bool, String)> {
    match spend {
        Spend::Other => Some((
            true,
            format!(
                "the peer's commitment is newer than what this database knows, which is an old \
                 copy or damaged. Our balance on it is claimed; what HTLCs on it hold cannot be, \
                 nor told. {in_flight} are in HTLCs that we know of: these payments stay in flight"
            ),
        )),
        Spend::Revoked => Some((
            false,
            "the peer published a commitment that it had revoked, a breach. All of it is claimed \
             by penalties: keep the node and bitcoind running until the channel is closed, as what \
             is not in a block when the peer's delay ends is lost"
                .to_owned(),
        )),
        _ => None,
    }
}

/// F is gone, and our books do not know how: says so, and what it brought.
pub(super) fn unknown_spend(channel: u64, txid: Txid, found: Sat) {
    tracing::error!(
        channel,
        "THE FUNDING OUTPUT IS SPENT BY AN UNKNOWN TRANSACTION, {txid}: it is no commitment and no \
         closing transaction that was agreed on here. Either this database is older than the \
         close, or somebody has our keys. It pays {found} to our wallet; nothing else is to be had"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_hears_of_money_that_may_be_lost() {
        let newer = told(Spend::Other, Sat::new(70_000));
        assert!(newer.is_some_and(|(lost, words)| lost && words.contains("70000")));
        let breach = told(Spend::Revoked, Sat::ZERO);
        assert!(breach.is_some_and(|(lost, words)| !lost && words.contains("breach")));
        for usual in [Spend::Mutual, Spend::Local, Spend::Remote] {
            assert_eq!(told(usual, Sat::new(70_000)), None);
        }
    }
}
