//! GetRecoveryInfo: how far the search for a restored wallet's coins is.

use crate::node::Node;
use fulmen_proto::lnrpc;

/// Answers the call.
pub fn get_recovery_info(node: &Node) -> lnrpc::GetRecoveryInfoResponse {
    let Some(recovery) = node.money.recovery() else {
        return lnrpc::GetRecoveryInfoResponse::default();
    };
    let last = node.money.recent_blocks().last().map_or(Default::default(), |tip| tip.height);
    lnrpc::GetRecoveryInfoResponse {
        recovery_mode: true,
        recovery_finished: recovery.over,
        progress: recovery.progress(last),
    }
}
