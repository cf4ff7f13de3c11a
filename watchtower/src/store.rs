//! What the tower must not forget: one SQLite file.
//!
//! | table | what |
//! |---|---|
//! | session | clients' keys, how many records each has and their hash |
//! | visit | what address each session was begun from, hashed |
//! | record | sealed records by hint |
//! | channel | channels of private mode |
//! | note | what clients have us keep beside a session or a channel, for themselves |
//! | breach | breaches under way |
//! | block | the last blocks processed, to follow reorganisations by |

use crate::api::message::Standing;
use crate::gatekeeper::Load;
use crate::private::PrivateChannel;
use crate::record::{Hint, Sealed};
use crate::responder::{Breach, DEEP};
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{BlockHash, OutPoint, Txid};
use fulmen_channel::amount::Height;
use rusqlite::{params, Connection, OptionalExtension, Transaction};
use std::path::Path;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS block (height INTEGER PRIMARY KEY, hash BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS session (
        number INTEGER PRIMARY KEY, client BLOB NOT NULL UNIQUE,
        states INTEGER NOT NULL, bytes INTEGER NOT NULL, hash BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS visit (
        session INTEGER PRIMARY KEY, origin BLOB NOT NULL, height INTEGER NOT NULL);
    CREATE INDEX IF NOT EXISTS visit_by_origin ON visit (origin);
    CREATE TABLE IF NOT EXISTS record (
        session INTEGER NOT NULL, hint BLOB NOT NULL, sealed BLOB NOT NULL);
    DROP INDEX IF EXISTS record_by_hint;
    CREATE INDEX IF NOT EXISTS record_by_hint_and_session ON record (hint, session);
    CREATE INDEX IF NOT EXISTS record_by_session ON record (session);
    CREATE TABLE IF NOT EXISTS channel (
        funding BLOB PRIMARY KEY, client BLOB NOT NULL, body BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS note (owner BLOB PRIMARY KEY, note BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS breach (txid BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
";
const FORMAT: &[u8] = &[1];
/// Different records of one hint in a session. A client has one for each state; whoever makes up
/// many for one breach is not to keep the tower busy when it comes.
pub const PER_HINT: u64 = 2;

/// Why something is not stored or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite's trouble.
    #[error("the tower's database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file is of a later version, or damaged.
    #[error("the tower's database holds what this version cannot read: {0}")]
    Unreadable(&'static str),
}

impl StoreError {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        matches!(self, StoreError::Sqlite(rusqlite::Error::SqliteFailure(error, _))
            if error.code == rusqlite::ErrorCode::DiskFull)
    }
}

/// The open file.
pub struct Store {
    connection: Connection,
}

/// A session of altruist mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Its number in the file; none before its first record.
    pub number: Option<i64>,
    /// How far it is.
    pub standing: Standing,
    /// Bytes of its records.
    pub bytes: u64,
    /// What its address is known by. Written once, not read back: [`Store::load`] counts by it.
    pub origin: [u8; 8],
}

impl Store {
    /// Opens the file, made if it is not there.
    ///
    /// # Errors
    /// [`StoreError`], also if another tower has it open.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let connection = Connection::open(path)?;
        // Of a new file: seven channels of 2.2 kB fit into a page, none into a fourth of it twice.
        connection.pragma_update(None, "page_size", 16_384)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(SCHEMA)?;
        let store = Store { connection };
        match store.meta("format")? {
            None => store.set_meta("format", FORMAT)?,
            Some(format) if format == FORMAT => {}
            Some(_) => return Err(StoreError::Unreadable("its format is newer")),
        }
        Ok(store)
    }

    /// A fact by name.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT value FROM meta WHERE name = ?1";
        Ok(self.connection.query_row(sql, [name], |row| row.get(0)).optional()?)
    }

    /// Notes a fact.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn set_meta(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO meta VALUES (?1, ?2)";
        self.connection.execute(sql, params![name, value])?;
        Ok(())
    }

    /// How many sessions there are.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn sessions(&self) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM session";
        Ok(self.connection.query_row(sql, [], |row| count(row, 0))?)
    }

    /// What there is, and what of it is this address's.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn load(&self, origin: [u8; 8]) -> Result<Load, StoreError> {
        let sql =
            "SELECT count(*), coalesce(sum(bytes), 0), (SELECT count(DISTINCT origin) FROM visit)
            FROM visit JOIN session ON session.number = visit.session WHERE origin = ?1";
        let (sessions, disk) = (self.sessions()?, self.bytes()?);
        let read = |row: &rusqlite::Row| {
            let (own_sessions, own_bytes) = (count(row, 0)?, count(row, 1)?);
            Ok(Load { sessions, disk, addresses: count(row, 2)?, own_sessions, own_bytes })
        };
        Ok(self.connection.query_row(sql, [origin.as_slice()], read)?)
    }

    /// The session of this client.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn session(&self, client: &PublicKey) -> Result<Session, StoreError> {
        let sql = "SELECT number, states, hash, bytes FROM session WHERE client = ?1";
        let read = |row: &rusqlite::Row| {
            let standing = Standing { states: count(row, 1)?, hash: row.get(2)? };
            let (number, bytes) = (Some(row.get(0)?), count(row, 3)?);
            Ok(Session { number, standing, bytes, ..Session::default() })
        };
        let client = client.serialize();
        Ok(self
            .connection
            .query_row(sql, [client.as_slice()], read)
            .optional()?
            .unwrap_or_default())
    }

    /// The note of this client's session, or of its channel with this F; empty if there is none.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn note(&self, client: &PublicKey, of: Option<&OutPoint>) -> Result<Vec<u8>, StoreError> {
        let sql = "SELECT note FROM note WHERE owner = ?1";
        let found = self.connection.query_row(sql, [owner(client, of)], |row| row.get(0));
        Ok(found.optional()?.unwrap_or_default())
    }

    /// Adds records to a session, which is `session` from then on. All, or none if they were more
    /// than [`PER_HINT`] different ones of one hint. What a session has already is not kept twice.
    /// With them goes the session's note. Whether they are kept.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn put_records(
        &mut self,
        client: &PublicKey,
        session: &Session,
        records: &[Sealed],
        note: &[u8],
    ) -> Result<bool, StoreError> {
        let Session { standing, bytes, origin, .. } = session;
        let transaction = self.connection.transaction()?;
        put_note(&transaction, owner(client, None), note)?;
        let client = client.serialize();
        transaction.execute(
            "INSERT INTO session (client, states, bytes, hash) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (client) DO UPDATE SET states = ?2, bytes = ?3, hash = ?4",
            params![client.as_slice(), number(standing.states), number(*bytes), standing.hash],
        )?;
        let sql = "SELECT number FROM session WHERE client = ?1";
        let session: i64 = transaction.query_row(sql, [client.as_slice()], |row| row.get(0))?;
        transaction.execute(
            // The height is of earlier towers, which dropped what was not used for long.
            "INSERT INTO visit VALUES (?1, ?2, 0) ON CONFLICT (session) DO NOTHING",
            params![session, origin.as_slice()],
        )?;
        {
            let same_hint = "SELECT count(*), total(sealed = ?3) FROM record
                WHERE hint = ?2 AND session = ?1";
            let mut same_hint = transaction.prepare_cached(same_hint)?;
            let mut insert =
                transaction.prepare_cached("INSERT INTO record VALUES (?1, ?2, ?3)")?;
            for record in records {
                let row = params![session, record.hint.as_slice(), record.bytes];
                let read = |row: &rusqlite::Row| Ok((count(row, 0)?, row.get::<_, f64>(1)? > 0.0));
                let (others, has_it) = same_hint.query_row(row, read)?;
                if !has_it && others >= PER_HINT {
                    return Ok(false);
                }
                if !has_it {
                    insert.execute(row)?;
                }
            }
        }
        transaction.commit()?;
        Ok(true)
    }

    /// Deletes a session. The hints of its records that no other session has.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn end_session(&mut self, session: i64) -> Result<Vec<Hint>, StoreError> {
        let transaction = self.connection.transaction()?;
        let gone = {
            let sql = "SELECT DISTINCT hint FROM record AS own WHERE session = ?1 AND NOT EXISTS
                (SELECT 1 FROM record WHERE hint = own.hint AND session != ?1)";
            let mut query = transaction.prepare(sql)?;
            let hints = query.query_map([session], |row| row.get(0))?;
            hints.collect::<Result<Vec<Hint>, _>>()?
        };
        transaction.execute("DELETE FROM record WHERE session = ?1", [session])?;
        transaction.execute("DELETE FROM visit WHERE session = ?1", [session])?;
        let own = "(SELECT client FROM session WHERE number = ?1)";
        transaction.execute(&format!("DELETE FROM note WHERE owner = {own}"), [session])?;
        transaction.execute("DELETE FROM session WHERE number = ?1", [session])?;
        transaction.commit()?;
        Ok(gone)
    }

    /// Hands over every hint.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn hints(&self, mut each: impl FnMut(Hint)) -> Result<(), StoreError> {
        let mut query = self.connection.prepare("SELECT hint FROM record")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            each(row.get(0)?);
        }
        Ok(())
    }

    /// Hands over the sealed records of this hint one by one, as long as `each` wants more.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn records(
        &self,
        hint: &Hint,
        mut each: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let mut query = self.connection.prepare("SELECT sealed FROM record WHERE hint = ?1")?;
        let mut rows = query.query([hint.as_slice()])?;
        while let Some(row) = rows.next()? {
            if !each(row.get_ref(0)?.as_blob().unwrap_or_default()) {
                break;
            }
        }
        Ok(())
    }

    /// A channel of private mode, and whose it is.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn channel(
        &self,
        funding: &OutPoint,
    ) -> Result<Option<(Vec<u8>, PrivateChannel)>, StoreError> {
        let sql = "SELECT client, body FROM channel WHERE funding = ?1";
        let read = |row: &rusqlite::Row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?));
        let found = self.connection.query_row(sql, [serialize(funding)], read).optional()?;
        let Some((client, body)) = found else { return Ok(None) };
        let channel = PrivateChannel::from_bytes(&body);
        Ok(Some((client, channel.map_err(|_| StoreError::Unreadable("a channel"))?)))
    }

    /// Writes a channel of private mode, and its note if there is a new one.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn put_channel(
        &mut self,
        client: &PublicKey,
        channel: &PrivateChannel,
        note: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        let sql = "INSERT OR REPLACE INTO channel VALUES (?1, ?2, ?3)";
        let funding = &channel.head.funding;
        let (client_key, body) = (client.serialize(), channel.to_bytes());
        transaction.execute(sql, params![serialize(funding), client_key.as_slice(), body])?;
        if let Some(note) = note {
            put_note(&transaction, owner(client, Some(funding)), note)?;
        }
        Ok(transaction.commit()?)
    }

    /// Deletes a channel of private mode.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn drop_channel(
        &mut self,
        client: &PublicKey,
        funding: &OutPoint,
    ) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        transaction.execute("DELETE FROM channel WHERE funding = ?1", [serialize(funding)])?;
        let owner = owner(client, Some(funding));
        transaction.execute("DELETE FROM note WHERE owner = ?1", [owner])?;
        Ok(transaction.commit()?)
    }

    /// What funds the channels of private mode.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn fundings(&self) -> Result<Vec<OutPoint>, StoreError> {
        let mut query = self.connection.prepare("SELECT funding FROM channel")?;
        let found = query.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        let bad = StoreError::Unreadable("the outpoint of a channel");
        let found = found.collect::<Result<Vec<_>, _>>()?;
        let read = found.iter().map(|bytes| deserialize(bytes)).collect::<Result<_, _>>();
        read.map_err(|_| bad)
    }

    /// The breaches under way.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn breaches(&self) -> Result<Vec<Breach>, StoreError> {
        let mut query = self.connection.prepare("SELECT body FROM breach")?;
        let found = query.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        let found = found.collect::<Result<Vec<_>, _>>()?;
        // What older rows lack at the end reads as zeros; behind a whole row nothing is read.
        let whole = found.iter().map(|bytes| [bytes.as_slice(), &[0; 8]].concat());
        let read = whole.map(|bytes| postcard::from_bytes(&bytes)).collect::<Result<_, _>>();
        read.map_err(|_| StoreError::Unreadable("a breach"))
    }

    /// The last block processed.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn tip(&self) -> Result<Option<(Height, BlockHash)>, StoreError> {
        let sql = "SELECT height, hash FROM block ORDER BY height DESC LIMIT 1";
        let read = |row: &rusqlite::Row| {
            Ok((Height::new(row.get(0)?), BlockHash::from_byte_array(row.get(1)?)))
        };
        Ok(self.connection.query_row(sql, [], read).optional()?)
    }

    /// A block was processed (`Some`) or taken back, and these breaches changed or are over: one
    /// transaction.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn put_block(
        &mut self,
        height: Height,
        hash: Option<BlockHash>,
        breaches: &[(Txid, Option<&Breach>)],
    ) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        match hash {
            Some(hash) => {
                let sql = "INSERT OR REPLACE INTO block VALUES (?1, ?2)";
                transaction.execute(sql, params![height.number(), hash.to_byte_array()])?;
                let old = height.minus(DEEP.saturating_mul(2)).number();
                transaction.execute("DELETE FROM block WHERE height < ?1", [old])?;
            }
            None => {
                transaction.execute("DELETE FROM block WHERE height >= ?1", [height.number()])?;
            }
        }
        put_breaches(&transaction, breaches)?;
        Ok(transaction.commit()?)
    }

    /// These breaches changed.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn put_breaches(&mut self, breaches: &[(Txid, Option<&Breach>)]) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        put_breaches(&transaction, breaches)?;
        Ok(transaction.commit()?)
    }

    /// Bytes of the file that are in use.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn bytes(&self) -> Result<u64, StoreError> {
        let value = |row: &rusqlite::Row| count(row, 0);
        let pragma = |name| self.connection.pragma_query_value(None, name, value);
        let used = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
        Ok(used.saturating_mul(pragma("page_size")?))
    }
}

fn put_breaches(
    transaction: &Transaction,
    breaches: &[(Txid, Option<&Breach>)],
) -> Result<(), StoreError> {
    for (txid, breach) in breaches {
        let txid = txid.to_byte_array();
        match breach.map(postcard::to_stdvec) {
            Some(Ok(body)) => {
                let sql = "INSERT OR REPLACE INTO breach VALUES (?1, ?2)";
                transaction.execute(sql, params![txid, body])?;
            }
            // Cannot fail: the sink is a Vec and every part has a known length.
            Some(Err(_)) => return Err(StoreError::Unreadable("a breach that we wrote")),
            None => {
                transaction.execute("DELETE FROM breach WHERE txid = ?1", [txid])?;
            }
        }
    }
    Ok(())
}

/// Whose a note is: a session's client, or a client and its channel.
fn owner(client: &PublicKey, of: Option<&OutPoint>) -> Vec<u8> {
    [client.serialize().to_vec(), of.map(serialize).unwrap_or_default()].concat()
}

fn put_note(transaction: &Transaction, owner: Vec<u8>, note: &[u8]) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO note VALUES (?1, ?2)";
    transaction.execute(sql, params![owner, note])?;
    Ok(())
}

fn count(row: &rusqlite::Row, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

/// SQLite's numbers are signed; counts and sizes never get there.
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
