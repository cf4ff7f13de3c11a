//! From a draft to a version that bitcoind has: signed, durable, then sent.

use super::plan::Draft;
use super::version::{delete, Version};
use super::wanted::Wanted;
use super::Sweeper;
use crate::chain::BroadcastError;
use crate::clock::unix_time;
use crate::sends::{delete_broadcast, put_broadcast};
use crate::store::Unit;
use bitcoin::{OutPoint, Transaction, TxOut, Txid};
use fulmen_channel::amount::Sat;
use fulmen_channel::keys::{InMemorySigner, Inline};
use fulmen_channel::onchain::published::Published;
use std::collections::BTreeMap;
use std::sync::Arc;

type Commitments = BTreeMap<OutPoint, Arc<Published>>;

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

    /// Notes that bitcoind did not take a version. Whether more money may help.
    fn refused(&self, version: &Version, why: &BroadcastError) -> bool {
        let txid = version.txid();
        let more = why.asks_for_more();
        let raised = Sat::new(version.fee.sat().saturating_mul(5) / 4);
        if more {
            let mut known = self.known();
            for (_, claim) in &version.claims {
                known.refused.insert(*claim, raised);
            }
        }
        tracing::info!(%txid, "{} was refused: {why}", version.fee);
        more
    }

    fn sign(
        &self,
        draft: Draft,
        wanted: &[Wanted],
        published: &Commitments,
        unit: &mut Unit,
    ) -> Result<Version, String> {
        let mut wallet = self.money.wallet();
        let mut tx = draft.built.tx;
        let place = draft.built.rest.and_then(|rest| usize::try_from(rest).ok());
        if let Some(output) = place.and_then(|place| tx.output.get_mut(place)) {
            let earlier = draft.replaces.first().and_then(|txid| self.known().script_of(txid));
            output.script_pubkey = match earlier {
                Some(script) => script,
                None => wallet.sweep_script(unit).map_err(|error| error.to_string())?,
            };
        }
        let find = |outpoint: &OutPoint| wanted.iter().find(|w| w.outpoint() == *outpoint);
        let taken: Vec<&Wanted> = draft.claims.iter().filter_map(find).collect();
        for (input, wanted) in taken.iter().enumerate() {
            let signer = InMemorySigner::from_seed(self.keys.channel_seed(wanted.channel));
            let on = published.get(&wanted.outpoint());
            let signed =
                on.is_some_and(|on| wanted.claim.sign(on, &mut tx, input, (&signer, &Inline)));
            if !signed {
                return Err(format!("{} cannot be signed", wanted.outpoint()));
            }
        }
        let others: BTreeMap<OutPoint, TxOut> = (taken.iter())
            .map(|wanted| (wanted.outpoint(), wanted.claim.spend.output.clone()))
            .collect();
        wallet.sign(&mut tx, &others).map_err(|error| error.to_string())?;
        let parent = taken.first().and_then(|wanted| wanted.parent.as_ref());
        Ok(Version {
            tx,
            fee: draft.built.fee,
            weight: draft.built.weight,
            claims: taken.iter().map(|wanted| (wanted.channel, wanted.outpoint())).collect(),
            coins: draft.built.coins,
            rest: draft.built.rest,
            parent: parent.map(|parent| parent.tx.clone()),
            since: draft.since,
            start: draft.start,
            attempts: draft.attempts,
        })
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
