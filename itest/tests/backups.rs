//! What brings channels back when the data directory is lost.

use bitcoin::{OutPoint, Txid};
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::{Context, Result};
use fulmen_itest::regtest::{Cluster, Daemon};
use fulmen_proto::lnrpc::channel_point::FundingTxid;
use fulmen_proto::lnrpc::restore_chan_backup_request::Backup;
use fulmen_proto::lnrpc::*;

const PASSWORD: &[u8] = b"correct horse";
const CAPACITY: Sat = Sat::new(1_000_000);

#[tokio::test(flavor = "multi_thread")]
async fn words_and_a_backup_bring_everything_home() -> Result<()> {
    let cluster = Cluster::start()?;
    let alice = Daemon::without_wallet(cluster.bitcoind(), "alice", &[])?;
    let words = makes_wallet(&alice).await?;
    let bob = cluster.daemon("bob").await?;
    alice.receives_coins(Sat::new(2_000_000)).await?;
    alice.connects(&bob).await?;
    let mut lightning = alice.lightning().await?;
    let mut news =
        lightning.subscribe_channel_backups(ChannelBackupSubscription {}).await?.into_inner();
    let opened = alice.opens(&bob, CAPACITY).await?;
    let told = news.message().await?.context("news of the channel")?;
    assert_eq!(verified(&alice, told).await?, [opened.channel_point.as_str()]);
    alice.pays(&bob, Msat::new(123_456_000)).await?;
    let channel = alice.quiet_channel().await?;
    exports(&alice, &channel).await?;
    let coins = alice.coins().await?.confirmed_balance;
    // The file holds the same.
    let file = std::fs::read(alice.admin_macaroon().with_file_name("channel.backup"))?;
    assert_eq!(verified(&alice, multi(file.clone())).await?, [channel.channel_point.as_str()]);
    drop(alice);

    let again = Daemon::without_wallet(cluster.bitcoind(), "again", &[])?;
    again.spawn()?;
    refuses_a_foreign_backup(&again, &words, &file).await?;
    restores(&again, &words, Some(multi(file))).await?;
    let closing = is_asked_to_close(&again, &bob, &channel).await?;
    let ours = u64::try_from(channel.local_balance)?;
    cluster.bitcoind().mine(1)?;
    comes_home(&again, &closing, Sat::new(ours), coins).await?;
    bob_has_his(&bob, &channel).await
}

/// By command, into a node that runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_single_backup_restores_one_channel_by_command() -> Result<()> {
    let cluster = Cluster::start()?;
    let alice = Daemon::without_wallet(cluster.bitcoind(), "alice", &[])?;
    let words = makes_wallet(&alice).await?;
    let bob = cluster.daemon("bob").await?;
    // Bob opens: what is Alice's is what he gave her.
    bob.receives_coins(Sat::new(2_000_000)).await?;
    alice.connects(&bob).await?;
    bob.opens_with(&alice, CAPACITY, |request| request.push_sat = 300_000).await?;
    let channel = alice.active_channel(bob.id()?).await?;
    let single = export(&alice, &channel).await?;
    drop(alice);

    let again = Daemon::without_wallet(cluster.bitcoind(), "again", &[])?;
    again.spawn()?;
    restores(&again, &words, None).await?;
    let chan_backups = ChannelBackups { chan_backups: vec![single] };
    let request = RestoreChanBackupRequest { backup: Some(Backup::ChanBackups(chan_backups)) };
    let mut lightning = again.lightning().await?;
    let done = lightning.restore_channel_backups(request.clone()).await?.into_inner();
    assert_eq!(done.num_restored, 1);
    let done = lightning.restore_channel_backups(request).await?.into_inner();
    assert_eq!(done.num_restored, 0, "it is known by now");
    let closing = is_asked_to_close(&again, &bob, &channel).await?;
    // Whatever happens to the daemon meanwhile.
    again.killed();
    cluster.bitcoind().mine(1)?;
    again.spawn()?;
    unlocks(&again).await?;
    comes_home(&again, &closing, Sat::new(300_000), 0).await
}

pub async fn makes_wallet(daemon: &Daemon) -> Result<Vec<String>> {
    daemon.spawn()?;
    let request = GenSeedRequest::default();
    let seed = daemon.unlocker().await?.gen_seed(request).await?.into_inner();
    restores(daemon, &seed.cipher_seed_mnemonic, None).await?;
    Ok(seed.cipher_seed_mnemonic)
}

fn init(words: &[String], channel_backups: Option<ChanBackupSnapshot>) -> InitWalletRequest {
    InitWalletRequest {
        wallet_password: PASSWORD.into(),
        cipher_seed_mnemonic: words.to_vec(),
        recovery_window: 20,
        channel_backups,
        ..Default::default()
    }
}

pub async fn restores(
    daemon: &Daemon,
    words: &[String],
    backups: Option<ChanBackupSnapshot>,
) -> Result<()> {
    daemon.unlocker().await?.init_wallet(init(words, backups)).await?;
    daemon.catches_up().await
}

pub async fn unlocks(daemon: &Daemon) -> Result<()> {
    let request = UnlockWalletRequest { wallet_password: PASSWORD.into(), ..Default::default() };
    daemon.unlocker().await?.unlock_wallet(request).await?;
    daemon.catches_up().await
}

/// Neither a damaged backup nor one under other words makes a wallet.
async fn refuses_a_foreign_backup(daemon: &Daemon, words: &[String], file: &[u8]) -> Result<()> {
    let mut unlocker = daemon.unlocker().await?;
    let other = "abandon ".repeat(23) + "art";
    let other: Vec<String> = other.split(' ').map(str::to_owned).collect();
    let mut damaged = file.to_vec();
    damaged[40] ^= 1;
    for (words, file) in [(&other[..], file.to_vec()), (words, damaged)] {
        let refused = unlocker.init_wallet(init(words, Some(multi(file)))).await.unwrap_err();
        assert!(refused.message().contains("another seed, altered"), "{refused}");
    }
    assert!(!daemon.admin_macaroon().with_file_name("wallet.seed").exists());
    Ok(())
}

pub fn multi(multi_chan_backup: Vec<u8>) -> ChanBackupSnapshot {
    let multi = MultiChanBackup { chan_points: Vec::new(), multi_chan_backup };
    ChanBackupSnapshot { single_chan_backups: None, multi_chan_backup: Some(multi) }
}

fn point(channel: &Channel) -> Result<ChannelPoint> {
    let OutPoint { txid, vout } = channel.channel_point.parse()?;
    let funding_txid = Some(FundingTxid::FundingTxidStr(txid.to_string()));
    Ok(ChannelPoint { funding_txid, output_index: vout })
}

async fn export(daemon: &Daemon, channel: &Channel) -> Result<ChannelBackup> {
    let request = ExportChannelBackupRequest { chan_point: Some(point(channel)?) };
    Ok(daemon.lightning().await?.export_channel_backup(request).await?.into_inner())
}

pub async fn verified(daemon: &Daemon, backups: ChanBackupSnapshot) -> Result<Vec<String>> {
    let answer = daemon.lightning().await?.verify_chan_backup(backups).await?;
    Ok(answer.into_inner().chan_points)
}

/// Every way to export, and what is refused.
async fn exports(alice: &Daemon, channel: &Channel) -> Result<()> {
    let mut lightning = alice.lightning().await?;
    let all = lightning.export_all_channel_backups(ChanBackupExportRequest {}).await?.into_inner();
    assert_eq!(verified(alice, all.clone()).await?, [channel.channel_point.as_str()]);
    let single = export(alice, channel).await?;
    let swapped = multi(single.chan_backup);
    let refused = lightning.verify_chan_backup(swapped).await.unwrap_err();
    assert!(refused.message().starts_with("invalid multi channel backup: "), "{refused}");
    let known = all.multi_chan_backup.context("the packed one")?.multi_chan_backup;
    let request = RestoreChanBackupRequest { backup: Some(Backup::MultiChanBackup(known)) };
    let done = lightning.restore_channel_backups(request).await?.into_inner();
    assert_eq!(done.num_restored, 0, "a channel that lives is left alone");
    let unknown = Channel { channel_point: format!("{}:0", "11".repeat(32)), ..channel.clone() };
    let refused = export(alice, &unknown).await.unwrap_err().to_string();
    assert!(refused.contains("unable to find channel"), "{refused}");
    Ok(())
}

/// The restored node lists the channel as lost, and its peer publishes its commitment.
async fn is_asked_to_close(again: &Daemon, bob: &Daemon, channel: &Channel) -> Result<Txid> {
    let flags = "ChanStatusLocalDataLoss|ChanStatusRestored";
    again
        .until("the peer was told", async || {
            let waiting = again.pending_channels().await?.waiting_close_channels;
            let ours = waiting.into_iter().filter_map(|waiting| waiting.channel);
            let told = |it: &pending_channels_response::PendingChannel| {
                it.channel_point == channel.channel_point && it.chan_status_flags == flags
            };
            Ok(ours.into_iter().any(|it| told(&it)).then_some(()))
        })
        .await?;
    let txid = bob
        .until("its commitment is in the mempool", async || {
            Ok(bob.bitcoind().mempool()?.into_iter().next())
        })
        .await?;
    Ok(txid)
}

/// `ours` comes to the wallet beside `coins`, but for the fee of what takes it.
async fn comes_home(again: &Daemon, closing: &Txid, ours: Sat, coins: i64) -> Result<()> {
    let bitcoind = again.bitcoind();
    let taking = again
        .until("D is in the mempool", async || Ok(bitcoind.mempool()?.into_iter().next()))
        .await?;
    let tx = bitcoind.rpc().get_raw_transaction(&taking, None)?;
    assert!(tx.input.iter().all(|input| input.previous_output.txid == *closing));
    let fee = bitcoind.rpc().get_mempool_entry(&taking)?.fees.base;
    bitcoind.mine(1)?;
    let wanted = coins + i64::try_from(ours.sat() - fee.to_sat())?;
    again
        .until("it is in the wallet", async || {
            let coins = again.coins().await?;
            Ok((coins.confirmed_balance + coins.reserved_balance_anchor_chan == wanted)
                .then_some(()))
        })
        .await?;
    let request = ClosedChannelsRequest { remote_force: true, ..Default::default() };
    let closed = again
        .until("the channel is history", async || {
            let closed = again.lightning().await?.closed_channels(request).await?;
            Ok(closed.into_inner().channels.pop())
        })
        .await?;
    assert_eq!(closed.settled_balance, i64::try_from(ours.sat())?);
    assert_eq!(closed.closing_tx_hash, closing.to_string());
    let pending = again.pending_channels().await?;
    assert!(pending.pending_force_closing_channels.is_empty());
    // Nothing is left to back up.
    let mut lightning = again.lightning().await?;
    let all = lightning.export_all_channel_backups(ChanBackupExportRequest {}).await?.into_inner();
    assert!(verified(again, all).await?.is_empty());
    Ok(())
}

/// Bob published, so that his balance waits for his delay.
async fn bob_has_his(bob: &Daemon, channel: &Channel) -> Result<()> {
    let limbo = bob
        .until("the close is in a block", async || {
            let forced = bob.pending_channels().await?.pending_force_closing_channels;
            Ok(forced.into_iter().next().map(|forced| forced.limbo_balance))
        })
        .await?;
    assert_eq!(limbo, channel.remote_balance);
    Ok(())
}
