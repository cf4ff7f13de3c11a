//! Peers over TCP: encrypted connections (BOLT 8) and their rules (BOLT 1).

pub mod features;
pub mod noise;
pub mod reconnect;
pub mod session;
pub mod wire;
