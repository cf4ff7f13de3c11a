//! BOLT 11 through lightning-invoice, with the checks for a payer that it does not make.

use bitcoin::address::{Address, NetworkUnchecked};
use bitcoin::hashes::{sha256, Hash};
use bitcoin::secp256k1::ecdsa::RecoverableSignature;
use bitcoin::secp256k1::{Message, PublicKey};
use bitcoin::{Network, WitnessVersion};
use fulmen_channel::amount::Msat;
use fulmen_channel::payment::PaymentHash;
use lightning::routing::router::RouteHint;
use lightning::types::payment::PaymentSecret;
use lightning_invoice::{
    constants, Bolt11Invoice, Bolt11InvoiceDescription, Bolt11InvoiceDescriptionRef, Currency,
    Fallback, InvoiceBuilder, RawTaggedField, Sha256, SignedRawBolt11Invoice,
};
use std::time::Duration;

/// The feature bits that an invoice may require of us: var_onion_optin, payment_secret,
/// basic_mpp (one part is a set, too), option_payment_metadata (BOLT 9).
const UNDERSTOOD: [u32; 4] = [8, 14, 16, 48];

/// The fields that must have one length only, and their letters (BOLT 11, tagged fields).
const FIXED_LENGTH: [(u8, char); 4] = [
    (constants::TAG_PAYMENT_HASH, 'p'),
    (constants::TAG_DESCRIPTION_HASH, 'h'),
    (constants::TAG_PAYMENT_SECRET, 's'),
    (constants::TAG_PAYEE_PUB_KEY, 'n'),
];

/// Why an invoice cannot be made, read or paid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bolt11Error {
    /// Not an invoice, or one without what it must have.
    #[error("this is not a valid invoice: {0}")]
    Invalid(String),
    /// Written in a longer form than needed, so that its signature covers something else.
    #[error("this is not a valid invoice: it is not written in its shortest form")]
    NotShortest,
    /// The amount is 0 or beyond all bitcoin.
    #[error("the invoice's amount is not one that can be paid")]
    Amount,
    /// For another chain. The text begins as lnd's.
    #[error("invoice not for current active network '{0}'")]
    WrongNetwork(Network),
    /// Too late. The text begins as lnd's.
    #[error("invoice expired. Valid until {0} seconds after 1970")]
    Expired(u64),
    /// A bit that the payer must know.
    #[error("the invoice requires feature bit {0}, which fulmen does not know")]
    UnknownFeature(u32),
    /// A field of fixed length has another one.
    #[error("the invoice's field '{0}' has a wrong length")]
    FieldLength(char),
    /// What it is to be made of does not go into an invoice.
    #[error("no invoice can be made of this: {0}")]
    Unwritable(String),
}

/// What an invoice is for: in words, or their SHA256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Description {
    /// Up to 639 bytes.
    Text(String),
    /// Of a description that is given elsewhere.
    Hash([u8; 32]),
}

/// All that goes into an invoice of ours.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The chain it is to be paid on.
    pub network: Network,
    /// None: the payer chooses.
    pub amount: Option<Msat>,
    /// What for.
    pub description: Description,
    /// What payments are locked to.
    pub payment_hash: PaymentHash,
    /// Known to readers of the invoice only.
    pub payment_secret: [u8; 32],
    /// Seconds since 1970.
    pub timestamp: u64,
    /// Seconds that it stays valid.
    pub expiry: u64,
    /// Blocks that the last HTLC must have left.
    pub min_final_cltv: u32,
    /// Where to pay on chain if need be.
    pub fallback: Option<Address>,
    /// Private channels that lead to us.
    pub route_hints: Vec<RouteHint>,
}

/// An invoice as its payer reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayReq {
    /// The chain prefix.
    pub currency: Currency,
    /// Who is to be paid: as it says, or recovered from the signature.
    pub payee: PublicKey,
    /// What the payment is locked to.
    pub payment_hash: PaymentHash,
    /// To be sent to the payee.
    pub payment_secret: [u8; 32],
    /// None: the payer chooses.
    pub amount: Option<Msat>,
    /// Seconds since 1970.
    pub timestamp: u64,
    /// Seconds that it stays valid.
    pub expiry: u64,
    /// What for.
    pub description: Description,
    /// Blocks that the last HTLC must have left.
    pub min_final_cltv: u32,
    /// Where to pay on chain, best first.
    pub fallbacks: Vec<Address>,
    /// Private channels that lead to the payee.
    pub route_hints: Vec<RouteHint>,
    /// To be sent to the payee, verbatim.
    pub metadata: Option<Vec<u8>>,
    /// The bits that are set.
    pub features: Vec<u32>,
    /// The first field of fixed length that had another one.
    pub bad_field: Option<char>,
}

fn currency(network: Network) -> Currency {
    match network {
        Network::Bitcoin => Currency::Bitcoin,
        Network::Regtest => Currency::Regtest,
        Network::Signet => Currency::Signet,
        _ => Currency::BitcoinTestnet,
    }
}

/// Makes an invoice. `sign` signs with the node's key. Sets the feature bits var_onion_optin and
/// payment_secret, both required.
///
/// # Errors
/// `Amount` and `Unwritable`: what was asked for does not go into an invoice.
pub fn make(
    draft: Draft,
    sign: impl FnOnce(&Message) -> RecoverableSignature,
) -> Result<String, Bolt11Error> {
    let description = match draft.description {
        Description::Text(text) => Bolt11InvoiceDescription::Direct(
            lightning_invoice::Description::new(text).map_err(unwritable)?,
        ),
        Description::Hash(hash) => {
            Bolt11InvoiceDescription::Hash(Sha256(sha256::Hash::from_byte_array(hash)))
        }
    };
    let mut builder = InvoiceBuilder::new(currency(draft.network))
        .invoice_description(description)
        .payment_hash(sha256::Hash::from_byte_array(draft.payment_hash.0))
        .duration_since_epoch(Duration::from_secs(draft.timestamp))
        .min_final_cltv_expiry_delta(u64::from(draft.min_final_cltv))
        .payment_secret(PaymentSecret(draft.payment_secret))
        .expiry_time(Duration::from_secs(draft.expiry));
    if let Some(amount) = draft.amount {
        builder = builder.amount_milli_satoshis(payable_amount(amount)?.msat());
    }
    if let Some(address) = draft.fallback {
        builder = builder.fallback(fallback(&address)?);
    }
    for hint in draft.route_hints {
        builder = builder.private_route(hint);
    }
    Ok(builder.build_signed(sign).map_err(unwritable)?.to_string())
}

fn unwritable(error: lightning_invoice::CreationError) -> Bolt11Error {
    Bolt11Error::Unwritable(error.to_string())
}

fn payable_amount(amount: Msat) -> Result<Msat, Bolt11Error> {
    let fine = amount > Msat::ZERO && amount <= Msat::MAX_MONEY;
    fine.then_some(amount).ok_or(Bolt11Error::Amount)
}

/// Reads a fallback address for `network`.
///
/// # Errors
/// `Unwritable`: not an address, or one of another network.
pub fn parse_fallback(text: &str, network: Network) -> Result<Address, Bolt11Error> {
    text.parse::<Address<NetworkUnchecked>>()
        .and_then(|address| address.require_network(network))
        .map_err(|error| Bolt11Error::Unwritable(format!("fallback address: {error}")))
}

fn fallback(address: &Address) -> Result<Fallback, Bolt11Error> {
    if let Some(program) = address.witness_program() {
        let version: WitnessVersion = program.version();
        let program = program.program().as_bytes().to_vec();
        return Ok(Fallback::SegWitProgram { version, program });
    }
    let legacy = address.pubkey_hash().map(Fallback::PubKeyHash);
    legacy.or_else(|| address.script_hash().map(Fallback::ScriptHash)).ok_or_else(|| {
        Bolt11Error::Unwritable("the fallback address is of a kind unknown to BOLT 11".into())
    })
}

/// Reads an invoice and checks its signature, in upper or lower case.
///
/// # Errors
/// `Invalid`, `NotShortest`, `Amount`. Whether it is for us to pay, [`PayReq::check_payable`] says.
pub fn read(text: &str) -> Result<PayReq, Bolt11Error> {
    let invalid = |why: String| Bolt11Error::Invalid(why);
    let signed: SignedRawBolt11Invoice =
        text.parse().map_err(|e: lightning_invoice::Bolt11ParseError| invalid(e.to_string()))?;
    // The library hashes what it would have written itself: with leading zeros, say, that is not
    // what was signed, and a wrong payee would be recovered.
    if signed.to_string() != text.to_ascii_lowercase() {
        return Err(Bolt11Error::NotShortest);
    }
    let raw = signed.raw_invoice();
    // An amount that overflows reads as none.
    let named = raw.hrp.raw_amount.is_some();
    let bad_field = raw.data.tagged_fields.iter().find_map(bad_length);
    let invoice = Bolt11Invoice::from_signed(signed).map_err(|e| invalid(e.to_string()))?;
    let amount = match invoice.amount_milli_satoshis() {
        Some(amount) => Some(payable_amount(Msat::new(amount))?),
        None if named => return Err(Bolt11Error::Amount),
        None => None,
    };
    let description = match invoice.description() {
        Bolt11InvoiceDescriptionRef::Direct(text) => Description::Text(text.as_inner().0.clone()),
        Bolt11InvoiceDescriptionRef::Hash(hash) => Description::Hash(hash.0.to_byte_array()),
    };
    let min_final_cltv = u32::try_from(invoice.min_final_cltv_expiry_delta())
        .map_err(|_| invalid("its min_final_cltv_expiry_delta is beyond any height".into()))?;
    Ok(PayReq {
        currency: invoice.currency(),
        payee: invoice.get_payee_pub_key(),
        payment_hash: PaymentHash(invoice.payment_hash().to_byte_array()),
        payment_secret: invoice.payment_secret().0,
        amount,
        timestamp: invoice.duration_since_epoch().as_secs(),
        expiry: invoice.expiry_time().as_secs(),
        description,
        min_final_cltv,
        fallbacks: invoice.fallback_addresses(),
        route_hints: invoice.route_hints(),
        metadata: invoice.payment_metadata().cloned(),
        features: invoice.features().map(|f| bits(f.le_flags())).unwrap_or_default(),
        bad_field,
    })
}

/// The letter of a field that was not understood for its length alone.
fn bad_length(field: &RawTaggedField) -> Option<char> {
    let RawTaggedField::UnknownSemantics(field) = field else { return None };
    let tag = field.first()?.to_u8();
    FIXED_LENGTH.iter().find(|(fixed, _)| *fixed == tag).map(|(_, letter)| *letter)
}

/// The numbers of the bits set in little-endian flags.
fn bits(flags: &[u8]) -> Vec<u32> {
    let bytes = flags.iter().zip((0u32..).step_by(8));
    bytes
        .flat_map(|(byte, base)| {
            let set = (0u32..8).filter(move |bit| byte >> bit & 1 == 1);
            set.map(move |bit| base.saturating_add(bit))
        })
        .collect()
}

impl PayReq {
    /// When it expires, in seconds since 1970.
    pub fn expires_at(&self) -> u64 {
        self.timestamp.saturating_add(self.expiry)
    }

    /// Has it expired `now`, in seconds since 1970?
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires_at() < now
    }

    /// May it be paid on `network`, `now` (seconds since 1970)? (BOLT 11, requirements of readers
    /// and payers.)
    ///
    /// # Errors
    /// `WrongNetwork`, `FieldLength`, `UnknownFeature`, `Expired`.
    pub fn check_payable(&self, network: Network, now: u64) -> Result<(), Bolt11Error> {
        if self.currency != currency(network) {
            return Err(Bolt11Error::WrongNetwork(network));
        }
        if let Some(field) = self.bad_field {
            return Err(Bolt11Error::FieldLength(field));
        }
        let unknown = |bit: &&u32| **bit % 2 == 0 && !UNDERSTOOD.contains(*bit);
        if let Some(bit) = self.features.iter().find(unknown) {
            return Err(Bolt11Error::UnknownFeature(*bit));
        }
        if self.is_expired(now) {
            return Err(Bolt11Error::Expired(self.expires_at()));
        }
        Ok(())
    }
}
