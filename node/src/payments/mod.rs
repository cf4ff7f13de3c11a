//! Payments of ours, from the request to the preimage or the reason why there is none.
//!
//! ```text
//!   request     what is asked for, checked
//!   payment     a payment and its attempts, as rows
//!   route       the way of an attempt, and its onion
//!   lifecycle   start, succeeded, resolved, refused: what happened, and what to do
//!   news        payments under way, and who listens to them
//! ```

pub mod lifecycle;
mod news;
mod payment;
mod request;
mod route;

pub use lifecycle::{Launch, Step, Usable, World};
pub use news::News;
pub use payment::{Attempt, AttemptFailure, FailureReason, Payment, Status, Terms};
pub use request::{Limits, PayError, Request, BLOCK_PADDING, DEFAULT_CLTV_LIMIT};
pub use route::{Hop, Route};
