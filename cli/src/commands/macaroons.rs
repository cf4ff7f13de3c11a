//! Macaroons: bakemacaroon, listmacaroonids, deletemacaroonid, printmacaroon, constrainmacaroon.

use super::startup::save;
use crate::connect::{home, read, Node};
use crate::error::CliError;
use crate::macaroon::{add_caveat, Contents};
use crate::parse::Positionals;
use crate::print::{line, Format};
use clap::Args;
use fulmen_proto::lnrpc::{BakeMacaroonRequest, DeleteMacaroonIdRequest, MacaroonPermission};
use std::net::IpAddr;
use time::format_description::well_known::Rfc3339;
use time::OffsetDateTime;

/// What narrows a macaroon.
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
struct Caveats {
    /// Seconds for which it is valid
    #[arg(long)]
    timeout: Option<u64>,
    /// Address from which alone it may be used
    #[arg(long)]
    ip_address: Option<IpAddr>,
    /// Name of a caveat that a middleware checks
    #[arg(long)]
    custom_caveat_name: Option<String>,
    /// Condition of that caveat
    #[arg(long)]
    custom_caveat_condition: Option<String>,
}

impl Caveats {
    /// The conditions to add, in order, at the time `now`.
    pub(super) fn conditions(&self, now: OffsetDateTime) -> Result<Vec<String>, CliError> {
        let mut conditions = Vec::new();
        if let Some(seconds) = self.timeout {
            let seconds = i64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
            let until = seconds
                .and_then(|seconds| now.checked_add(time::Duration::seconds(seconds)))
                .and_then(|until| until.format(&Rfc3339).ok());
            let wrong = || CliError::text("timeout is no number of seconds that can be");
            conditions.push(format!("time-before {}", until.ok_or_else(wrong)?));
        }
        if let Some(address) = self.ip_address {
            conditions.push(format!("ipaddr {address}"));
        }
        match (&self.custom_caveat_name, &self.custom_caveat_condition) {
            (None, Some(_)) => {
                return Err(CliError::text("custom_caveat_condition needs custom_caveat_name"));
            }
            (Some(name), None) => conditions.push(format!("lnd-custom {name}")),
            (Some(name), Some(condition)) => {
                conditions.push(format!("lnd-custom {name} {condition}"));
            }
            (None, None) => {}
        }
        Ok(conditions)
    }

    /// `macaroon` (binary) with them added.
    fn narrow(&self, macaroon: Vec<u8>) -> Result<Vec<u8>, CliError> {
        let conditions = self.conditions(OffsetDateTime::now_utc())?;
        conditions.iter().try_fold(macaroon, |macaroon, condition| {
            add_caveat(&macaroon, condition).ok_or_else(no_macaroon)
        })
    }
}

fn no_macaroon() -> CliError {
    CliError::text("that is no macaroon of version 2")
}

/// bakemacaroon
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct BakeMacaroon {
    /// What it allows: entity:action, several with spaces between
    #[arg(value_name = "PERMISSIONS")]
    permissions: Vec<String>,
    /// File to save it in, instead of showing it in hex
    #[arg(long)]
    save_to: Option<String>,
    #[command(flatten)]
    caveats: Caveats,
    /// Number of the root key; deleting that key voids the macaroon
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    root_key_id: u64,
    /// Allow permissions that the daemon does not know
    #[arg(long)]
    allow_external_permissions: bool,
}

impl BakeMacaroon {
    pub(super) fn request(&self) -> Result<BakeMacaroonRequest, CliError> {
        let permission = |text: &String| {
            let wrong = || CliError::text(format!("{text} is no permission: write entity:action"));
            let (entity, action) = text.split_once(':').ok_or_else(wrong)?;
            Ok(MacaroonPermission { entity: entity.into(), action: action.into() })
        };
        let permissions: Result<Vec<_>, CliError> =
            self.permissions.iter().map(permission).collect();
        Ok(BakeMacaroonRequest {
            permissions: permissions?,
            root_key_id: self.root_key_id,
            allow_external_permissions: self.allow_external_permissions,
        })
    }

    pub(super) async fn run(self, node: &mut Node) -> Result<(), CliError> {
        let request = self.request()?;
        self.caveats.conditions(OffsetDateTime::UNIX_EPOCH)?; // before anything is baked
        let baked = node.lightning.bake_macaroon(request).await?.into_inner().macaroon;
        let macaroon = hex::decode(baked).map_err(|_| no_macaroon())?;
        let macaroon = self.caveats.narrow(macaroon)?;
        match self.save_to {
            None => line(&hex::encode(macaroon)),
            Some(path) => {
                save(&macaroon, &path)?;
                line(&format!("Macaroon saved to {path}"))
            }
        }
    }
}

/// deletemacaroonid
#[derive(Debug, Args)]
pub struct DeleteMacaroonId {
    /// Number of the root key
    #[arg(value_name = "ROOT_KEY_ID")]
    root_key_id: u64,
}

impl DeleteMacaroonId {
    pub(super) fn request(self) -> DeleteMacaroonIdRequest {
        DeleteMacaroonIdRequest { root_key_id: self.root_key_id }
    }
}

/// printmacaroon
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct PrintMacaroon {
    /// The macaroon in hex, or the file of it, if not given as flag
    #[arg(value_name = "MACAROON_FILE")]
    words: Vec<String>,
    /// File of the macaroon
    #[arg(long)]
    macaroon_file: Option<String>,
}

impl PrintMacaroon {
    pub(super) fn run(self, format: Format) -> Result<(), CliError> {
        let mut words = Positionals::new(&self.words);
        let given: String = words.need(self.macaroon_file, "macaroon_file")?;
        words.end()?;
        let macaroon = match hex::decode(&given) {
            Ok(macaroon) if !macaroon.is_empty() => macaroon,
            _ => file(&given)?,
        };
        format.shaped(&Contents::of(&macaroon).ok_or_else(no_macaroon)?, "")
    }
}

/// constrainmacaroon
#[derive(Debug, Args)]
pub struct ConstrainMacaroon {
    /// File of the macaroon to narrow
    input_macaroon_file: String,
    /// File to write the narrowed one to
    constrained_macaroon_file: String,
    #[command(flatten)]
    caveats: Caveats,
}

impl ConstrainMacaroon {
    pub(super) fn run(self) -> Result<(), CliError> {
        let macaroon = self.caveats.narrow(file(&self.input_macaroon_file)?)?;
        save(&macaroon, &self.constrained_macaroon_file)?;
        line(&format!("Macaroon saved to {}", self.constrained_macaroon_file))
    }
}

fn file(path: &str) -> Result<Vec<u8>, CliError> {
    read(&home(path), "macaroon", "Give the path of a macaroon")
}
