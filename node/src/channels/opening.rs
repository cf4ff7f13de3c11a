//! From a request to a channel's task: opening one, accepting one, reading all back at start.

use super::announce::Announcer;
use super::driver::{Driver, Opening};
use super::note::Note;
use super::record::{load_memos, load_rows, next_index, put_next_index, ChannelRecord};
use super::registry::{Handle, INBOX};
use super::services::Services;
use super::{policy, OpenUpdate, ToChannel};
use crate::peer::features::negotiated;
use crate::peer::PeerLink;
use crate::store::{StoreError, Unit};
use bitcoin::secp256k1::rand::{rngs::OsRng, RngCore};
use bitcoin::secp256k1::PublicKey;
use fulmen_channel::amount::{FeeratePerKw, Msat, Sat};
use fulmen_channel::channel::Channel;
use fulmen_channel::error::{BadRow, Refused};
use fulmen_channel::keys::{InMemorySigner, Signer};
use fulmen_channel::params::{CommitmentFormat, Side};
use fulmen_channel::protocol::opening::OpenRequest;
use lightning::ln::msgs;
use lightning::ln::types::ChannelId;
use lightning::types::features::InitFeatures;
use std::sync::Arc;
use tokio::sync::{mpsc, Mutex};

/// What the operator asks for.
#[derive(Clone, Debug)]
pub struct OpenParams {
    /// With whom.
    pub peer: PublicKey,
    /// What F holds.
    pub capacity: Sat,
    /// What the peer is given from the start.
    pub push: Msat,
    /// Feerate of F.
    pub feerate: FeeratePerKw,
    /// Not to be announced.
    pub private: bool,
    /// Our smallest HTLC; none takes the default.
    pub htlc_minimum: Option<Msat>,
    /// The delay we impose on the peer; none takes the default.
    pub to_self_delay: Option<u16>,
    /// Where our share of a mutual close goes, fixed now.
    pub close_script: Option<bitcoin::ScriptBuf>,
    /// The shape asked for; none takes the best that both know.
    pub format: Option<CommitmentFormat>,
    /// The real scid is to be a secret.
    pub scid_alias: bool,
    /// To be used before F is in a block.
    pub zero_conf: bool,
    /// What the operator notes, at most [`super::note::MAX_MEMO`] bytes.
    pub memo: String,
}

/// Why an opening did not start, or a channel could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not with these numbers.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A channel's rows.
    #[error("channel {index}: {why}")]
    BadRow {
        /// Its number.
        index: u64,
        /// What is wrong.
        why: BadRow,
    },
    /// The peer is not there, or lacks what we need.
    #[error("{0}")]
    Peer(String),
}

/// Hands out numbers for channels: each is durable before it is used, so none is used twice.
#[derive(Default)]
pub struct Numbers(Mutex<Option<u64>>);

impl Numbers {
    async fn next(&self, services: &Services) -> Result<u64, StoreError> {
        let mut spare = self.0.lock().await;
        if let Some(index) = spare.take() {
            return Ok(index);
        }
        let index = next_index(&services.store)?;
        let mut unit = Unit::new();
        put_next_index(index.saturating_add(1), &mut unit);
        services.store.commit(unit).await?;
        Ok(index)
    }

    /// A number whose keys nobody saw: a peer that asks for nonsense costs no write each time.
    async fn give_back(&self, index: u64) {
        *self.0.lock().await = Some(index);
    }
}

/// Opens a channel: news of it come through the receiver.
///
/// # Errors
/// [`OpenError`] when it could not even be proposed.
pub async fn open(
    services: &Arc<Services>,
    link: PeerLink,
    features: &InitFeatures,
    params: OpenParams,
) -> Result<(ChannelId, mpsc::UnboundedReceiver<OpenUpdate>), OpenError> {
    let channel_type = policy::channel_type(&services.protocol, features, &params)
        .ok_or_else(|| OpenError::Peer("requested channel type not supported".into()))?;
    let index = services.numbers.next(services).await?;
    let signer = InMemorySigner::from_seed(services.keys.channel_seed(index));
    let mut local = policy::ours(signer.basepoints(), params.capacity);
    local.htlc_minimum = params.htlc_minimum.unwrap_or(local.htlc_minimum);
    local.to_self_delay = params.to_self_delay.unwrap_or(local.to_self_delay);
    local.upfront_shutdown_script = params.close_script;
    let feerate = match channel_type.format {
        CommitmentFormat::Anchors => services.chain.anchors_feerate().await,
        CommitmentFormat::StaticRemoteKey => {
            services.chain.feerate(crate::chain::Target::HighPriority).await
        }
    };
    let mut temporary = [0; 32];
    OsRng.fill_bytes(&mut temporary);
    let request = OpenRequest {
        chain: services.chain_hash,
        temporary_channel_id: ChannelId(temporary),
        capacity: params.capacity,
        push: params.push,
        feerate,
        local,
        channel_type,
        announce: !params.private,
        alias: alias(services, features),
        negotiated: negotiated(&services.protocol, features),
    };
    let channel = Channel::open(request, Box::new(signer), services.curve.clone())?;
    services.registry.set_reserve(index, channel_type.format == CommitmentFormat::Anchors);
    let (news, receiver) = mpsc::unbounded_channel();
    let opening = Opening { feerate: params.feerate, news, built: None, memo: params.memo };
    let id = channel.channel_id();
    let prepare = |driver: Driver| driver.opening(opening).linked(link.clone());
    spawn(services, channel, index, params.peer, prepare);
    // Its end may have been told before there was anybody to tell it to.
    let same = services.registry.peer(&params.peer).is_some_and(|(now, _)| now == link);
    if let Some(handle) = services.registry.by_index(index).filter(|_| !same) {
        handle.tell(ToChannel::PeerDown).await;
    }
    Ok((id, receiver))
}

/// The peer proposes a channel: agrees, or says why not.
///
/// # Errors
/// The text for the peer.
pub async fn accept(
    services: &Arc<Services>,
    link: PeerLink,
    peer: PublicKey,
    message: &msgs::OpenChannel,
) -> Result<(), String> {
    if !services.chain.synced() {
        return Err("Synchronizing blockchain".into());
    }
    let fields = &message.common_fields;
    if services.registry.find(&peer, &fields.temporary_channel_id).is_some() {
        return Err("temporary_channel_id is in use".into());
    }
    if pending(services, &peer).await >= services.max_pending {
        return Err("Number of pending channels exceed maximum".into());
    }
    let index = services.numbers.next(services).await.map_err(|error| error.to_string())?;
    let trusted = services.zero_conf_peers.contains(&peer);
    if !services.registry.admit(index, &peer) && !trusted {
        services.numbers.give_back(index).await;
        tracing::warn!(%peer, "too many channels are promised and in no block: it opens none");
        return Err("Number of pending channels exceed maximum".into());
    }
    let signer = InMemorySigner::from_seed(services.keys.channel_seed(index));
    let capacity = Sat::new(fields.funding_satoshis);
    let mut policy =
        policy::accept(services.chain_hash, &services.limits, signer.basepoints(), capacity);
    policy.anchors = services.protocol.anchors;
    policy.urgent = services.registry.feerates().map(|feerates| feerates.urgent);
    if let Some((_, theirs)) = services.registry.peer(&peer) {
        policy.alias = alias(services, &theirs);
        policy.negotiated = negotiated(&services.protocol, &theirs);
    }
    policy.zero_conf = services.protocol.zero_conf && trusted && policy.alias.is_some();
    let channel = Channel::accept(message, policy, Box::new(signer), services.curve.clone());
    match channel {
        Ok(channel) => {
            spawn(services, channel, index, peer, |driver| driver.linked(link));
            Ok(())
        }
        Err(violation) => {
            services.registry.set_promised(index, false);
            services.numbers.give_back(index).await;
            Err(violation.to_string())
        }
    }
}

/// A name for a new channel, where both sides know such (BOLT 2, channel_ready): by chance, 57 bits
/// of it, among heights that no chain will reach, where lnd's aliases are too.
fn alias(services: &Services, theirs: &InitFeatures) -> Option<u64> {
    const FIRST_HEIGHT: u64 = 16_000_000;
    (services.protocol.scid_alias && theirs.supports_scid_privacy())
        .then(|| (FIRST_HEIGHT << 40).saturating_add(OsRng.next_u64() >> 7))
}

/// How many channels with a peer are on their way to be open.
pub async fn pending(services: &Services, peer: &PublicKey) -> usize {
    let mut count: usize = 0;
    for handle in services.registry.of_peer(peer) {
        let phase = handle.describe().await.map(|snapshot| snapshot.phase);
        if matches!(phase, Some("opening" | "waiting for confirmations")) {
            count = count.saturating_add(1);
        }
    }
    count
}

/// Reads back every channel that is not history, and starts their tasks. An HTLC of ours whose end
/// the chain could not tell keeps its payment in flight, also when its channel is history.
///
/// # Errors
/// [`OpenError`] when a row cannot be read: the daemon must not start then.
pub fn restore_all(services: &Arc<Services>) -> Result<Vec<ChannelRecord>, OpenError> {
    let records = ChannelRecord::load_all(&services.store)?;
    for record in records.iter().filter(|record| record.history) {
        let memos = load_memos(&services.store, record.index)?;
        memos.iter().for_each(|memo| services.hub.restored(memo));
    }
    for record in records.iter().filter(|record| !record.history) {
        let index = record.index;
        let rows = load_rows(&services.store, index)?;
        let signer = Box::new(InMemorySigner::from_seed(services.keys.channel_seed(index)));
        let channel = Channel::restore(&rows, signer, services.curve.clone());
        let channel = channel.map_err(|why| OpenError::BadRow { index, why })?;
        let htlcs = channel.funded().into_iter().flat_map(|open| &open.contract.htlcs);
        for (_, htlc) in htlcs.filter(|((by, _), _)| *by == Side::Local) {
            services.hub.restored(&htlc.memo);
        }
        let announcer = Announcer::load(&services.store, index)?;
        let note = Note::load(&services.store, index)?;
        let record = record.clone();
        let peer = record.peer;
        spawn(services, channel, index, peer, |driver| driver.restored(record, note, announcer));
    }
    Ok(records)
}

fn spawn(
    services: &Arc<Services>,
    channel: Channel,
    index: u64,
    peer: PublicKey,
    prepare: impl FnOnce(Driver) -> Driver,
) {
    let (inbox, messages) = mpsc::channel(INBOX);
    let outpoint = channel.funded().map(|open| open.contract.funding.outpoint);
    let handle = Handle::new(index, peer, channel.channel_id(), outpoint, inbox);
    services.registry.insert(handle);
    let driver = Driver::new(channel, index, peer, services.clone(), messages);
    let task = tokio::spawn(prepare(driver).run());
    services.registry.started(task);
}
