//! Tells the build which commit it is of, if it is built in a checkout that git knows.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // A checkout of something else may be around an unpacked release.
    let ours = git(&["ls-files", "--error-unmatch", "build.rs"]).is_some();
    let ask = |arguments: &[&str]| git(arguments).filter(|_| ours);
    let release = || format!("v{}", env!("CARGO_PKG_VERSION"));
    let commit = ask(&["describe", "--tags", "--always"]).unwrap_or_else(release);
    let hash = ask(&["rev-parse", "HEAD"]).unwrap_or_else(release);
    println!("cargo:rustc-env=FULMEN_COMMIT={commit}");
    println!("cargo:rustc-env=FULMEN_COMMIT_HASH={hash}");
    // A line is added to it whenever HEAD moves.
    let log = ask(&["rev-parse", "--git-path", "logs/HEAD"]);
    if let Some(log) = log.filter(|log| Path::new(log).exists()) {
        println!("cargo:rerun-if-changed={log}");
    }
}

/// What git says to that; nothing without git or outside of a checkout.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !said.is_empty()).then_some(said)
}
