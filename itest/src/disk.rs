//! A disk of a daemon's own that can be filled, without root: a tmpfs in a mount namespace where
//! nobody but that daemon sees it. Where the system allows no such namespaces, no file of the
//! daemon may grow beyond a size: that is a full disk with another error number.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::failure::{Context, Failure, Result};
use crate::process::Process;

/// Room for all that a story writes.
const SIZE_KIB: u32 = 64 * 1024;
const UNLIMITED: u64 = u64::MAX;

/// The disk; gone with all that is on it on drop, once no process started on it runs any more.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    means: Means,
}

#[derive(Debug)]
enum Means {
    /// Holds the namespace as long as it lives.
    Tmpfs(Process),
    /// No file may be larger, in bytes.
    FileSize(AtomicU64),
}

impl Disk {
    /// A small disk in the place of the folder `over`, for whom [`Disk::command`] starts; or limits
    /// on the size of files in that folder, if the system allows nothing better.
    ///
    /// # Errors
    /// When the system's tools cannot be started.
    pub fn over(over: &Path) -> Result<Self> {
        let script = format!(
            "mount -t tmpfs -o size={SIZE_KIB}k,mode=700 none \"$1\" && echo mounted && exec cat"
        );
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", &script, "sh"]).arg(over);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = Process::spawn("the disk's holder", command)?;
        let stdout = holder.child().stdout.take().context("its output")?;
        let mut said = String::new();
        BufReader::new(stdout).read_line(&mut said)?;
        if said.trim() != "mounted" {
            eprintln!("this system allows no user namespaces: a limit on files stands for a disk");
            return Ok(Self::of_small_files(over));
        }
        let below_root = over.strip_prefix("/")?;
        let path = Path::new("/proc").join(holder.id().to_string()).join("root").join(below_root);
        Ok(Disk { path, means: Means::Tmpfs(holder) })
    }

    /// The folder `path` as it is, with limits on the size of files.
    pub fn of_small_files(path: &Path) -> Self {
        Disk { path: path.into(), means: Means::FileSize(AtomicU64::new(UNLIMITED)) }
    }

    /// Where it is. Only for single files: a program that resolves links ends up in the folder
    /// that is covered.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `program` where the disk is; the process keeps its id.
    pub fn command(&self, program: &Path) -> Command {
        match &self.means {
            Means::Tmpfs(holder) => {
                let mut command = Command::new("nsenter");
                command.args(["--user", "--mount", "--preserve-credentials", "--target"]);
                command.arg(holder.id().to_string()).arg(program);
                command
            }
            Means::FileSize(limit) => {
                // Only the write that goes beyond is to fail, not the process.
                let script = "trap '' XFSZ; exec prlimit \"$@\"";
                let mut command = Command::new("sh");
                command.args(["-c", script, "sh", &fsize(limit.load(Ordering::Relaxed))]);
                command.arg(program);
                command
            }
        }
    }

    /// Fills it up to the last `left` bytes, for the process `id` too if one runs on it.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn fill(&self, left: u64, id: Option<u32>) -> Result<()> {
        if let Means::FileSize(_) = &self.means {
            return self.limit(left, id);
        }
        let mut file = OpenOptions::new().create(true).append(true).open(self.ballast())?;
        while let Ok(1..) = file.write(&[0; 4096]) {}
        let size = file.metadata()?.len();
        Ok(file.set_len(size.saturating_sub(left))?)
    }

    /// Makes room again.
    ///
    /// # Errors
    /// When it was not filled.
    pub fn free(&self) -> Result<()> {
        match &self.means {
            Means::Tmpfs(_) => Ok(std::fs::remove_file(self.ballast())?),
            Means::FileSize(_) => self.limit(UNLIMITED, None),
        }
    }

    /// What SQLite calls it when this disk is full.
    pub fn says(&self) -> &str {
        match &self.means {
            Means::Tmpfs(_) => "database or disk is full",
            Means::FileSize(_) => "disk I/O error",
        }
    }

    fn limit(&self, bytes: u64, id: Option<u32>) -> Result<()> {
        if let Means::FileSize(limit) = &self.means {
            limit.store(bytes, Ordering::Relaxed);
        }
        let Some(id) = id else { return Ok(()) };
        let status =
            Command::new("prlimit").arg(fsize(bytes)).arg(format!("--pid={id}")).status()?;
        status.success().then_some(()).ok_or_else(|| Failure::new("no limit on a running process"))
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

/// The soft limit only: it can be raised again.
fn fsize(bytes: u64) -> String {
    match bytes {
        UNLIMITED => "--fsize=unlimited:".into(),
        bytes => format!("--fsize={bytes}:"),
    }
}
