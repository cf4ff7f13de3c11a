//! Invoices: written and read (BOLT 11), and the register of our own with the rules for what pays
//! them.

pub mod bolt11;
