//! The disk of one side becomes full in the middle of payments. It is a real one, a tmpfs in a user
//! namespace; where a system forbids those, a limit on the size of files stands for it, as in one
//! story always: the system then says EFBIG instead of ENOSPC, all else is the same.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::Command;
use std::sync::Arc;

use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::build;
use fulmen_itest::disk::Disk;
use fulmen_itest::failure::Result;
use fulmen_itest::port::Port;
use fulmen_itest::regtest::{is_ended, Cluster, Daemon, Peer};
use fulmen_proto::lnrpc::invoice::InvoiceState;
use fulmen_proto::lnrpc::payment::PaymentStatus;
use tokio::task::JoinSet;

use crate::two_daemons::both_agree;

const PAYMENTS: u64 = 60;
/// Bytes: less than the payments write. The payer's first commit holds their onions.
const PAYER_HAS_LEFT: u64 = 300_000;
const PAYEE_HAS_LEFT: u64 = 100_000;

#[tokio::test(flavor = "multi_thread")]
async fn the_payers_disk_is_full() -> Result<()> {
    let cluster = Cluster::start()?;
    let alice = Daemon::on_disk(cluster.bitcoind(), "alice", Disk::over)?;
    let bob = Daemon::new(cluster.bitcoind(), "bob", &[])?;
    let alice = Arc::new(alice);
    full(&alice, &bob, &alice, PAYER_HAS_LEFT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_payees_disk_is_full() -> Result<()> {
    let cluster = Cluster::start()?;
    let alice = Daemon::new(cluster.bitcoind(), "alice", &[])?;
    let bob = Daemon::on_disk(cluster.bitcoind(), "bob", Disk::over)?;
    full(&Arc::new(alice), &bob, &bob, PAYEE_HAS_LEFT).await
}

/// What stands for a full disk where there are no user namespaces, and a limit that shells set.
#[tokio::test(flavor = "multi_thread")]
async fn the_payers_files_may_not_grow() -> Result<()> {
    let cluster = Cluster::start()?;
    let disk = |path: &_| Ok(Disk::of_small_files(path));
    let alice = Arc::new(Daemon::on_disk(cluster.bitcoind(), "alice", disk)?);
    let bob = Daemon::new(cluster.bitcoind(), "bob", &[])?;
    full(&alice, &bob, &alice, PAYER_HAS_LEFT).await
}

/// Lines that are written nowhere cost no thread, and the exit code tells all the same.
#[test]
fn the_disk_under_its_output_is_full() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let rpc = Port::free()?;
    let full = || File::options().write(true).open("/dev/full");
    let mut command = Command::new(build::fulmend()?);
    command
        .args(["--bitcoin.regtest", "--bitcoind.rpcuser=nobody", "--bitcoind.rpcpass=nobody"])
        .args(["--bitcoind.rpchost=127.0.0.1:1", "--wallet-unlock-password-file=/dev/null"])
        .arg(format!("--fulmendir={}", dir.path().display()))
        .arg(format!("--rpclisten={}", rpc.address()))
        .stdout(full()?)
        .stderr(full()?);
    assert_eq!(command.status()?.code(), Some(1));
    let log = std::fs::read_to_string(dir.path().join("logs/bitcoin/regtest/fulmend.log"))?;
    assert!(log.contains("gRPC is served"), "{log}");
    Ok(())
}

/// Alice pays bob, and the disk of one of them, `victim`, becomes full meanwhile but for `left`
/// bytes.
async fn full(alice: &Arc<Daemon>, bob: &Daemon, victim: &Daemon, left: u64) -> Result<()> {
    alice.starts().await?;
    bob.starts().await?;
    alice.receives_coins(Sat::new(3_000_000)).await?;
    alice.connects(bob).await?;
    alice.opens(bob, Sat::new(2_000_000)).await?;
    let mut invoices = Vec::new();
    for number in 0..PAYMENTS {
        invoices.push(bob.invoices(Msat::new(1_000_000 + number), "full").await?);
    }
    // The write-ahead log is written over from its beginning once it is large: a new one grows.
    victim.stops().await?;
    victim.starts().await?;
    alice.active_channel(bob.node_id()?).await?;
    // Beyond the reserve, so that bob can pay too.
    alice.pays(bob, Msat::new(100_000_000)).await?;

    victim.disk_fills_up(left)?;
    let mut payments = JoinSet::new();
    for invoice in invoices {
        let alice = Arc::clone(alice);
        payments.spawn(async move { alice.tries_to_pay(&invoice).await });
    }
    let full = victim.disk()?.says();
    ends_saying(victim, 0, &[full, "nothing more is signed", "then start again"])?;
    // Its end may have made some room.
    victim.disk_fills_up(0)?;
    let before = victim.wrote()?.len();
    victim.spawn()?;
    ends_saying(victim, before, &[full])?;

    victim.disk()?.free()?;
    victim.starts().await?;
    while payments.join_next().await.is_some() {}
    alice.active_channel(bob.node_id()?).await?;
    bob.active_channel(alice.node_id()?).await?;
    let paid = paid_on_both_sides(alice, bob).await?;
    both_agree(alice, bob).await?;
    assert_eq!(bob.quiet_channel().await?.local_balance, paid / 1_000);
    alice.pays(bob, Msat::new(5_000)).await?;
    bob.pays(&**alice, Msat::new(5_000)).await?;
    both_agree(alice, bob).await
}

/// It ends with an error, and says these words after the first `before` bytes.
fn ends_saying(daemon: &Daemon, before: usize, words: &[&str]) -> Result<()> {
    assert!(!daemon.ends()?, "exit code");
    let wrote = daemon.wrote()?.split_off(before);
    for says in words {
        assert!(wrote.contains(says), "no `{says}` in {wrote}");
    }
    Ok(())
}

/// Every payment has ended, and is settled on one side exactly if it is on the other. Returns the
/// sum of the settled ones, in millisatoshi.
async fn paid_on_both_sides(alice: &Daemon, bob: &Daemon) -> Result<i64> {
    let sent = alice
        .until("all payments have ended", async || {
            let payments = alice.payments().await?;
            Ok(payments.iter().all(is_ended).then_some(payments))
        })
        .await?;
    let sent: BTreeMap<String, PaymentStatus> =
        sent.into_iter().map(|payment| (payment.payment_hash.clone(), payment.status())).collect();
    let (mut settled, mut sum) = (0, 0);
    for invoice in bob.all_invoices().await? {
        let paid = sent.get(&hex::encode(&invoice.r_hash)) == Some(&PaymentStatus::Succeeded);
        assert_eq!(invoice.state() == InvoiceState::Settled, paid, "{invoice:?}");
        settled += u64::from(paid);
        sum += if paid { invoice.value_msat } else { 0 };
    }
    eprintln!("{settled} of {} payments settled", PAYMENTS + 1);
    Ok(sum)
}
