//! Files of earlier versions: copied beside, then brought forward in one transaction.
//!
//! ```text
//!   fulmen.db, version 1 ─▶ fulmen.db.v1-backup ─▶ BEGIN, step 1 ─▶ 2, …, version = newest, COMMIT
//! ```
//!
//! What a record may change without a step is said in docs/architecture.md, "Records that grow".

use super::{StoreError, SCHEMA_VERSION};
use crate::files;
use rusqlite::{Connection, Transaction};
use std::path::{Path, PathBuf};

/// What a step may do to the file. Values carry their sums: read and write them by
/// [`super::sqlite::unseal`] and [`super::sqlite::seal`].
pub(super) type Step = fn(&Transaction<'_>) -> rusqlite::Result<()>;

/// Step `n` (from 0) leads from version `n + 1` to `n + 2`.
pub(super) const STEPS: &[Step] = &[longer_records];

// A build that writes a version must be able to come to it.
const _: () = assert!(STEPS.len() + 1 == SCHEMA_VERSION as usize);

/// 1 to 2: records got further fields at their ends. Shorter ones are read as they are, so there is
/// nothing to rewrite; the number keeps builds away that would drop what they do not know.
fn longer_records(_: &Transaction<'_>) -> rusqlite::Result<()> {
    Ok(())
}

/// Where the copy of a file of `version` is kept.
pub(super) fn backup_path(path: &Path, version: u32) -> PathBuf {
    files::beside(path, &format!(".v{version}-backup"))
}

/// Copies the database, its log included, to [`backup_path`]. One that is there already was made
/// before a migration that did not end: it is replaced.
pub(super) fn back_up(reader: &Connection, path: &Path, version: u32) -> Result<(), StoreError> {
    let backup = backup_path(path, version);
    let copied = (|| -> Result<(), Box<dyn std::error::Error>> {
        let new = files::beside(&backup, ".new");
        files::remove_if_there(&new)?;
        files::create(&new, &[], 0o600)?;
        let name = new.to_str().ok_or("its path is no UTF-8")?;
        reader.execute("VACUUM INTO ?1", [name])?;
        std::fs::File::open(&new)?.sync_all()?;
        std::fs::rename(&new, &backup)?;
        Ok(files::sync_directory_of(&backup)?)
    })();
    copied.map_err(|error| StoreError::Unusable {
        path: path.to_path_buf(),
        why: format!(
            "it is of version {version} and cannot be copied to {} before it is changed: {error}. \
             Nothing was changed",
            backup.display()
        ),
    })?;
    tracing::info!(
        "the database is brought from version {version} to {SCHEMA_VERSION}; {} is what it was. \
         Delete it once channels have moved: what it holds is revoked then",
        backup.display()
    );
    Ok(())
}

/// Takes the steps that lead on from `version`.
pub(super) fn run(
    steps: &[Step],
    version: u32,
    transaction: &Transaction<'_>,
) -> rusqlite::Result<()> {
    let done = usize::try_from(version.saturating_sub(1)).unwrap_or(usize::MAX);
    steps.iter().skip(done).try_for_each(|step| step(transaction))
}
