//! Whose turn it is: the phases of a channel and the messages that move it (BOLT 2).
//!
//! ```text
//!   opening      open_channel .. funding_signed: each phase a type that consumes itself
//!   terms        what open_channel and accept_channel must hold to
//!   open         a funded channel: what it keeps, and which file takes which input
//!   updating     add, remove, fee, commitment_signed, revoke_and_ack; channel_ready
//!   reestablish  channel_reestablish: what to repeat after a reconnection
//!   closing      shutdown, then closing_complete or closing_signed: ES
//!   failing      error, warning, our commitment on chain, D and RD
//!   restored     a channel of which only the static backup is left
//! ```

pub mod closing;
pub mod failing;
pub mod open;
pub mod opening;
pub mod reestablish;
pub mod restored;
pub mod settling;
pub mod terms;
pub mod updating;
