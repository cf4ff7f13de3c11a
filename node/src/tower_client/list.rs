//! Which towers there are: those that the settings name, and those that were added by command,
//! which are rows.

use super::{key, TowerClient};
use crate::store::{KeyRange, Store, StoreError, Table, Unit};
use bitcoin::secp256k1::PublicKey;
use fulmen_channel::changeset::{decode, encode};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, MutexGuard, PoisonError};

/// lnd's port for towers.
const PORT: u16 = 9911;

/// A tower that the settings name.
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
        let address = with_port(address).ok_or(BAD)?;
        Ok(TowerAt { id, address, private: false })
    }
}

/// `host:port` of an address that may lack its port; none if it is no address.
pub fn with_port(address: &str) -> Option<String> {
    let odd = |c: char| c.is_whitespace() || matches!(c, '/' | '@');
    let (host, port) = match address.rsplit_once(':') {
        // An IPv6 address alone.
        Some(_) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
            return Some(format!("[{address}]:{PORT}"));
        }
        Some(_) if address.starts_with('[') && address.ends_with(']') => (address, PORT),
        Some((host, port)) => (host, port.parse().ok()?),
        None => (address, PORT),
    };
    (!host.is_empty() && !host.contains(odd)).then(|| format!("{host}:{port}"))
}

/// A tower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tower {
    /// Its key.
    pub id: PublicKey,
    /// Where it may be reached, each as `host:port`; tried in this order.
    pub addresses: Vec<String>,
    /// One's own: it gets whole channels, with a secret of each. Else it gets sealed records.
    pub private: bool,
    /// Whether the settings name it: then it is there after every start.
    pub named: bool,
    /// Whether it is handed what there is.
    pub active: bool,
}

/// A tower that was added by command: a row.
#[derive(Serialize, Deserialize)]
struct Row {
    addresses: Vec<String>,
    active: bool,
}

/// Why a command about towers is not obeyed. Where lnd has a text, it is that.
#[derive(Debug, thiserror::Error)]
pub enum TowerError {
    /// --wtclient.active is missing.
    #[error("watchtower client not active")]
    NotActive,
    /// No such tower.
    #[error("tower not found")]
    NotFound,
    /// It was not handed everything yet.
    #[error("tower has unacked updates")]
    Unacked,
    /// A tower has an address.
    #[error("cannot remove last tower address")]
    LastAddress,
    /// No such session.
    #[error("client session not found")]
    NoSession,
    /// No address.
    #[error("invalid address {0}: it must be HOST or HOST:PORT")]
    Address(String),
    /// The settings name it.
    #[error(
        "the tower is named by --wtclient.tower or --wtclient.privatetower: change that, and start \
         fulmend again"
    )]
    Named,
    /// The disk.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A row.
    #[error("{0}")]
    Row(String),
}

/// The towers of the settings and of the database.
pub(super) fn load(named: &[TowerAt], store: &Store) -> Result<Vec<Tower>, String> {
    let of_settings = |tower: &TowerAt| Tower {
        id: tower.id,
        addresses: vec![tower.address.clone()],
        private: tower.private,
        named: true,
        active: true,
    };
    let mut towers: Vec<Tower> = named.iter().map(of_settings).collect();
    let rows = store.scan(Table::Tower, &KeyRange::all(), usize::MAX, false);
    for (id, row) in rows.map_err(|error| error.to_string())? {
        let id = PublicKey::from_slice(&id).map_err(|error| error.to_string())?;
        let Row { addresses, active } = decode(&row)?;
        if !towers.iter().any(|tower| tower.id == id) {
            towers.push(Tower { id, addresses, private: false, named: false, active });
        }
    }
    Ok(towers)
}

impl TowerClient {
    /// Every tower that is known.
    pub fn towers(&self) -> Vec<Tower> {
        self.lock().clone()
    }

    /// This tower, if it is used.
    pub(super) fn used(&self, id: &PublicKey) -> Option<Tower> {
        self.lock().iter().find(|tower| tower.id == *id && tower.active).cloned()
    }

    /// Adds a tower, or an address of one, and uses it from now on.
    ///
    /// # Errors
    /// [`TowerError`]
    pub async fn add(self: &Arc<Self>, id: PublicKey, address: &str) -> Result<(), TowerError> {
        let _turn = self.changing()?.lock().await;
        let wrong = || TowerError::Address(address.to_owned());
        let address = with_port(address).ok_or_else(wrong)?;
        let mut tower = match self.known(&id) {
            Ok(tower) if tower.named && tower.addresses.contains(&address) => return Ok(()),
            Ok(tower) if tower.named => return Err(TowerError::Named),
            Ok(tower) => tower,
            Err(_) => {
                Tower { id, addresses: Vec::new(), private: false, named: false, active: true }
            }
        };
        tower.addresses.retain(|known| *known != address);
        tower.addresses.insert(0, address);
        tower.active = true;
        self.keep(tower).await?;
        self.start(id);
        Ok(())
    }

    /// Uses a tower no longer, or forgets one of its addresses.
    ///
    /// # Errors
    /// [`TowerError`]; one that was not handed everything yet is kept.
    pub async fn remove(&self, id: &PublicKey, address: Option<&str>) -> Result<(), TowerError> {
        let _turn = self.changing()?.lock().await;
        let mut tower = self.known(id)?;
        if tower.named {
            return Err(TowerError::Named);
        }
        if let Some(given) = address {
            let address = with_port(given).ok_or_else(|| TowerError::Address(given.to_owned()))?;
            tower.addresses.retain(|known| *known != address);
            return match tower.addresses.is_empty() {
                true => Err(TowerError::LastAddress),
                false => self.keep(tower).await,
            };
        }
        let of_tower = KeyRange::prefix(&id.serialize());
        let any = |table| self.store.scan(table, &of_tower, 1, false).map(|rows| !rows.is_empty());
        if any(Table::TowerQueue)? {
            return Err(TowerError::Unacked);
        }
        if any(Table::TowerSession)? {
            tower.active = false;
            return self.keep(tower).await;
        }
        let mut unit = Unit::new();
        unit.delete(Table::Tower, id.serialize());
        self.store.commit(unit).await?;
        self.lock().retain(|known| known.id != *id);
        Ok(())
    }

    /// Uses a tower no longer, until it is added again. What waits for it goes on waiting.
    ///
    /// # Errors
    /// [`TowerError`]
    pub async fn deactivate(&self, id: &PublicKey) -> Result<(), TowerError> {
        let _turn = self.changing()?.lock().await;
        let mut tower = self.known(id)?;
        if tower.named {
            return Err(TowerError::Named);
        }
        tower.active = false;
        self.keep(tower).await
    }

    /// The tower of this key.
    ///
    /// # Errors
    /// [`TowerError::NotFound`]
    pub fn known(&self, id: &PublicKey) -> Result<Tower, TowerError> {
        let known = self.lock().iter().find(|tower| tower.id == *id).cloned();
        known.ok_or(TowerError::NotFound)
    }

    /// Durable first, then used.
    async fn keep(&self, tower: Tower) -> Result<(), TowerError> {
        let row = Row { addresses: tower.addresses.clone(), active: tower.active };
        let mut unit = Unit::new();
        unit.put(Table::Tower, tower.id.serialize(), encode(&row));
        self.store.commit(unit).await?;
        let mut towers = self.lock();
        match towers.iter_mut().find(|known| known.id == tower.id) {
            Some(known) => *known = tower,
            None => towers.push(tower),
        }
        drop(towers);
        self.wake();
        Ok(())
    }

    /// One change at a time.
    fn changing(&self) -> Result<&tokio::sync::Mutex<()>, TowerError> {
        self.is_on().then_some(&self.changing).ok_or(TowerError::NotActive)
    }

    /// Whether anything waits for this tower about this channel, and how many states.
    pub(super) fn waiting(&self, tower: &PublicKey, channel: u64) -> Result<u64, StoreError> {
        let range = KeyRange::prefix(&key(tower, channel));
        let rows = self.store.scan(Table::TowerQueue, &range, usize::MAX, false)?;
        Ok(u64::try_from(rows.len()).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Tower>> {
        self.towers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_tower_is_named_by_key_and_address() {
        let id =
            "02".to_owned() + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        let tower: TowerAt = format!("{id}@127.0.0.1:9000").parse().unwrap();
        assert_eq!((tower.address.as_str(), tower.private), ("127.0.0.1:9000", false));
        let tower: TowerAt = format!("{id}@tower.example").parse().unwrap();
        assert_eq!(tower.address, "tower.example:9911");
        for bad in ["", "02@a:1", &id, &format!("{id}@"), &format!("{id}@a:b")] {
            assert!(bad.parse::<TowerAt>().is_err(), "{bad}");
        }
        assert_eq!(with_port("::1").unwrap(), "[::1]:9911");
        assert_eq!(with_port("[::1]:7").unwrap(), "[::1]:7");
        assert_eq!(with_port("[::1]").unwrap(), "[::1]:9911");
    }
}
