//! Programs that the stories start as processes, built once if need be.
//!
//! `cargo test` builds the binaries of the package under test only, and `itest/peers` lies
//! outside the workspace: so the first test that needs one asks cargo for it, the others wait.

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
    let _one_at_a_time = Lock::wait(&places::target().join(format!("{name}.build.lock")))?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(folder).args(["build", "--quiet", "--locked"]).args(arguments);
    command.env("CARGO_TARGET_DIR", target);
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    if profile == "release" {
        command.arg("--release");
    }
    let output = command.output().context("run cargo")?;
    if output.status.success() {
        return Ok(target.join(profile).join(name));
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("{name} does not build: {why}")))
}
