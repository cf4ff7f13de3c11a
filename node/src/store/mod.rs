//! The store: one file, one writer thread with group commit, reads beside it.
//!
//! ```text
//!   channel task ─┐                     ┌─ Unit Unit Unit ─┐
//!   channel task ─┼─ submit ─▶ queue ─▶ │ one transaction  │ ─▶ one fsync ─▶ done, done, done
//!   rpc call     ─┘   (FIFO)            └──────────────────┘
//!   get, scan ─────────────────────────▶ own read connections
//! ```
//!
//! Everything that waits while one fsync runs goes into the next transaction together. A [`Unit`]
//! is all or nothing, units are applied in the order in which they were submitted, and `done` is
//! called only when the unit would survive a power cut. The first write that fails is the last
//! one tried: from then on nothing is accepted, so that nothing more is signed.

mod lock;
mod migrate;
mod range;
mod sqlite;
mod table;
mod unit;
mod wal;
mod writer;

pub use lock::DirLock;
pub use range::KeyRange;
pub use sqlite::{SqliteOptions, SqliteStorage};
pub use table::Table;
pub use unit::{Unit, Write};
pub use writer::{Stats, Store, QUEUE_CAPACITY};

use std::path::PathBuf;

/// The version of the file that this build writes. A file of a later one is refused, one of an
/// earlier one is brought forward when it is opened.
pub const SCHEMA_VERSION: u32 = 2;

/// A row: its key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// What the store needs of a database. Narrow, so that another one can stand behind it.
pub trait Storage: Send + Sync {
    /// Applies the units in order in one transaction, and returns when that is durable. On an
    /// error none of them is to be relied on. Called from one thread at a time.
    fn apply(&self, units: &[Unit]) -> Result<(), StoreError>;

    /// The value under `key`, if there is one.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `limit` rows of `range` in key order, from the end if `reverse`.
    fn scan(
        &self,
        table: Table,
        range: &KeyRange,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Row>, StoreError>;

    /// Called once after the last `apply`: leaves the files tidy.
    fn close(&self) -> Result<(), StoreError>;
}

/// Why the store cannot do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has the directory open.
    #[error(
        "{} is in use by another fulmend: stop that one first, or give this one a directory of \
         its own",
        .0.display()
    )]
    InUse(PathBuf),
    /// The file, or a row of it, is not what was written.
    #[error(
        "{} is damaged and was left untouched: {why}. Do not put an older copy in its place while \
         channels are open: it may publish what was revoked",
        path.display()
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file was written by a later version.
    #[error(
        "{} has schema version {found}, this build knows up to {SCHEMA_VERSION}: run a newer \
         fulmend",
        path.display()
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The version that it says it has.
        found: u32,
    },
    /// The file or its directory cannot be opened, made or read.
    #[error("cannot use the database {}: {why}", path.display())]
    Unusable {
        /// The database file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// A write failed, now or earlier. Nothing more is written until a restart.
    #[error("writing to the database failed, nothing more is signed until a restart: {0}")]
    Failed(String),
    /// More is waiting to be written than the queue holds; try again later.
    #[error("the database is {QUEUE_CAPACITY} writes behind: try again later")]
    QueueFull,
    /// The store was closed.
    #[error("the database is closed")]
    Closed,
}
