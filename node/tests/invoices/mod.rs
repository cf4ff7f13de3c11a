//! Invoices: written, read, and paid.

mod bolt11;
mod registry;
