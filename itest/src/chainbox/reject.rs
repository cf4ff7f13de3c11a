//! Why a transaction or a block is not taken, in bitcoind's words.

use std::fmt;

use bitcoin::Denomination;
use fulmen_channel::amount::Sat;

/// A refusal: the short reason that clients match, and what bitcoind adds to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    reason: String,
    details: String,
    package_may_help: bool,
}

impl Reject {
    /// A refusal without details.
    pub fn new(reason: &str) -> Self {
        Reject { reason: reason.into(), details: String::new(), package_may_help: false }
    }

    /// A refusal with what bitcoind says behind the comma.
    pub fn detailed(reason: &str, details: impl fmt::Display) -> Self {
        Reject { details: details.to_string(), ..Reject::new(reason) }
    }

    /// The same, where a child that pays more could mend it.
    pub fn unless_in_package(self) -> Self {
        Reject { package_may_help: true, ..self }
    }

    /// An input that is neither in the chain nor in the mempool.
    pub fn missing() -> Self {
        Reject::new("bad-txns-inputs-missingorspent")
    }

    /// The short reason.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether inputs are missing, which bitcoind's calls tell apart.
    pub fn is_missing(&self) -> bool {
        *self == Reject::missing()
    }

    /// Whether a child that pays more could mend it.
    pub fn may_be_mended(&self) -> bool {
        self.package_may_help
    }

    /// The code of `sendrawtransaction`: -25 for missing inputs, otherwise -26.
    pub fn code(&self) -> i32 {
        if self.is_missing() {
            -25
        } else {
            -26
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        match self.details.as_str() {
            "" => Ok(()),
            details => write!(f, ", {details}"),
        }
    }
}

impl std::error::Error for Reject {}

/// An amount as bitcoind writes it in its reasons: two decimals, more only where they count.
pub fn money(amount: Sat) -> String {
    let full = format!("{:.8}", amount.to_amount().display_in(Denomination::Bitcoin));
    let short = full.trim_end_matches('0');
    let decimals = short.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    format!("{short}{}", "0".repeat(2_usize.saturating_sub(decimals)))
}
