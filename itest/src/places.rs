//! Where things are: the workspace, its target folder, folders of a test, and locks between
//! processes.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::failure::{Context, Failure, Result};

/// The workspace's root.
pub fn workspace() -> PathBuf {
    let itest = Path::new(env!("CARGO_MANIFEST_DIR"));
    itest.parent().unwrap_or(itest).to_path_buf()
}

/// Where cargo builds: CARGO_TARGET_DIR, or the workspace's `target/`.
pub fn target() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty());
    workspace().join(named.map_or_else(|| "target".into(), PathBuf::from))
}

/// A folder for one node's data, gone when the test ends; with FULMEN_KEEP set it stays.
///
/// # Errors
/// When the system's temporary folder cannot be written.
pub fn temporary(name: &str) -> Result<TempDir> {
    let keep = std::env::var_os("FULMEN_KEEP").is_some();
    let dir = tempfile::Builder::new()
        .prefix(&format!("fulmen-{name}-"))
        .disable_cleanup(keep)
        .tempdir()
        .context("make a temporary folder")?;
    if keep {
        eprintln!("{name}: {} stays", dir.path().display());
    }
    Ok(dir)
}

/// Copies a folder with all that is in it.
///
/// # Errors
/// When a file cannot be read or written.
pub fn copy_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_all(&entry.path(), &target)?,
            false => fs::copy(entry.path(), target).map(drop)?,
        }
    }
    Ok(())
}

/// A lock between processes, held as long as the value lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock called `path`.
    ///
    /// # Errors
    /// When the file cannot be made or locked.
    pub fn wait(path: &Path) -> Result<Self> {
        Self::flock(path, libc::LOCK_EX)
    }

    /// Takes the lock called `path` if nobody holds it.
    ///
    /// # Errors
    /// When somebody does, or the file cannot be made.
    pub fn take(path: &Path) -> Result<Self> {
        Self::flock(path, libc::LOCK_EX | libc::LOCK_NB)
    }

    fn flock(path: &Path, how: libc::c_int) -> Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).context(format!("make {}", folder.display()))?;
        }
        let file = File::options().create(true).append(true).open(path);
        let file = file.context(format!("open {}", path.display()))?;
        #[allow(unsafe_code, reason = "flock takes a descriptor that `file` keeps open")]
        let locked = unsafe { libc::flock(file.as_raw_fd(), how) };
        if locked != 0 {
            let why = std::io::Error::last_os_error();
            return Err(Failure::new(format!("lock {}: {why}", path.display())));
        }
        Ok(Lock { _file: file })
    }
}
