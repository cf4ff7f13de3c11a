//! Carries what waits to one tower: a connection for each channel's session, closed when nothing
//! is left. What a receipt covers is deleted; what is sent twice, because we died in between, is
//! merely kept twice.

use super::{key, Item, TowerAt, TowerClient};
use crate::store::{KeyRange, Row, Table, Unit};
use bitcoin::hashes::{sha256, Hash, HashEngine, Hmac, HmacEngine};
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use fulmen_channel::changeset::{decode, encode};
use fulmen_watchtower::api::link::Link;
use fulmen_watchtower::api::message::{Refusal, Reply, Request, Standing, MAX_PUT, VERSION};
use fulmen_watchtower::record::Sealed;
use serde::{Deserialize, Serialize};
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

/// How far a channel's sessions with a tower are: a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    /// Full sessions before the one that is used.
    full: u32,
    /// What the tower gave its word for, in this session.
    standing: Standing,
    /// States that towers keep, over all sessions.
    states: u64,
}

impl TowerClient {
    pub(super) async fn serve(&self, tower: &TowerAt, mut stop: watch::Receiver<bool>) {
        let mut quiet = true;
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            // From here on nothing is missed.
            news.as_mut().enable();
            let delivered = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                delivered = self.deliver_all(tower) => delivered,
            };
            match &delivered {
                Err(why) if quiet => tracing::warn!("watchtower {}: {why}", tower.id),
                Ok(()) if !quiet => tracing::info!("watchtower {} is up to date", tower.id),
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

    /// Until nothing waits.
    async fn deliver_all(&self, tower: &TowerAt) -> Result<(), String> {
        while let Some((channel, rows)) = self.next(tower)? {
            self.deliver(tower, channel, rows).await?;
        }
        Ok(())
    }

    /// Rows of the first channel of which something waits.
    fn next(&self, tower: &TowerAt) -> Result<Option<(u64, Vec<Row>)>, String> {
        let range = KeyRange::prefix(&tower.id.serialize());
        let scanned = self.store.scan(Table::TowerQueue, &range, BATCH, false);
        let mut rows = scanned.map_err(|error| error.to_string())?;
        let Some(first) = rows.first().and_then(|(key, _)| channel_of(key)) else {
            return Ok(None);
        };
        rows.retain(|(key, _)| channel_of(key) == Some(first));
        Ok(Some((first, rows)))
    }

    async fn deliver(&self, tower: &TowerAt, channel: u64, rows: Vec<Row>) -> Result<(), String> {
        let known = self.store.get(Table::TowerSession, &key(tower, channel));
        let known = known.map_err(|error| error.to_string())?;
        let mut progress: Progress = known.map_or(Ok(Progress::default()), |row| decode(&row))?;
        let mut unit = Unit::new();
        let (mut records, mut bytes) = (Vec::new(), 0_usize);
        for (key, value) in rows {
            match decode::<Item>(&value)? {
                Item::Record(sealed) if sealed.bytes.len() > MAX_RECORD => {
                    tracing::warn!(channel, "a state has too many HTLCs for watchtowers");
                }
                Item::Record(sealed) => {
                    bytes = bytes.saturating_add(sealed.bytes.len()).saturating_add(16);
                    if bytes > MAX_PUT {
                        break;
                    }
                    records.push(sealed);
                }
                _ if !records.is_empty() => break,
                Item::Channel(channel) => {
                    let mut link = self.greet(tower, &self.keys.node_secret()).await?.0;
                    done(ask(&mut link, Request::PutChannel(channel)).await?)?;
                    // A newer one may have come meanwhile: then that is to go too.
                    let now = self.store.get(Table::TowerQueue, &key);
                    if now.map_err(|error| error.to_string())? != Some(value) {
                        return Ok(());
                    }
                }
                Item::Over(_) if !tower.private => {
                    for session in 0..=progress.full {
                        let secret = self.session(tower, channel, session);
                        let mut link = self.greet(tower, &secret).await?.0;
                        done(ask(&mut link, Request::End).await?)?;
                    }
                    unit.delete(Table::TowerSession, super::key(tower, channel));
                }
                Item::Over(funding) => {
                    let mut link = self.greet(tower, &self.keys.node_secret()).await?.0;
                    done(ask(&mut link, Request::DropChannel(funding)).await?)?;
                }
            }
            unit.delete(Table::TowerQueue, key);
        }
        if !records.is_empty() {
            if self.hand_in(tower, channel, (&mut progress, records)).await?.is_none() {
                unit = Unit::new();
            }
            unit.put(Table::TowerSession, key(tower, channel), encode(&progress));
        }
        self.store.commit(unit).await.map_err(|error| error.to_string())
    }

    /// Hands in records; nothing if the session is full, and the next one is to be used.
    async fn hand_in(
        &self,
        tower: &TowerAt,
        channel: u64,
        (progress, records): (&mut Progress, Vec<Sealed>),
    ) -> Result<Option<()>, String> {
        let secret = self.session(tower, channel, progress.full);
        let (mut link, standing) = self.greet(tower, &secret).await?;
        let expected = records.iter().fold(standing, |all, record| all.after(record));
        let count = expected.states.saturating_sub(standing.states);
        let put = Request::Put { sequence: standing.states, records };
        match ask(&mut link, put).await? {
            Reply::Stored(receipt) => {
                let own = public(&secret);
                if receipt.standing != expected || !receipt.is_genuine(&own, &tower.id) {
                    return Err("its receipt is not for what we handed in".into());
                }
                progress.standing = receipt.standing;
                progress.states = progress.states.saturating_add(count);
                Ok(Some(()))
            }
            Reply::Refused(Refusal::SessionFull) => {
                progress.full = progress.full.saturating_add(1);
                progress.standing = Standing::default();
                Ok(None)
            }
            other => done(other).map(|()| None),
        }
    }

    async fn greet(&self, tower: &TowerAt, secret: &SecretKey) -> Result<(Link, Standing), String> {
        let linked = Link::connect(&tower.address, &tower.id, secret).await;
        let mut link = linked.map_err(|error| format!("{}: {error}", tower.address))?;
        let hello = Request::Hello { version: VERSION, chain: self.chain };
        match ask(&mut link, hello).await? {
            Reply::Welcome(welcome) => Ok((link, welcome.session)),
            other => Err(done(other).err().unwrap_or_else(|| "it does not greet us".into())),
        }
    }

    /// The key of a session. It tells a tower nothing about who we are.
    fn session(&self, tower: &TowerAt, channel: u64, number: u32) -> SecretKey {
        let mut engine = HmacEngine::<sha256::Hash>::new(&self.keys.storage_key());
        engine.input(b"fulmen tower session");
        engine.input(&key(tower, channel));
        engine.input(&number.to_be_bytes());
        let secret = SecretKey::from_slice(Hmac::from_engine(engine).as_byte_array());
        // One hash in 2^128 is no key; that session would be the node's own.
        secret.unwrap_or_else(|_| self.keys.node_secret())
    }
}

async fn ask(link: &mut Link, request: Request) -> Result<Reply, String> {
    let asked = link.send(&request).await;
    asked.map_err(|error| error.to_string())?;
    link.receive(PATIENCE).await.map_err(|error| error.to_string())
}

fn done(reply: Reply) -> Result<(), String> {
    match reply {
        Reply::Done => Ok(()),
        Reply::Refused(refusal) => Err(format!("it refuses: {refusal}")),
        other => Err(format!("it answers something else: {other:?}")),
    }
}

fn public(secret: &SecretKey) -> PublicKey {
    secret.public_key(&Secp256k1::signing_only())
}

/// The channel of a queue's row.
fn channel_of(key: &[u8]) -> Option<u64> {
    const TOWER: usize = 33;
    let channel = key.get(TOWER..)?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*channel))
}
