//! A macaroon: its binary format (version 2 of libmacaroons) and its chain of HMACs.

use bitcoin::hashes::{cmp::fixed_time_eq, hmac, sha256, Hash, HashEngine};

/// The secret at the root of a macaroon's chain.
pub type RootKey = [u8; 32];

/// The first byte of version 2.
const VERSION: u8 = 2;
/// The key under which a root key is hashed before use.
const GENERATOR: &[u8] = b"macaroons-key-generator";

const END: u8 = 0;
const LOCATION: u8 = 1;
const IDENTIFIER: u8 = 2;
const VERIFICATION_ID: u8 = 4;
const SIGNATURE: u8 = 6;

/// A condition that was added to a macaroon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caveat {
    /// Of a third party's caveat, where that is.
    pub location: Option<Vec<u8>>,
    /// The condition.
    pub id: Vec<u8>,
    /// Only of a third party's caveat: its key, encrypted.
    pub verification_id: Option<Vec<u8>>,
}

/// A macaroon, verified or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Macaroon {
    /// Who made it: `lnd`.
    pub location: Option<Vec<u8>>,
    /// What it allows, and under which root key.
    pub identifier: Vec<u8>,
    /// What narrows it.
    pub caveats: Vec<Caveat>,
    /// The end of the chain.
    pub signature: [u8; 32],
}

impl Macaroon {
    /// A macaroon without caveats.
    pub fn new(root_key: &RootKey, location: &str, identifier: Vec<u8>) -> Macaroon {
        let signature = hmac(&hmac(GENERATOR, root_key), &identifier);
        let location = Some(location.as_bytes().to_vec());
        Macaroon { location, identifier, caveats: Vec::new(), signature }
    }

    /// Adds a condition, as any holder may.
    pub fn add_caveat(&mut self, condition: &str) {
        let id = condition.as_bytes().to_vec();
        self.signature = hmac(&self.signature, &id);
        self.caveats.push(Caveat { location: None, id, verification_id: None });
    }

    /// Whether `root_key` made it and nobody changed it but by adding caveats.
    pub fn is_signed_by(&self, root_key: &RootKey) -> bool {
        let start = hmac(&hmac(GENERATOR, root_key), &self.identifier);
        let end = self.caveats.iter().fold(start, |key, caveat| match &caveat.verification_id {
            None => hmac(&key, &caveat.id),
            Some(vid) => hmac(&key, &[hmac(&key, vid), hmac(&key, &caveat.id)].concat()),
        });
        fixed_time_eq(&end, &self.signature)
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        put_optional(&mut bytes, LOCATION, self.location.as_deref());
        put(&mut bytes, IDENTIFIER, &self.identifier);
        bytes.push(END);
        for caveat in &self.caveats {
            put_optional(&mut bytes, LOCATION, caveat.location.as_deref());
            put(&mut bytes, IDENTIFIER, &caveat.id);
            put_optional(&mut bytes, VERIFICATION_ID, caveat.verification_id.as_deref());
            bytes.push(END);
        }
        bytes.push(END);
        put(&mut bytes, SIGNATURE, &self.signature);
        bytes
    }

    /// Reads what [`Macaroon::encode`] writes. Errors say what is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Macaroon, &'static str> {
        let mut reader = Reader(bytes);
        if reader.byte()? != VERSION {
            return Err("it is not of version 2");
        }
        let location = reader.optional(LOCATION)?;
        let identifier = reader.optional(IDENTIFIER)?.ok_or("it has no identifier")?;
        if reader.byte()? != END {
            return Err("it has an unknown field");
        }
        let mut caveats = Vec::new();
        while reader.peek()? != END {
            let location = reader.optional(LOCATION)?;
            let id = reader.optional(IDENTIFIER)?.ok_or("a caveat has no identifier")?;
            let verification_id = reader.optional(VERIFICATION_ID)?;
            if reader.byte()? != END {
                return Err("a caveat has an unknown field");
            }
            caveats.push(Caveat { location, id, verification_id });
        }
        reader.byte()?;
        let signature = reader.optional(SIGNATURE)?.ok_or("it has no signature")?;
        let signature = signature.try_into().map_err(|_| "its signature is not 32 bytes long")?;
        if !reader.0.is_empty() {
            return Err("there are bytes behind it");
        }
        Ok(Macaroon { location, identifier, caveats, signature })
    }
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut engine = hmac::HmacEngine::<sha256::Hash>::new(key);
    engine.input(data);
    hmac::Hmac::from_engine(engine).to_byte_array()
}

fn put(bytes: &mut Vec<u8>, field: u8, data: &[u8]) {
    bytes.push(field);
    let mut length = data.len();
    // A varint: seven bits a byte, the lowest first, the top bit says that more follow.
    while length > 0x7f {
        bytes.push(length.to_le_bytes().first().copied().unwrap_or_default() | 0x80);
        length >>= 7;
    }
    bytes.push(length.to_le_bytes().first().copied().unwrap_or_default());
    bytes.extend_from_slice(data);
}

fn put_optional(bytes: &mut Vec<u8>, field: u8, data: Option<&[u8]>) {
    if let Some(data) = data {
        put(bytes, field, data);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn peek(&self) -> Result<u8, &'static str> {
        self.0.first().copied().ok_or("it is cut off")
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        let (first, rest) = self.0.split_first().ok_or("it is cut off")?;
        self.0 = rest;
        Ok(*first)
    }

    /// The data of `field` if that comes next.
    fn optional(&mut self, field: u8) -> Result<Option<Vec<u8>>, &'static str> {
        if self.peek()? != field {
            return Ok(None);
        }
        self.byte()?;
        let mut length = 0usize;
        // Three bytes, 2 MB, are more than any header holds.
        for shift in [0u32, 7, 14] {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let (data, rest) = self.0.split_at_checked(length).ok_or("it is cut off")?;
                self.0 = rest;
                return Ok(Some(data.to_vec()));
            }
        }
        Err("a field is too long")
    }
}
