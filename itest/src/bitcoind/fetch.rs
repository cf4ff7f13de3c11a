//! Finds bitcoind: BITCOIND_EXE, PATH, or Debian's build of it unpacked into the target folder.
//!
//! Debian carries it as `bitcoin-knots`, in the suite sid only. Its C library is newer than a
//! stable Debian's, so the whole closure of packages is unpacked beside it and it is started
//! with its own loader. apt works here on private sources, state and cache; nothing needs root
//! and nothing on the machine changes. The mirror is the machine's own.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Context, Failure, Result};
use crate::places::{self, Lock};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A bitcoind that can be started.
#[derive(Clone, Debug)]
pub struct Program {
    exe: PathBuf,
    before: Vec<OsString>,
}

impl Program {
    /// Finds one, unpacking Debian's if need be.
    ///
    /// # Errors
    /// When there is none and Debian's cannot be had here; says what to do.
    pub fn find() -> Result<Self> {
        match Self::installed() {
            Some(installed) => Ok(installed),
            None => Self::unpacked(&places::target()).context(
                "no bitcoind in BITCOIND_EXE or PATH, and Debian's cannot be unpacked; \
                 install Bitcoin Core or set BITCOIND_EXE",
            ),
        }
    }

    /// What the machine has, in BITCOIND_EXE or PATH.
    pub fn installed() -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let in_path = env::split_paths(&path).map(|dir| dir.join("bitcoind"));
        let named = env::var_os("BITCOIND_EXE").map(PathBuf::from);
        let exe = named.or_else(|| in_path.into_iter().find(|exe| exe.is_file()))?;
        Some(Self { exe, before: Vec::new() })
    }

    /// A program that takes bitcoind's place and its flags, behind `before`: the chain in a box.
    pub fn standing_in(exe: PathBuf, before: &[&str]) -> Self {
        Self { exe, before: before.iter().map(OsString::from).collect() }
    }

    /// A command that runs it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.exe);
        command.args(&self.before);
        command
    }

    /// Whether it is a Knots build, which has a relay policy of its own.
    ///
    /// # Errors
    /// When it does not run.
    pub fn is_knots(&self) -> Result<bool> {
        Ok(run(self.command().arg("-version"))?.contains("Knots"))
    }

    /// Debian's, from `target/bitcoind`, filled first if it is not there.
    fn unpacked(target: &Path) -> Result<Self> {
        let _one_at_a_time = Lock::wait(&target.join("bitcoind.lock"))?;
        let root = target.join("bitcoind");
        if !root.exists() {
            let partial = target.join("bitcoind.partial");
            if partial.exists() {
                fs::remove_dir_all(&partial)?;
            }
            download(&partial)?;
            fs::rename(partial.join("root"), &root)?;
            fs::remove_dir_all(&partial)?;
        }
        let (libraries, loader) = loader(&root.join("usr/lib"))?;
        let exe = root.join("usr/bin/bitcoind");
        let before = vec!["--library-path".into(), libraries.into(), exe.into()];
        Ok(Self { exe: loader, before })
    }
}

/// The folder of libraries and the loader in it: `ARCH-linux-gnu/ld-linux-ARCH.so.N`.
fn loader(lib: &Path) -> Result<(PathBuf, PathBuf)> {
    for libraries in entries(lib)? {
        let Ok(files) = entries(&libraries) else { continue };
        let is_loader = |file: &PathBuf| file.to_string_lossy().contains("/ld-linux");
        if let Some(loader) = files.into_iter().find(is_loader) {
            return Ok((libraries, loader));
        }
    }
    Err(Failure::new(format!("no ld-linux under {}; remove that folder", lib.display())))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).context(dir.display())? {
        found.push(entry?.path());
    }
    Ok(found)
}

/// Fetches the packages into `dir` and unpacks them into `dir/root`.
fn download(dir: &Path) -> Result<()> {
    for folder in ["root", "state/lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(dir.join(folder))?;
    }
    fs::write(dir.join("status"), "")?;
    fs::write(dir.join("sources.list"), sources(&mirror()?))?;
    fs::write(dir.join("apt.conf"), configuration(dir))?;
    eprintln!("unpacking Debian's bitcoind into {}", dir.display());
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        run(command.arg("-c").arg(dir.join("apt.conf")).arg("-qq").args(arguments))
    };
    apt(&["update"])?;
    let install = ["install", "--yes", "--download-only", "--no-install-recommends"];
    apt(&[&install[..], &["bitcoin-knots", "libc6"]].concat())?;
    for file in entries(&dir.join("cache/archives"))? {
        if file.extension().is_some_and(|end| end == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&file).arg(dir.join("root")))?;
        }
    }
    Ok(())
}

/// The Debian mirror this machine already uses. apt reads its own configuration for us, in
/// whichever of its file formats that is.
fn mirror() -> Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--no-release-info", "--format", "$(REPO_URI)"]);
    let listed = run(&mut command)?;
    let is_debian = |uri: &&str| {
        let name = uri.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        name == "debian" || name == "debian.list"
    };
    let found = listed.lines().find(is_debian).context("apt knows no Debian mirror here")?;
    Ok(found.trim_end_matches('/').to_owned())
}

fn sources(mirror: &str) -> String {
    let signed =
        if Path::new(KEYRING).exists() { format!("[signed-by={KEYRING}] ") } else { "".into() };
    format!("deb {signed}{mirror} sid main\n")
}

/// Private places, no hooks of the machine's own, nothing but package lists.
fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Dir::Etc::SourceList "{dir}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "{dir}/state";
Dir::State::status "{dir}/status";
Dir::Cache "{dir}/cache";
"#
    )
}

/// Runs a command to its end and returns what it printed.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output().context(format!("run {command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(Failure::new(format!("{command:?} failed: {}", text(&output.stderr))))
}
