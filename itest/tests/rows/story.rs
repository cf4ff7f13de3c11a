//! A group of rows, played: commitments are published, and whoever is there takes what it may,
//! block by block, until nothing is left to take. Then the accounts are made.

use std::collections::BTreeSet;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::OutPoint;
use bitcoincore_rpc::RpcApi;
use fulmen_itest::bitcoind::Bitcoind;
use fulmen_itest::failure::Result;
use fulmen_itest::regtest::Daemon;
use fulmen_itest::wait::{self, PATIENCE};
use fulmen_proto::lnrpc::payment::PaymentStatus;
use serde_json::{json, Value};

use super::chain::{waiting_spend, Ledger, Paper, What};
use super::money::{Channel, Output, Tree};
use super::table::{Group, Htlc, Watched, Who};
use super::world::{listed, World};
use crate::sweeps::holds;
use fulmen_channel::params::CommitmentFormat::StaticRemoteKey;

/// Who is there.
#[derive(Clone, Copy, Debug)]
pub struct Here {
    pub alice: bool,
    pub bob: bool,
    pub tower: bool,
}

impl Here {
    pub const ALICE: Here = Here { alice: true, bob: false, tower: false };
    pub const BOTH: Here = Here { alice: true, bob: true, tower: false };
}

/// A group while it is played.
pub struct Play {
    pub world: World,
    pub ledger: Ledger,
    /// What is worth less is not waited for.
    pub least: u64,
    /// The channels whose HTLCs Bob took, though he is gone.
    pub lost: BTreeSet<OutPoint>,
    /// What each wallet held before: Alice's, Bob's.
    before: [i64; 2],
    /// What was spent in blocks that are gone again.
    shaken: BTreeSet<OutPoint>,
}

/// Plays a group from the opening of its channels to the accounts.
pub async fn plays(group: &'static Group) -> Result<()> {
    let mut play = Play::begins(group).await?;
    let tower = group.tower != Watched::Nobody;
    if group.away {
        let htlcs = play.world.channels.iter().flat_map(|channel| &channel.htlcs);
        let expired = htlcs.map(|htlc| htlc.expiry).max().unwrap_or(0);
        // What is done when all HTLCs have expired is done, however often.
        let more = if group.reorgs { 20 } else { 3 };
        play.goes_on(Here { alice: false, bob: group.races, tower }, Some(expired + more)).await?;
        if group.reorgs {
            // It is deep enough for what happens when she is back.
            play.world.bitcoind().mine(6)?;
        }
        play.world.alice.starts().await?;
    } else {
        play.confirms().await?;
        if group.races {
            play.world.bob.starts().await?;
        }
    }
    play.goes_on(Here { alice: true, bob: group.races, tower }, None).await?;
    play.ends().await
}

impl World {
    /// Each row's commitment waits for a block, and those who are to know preimages do.
    async fn publishes(&self) -> Result<()> {
        let group = self.group;
        for daemon in [&self.alice, &self.bob] {
            daemon.stops().await?;
        }
        if self.rows(Who::Revoked).next().is_some() {
            self.bob_forgets()?;
        }
        self.closes(&self.bob, group.bob_knows).await?;
        if group.away {
            return Ok(());
        }
        self.bob.stops().await?;
        self.closes(&self.alice, group.alice_knows).await
    }

    /// A daemon, alone, learns its preimages and closes its rows.
    async fn closes(&self, daemon: &Daemon, knows: bool) -> Result<()> {
        let alice = daemon.name() == self.alice.name();
        holds(daemon, !knows)?;
        daemon.starts().await?;
        if knows {
            let received = self.channels.iter().flat_map(|channel| {
                let late = channel.row.who == Who::Next;
                channel.htlcs.iter().rev().skip(usize::from(late))
            });
            let received = received.filter(|htlc| htlc.by_alice != alice).count();
            daemon
                .until("it settles without its peer", async || {
                    let invoices = daemon.all_invoices().await?;
                    let settled = invoices.iter().filter(|invoice| invoice.amt_paid_msat > 0);
                    Ok((settled.count() == received).then_some(()))
                })
                .await?;
        }
        for channel in self.channels.iter().filter(|it| it.row.is_by_alice() == alice) {
            let listed = listed(daemon, &channel.funding, |_| true).await?;
            drop(daemon.begins_to_close(&listed, true).await?);
            wait::until(format!("{}: C is published", channel.row), PATIENCE, || {
                Ok(waiting_spend(self.bitcoind(), &channel.funding)?.map(drop))
            })?;
        }
        Ok(())
    }
}

/// A block of just these transactions, in hex, whatever waits in the mempool.
pub fn block_of(bitcoind: &Bitcoind, txs: &[String]) -> Result<()> {
    let rpc = bitcoind.rpc();
    // An address of its own, so that no block is one that was invalidated.
    let address = rpc.get_new_address(None, None)?.assume_checked().to_string();
    let _: Value = rpc.call("generateblock", &[json!(address), json!(txs)])?;
    Ok(())
}

/// All coins of a wallet.
async fn held(daemon: &Daemon) -> Result<i64> {
    Ok(daemon.coins().await?.total_balance)
}

impl Play {
    /// All commitments wait for a block. Alice is there, unless she is away.
    pub async fn begins(group: &'static Group) -> Result<Play> {
        let world = World::begins(group).await?;
        let before = [held(&world.alice).await?, held(&world.bob).await?];
        world.publishes().await?;
        let (ledger, shaken) = (Ledger::new(), BTreeSet::new());
        let lost = BTreeSet::new();
        Ok(Play { world, ledger, least: 0, lost, before, shaken })
    }

    /// All commitments are in a block.
    pub async fn confirms(&mut self) -> Result<()> {
        self.goes_on(Here::ALICE, Some(0)).await
    }

    /// Mines, whoever is there following, until nothing of theirs is left that may be taken in the
    /// block `limit` or before. What may be in the next block must wait for it in the mempool.
    pub async fn goes_on(&mut self, here: Here, limit: Option<u64>) -> Result<()> {
        loop {
            let ripe = self.waits(here, limit).await?;
            let next = self.ledger.tip() + 1;
            match self.first(here) {
                _ if !ripe.is_empty() => self.mines(ripe)?,
                Some(first) if limit.is_none_or(|limit| first <= limit) => {
                    self.world.bitcoind().mine(first - next)?;
                }
                _ => return Ok(()),
            }
        }
    }

    /// Waits until all that may be taken in the next block waits for it: what that is, up to
    /// `limit`.
    pub async fn waits(&mut self, here: Here, limit: Option<u64>) -> Result<Vec<OutPoint>> {
        self.follow(here).await?;
        let bitcoind = self.world.bitcoind();
        self.ledger.catches_up(bitcoind)?;
        let last = (self.ledger.tip() + 1).min(limit.unwrap_or(u64::MAX));
        let mut ripe = Vec::new();
        for (outpoint, _, what) in self.open(here).into_iter().filter(|(_, from, _)| *from <= last)
        {
            wait::until(format!("{what}: {outpoint} is taken"), PATIENCE, || {
                Ok(waiting_spend(bitcoind, &outpoint)?.map(drop))
            })?;
            ripe.push(outpoint);
        }
        Ok(ripe)
    }

    async fn follow(&self, here: Here) -> Result<()> {
        let daemons = [(here.alice, &self.world.alice), (here.bob, &self.world.bob)];
        for (_, daemon) in daemons.into_iter().filter(|(here, _)| *here) {
            daemon.is_at_tip().await?;
        }
        Ok(())
    }

    /// A block with what waits. If `taken` is spent for the first time it is gone again, with the
    /// five before it.
    fn mines(&mut self, taken: Vec<OutPoint>) -> Result<()> {
        self.world.bitcoind().mine(1)?;
        let known = self.shaken.len();
        self.shaken.extend(taken);
        if !self.world.group.reorgs || self.shaken.len() == known {
            return Ok(());
        }
        self.loses(6)
    }

    /// So many blocks are gone, and others there that hold nothing but the commitments: without
    /// these either side may publish its own anew, which is as good and another row.
    pub fn loses(&mut self, blocks: u64) -> Result<()> {
        let bitcoind = self.world.bitcoind();
        self.ledger.catches_up(bitcoind)?;
        let first = self.ledger.tip() + 1 - blocks;
        let spends = self.world.channels.iter().map(|it| self.ledger.spend(&it.funding));
        let commitments = spends.flatten().map(|(txid, _)| self.ledger.tx(&txid));
        let gone = commitments.filter(|(height, _)| *height >= first);
        let again: Vec<String> = gone.map(|(_, tx)| serialize_hex(tx)).collect();
        let rpc = bitcoind.rpc();
        rpc.invalidate_block(&rpc.get_block_hash(first)?)?;
        block_of(bitcoind, &again)?;
        (0..blocks).try_for_each(|_| block_of(bitcoind, &[]))
    }

    /// What became of each channel.
    pub fn trees(&self) -> Vec<(&Channel, Tree)> {
        let channels = self.world.channels.iter();
        channels.filter_map(|channel| Some((channel, channel.tree(&self.ledger)?))).collect()
    }

    /// When the next of that may be taken.
    pub fn first(&self, here: Here) -> Option<u64> {
        self.open(here).into_iter().map(|(_, from, _)| from).min()
    }

    /// What those who are there may take and have not, the first block that may hold that, and
    /// what it is.
    fn open(&self, here: Here) -> Vec<(OutPoint, u64, String)> {
        let mut open = Vec::new();
        for channel in &self.world.channels {
            let Some(tree) = channel.tree(&self.ledger) else {
                open.push((channel.funding, 0, format!("{}: F", channel.row)));
                continue;
            };
            let left = tree.outputs.iter().filter(|output| output.spent.is_none());
            for output in left.filter(|output| output.value >= self.least) {
                let from = channel.earliest(output, here, self.world.group);
                let what = format!("{}: {:?}", channel.row, output.what);
                open.extend(from.map(|from| (output.outpoint, from, what)));
            }
        }
        open
    }

    /// The accounts.
    pub async fn ends(&mut self) -> Result<()> {
        let World { group, alice, bob, .. } = &self.world;
        // What is found out about payments counts when it is deep.
        self.world.bitcoind().mine(6)?;
        self.follow(Here { alice: true, bob: group.races, tower: false }).await?;
        self.ledger.catches_up(self.world.bitcoind())?;
        println!("{}", group.name);
        let (mut paid, mut papers) = (0, Vec::new());
        for channel in &self.world.channels {
            let tree = channel.tree(&self.ledger).expect("a commitment");
            let due = channel.due(&tree, true, |htlc| self.to_alice(channel, htlc));
            channel.balances_out(&tree, due);
            paid += tree.paid(channel);
            papers.push((channel.row, tree.papers()));
            let row = channel.row;
            if group.bob_knows && row.is_cheat_of_many() {
                assert!(tree.together() > 1, "{row}: the cheater puts second stages together");
            }
        }
        for (row, papers) in &papers {
            println!("  {row}: {papers:?}");
            let missing: Vec<_> = row.shows.iter().filter(|it| !papers.contains(it)).collect();
            assert!(missing.is_empty(), "{row}: there is no {missing:?} in {papers:?}");
        }
        self.has(alice, true, self.before[0]).await?;
        if group.races {
            self.has(bob, false, self.before[1]).await?;
        }
        self.knows(alice, paid).await
    }

    /// Who an HTLC goes to.
    fn to_alice(&self, channel: &Channel, htlc: &Htlc) -> Option<bool> {
        let group = self.world.group;
        match (htlc.by_alice, group.races) {
            _ if self.lost.contains(&channel.funding) => Some(false),
            // Bob shows the preimage at once, while Alice has to wait. Nobody tells that of one
            // which is not on both commitments for good.
            (true, true) => Some(!group.bob_knows || htlc.is_late()),
            (true, false) => Some(true),
            (false, _) if group.alice_knows => Some(true),
            (false, races) => races.then_some(false),
        }
    }

    /// A side took what is due to it, and its wallet holds that but for its fees.
    async fn has(&self, daemon: &Daemon, alice: bool, before: i64) -> Result<()> {
        let (mut gained, mut txids) = (0, BTreeSet::new());
        for channel in &self.world.channels {
            let tree = channel.tree(&self.ledger).expect("a commitment");
            let taken = channel.taken(&tree, alice);
            let due = channel.due(&tree, alice, |htlc| self.to_alice(channel, htlc));
            assert_eq!(taken.sat, due, "{}: {}'s", channel.row, daemon.name());
            gained += due;
            txids.extend(taken.txids);
        }
        let fees: u64 = txids.iter().map(|txid| self.ledger.fee(txid)).sum();
        let expected = before + gained - i64::try_from(fees)?;
        println!("  {}: {before} + {gained} - {fees}", daemon.name());
        let mut last = 0;
        let found = daemon.until("its wallet holds what is due", async || {
            last = held(daemon).await?;
            Ok((last == expected).then_some(()))
        });
        let found = found.await;
        assert_eq!(last, expected, "{}", daemon.name());
        found
    }

    /// Each payment of Alice's is told to be paid, or not.
    async fn knows(&self, alice: &Daemon, paid: usize) -> Result<()> {
        alice
            .until("the fate of each payment is told", async || {
                let payments = alice.payments().await?;
                let ended = |status| payments.iter().filter(|it| it.status() == status).count();
                let (good, bad) = (ended(PaymentStatus::Succeeded), ended(PaymentStatus::Failed));
                Ok((good == paid && good + bad == payments.len()).then_some(()))
            })
            .await
    }
}

impl Tree {
    /// How many of the HTLCs that Alice offered were taken with the preimage.
    fn paid(&self, channel: &Channel) -> usize {
        let spent = self.outputs.iter().filter_map(|it| Some((it.what, it.spent?.1)));
        let by_preimage = spent.filter(|(_, paper)| matches!(paper, Paper::HE | Paper::HED));
        let htlcs = by_preimage.filter_map(|(what, _)| match what {
            What::Htlc(place) => channel.htlcs.get(place),
            _ => None,
        });
        htlcs.filter(|htlc| htlc.by_alice).count()
    }
}

impl Channel {
    /// The first block in which somebody who is there may spend an output.
    fn earliest(&self, output: &Output, here: Here, group: &Group) -> Option<u64> {
        let by_alice = self.row.is_by_alice();
        let [publisher, other] =
            if by_alice { [here.alice, here.bob] } else { [here.bob, here.alice] };
        let revoked = self.row.who == Who::Revoked;
        let is_static = self.row.format == StaticRemoteKey;
        let tower = |kind| here.tower && group.tower == kind;
        let (private, altruist) = (tower(Watched::Private), tower(Watched::Altruist));
        let (next, deep) = (output.height + 1, output.height + self.to_self_delay);
        let when = |who: bool, from: u64| who.then_some(from);
        let ways = match output.what {
            What::ToLocal => {
                vec![when(publisher, deep), when(revoked && (other || private || altruist), next)]
            }
            What::ToRemote => vec![when(other || altruist, next)],
            What::Anchor => vec![],
            What::Htlc(place) => {
                let htlc = &self.htlcs[place];
                let expired = (htlc.expiry + 1).max(next);
                let sides =
                    if htlc.by_alice { [here.alice, here.bob] } else { [here.bob, here.alice] };
                let told = if htlc.by_alice { group.bob_knows } else { group.alice_knows };
                vec![
                    when(sides[0], expired),
                    when(sides[1] && told && !htlc.is_late(), next),
                    when(revoked && (other || altruist), next),
                ]
            }
            What::Second(..) => vec![
                when(publisher, deep),
                when(revoked && (other || private || (altruist && is_static)), next),
            ],
        };
        ways.into_iter().flatten().min()
    }
}
