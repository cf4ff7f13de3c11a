//! The file `channel.backup`: replaced as a whole, so that it is never half a backup.

use crate::files::{beside, write_atomically};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
) -> Result<T, String> {
    let (owned, shown) = (path.to_owned(), path.display().to_string());
    let done = tokio::task::spawn_blocking(move || work(&owned)).await;
    let done = done.map_err(|error| error.to_string())?;
    done.map_err(|error| format!("channel backup {shown}: {error}"))
}

/// What the file holds; nothing if there is none.
///
/// # Errors
/// In words, when it cannot be read.
pub async fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    blocking(path, |path| match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    })
    .await
}

/// Replaces the file.
///
/// # Errors
/// In words, when it cannot be written.
pub async fn write(path: &Path, bytes: Vec<u8>) -> Result<(), String> {
    blocking(path, move |path| write_atomically(path, &bytes, 0o600)).await
}

/// Gives the file another name, which is returned.
///
/// # Errors
/// In words, when that cannot be done.
pub async fn set_aside(path: &Path) -> Result<PathBuf, String> {
    let aside = beside(path, &format!(".{}", crate::clock::unix_time()));
    let target = aside.clone();
    blocking(path, move |path| std::fs::rename(path, target)).await?;
    Ok(aside)
}
