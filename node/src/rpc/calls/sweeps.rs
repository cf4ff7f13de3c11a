//! PendingSweeps, BumpFee and BumpForceCloseFee: what is taken on chain, and what may be paid.

use super::send_coins::{outpoint, outpoint_in, Asked};
use super::{close_channel, failed};
use crate::node::Node;
use crate::sweeper::{Order, Pending};
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
    if !node.services.sweeper.order(claim, order) {
        return Err(failed(format!(
            "{claim} is none of the pending sweeps: only outputs of channels that are closed by \
             force are bumped"
        )));
    }
    Ok(rpc::BumpFeeResponse { status: "Successfully registered rbf-tx with sweeper".into() })
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
        return Err(failed(
            "the channel has no anchor to pay by: no commitment of ours with one waits for a block",
        ));
    }
    let status = "Successfully registered anchor-cpfp transaction to bump channel force close \
                  transaction";
    Ok(rpc::BumpForceCloseFeeResponse { status: status.into() })
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
