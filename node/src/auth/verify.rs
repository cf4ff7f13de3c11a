//! The decision: may this macaroon call this method now, from there? Pure.

use super::{caveat, Identifier, Macaroon, Needs, RootKey};
use std::net::IpAddr;
use std::time::SystemTime;

/// The entity whose actions are methods' full names.
pub const URI: &str = "uri";

/// Why a call is refused. Where clients compare texts, these are lnd's; the code is UNKNOWN (2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is none in the metadata, or more than one.
    #[error("expected 1 macaroon, got {0}")]
    Count(usize),
    /// It is no macaroon.
    #[error("cannot read the macaroon: {0}")]
    Unreadable(&'static str),
    /// Its root key was deleted, or is another node's.
    #[error("cannot get macaroon: root key with id {0} doesn't exist")]
    NoRootKey(String),
    /// It was forged, or made under another root key.
    #[error("verification failed: signature mismatch after caveat verification")]
    Signature,
    /// A condition does not hold.
    #[error("caveat \"{condition}\" not satisfied: {why}")]
    Caveat {
        /// The condition.
        condition: String,
        /// What is wrong with it now.
        why: &'static str,
    },
    /// It is good, but not for this call.
    #[error("permission denied")]
    Permission,
    /// There is no such method.
    #[error("{0}: unknown permissions required for method")]
    UnknownMethod(String),
}

/// Checks `macaroon` for `method` (`/package.Service/Method`), which needs `needs`.
///
/// `root_key` finds the key of a storage id. A macaroon for `uri` and this method's name allows
/// it, whatever else it needs.
pub fn verify(
    macaroon: &[u8],
    method: &str,
    needs: Needs,
    now: SystemTime,
    peer: Option<IpAddr>,
    root_key: impl FnOnce(&[u8]) -> Option<RootKey>,
) -> Result<(), Denied> {
    let identifier = open(macaroon, now, peer, root_key)?;
    let ops = match needs {
        Needs::Nothing => &[],
        Needs::Ops(ops) => ops,
    };
    allows(&identifier, method, ops)
}

/// What `macaroon` allows, if it is good now from `peer`.
pub(super) fn open(
    macaroon: &[u8],
    now: SystemTime,
    peer: Option<IpAddr>,
    root_key: impl FnOnce(&[u8]) -> Option<RootKey>,
) -> Result<Identifier, Denied> {
    let macaroon = Macaroon::decode(macaroon).map_err(Denied::Unreadable)?;
    let identifier = Identifier::decode(&macaroon.identifier).map_err(Denied::Unreadable)?;
    let root_key = root_key(&identifier.storage_id).ok_or_else(|| {
        Denied::NoRootKey(String::from_utf8_lossy(&identifier.storage_id).escape_debug().collect())
    })?;
    if !macaroon.is_signed_by(&root_key) {
        return Err(Denied::Signature);
    }
    for caveat in &macaroon.caveats {
        let result = match caveat.verification_id {
            None => caveat::check(&caveat.id, now, peer),
            Some(_) => Err("third parties are not asked"),
        };
        result.map_err(|why| Denied::Caveat {
            condition: String::from_utf8_lossy(&caveat.id).escape_debug().collect(),
            why,
        })?;
    }
    Ok(identifier)
}

/// Whether it allows all of `ops`, or `method` by name.
pub(super) fn allows(
    identifier: &Identifier,
    method: &str,
    ops: &[(&str, &str)],
) -> Result<(), Denied> {
    let allowed = ops.iter().all(|(entity, action)| identifier.allows(entity, action));
    match allowed || identifier.allows(URI, method) {
        true => Ok(()),
        false => Err(Denied::Permission),
    }
}
