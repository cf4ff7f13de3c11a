//! The storage on SQLite: WAL, synchronous=FULL, every row with a check sum.

use super::{migrate, wal, DirLock, KeyRange};
use super::{Row, Storage, StoreError, Table, Unit, Write, SCHEMA_VERSION};
use crate::files;
use bitcoin::hashes::{siphash24, HashEngine};
use rusqlite::{params_from_iter, Connection, OpenFlags, OptionalExtension, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const VERSION_KEY: &[u8] = b"schema_version";
/// Bytes of check sum behind each value.
const SUM: usize = 8;
/// Idle read connections kept open.
const IDLE_READERS: usize = 4;

/// What may be set when a file is opened.
#[derive(Debug, Clone, Default)]
pub struct SqliteOptions {
    /// No more pages (of 4,096 bytes) than this: a disk that is full sooner.
    pub max_pages: Option<u32>,
}

/// One SQLite file, locked for this process.
pub struct SqliteStorage {
    path: PathBuf,
    writer: Mutex<Option<Connection>>,
    readers: Mutex<Vec<Connection>>,
    _lock: DirLock,
}

impl SqliteStorage {
    /// Opens `path`, making it and its directory if there are none. An existing file is read
    /// through and checked, without a write to it, before it is used; one of an earlier version is
    /// copied, then brought forward.
    pub fn open(path: &Path, options: &SqliteOptions) -> Result<Self, StoreError> {
        let at = At(path);
        files::make_private_directory(files::directory_of(path))
            .map_err(|error| at.unusable(error))?;
        let lock = DirLock::take(&path.with_extension("lock"))?;
        let version = if path.exists() { at.check()? } else { at.create()? };
        let writer = at.open_writer(options, version).map_err(|error| at.unusable(error))?;
        Ok(SqliteStorage {
            path: path.to_path_buf(),
            writer: Mutex::new(Some(writer)),
            readers: Mutex::default(),
            _lock: lock,
        })
    }

    /// Runs `query` on an idle read connection, or on a new one.
    fn read<T>(
        &self,
        query: impl FnOnce(&At<'_>, &Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let at = At(&self.path);
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => at.open_reader().map_err(|error| at.unusable(error))?,
        };
        let result = query(&at, &reader);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < IDLE_READERS {
            readers.push(reader);
        }
        result
    }
}

impl Storage for SqliteStorage {
    fn apply(&self, units: &[Unit]) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = writer.as_mut().ok_or(StoreError::Closed)?;
        write(connection, units).map_err(|error| StoreError::Failed(error.to_string()))
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|at, connection| at.get(connection, table, key))
    }

    fn scan(
        &self,
        table: Table,
        range: &KeyRange,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Row>, StoreError> {
        self.read(|at, connection| {
            let mut rows = Vec::new();
            at.visit(connection, table, range, limit, reverse, |key, value| {
                rows.push((key, value));
            })?;
            Ok(rows)
        })
    }

    fn close(&self) -> Result<(), StoreError> {
        // Readers first: the last connection to go copies the log into the file and removes it.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let result = writer.map_or(Ok(()), |writer| writer.close().map_err(|(_, error)| error));
        result.map_err(|error| At(&self.path).unusable(error))
    }
}

fn write(connection: &mut Connection, units: &[Unit]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for write in units.iter().flat_map(Unit::writes) {
        match write {
            Write::Put { table, key, value } => {
                let sql = format!("REPLACE INTO {} VALUES (?1, ?2)", table.name());
                let sealed = seal(key, value);
                transaction.prepare_cached(&sql)?.execute((key, sealed))?;
            }
            Write::Delete { table, key } => {
                let sql = format!("DELETE FROM {} WHERE key = ?1", table.name());
                transaction.prepare_cached(&sql)?.execute([key])?;
            }
            Write::DeletePrefix { table, prefix } => {
                let (condition, bounds) = condition(&KeyRange::prefix(prefix));
                let sql = format!("DELETE FROM {} WHERE {condition}", table.name());
                transaction.prepare_cached(&sql)?.execute(params_from_iter(bounds))?;
            }
        }
    }
    transaction.commit()
}

/// The SQL for a range, and what it binds.
fn condition(range: &KeyRange) -> (&'static str, Vec<Vec<u8>>) {
    match &range.end {
        Some(end) => ("key >= ?1 AND key < ?2", vec![range.start.clone(), end.clone()]),
        None => ("key >= ?1", vec![range.start.clone()]),
    }
}

/// SQLite checks its pages' structure, not the bytes in them: a flipped bit in an amount would go
/// unnoticed. So each value carries a sum over key and value.
fn sum(key: &[u8], value: &[u8]) -> [u8; SUM] {
    let mut engine = siphash24::HashEngine::with_keys(0, 0);
    engine.input(key);
    engine.input(&[u8::try_from(key.len()).unwrap_or(u8::MAX)]);
    engine.input(value);
    siphash24::Hash::from_engine_to_u64(engine).to_be_bytes()
}

fn seal(key: &[u8], value: &[u8]) -> Vec<u8> {
    [value, &sum(key, value)].concat()
}

fn unseal(key: &[u8], mut sealed: Vec<u8>) -> Option<Vec<u8>> {
    let end = sealed.len().checked_sub(SUM)?;
    let found = sealed.split_off(end);
    (found == sum(key, &sealed)).then_some(sealed)
}

/// The file, for error texts.
struct At<'a>(&'a Path);

impl At<'_> {
    fn unusable(&self, error: impl ToString) -> StoreError {
        StoreError::Unusable { path: self.0.to_path_buf(), why: error.to_string() }
    }

    fn damaged(&self, why: impl ToString) -> StoreError {
        StoreError::Damaged { path: self.0.to_path_buf(), why: why.to_string() }
    }

    fn refused(&self, error: rusqlite::Error) -> StoreError {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match error.sqlite_error_code() {
            Some(DatabaseCorrupt | NotADatabase) => self.damaged(error),
            _ => self.unusable(error),
        }
    }

    fn open_reader(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(self.0, flags)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    }

    /// A file of `version` is brought forward to today's.
    fn open_writer(&self, options: &SqliteOptions, version: u32) -> rusqlite::Result<Connection> {
        let mut connection = Connection::open(self.0)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // On macOS a plain fsync leaves the data in the drive's cache.
        connection.pragma_update(None, "fullfsync", true)?;
        connection.pragma_update(None, "checkpoint_fullfsync", true)?;
        if let Some(pages) = options.max_pages {
            connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for table in Table::ALL {
            transaction.execute_batch(&format!(
                "CREATE TABLE IF NOT EXISTS {} \
                 (key BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID",
                table.name()
            ))?;
        }
        migrate::run(migrate::STEPS, version, &transaction)?;
        let newest = seal(VERSION_KEY, &SCHEMA_VERSION.to_be_bytes());
        // Nothing is written where nothing changes.
        let sql = "INSERT INTO meta VALUES (?1, ?2) \
                   ON CONFLICT DO UPDATE SET value = excluded.value WHERE value <> excluded.value";
        transaction.execute(sql, (VERSION_KEY, newest))?;
        transaction.commit()?;
        Ok(connection)
    }

    /// Makes the file under another name first, so that one under this name is always whole: a
    /// database without its tables has lost them, and is not taken for a new one.
    fn create(&self) -> Result<u32, StoreError> {
        if files::beside(self.0, "-wal").exists() {
            return Err(self.damaged("its log is there, but the file itself is not"));
        }
        let new = files::beside(self.0, ".new");
        let made = (|| -> Result<(), Box<dyn std::error::Error>> {
            for leftover in ["", "-wal", "-shm"] {
                files::remove_if_there(&files::beside(&new, leftover))?;
            }
            // SQLite gives the log beside the file the mode of the file.
            files::create(&new, &[], 0o600)?;
            let made = At(&new).open_writer(&Default::default(), SCHEMA_VERSION)?;
            made.close().map_err(|(_, error)| error)?;
            std::fs::rename(&new, self.0)?;
            Ok(files::sync_directory_of(self.0)?)
        })();
        made.map(|()| SCHEMA_VERSION).map_err(|error| self.unusable(error))
    }

    /// Reads everything once, writing nothing: version, structure, and the sum of each row. Returns
    /// the version; one of an earlier version has been copied.
    fn check(&self) -> Result<u32, StoreError> {
        self.check_log()?;
        let connection = self.open_reader().map_err(|error| self.refused(error))?;
        let found: String = connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|error| self.refused(error))?;
        if found != "ok" {
            return Err(self.damaged(found));
        }
        if !self.has(&connection, Table::Meta)? {
            return Err(self.damaged("it is not a database of fulmen"));
        }
        let version = self.get(&connection, Table::Meta, VERSION_KEY)?;
        let version: [u8; 4] = version
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| self.damaged("it has no schema version"))?;
        let version = match u32::from_be_bytes(version) {
            0 => return Err(self.damaged("there never was a schema version 0")),
            found if found > SCHEMA_VERSION => {
                return Err(StoreError::Newer { path: self.0.to_path_buf(), found })
            }
            found => found,
        };
        for table in Table::ALL {
            if self.has(&connection, *table)? {
                let range = KeyRange::all();
                self.visit(&connection, *table, &range, usize::MAX, false, |_, _| ())?;
            }
        }
        if version < SCHEMA_VERSION {
            migrate::back_up(&connection, self.0, version)?;
        }
        Ok(version)
    }

    /// The log that a crash left: SQLite takes what follows an altered byte for never written.
    fn check_log(&self) -> Result<(), StoreError> {
        match std::fs::read(files::beside(self.0, "-wal")) {
            Ok(log) => wal::check(&log).map_err(|why| self.damaged(why)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.unusable(error)),
        }
    }

    fn has(&self, connection: &Connection, table: Table) -> Result<bool, StoreError> {
        connection
            .query_row(
                "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1",
                [table.name()],
                |_| Ok(()),
            )
            .optional()
            .map(|found| found.is_some())
            .map_err(|error| self.refused(error))
    }

    fn get(
        &self,
        connection: &Connection,
        table: Table,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = format!("SELECT value FROM {} WHERE key = ?1", table.name());
        let sealed = connection
            .prepare_cached(&sql)
            .and_then(|mut query| query.query_row([key], |row| row.get(0)).optional())
            .map_err(|error| self.refused(error))?;
        sealed.map(|sealed| self.unseal(table, key, sealed)).transpose()
    }

    fn visit(
        &self,
        connection: &Connection,
        table: Table,
        range: &KeyRange,
        limit: usize,
        reverse: bool,
        mut row_found: impl FnMut(Vec<u8>, Vec<u8>),
    ) -> Result<(), StoreError> {
        let (condition, bounds) = condition(range);
        let order = if reverse { "DESC" } else { "ASC" };
        let name = table.name();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql = format!(
            "SELECT key, value FROM {name} WHERE {condition} ORDER BY key {order} LIMIT {limit}"
        );
        let refused = |error| self.refused(error);
        let mut query = connection.prepare_cached(&sql).map_err(refused)?;
        let mut rows = query.query(params_from_iter(bounds)).map_err(refused)?;
        while let Some(row) = rows.next().map_err(refused)? {
            let key: Vec<u8> = row.get(0).map_err(refused)?;
            let value = self.unseal(table, &key, row.get(1).map_err(refused)?)?;
            row_found(key, value);
        }
        Ok(())
    }

    fn unseal(&self, table: Table, key: &[u8], sealed: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        unseal(key, sealed).ok_or_else(|| {
            self.damaged(format!("row {} of table {} was altered", hex::encode(key), table.name()))
        })
    }
}
