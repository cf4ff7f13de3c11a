//! A watchtower and its client's parts: it watches the chain for commitments that were revoked, and
//! takes them for whoever asked it to, while they are away.
//!
//! ```text
//!   client ── noise ── api ─▶ gatekeeper ─▶ store
//!                                             │
//!   bitcoind ── rpc ─▶ watcher ─▶ responder ──┴─▶ carrier ── rpc ─▶ bitcoind
//!              blocks      a breach    the remedy      until it is deep
//! ```

pub mod api;
pub mod carrier;
pub mod config;
pub mod gatekeeper;
pub mod http;
pub mod noise;
pub mod private;
pub mod record;
pub mod responder;
pub mod rpc;
pub mod store;
pub mod tower;
pub mod watcher;
