//! Backups of channels: exportchanbackup, verifychanbackup, restorechanbackup, and what `create`
//! takes of them.

use crate::connect::{home, read, Node};
use crate::error::CliError;
use crate::parse::{channel_point, hex_bytes, txid, Positionals};
use clap::Args;
use fulmen_proto::lnrpc::{
    channel_point::FundingTxid, restore_chan_backup_request::Backup, ChanBackupExportRequest,
    ChanBackupSnapshot, ChannelBackup, ChannelBackups, ChannelPoint, ExportChannelBackupRequest,
    MultiChanBackup, RestoreChanBackupRequest,
};
use serde::Serialize;
use std::path::Path;

/// exportchanbackup
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct ExportChanBackup {
    /// Channel to back up, as txid:index
    #[arg(value_name = "CHAN_POINT")]
    words: Vec<String>,
    /// The same
    #[arg(long)]
    chan_point: Option<String>,
    /// Back up all channels in one
    #[arg(long, conflicts_with = "chan_point")]
    all: bool,
    /// File to write the backup to, instead of showing it in hex
    #[arg(long)]
    output_file: Option<String>,
}

/// One channel's, as lncli shows it.
#[derive(Serialize)]
struct Single {
    chan_point: String,
    chan_backup: String,
}

/// All channels', as lncli shows them.
#[derive(Serialize)]
struct Multi {
    chan_points: Vec<String>,
    multi_chan_backup: String,
}

impl ExportChanBackup {
    pub(super) async fn run(self, node: &mut Node) -> Result<(), CliError> {
        let mut words = Positionals::new(&self.words);
        let asked: Option<String> = words.or(self.chan_point, "channel point")?;
        words.end()?;
        match asked {
            Some(point) if !self.all => {
                let chan_point = Some(channel_point(&point)?);
                let request = ExportChannelBackupRequest { chan_point };
                let backup = node.lightning.export_channel_backup(request).await?.into_inner();
                if let Some(path) = &self.output_file {
                    return write(path, &backup.chan_backup);
                }
                let chan_backup = hex::encode(backup.chan_backup);
                node.format.shaped(&Single { chan_point: point, chan_backup }, "")
            }
            Some(_) => Err(CliError::text("give a channel point or --all, not both")),
            None if self.all => {
                let request = ChanBackupExportRequest {};
                let all = node.lightning.export_all_channel_backups(request).await?.into_inner();
                let all = all.multi_chan_backup.unwrap_or_default();
                if let Some(path) = &self.output_file {
                    return write(path, &all.multi_chan_backup);
                }
                let chan_points = all.chan_points.iter().map(shown).collect();
                let multi_chan_backup = hex::encode(all.multi_chan_backup);
                node.format.shaped(&Multi { chan_points, multi_chan_backup }, "")
            }
            None => Err(CliError::text(
                "must specify if a single channel or all channels should be exported: give a \
                 channel point or --all",
            )),
        }
    }
}

/// Where a backup comes from: exactly one of these.
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct Given {
    /// Backup of one channel, in hex
    #[arg(long)]
    single_backup: Option<String>,
    /// Backup of several channels, in hex
    #[arg(long)]
    multi_backup: Option<String>,
    /// File with the backup of one channel
    #[arg(long)]
    single_file: Option<String>,
    /// File with the backup of several channels
    #[arg(long)]
    multi_file: Option<String>,
}

impl Given {
    fn backup(&self) -> Result<Backup, CliError> {
        let file = |path: &str| read(&home(path), "backup", "Is that its name?");
        let bytes = |text: &str, name| hex_bytes(Some(text), name);
        let single = |chan_backup| {
            let backup = ChannelBackup { chan_point: None, chan_backup };
            Backup::ChanBackups(ChannelBackups { chan_backups: vec![backup] })
        };
        let Given { single_backup, multi_backup, single_file, multi_file } = self;
        match (single_backup, multi_backup, single_file, multi_file) {
            (Some(text), None, None, None) => Ok(single(bytes(text, "single_backup")?)),
            (None, Some(text), None, None) => {
                Ok(Backup::MultiChanBackup(bytes(text, "multi_backup")?))
            }
            (None, None, Some(path), None) => Ok(single(file(path)?)),
            (None, None, None, Some(path)) => Ok(Backup::MultiChanBackup(file(path)?)),
            (None, None, None, None) => Err(CliError::text(
                "no backup is given: --multi_file, --single_file, --multi_backup or \
                 --single_backup",
            )),
            _ => Err(CliError::text("give one backup only")),
        }
    }

    pub(super) fn verification(&self) -> Result<ChanBackupSnapshot, CliError> {
        Ok(snapshot(self.backup()?))
    }

    pub(super) fn restoration(&self) -> Result<RestoreChanBackupRequest, CliError> {
        Ok(RestoreChanBackupRequest { backup: Some(self.backup()?) })
    }
}

/// What `create` restores besides the wallet.
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct AtCreation {
    /// Restore one channel from its backup, in hex
    #[arg(long)]
    single_backup: Option<String>,
    /// Restore channels from their backup, in hex
    #[arg(long)]
    multi_backup: Option<String>,
    /// Restore channels from the file of their backup
    #[arg(long)]
    multi_file: Option<String>,
}

impl AtCreation {
    /// None if nothing is to be restored.
    pub(super) fn backups(self) -> Result<Option<ChanBackupSnapshot>, CliError> {
        let AtCreation { single_backup, multi_backup, multi_file } = self;
        let given = Given { single_backup, multi_backup, single_file: None, multi_file };
        match given {
            Given { single_backup: None, multi_backup: None, multi_file: None, .. } => Ok(None),
            given => given.verification().map(Some),
        }
    }
}

fn snapshot(backup: Backup) -> ChanBackupSnapshot {
    match backup {
        Backup::ChanBackups(singles) => {
            ChanBackupSnapshot { single_chan_backups: Some(singles), multi_chan_backup: None }
        }
        Backup::MultiChanBackup(multi_chan_backup) => {
            let multi = MultiChanBackup { chan_points: Vec::new(), multi_chan_backup };
            ChanBackupSnapshot { single_chan_backups: None, multi_chan_backup: Some(multi) }
        }
    }
}

fn shown(point: &ChannelPoint) -> String {
    let txid = match &point.funding_txid {
        Some(FundingTxid::FundingTxidBytes(bytes)) => txid(bytes),
        Some(FundingTxid::FundingTxidStr(text)) => text.clone(),
        None => String::new(),
    };
    format!("{txid}:{}", point.output_index)
}

fn write(path: &str, bytes: &[u8]) -> Result<(), CliError> {
    let path = home(path);
    let written = std::fs::write(&path, bytes);
    written.map_err(|e| CliError::text(format!("cannot write {}: {e}", Path::display(&path))))
}
