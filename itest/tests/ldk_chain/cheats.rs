//! LDK publishes a state that it revoked, in which HTLCs were in flight both ways, while we are
//! away, and moves them on: all of it is ours, to the satoshi.

use std::sync::Arc;

use bitcoin::OutPoint;
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::Msat;
use fulmen_itest::failure::{Context, Result};
use fulmen_itest::ldk::LdkPeer;
use fulmen_itest::port::Port;
use fulmen_itest::regtest::{Cluster, Daemon, Peer};
use fulmen_itest::wait::{self, PATIENCE};
use fulmen_proto::lnrpc::channel_close_summary::ClosureType;
use fulmen_proto::lnrpc::Channel;

use super::htlcs::{are_taken, offers_both_ways, OURS, SECRET, THEIRS};
use super::money::{Account, Descent, ANCHOR};
use super::{closes, in_mempool, with_channel_of, CAPACITY};
use crate::sweeps::holds;
use crate::tower::Tower;

/// A channel whose state with HTLCs is revoked.
struct Revoked {
    cluster: Cluster,
    alice: Daemon,
    carol: Arc<LdkPeer>,
    /// In that state.
    channel: Channel,
    /// What Alice's wallet holds.
    had: i64,
    /// Hers, if she has one.
    tower: Option<Tower>,
}

impl Revoked {
    /// Both nodes have stopped, and Carol's folder is as it was in the old state.
    async fn of(cluster: Cluster, alice: Daemon, tower: Option<Tower>) -> Result<Self> {
        holds(&alice, true)?;
        let carol = with_channel_of(&cluster, &alice).await?;
        let channel = offers_both_ways(&cluster, &alice, &carol).await?;
        carol.stop()?;
        let copy = carol.copies()?;
        carol.starts_again()?;
        alice.active_channel(Peer::node_id(&carol)?).await?;
        carol.usable_channel(alice.id()?)?;
        // One HTLC is settled, so that the state in which it stood is revoked.
        carol.claims(Msat::new(OURS * 1_000), SECRET)?;
        alice
            .until("an HTLC is gone from both commitments", async || {
                let htlcs = alice.channel().await?.pending_htlcs;
                Ok((htlcs.len() == 1).then_some(()))
            })
            .await?;
        let tower = tower.map(|tower| is_told_everything(&cluster, &alice, tower)).transpose()?;
        let had = alice.coins().await?.total_balance;
        carol.stop()?;
        alice.stops().await?;
        carol.goes_back_to(&copy)?;
        Ok(Revoked { cluster, alice, carol, channel, had, tower })
    }

    /// Carol's old copy publishes its commitment, and it comes into a block. It knows a preimage.
    fn is_published(&self) -> Result<u64> {
        let Revoked { cluster, carol, channel, .. } = self;
        let since = cluster.bitcoind().height()?;
        carol.starts_again()?;
        let old = carol.channels()?.pop().context("the old copy has the channel")?;
        carol.claims(Msat::new(OURS * 1_000), SECRET)?;
        carol.force_closes(&old)?;
        in_mempool(cluster, &channel.channel_point)?;
        cluster.bitcoind().mine(1)?;
        Ok(since)
    }

    fn descent(&self, since: u64) -> Result<Descent> {
        Descent::of(self.cluster.bitcoind(), self.channel.channel_point.parse()?, since)
    }

    /// The output of the commitment with this value.
    fn output(&self, since: u64, value: u64) -> Result<OutPoint> {
        self.descent(since)?.outputs(&[value]).pop().context(format!("an output of {value}"))
    }

    /// Carol takes an HTLC by HE or HT; the output that this has for her.
    fn carol_takes(&self, since: u64, value: u64) -> Result<OutPoint> {
        let htlc = self.output(since, value)?;
        self.carol.sync()?;
        are_taken(&self.cluster, &[htlc])?;
        self.cluster.bitcoind().mine(1)?;
        self.descent(since)?.moved_to(&htlc).context("HE or HT in a block")
    }

    /// Blocks pass, until Carol may take back what she offered.
    fn htlcs_expire(&self) -> Result<()> {
        let bitcoind = self.cluster.bitcoind();
        let offered = self.channel.pending_htlcs.iter().find(|htlc| htlc.incoming);
        let expiry = u64::from(offered.context("Carol's HTLC")?.expiration_height);
        bitcoind.mine(expiry.saturating_sub(bitcoind.height()?)).map(drop)
    }

    /// Blocks in which Carol has to leave what she claimed untouched.
    fn delay(&self) -> Result<u64> {
        let theirs = self.channel.remote_constraints.as_ref().context("Carol's delay")?;
        Ok(theirs.csv_delay.into())
    }

    /// Alice is back, and has everything in the end.
    async fn all_is_ours(&self, since: u64) -> Result<Account> {
        let Revoked { cluster, alice, channel, had, .. } = self;
        alice.starts().await?;
        let closed = closes(cluster, alice).await?;
        assert_eq!(closed.close_type(), ClosureType::BreachClose);
        let (ours, _) = self.descent(since)?.accounts(alice).await?;
        let all = i64::try_from(CAPACITY.sat())? - channel.commit_fee - 2 * ANCHOR;
        assert_eq!(ours.taken, all, "{closed:?}");
        alice
            .until("all of it is in the wallet", async || {
                let has = alice.coins().await?.total_balance;
                Ok((has == had + ours.gain()).then_some(()))
            })
            .await?;
        Ok(ours)
    }
}

/// A tower that was away comes back, and Alice hands it what it missed.
fn is_told_everything(cluster: &Cluster, alice: &Daemon, tower: Tower) -> Result<Tower> {
    let tower = tower.again_for(cluster.bitcoind(), Some(alice.id()?))?;
    wait::until("the tower has it all", PATIENCE, || {
        Ok(alice.wrote()?.contains("is up to date").then_some(()))
    })?;
    Ok(tower)
}

#[tokio::test(flavor = "multi_thread")]
async fn ldk_publishes_htlcs_that_are_over_and_loses_everything() -> Result<()> {
    let cluster = Cluster::start()?;
    let alice = Daemon::new(cluster.bitcoind(), "alice", &[])?;
    let cheated = Revoked::of(cluster, alice, None).await?;
    let since = cheated.is_published()?;
    cheated.carol.stop()?;
    cheated.all_is_ours(since).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn ldk_moves_revoked_htlcs_on_and_loses_everything() -> Result<()> {
    let cluster = Cluster::start()?;
    let alice = Daemon::new(cluster.bitcoind(), "alice", &[])?;
    let cheated = Revoked::of(cluster, alice, None).await?;
    let since = cheated.is_published()?;
    let published = cheated.cluster.bitcoind().height()?;
    cheated.carol_takes(since, OURS)?;
    cheated.htlcs_expire()?;
    cheated.carol_takes(since, THEIRS)?;
    // The story would prove nothing if Carol's delay were over.
    assert!(cheated.cluster.bitcoind().height()? < published + cheated.delay()?);
    cheated.all_is_ours(since).await.map(drop)
}

/// A private tower takes what Carol moved; she finds her own balance when she is back, long after.
#[tokio::test(flavor = "multi_thread")]
async fn ldk_moves_revoked_htlcs_on_while_our_tower_looks() -> Result<()> {
    let cluster = Cluster::start()?;
    let bitcoind = Arc::clone(cluster.bitcoind());
    let mut tower = Tower::on(&bitcoind, Port::free()?.address(), None)?;
    tower.process.kill();
    let named = format!("--wtclient.privatetower={}@{}", tower.id, tower.address);
    let alice = Daemon::new(&bitcoind, "alice", &["--wtclient.active", &named])?;
    let mut cheated = Revoked::of(cluster, alice, Some(tower)).await?;
    let since = cheated.is_published()?;
    let balance = u64::try_from(cheated.channel.remote_balance)?;
    are_taken(&cheated.cluster, &[cheated.output(since, balance)?])?;
    let he = cheated.carol_takes(since, OURS)?;
    are_taken(&cheated.cluster, &[he])?;
    cheated.htlcs_expire()?;
    let ht = cheated.carol_takes(since, THEIRS)?;
    are_taken(&cheated.cluster, &[ht])?;
    bitcoind.mine(cheated.delay()? + 1)?;
    cheated.tower = None;
    cheated.all_is_ours(since).await.map(drop)
}

/// Carol moves one HTLC on before an altruist tower looks: that takes everything else, and Alice
/// this one when she is back within Carol's delay.
#[tokio::test(flavor = "multi_thread")]
async fn ldk_moves_a_revoked_htlc_on_before_an_altruist_tower_looks() -> Result<()> {
    let cluster = Cluster::start()?;
    let bitcoind = Arc::clone(cluster.bitcoind());
    let mut tower = Tower::on(&bitcoind, Port::free()?.address(), None)?;
    tower.process.kill();
    let named = format!("--wtclient.tower={}@{}", tower.id, tower.address);
    let alice = Daemon::new(&bitcoind, "alice", &["--wtclient.active", &named])?;
    let mut cheated = Revoked::of(cluster, alice, Some(tower)).await?;
    let mut tower = cheated.tower.take().context("her tower")?;
    tower.process.kill();
    let since = cheated.is_published()?;
    let published = bitcoind.height()?;
    let he = cheated.carol_takes(since, OURS)?;
    cheated.carol.stop()?;
    let tower = tower.again_for(&bitcoind, None)?;
    let channel = &cheated.channel;
    let balances = [channel.remote_balance, channel.local_balance].map(i64::unsigned_abs);
    for value in balances.into_iter().chain([THEIRS]) {
        are_taken(&cheated.cluster, &[cheated.output(since, value)?])?;
    }
    bitcoind.mine(1)?;
    assert!(bitcoind.mempool()?.is_empty(), "no more is signed for");
    drop(tower);
    // To the last blocks in which Carol has to wait.
    let end = published + cheated.delay()?;
    bitcoind.mine((end - 4).saturating_sub(bitcoind.height()?))?;
    assert!(bitcoind.rpc().get_tx_out(&he.txid, he.vout, None)?.is_some(), "it waits for Alice");
    cheated.all_is_ours(since).await.map(drop)
}
