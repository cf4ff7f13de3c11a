//! PendingSweeps, BumpFee and BumpForceCloseFee: what is taken on chain, and what may be paid.

use super::send_coins::{outpoint, outpoint_in, Asked};
use super::{close_channel, failed};
use crate::channels::registry::Handle;
use crate::node::Node;
use crate::sweeper::{Order, Pending};
use bitcoin::OutPoint;
use fulmen_channel::amount::{FeeratePerKw, Height, Sat};
use fulmen_channel::onchain::claim::{Name, Pays};
use fulmen_channel::params::Side;
use fulmen_proto::walletrpc::{self as rpc, WitnessType};
use tonic::Status;

/// What channels have on chain and is not taken yet.
pub fn pending_sweeps(node: &Node) -> rpc::PendingSweepsResponse {
    let pending = node.services.sweeper.pending();
    rpc::PendingSweepsResponse { pending_sweeps: pending.iter().map(sweep).collect() }
}

/// Says what may be paid for one of them.
pub async fn bump_fee(
    node: &Node,
    request: rpc::BumpFeeRequest,
) -> Result<rpc::BumpFeeResponse, Status> {
    let claim = request.outpoint.as_ref().ok_or_else(|| failed("outpoint must be specified"))?;
    let claim = outpoint_in(claim)?;
    #[allow(deprecated, reason = "clients still set them")]
    let (per_byte, force) = (request.sat_per_byte, request.force);
    let terms = Terms {
        target_conf: request.target_conf,
        sat_per_byte: per_byte,
        sat_per_vbyte: request.sat_per_vbyte,
        immediate: request.immediate || force,
        budget: request.budget,
        deadline_delta: request.deadline_delta,
    };
    let order = terms.order(node).await?;
    let sweeper = &node.services.sweeper;
    let pending = sweeper.pending().into_iter().find(|it| it.wanted.outpoint() == claim);
    let is_coin = node.money.wallet().coins().iter().any(|coin| coin.outpoint == claim);
    may_bump(claim, pending.as_ref(), is_coin)?;
    if !sweeper.order(claim, order) {
        // A block took it just now.
        return Err(failed(NOT_OURS));
    }
    Ok(rpc::BumpFeeResponse { status: "Successfully registered rbf-tx with sweeper".into() })
}

/// lnd's words, which clients compare.
const NOT_OURS: &str = "the passed output does not belong to the wallet";

/// Whether what is paid for an output can be changed: a pending sweep's, if the peer's signature
/// does not fix the fee. `is_coin`: it is a coin of the wallet.
fn may_bump(claim: OutPoint, pending: Option<&Pending>, is_coin: bool) -> Result<(), Status> {
    match pending {
        Some(pending) if pending.wanted.is_fixed() => Err(failed(format!(
            "the fee of what takes {claim} is fixed: in a channel without anchors it is published \
             as the peer signed it, at the feerate of the commitment"
        ))),
        Some(_) => Ok(()),
        None if is_coin => Err(failed(format!(
            "{claim} is none of the pending sweeps: only outputs of channels that are closed by \
             force are bumped"
        ))),
        None => Err(failed(NOT_OURS)),
    }
}

/// Says what may be paid to have our commitment confirm.
pub async fn bump_force_close_fee(
    node: &Node,
    request: rpc::BumpForceCloseFeeRequest,
) -> Result<rpc::BumpForceCloseFeeResponse, Status> {
    let point = request.chan_point.as_ref();
    let point = point.ok_or_else(|| failed("channel point must be specified"))?;
    let handle = node.services.registry.by_outpoint(&close_channel::outpoint(point)?);
    let handle = handle.ok_or_else(|| failed("channel not found"))?;
    let terms = Terms {
        target_conf: request.target_conf,
        sat_per_byte: 0,
        sat_per_vbyte: request.starting_feerate,
        immediate: request.immediate,
        budget: request.budget,
        deadline_delta: request.deadline_delta,
    };
    let order = terms.order(node).await?;
    let sweeper = &node.services.sweeper;
    let of_channel = |pending: &&Pending| {
        pending.wanted.channel == handle.index && pending.wanted.parent.is_some()
    };
    let pending = sweeper.pending();
    let anchor = pending.iter().find(of_channel).map(|pending| pending.wanted.outpoint());
    if !anchor.is_some_and(|anchor| sweeper.order(anchor, order)) {
        return Err(failed(no_anchor(&handle).await));
    }
    let status = "Successfully registered anchor-cpfp transaction to bump channel force close \
                  transaction";
    Ok(rpc::BumpForceCloseFeeResponse { status: status.into() })
}

/// Why no anchor can pay for a channel's close, and what to do instead.
async fn no_anchor(handle: &Handle) -> &'static str {
    let snapshot = handle.describe().await;
    match snapshot.as_ref().and_then(|it| Some((it.phase, it.funded.as_ref()?))) {
        Some((_, funded)) if funded.closing_height.is_some() => {
            "the close is in a block: see wallet pendingsweeps for what is left to take"
        }
        Some(("closing", funded)) if funded.failed.is_none() => {
            "both closed the channel together: run closechannel again with a higher \
             --sat_per_vbyte"
        }
        _ => {
            "the channel has no anchor to pay by: no commitment of ours with one waits for a block"
        }
    }
}

/// What both calls ask for.
struct Terms {
    target_conf: u32,
    sat_per_byte: u32,
    sat_per_vbyte: u64,
    immediate: bool,
    budget: u64,
    deadline_delta: u32,
}

impl Terms {
    async fn order(self, node: &Node) -> Result<Order, Status> {
        let asked = Asked {
            target_conf: i32::try_from(self.target_conf).unwrap_or(i32::MAX),
            sat_per_vbyte: self.sat_per_vbyte,
            sat_per_byte: self.sat_per_byte.into(),
        };
        let any = self.target_conf > 0 || self.sat_per_vbyte > 0 || self.sat_per_byte > 0;
        let feerate = if any { Some(asked.resolve(node).await?) } else { None };
        let height = node.services.chain.tip().height;
        Ok(Order {
            budget: (self.budget > 0).then(|| Sat::new(self.budget)),
            feerate,
            deadline: (self.deadline_delta > 0).then(|| height.plus(self.deadline_delta)),
            immediate: self.immediate,
        })
    }
}

fn sweep(pending: &Pending) -> rpc::PendingSweep {
    let Pending { wanted, version, .. } = pending;
    rpc::PendingSweep {
        outpoint: Some(outpoint(wanted.outpoint())),
        witness_type: witness_type(pending).into(),
        amount_sat: u32::try_from(wanted.claim.spend.value().sat()).unwrap_or(u32::MAX),
        broadcast_attempts: version.as_ref().map_or(0, |version| version.attempts),
        sat_per_vbyte: pending.feerate().map_or(0, per_vbyte),
        requested_sat_per_vbyte: wanted.order.feerate.map_or(0, per_vbyte),
        immediate: wanted.order.immediate,
        budget: wanted.budget().sat(),
        deadline_height: wanted.deadline().map_or(0, Height::number),
        maturity_height: wanted.claim.from.number(),
        ..Default::default()
    }
}

/// Whole satoshis, rounded to the nearest: what was asked for comes back as it was.
fn per_vbyte(rate: FeeratePerKw) -> u64 {
    u64::from(rate.per_kw()).saturating_add(125) / 250
}

/// lnd's name of what takes the output.
fn witness_type(pending: &Pending) -> WitnessType {
    let claim = &pending.wanted.claim;
    let by_us = claim.htlc.is_some_and(|(by, _)| by == Side::Local);
    let anchors = matches!(claim.pays, Pays::Beside(_));
    let delayed = claim.spend.sequence.is_height_locked();
    match claim.name {
        Name::D if delayed => WitnessType::CommitmentToRemoteConfirmed,
        Name::D => WitnessType::CommitmentNoDelayTweakless,
        Name::RD => WitnessType::CommitmentTimeLock,
        Name::BR => WitnessType::CommitmentRevoke,
        Name::HT if anchors => WitnessType::HtlcOfferedTimeoutSecondLevelInputConfirmed,
        Name::HT | Name::HTRD => WitnessType::HtlcOfferedTimeoutSecondLevel,
        Name::HE if anchors => WitnessType::HtlcAcceptedSuccessSecondLevelInputConfirmed,
        Name::HE | Name::HERD => WitnessType::HtlcAcceptedSuccessSecondLevel,
        Name::HED => WitnessType::HtlcAcceptedRemoteSuccess,
        Name::HTD => WitnessType::HtlcOfferedRemoteTimeout,
        // lnd names it by whose offer it is.
        Name::HBR if by_us => WitnessType::HtlcOfferedRevoke,
        Name::HBR => WitnessType::HtlcAcceptedRevoke,
        Name::HTBR | Name::HEBR => WitnessType::HtlcSecondLevelRevoke,
        Name::Anchor => WitnessType::CommitmentAnchor,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sweeper::version::Version;
    use crate::sweeper::wanted::Wanted;
    use bitcoin::absolute::LockTime;
    use bitcoin::hashes::Hash;
    use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
    use bitcoin::{Transaction, Txid};
    use fulmen_channel::onchain::claim::Claim;
    use fulmen_channel::params::CommitmentFormat;
    use fulmen_channel::transactions::delivery;

    fn pending(name: Name, format: CommitmentFormat) -> Pending {
        let key: PublicKey = SecretKey::from_slice(&[7; 32]).unwrap().public_key(&Secp256k1::new());
        let outpoint = OutPoint { txid: Txid::from_byte_array([3; 32]), vout: 2 };
        let spend = delivery::spend(format, &key, outpoint, Sat::new(50_000));
        let pays = match name {
            Name::HT | Name::HE => Pays::Beside(spend.output.clone()),
            _ => Pays::Anything,
        };
        let (from, until) = (Height::new(700), Some(Height::new(720)));
        let htlc = Some((Side::Local, 4));
        let wanted = Wanted::new(1, Claim { name, htlc, spend, pays, from, until });
        Pending { wanted, version: None, waits: None }
    }

    fn version(fee: u64) -> Version {
        let (input, output) = (Vec::new(), Vec::new());
        let version = bitcoin::transaction::Version::TWO;
        Version {
            tx: Transaction { version, lock_time: LockTime::ZERO, input, output },
            fee: Sat::new(fee),
            weight: 1_000,
            claims: Vec::new(),
            coins: Vec::new(),
            rest: None,
            parent: None,
            since: Height::new(699),
            start: FeeratePerKw::new(253),
            attempts: 3,
        }
    }

    #[test]
    fn a_pending_sweep_tells_all_that_is_known() {
        let mut claim = pending(Name::HED, CommitmentFormat::Anchors);
        claim.wanted.order.immediate = true;
        claim.wanted.order.feerate = Some(FeeratePerKw::new(253));
        let told = sweep(&claim);
        let outpoint = told.outpoint.clone().unwrap();
        assert_eq!((outpoint.txid_str, outpoint.output_index), ("03".repeat(32), 2));
        assert_eq!(told.witness_type(), WitnessType::HtlcAcceptedRemoteSuccess);
        assert_eq!((told.amount_sat, told.budget), (50_000, 25_000));
        assert_eq!((told.deadline_height, told.maturity_height), (720, 700));
        assert_eq!((told.requested_sat_per_vbyte, told.immediate), (1, true));
        assert_eq!((told.broadcast_attempts, told.sat_per_vbyte), (0, 0));
        claim.version = Some(version(2_500));
        let told = sweep(&claim);
        assert_eq!((told.broadcast_attempts, told.sat_per_vbyte), (3, 10));
    }

    #[test]
    fn only_what_has_a_fee_of_ours_is_bumped() {
        let words = |pending: Option<&Pending>, is_coin| {
            let answer = may_bump(OutPoint::null(), pending, is_coin);
            answer.map_err(|status| status.message().to_owned())
        };
        let mut claim = pending(Name::HE, CommitmentFormat::Anchors);
        assert_eq!(words(Some(&claim), false), Ok(()));
        let output = claim.wanted.claim.spend.output.clone();
        claim.wanted.claim.pays = Pays::Only(output);
        assert!(words(Some(&claim), false).unwrap_err().contains("is fixed"));
        assert!(words(None, true).unwrap_err().contains("none of the pending sweeps"));
        assert_eq!(words(None, false), Err(NOT_OURS.into()));
    }

    #[test]
    fn outputs_go_by_lnds_names() {
        use CommitmentFormat::{Anchors, StaticRemoteKey};
        for (name, format, lnds) in [
            (Name::D, Anchors, "COMMITMENT_TO_REMOTE_CONFIRMED"),
            (Name::D, StaticRemoteKey, "COMMITMENT_NO_DELAY_TWEAKLESS"),
            (Name::RD, Anchors, "COMMITMENT_TIME_LOCK"),
            (Name::BR, Anchors, "COMMITMENT_REVOKE"),
            (Name::HT, Anchors, "HTLC_OFFERED_TIMEOUT_SECOND_LEVEL_INPUT_CONFIRMED"),
            (Name::HTRD, Anchors, "HTLC_OFFERED_TIMEOUT_SECOND_LEVEL"),
            (Name::HE, Anchors, "HTLC_ACCEPTED_SUCCESS_SECOND_LEVEL_INPUT_CONFIRMED"),
            (Name::HERD, Anchors, "HTLC_ACCEPTED_SUCCESS_SECOND_LEVEL"),
            (Name::HED, Anchors, "HTLC_ACCEPTED_REMOTE_SUCCESS"),
            (Name::HTD, Anchors, "HTLC_OFFERED_REMOTE_TIMEOUT"),
            (Name::HBR, Anchors, "HTLC_OFFERED_REVOKE"),
            (Name::HTBR, Anchors, "HTLC_SECOND_LEVEL_REVOKE"),
            (Name::Anchor, Anchors, "COMMITMENT_ANCHOR"),
        ] {
            let told = sweep(&pending(name, format));
            assert_eq!(told.witness_type().as_str_name(), lnds, "{name}");
        }
    }
}
