//! wtclient: the watchtowers that watch our channels; tower: the one within the daemon.

use crate::connect::Node;
use crate::coverage::coverage;
use crate::error::CliError;
use crate::print::{line, Format};
use crate::terminal::canvas;
use clap::{Args, Subcommand};
use fulmen_proto::fulmenrpc::CoverageRequest;
use fulmen_proto::watchtowerrpc::GetInfoRequest;
use fulmen_proto::wtclientrpc::{
    AddTowerRequest, DeactivateTowerRequest, GetTowerInfoRequest, ListTowersRequest, PolicyRequest,
    PolicyType, RemoveTowerRequest, StatsRequest, TerminateSessionRequest,
};

/// The watchtower within the daemon.
#[derive(Debug, Subcommand)]
#[command(rename_all = "lower")]
pub enum Tower {
    /// Who it is, and where its clients reach it
    Info,
}

impl Tower {
    pub(super) async fn run(self, node: &mut Node) -> Result<(), CliError> {
        let Tower::Info = self;
        node.format.answer(node.watchtower.get_info(GetInfoRequest {}).await?.get_ref())
    }
}

/// The watchtowers that watch our channels.
#[derive(Debug, Subcommand)]
#[command(rename_all = "lower")]
pub enum Wtclient {
    /// Add a tower, or an address of one
    Add(Named),
    /// Use a tower no longer; with an address, forget that address only
    Remove(Named),
    /// Use a tower no longer, until it is added again
    Deactivate(Key),
    /// Every tower
    Towers(Sessions),
    /// One tower
    Tower(OneTower),
    /// What was handed in since the start
    Stats,
    /// What sessions are made with
    Policy(Policy),
    /// Sessions
    #[command(subcommand)]
    Session(Session),
    /// Which revoked states and outputs no tower covers (fulmen's own)
    Coverage(Coverage),
}

/// A tower.
#[derive(Debug, Args)]
pub struct Named {
    /// PUBKEY@HOST:PORT
    #[arg(value_name = "TOWER")]
    tower: String,
}

impl Named {
    /// Its key, and its address if there is one.
    fn parts(&self) -> Result<(Vec<u8>, Option<String>), CliError> {
        let mut parts = self.tower.split('@');
        let key = parts.next().unwrap_or_default();
        let address = parts.next().map(str::to_owned);
        match parts.next() {
            None => Ok((public_key(key)?, address)),
            Some(_) => Err(no_tower()),
        }
    }

    fn added(&self) -> Result<AddTowerRequest, CliError> {
        let (pubkey, address) = self.parts()?;
        Ok(AddTowerRequest { pubkey, address: address.ok_or_else(no_tower)? })
    }

    fn removed(&self) -> Result<RemoveTowerRequest, CliError> {
        let (pubkey, address) = self.parts()?;
        Ok(RemoveTowerRequest { pubkey, address: address.unwrap_or_default() })
    }
}

// lncli's words.
fn no_tower() -> CliError {
    CliError::text("expected tower of format pubkey@address")
}

fn public_key(text: &str) -> Result<Vec<u8>, CliError> {
    hex::decode(text).map_err(|why| CliError::text(format!("invalid public key: {why}")))
}

/// A tower's key.
#[derive(Debug, Args)]
pub struct Key {
    /// The tower's key, in hex
    #[arg(value_name = "NODE_KEY")]
    key: String,
}

/// How much of its sessions to tell.
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct Sessions {
    /// Tell the sessions too
    #[arg(long)]
    include_sessions: bool,
    /// But not those that are full
    #[arg(long)]
    exclude_exhausted_sessions: bool,
}

/// wtclient tower
#[derive(Debug, Args)]
pub struct OneTower {
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    sessions: Sessions,
}

/// wtclient policy
#[derive(Debug, Args)]
pub struct Policy {
    /// For channels without anchors (default)
    #[arg(long, conflicts_with_all = ["anchor", "taproot"])]
    legacy: bool,
    /// For channels with anchors
    #[arg(long, conflicts_with = "taproot")]
    anchor: bool,
    /// For taproot channels
    #[arg(long)]
    taproot: bool,
}

/// wtclient session
#[derive(Debug, Subcommand)]
#[command(rename_all = "lower")]
pub enum Session {
    /// Use a session no longer: another one is begun
    Terminate(Terminate),
}

/// wtclient session terminate
#[derive(Debug, Args)]
pub struct Terminate {
    /// The session's id, in hex
    #[arg(value_name = "SESSIONID")]
    id: String,
}

/// wtclient coverage
#[derive(Debug, Args)]
pub struct Coverage {
    /// FUNDING_TXID:INDEX, a short channel id, or the channel's id; all channels if there is none
    channel: Option<String>,
    /// Write data
    #[arg(long)]
    json: bool,
}

/// Makes a call and prints its answer.
macro_rules! answer {
    ($node:ident.$method:ident($request:expr)) => {
        $node.format.answer($node.wtclient.$method($request).await?.get_ref())
    };
}

impl Wtclient {
    pub(super) async fn run(self, node: &mut Node) -> Result<(), CliError> {
        match self {
            Wtclient::Add(c) => answer!(node.add_tower(c.added()?)),
            Wtclient::Remove(c) => answer!(node.remove_tower(c.removed()?)),
            Wtclient::Deactivate(c) => {
                let request = DeactivateTowerRequest { pubkey: public_key(&c.key)? };
                answer!(node.deactivate_tower(request))
            }
            Wtclient::Towers(c) => answer!(node.list_towers(ListTowersRequest {
                include_sessions: c.include_sessions,
                exclude_exhausted_sessions: c.exclude_exhausted_sessions,
            })),
            Wtclient::Tower(c) => answer!(node.get_tower_info(GetTowerInfoRequest {
                pubkey: public_key(&c.key.key)?,
                include_sessions: c.sessions.include_sessions,
                exclude_exhausted_sessions: c.sessions.exclude_exhausted_sessions,
            })),
            Wtclient::Stats => answer!(node.stats(StatsRequest {})),
            Wtclient::Policy(c) => answer!(node.policy(c.request())),
            Wtclient::Session(Session::Terminate(c)) => {
                let wrong = |why| CliError::text(format!("invalid session ID: {why}"));
                let session_id = hex::decode(&c.id).map_err(wrong)?;
                answer!(node.terminate_session(TerminateSessionRequest { session_id }))
            }
            Wtclient::Coverage(Coverage { channel, json }) => {
                let request = CoverageRequest { channel: channel.unwrap_or_default() };
                let answer = node.towers.coverage(request).await?.into_inner();
                match json {
                    true => Format::Json.answer(&answer),
                    false => line(&coverage(&answer, canvas())),
                }
            }
        }
    }
}

impl Policy {
    fn request(&self) -> PolicyRequest {
        let policy_type = match (self.anchor, self.taproot) {
            (true, _) => PolicyType::Anchor,
            (_, true) => PolicyType::Taproot,
            _ => PolicyType::Legacy,
        };
        PolicyRequest { policy_type: policy_type.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(tower: &str) -> Named {
        Named { tower: tower.into() }
    }

    #[test]
    fn a_tower_is_its_key_and_maybe_an_address() {
        let added = named("02ab@host:1").added().unwrap();
        assert_eq!((added.pubkey, added.address.as_str()), (vec![2, 0xab], "host:1"));
        let removed = named("02ab").removed().unwrap();
        assert_eq!((removed.pubkey, removed.address.as_str()), (vec![2, 0xab], ""));
        assert_eq!(named("02ab@a").removed().unwrap().address, "a");
        for bad in ["02ab", "02ab@a@b", "xyz@a"] {
            assert!(named(bad).added().is_err(), "{bad}");
        }
    }
}
