//! DebugLevel.

use super::failed;
use crate::log;
use fulmen_proto::lnrpc;
use tonic::Status;

/// Names the parts that log, or makes them louder or quieter until the daemon stops.
pub fn debug_level(
    request: &lnrpc::DebugLevelRequest,
) -> Result<lnrpc::DebugLevelResponse, Status> {
    if request.show || request.level_spec == "show" {
        let names: Vec<_> = log::SUBSYSTEMS.iter().map(|(name, _)| *name).collect();
        let sub_systems = format!("Supported subsystems [{}]", names.join(" "));
        return Ok(lnrpc::DebugLevelResponse { sub_systems });
    }
    log::change(&request.level_spec).map_err(failed)?;
    Ok(lnrpc::DebugLevelResponse::default())
}
