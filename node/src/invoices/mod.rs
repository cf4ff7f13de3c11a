//! Invoices: written and read (BOLT 11), and the register of our own with the rules for what pays
//! them.
//!
//! ```text
//!   bolt11     the text: make, read, may it be paid
//!   expiry     which ones are over next
//!   invoice    one of ours: which HTLC pays it
//!   news       tells of them in the order of their numbers
//!   registry   all of ours, as rows: by add index, and hash to add index
//! ```

pub mod bolt11;
pub mod expiry;
mod invoice;
mod news;
pub mod registry;

pub use invoice::{
    Incoming, Invoice, InvoiceHtlc, InvoiceState, Verdict, CLAIM_WINDOW, DEFAULT_FINAL_CLTV,
};
pub use news::{InvoiceEvent, InvoiceNews, Told};
