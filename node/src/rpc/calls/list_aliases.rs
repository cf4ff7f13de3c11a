//! ListAliases: every alias that we ever gave out, by the name its channel is listed under.

use super::failed;
use crate::channels::record::{ChannelRecord, Names};
use crate::node::Node;
use fulmen_proto::lnrpc;
use tonic::Status;

/// Aliases of all channels, closed ones too. A channel without a name yet has 0.
pub fn list_aliases(node: &Node) -> Result<lnrpc::ListAliasesResponse, Status> {
    let store = &node.services.store;
    let mut alias_maps = Vec::new();
    for record in ChannelRecord::load_all(store).map_err(failed)? {
        let Names { listed_as, aliases, .. } = Names::load(store, &record).map_err(failed)?;
        if !aliases.is_empty() {
            alias_maps.push(lnrpc::AliasMap { base_scid: listed_as.unwrap_or(0), aliases });
        }
    }
    Ok(lnrpc::ListAliasesResponse { alias_maps })
}
