//! Feature bits in `init` (BOLT 1 and 9): what we offer, and whom we can talk to.

use fulmen_channel::params::Negotiated;
use lightning::types::features::InitFeatures;

/// Bits that every node of today is taken to know (BOLT 9: ASSUMED), offered or not:
/// data_loss_protect, var_onion_optin, static_remotekey, payment_secret, channel_type.
const ASSUMED: [usize; 5] = [0, 8, 12, 14, 44];

/// A feature and the one it cannot be without, by their even bits (BOLT 9). Dependencies on
/// [`ASSUMED`] ones always hold.
const DEPENDENCIES: [(u64, u64); 2] = [
    (50, 46), // zeroconf needs scid_alias
    (60, 26), // simple_close needs shutdown_anysegwit
];

/// A peer's features rule out talking to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incompatible {
    /// It requires features that we do not have.
    #[error("the peer requires features that we do not have: bits {0:?}")]
    Unknown(Vec<u64>),
    /// It offers a feature without the one that feature needs.
    #[error("the peer offers feature {feature} without feature {needs}, which that one needs")]
    Dependency {
        /// The even bit of the feature offered.
        feature: u64,
        /// The even bit of the one missing.
        needs: u64,
    },
}

/// What of the protocol the operator switched on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Channels with anchors, beside those without.
    pub anchors: bool,
    /// `option_scid_alias`: names for channels instead of their place in the chain.
    pub scid_alias: bool,
    /// `option_zeroconf`: channels that are used before they are in the chain. Needs `scid_alias`.
    pub zero_conf: bool,
}

impl Default for Protocol {
    /// As lnd's.
    fn default() -> Self {
        Protocol { anchors: true, scid_alias: false, zero_conf: false }
    }
}

/// What fulmen offers unless the operator says otherwise.
pub fn our_features() -> InitFeatures {
    features(&Protocol::default())
}

/// What fulmen offers: the assumed features, since other nodes insist on seeing them, of which
/// those that no channel of ours can do without are required; and what else is built.
pub fn features(protocol: &Protocol) -> InitFeatures {
    let mut features = InitFeatures::empty();
    features.set_data_loss_protect_required();
    features.set_variable_length_onion_required();
    features.set_static_remote_key_required();
    features.set_payment_secret_required();
    features.set_channel_type_optional();
    features.set_upfront_shutdown_script_optional();
    if protocol.anchors {
        features.set_anchors_zero_fee_htlc_tx_optional();
    }
    features.set_shutdown_any_segwit_optional();
    if protocol.scid_alias {
        features.set_scid_privacy_optional();
    }
    if protocol.zero_conf {
        features.set_zero_conf_optional();
    }
    features.set_simple_close_optional();
    features.set_provide_storage_optional();
    features
}

/// What holds between us and a peer that offers `theirs`, as far as a channel depends on it.
pub fn negotiated(protocol: &Protocol, theirs: &InitFeatures) -> Negotiated {
    let ours = features(protocol);
    Negotiated {
        simple_close: ours.supports_simple_close() && theirs.supports_simple_close(),
        any_segwit: ours.supports_shutdown_anysegwit() && theirs.supports_shutdown_anysegwit(),
    }
}

/// Checks the features of a peer's `init` against ours.
///
/// # Errors
/// [`Incompatible`] where BOLT 1 says to close the connection.
pub fn check(ours: &InitFeatures, theirs: &InitFeatures) -> Result<(), Incompatible> {
    let mut known = ours.clone();
    for bit in ASSUMED {
        // Cannot fail: it does for bits over 255 only.
        let _ = known.set_required_feature_bit(bit);
    }
    let unknown = theirs.required_unknown_bits_from(&known);
    if !unknown.is_empty() {
        return Err(Incompatible::Unknown(unknown));
    }
    for (feature, needs) in DEPENDENCIES {
        if offers(theirs, feature) && !offers(theirs, needs) {
            return Err(Incompatible::Dependency { feature, needs });
        }
    }
    Ok(())
}

/// Whether a feature's even or odd bit is set.
fn offers(features: &InitFeatures, even_bit: u64) -> bool {
    let byte = usize::try_from(even_bit / 8).ok().and_then(|at| features.le_flags().get(at));
    byte.is_some_and(|byte| byte.checked_shr((even_bit % 8) as u32).unwrap_or(0) & 0b11 != 0)
}
