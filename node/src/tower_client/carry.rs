//! Carries what waits to one tower: a connection for each channel's session, closed when nothing
//! is left. What a receipt covers is deleted. What the tower has already, because we died in
//! between, is recognised by its hash and not sent again.

use super::witness::seal_note;
use super::{key, Item, Progress, Revoked, Tower, TowerClient};
use crate::store::{KeyRange, Row, StoreError, Table, Unit};
use bitcoin::hashes::{sha256, Hash, HashEngine, Hmac, HmacEngine};
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use bitcoin::OutPoint;
use fulmen_channel::changeset::{decode, encode};
use fulmen_watchtower::api::link::Link;
use fulmen_watchtower::api::message::{
    Refusal, Reply, Request, Standing, Welcome, MAX_PUT, VERSION,
};
use fulmen_watchtower::private::PrivateChannel;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How long a tower that did not answer is left alone.
const RETRY: Duration = Duration::from_secs(15);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many rows are read at once.
const BATCH: usize = 128;

/// The longest record that fits into a message.
const MAX_RECORD: usize = MAX_PUT - 16;

/// What waits of one channel, in the order in which it came.
struct Waiting {
    channel: u64,
    rows: Vec<Row>,
}

/// A revoked state that waits: its row's key, its number.
struct Record {
    key: Vec<u8>,
    number: u64,
    revoked: Revoked,
}

impl TowerClient {
    pub(super) async fn serve(&self, id: &PublicKey, mut stop: watch::Receiver<bool>) {
        let mut quiet = true;
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            // From here on nothing is missed.
            news.as_mut().enable();
            let delivered = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                delivered = self.deliver_all(id) => delivered,
            };
            match &delivered {
                Err(why) if quiet => tracing::warn!("watchtower {id}: {why}"),
                Ok(()) if !quiet => tracing::info!("watchtower {id} is up to date"),
                _ => {}
            }
            quiet = delivered.is_ok();
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = news, if quiet => {}
                () = tokio::time::sleep(RETRY), if !quiet => {}
            }
        }
    }

    /// Until nothing waits, or the tower is used no longer. It is asked first for what it keeps: a
    /// later note would cover that up.
    async fn deliver_all(&self, id: &PublicKey) -> Result<(), String> {
        if let Some(tower) = self.used(id) {
            self.ask_notes(&tower).await?;
        }
        let turn = self.turn(id);
        while let Some(tower) = self.used(id) {
            let _held = turn.lock().await;
            let Some(waiting) = self.next(id).map_err(text)? else { break };
            self.deliver(&tower, waiting).await?;
        }
        Ok(())
    }

    /// Rows of the first channel of which something waits.
    fn next(&self, id: &PublicKey) -> Result<Option<Waiting>, StoreError> {
        let range = KeyRange::prefix(&id.serialize());
        let mut rows = self.store.scan(Table::TowerQueue, &range, BATCH, false)?;
        let Some(channel) = rows.first().and_then(|(key, _)| channel_of(key)) else {
            return Ok(None);
        };
        rows.retain(|(key, _)| channel_of(key) == Some(channel));
        Ok(Some(Waiting { channel, rows }))
    }

    /// How far a channel is with a tower; nothing of it yet if there is no row.
    pub(super) fn progress(&self, tower: &PublicKey, channel: u64) -> Result<Progress, String> {
        let row = self.store.get(Table::TowerSession, &key(tower, channel)).map_err(text)?;
        row.map_or(Ok(Progress::default()), |row| Progress::read(&row))
    }

    async fn deliver(&self, tower: &Tower, waiting: Waiting) -> Result<(), String> {
        let Waiting { channel, rows } = waiting;
        let mut progress = self.progress(&tower.id, channel)?;
        let mut records = Vec::new();
        let mut rows = rows.into_iter();
        for (key, value) in rows.by_ref() {
            let revoked = match decode::<Item>(&value)? {
                Item::Record(sealed) => Revoked { sealed, left_out: 0, local: 0 },
                Item::State(revoked) => revoked,
                // What came before it goes first.
                _ if !records.is_empty() => break,
                item => return self.deliver_other((tower, channel), progress, (key, item)).await,
            };
            let number = number_of(&key).ok_or("a row that waits has no number")?;
            records.push(Record { key, number, revoked });
        }
        let mut unit = Unit::new();
        self.hand_in((tower, channel), (&mut progress, &mut unit), records).await?;
        unit.put(Table::TowerSession, key(&tower.id, channel), encode(&progress));
        self.store.commit(unit).await.map_err(text)
    }

    /// What is no record.
    async fn deliver_other(
        &self,
        (tower, channel): (&Tower, u64),
        progress: Progress,
        (row, item): (Vec<u8>, Item),
    ) -> Result<(), String> {
        let own = key(&tower.id, channel);
        let mut unit = Unit::new();
        match item {
            Item::Over(_) if !tower.private => {
                for session in 0..=progress.full {
                    let secret = self.session(&tower.id, channel, session);
                    let mut link = self.greet(tower, &secret).await?.0;
                    done(ask(&mut link, Request::End).await?)?;
                }
                unit.delete(Table::TowerSession, own);
            }
            Item::Over(funding) => {
                let mut link = self.greet(tower, &self.keys.node_secret()).await?.0;
                done(ask(&mut link, Request::DropChannel(funding)).await?)?;
                unit.delete(Table::TowerSession, own);
            }
            item => {
                let (body, local) = match &item {
                    Item::Whole(body, local) => (body, *local),
                    Item::Channel(body) => (body, 0),
                    _ => return Ok(()),
                };
                let note = seal_note(&self.vault, (&tower.id, channel), local)?;
                let mut link = self.greet(tower, &self.keys.node_secret()).await?.0;
                let put = Request::PutChannel { body: body.clone(), note };
                done(ask(&mut link, put).await?)?;
                self.counts.backups.add();
                let known = PrivateChannel::from_bytes(body).map_err(text)?.secrets.next();
                let progress = Progress { covered: super::Ranges::below(known), ..progress };
                unit.put(Table::TowerSession, own, encode(&progress));
                // A newer one may have come meanwhile: then that is to go too.
                if self.store.get(Table::TowerQueue, &row).map_err(text)? != Some(encode(&item)) {
                    return self.store.commit(unit).await.map_err(text);
                }
            }
        }
        unit.delete(Table::TowerQueue, row);
        self.store.commit(unit).await.map_err(text)
    }

    /// Hands in the first of these records, as many as fit. Those that are there then are taken
    /// off the queue; none if another session has to be used.
    async fn hand_in(
        &self,
        (tower, channel): (&Tower, u64),
        (progress, unit): (&mut Progress, &mut Unit),
        records: Vec<Record>,
    ) -> Result<(), String> {
        let secret = self.session(&tower.id, channel, progress.full);
        let (mut link, welcome) = self.greet(tower, &secret).await?;
        progress.max_states = welcome.max_states.min(self.policy.max_updates.into());
        let (small, large): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| record.revoked.sealed.bytes.len() <= MAX_RECORD);
        for record in large {
            tracing::warn!(channel, "state {} has too many HTLCs for watchtowers", record.number);
            self.counts.failed.add();
            unit.delete(Table::TowerQueue, record.key);
        }
        let Some(known) = already(progress.standing, &small, welcome.session) else {
            let (theirs, ours) = (welcome.session.states, progress.standing.states);
            progress.disowned(theirs)?;
            tracing::warn!(
                channel,
                "watchtower {} has {theirs} records of a session of which it acknowledged {ours}: \
                 a new session begins{}",
                tower.id,
                if theirs > ours { "; is this database an old copy?" } else { "" }
            );
            return Ok(());
        };
        let room = progress.max_states.saturating_sub(welcome.session.states);
        let batch: Vec<&Record> = fitting(small.get(known..).unwrap_or_default(), room);
        let count = known.saturating_add(batch.len());
        let mut standing = welcome.session;
        if let Some(last) = batch.last() {
            let note = seal_note(&self.vault, (&tower.id, channel), last.revoked.local)?;
            let sealed = batch.iter().map(|record| record.revoked.sealed.clone()).collect();
            let put = Request::Put { sequence: standing.states, records: sealed, note };
            let is_new = standing.states == 0;
            standing = batch.iter().fold(standing, |all, it| all.after(&it.revoked.sealed));
            match ask(&mut link, put).await? {
                Reply::Stored(receipt) => {
                    let genuine = receipt.is_genuine(&public(&secret), &tower.id);
                    if receipt.standing != standing || !genuine {
                        return Err("its receipt is not for what we handed in".into());
                    }
                    if is_new {
                        self.counts.acquired.add();
                    }
                }
                Reply::Refused(Refusal::SessionFull) => return self.used_up(progress),
                other => return Err(odd(other)),
            }
        } else if known == 0 && !small.is_empty() {
            return self.used_up(progress);
        }
        progress.standing = standing;
        for record in small.into_iter().take(count) {
            progress.took(record.number, record.revoked.left_out);
            self.counts.backups.add();
            unit.delete(Table::TowerQueue, record.key);
        }
        Ok(())
    }

    fn used_up(&self, progress: &mut Progress) -> Result<(), String> {
        if progress.standing.states == 0 {
            return Err("it takes no record in a new session".into());
        }
        self.counts.exhausted.add();
        progress.next_session();
        Ok(())
    }

    /// Connects, by the first address that answers, as who holds `secret`.
    pub(super) async fn greet(
        &self,
        tower: &Tower,
        secret: &SecretKey,
    ) -> Result<(Link, Welcome), String> {
        let mut failed = Vec::new();
        for address in &tower.addresses {
            let mut link = match Link::connect(address, &tower.id, secret).await {
                Ok(link) => link,
                Err(error) => {
                    failed.push(format!("{address}: {error}"));
                    continue;
                }
            };
            let hello = Request::Hello { version: VERSION, chain: self.chain };
            return match ask(&mut link, hello).await? {
                Reply::Welcome(welcome) => Ok((link, welcome)),
                other => Err(odd(other)),
            };
        }
        Err(failed.join("; "))
    }

    /// What note a tower keeps of a channel: of its session, or of F in private mode.
    pub(super) async fn recall(
        &self,
        tower: &Tower,
        secret: &SecretKey,
        of: Option<OutPoint>,
    ) -> Result<Vec<u8>, String> {
        let (mut link, _) = self.greet(tower, secret).await?;
        match ask(&mut link, Request::Recall(of)).await? {
            Reply::Recalled(note) => Ok(note),
            other => {
                tracing::warn!("watchtower {} bears no witness: {}", tower.id, odd(other));
                Ok(Vec::new())
            }
        }
    }

    /// The key of a session. It tells a tower nothing about who we are.
    pub(super) fn session(&self, tower: &PublicKey, channel: u64, number: u32) -> SecretKey {
        let mut engine = HmacEngine::<sha256::Hash>::new(&self.keys.storage_key());
        engine.input(b"fulmen tower session");
        engine.input(&key(tower, channel));
        engine.input(&number.to_be_bytes());
        let secret = SecretKey::from_slice(Hmac::from_engine(engine).as_byte_array());
        // One hash in 2^128 is no key; that session would be the node's own.
        secret.unwrap_or_else(|_| self.keys.node_secret())
    }
}

impl Progress {
    /// The tower keeps the record of this state.
    fn took(&mut self, number: u64, left_out: u64) {
        self.states = self.states.saturating_add(1);
        self.covered.add(number, number.saturating_add(1));
        if left_out > 0 {
            self.partial = self.partial.saturating_add(1);
            self.left_out = self.left_out.saturating_add(left_out);
        }
    }
}

/// How many of the `records` a tower has already that says `theirs`, when `ours` is what it
/// acknowledged; none if what it has is something else.
fn already(ours: Standing, records: &[Record], theirs: Standing) -> Option<usize> {
    let mut standing = ours;
    let mut later = records.iter().map(|record| {
        standing = standing.after(&record.revoked.sealed);
        standing
    });
    match ours == theirs {
        true => Some(0),
        false => later.position(|standing| standing == theirs)?.checked_add(1),
    }
}

/// As many as one message takes and the session has room for.
fn fitting(records: &[Record], room: u64) -> Vec<&Record> {
    let mut bytes = 0_usize;
    let fits = |record: &&Record| {
        bytes = bytes.saturating_add(record.revoked.sealed.bytes.len()).saturating_add(16);
        bytes <= MAX_PUT
    };
    records.iter().take(usize::try_from(room).unwrap_or(usize::MAX)).take_while(fits).collect()
}

/// Counts one more.
trait Count {
    fn add(&self);
}

impl Count for AtomicU64 {
    fn add(&self) {
        // One more a record: it never gets there.
        self.fetch_add(1, Ordering::Relaxed);
    }
}

async fn ask(link: &mut Link, request: Request) -> Result<Reply, String> {
    link.send(&request).await.map_err(text)?;
    link.receive(PATIENCE).await.map_err(text)
}

fn done(reply: Reply) -> Result<(), String> {
    match reply {
        Reply::Done => Ok(()),
        other => Err(odd(other)),
    }
}

/// What is wrong with an answer that is not the one asked for.
fn odd(reply: Reply) -> String {
    match reply {
        Reply::Refused(refusal) => format!("it refuses: {refusal}"),
        other => format!("it answers something else: {other:?}"),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The public half of a session's key: its id.
pub(super) fn public(secret: &SecretKey) -> PublicKey {
    secret.public_key(&Secp256k1::signing_only())
}

/// The channel of a queue's row.
pub(super) fn channel_of(key: &[u8]) -> Option<u64> {
    const TOWER: usize = 33;
    let channel = key.get(TOWER..)?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*channel))
}

/// The number of what a queue's row is about.
fn number_of(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|number| u64::from_be_bytes(*number))
}
