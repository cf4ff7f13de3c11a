//! Whatever is published on chain, nobody honest loses: a table of what may happen, each row played
//! on the chain in a box, with Bitcoin's script and relay rules, down to the satoshi.

mod breach;
mod pinning;
mod reorgs;
mod replaced;
mod restored;
mod shell;
mod story;
mod table;
mod towers;
