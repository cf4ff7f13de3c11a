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

    /// The environment `name` with packages (`name==version`), made if need be. They are taken as
    /// they are, one after the other, without what they ask for themselves where they are several:
    /// old ones ask for what does not build any more.
    ///
    /// # Errors
    /// When there is no python3 with `venv`, or pip cannot have the packages.
    pub fn with(name: &str, requirements: &[&str]) -> Result<Self> {
        let environments = places::target().join("python");
        let _one_at_a_time = Lock::wait(&environments.join(format!("{name}.lock")))?;
        let environment = environments.join(name);
        let python = environment.join("bin/python");
        // Written last, so that an environment that was interrupted is made anew.
        let complete = environment.join("complete");
        let wanted = requirements.join("\n");
        if fs::read_to_string(&complete).is_ok_and(|has| has == wanted) {
            return Ok(Python(python));
        }
        if environment.exists() {
            fs::remove_dir_all(&environment)?;
        }
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        for requirement in requirements {
            let mut install = Command::new(&python);
            install.args(pip);
            if requirements.len() > 1 {
                install.args(["--no-deps", "--no-build-isolation"]);
            }
            run(install.arg(requirement))?;
        }
        fs::write(complete, wanted)?;
        Ok(Python(python))
    }

    /// A program that a package brought with it.
    pub fn beside(&self, program: &str) -> PathBuf {
        self.0.with_file_name(program)
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

/// Runs a command to its end, and returns what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().context(format!("run {command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    Err(Failure::new(format!("{command:?} failed: {out}{err}")))
}
