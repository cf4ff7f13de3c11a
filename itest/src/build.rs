//! Programs that the stories start as processes, built once if need be.
//!
//! `cargo test --workspace` builds all of ours, `cargo test -p` only those of that package, and
//! `itest/peers` lies outside the workspace: so the first test that needs a program that is
//! missing or old asks cargo for it, and the others wait. One that is newer than all its sources
//! is taken as it is: cargo picks other features for a package alone, and would build it and all
//! that it depends on again.

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

/// Our watchtower: FULMEN_TOWER_EXE, or what cargo builds of this tree.
///
/// # Errors
/// When it does not compile.
pub fn fulmen_tower() -> Result<PathBuf> {
    let workspace = places::workspace();
    let package = ["--package", "fulmen-watchtower", "--bin", "fulmen-tower"];
    program("FULMEN_TOWER_EXE", &workspace, &places::target(), &package)
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

/// Whether a binary was built of `folder` and is newer than its lock file and than every source.
fn is_fresh(exe: &Path, folder: &Path) -> bool {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    let listed = listed(exe);
    if listed.as_ref().is_some_and(|list| !list.iter().any(|source| source.starts_with(folder))) {
        return false;
    }
    let mut sources = listed.unwrap_or_default();
    if sources.is_empty() && find_sources(folder, &mut sources).is_err() {
        return false;
    }
    sources.push(folder.join("Cargo.lock"));
    let built = changed(exe);
    sources.iter().all(|source| changed(source).is_some_and(|time| Some(time) <= built))
}

/// What cargo lists beside a binary that it was asked for, in `NAME.d`. There is no list beside one
/// that it built for the tests of its package.
fn listed(exe: &Path) -> Option<Vec<PathBuf>> {
    let list = std::fs::read_to_string(exe.with_extension("d")).ok()?;
    let (_, sources) = list.split_once(": ")?;
    // Spaces in paths are escaped, those between paths are not.
    let sources = sources.trim().replace("\\ ", "\0");
    Some(sources.split(' ').map(|path| PathBuf::from(path.replace('\0', " "))).collect())
}

/// Every file below `folder` that a program may be made of: all but tests and what is no code.
fn find_sources(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    const OTHERS: [&str; 5] = ["target", "itest", "tests", "benches", "docs"];
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let kind = path.extension().unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && !OTHERS.contains(&&*name) {
            find_sources(&path, found)?;
        } else if ["rs", "proto", "toml"].iter().any(|known| kind == *known) {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_binary_is_fresh_until_a_source_or_the_lock_file_changes() -> Result<()> {
        let dir = places::temporary("a b")?;
        fs::create_dir(dir.path().join("src"))?;
        fs::create_dir(dir.path().join("tests"))?;
        let (exe, source) = (dir.path().join("exe"), dir.path().join("src/main.rs"));
        let lock = dir.path().join("Cargo.lock");
        let later = SystemTime::now() + Duration::from_secs(10);
        assert!(!is_fresh(&exe, dir.path()), "there is none");
        let unused = dir.path().join("tests/main.rs");
        for file in [&source, &lock, &exe, &unused] {
            fs::write(file, "")?;
        }
        File::options().write(true).open(&unused)?.set_modified(later)?;
        follows(&exe, &[&source, &lock], dir.path(), later)?;
        let escaped = source.display().to_string().replace(' ', "\\ ");
        fs::write(dir.path().join("exe.d"), format!("{}: {escaped}\n", exe.display()))?;
        assert!(is_fresh(&exe, dir.path()));
        assert!(!is_fresh(&exe, Path::new("/elsewhere")), "built of another checkout");
        follows(&exe, &[&source, &lock], dir.path(), later)?;
        fs::remove_file(&source)?;
        assert!(!is_fresh(&exe, dir.path()));
        Ok(())
    }

    /// The binary is fresh, and is not while one of `files` is newer.
    fn follows(exe: &Path, files: &[&Path], folder: &Path, later: SystemTime) -> Result<()> {
        for changed in files {
            assert!(is_fresh(exe, folder));
            let file = File::options().write(true).open(changed)?;
            let before = file.metadata()?.modified()?;
            file.set_modified(later)?;
            assert!(!is_fresh(exe, folder), "{}", changed.display());
            file.set_modified(before)?;
        }
        assert!(is_fresh(exe, folder));
        Ok(())
    }
}
