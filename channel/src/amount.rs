//! Money, feerates and heights as types of their own, with checked operators only.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Millisatoshi: the unit of HTLCs and balances (BOLT 2).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Msat(u64);

/// Satoshi: the unit of transaction outputs and fees.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Sat(u64);

/// Satoshi per 1000 units of weight (BOLT 2 `feerate_per_kw`).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct FeeratePerKw(u32);

/// A block height.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Height(u32);

impl Msat {
    /// Nothing.
    pub const ZERO: Msat = Msat(0);
    /// All the bitcoin that can exist, in msat: a bound for what a peer may name.
    pub const MAX_MONEY: Msat = Msat(21_000_000 * 100_000_000 * 1_000);

    /// `msat` millisatoshi.
    pub const fn new(msat: u64) -> Self {
        Msat(msat)
    }
    /// The number of millisatoshi.
    pub const fn msat(self) -> u64 {
        self.0
    }
    /// Whole satoshi, rounded down, as BOLT 3 does for every output.
    pub const fn floor(self) -> Sat {
        Sat(self.0 / 1_000)
    }
    /// `self + other`, or nothing on overflow.
    pub fn checked_add(self, other: Msat) -> Option<Msat> {
        self.0.checked_add(other.0).map(Msat)
    }
    /// `self - other`, or nothing if that is below zero.
    pub fn checked_sub(self, other: Msat) -> Option<Msat> {
        self.0.checked_sub(other.0).map(Msat)
    }
    /// `self + other`, at most `u64::MAX`.
    pub fn saturating_add(self, other: Msat) -> Msat {
        Msat(self.0.saturating_add(other.0))
    }
    /// `self - other`, at least zero.
    pub fn saturating_sub(self, other: Msat) -> Msat {
        Msat(self.0.saturating_sub(other.0))
    }
    /// The sum of many, or nothing on overflow.
    pub fn checked_sum(many: impl IntoIterator<Item = Msat>) -> Option<Msat> {
        many.into_iter().try_fold(Msat::ZERO, Msat::checked_add)
    }
}

impl Sat {
    /// Nothing.
    pub const ZERO: Sat = Sat(0);
    /// All the bitcoin that can exist.
    pub const MAX_MONEY: Sat = Sat(21_000_000 * 100_000_000);

    /// `sat` satoshi.
    pub const fn new(sat: u64) -> Self {
        Sat(sat)
    }
    /// The number of satoshi.
    pub const fn sat(self) -> u64 {
        self.0
    }
    /// The same in millisatoshi, or nothing on overflow.
    pub fn to_msat(self) -> Option<Msat> {
        self.0.checked_mul(1_000).map(Msat)
    }
    /// The same in millisatoshi, at most `u64::MAX`.
    pub fn saturating_msat(self) -> Msat {
        Msat(self.0.saturating_mul(1_000))
    }
    /// The same as rust-bitcoin's amount.
    pub fn to_amount(self) -> bitcoin::Amount {
        bitcoin::Amount::from_sat(self.0)
    }
    /// `self + other`, or nothing on overflow.
    pub fn checked_add(self, other: Sat) -> Option<Sat> {
        self.0.checked_add(other.0).map(Sat)
    }
    /// `self - other`, or nothing if that is below zero.
    pub fn checked_sub(self, other: Sat) -> Option<Sat> {
        self.0.checked_sub(other.0).map(Sat)
    }
    /// `self + other`, at most `u64::MAX`.
    pub fn saturating_add(self, other: Sat) -> Sat {
        Sat(self.0.saturating_add(other.0))
    }
    /// `self - other`, at least zero.
    pub fn saturating_sub(self, other: Sat) -> Sat {
        Sat(self.0.saturating_sub(other.0))
    }
}

impl From<bitcoin::Amount> for Sat {
    fn from(amount: bitcoin::Amount) -> Self {
        Sat(amount.to_sat())
    }
}

impl FeeratePerKw {
    /// The least that enters a mempool: 1 sat/vB is 250 sat/kw, and a vbyte rounds up (rules 3.3).
    pub const FLOOR: FeeratePerKw = FeeratePerKw(253);

    /// `rate` sat per 1000 weight units.
    pub const fn new(rate: u32) -> Self {
        FeeratePerKw(rate)
    }
    /// The number of sat per 1000 weight units.
    pub const fn per_kw(self) -> u32 {
        self.0
    }
    /// The fee of `weight` units, rounded down (BOLT 3, fee calculation). Cannot overflow for a
    /// weight a block could hold.
    pub fn fee(self, weight: u64) -> Sat {
        Sat(u64::from(self.0).saturating_mul(weight) / 1_000)
    }
    /// Twice this feerate: the buffer that the funder keeps (rules 3.4).
    pub fn doubled(self) -> FeeratePerKw {
        FeeratePerKw(self.0.saturating_mul(2))
    }
}

impl Height {
    /// Block `height`.
    pub const fn new(height: u32) -> Self {
        Height(height)
    }
    /// The number.
    pub const fn number(self) -> u32 {
        self.0
    }
    /// `blocks` later.
    pub fn plus(self, blocks: u32) -> Height {
        Height(self.0.saturating_add(blocks))
    }
    /// `blocks` earlier, not before the first block.
    pub fn minus(self, blocks: u32) -> Height {
        Height(self.0.saturating_sub(blocks))
    }
}

impl fmt::Display for Msat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} msat", self.0)
    }
}
impl fmt::Display for Sat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sat", self.0)
    }
}
impl fmt::Display for FeeratePerKw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sat/kw", self.0)
    }
}
impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
