//! What each side takes of a commitment in a block, whoever published it: every claim of the paper,
//! accepted by Bitcoin's own rules, and worth every satoshi that is one's own.

mod breach;
pub mod chain;
mod settling;
mod tree;

pub use tree::draw;
mod unilateral;

pub use chain::Chain;
