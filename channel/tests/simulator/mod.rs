//! The mini simulator: two cores, a wire that loses, disks that forget what was not synced, and a
//! seed that makes it all. After every step the checkers look at everything.
//!
//! ```text
//!   dice     one seed, one run                keys    curve work that costs nothing, or real
//!   peer     a core, its disk, its node       witness what no side could know: the checks
//!   world    both, the wire, what may happen  runs    many seeds
//!   cuts     all cut points of one dance      faults  what the checks must catch
//!   fees     feerates that jump, a funder that has little left
//! ```
//!
//! A failure names its seed: `Run::new(seed).go()` repeats it.

mod cuts;
mod dice;
mod faults;
mod fees;
mod keys;
mod peer;
mod runs;
mod witness;
mod world;

pub use dice::Dice;

/// What a checker found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Which check.
    pub check: &'static str,
    /// What it saw.
    pub what: String,
}

/// Nothing wrong so far.
pub type Sound = Result<(), Wrong>;

fn wrong<T>(check: &'static str, what: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { check, what: what.into() })
}
