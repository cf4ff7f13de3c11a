//! The daemons of a group and their channels, up to what is in flight and who knows what.

use std::fs;

use bitcoin::secp256k1::PublicKey;
use bitcoin::OutPoint;
use fulmen_channel::amount::{FeeratePerKw, Msat, Sat};
use fulmen_channel::params::CommitmentFormat;
use fulmen_itest::bitcoind::Bitcoind;
use fulmen_itest::failure::{Context, Result};
use fulmen_itest::places;
use fulmen_itest::port::Port;
use fulmen_itest::proxy::{Answers, Proxy};
use fulmen_itest::regtest::{Cluster, Daemon, Peer};
use fulmen_itest::wait::{self, PATIENCE};
use fulmen_proto::lnrpc::{self, AddressType, CommitmentType, Invoice, NewAddressRequest};
use fulmen_proto::routerrpc::SendPaymentRequest;
use tempfile::TempDir;

use super::money::Channel;
use super::table::{Group, Htlc, Watched, Who, CAPACITY, GONE, PUSHED};
use crate::sweeps::holds;
use fulmen_itest::tower::Tower;

/// Coins of each wallet that pay for second stages.
const COINS: u64 = 12;
const COIN: Sat = Sat::new(100_000);

/// A chain, both daemons, what is between them and around them.
pub struct World {
    pub group: &'static Group,
    pub cluster: Cluster,
    pub alice: Daemon,
    pub bob: Daemon,
    pub tower: Option<Tower>,
    /// Alice connects to Bob through it.
    proxy: Proxy,
    /// Alice asks bitcoind through it, in groups that say so.
    pub asks: Proxy,
    pub channels: Vec<Channel>,
    /// Bob's folder before he revoked.
    old: TempDir,
}

/// Bob, as Alice reaches him.
struct Behind<'a>(&'a Daemon, &'a Proxy);

impl Peer for Behind<'_> {
    fn node_id(&self) -> Result<PublicKey> {
        self.0.id()
    }

    fn address(&self) -> String {
        self.1.address()
    }

    async fn invoices(&self, amount: Msat, memo: &str) -> Result<String> {
        self.0.invoices(amount, memo).await
    }

    async fn has_channel_with(&self, other: PublicKey) -> Result<()> {
        self.0.has_channel_with(other).await
    }
}

/// Coins for what is to be paid for beside a claim, and one of `large`.
async fn receives(daemon: &Daemon, large: Sat) -> Result<()> {
    let bitcoind = daemon.bitcoind();
    let kind = AddressType::WitnessPubkeyHash.into();
    let request = NewAddressRequest { r#type: kind, ..NewAddressRequest::default() };
    let address = daemon.lightning().await?.new_address(request).await?.into_inner().address;
    let address = address.parse::<bitcoin::Address<_>>()?.assume_checked();
    for _ in 0..COINS {
        bitcoind.send_to(&address, COIN)?;
    }
    bitcoind.send_to(&address, large)?;
    bitcoind.mine(1)?;
    let sum = i64::try_from(COIN.sat() * COINS + large.sat())?;
    daemon
        .until("the coins arrive", async || {
            Ok((daemon.coins().await?.confirmed_balance == sum).then_some(()))
        })
        .await
}

impl World {
    /// Both daemons with a channel for each row, and in each what its row has in flight.
    pub async fn begins(group: &'static Group) -> Result<World> {
        let cluster = Cluster::start()?;
        let bitcoind = cluster.bitcoind();
        let mut tower = match group.tower {
            Watched::Nobody => None,
            _ => Some(Tower::on(bitcoind, Port::free()?.address(), None)?),
        };
        let named = tower.as_ref().map(|tower| {
            let kind = if group.tower == Watched::Private { "privatetower" } else { "tower" };
            format!("--wtclient.{kind}={}@{}", tower.id, tower.address)
        });
        let many = "--maxpendingchannels=30";
        let mut flags = vec![many];
        if let Some(named) = &named {
            flags.extend(["--wtclient.active", "--wtclient.sweep-fee-rate=3", named]);
        }
        let asks = Proxy::to(bitcoind.rpc_address())?;
        let through = format!("--bitcoind.rpchost={}", asks.address());
        flags.extend(group.told.then_some(through.as_str()));
        let alice = Daemon::new(bitcoind, "alice", &flags)?;
        let bob = Daemon::new(bitcoind, "bob", &[many])?;
        for daemon in [&alice, &bob] {
            holds(daemon, true)?;
            daemon.starts().await?;
        }
        if group.tower == Watched::Private {
            let owner = alice.id()?;
            tower = tower.map(|tower| tower.again_for(bitcoind, Some(owner))).transpose()?;
        }
        let rows = u64::try_from(group.rows.len())?;
        receives(&alice, Sat::new((CAPACITY.sat() + 100_000) * rows)).await?;
        receives(&bob, COIN).await?;
        let proxy = Proxy::to_peer(bob.listen_address())?;
        let old = places::temporary("old")?;
        let channels = Vec::new();
        let mut world = World { group, cluster, alice, bob, tower, proxy, asks, channels, old };
        world.opens().await?;
        world.offers().await?;
        world.goes_on().await?;
        Ok(world)
    }

    pub fn bitcoind(&self) -> &Bitcoind {
        self.cluster.bitcoind()
    }

    async fn opens(&mut self) -> Result<()> {
        let (alice, bob) = (&self.alice, &self.bob);
        let peer = Behind(bob, &self.proxy);
        alice.connects(&peer).await?;
        let mut funded = Vec::new();
        for row in self.group.rows {
            let format = match row.format {
                CommitmentFormat::Anchors => CommitmentType::Anchors,
                CommitmentFormat::StaticRemoteKey => CommitmentType::StaticRemoteKey,
            };
            let outpoint = alice.begins_to_open(&peer, CAPACITY, |open| {
                open.push_sat = PUSHED.sat() as i64;
                open.set_commitment_type(format);
            });
            funded.push((row, outpoint.await?));
        }
        wait::until("all funding transactions are published", PATIENCE, || {
            let waiting = self.bitcoind().mempool()?;
            Ok(funded.iter().all(|(_, out)| waiting.contains(&out.txid)).then_some(()))
        })?;
        // So deep that six blocks less change nothing.
        self.bitcoind().mine(12)?;
        for (row, funding) in funded {
            let channel = listed(alice, &funding, |channel| channel.active).await?;
            let of_bob = listed(bob, &funding, |channel| channel.active).await?;
            let publisher = if row.is_by_alice() { &channel } else { &of_bob };
            let limits = publisher.local_constraints.context("its limits")?;
            self.channels.push(Channel {
                row,
                funding,
                scid: channel.chan_id,
                feerate: FeeratePerKw::new(u32::try_from(channel.fee_per_kw)?),
                dust: limits.dust_limit_sat,
                to_self_delay: u64::from(limits.csv_delay),
                htlcs: row.htlcs(),
            });
        }
        for daemon in [alice, bob] {
            daemon.is_at_tip().await?;
        }
        Ok(())
    }

    /// What is in flight in each channel is on both commitments for good.
    async fn offers(&mut self) -> Result<()> {
        let mut channels = std::mem::take(&mut self.channels);
        for channel in &channels {
            for htlc in &channel.htlcs {
                self.offer(channel, htlc, self.group.blocks + htlc.blocks).await?;
            }
        }
        for channel in &mut channels {
            self.locked(channel, channel.htlcs.len()).await?;
            let known = listed(&self.alice, &channel.funding, |_| true).await?.pending_htlcs;
            for htlc in &mut channel.htlcs {
                htlc.expires(&known)?;
            }
        }
        self.channels = channels;
        Ok(())
    }

    async fn offer(&self, channel: &Channel, htlc: &Htlc, blocks: u64) -> Result<()> {
        let sides = [&self.bob, &self.alice];
        let (payer, payee) =
            (sides[usize::from(htlc.by_alice)], sides[usize::from(!htlc.by_alice)]);
        let value_msat = i64::try_from(htlc.amount.msat())?;
        let invoice = Invoice { value_msat, cltv_expiry: blocks, ..Invoice::default() };
        let invoice = payee.lightning().await?.add_invoice(invoice).await?.into_inner();
        let request = SendPaymentRequest {
            payment_request: invoice.payment_request,
            outgoing_chan_ids: vec![channel.scid],
            timeout_seconds: 600,
            ..SendPaymentRequest::default()
        };
        payer.router().await?.send_payment_v2(request).await?;
        Ok(())
    }

    /// Waits until both have so many HTLCs on both commitments for good.
    async fn locked(&self, channel: &Channel, count: usize) -> Result<()> {
        for daemon in [&self.alice, &self.bob] {
            listed(daemon, &channel.funding, |channel| {
                channel.pending_htlcs.iter().filter(|htlc| htlc.locked_in).count() == count
            })
            .await?;
        }
        Ok(())
    }

    /// Bob revokes what he is to publish later, or gets what he cannot answer.
    async fn goes_on(&mut self) -> Result<()> {
        let cheats = self.rows(Who::Revoked).next().is_some();
        if cheats {
            self.bob.stops().await?;
            places::copy_all(self.bob.dir(), &self.old.path().join("bob"))?;
            self.bob.starts().await?;
            // The tower is away when he revokes.
            if let Some(tower) = &mut self.tower {
                tower.process.kill();
            }
        } else if self.rows(Who::Next).next().is_some() {
            self.proxy.set(Answers::Hold);
        }
        for place in 0..self.channels.len() {
            let channel = &self.channels[place];
            let Some(mut late) = channel.row.late() else { continue };
            let count = channel.htlcs.len() + 1;
            let active = |channel: &lnrpc::Channel| channel.active;
            let before = listed(&self.bob, &channel.funding, active).await?.num_updates;
            listed(&self.alice, &channel.funding, active).await?;
            self.offer(channel, &late, GONE.blocks).await?;
            if cheats {
                self.locked(channel, count).await?;
                continue;
            }
            // His revocation is on hold.
            let signed = |channel: &lnrpc::Channel| channel.num_updates > before;
            let channel = listed(&self.bob, &channel.funding, signed).await?;
            late.expires(&channel.pending_htlcs)?;
            self.channels[place].htlcs.push(late);
        }
        self.tower_is_told()
    }

    /// The tower is back, and Alice hands it what she must.
    fn tower_is_told(&mut self) -> Result<()> {
        let Some(tower) = self.tower.take() else { return Ok(()) };
        let alice = &self.alice;
        let says = |what: &str| {
            let waits = format!("Alice says: {what}");
            wait::until(waits, PATIENCE, || Ok(alice.wrote()?.contains(what).then_some(())))
        };
        says(&format!("watchtower {}: ", tower.id))?;
        let owner = (self.group.tower == Watched::Private).then_some(alice.id()?);
        let tower = tower.again_for(self.bitcoind(), owner)?;
        says(&format!("watchtower {} is up to date", tower.id))?;
        self.tower = Some(tower);
        Ok(())
    }

    /// The channels of such a row.
    pub fn rows(&self, who: Who) -> impl Iterator<Item = &Channel> {
        self.channels.iter().filter(move |channel| channel.row.who == who)
    }

    /// Bob, who is off, goes back to before he revoked.
    pub fn bob_forgets(&self) -> Result<()> {
        fs::remove_dir_all(self.bob.dir())?;
        places::copy_all(&self.old.path().join("bob"), self.bob.dir())
    }
}

/// A channel of a daemon's, once it is as wanted.
pub async fn listed(
    daemon: &Daemon,
    funding: &OutPoint,
    wanted: impl Fn(&lnrpc::Channel) -> bool,
) -> Result<lnrpc::Channel> {
    let point = funding.to_string();
    daemon
        .until("the channel is as wanted", async || {
            let mut channels = daemon.channels().await?.into_iter();
            Ok(channels.find(|channel| channel.channel_point == point && wanted(channel)))
        })
        .await
}

impl Htlc {
    /// Learns its expiry from what a daemon lists.
    fn expires(&mut self, listed: &[lnrpc::Htlc]) -> Result<()> {
        let amount = i64::try_from(self.sat())?;
        let found = listed.iter().find(|htlc| htlc.amount == amount);
        self.expiry = u64::from(found.context("the HTLC is listed")?.expiration_height);
        Ok(())
    }
}
