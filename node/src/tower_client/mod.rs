//! The watchtowers' client: what towers must know is on disk with the revocation itself, and goes
//! to them as soon as they answer.
//!
//! ```text
//!   we sign their state n ──▶ TowerState row: what n is made of          with the channel's rows
//!   they revoke it ─────────▶ TowerQueue rows, one for each tower        with the channel's rows
//!                               │
//!                               └─▶ carry: a session for each channel ──▶ receipt ──▶ row deleted
//! ```

mod carry;
mod keep;

pub use keep::Keeper;

use crate::keys::KeyRing;
use crate::store::{Store, Table, Unit};
use bitcoin::secp256k1::PublicKey;
use bitcoin::{BlockHash, OutPoint};
use fulmen_channel::amount::FeeratePerKw;
use fulmen_channel::changeset::encode;
use fulmen_watchtower::record::Sealed;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::{watch, Notify};

/// A tower that the operator named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TowerAt {
    /// Its key.
    pub id: PublicKey,
    /// `host:port`.
    pub address: String,
    /// One's own: it gets whole channels, with a secret of each. Else it gets sealed records.
    pub private: bool,
}

impl std::str::FromStr for TowerAt {
    type Err = &'static str;

    /// `PUBKEY@HOST:PORT`; lnd's port if none is named.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const BAD: &str = "must be PUBKEY@HOST:PORT, as fulmen-tower prints it";
        let (id, address) = text.split_once('@').ok_or(BAD)?;
        let id = id.parse().map_err(|_| BAD)?;
        let has_port =
            address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = match has_port {
            true => address.to_owned(),
            false if address.is_empty() => return Err(BAD),
            false => format!("{address}:9911"),
        };
        Ok(TowerAt { id, address, private: false })
    }
}

/// What waits for a tower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Item {
    /// A revoked state.
    Record(Sealed),
    /// A channel as it is now, for a private tower: it replaces what waited of it.
    Channel(Vec<u8>),
    /// The channel is over, and its F.
    Over(OutPoint),
}

/// The client: one for the node, used by every channel.
pub struct TowerClient {
    towers: Vec<TowerAt>,
    feerate: FeeratePerKw,
    store: Store,
    keys: KeyRing,
    chain: BlockHash,
    news: Notify,
}

impl TowerClient {
    /// A client of these towers; `feerate` is what remedies pay that are signed beforehand.
    pub fn new(
        towers: Vec<TowerAt>,
        feerate: FeeratePerKw,
        (store, keys): (Store, KeyRing),
        chain: BlockHash,
    ) -> Self {
        TowerClient { towers, feerate, store, keys, chain, news: Notify::new() }
    }

    /// Whether there are towers.
    pub fn is_on(&self) -> bool {
        !self.towers.is_empty()
    }

    /// What waits in the queue may be durable now.
    pub fn wake(&self) {
        self.news.notify_waiters();
    }

    /// Serves every tower until `stop`.
    pub fn run(self: &Arc<Self>, stop: &watch::Sender<bool>) {
        for tower in &self.towers {
            let (client, tower, stop) = (self.clone(), tower.clone(), stop.subscribe());
            tokio::spawn(async move { client.serve(&tower, stop).await });
        }
    }

    fn queue(&self, tower: &TowerAt, (channel, number): (u64, u64), item: &Item, rows: &mut Unit) {
        let key = [key(tower, channel).as_slice(), &number.to_be_bytes()].concat();
        rows.put(Table::TowerQueue, key, encode(item));
    }
}

/// How the keys of a tower's rows about a channel begin.
fn key(tower: &TowerAt, channel: u64) -> Vec<u8> {
    [tower.id.serialize().as_slice(), &channel.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tower_is_named_by_key_and_address() {
        let id =
            "02".to_owned() + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        let tower: TowerAt = format!("{id}@127.0.0.1:9000").parse().unwrap();
        assert_eq!((tower.address.as_str(), tower.private), ("127.0.0.1:9000", false));
        let tower: TowerAt = format!("{id}@tower.example").parse().unwrap();
        assert_eq!(tower.address, "tower.example:9911");
        for bad in ["", "02@a:1", &id, &format!("{id}@")] {
            assert!(bad.parse::<TowerAt>().is_err(), "{bad}");
        }
    }
}
