//! One process a directory.

use super::StoreError;
use rusqlite::{Connection, ErrorCode};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// Holds a lock file for as long as it lives; the system lets go of it when the process dies.
///
/// The lock is the one that SQLite takes on an empty database: it works on every system and file
/// system that the store itself works on, and also between two stores of one process.
#[derive(Debug)]
pub struct DirLock {
    // Never used again, only held; the mutex makes the lock shareable.
    _held: Mutex<Connection>,
    path: PathBuf,
}

impl DirLock {
    /// Takes the lock `path`, or says that another process has it.
    pub fn take(path: &Path) -> Result<DirLock, StoreError> {
        let refuse = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                StoreError::InUse(path.parent().unwrap_or(path).to_path_buf())
            }
            _ => StoreError::Unusable { path: path.to_path_buf(), why: error.to_string() },
        };
        let connection = Connection::open(path).map_err(refuse)?;
        connection.busy_timeout(Duration::ZERO).map_err(refuse)?;
        connection.execute_batch("BEGIN EXCLUSIVE").map_err(refuse)?;
        Ok(DirLock { _held: Mutex::new(connection), path: path.to_path_buf() })
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
