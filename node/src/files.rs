//! Small files that must be whole or not there, and readable by their owner only.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Result, Write};
use std::path::{Path, PathBuf};

/// Makes `directory` and those above it, for the owner only.
pub fn make_private_directory(directory: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Makes a new file with access mode `mode` that holds `bytes`, durably. There must be none.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut options = OpenOptions::new();
    options.create_new(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes or replaces the file `path`: after a crash it holds what it held before, or `bytes`.
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let new = beside(path, ".new");
    remove_if_there(&new)?;
    create(&new, bytes, mode)?;
    std::fs::rename(&new, path)?;
    sync_directory_of(path)
}

/// Removes a file if there is one.
pub fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes the directory entry of `path` durable.
pub fn sync_directory_of(path: &Path) -> Result<()> {
    File::open(directory_of(path))?.sync_all()
}

/// The directory in which `path` is.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

/// The file whose name is that of `path` and `suffix`.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    name.into()
}
