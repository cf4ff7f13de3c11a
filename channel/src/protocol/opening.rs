//! Opening, version 1 (BOLT 2, channel establishment v1). Each phase is a type that consumes itself
//! into the next, so an illegal move does not compile.
//!
//! ```text
//!   opener                                       accepter
//!   Proposed        ── open_channel ──────────▶
//!                   ◀────────── accept_channel ──  Accepted
//!   Funding  (the node builds F, does not publish it)
//!   Signing         ── funding_created ───────▶
//!                   ◀────────── funding_signed ──  durable first, then said
//!   durable first, then F is published
//! ```

use super::open::Open;
use super::terms::{check_first_balances, check_open, check_request, check_side, ACCEPT, OPEN};
use crate::amount::{FeeratePerKw, Msat, Sat};
use crate::contract::balance::{Balances, View};
use crate::contract::commitments::{Commitments, Funding, LastSent, State};
use crate::contract::htlc::{FeeUpdate, Stage};
use crate::contract::sign::CommitmentSignatures;
use crate::error::{Refused, Violation};
use crate::input::FundingRequest;
use crate::keys::curve::Curve;
use crate::keys::signer::Signer;
use crate::params::{Basepoints, ChannelParams, Negotiated, Side, SideParams};
use crate::transactions::funding;
use bitcoin::constants::ChainHash;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, ScriptBuf, Transaction};
use lightning::ln::msgs;
use lightning::ln::types::ChannelId;

pub use super::terms::{
    ChannelType, MAX_DUST_LIMIT, MAX_FUNDING, MAX_TO_SELF_DELAY, MIN_DUST_LIMIT,
};

/// What we propose as opener.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    /// Which chain.
    pub chain: ChainHash,
    /// A fresh id until the channel has its own.
    pub temporary_channel_id: ChannelId,
    /// What F holds.
    pub capacity: Sat,
    /// What the peer is given from the start.
    pub push: Msat,
    /// Feerate of the first commitment.
    pub feerate: FeeratePerKw,
    /// Our limits; the basepoints are the signer's.
    pub local: SideParams,
    /// Shape of the transactions, and what may be done with the channel.
    pub channel_type: ChannelType,
    /// Whether the network is to be told.
    pub announce: bool,
    /// Our name for the channel, to be told in channel_ready: where `option_scid_alias` was
    /// negotiated (a feature, apart from the channel type).
    pub alias: Option<u64>,
    /// What both offered in init.
    pub negotiated: Negotiated,
}

/// What we agree to as accepter.
#[derive(Clone, Debug)]
pub struct AcceptPolicy {
    /// Which chain.
    pub chain: ChainHash,
    /// Our limits; the basepoints are the signer's.
    pub local: SideParams,
    /// Confirmations before channel_ready.
    pub minimum_depth: u32,
    /// The smallest channel we take.
    pub min_capacity: Sat,
    /// The largest channel we take.
    pub max_capacity: Sat,
    /// We take channels with anchors, not only those without.
    pub anchors: bool,
    /// What confirms soon, once that is known: a channel without anchors must pay enough by itself.
    pub urgent: Option<FeeratePerKw>,
    /// We trust the peer to publish F as it says: `option_zeroconf` is accepted, and an unannounced
    /// channel is used at once without it too, if it has an alias.
    pub zero_conf: bool,
    /// As in [`OpenRequest::alias`]; none refuses the channel type `option_scid_alias` too.
    pub alias: Option<u64>,
    /// What both offered in init.
    pub negotiated: Negotiated,
}

/// As opener: open_channel is out.
#[derive(Debug)]
pub struct Proposed {
    request: OpenRequest,
    message: msgs::OpenChannel,
}

/// As opener: the peer accepted, the node builds F.
#[derive(Debug)]
pub struct ToFund {
    temporary_channel_id: ChannelId,
    alias: Option<u64>,
    capacity: Sat,
    params: ChannelParams,
    state: State,
}

/// As opener: funding_created is out.
#[derive(Debug)]
pub struct Signing {
    alias: Option<u64>,
    contract: Unsigned,
    transaction: Transaction,
}

/// As accepter: accept_channel is out.
#[derive(Debug)]
pub struct Accepted {
    temporary_channel_id: ChannelId,
    alias: Option<u64>,
    capacity: Sat,
    params: ChannelParams,
    state: State,
}

/// A contract whose first commitment the peer has not signed yet.
#[derive(Debug)]
struct Unsigned {
    params: ChannelParams,
    state: State,
    outpoint: OutPoint,
    capacity: Sat,
}

/// The id of a channel: its funding txid with the output index folded in (BOLT 2).
pub fn channel_id(outpoint: &OutPoint) -> ChannelId {
    let index = u16::try_from(outpoint.vout).unwrap_or(u16::MAX);
    ChannelId::v1_from_funding_txid(outpoint.txid.as_ref(), index)
}

impl Proposed {
    /// Checks what we want ourselves, and says it.
    pub fn new(
        request: OpenRequest,
        signer: &dyn Signer,
    ) -> Result<(Self, msgs::OpenChannel), Refused> {
        check_request(&request)?;
        let local = &request.local;
        let message = msgs::OpenChannel {
            common_fields: msgs::CommonOpenChannelFields {
                chain_hash: request.chain,
                temporary_channel_id: request.temporary_channel_id,
                funding_satoshis: request.capacity.sat(),
                dust_limit_satoshis: local.dust_limit.sat(),
                max_htlc_value_in_flight_msat: local.max_htlc_value_in_flight.msat(),
                htlc_minimum_msat: local.htlc_minimum.msat(),
                commitment_feerate_sat_per_1000_weight: request.feerate.per_kw(),
                to_self_delay: local.to_self_delay,
                max_accepted_htlcs: local.max_accepted_htlcs,
                funding_pubkey: local.basepoints.funding,
                revocation_basepoint: local.basepoints.revocation,
                payment_basepoint: local.basepoints.payment,
                delayed_payment_basepoint: local.basepoints.delayed_payment,
                htlc_basepoint: local.basepoints.htlc,
                first_per_commitment_point: signer.per_commitment_point(0),
                channel_flags: u8::from(request.announce),
                shutdown_scriptpubkey: Some(upfront(local)),
                channel_type: Some(request.channel_type.features()),
            },
            push_msat: request.push.msat(),
            channel_reserve_satoshis: local.channel_reserve.sat(),
        };
        Ok((Proposed { request, message: message.clone() }, message))
    }

    /// The id used until the channel has its own.
    pub fn temporary_channel_id(&self) -> ChannelId {
        self.request.temporary_channel_id
    }

    /// The peer agrees: what F must pay to.
    pub fn receive(
        self,
        accept: &msgs::AcceptChannel,
    ) -> Result<(ToFund, FundingRequest), Violation> {
        let fields = &accept.common_fields;
        let ours = &self.request.local;
        if fields.temporary_channel_id != self.request.temporary_channel_id {
            return Err(Violation::fail(ACCEPT, "it names another channel"));
        }
        if fields.channel_type != self.message.common_fields.channel_type {
            return Err(Violation::fail(ACCEPT, "another channel_type than we proposed"));
        }
        let remote = SideParams {
            basepoints: Basepoints {
                funding: fields.funding_pubkey,
                revocation: fields.revocation_basepoint,
                payment: fields.payment_basepoint,
                delayed_payment: fields.delayed_payment_basepoint,
                htlc: fields.htlc_basepoint,
            },
            dust_limit: Sat::new(fields.dust_limit_satoshis),
            max_htlc_value_in_flight: Msat::new(fields.max_htlc_value_in_flight_msat),
            htlc_minimum: Msat::new(fields.htlc_minimum_msat),
            max_accepted_htlcs: fields.max_accepted_htlcs,
            to_self_delay: fields.to_self_delay,
            channel_reserve: Sat::new(accept.channel_reserve_satoshis),
            upfront_shutdown_script: script(&fields.shutdown_scriptpubkey),
        };
        check_side(ACCEPT, &remote, ours, self.request.capacity)?;
        if fields.minimum_depth > u32::from(MAX_TO_SELF_DELAY) {
            let what = format!("minimum_depth {} is unreasonable", fields.minimum_depth);
            return Err(Violation::fail(ACCEPT, what));
        }
        let ChannelType { format, scid_alias, zero_conf } = self.request.channel_type;
        if zero_conf && fields.minimum_depth > 0 {
            let what = format!("minimum_depth {} with option_zeroconf", fields.minimum_depth);
            return Err(Violation::fail(ACCEPT, what));
        }
        let params = ChannelParams {
            format,
            funder: Side::Local,
            local: self.request.local,
            remote,
            announce: self.request.announce,
            minimum_depth: if zero_conf { 0 } else { fields.minimum_depth.max(1) },
            scid_alias,
        };
        let capacity = self.request.capacity;
        let remote_balance = self.request.push;
        let local_balance = capacity.saturating_msat().saturating_sub(remote_balance);
        let base = Balances { local: local_balance, remote: remote_balance };
        check_first_balances(ACCEPT, &params, base, self.request.feerate)?;
        let state = first_state(base, self.request.feerate, fields.first_per_commitment_point);
        let request = FundingRequest { script: funding_output(&params), amount: capacity };
        let (temporary_channel_id, alias) = (self.request.temporary_channel_id, self.request.alias);
        Ok((ToFund { temporary_channel_id, alias, capacity, params, state }, request))
    }
}

impl ToFund {
    /// Takes the F that the node built: signs the peer's first commitment on it.
    pub fn fund(
        self,
        transaction: Transaction,
        signer: &dyn Signer,
        curve: &dyn Curve,
    ) -> Result<(Signing, msgs::FundingCreated), (Box<Self>, Refused)> {
        let script = funding_output(&self.params);
        let pays = |out: &bitcoin::TxOut| {
            out.script_pubkey == script && out.value == self.capacity.to_amount()
        };
        let output = transaction.output.iter().position(pays);
        let Some(index) = output.and_then(|index| u16::try_from(index).ok()) else {
            let refused = Refused::BadFunding(self.capacity);
            return Err((Box::new(self), refused));
        };
        let outpoint = OutPoint { txid: transaction.compute_txid(), vout: u32::from(index) };
        let temporary_channel_id = self.temporary_channel_id;
        let contract =
            Unsigned { params: self.params, state: self.state, outpoint, capacity: self.capacity };
        let message = msgs::FundingCreated {
            temporary_channel_id,
            funding_txid: outpoint.txid,
            funding_output_index: index,
            signature: contract.sign_remote(signer, curve),
        };
        Ok((Signing { alias: self.alias, contract, transaction }, message))
    }

    /// The id used until the channel has its own.
    pub fn temporary_channel_id(&self) -> ChannelId {
        self.temporary_channel_id
    }
}

impl Signing {
    /// The peer's signature on our first commitment: the channel is, once this is durable.
    pub fn receive(
        self,
        message: &msgs::FundingSigned,
        signer: &dyn Signer,
        curve: &dyn Curve,
    ) -> Result<Open, Violation> {
        if message.channel_id != self.channel_id() {
            return Err(Violation::fail("BOLT 2 funding_signed", "it names another channel"));
        }
        let contract = self.contract.signed(message.signature, signer, curve)?;
        Ok(Open::new(contract, Some(self.transaction), self.alias))
    }

    /// The id the channel will have.
    pub fn channel_id(&self) -> ChannelId {
        channel_id(&self.contract.outpoint)
    }
}

impl Accepted {
    /// Checks open_channel against BOLT 2 and our policy, and agrees.
    pub fn receive(
        open: &msgs::OpenChannel,
        policy: AcceptPolicy,
        signer: &dyn Signer,
    ) -> Result<(Self, msgs::AcceptChannel), Violation> {
        let fields = &open.common_fields;
        let ChannelType { format, scid_alias, zero_conf } = check_open(open, &policy)?;
        let remote = SideParams {
            basepoints: Basepoints {
                funding: fields.funding_pubkey,
                revocation: fields.revocation_basepoint,
                payment: fields.payment_basepoint,
                delayed_payment: fields.delayed_payment_basepoint,
                htlc: fields.htlc_basepoint,
            },
            dust_limit: Sat::new(fields.dust_limit_satoshis),
            max_htlc_value_in_flight: Msat::new(fields.max_htlc_value_in_flight_msat),
            htlc_minimum: Msat::new(fields.htlc_minimum_msat),
            max_accepted_htlcs: fields.max_accepted_htlcs,
            to_self_delay: fields.to_self_delay,
            channel_reserve: Sat::new(open.channel_reserve_satoshis),
            upfront_shutdown_script: script(&fields.shutdown_scriptpubkey),
        };
        let capacity = Sat::new(fields.funding_satoshis);
        let mut local = policy.local;
        let largest_dust = remote.dust_limit.max(local.dust_limit);
        local.channel_reserve = local.channel_reserve.max(largest_dust);
        check_side(OPEN, &remote, &local, capacity)?;
        // Some openers have no other way to ask for it than to be trusted.
        let announce = fields.channel_flags & 1 == 1;
        let trusted = policy.zero_conf && policy.alias.is_some() && !announce;
        let params = ChannelParams {
            format,
            funder: Side::Remote,
            local,
            remote,
            announce,
            minimum_depth: if zero_conf || trusted { 0 } else { policy.minimum_depth.max(1) },
            scid_alias,
        };
        let base = Balances {
            local: Msat::new(open.push_msat),
            remote: capacity.saturating_msat().saturating_sub(Msat::new(open.push_msat)),
        };
        let feerate = FeeratePerKw::new(fields.commitment_feerate_sat_per_1000_weight);
        check_first_balances(OPEN, &params, base, feerate)?;
        let message = accept_message(&params, fields, signer);
        let state = first_state(base, feerate, fields.first_per_commitment_point);
        let temporary_channel_id = fields.temporary_channel_id;
        let alias = policy.alias;
        Ok((Accepted { temporary_channel_id, alias, capacity, params, state }, message))
    }

    /// The opener names F and signs our first commitment on it: we sign its own.
    pub fn fund(
        self,
        message: &msgs::FundingCreated,
        signer: &dyn Signer,
        curve: &dyn Curve,
    ) -> Result<(Open, msgs::FundingSigned), Violation> {
        if message.temporary_channel_id != self.temporary_channel_id {
            return Err(Violation::fail("BOLT 2 funding_created", "it names another channel"));
        }
        let outpoint =
            OutPoint { txid: message.funding_txid, vout: u32::from(message.funding_output_index) };
        let contract =
            Unsigned { params: self.params, state: self.state, outpoint, capacity: self.capacity };
        let signature = contract.sign_remote(signer, curve);
        let contract = contract.signed(message.signature, signer, curve)?;
        let signed = msgs::FundingSigned { channel_id: channel_id(&outpoint), signature };
        Ok((Open::new(contract, None, self.alias), signed))
    }

    /// The id used until the channel has its own.
    pub fn temporary_channel_id(&self) -> ChannelId {
        self.temporary_channel_id
    }
}

impl Unsigned {
    /// The contract with a signature in place that was not checked: enough to sign the peer's side.
    fn with(&self, signature: bitcoin::secp256k1::ecdsa::Signature) -> Commitments {
        let funding = Funding {
            outpoint: self.outpoint,
            capacity: self.capacity,
            commitment_signature: signature,
            htlc_signatures: Vec::new(),
        };
        Commitments::new(self.params.clone(), self.state.clone(), funding)
    }

    fn sign_remote(
        &self,
        signer: &dyn Signer,
        curve: &dyn Curve,
    ) -> bitcoin::secp256k1::ecdsa::Signature {
        let placeholder = signer.sign_funding([0; 32]);
        self.with(placeholder).sign_remote(signer, curve).commitment
    }

    fn signed(
        self,
        signature: bitcoin::secp256k1::ecdsa::Signature,
        signer: &dyn Signer,
        curve: &dyn Curve,
    ) -> Result<Commitments, Violation> {
        let contract = self.with(signature);
        let signatures = CommitmentSignatures { commitment: signature, htlcs: Vec::new() };
        contract.check_local(0, View::Signed, &signatures, signer, curve)?;
        Ok(contract)
    }
}

fn first_state(base: Balances, feerate: FeeratePerKw, first_point: PublicKey) -> State {
    State {
        base,
        fees: vec![FeeUpdate { feerate, stage: Stage::Locked }],
        next_local_id: 0,
        next_remote_id: 0,
        local_number: 0,
        remote_number: 0,
        awaiting_revocation: false,
        remote_point: first_point,
        next_remote_point: None,
        revoking_point: None,
        last_sent: LastSent::Revocation,
    }
}

fn accept_message(
    params: &ChannelParams,
    open: &msgs::CommonOpenChannelFields,
    signer: &dyn Signer,
) -> msgs::AcceptChannel {
    let local = &params.local;
    msgs::AcceptChannel {
        common_fields: msgs::CommonAcceptChannelFields {
            temporary_channel_id: open.temporary_channel_id,
            dust_limit_satoshis: local.dust_limit.sat(),
            max_htlc_value_in_flight_msat: local.max_htlc_value_in_flight.msat(),
            htlc_minimum_msat: local.htlc_minimum.msat(),
            minimum_depth: params.minimum_depth,
            to_self_delay: local.to_self_delay,
            max_accepted_htlcs: local.max_accepted_htlcs,
            funding_pubkey: local.basepoints.funding,
            revocation_basepoint: local.basepoints.revocation,
            payment_basepoint: local.basepoints.payment,
            delayed_payment_basepoint: local.basepoints.delayed_payment,
            htlc_basepoint: local.basepoints.htlc,
            first_per_commitment_point: signer.per_commitment_point(0),
            shutdown_scriptpubkey: Some(upfront(local)),
            channel_type: open.channel_type.clone(),
        },
        channel_reserve_satoshis: local.channel_reserve.sat(),
    }
}

fn funding_output(params: &ChannelParams) -> ScriptBuf {
    let (a, b) = (&params.local.basepoints.funding, &params.remote.basepoints.funding);
    funding::funding_script(a, b).to_p2wsh()
}

fn upfront(local: &SideParams) -> ScriptBuf {
    local.upfront_shutdown_script.clone().unwrap_or_default()
}

/// An empty script in the message means that none is fixed.
fn script(announced: &Option<ScriptBuf>) -> Option<ScriptBuf> {
    announced.clone().filter(|script| !script.is_empty())
}
