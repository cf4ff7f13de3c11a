//! What happens if a commitment is published: who published what, our own balance in it, and when
//! we must go on chain ourselves.

pub mod deadline;
pub mod identify;
