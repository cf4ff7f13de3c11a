//! Stories about whole nodes, one module each.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod anchors;
mod at_once;
mod backup_stories;
mod backups;
mod bitcoind;
mod bitcoind_trouble;
mod bump_close;
mod chain_box;
mod channel_kinds;
mod clients;
mod closing;
mod command_line;
mod deadlines;
mod disk_full;
mod error_texts;
mod explained;
mod feerates;
mod fields;
mod invoice_news;
mod killed;
mod ldk_alone;
mod ldk_chain;
mod ldk_kinds;
mod ldk_peer;
mod macaroons;
mod mainnet;
mod onchain;
mod peer_storage;
mod refusals;
mod restore;
mod rows;
mod sends;
mod store_trouble;
mod sweeps;
mod tidy;
mod tower;
mod tower_client;
mod tower_commands;
mod tower_demo;
mod tower_sessions;
mod two_daemons;
mod unconfirmed;
mod upgrade;
mod walkthrough;
mod wallet_life;
