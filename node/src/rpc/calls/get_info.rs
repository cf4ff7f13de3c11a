//! GetInfo: who and where the node is.

use super::features;
use crate::node::Node;
use fulmen_proto::lnrpc;
use lightning::util::ser::Writeable;
use tonic::Status;

/// The version that clients of lnd parse, and ours behind it.
pub const VERSION: &str = concat!("0.20.99-beta fulmen=", env!("CARGO_PKG_VERSION"));

/// The commit that this was built of; the release where none is known.
pub const COMMIT_HASH: &str = env!("FULMEN_COMMIT_HASH");

/// Answers the call.
pub async fn get_info(node: &Node) -> Result<lnrpc::GetInfoResponse, Status> {
    let (mut pending, mut active, mut inactive) = (0u32, 0u32, 0u32);
    for handle in node.services.registry.all() {
        let Some(snapshot) = handle.describe().await else { continue };
        let count = match (snapshot.phase, snapshot.active) {
            ("open", true) => &mut active,
            ("open", false) => &mut inactive,
            ("closed", _) => continue,
            _ => &mut pending,
        };
        *count = count.saturating_add(1);
    }
    let tip = node.services.chain.tip();
    // Until a block comes.
    let first_time = node.services.chain.best_time();
    let header_time = Some(*node.header_time.borrow()).filter(|time| *time > 0);
    let header_time = header_time.unwrap_or(first_time);
    let synced = node.services.chain.synced();
    let id = node.node_id().to_string();
    let [red, green, blue] = node.config.color;
    let alias = node.config.alias.clone();
    let alias = alias.unwrap_or_else(|| id.chars().take(20).collect());
    let uris = node.config.external_ips.iter().map(|address| format!("{id}@{address}"));
    let network = crate::config::network_name(node.config.network);
    Ok(lnrpc::GetInfoResponse {
        version: VERSION.into(),
        commit_hash: COMMIT_HASH.into(),
        identity_pubkey: id.clone(),
        alias,
        color: format!("#{red:02x}{green:02x}{blue:02x}"),
        num_pending_channels: pending,
        num_active_channels: active,
        num_inactive_channels: inactive,
        num_peers: u32::try_from(node.services.peers.list().len()).unwrap_or(u32::MAX),
        block_height: tip.height.number(),
        block_hash: tip.hash.to_string(),
        best_header_timestamp: i64::from(header_time),
        synced_to_chain: synced,
        wallet_synced: synced,
        synced_to_graph: false,
        testnet: network.starts_with("testnet"),
        chains: vec![lnrpc::Chain { chain: "bitcoin".into(), network: network.into() }],
        uris: uris.collect(),
        features: features(&le_bytes(&crate::peer::features::features(&node.config.protocol))),
        ..Default::default()
    })
}

/// Feature bits, the lowest byte first.
pub(super) fn le_bytes(features: &impl Writeable) -> Vec<u8> {
    // On the wire: a length, then the bytes with the highest first.
    let wire = features.encode();
    wire.get(2..).unwrap_or_default().iter().rev().copied().collect()
}
