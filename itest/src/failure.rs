//! One error for the whole harness: plain words, with what was being done in front.

use std::fmt;

/// What the harness's calls return.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why a node, a process or a call did not do what the story wanted.
pub struct Failure(String);

impl Failure {
    /// A failure that says `what`.
    pub fn new(what: impl fmt::Display) -> Self {
        Failure(what.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Tests that return an error print it with `Debug`: show the words, not a struct.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Any error becomes a failure, so that stories use `?` on everything.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure(error.to_string())
    }
}

/// Puts what was being done in front of an error, or in the place of a missing value.
pub trait Context<T> {
    /// Fails with `what` in front.
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure(format!("{what}: {error}")))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.ok_or_else(|| Failure::new(what))
    }
}
