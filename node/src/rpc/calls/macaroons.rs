//! BakeMacaroon, ListMacaroonIDs, DeleteMacaroonID, ListPermissions, CheckMacaroonPermissions.

use super::failed;
use crate::auth::{needs, Bakery, Needs, Ops, ACTIONS, ENTITIES, URI};
use crate::rpc::methods;
use fulmen_proto::lnrpc;
use std::net::IpAddr;
use std::time::SystemTime;
use tonic::Status;

/// Makes a macaroon for known permissions, or with `allow_external_permissions` for any.
pub async fn bake_macaroon(
    bakery: &Bakery,
    request: lnrpc::BakeMacaroonRequest,
) -> Result<lnrpc::BakeMacaroonResponse, Status> {
    let help = || {
        let (actions, entities) = (ACTIONS.join(" "), ENTITIES.join(" "));
        format!("supported actions are [{actions}], supported entities are [{entities}]")
    };
    if request.permissions.is_empty() {
        let text = "permission list cannot be empty. specify at least one action/entity pair.";
        return Err(failed(format!("{text} {}", help())));
    }
    let mut ops = Ops::new();
    for lnrpc::MacaroonPermission { entity, action } in request.permissions {
        if !request.allow_external_permissions {
            if !ENTITIES.contains(&entity.as_str()) {
                return Err(failed(format!("invalid permission entity. {}", help())));
            }
            let known = match entity.as_str() {
                URI => methods::is_known(&action),
                _ => ACTIONS.contains(&action.as_str()),
            };
            if !known {
                return Err(failed(format!("invalid permission action. {}", help())));
            }
        }
        ops.entry(entity).or_default().insert(action);
    }
    let macaroon = bakery.bake_under(request.root_key_id, ops).await.map_err(failed)?;
    Ok(lnrpc::BakeMacaroonResponse { macaroon: hex::encode(macaroon) })
}

/// The ids of the root keys.
pub fn list_macaroon_ids(bakery: &Bakery) -> lnrpc::ListMacaroonIDsResponse {
    lnrpc::ListMacaroonIDsResponse { root_key_ids: bakery.ids() }
}

/// Deletes a root key.
pub async fn delete_macaroon_id(
    bakery: &Bakery,
    request: lnrpc::DeleteMacaroonIdRequest,
) -> Result<lnrpc::DeleteMacaroonIdResponse, Status> {
    let deleted = bakery.delete(request.root_key_id).await.map_err(failed)?;
    Ok(lnrpc::DeleteMacaroonIdResponse { deleted })
}

/// What each call that is built needs.
pub fn list_permissions() -> lnrpc::ListPermissionsResponse {
    let each = methods::built().filter_map(|method| match needs(&method)? {
        Needs::Nothing => None,
        Needs::Ops(ops) => {
            let permission = |(entity, action): &(&str, &str)| lnrpc::MacaroonPermission {
                entity: (*entity).into(),
                action: (*action).into(),
            };
            let permissions = ops.iter().map(permission).collect();
            Some((method, lnrpc::MacaroonPermissionList { permissions }))
        }
    });
    lnrpc::ListPermissionsResponse { method_permissions: each.collect() }
}

/// Whether a macaroon is good now, from where this call comes from, for what is asked.
pub fn check_macaroon_permissions(
    bakery: &Bakery,
    request: lnrpc::CheckMacPermRequest,
    peer: Option<IpAddr>,
) -> Result<lnrpc::CheckMacPermResponse, Status> {
    let method = request.full_method.as_str();
    let asked = request.permissions.iter().map(|op| (op.entity.as_str(), op.action.as_str()));
    let mut ops: Vec<_> = asked.collect();
    if request.check_default_perms_from_full_method {
        if !ops.is_empty() {
            let text = "give either permissions or check_default_perms_from_full_method";
            return Err(Status::invalid_argument(text));
        }
        match needs(method) {
            Some(Needs::Ops(needed)) => ops = needed.to_vec(),
            Some(Needs::Nothing) => {}
            None => {
                let text = format!("{method}: unknown permissions required for method");
                return Err(Status::invalid_argument(text));
            }
        }
    }
    let checked = bakery.has(&request.macaroon, &ops, method, SystemTime::now(), peer);
    checked.map_err(|denied| Status::invalid_argument(denied.to_string()))?;
    Ok(lnrpc::CheckMacPermResponse { valid: true })
}
