//! Who owns what. The logs of updates are kept once; balances and both commitments are computed
//! from them, never mutated beside them (eclair's Commitments and CLN's htlc_state, as one).
//!
//! ```text
//!   commitments  send_* / receive_*: what an update, a signature, a revocation does to the state
//!   htlc         the life of an HTLC as a table
//!   balance      what each commitment holds: two base balances and a fold of the live logs
//!   exposure     what may be lost to fees: trimmed HTLCs, and commitment fee beyond need
//!   limits       can_send_* / can_receive_*: BOLT 2's limits on both sides
//!   sign         the commitments as transactions: built, signed, checked
//!   rows         the state as named rows, and back
//! ```

pub mod balance;
pub mod commitments;
pub mod exposure;
pub mod htlc;
pub mod limits;
mod rows;
pub mod sign;

pub use commitments::Commitments;
