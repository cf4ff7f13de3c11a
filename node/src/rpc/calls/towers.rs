//! AddTower, RemoveTower, DeactivateTower, TerminateSession, ListTowers, GetTowerInfo, Stats,
//! Policy; and GetInfo of the tower within the daemon.

use super::failed;
use crate::node::Node;
use crate::tower_client::{Session, Tower, TowerClient, TowerError};
use bitcoin::secp256k1::PublicKey;
use fulmen_channel::amount::FeeratePerKw;
use fulmen_channel::params::CommitmentFormat;
use fulmen_proto::watchtowerrpc;
use fulmen_proto::wtclientrpc::{self as rpc, PolicyType};
use std::sync::Arc;
use tonic::Status;

/// Adds a tower, or an address of one.
pub async fn add(
    node: &Node,
    request: rpc::AddTowerRequest,
) -> Result<rpc::AddTowerResponse, Status> {
    let client = active(node)?;
    let id = key(&request.pubkey)?;
    client.add(id, &request.address).await.map_err(failed)?;
    Ok(rpc::AddTowerResponse {})
}

/// Uses a tower no longer, or forgets an address of it.
pub async fn remove(
    node: &Node,
    request: rpc::RemoveTowerRequest,
) -> Result<rpc::RemoveTowerResponse, Status> {
    let client = active(node)?;
    let address = Some(request.address.as_str()).filter(|address| !address.is_empty());
    client.remove(&key(&request.pubkey)?, address).await.map_err(failed)?;
    Ok(rpc::RemoveTowerResponse {})
}

/// Uses a tower no longer, until it is added again.
pub async fn deactivate(
    node: &Node,
    request: rpc::DeactivateTowerRequest,
) -> Result<rpc::DeactivateTowerResponse, Status> {
    let client = active(node)?;
    let id = key(&request.pubkey)?;
    client.deactivate(&id).await.map_err(failed)?;
    Ok(rpc::DeactivateTowerResponse { status: format!("Successful deactivation of tower: {id}") })
}

/// Uses a session no longer.
pub async fn terminate(
    node: &Node,
    request: rpc::TerminateSessionRequest,
) -> Result<rpc::TerminateSessionResponse, Status> {
    let client = active(node)?;
    let id = key(&request.session_id)?;
    client.terminate(&id).await.map_err(failed)?;
    Ok(rpc::TerminateSessionResponse { status: format!("Successful termination of session: {id}") })
}

/// Every tower.
pub fn list(
    node: &Node,
    request: rpc::ListTowersRequest,
) -> Result<rpc::ListTowersResponse, Status> {
    let client = active(node)?;
    let sessions = Told::new(request.include_sessions, request.exclude_exhausted_sessions);
    let told = |tower: &Tower| told(client, tower, sessions);
    let towers = client.towers().iter().map(told).collect::<Result<_, _>>()?;
    Ok(rpc::ListTowersResponse { towers })
}

/// One tower.
pub fn info(node: &Node, request: rpc::GetTowerInfoRequest) -> Result<rpc::Tower, Status> {
    let client = active(node)?;
    let tower = client.known(&key(&request.pubkey)?).map_err(failed)?;
    let sessions = Told::new(request.include_sessions, request.exclude_exhausted_sessions);
    told(client, &tower, sessions)
}

/// What was handed in since the start.
pub fn stats(node: &Node) -> Result<rpc::StatsResponse, Status> {
    let stats = active(node)?.stats().map_err(failed)?;
    Ok(rpc::StatsResponse {
        num_backups: small(stats.backups),
        num_pending_backups: small(stats.pending),
        num_failed_backups: small(stats.failed),
        num_sessions_acquired: small(stats.acquired),
        num_sessions_exhausted: small(stats.exhausted),
    })
}

/// What sessions are made with.
#[allow(deprecated, reason = "clients still read them")]
pub fn policy(node: &Node, request: rpc::PolicyRequest) -> Result<rpc::PolicyResponse, Status> {
    let client = active(node)?;
    match PolicyType::try_from(request.policy_type) {
        Ok(PolicyType::Legacy | PolicyType::Anchor) => {}
        Ok(PolicyType::Taproot) => return Err(failed("no channel of fulmen is a taproot channel")),
        Err(_) => return Err(failed(format!("unknown policy type: {}", request.policy_type))),
    }
    let sat_per_vbyte = per_vbyte(client.policy().feerate);
    Ok(rpc::PolicyResponse {
        max_updates: client.policy().max_updates,
        sweep_sat_per_byte: sat_per_vbyte,
        sweep_sat_per_vbyte: sat_per_vbyte,
    })
}

/// The tower within the daemon.
pub fn own(node: &Node) -> Result<watchtowerrpc::GetInfoResponse, Status> {
    let own = node.own_tower.get().ok_or_else(|| failed("watchtower not active"))?;
    Ok(watchtowerrpc::GetInfoResponse {
        pubkey: own.id.serialize().to_vec(),
        listeners: own.listeners.iter().map(ToString::to_string).collect(),
        uris: own.uris.clone(),
    })
}

fn active(node: &Node) -> Result<&Arc<TowerClient>, Status> {
    let client = &node.services.towers;
    client.is_on().then_some(client).ok_or_else(|| failed(TowerError::NotActive))
}

fn key(bytes: &[u8]) -> Result<PublicKey, Status> {
    let wrong =
        |_| failed(format!("invalid public key {}: 33 bytes are wanted", hex::encode(bytes)));
    PublicKey::from_slice(bytes).map_err(wrong)
}

/// How much of its sessions is told of a tower.
#[derive(Clone, Copy)]
struct Told {
    all: bool,
    exhausted: bool,
}

impl Told {
    fn new(include: bool, exclude_exhausted: bool) -> Told {
        Told { all: include, exhausted: !exclude_exhausted }
    }
}

#[allow(deprecated, reason = "clients still read them")]
fn told(client: &TowerClient, tower: &Tower, told: Told) -> Result<rpc::Tower, Status> {
    let sessions = client.sessions(tower).map_err(failed)?;
    // lnd counts all of them, unless it lists them and leaves out the full ones.
    let kept = |session: &&Session| !told.all || told.exhausted || !session.exhausted;
    let of = |format: CommitmentFormat, policy: PolicyType| {
        let of_format = |session: &&Session| session.format == format && kept(session);
        let sessions: Vec<_> = sessions.iter().filter(of_format).collect();
        rpc::TowerSessionInfo {
            active_session_candidate: tower.active,
            num_sessions: small(sessions.len().try_into().unwrap_or(u64::MAX)),
            sessions: match told.all {
                true => sessions.into_iter().map(|it| session(client, it)).collect(),
                false => Vec::new(),
            },
            policy_type: policy.into(),
        }
    };
    let session_info = vec![
        of(CommitmentFormat::Anchors, PolicyType::Anchor),
        of(CommitmentFormat::StaticRemoteKey, PolicyType::Legacy),
    ];
    let count = |sum: u32, info: &rpc::TowerSessionInfo| sum.saturating_add(info.num_sessions);
    Ok(rpc::Tower {
        pubkey: tower.id.serialize().to_vec(),
        addresses: tower.addresses.clone(),
        active_session_candidate: tower.active,
        num_sessions: session_info.iter().fold(0, count),
        sessions: session_info.iter().flat_map(|info| info.sessions.clone()).collect(),
        session_info,
    })
}

#[allow(deprecated, reason = "clients still read them")]
fn session(client: &TowerClient, session: &Session) -> rpc::TowerSession {
    let sat_per_vbyte = per_vbyte(client.policy().feerate);
    rpc::TowerSession {
        num_backups: small(session.backups),
        num_pending_backups: small(session.pending),
        max_backups: small(session.max),
        sweep_sat_per_byte: sat_per_vbyte,
        sweep_sat_per_vbyte: sat_per_vbyte,
        id: session.id.serialize().to_vec(),
    }
}

fn per_vbyte(feerate: FeeratePerKw) -> u32 {
    feerate.per_kw() / 250
}

fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
