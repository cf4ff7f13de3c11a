//! Who gets what: events of peers and of the chain, on their way to channels' tasks.

use super::opening;
use super::services::Services;
use super::{storage, ToChannel};
use crate::chain::{ChainEvent, Found, Target};
use crate::peer::features::negotiated;
use crate::peer::wire::WireMessage;
use crate::peer::{PeerEvent, PeerLink};
use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, Transaction};
use fulmen_channel::amount::Height;
use fulmen_channel::input::Feerates;
use fulmen_channel::message::Message;
use lightning::ln::msgs;
use lightning::ln::types::ChannelId;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Hands the peers' events to the channels concerned, in order. Ends with the events.
pub async fn peers(services: Arc<Services>, mut events: mpsc::Receiver<PeerEvent>) {
    while let Some(event) = events.recv().await {
        match event {
            PeerEvent::Connected { node, link, features, .. } => {
                let negotiated = negotiated(&services.protocol, &features);
                storage::connected(&services, node, &link, &features);
                services.registry.peer_up(node, link.clone(), features);
                for handle in services.registry.of_peer(&node) {
                    handle.tell(ToChannel::PeerUp(link.clone(), negotiated)).await;
                }
            }
            PeerEvent::Disconnected { node, reason } => {
                tracing::info!(peer = %node, "disconnected: {reason}");
                services.registry.peer_down(&node);
                storage::disconnected(&services, &node);
                for handle in services.registry.of_peer(&node) {
                    handle.tell(ToChannel::PeerDown).await;
                }
            }
            PeerEvent::Message { node, message } => {
                if let Some((link, _)) = services.registry.peer(&node) {
                    message_from(&services, node, &link, message).await;
                }
            }
        }
    }
}

async fn message_from(
    services: &Arc<Services>,
    peer: PublicKey,
    link: &PeerLink,
    message: WireMessage,
) {
    match message {
        WireMessage::Channel(Message::OpenChannel(open)) => {
            let channel_id = open.common_fields.temporary_channel_id;
            let accepted = opening::accept(services, link.clone(), peer, &open).await;
            if let Err(why) = accepted {
                tracing::info!(%peer, "a channel was not accepted: {why}");
                say_error(link, channel_id, why);
            }
        }
        WireMessage::Channel(message) => to_channel(services, peer, link, message).await,
        WireMessage::PeerStorage(message) => storage::take(services, peer, message.data).await,
        WireMessage::PeerStorageRetrieval(message) => {
            storage::given_back(services, peer, &message.data).await;
        }
        WireMessage::ChannelUpdate(update) => peer_update(services, peer, update).await,
        _ => {}
    }
}

async fn to_channel(services: &Services, peer: PublicKey, link: &PeerLink, message: Message) {
    let id = message.channel_id();
    storage::heard(services, &peer);
    if matches!(message, Message::Warning(_)) {
        services.backups.keepers().warned(&peer);
    }
    // An error or warning about no channel in particular is about all of them (BOLT 1).
    let about_all = matches!(message, Message::Error(_) | Message::Warning(_));
    if id == ChannelId::new_zero() && about_all {
        tracing::warn!(%peer, "an error or warning of the peer is about all channels with it");
        for handle in services.registry.of_peer(&peer) {
            handle.tell(ToChannel::Peer(message.clone())).await;
        }
        return;
    }
    if let Message::FundingCreated(created) = &message {
        let (txid, vout) = (created.funding_txid, u32::from(created.funding_output_index));
        // Two channels on one F would have one id: payments would go astray.
        if services.registry.by_outpoint(&OutPoint { txid, vout }).is_some() {
            return say_error(link, id, "this output funds another channel".into());
        }
    }
    match (services.registry.find(&peer, &id), message) {
        (Some(handle), message) => {
            handle.tell(ToChannel::Peer(message)).await;
        }
        (None, Message::Error(_) | Message::Warning(_)) => {}
        (None, _) => say_error(link, id, "unknown channel".into()),
    }
}

/// Whoever takes the peers' events must not wait for their queues.
fn say_error(link: &PeerLink, channel_id: ChannelId, data: String) {
    let error = Message::Error(msgs::ErrorMessage { channel_id, data });
    link.send_if_room(WireMessage::Channel(error));
}

/// The peer's policy for one of our channels with it.
async fn peer_update(services: &Services, peer: PublicKey, update: Box<msgs::ChannelUpdate>) {
    if !super::announce::is_signed_by(&update, &peer) {
        return;
    }
    for handle in services.registry.of_peer(&peer) {
        handle.tell(ToChannel::PeerUpdate(update.clone())).await;
    }
}

/// Hands what was found in blocks to the channels concerned.
pub async fn found(services: &Services, found: Found) {
    let outpoint_of = |txid| {
        let all = services.registry.all().into_iter();
        all.filter(move |handle| handle.outpoint.is_some_and(|outpoint| outpoint.txid == txid))
    };
    for confirmed in found.confirmed {
        for handle in outpoint_of(confirmed.txid) {
            let (height, tx_index) = (confirmed.height, confirmed.tx_index);
            let tx = Box::new(confirmed.tx.clone());
            handle.tell(ToChannel::FundingConfirmed { tx, height, tx_index }).await;
        }
    }
    for spent in found.spent {
        for handle in services.registry.watchers_of(&spent.outpoint) {
            let (outpoint, height) = (spent.outpoint, spent.height);
            let tx = Box::new(spent.by.clone());
            handle.tell(ToChannel::Spent { outpoint, tx, height }).await;
        }
    }
}

/// Hands a transaction of the mempool to the channels whose outputs it spends.
async fn unconfirmed(services: &Services, tx: &Transaction) {
    let spent = tx.input.iter().map(|input| input.previous_output);
    let watchers = spent.flat_map(|outpoint| services.registry.watchers_of(&outpoint));
    let concerned: BTreeMap<u64, _> = watchers.map(|handle| (handle.index, handle)).collect();
    for handle in concerned.into_values() {
        handle.tell(ToChannel::Unconfirmed(Box::new(tx.clone()))).await;
    }
}

/// Tells every channel something.
pub async fn to_all(services: &Services, message: impl Fn() -> ToChannel) {
    for handle in services.registry.all() {
        handle.tell(message()).await;
    }
}

/// What a chain event means to the channels, but for blocks that are gone. The wallet has seen it
/// before.
pub async fn chain(services: &Services, event: ChainEvent) {
    match event {
        ChainEvent::Connected { at, found: news, .. } => {
            // The height first, so that depths are counted from it.
            block(services, at.height).await;
            found(services, news).await;
        }
        ChainEvent::Found(news) => found(services, news).await,
        ChainEvent::Mempool(tx) => unconfirmed(services, &tx).await,
        _ => {}
    }
}

/// The block at this height is gone. Returns when all rows that go with it wait for the disk: what
/// is written after says that they are written too.
pub async fn unblock(services: &Services, height: Height) {
    let (pending, mut undone) = mpsc::channel(1);
    to_all(services, || ToChannel::Unblock(height, pending.clone())).await;
    drop(pending);
    // Nothing is sent: it ends when the last channel has dropped its end.
    let _ = undone.recv().await;
}

async fn block(services: &Services, height: Height) {
    to_all(services, || ToChannel::Block(height)).await;
}

/// Asks for fee estimates and tells them to every channel.
pub async fn feerates(services: &Services) {
    let feerates = Feerates {
        anchors: services.chain.anchors_feerate().await,
        urgent: services.chain.feerate(Target::HighPriority).await,
        close: services.chain.feerate(Target::Normal).await,
    };
    services.registry.set_feerates(feerates);
    to_all(services, || ToChannel::Feerates(feerates)).await;
}
