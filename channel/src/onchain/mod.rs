//! What happens if a commitment is published: who published what, what of it is ours, how it is
//! claimed, how each HTLC ended, and when we must go on chain ourselves (BOLT 5).
//!
//! ```text
//!   deadline ─▶ our C           F is spent ─▶ identify ─▶ published ─▶ resolution ─▶ claims, fates
//! ```

pub mod claim;
pub mod deadline;
pub mod identify;
pub mod local_commitment;
pub mod outcome;
mod preimage;
pub mod published;
pub mod remote_commitment;
pub mod resolution;
pub mod revoked_commitment;
pub mod tree;
