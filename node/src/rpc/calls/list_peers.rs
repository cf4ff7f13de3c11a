//! ListPeers.

use super::features;
use super::get_info::le_bytes;
use crate::node::Node;
use fulmen_channel::amount::Msat;
use fulmen_proto::lnrpc;
use std::time::{SystemTime, UNIX_EPOCH};
use tonic::Status;

/// Every connected peer.
pub async fn list_peers(node: &Node) -> Result<lnrpc::ListPeersResponse, Status> {
    let mut peers = Vec::new();
    for info in node.services.peers.list() {
        let (mut sent, mut received) = (Msat::ZERO, Msat::ZERO);
        for handle in node.services.registry.of_peer(&info.node) {
            let totals = handle.describe().await.and_then(|s| s.funded).map(|f| f.totals);
            let totals = totals.unwrap_or_default();
            sent = sent.saturating_add(totals.sent);
            received = received.saturating_add(totals.received);
        }
        let since = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let errors = info.last_fault.iter().map(|fault| lnrpc::TimestampedError {
            timestamp: since(fault.at).as_secs(),
            error: fault.text.clone(),
        });
        let last_flap = info.last_flap.map_or(0, |at| since(at).as_nanos());
        peers.push(lnrpc::Peer {
            pub_key: info.node.to_string(),
            address: info.address.clone(),
            bytes_sent: info.bytes_sent,
            bytes_recv: info.bytes_received,
            sat_sent: super::floor(sent),
            sat_recv: super::floor(received),
            inbound: info.inbound,
            ping_time: i64::try_from(info.ping_micros).unwrap_or(i64::MAX),
            // No gossip of others' channels is asked for.
            sync_type: lnrpc::peer::SyncType::PassiveSync.into(),
            features: features(&le_bytes(&info.features)),
            errors: errors.collect(),
            flap_count: i32::try_from(info.flap_count).unwrap_or(i32::MAX),
            last_flap_ns: i64::try_from(last_flap).unwrap_or(i64::MAX),
            last_ping_payload: info.last_ping_payload.clone(),
        });
    }
    Ok(lnrpc::ListPeersResponse { peers })
}
