//! A log file that starts over when it is big, and keeps a few old ones.

use crate::files;
use std::fs::{File, OpenOptions};
use std::io::{Result, Write};
use std::path::{Path, PathBuf};

/// Writes to `NAME`; when that is full it becomes `NAME.1`, `NAME.1` becomes `NAME.2`, and so on.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    file: File,
    size: u64,
    most: u64,
    keep: u32,
}

impl RotatingFile {
    /// Opens or makes `path`, of at most `most` bytes, with `keep` old files beside it.
    pub fn open(path: &Path, most: u64, keep: u32) -> Result<RotatingFile> {
        files::make_private_directory(files::directory_of(path))?;
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(RotatingFile { path: path.to_path_buf(), file, size, most, keep })
    }

    fn old(&self, number: u32) -> PathBuf {
        files::beside(&self.path, &format!(".{number}"))
    }

    fn rotate(&mut self) -> Result<()> {
        files::remove_if_there(&self.old(self.keep))?;
        for number in (1..self.keep).rev() {
            if self.old(number).exists() {
                std::fs::rename(self.old(number), self.old(number.saturating_add(1)))?;
            }
        }
        std::fs::rename(&self.path, self.old(1))?;
        *self = Self::open(&self.path, self.most, self.keep)?;
        Ok(())
    }
}

impl Write for RotatingFile {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.size > 0 && self.size.saturating_add(length) > self.most {
            self.rotate()?;
        }
        self.file.write_all(bytes)?;
        self.size = self.size.saturating_add(length);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_makes_room_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/fulmend.log");
        for line in ["one\n", "two\n", "three\n", "four\n", "five\n"] {
            // Opened anew each time, as after a restart.
            RotatingFile::open(&path, 6, 2).unwrap().write_all(line.as_bytes()).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(path.with_file_name(name)).unwrap();
        assert_eq!(read("fulmend.log"), "five\n");
        assert_eq!(read("fulmend.log.1"), "four\n");
        assert_eq!(read("fulmend.log.2"), "three\n");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 3);
    }
}
