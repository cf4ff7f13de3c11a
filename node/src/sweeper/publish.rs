//! From a draft to a version that bitcoind has: signed, durable, then sent.

use super::plan::Draft;
use super::signing::Commitments;
use super::version::{delete, Version};
use super::wanted::Wanted;
use super::Sweeper;
use crate::chain::BroadcastError;
use crate::clock::unix_time;
use crate::sends::{delete_broadcast, put_broadcast};
use crate::store::Unit;
use bitcoin::{OutPoint, Transaction, TxOut, Txid};
use fulmen_channel::keys::InMemorySigner;
use std::collections::BTreeMap;

impl Sweeper {
    /// Publishes a draft. Whether it is to be planned anew, since bitcoind wants more for it.
    pub(super) async fn publish(
        &self,
        draft: Draft,
        wanted: &[Wanted],
        published: &Commitments,
    ) -> Result<bool, String> {
        let mut unit = Unit::new();
        let replaces = draft.replaces.clone();
        let version = self.sign(draft, wanted, published, &mut unit)?;
        let (txid, tx) = (version.txid(), version.tx.clone());
        if !self.known().asks_for(&version) {
            // A block came while it was made: a child, say, whose parent needs it no more.
            self.commit(unit).await?;
            return Ok(true);
        }
        if version.parent.is_none() {
            // What will not be taken is not worth a row; that of its address is written all the
            // same, so that the disk sees every change of the wallet.
            let verdict = self.chain.test_accept(tx.clone()).await;
            if let Some(why) = verdict.ok().and_then(|verdict| verdict.refusal()) {
                self.commit(unit).await?;
                return Ok(self.refused(&version, &BroadcastError::Rejected(why)));
            }
        }
        version.put(&mut unit);
        put_broadcast(&mut unit, &tx);
        {
            let mut wallet = self.money.wallet();
            wallet.hold(&tx, &mut unit);
            wallet.mempool(&tx, unix_time(), &mut unit);
        }
        self.commit(unit).await?;
        self.known().add(version.clone());
        let sent = match version.parent.clone() {
            Some(parent) => self.chain.broadcast_package(parent, tx).await,
            None => self.chain.broadcast(tx).await,
        };
        match sent {
            Ok(()) => {
                let (fee, rate) = (version.fee, version.feerate());
                tracing::info!(%txid, claims = version.claims.len(), "published for {fee}, {rate}");
            }
            Err(error @ BroadcastError::Unreachable(_)) => tracing::warn!(%txid, "{error}"),
            Err(error) => {
                self.end(&[txid]).await?;
                return Ok(self.refused(&version, &error));
            }
        }
        self.end(&replaces).await?;
        self.money.tell_news();
        Ok(false)
    }

    /// Notes that bitcoind did not take a version. Whether another may help.
    fn refused(&self, version: &Version, why: &BroadcastError) -> bool {
        tracing::info!(txid = %version.txid(), "{} was refused: {why}", version.fee);
        self.known().refused(version, why.asks_for_more())
    }

    fn sign(
        &self,
        draft: Draft,
        wanted: &[Wanted],
        published: &Commitments,
        unit: &mut Unit,
    ) -> Result<Version, String> {
        let mut wallet = self.money.wallet();
        let earlier = draft.replaces.first().and_then(|txid| self.known().script_of(txid));
        let script = match (draft.built.rest, earlier) {
            (None, _) => None,
            (Some(_), Some(script)) => Some(script),
            (Some(_), None) => Some(wallet.sweep_script(unit).map_err(|error| error.to_string())?),
        };
        let taken = draft.taken(wanted);
        let signer = |channel| InMemorySigner::from_seed(self.keys.channel_seed(channel));
        let mut tx = draft
            .sign(script, &taken, published, signer)
            .map_err(|claim| format!("{claim} cannot be signed"))?;
        let others: BTreeMap<OutPoint, TxOut> = (taken.iter())
            .map(|wanted| (wanted.outpoint(), wanted.claim.spend.output.clone()))
            .collect();
        wallet.sign(&mut tx, &others).map_err(|error| error.to_string())?;
        Ok(draft.into_version(tx, &taken))
    }

    /// Gives up versions: others took their place, or nobody took them.
    async fn end(&self, txids: &[Txid]) -> Result<(), String> {
        let mut unit = Unit::new();
        for txid in txids {
            if let Some(version) = self.known().remove(txid) {
                self.forget(&version.tx, &mut unit);
            }
        }
        self.commit(unit).await
    }

    /// Ends what blocks decided since the last turn.
    pub(super) async fn end_versions(&self) -> Result<(), String> {
        let versions: Vec<Version> = self.known().versions().cloned().collect();
        let lost = {
            let wallet = self.money.wallet();
            let is_lost = |version: &&Version| wallet.conflict_depth(&version.tx) > 0;
            versions.iter().filter(is_lost).map(Version::txid).collect::<Vec<_>>()
        };
        self.known().lost(lost);
        let over = self.known().over();
        let mut unit = Unit::new();
        for (version, beaten) in over {
            let txid = version.txid();
            match beaten {
                true => {
                    tracing::info!(%txid, "a block holds another transaction in its place");
                    self.forget(&version.tx, &mut unit);
                }
                false => delete(&mut unit, txid),
            }
        }
        self.commit(unit).await
    }

    fn forget(&self, tx: &Transaction, unit: &mut Unit) {
        let txid = tx.compute_txid();
        delete(unit, txid);
        delete_broadcast(unit, txid);
        self.chain.abandon(txid);
        let mut wallet = self.money.wallet();
        wallet.release(txid, unix_time(), unit);
        wallet.evicted(txid, unix_time(), unit);
    }

    /// Gives up the batches that something else drove out of the mempool: what is left of them goes
    /// on its own.
    pub(super) async fn end_broken_batches(&self) -> Result<(), String> {
        let batches = self.known().batches();
        for version in batches {
            let txid = version.txid();
            if !matches!(self.chain.in_mempool(txid).await, Ok(false)) {
                continue;
            }
            let verdict = self.chain.test_accept(version.tx).await;
            let refusal = verdict.ok().and_then(|verdict| verdict.refusal());
            // One that a block took is no longer in the mempool either.
            if let Some(why) = refusal.filter(|why| !why.contains("txn-already-known")) {
                tracing::info!(%txid, "is no longer in the mempool: {why}");
                self.end(&[txid]).await?;
            }
        }
        Ok(())
    }

    /// A child that the mempool has not goes there with its parent only.
    pub(super) async fn send_packages_again(&self) {
        let packages = self.known().packages();
        for version in packages {
            let txid = version.txid();
            let present = self.chain.in_mempool(txid).await;
            if let (Ok(false), Some(parent)) = (present, version.parent) {
                let sent = self.chain.broadcast_package(parent, version.tx).await;
                if let Err(error) = sent {
                    tracing::info!(%txid, "sent again with its parent: {error}");
                }
            }
        }
    }

    async fn commit(&self, unit: Unit) -> Result<(), String> {
        match unit.is_empty() {
            true => Ok(()),
            false => self.store.commit(unit).await.map_err(|error| error.to_string()),
        }
    }
}
