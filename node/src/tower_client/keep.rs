//! What one channel keeps for the towers: the peer's commitments that are not revoked, until they
//! are. It goes to disk in the same transaction as the signature or revocation that it is about.

use super::{key, Item, Revoked, TowerClient};
use crate::store::{KeyRange, Store, StoreError, Table, Unit};
use bitcoin::secp256k1::SecretKey;
use bitcoin::ScriptBuf;
use fulmen_channel::changeset::{decode, encode};
use fulmen_channel::contract::Commitments;
use fulmen_channel::keys::InMemorySigner;
use fulmen_watchtower::private::PrivateChannel;
use fulmen_watchtower::record::{Terms, Unrevoked};
use std::collections::BTreeMap;

/// A channel's part of the client.
#[derive(Default)]
pub struct Keeper {
    kept: BTreeMap<u64, Unrevoked>,
    destination: Option<ScriptBuf>,
    /// How many secrets private towers were told of.
    told: Option<u64>,
}

impl Keeper {
    /// What was kept for this channel before a restart.
    ///
    /// # Errors
    /// [`StoreError`]. A state whose row makes no sense is left out.
    pub fn restored(store: &Store, channel: u64) -> Result<Keeper, StoreError> {
        let range = KeyRange::prefix(&channel.to_be_bytes());
        let mut keeper = Keeper::default();
        for (_, value) in store.scan(Table::TowerState, &range, usize::MAX, false)? {
            let unrevoked = match decode::<Unrevoked>(&value) {
                Ok(unrevoked) => unrevoked,
                Err(why) => {
                    tracing::warn!(channel, "a state that no tower will cover: {why}");
                    continue;
                }
            };
            keeper.destination = Some(unrevoked.terms().destination.clone());
            keeper.kept.insert(unrevoked.number, unrevoked);
        }
        Ok(keeper)
    }

    /// The contract has changed, and `rows` are about to be written with that. `fresh` gives a
    /// script of the wallet's. Whether something waits for the towers now.
    pub fn note(
        &mut self,
        client: &TowerClient,
        (channel, contract): (u64, &Commitments),
        fresh: impl FnOnce(&mut Unit) -> Option<ScriptBuf>,
        rows: &mut Unit,
    ) -> bool {
        if self.destination.is_none() {
            self.destination = fresh(rows);
        }
        let Some(destination) = self.destination.clone() else { return false };
        let signer = InMemorySigner::from_seed(client.keys.channel_seed(channel));
        let revoked = contract.revocations.next();
        let local = contract.state.local_number;
        let mut towers = client.towers();
        towers.retain(|tower| tower.active);
        let mut waits = false;
        while let Some(entry) = self.kept.first_entry().filter(|kept| *kept.key() < revoked) {
            let (number, unrevoked) = entry.remove_entry();
            rows.delete(Table::TowerState, row(channel, number));
            let secret = contract.revocations.get(number);
            let Some(Ok(secret)) = secret.map(|secret| SecretKey::from_slice(&secret)) else {
                continue;
            };
            let (sealed, left_out) = unrevoked.seal(&secret, &signer);
            let left_out = u64::try_from(left_out).unwrap_or(u64::MAX);
            let item = Item::State(Revoked { sealed, left_out, local });
            for tower in towers.iter().filter(|tower| !tower.private) {
                client.queue(tower, (channel, number), &item, rows);
                waits = true;
            }
        }
        let (is_new, number) = (self.told != Some(revoked), contract.state.remote_number);
        for tower in towers.iter().filter(|tower| tower.private && is_new) {
            let secret = signer.revocation_secret();
            let bytes = PrivateChannel::of(contract, &secret, destination.clone()).to_bytes();
            client.queue(tower, (channel, 0), &Item::Whole(bytes, local), rows);
            waits = true;
        }
        self.told = Some(revoked);
        if number >= revoked && !self.kept.contains_key(&number) {
            let terms = Terms { feerate: client.policy.feerate, destination };
            let unrevoked = Unrevoked::of(contract, &contract.remote_draft(), terms);
            rows.put(Table::TowerState, row(channel, number), encode(&unrevoked));
            self.kept.insert(number, unrevoked);
        }
        waits
    }

    /// The channel is over: the towers may forget it.
    pub fn over(client: &TowerClient, (channel, contract): (u64, &Commitments), rows: &mut Unit) {
        rows.delete_prefix(Table::TowerState, channel.to_be_bytes());
        let over = Item::Over(contract.funding.outpoint);
        for tower in client.towers() {
            match tower.active {
                true => client.queue(&tower, (channel, u64::MAX), &over, rows),
                // It keeps what it has: nobody tells it anything any more.
                false => {
                    rows.delete(Table::TowerSession, key(&tower.id, channel));
                    rows.delete_prefix(Table::TowerQueue, key(&tower.id, channel));
                }
            }
        }
    }
}

fn row(channel: u64, number: u64) -> Vec<u8> {
    [channel.to_be_bytes(), number.to_be_bytes()].concat()
}
