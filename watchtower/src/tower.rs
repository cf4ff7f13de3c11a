//! The tower as a whole, without its sockets: requests and blocks go in, replies and transactions
//! come out, and what must last is in the store before anybody hears of it.

use crate::api::message::{Receipt, Refusal, Reply, Request, Welcome, MAX_NOTE, MAX_PUT, VERSION};
use crate::gatekeeper::{Limits, Origin};
use crate::private::PrivateChannel;
use crate::record::{tagged, Record};
use crate::responder::{Breach, Means};
use crate::store::{Session, Store, StoreError};
use crate::watcher::{Sighting, Watcher};
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use bitcoin::{Block, BlockHash, OutPoint, Transaction, Txid};
use fulmen_channel::amount::{FeeratePerKw, Height};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many records of one breach are enough: whoever could sign more of them is who is wronged.
const MAX_MEANS: usize = 8;

/// What a record takes on disk beside itself, in bytes.
const ROW: usize = 100;

/// How a tower is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Who it is: it signs receipts and proves itself to clients.
    pub secret: SecretKey,
    /// The genesis block of its network.
    pub chain: BlockHash,
    /// Who may hand in channels.
    pub private_clients: BTreeSet<PublicKey>,
    /// Its bounds.
    pub limits: Limits,
}

/// A tower.
pub struct Tower {
    setup: Setup,
    inner: Mutex<Inner>,
}

struct Inner {
    store: Store,
    watcher: Watcher,
    breaches: BTreeMap<Txid, Breach>,
}

/// What there is to tell of a tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Sessions of altruist mode.
    pub sessions: u64,
    /// Revoked states watched in altruist mode.
    pub states: usize,
    /// Channels of private mode.
    pub channels: usize,
    /// Breaches under way.
    pub breaches: usize,
    /// Bytes of its file.
    pub bytes: u64,
}

impl Tower {
    /// Opens the tower's file and reads back what it watches.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn open(file: &Path, setup: Setup) -> Result<Tower, StoreError> {
        let store = Store::open(file)?;
        let mut watcher = Watcher::default();
        store.hints(|hint| watcher.add_hint(hint))?;
        store.fundings()?.into_iter().for_each(|funding| watcher.add_funding(funding));
        let mut breaches = BTreeMap::new();
        for breach in store.breaches()? {
            breach.watched().for_each(|txid| watcher.add_breach(txid));
            breaches.insert(breach.commitment.compute_txid(), breach);
        }
        let inner = Mutex::new(Inner { store, watcher, breaches });
        Ok(Tower { setup, inner })
    }

    /// Who it is.
    pub fn id(&self) -> PublicKey {
        self.setup.secret.public_key(&Secp256k1::signing_only())
    }

    /// How it is set up.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// What there is to tell of it.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn summary(&self) -> Result<Summary, StoreError> {
        let inner = self.lock();
        Ok(Summary {
            sessions: inner.store.sessions()?,
            states: inner.watcher.states(),
            channels: inner.store.fundings()?.len(),
            breaches: inner.breaches.len(),
            bytes: inner.store.bytes()?,
        })
    }

    /// Whether a breach is under way.
    pub fn has_breaches(&self) -> bool {
        !self.lock().breaches.is_empty()
    }

    /// Answers a request of a client on this machine: [`Tower::answer_from`].
    pub fn answer(&self, client: &PublicKey, request: Request) -> Reply {
        self.answer_from(None, client, request)
    }

    /// Answers a request of `client`, whose key the handshake proved and who comes from there.
    pub fn answer_from(&self, from: Option<Origin>, client: &PublicKey, request: Request) -> Reply {
        let answered = match request {
            Request::Hello { version, chain } => self.welcome(client, version, chain),
            Request::Put { note, .. } | Request::PutChannel { note, .. }
                if note.len() > MAX_NOTE =>
            {
                Ok(Reply::Refused(Refusal::TooLong))
            }
            Request::Put { sequence, records, note } => {
                self.put((from, client), sequence, &records, &note)
            }
            Request::Recall(of) => self.lock().store.note(client, of.as_ref()).map(Reply::Recalled),
            Request::End => self.end(client),
            Request::PutChannel { .. } | Request::Reveal { .. } | Request::DropChannel(_)
                if !self.setup.private_clients.contains(client) =>
            {
                Ok(Reply::Refused(Refusal::NotPrivate))
            }
            Request::PutChannel { body, note } => self.put_channel(client, &body, &note),
            Request::Reveal { funding, number, secret } => {
                self.reveal(client, &funding, number, secret)
            }
            Request::DropChannel(funding) => self.drop_channel(client, &funding),
        };
        answered.unwrap_or_else(|error| {
            tracing::error!("{error}");
            let full = error.is_full();
            Reply::Refused(if full { Refusal::TowerFull } else { Refusal::Trouble })
        })
    }

    fn welcome(
        &self,
        client: &PublicKey,
        version: u16,
        chain: BlockHash,
    ) -> Result<Reply, StoreError> {
        if version != VERSION {
            return Ok(Reply::Refused(Refusal::Version));
        }
        if chain != self.setup.chain {
            return Ok(Reply::Refused(Refusal::OtherChain));
        }
        Ok(Reply::Welcome(Welcome {
            private: self.setup.private_clients.contains(client),
            max_states: self.setup.limits.max_states,
            session: self.lock().store.session(client)?.standing,
        }))
    }

    fn put(
        &self,
        (from, client): (Option<Origin>, &PublicKey),
        sequence: u64,
        records: &[crate::record::Sealed],
        note: &[u8],
    ) -> Result<Reply, StoreError> {
        let limits = &self.setup.limits;
        let bytes = records.iter().fold(0usize, |sum, record| {
            sum.saturating_add(record.bytes.len()).saturating_add(record.hint.len())
        });
        if records.is_empty() || bytes > MAX_PUT || records.iter().any(|r| r.bytes.is_empty()) {
            return Ok(Reply::Refused(Refusal::TooLong));
        }
        let mut inner = self.lock();
        let session = inner.store.session(client)?;
        if session.standing.states != sequence {
            return Ok(Reply::Refused(Refusal::Sequence(session.standing.states)));
        }
        let origin = self.origin(from, client);
        let load = inner.store.load(origin)?;
        let has_room = match session.number {
            Some(_) => limits.admits_records(&load),
            None => limits.admits_session(&load),
        };
        if !has_room {
            return Ok(Reply::Refused(Refusal::TowerFull));
        }
        let standing = records.iter().fold(session.standing, |all, record| all.after(record));
        let bytes = records.len().saturating_mul(ROW).saturating_add(bytes);
        let bytes = session.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        if standing.states > limits.max_states || bytes > limits.max_bytes {
            return Ok(Reply::Refused(Refusal::SessionFull));
        }
        let session = Session { standing, bytes, origin, ..session };
        if !inner.store.put_records(client, &session, records, note)? {
            return Ok(Reply::Refused(Refusal::SessionFull));
        }
        records.iter().for_each(|record| inner.watcher.add_hint(record.hint));
        Ok(Reply::Stored(Receipt::sign(standing, client, &self.setup.secret)))
    }

    /// What a session's address is known by in the store: nobody can tell the address from it. A
    /// client on this machine counts as an address of its own: all who come by a proxy or an onion
    /// service look alike, and as one they would have but one share.
    fn origin(&self, from: Option<Origin>, client: &PublicKey) -> [u8; 8] {
        let client = client.serialize();
        let whence = from.as_ref().map_or(client.as_slice(), |from| &from.0);
        let hash = tagged(b"fulmen tower origin", &[&self.setup.secret.secret_bytes(), whence]);
        hash.first_chunk().copied().unwrap_or_default()
    }

    fn end(&self, client: &PublicKey) -> Result<Reply, StoreError> {
        let mut inner = self.lock();
        if let Some(number) = inner.store.session(client)?.number {
            inner.end(number)?;
        }
        Ok(Reply::Done)
    }

    fn put_channel(
        &self,
        client: &PublicKey,
        body: &[u8],
        note: &[u8],
    ) -> Result<Reply, StoreError> {
        let channel = match PrivateChannel::from_bytes(body) {
            Ok(channel) => channel,
            Err(error) => return Ok(Reply::Refused(Refusal::BadChannel(error.to_string()))),
        };
        let mut inner = self.lock();
        match inner.store.channel(&channel.head.funding)? {
            Some((owner, _)) if owner != client.serialize() => {
                let why = "another client has it".to_owned();
                return Ok(Reply::Refused(Refusal::BadChannel(why)));
            }
            // What is older than what we know would forget states.
            Some((_, known)) if known.secrets.next() > channel.secrets.next() => {
                return Ok(Reply::Done)
            }
            _ => {}
        }
        inner.store.put_channel(client, &channel, Some(note))?;
        inner.watcher.add_funding(channel.head.funding);
        Ok(Reply::Done)
    }

    fn reveal(
        &self,
        client: &PublicKey,
        funding: &OutPoint,
        number: u64,
        secret: [u8; 32],
    ) -> Result<Reply, StoreError> {
        let bad = |why: &str| Ok(Reply::Refused(Refusal::BadChannel(why.to_owned())));
        let mut inner = self.lock();
        let Some((owner, mut channel)) = inner.store.channel(funding)? else {
            return bad("the tower does not have it");
        };
        if owner != client.serialize() {
            return bad("another client has it");
        }
        if channel.secrets.get(number) == Some(secret) {
            return Ok(Reply::Done);
        }
        if let Err(wrong) = channel.secrets.insert(number, secret) {
            return bad(&wrong.to_string());
        }
        inner.store.put_channel(client, &channel, None)?;
        Ok(Reply::Done)
    }

    fn drop_channel(&self, client: &PublicKey, funding: &OutPoint) -> Result<Reply, StoreError> {
        let mut inner = self.lock();
        let owner = inner.store.channel(funding)?.map(|(owner, _)| owner);
        if owner.is_some_and(|owner| owner == client.serialize()) {
            inner.store.drop_channel(client, funding)?;
            inner.watcher.remove_funding(funding);
        }
        Ok(Reply::Done)
    }

    /// The last block processed.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn tip(&self) -> Result<Option<(Height, BlockHash)>, StoreError> {
        self.lock().store.tip()
    }

    /// Begins after this block: what is older is not looked at.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn begin(&self, height: Height, hash: BlockHash) -> Result<(), StoreError> {
        self.lock().store.put_block(height, Some(hash), &[])
    }

    /// Looks at a block, the one after the tip.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn connect(&self, height: Height, block: &Block) -> Result<(), StoreError> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let mut changed = BTreeSet::new();
        for tx in &block.txdata {
            if let Some(sighting) = inner.watcher.look(tx) {
                changed.extend(inner.sees(tx, height, sighting)?);
            }
        }
        let over = inner.breaches.iter().filter(|(_, breach)| breach.is_over(height));
        let over: Vec<Txid> = over.map(|(txid, _)| *txid).collect();
        for txid in over {
            tracing::info!("the breach {txid} is over");
            if let Some(breach) = inner.breaches.remove(&txid) {
                breach.watched().for_each(|txid| inner.watcher.remove_breach(&txid));
            }
            changed.insert(txid);
        }
        let rows: Vec<_> = changed.iter().map(|txid| (*txid, inner.breaches.get(txid))).collect();
        inner.store.put_block(height, Some(block.block_hash()), &rows)
    }

    /// The block of this height is no longer in the chain, nor is any above it.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn disconnect(&self, height: Height) -> Result<(), StoreError> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let mut rows = Vec::new();
        for (txid, breach) in &mut inner.breaches {
            if breach.unsee(height) {
                rows.push((*txid, Some(&*breach)));
            }
        }
        inner.store.put_block(height, None, &rows)
    }

    /// What is to be in the mempool at a tip of this height.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn remedies(
        &self,
        tip: Height,
        estimate: FeeratePerKw,
    ) -> Result<Vec<Transaction>, StoreError> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let (mut all, mut rows) = (Vec::new(), Vec::new());
        for (txid, breach) in &mut inner.breaches {
            let (remedies, changed) = breach.remedies(tip, estimate);
            all.extend(remedies);
            if changed {
                rows.push((*txid, Some(&*breach)));
            }
        }
        if !rows.is_empty() {
            inner.store.put_breaches(&rows)?;
        }
        Ok(all)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn end(&mut self, session: i64) -> Result<(), StoreError> {
        for hint in self.store.end_session(session)? {
            self.watcher.remove_hint(&hint);
        }
        Ok(())
    }

    /// The breaches that `tx` changes.
    fn sees(
        &mut self,
        tx: &Transaction,
        height: Height,
        sighting: Sighting,
    ) -> Result<Vec<Txid>, StoreError> {
        let txid = tx.compute_txid();
        let mut changed = Vec::new();
        let spends = |known: &Txid| tx.input.iter().any(|i| i.previous_output.txid == *known);
        for (known, breach) in &mut self.breaches {
            let concerns = *known == txid || breach.watched().any(|watched| spends(&watched));
            if concerns && breach.see(tx, height) {
                breach.watched().for_each(|txid| self.watcher.add_breach(txid));
                changed.push(*known);
            }
        }
        if !self.breaches.contains_key(&txid) {
            if let Some(breach) = Breach::new(tx, height, self.means(tx, sighting)?) {
                tracing::warn!(
                    "{txid} in block {height} is a breach: {} outputs to take",
                    breach.takings.len()
                );
                breach.watched().for_each(|txid| self.watcher.add_breach(txid));
                self.breaches.insert(txid, breach);
                changed.push(txid);
            }
        }
        Ok(changed)
    }

    /// Everything there is against `tx`: its private channel, and each record that holds at least
    /// one signature that is good. Anybody may have sealed a record, the cheater first of all, who
    /// knows its txid before it is revoked; but only who has our keys can sign. So all are tried,
    /// each until its first bad signature, and a made-up one takes no other's place.
    fn means(&self, tx: &Transaction, sighting: Sighting) -> Result<Vec<Means>, StoreError> {
        let mut means = Vec::new();
        if let Some(funding) = sighting.funding {
            let channel = self.store.channel(&funding)?;
            means.extend(channel.and_then(|(_, channel)| channel.punisher(tx)).map(Means::Private));
        }
        let Some((hint, txid)) = sighting.hint else { return Ok(means) };
        self.store.records(&hint, |sealed| {
            if let Ok(record) = Record::open(sealed, &txid) {
                if !record.remedies(tx).is_empty() {
                    means.push(Means::Altruist(record));
                }
            }
            means.len() < MAX_MEANS
        })?;
        Ok(means)
    }
}
