//! ExportChannelBackup, ExportAllChannelBackups, VerifyChanBackup, RestoreChannelBackups,
//! SubscribeChannelBackups.

use super::close_channel::outpoint;
use super::open_channel::point;
use super::{channel_point, failed};
use crate::backup::{BackupError, Single, Vault};
use crate::channels::restored;
use crate::node::Node;
use bitcoin::OutPoint;
use fulmen_proto::lnrpc::{self, restore_chan_backup_request::Backup};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Status;

/// The backup of the channel named.
pub fn export(
    node: &Node,
    request: lnrpc::ExportChannelBackupRequest,
) -> Result<lnrpc::ChannelBackup, Status> {
    let backups = &node.services.backups;
    let asked = request.chan_point.ok_or_else(|| failed("must specify a channel point"))?;
    let asked = outpoint(&asked)?;
    let all = backups.all().map_err(failed)?;
    let single = all.iter().find(|single| single.outpoint == asked);
    let unknown = || failed(format!("unable to find channel {}", channel_point(asked)));
    sealed(&backups.vault, single.ok_or_else(unknown)?)
}

/// The backups of all channels.
pub fn export_all(node: &Node) -> Result<lnrpc::ChanBackupSnapshot, Status> {
    let backups = &node.services.backups;
    snapshot(&backups.vault, &backups.all().map_err(failed)?)
}

/// The channels of these backups, each once, if they are whole and ours.
pub fn verify(
    node: &Node,
    backups: &lnrpc::ChanBackupSnapshot,
) -> Result<lnrpc::VerifyChanBackupResponse, Status> {
    let vault = &node.services.backups.vault;
    let mut singles = opened(vault, singles_in(backups))
        .map_err(|error| failed(format!("invalid single channel backup: {error}")))?;
    if let Some(multi) = multi_in(backups) {
        let multi = vault.open_multi(multi);
        singles.extend(
            multi.map_err(|error| failed(format!("invalid multi channel backup: {error}")))?,
        );
    }
    let outpoints: BTreeSet<OutPoint> = singles.iter().map(|single| single.outpoint).collect();
    let chan_points = outpoints.into_iter().map(channel_point).collect();
    Ok(lnrpc::VerifyChanBackupResponse { chan_points })
}

/// Restores the channels that are not known yet.
pub async fn restore(
    node: &Node,
    request: lnrpc::RestoreChanBackupRequest,
) -> Result<lnrpc::RestoreBackupResponse, Status> {
    let vault = &node.services.backups.vault;
    let singles = match &request.backup {
        Some(Backup::ChanBackups(backups)) => {
            let singles = backups.chan_backups.iter().map(|single| &single.chan_backup[..]);
            opened(vault, singles)
                .map_err(|error| failed(format!("unable to unpack single backups: {error}")))?
        }
        Some(Backup::MultiChanBackup(multi)) => vault
            .open_multi(multi)
            .map_err(|error| failed(format!("unable to unpack multi backup: {error}")))?,
        None => return Err(failed("no backups are given")),
    };
    let restored = restored::restore(&node.services, &singles).await.map_err(failed)?;
    let num_restored = u32::try_from(restored).unwrap_or(u32::MAX);
    Ok(lnrpc::RestoreBackupResponse { num_restored })
}

/// The backups of all channels whenever one comes or goes.
pub fn subscribe(node: Arc<Node>) -> mpsc::Receiver<Result<lnrpc::ChanBackupSnapshot, Status>> {
    let (answers, receiver) = mpsc::channel(4);
    let mut news = node.services.backups.subscribe();
    tokio::spawn(async move {
        loop {
            let changed = tokio::select! {
                changed = news.changed() => changed,
                () = answers.closed() => return,
            };
            let all = news.borrow_and_update().clone();
            let answer = snapshot(&node.services.backups.vault, &all);
            if changed.is_err() || answers.send(answer).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// The single backups in a snapshot, sealed.
pub fn singles_in(backups: &lnrpc::ChanBackupSnapshot) -> impl Iterator<Item = &[u8]> {
    let singles = backups.single_chan_backups.iter().flat_map(|singles| &singles.chan_backups);
    singles.map(|single| single.chan_backup.as_slice())
}

/// The packed backup in a snapshot, sealed.
pub fn multi_in(backups: &lnrpc::ChanBackupSnapshot) -> Option<&[u8]> {
    let multi = backups.multi_chan_backup.as_ref()?;
    Some(multi.multi_chan_backup.as_slice()).filter(|multi| !multi.is_empty())
}

fn opened<'a>(
    vault: &Vault,
    singles: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<Single>, BackupError> {
    singles.map(|single| vault.open_single(single)).collect()
}

fn sealed(vault: &Vault, single: &Single) -> Result<lnrpc::ChannelBackup, Status> {
    let chan_backup = vault.seal_single(single).map_err(failed)?;
    Ok(lnrpc::ChannelBackup { chan_point: Some(point(single.outpoint)), chan_backup })
}

fn snapshot(vault: &Vault, all: &[Single]) -> Result<lnrpc::ChanBackupSnapshot, Status> {
    let singles = all.iter().map(|single| sealed(vault, single)).collect::<Result<_, _>>()?;
    let multi = lnrpc::MultiChanBackup {
        chan_points: all.iter().map(|single| point(single.outpoint)).collect(),
        multi_chan_backup: vault.seal_multi(all).map_err(failed)?,
    };
    Ok(lnrpc::ChanBackupSnapshot {
        single_chan_backups: Some(lnrpc::ChannelBackups { chan_backups: singles }),
        multi_chan_backup: Some(multi),
    })
}
