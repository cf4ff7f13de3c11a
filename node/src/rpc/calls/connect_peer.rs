//! ConnectPeer and DisconnectPeer.

use super::failed;
use crate::node::Node;
use crate::peer::{Address, ConnectError, PeerInfo};
use bitcoin::secp256k1::PublicKey;
use fulmen_proto::lnrpc;
use std::str::FromStr;
use std::time::Duration;
use tonic::Status;

/// How long a connection may take when the caller does not say.
const WITHIN: Duration = Duration::from_secs(60);

/// Connects; with `perm` it is also kept connected.
pub async fn connect_peer(
    node: &Node,
    request: lnrpc::ConnectPeerRequest,
) -> Result<lnrpc::ConnectPeerResponse, Status> {
    let Some(addr) = request.addr else {
        return Err(failed("need: lnc pubkeyhash@hostname"));
    };
    let peer = public_key(&addr.pubkey)?;
    let address = Address::from_str(&addr.host).map_err(failed)?;
    let limit = match request.timeout {
        0 => WITHIN,
        seconds => Duration::from_secs(seconds),
    };
    if request.perm {
        if peer == node.node_id() {
            return Err(failed(ConnectError::ToSelf));
        }
        let connected = node.services.peers.list().into_iter().find(|info| info.node == peer);
        if let Some(PeerInfo { address, .. }) = connected {
            return Err(failed(ConnectError::AlreadyConnected { node: peer, address }));
        }
        node.services.peers.keep_connected(peer, vec![address.clone()]);
        node.remember_peer(peer, &address).await;
        let status = format!("connection to {peer}@{address} initiated");
        return Ok(lnrpc::ConnectPeerResponse { status });
    }
    node.services.peers.connect(peer, address.clone(), limit).await.map_err(failed)?;
    node.remember_peer(peer, &address).await;
    let status = format!("connection to {peer}@{address} initiated");
    Ok(lnrpc::ConnectPeerResponse { status })
}

/// Disconnects a peer that has no channel with us.
pub async fn disconnect_peer(
    node: &Node,
    request: lnrpc::DisconnectPeerRequest,
) -> Result<lnrpc::DisconnectPeerResponse, Status> {
    let peer = public_key(&request.pub_key)?;
    if !node.services.registry.of_peer(&peer).is_empty() {
        let text = format!(
            "cannot disconnect from peer({peer}), all active channels with the peer \
                            need to be closed first"
        );
        return Err(failed(text));
    }
    node.services.peers.forget(peer);
    if !node.services.peers.disconnect(peer) {
        return Err(failed(format!("unable to disconnect peer: peer {peer} is not connected")));
    }
    Ok(lnrpc::DisconnectPeerResponse { status: "disconnect initiated".into() })
}

/// A node id in hex.
pub(super) fn public_key(hex: &str) -> Result<PublicKey, Status> {
    PublicKey::from_str(hex).map_err(|error| failed(format!("invalid node id {hex:?}: {error}")))
}
