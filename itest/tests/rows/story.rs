//! A group of rows, played: commitments are published, and whoever is there takes what it may,
//! block by block, until nothing is left to take. Then the accounts are made.

use std::collections::BTreeSet;

use bitcoin::OutPoint;
use bitcoincore_rpc::RpcApi;
use fulmen_itest::failure::Result;
use fulmen_itest::regtest::Daemon;
use fulmen_itest::wait::{self, PATIENCE};
use fulmen_proto::lnrpc::payment::PaymentStatus;
use serde_json::{json, Value};

use super::chain::{waiting_spend, Ledger, Paper, What};
use super::money::{Channel, Output, Tree};
use super::table::{Group, Htlc, Watched, Who};
use super::world::{holds, listed, World};
use fulmen_channel::params::CommitmentFormat::StaticRemoteKey;

/// Who is there.
#[derive(Clone, Copy, Debug)]
struct Here {
    alice: bool,
    bob: bool,
    tower: bool,
}

/// What each wallet held before.
struct Before {
    alice: i64,
    bob: i64,
}

/// The chain while the group is played.
struct Play<'a> {
    world: &'a World,
    ledger: Ledger,
    /// What was spent in blocks that are gone again.
    shaken: BTreeSet<OutPoint>,
}

impl World {
    /// Plays a group from the opening of its channels to the accounts.
    pub async fn plays(group: &'static Group) -> Result<()> {
        let world = World::begins(group).await?;
        let before = Before { alice: held(&world.alice).await?, bob: held(&world.bob).await? };
        world.publishes().await?;
        let mut play = Play { world: &world, ledger: Ledger::new(), shaken: BTreeSet::new() };
        let tower = group.tower != Watched::Nobody;
        let expired = world.channels.iter().flat_map(|it| &it.htlcs).map(|it| it.expiry).max();
        if group.away {
            // Until all HTLCs have expired, and what is done then is done.
            let here = Here { alice: false, bob: group.races, tower };
            play.goes_on(here, Some(expired.unwrap_or(0) + 3)).await?;
            world.alice.starts().await?;
        } else {
            // All commitments are in the block when somebody acts on one.
            play.goes_on(Here { alice: true, bob: false, tower: false }, Some(0)).await?;
            if group.races {
                world.bob.starts().await?;
            }
        }
        play.goes_on(Here { alice: true, bob: group.races, tower }, None).await?;
        play.ends(&before).await
    }

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

/// All coins of a wallet.
async fn held(daemon: &Daemon) -> Result<i64> {
    Ok(daemon.coins().await?.total_balance)
}

impl Play<'_> {
    /// Mines, whoever is there following, until nothing of theirs is left, or nothing of it before
    /// the block `limit`. What may be taken in the next block must wait for it in the mempool.
    async fn goes_on(&mut self, here: Here, limit: Option<u64>) -> Result<()> {
        let bitcoind = self.world.bitcoind();
        loop {
            self.follow(here).await?;
            self.ledger.catches_up(bitcoind)?;
            let next = self.ledger.tip() + 1;
            let open = self.open(here);
            let ripe: Vec<_> = open.iter().filter(|(_, from, _)| *from <= next).collect();
            for (outpoint, _, what) in &ripe {
                wait::until(format!("{what}: {outpoint} is taken"), PATIENCE, || {
                    Ok(waiting_spend(bitcoind, outpoint)?.map(drop))
                })?;
            }
            let first = open.iter().map(|(_, from, _)| *from).min();
            match first {
                _ if !ripe.is_empty() => self.mines(ripe.iter().map(|(out, ..)| *out).collect())?,
                Some(first) if limit.is_none_or(|limit| first <= limit) => {
                    bitcoind.mine(first - next)?;
                }
                _ => return Ok(()),
            }
        }
    }

    async fn follow(&self, here: Here) -> Result<()> {
        let daemons = [(here.alice, &self.world.alice), (here.bob, &self.world.bob)];
        for (_, daemon) in daemons.into_iter().filter(|(here, _)| *here) {
            daemon.is_at_tip().await?;
        }
        Ok(())
    }

    /// A block with what waits. If `taken` is spent for the first time it is gone again, with the
    /// five before it, and others are there that hold nothing.
    fn mines(&mut self, taken: Vec<OutPoint>) -> Result<()> {
        let bitcoind = self.world.bitcoind();
        bitcoind.mine(1)?;
        let known = self.shaken.len();
        self.shaken.extend(taken);
        if !self.world.group.reorgs || self.shaken.len() == known {
            return Ok(());
        }
        let rpc = bitcoind.rpc();
        let first = rpc.get_block_hash(bitcoind.height()? - 5)?;
        rpc.invalidate_block(&first)?;
        let address = rpc.get_new_address(None, None)?.assume_checked().to_string();
        for _ in 0..7 {
            let _: Value = rpc.call("generateblock", &[json!(address), json!([])])?;
        }
        Ok(())
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
            for output in tree.outputs.iter().filter(|output| output.spent.is_none()) {
                let from = channel.earliest(output, here, self.world.group);
                let what = format!("{}: {:?}", channel.row, output.what);
                open.extend(from.map(|from| (output.outpoint, from, what)));
            }
        }
        open
    }

    /// The accounts.
    async fn ends(&mut self, before: &Before) -> Result<()> {
        let World { group, alice, bob, .. } = self.world;
        // What is found out about payments counts when it is deep.
        self.world.bitcoind().mine(6)?;
        self.follow(Here { alice: true, bob: group.races, tower: false }).await?;
        self.ledger.catches_up(self.world.bitcoind())?;
        println!("{}", group.name);
        let (mut paid, mut papers) = (0, Vec::new());
        for channel in &self.world.channels {
            let tree = channel.tree(&self.ledger).expect("a commitment");
            let due = channel.due(&tree, true, |htlc| self.to_alice(htlc));
            channel.balances_out(&tree, due);
            paid += tree.paid(channel);
            papers.push((channel.row, tree.papers()));
        }
        for (row, papers) in &papers {
            println!("  {row}: {papers:?}");
            let missing: Vec<_> = row.shows.iter().filter(|it| !papers.contains(it)).collect();
            assert!(missing.is_empty(), "{row}: there is no {missing:?} in {papers:?}");
        }
        self.has(alice, true, before.alice).await?;
        if group.races {
            self.has(bob, false, before.bob).await?;
        }
        self.knows(alice, paid).await
    }

    /// Who an HTLC goes to.
    fn to_alice(&self, htlc: &Htlc) -> Option<bool> {
        let group = self.world.group;
        match (htlc.by_alice, group.races) {
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
            let due = channel.due(&tree, alice, |htlc| self.to_alice(htlc));
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
