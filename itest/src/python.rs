//! Python clients, each in a virtual environment of its own under `target/python`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{Context, Failure, Result};
use crate::places::{self, Lock};

/// An environment's interpreter.
#[derive(Clone, Debug)]
pub struct Python(PathBuf);

impl Python {
    /// Whether this machine has no python3 with `venv`. Nothing of ours needs one but the tests
    /// with Python clients, which then have nothing to show; in CI it is never missing.
    pub fn is_missing() -> bool {
        let mut probe = Command::new("python3");
        let found = run(probe.args(["-c", "import ensurepip, venv"]));
        let missing = found.is_err() && std::env::var_os("CI").is_none();
        if missing {
            eprintln!("no python3 with venv here: nothing is shown");
        }
        missing
    }

    /// The environment `name` with the package `requirement` (`name==version`), made if need be.
    ///
    /// # Errors
    /// When there is no python3 with `venv`, or pip cannot have the package.
    pub fn with(name: &str, requirement: &str) -> Result<Self> {
        let environments = places::target().join("python");
        let _one_at_a_time = Lock::wait(&environments.join(format!("{name}.lock")))?;
        let environment = environments.join(name);
        let python = environment.join("bin/python");
        // Written last, so that an environment that was interrupted is made anew.
        let complete = environment.join("complete");
        if fs::read_to_string(&complete).is_ok_and(|has| has == requirement) {
            return Ok(Python(python));
        }
        if environment.exists() {
            fs::remove_dir_all(&environment)?;
        }
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(&python).args(pip).arg(requirement))?;
        fs::write(complete, requirement)?;
        Ok(Python(python))
    }

    /// Runs a script of `itest/python` to its end, and returns what it printed.
    ///
    /// # Errors
    /// When it fails; with what it wrote to stderr.
    pub fn runs(&self, script: &str, arguments: &[String]) -> Result<String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script);
        run(Command::new(&self.0).arg(script).args(arguments))
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().context(format!("run {command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    Err(Failure::new(format!("{command:?} failed: {out}{err}")))
}
