//! Two kinds of wrong. `Refused`: our own command cannot be done, and nothing changed.
//! `Violation`: the peer broke a rule; it names the rule and the answer that the BOLTs ask for.
//! (The third kind, a bug, is an assertion.)

use crate::amount::{FeeratePerKw, Height, Msat, Sat};
use thiserror::Error;

/// Why a command of ours was not done. The channel's state is as it was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)] // the texts say it
pub enum Refused {
    #[error("the channel is not open for payments (it is {0})")]
    NotUsable(&'static str),
    #[error("the peer is not connected")]
    Offline,
    #[error("the amount must be more than zero")]
    ZeroAmount,
    #[error("{amount} is below the peer's minimum of {minimum}")]
    BelowMinimum { amount: Msat, minimum: Msat },
    #[error("{in_flight} in flight would be above the peer's limit of {limit}")]
    TooMuchInFlight { in_flight: Msat, limit: Msat },
    #[error("the peer takes at most {limit} payments at once")]
    TooManyHtlcs { limit: u16 },
    #[error("insufficient balance: {amount} asked, {spendable} can be sent")]
    InsufficientBalance { amount: Msat, spendable: Msat },
    #[error("the funder could not pay the commitment fee with one more payment in flight")]
    FunderCannotPay,
    #[error("expiry {0} is not a block height")]
    BadExpiry(Height),
    #[error("dust in flight would reach {exposure}, above the limit of {limit}")]
    DustExposure { exposure: Msat, limit: Msat },
    #[error("there is no payment {0} from the peer that could be settled or failed now")]
    UnknownHtlc(u64),
    #[error("the preimage does not open payment {0}")]
    WrongPreimage(u64),
    #[error("only the funder sets the fee")]
    NotFunder,
    #[error("a feerate of {0} is below the floor or above what we could pay")]
    BadFeerate(FeeratePerKw),
    #[error("channel shutdown already initiated")]
    AlreadyClosing,
    #[error("a closing fee of {fee} replaces nothing: at least {least} is needed")]
    ClosingFeeTooLow { fee: Sat, least: Sat },
    #[error("shutdown script must be the one fixed at opening")]
    WrongShutdownScript,
    #[error("{0}")]
    BadOpen(String),
    #[error("the funding transaction does not pay {0} to the channel's script")]
    BadFunding(Sat),
    #[error("our state is older than the peer has proved: publishing it would lose all funds")]
    Behind,
}

/// What the BOLTs let us answer to a broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `warning`, then close the connection: uncommitted updates are forgotten, nothing is lost.
    Warn,
    /// `error`; the channel is failed and, when it is funded, our commitment is published.
    Fail,
}

/// A rule that the peer broke.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{rule}: {what}")]
pub struct Violation {
    /// The BOLT section.
    pub rule: &'static str,
    /// What happened, with the numbers.
    pub what: String,
    /// What we do about it.
    pub answer: Answer,
}

impl Violation {
    /// Fails the channel.
    pub fn fail(rule: &'static str, what: impl Into<String>) -> Self {
        Violation { rule, what: what.into(), answer: Answer::Fail }
    }
    /// Warns and closes the connection.
    pub fn warn(rule: &'static str, what: impl Into<String>) -> Self {
        Violation { rule, what: what.into(), answer: Answer::Warn }
    }
}

/// A row on disk could not be read back: the database is damaged or from a newer version.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("channel row {row} cannot be read: {why}")]
pub struct BadRow {
    /// Which row.
    pub row: String,
    /// What was wrong with it.
    pub why: String,
}
