//! Programs that the stories start as processes, built once if need be.
//!
//! `cargo test --workspace` builds all of ours, `cargo test -p` only those of that package, and
//! `itest/peers` lies outside the workspace: so the first test that needs a program that is
//! missing or old asks cargo for it, and the others wait. One that is newer than all its sources
//! is taken as it is: cargo picks other features for a package alone and would build it again.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Context, Failure, Result};
use crate::places::{self, Lock};

/// Our daemon: FULMEND_EXE, or what cargo builds of this tree with the profile of this test.
///
/// # Errors
/// When it does not compile.
pub fn fulmend() -> Result<PathBuf> {
    let workspace = places::workspace();
    let package = ["--package", "fulmen-node", "--bin", "fulmend"];
    program("FULMEND_EXE", &workspace, &places::target(), &package)
}

/// Its command line: FULMEN_CLI_EXE, or what cargo builds of this tree.
///
/// # Errors
/// When it does not compile.
pub fn fulmen_cli() -> Result<PathBuf> {
    let workspace = places::workspace();
    let package = ["--package", "fulmen-cli", "--bin", "fulmen-cli"];
    program("FULMEN_CLI_EXE", &workspace, &places::target(), &package)
}

/// The LDK node of `itest/peers/ldk`: FULMEN_LDK_EXE, or built into `target/ldk-peer`.
///
/// # Errors
/// When it does not compile.
pub fn ldk_peer() -> Result<PathBuf> {
    let package = places::workspace().join("itest/peers/ldk");
    let target = places::target().join("ldk-peer");
    program("FULMEN_LDK_EXE", &package, &target, &["--bin", "fulmen-ldk-peer"])
}

/// The binary that the last of `arguments` names, built in `folder` into `target`.
fn program(env: &str, folder: &Path, target: &Path, arguments: &[&str]) -> Result<PathBuf> {
    if let Some(exe) = std::env::var_os(env) {
        return Ok(exe.into());
    }
    let name = arguments.last().context("a name")?;
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let exe = target.join(profile).join(name);
    let _one_at_a_time = Lock::wait(&places::target().join(format!("{name}.build.lock")))?;
    if is_fresh(&exe, folder) {
        return Ok(exe);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(folder).args(["build", "--quiet", "--locked"]).args(arguments);
    command.env("CARGO_TARGET_DIR", target);
    if profile == "release" {
        command.arg("--release");
    }
    let output = command.output().context("run cargo")?;
    if output.status.success() {
        return Ok(exe);
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("{name} does not build: {why}")))
}

/// Whether a binary was built of `folder` and is newer than its lock file and than every source
/// that cargo lists beside it, in `NAME.d`.
fn is_fresh(exe: &Path, folder: &Path) -> bool {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    let Ok(list) = std::fs::read_to_string(exe.with_extension("d")) else { return false };
    let sources = list.split_once(": ").map_or("", |(_, sources)| sources.trim());
    // Spaces in paths are escaped, those between paths are not.
    let sources = sources.replace("\\ ", "\0");
    let sources = sources.split(' ').map(|path| PathBuf::from(path.replace('\0', " ")));
    let mut sources: Vec<PathBuf> = sources.collect();
    let ours = sources.iter().any(|source| source.starts_with(folder));
    sources.push(folder.join("Cargo.lock"));
    let built = changed(exe);
    let is_older = |source: &PathBuf| changed(source).is_some_and(|time| Some(time) <= built);
    ours && sources.iter().all(is_older)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_binary_is_fresh_until_a_source_or_the_lock_file_changes() -> Result<()> {
        let dir = places::temporary("a b")?;
        let (exe, source) = (dir.path().join("exe"), dir.path().join("main.rs"));
        let lock = dir.path().join("Cargo.lock");
        let later = SystemTime::now() + Duration::from_secs(10);
        for file in [&source, &lock, &exe] {
            fs::write(file, "")?;
        }
        assert!(!is_fresh(&exe, dir.path()), "there is no list of sources");
        let escaped = source.display().to_string().replace(' ', "\\ ");
        fs::write(dir.path().join("exe.d"), format!("{}: {escaped}\n", exe.display()))?;
        assert!(is_fresh(&exe, dir.path()));
        assert!(!is_fresh(&exe, Path::new("/elsewhere")), "built of another checkout");
        for changed in [&source, &lock] {
            let file = File::options().write(true).open(changed)?;
            let before = file.metadata()?.modified()?;
            file.set_modified(later)?;
            assert!(!is_fresh(&exe, dir.path()), "{}", changed.display());
            file.set_modified(before)?;
            assert!(is_fresh(&exe, dir.path()));
        }
        fs::remove_file(&source)?;
        assert!(!is_fresh(&exe, dir.path()));
        Ok(())
    }
}
