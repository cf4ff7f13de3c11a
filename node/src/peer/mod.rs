//! Peers over TCP: encrypted connections (BOLT 8) and their rules (BOLT 1).

pub mod noise;
