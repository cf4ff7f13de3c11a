//! What a channel tells about itself: for the API and for choosing where a payment goes.

use super::driver::Driver;
use super::{FundedSnapshot, HtlcSnapshot, Snapshot};
use bitcoin::{Transaction, Txid};
use fulmen_channel::amount::Sat;
use fulmen_channel::contract::balance::View;
use fulmen_channel::contract::htlc::Stage;
use fulmen_channel::contract::sign::Draft;
use fulmen_channel::onchain::outcome::{Ended, What};
use fulmen_channel::onchain::resolution::Resolution;
use fulmen_channel::params::Side;
use fulmen_channel::protocol::open::{Link, Open};
use fulmen_channel::transactions::weight;

impl Driver {
    pub(super) fn snapshot(&self) -> Snapshot {
        let open = self.channel.funded();
        Snapshot {
            index: self.index,
            peer: self.peer,
            channel_id: self.channel.channel_id(),
            phase: match &self.record {
                Some(record) if record.closed => "closed",
                _ => open.map_or("opening", Open::phase_name),
            },
            active: open.is_some_and(|open| open.link == Link::Up),
            funded: open.map(|open| self.funded_snapshot(open)),
            restored: None,
        }
    }

    fn funded_snapshot(&self, open: &Open) -> FundedSnapshot {
        let contract = &open.contract;
        let content = contract.content(Side::Local, View::Signed);
        let htlc = |((by, id), htlc): (&(Side, u64), &fulmen_channel::contract::htlc::Htlc)| {
            HtlcSnapshot {
                by: *by,
                id: *id,
                amount: htlc.amount,
                payment_hash: htlc.payment_hash,
                cltv_expiry: htlc.cltv_expiry,
                locked_in: htlc.stage >= Stage::Locked,
            }
        };
        let local = self.channel.commitments().0;
        let told = |draft: Draft| (draft.tx.txid, draft.tx.base_fee);
        let latest = told(contract.remote_draft());
        let before = contract.remote_draft_before().map(told);
        let spent = self.record.as_ref().and_then(|record| record.spent);
        let es = open.settlements().pop().filter(|_| spent.is_none()).cloned();
        let closing_tx = es.or_else(|| self.channel.forced());
        let published = closing_tx.as_ref().map(Transaction::compute_txid);
        let now = tokio::time::Instant::now();
        let kept = local.as_ref().map_or(0, |draft| draft.htlcs.len());
        FundedSnapshot {
            outpoint: contract.funding.outpoint,
            capacity: contract.funding.capacity,
            params: contract.params.clone(),
            short_channel_id: open.life.short_channel_id,
            listed_as: open.listed_as(),
            told_as: open.told_as(),
            aliases: open.aliases.clone(),
            remote_alias: open.life.remote_alias,
            local: content.balances.local,
            remote: content.balances.remote,
            spendable: self.channel.spendable(),
            receivable: contract.receivable(),
            feerate: content.feerate,
            commit_fee: local.as_ref().map_or(Sat::ZERO, |draft| draft.base_fee),
            commit_weight: weight::commitment(contract.params.format, kept),
            updates: contract.state.local_number,
            revoked: contract.revocations.next(),
            htlcs: contract.htlcs.iter().map(htlc).collect(),
            confirmations: open.confirmations(),
            totals: self.record.as_ref().map(|record| record.totals).unwrap_or_default(),
            closing_txid: spent.map(|spent| spent.txid).or(published),
            closing_tx,
            close_script: (contract.params.local.upfront_shutdown_script.clone())
                .or_else(|| open.life.close_wanted.clone())
                .or_else(|| open.life.shutdown_sent.clone()),
            closing_height: spent.map(|spent| spent.height),
            failed: open.life.failed.clone(),
            behind: open.life.behind,
            remote_update: self.announcer.remote_update.clone(),
            limbo: spent.map_or(Sat::ZERO, |spent| spent.limbo),
            recovered: recovered(open),
            anchor_taken_by: anchor_taken_by(open),
            matures_at: spent.and_then(|spent| spent.matures_at),
            note: self.note.clone(),
            looked_at: self.presence.looked_at(now),
            with_peer: self.presence.with_peer(now),
            local_txid: local.map_or(contract.funding.outpoint.txid, |draft| draft.txid),
            remote_commitment: before.unwrap_or(latest),
            remote_pending: before.map(|_| latest),
        }
    }
}

/// What took our anchor.
fn anchor_taken_by(open: &Open) -> Option<Txid> {
    let outcomes = open.onchain.resolution.as_ref()?.outcomes();
    outcomes.into_iter().find(|outcome| outcome.what == What::Anchor)?.taken_by
}

/// What of ours was taken of the commitment in the block, and of its second stages.
fn recovered(open: &Open) -> Sat {
    let outcomes = open.onchain.resolution.as_ref().map(Resolution::outcomes).unwrap_or_default();
    let ours = outcomes.iter().filter(|outcome| {
        matches!(
            (outcome.what, outcome.ended),
            (What::Balance | What::Incoming, Ended::Claimed) | (What::Outgoing, Ended::TimedOut)
        )
    });
    ours.fold(Sat::ZERO, |sum, outcome| sum.saturating_add(outcome.value))
}
