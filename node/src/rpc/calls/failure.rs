//! Why an attempt failed, as the API shows it.

use crate::onion::FailureMessage as F;
use crate::payments::AttemptFailure;
use crate::peer::wire::WireMessage;
use fulmen_proto::lnrpc::{self, failure::FailureCode};
use lightning::ln::msgs;

/// The message type of `channel_update`.
const CHANNEL_UPDATE: [u8; 2] = 258_u16.to_be_bytes();

/// Why an attempt failed.
pub(super) fn failure(failure: &AttemptFailure) -> lnrpc::Failure {
    let message = match failure {
        AttemptFailure::Local(_) => {
            let code = FailureCode::InternalFailure.into();
            return lnrpc::Failure { code, failure_source_index: 0, ..Default::default() };
        }
        AttemptFailure::Unreadable => {
            let code = FailureCode::UnreadableFailure.into();
            return lnrpc::Failure { code, ..Default::default() };
        }
        AttemptFailure::Hop { message, .. } => message.as_ref(),
    };
    let hop = match failure {
        AttemptFailure::Hop { hop, .. } => u32::try_from(*hop).unwrap_or(u32::MAX),
        _ => 0,
    };
    let (htlc_msat, height) = match message {
        Some(F::IncorrectOrUnknownPaymentDetails { amount, height }) => {
            (amount.msat(), height.number())
        }
        Some(F::FinalIncorrectHtlcAmount { amount } | F::AmountBelowMinimum { amount, .. }) => {
            (amount.msat(), 0)
        }
        Some(F::FeeInsufficient { amount, .. }) => (amount.msat(), 0),
        _ => (0, 0),
    };
    let cltv_expiry = match message {
        Some(F::FinalIncorrectCltvExpiry { cltv } | F::IncorrectCltvExpiry { cltv, .. }) => {
            cltv.number()
        }
        _ => 0,
    };
    let onion_sha_256 = match message {
        Some(
            F::InvalidOnionVersion(sha256)
            | F::InvalidOnionHmac(sha256)
            | F::InvalidOnionKey(sha256)
            | F::InvalidOnionBlinding(sha256),
        ) => sha256.to_vec(),
        _ => Vec::new(),
    };
    let flags = match message {
        Some(F::ChannelDisabled { flags, .. }) => u32::from(*flags),
        _ => 0,
    };
    lnrpc::Failure {
        code: message.map_or(FailureCode::UnknownFailure, code).into(),
        channel_update: message.and_then(update_in).as_ref().map(channel_update),
        htlc_msat,
        onion_sha_256,
        cltv_expiry,
        flags,
        failure_source_index: hop.saturating_add(1),
        height,
    }
}

/// The policy that came with it, if that can be read.
fn update_in(message: &F) -> Option<msgs::ChannelUpdate> {
    let (F::TemporaryChannelFailure { update }
    | F::AmountBelowMinimum { update, .. }
    | F::FeeInsufficient { update, .. }
    | F::IncorrectCltvExpiry { update, .. }
    | F::ExpiryTooSoon { update }
    | F::ChannelDisabled { update, .. }) = message
    else {
        return None;
    };
    // With or without its message type in front (BOLT 4, failure messages).
    let bare = update.strip_prefix(&CHANNEL_UPDATE).unwrap_or(update);
    match WireMessage::decode(&[&CHANNEL_UPDATE, bare].concat()) {
        Ok(Some(WireMessage::ChannelUpdate(update))) => Some(*update),
        _ => None,
    }
}

fn channel_update(update: &msgs::ChannelUpdate) -> lnrpc::ChannelUpdate {
    let policy = &update.contents;
    lnrpc::ChannelUpdate {
        signature: update.signature.serialize_compact().to_vec(),
        chain_hash: policy.chain_hash.to_bytes().to_vec(),
        chan_id: policy.short_channel_id,
        timestamp: policy.timestamp,
        message_flags: u32::from(policy.message_flags),
        channel_flags: u32::from(policy.channel_flags),
        time_lock_delta: u32::from(policy.cltv_expiry_delta),
        htlc_minimum_msat: policy.htlc_minimum_msat,
        base_fee: policy.fee_base_msat,
        fee_rate: policy.fee_proportional_millionths,
        htlc_maximum_msat: policy.htlc_maximum_msat,
        extra_opaque_data: policy.excess_data.clone(),
    }
}

fn code(message: &F) -> FailureCode {
    match message {
        F::TemporaryNodeFailure => FailureCode::TemporaryNodeFailure,
        F::PermanentNodeFailure => FailureCode::PermanentNodeFailure,
        F::RequiredNodeFeatureMissing => FailureCode::RequiredNodeFeatureMissing,
        F::InvalidOnionVersion(_) => FailureCode::InvalidOnionVersion,
        F::InvalidOnionHmac(_) => FailureCode::InvalidOnionHmac,
        F::InvalidOnionKey(_) => FailureCode::InvalidOnionKey,
        F::TemporaryChannelFailure { .. } => FailureCode::TemporaryChannelFailure,
        F::PermanentChannelFailure => FailureCode::PermanentChannelFailure,
        F::RequiredChannelFeatureMissing => FailureCode::RequiredChannelFeatureMissing,
        F::UnknownNextPeer => FailureCode::UnknownNextPeer,
        F::AmountBelowMinimum { .. } => FailureCode::AmountBelowMinimum,
        F::FeeInsufficient { .. } => FailureCode::FeeInsufficient,
        F::IncorrectCltvExpiry { .. } => FailureCode::IncorrectCltvExpiry,
        F::ExpiryTooSoon { .. } => FailureCode::ExpiryTooSoon,
        F::IncorrectOrUnknownPaymentDetails { .. } => FailureCode::IncorrectOrUnknownPaymentDetails,
        F::FinalIncorrectCltvExpiry { .. } => FailureCode::FinalIncorrectCltvExpiry,
        F::FinalIncorrectHtlcAmount { .. } => FailureCode::FinalIncorrectHtlcAmount,
        F::ChannelDisabled { .. } => FailureCode::ChannelDisabled,
        F::ExpiryTooFar => FailureCode::ExpiryTooFar,
        F::InvalidOnionPayload { .. } => FailureCode::InvalidOnionPayload,
        F::MppTimeout => FailureCode::MppTimeout,
        F::InvalidOnionBlinding(_) => FailureCode::InvalidOnionBlinding,
        F::Other { .. } => FailureCode::UnknownFailure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::constants::ChainHash;
    use bitcoin::secp256k1::ecdsa::Signature;
    use fulmen_channel::amount::Msat;
    use lightning::util::ser::Writeable;

    fn shown(message: F) -> lnrpc::Failure {
        failure(&AttemptFailure::Hop { hop: 0, message: Some(message) })
    }

    #[test]
    fn a_channels_policy_is_read_with_and_without_its_type() {
        let signature = Signature::from_compact(&[1; 64]).unwrap();
        let contents = msgs::UnsignedChannelUpdate {
            chain_hash: ChainHash::REGTEST,
            short_channel_id: 7,
            timestamp: 1_700_000_000,
            message_flags: 1,
            channel_flags: 3,
            cltv_expiry_delta: 80,
            htlc_minimum_msat: 1_000,
            htlc_maximum_msat: 990_000_000,
            fee_base_msat: 5,
            fee_proportional_millionths: 6,
            excess_data: vec![9, 9],
        };
        let bare = msgs::ChannelUpdate { signature, contents }.encode();
        let wanted = lnrpc::ChannelUpdate {
            signature: vec![1; 64],
            chain_hash: ChainHash::REGTEST.to_bytes().to_vec(),
            chan_id: 7,
            timestamp: 1_700_000_000,
            message_flags: 1,
            channel_flags: 3,
            time_lock_delta: 80,
            htlc_minimum_msat: 1_000,
            base_fee: 5,
            fee_rate: 6,
            htlc_maximum_msat: 990_000_000,
            extra_opaque_data: vec![9, 9],
        };
        for update in [bare.clone(), [&CHANNEL_UPDATE[..], &bare].concat()] {
            let amount = Msat::new(8);
            let failure = shown(F::FeeInsufficient { amount, update: update.clone() });
            assert_eq!((failure.htlc_msat, failure.channel_update), (8, Some(wanted.clone())));
            let failure = shown(F::ChannelDisabled { flags: 2, update });
            assert_eq!((failure.flags, failure.channel_update), (2, Some(wanted.clone())));
        }
        for update in [vec![], vec![1, 2], bare[..100].to_vec()] {
            let failure = shown(F::TemporaryChannelFailure { update });
            assert_eq!(failure.code(), FailureCode::TemporaryChannelFailure);
            assert_eq!(failure.channel_update, None);
        }
    }

    #[test]
    fn an_onion_that_was_refused_is_named_by_its_hash() {
        let failure = shown(F::InvalidOnionHmac([4; 32]));
        assert_eq!(failure.code(), FailureCode::InvalidOnionHmac);
        assert_eq!(failure.onion_sha_256, [4; 32]);
    }
}
