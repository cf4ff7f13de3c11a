//! Invoices: written and read (BOLT 11), and the register of our own with the rules for what pays
//! them.
//!
//! ```text
//!   bolt11     the text: make, read, may it be paid
//!   invoice    one of ours: which HTLC pays it
//!   registry   all of ours, as rows: by add index, and hash to add index
//! ```

pub mod bolt11;
mod invoice;
pub mod registry;

pub use invoice::{
    Incoming, Invoice, InvoiceHtlc, InvoiceState, Verdict, CLAIM_WINDOW, DEFAULT_FINAL_CLTV,
};
