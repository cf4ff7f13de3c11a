//! A channel that was restored from its backup: D and RD go through the sweeper as every claim
//! does, through restarts, 100 blocks that are gone, and feerates that make the first try too
//! cheap, to the satoshi.

use super::shell::{estimates, Shell};
use super::story::ALICE;
use crate::chain_box::claims::World;
use bitcoin::Transaction;
use fulmen_channel::changeset::{decode, encode};
use fulmen_channel::input::{Command, Input};
use fulmen_channel::keys::InMemorySigner;
use fulmen_channel::onchain::claim::Name;
use fulmen_channel::onchain::resolution::OnChain;
use fulmen_channel::output::Spend;
use fulmen_channel::params::{CommitmentFormat, Side};
use fulmen_channel::protocol::restored::{Own, Restored};
use fulmen_itest::chainbox::{ChainBox, Event};
use fulmen_node::sweeper::OnChain as Told;

const CHEAP: [u32; 4] = [300, 280, 260, 253];
const DEAR: [u32; 4] = [12_000, 11_000, 10_000, 9_000];
/// Blocks that go, and that are above F before.
const GONE: u32 = 100;

/// What is left of Alice's node: a backup, and what the chain did.
struct Lost {
    channel: Restored,
    onchain: OnChain,
    signer: InMemorySigner,
    shell: Shell,
    chain_box: ChainBox,
    spends: Vec<Spend>,
}

impl Lost {
    /// Whose commitment is in the mempool, and the backup that sees it.
    fn begins(format: CommitmentFormat, by: Side) -> (Lost, Transaction) {
        let World { mut chain_box, mut pair, mut coins } = World::open(format, 2);
        pair.alice_pays(400_000_000, 0);
        let params = &pair.alice.open().contract.params;
        let channel = Restored {
            outpoint: pair.alice.open().contract.funding.outpoint,
            format,
            funder: params.funder,
            ours: params.local.basepoints.payment,
            theirs: params.remote.basepoints.payment,
            own: Some(Own {
                revocation: params.remote.basepoints.revocation,
                delay: params.remote.to_self_delay,
            }),
        };
        let publisher = if by == Side::Local { &mut pair.alice } else { &mut pair.bob };
        publisher.handle(Input::Command(Command::ForceClose("lost".into()))).unwrap();
        let commitment = publisher.published.last().unwrap().clone();
        let mut shell = Shell::new(&mut chain_box, coins.pop().unwrap(), ALICE);
        shell.estimates = estimates(CHEAP);
        chain_box.mine(GONE + 10);
        chain_box.events();
        shell.restarts(&chain_box);
        let (onchain, signer) = (OnChain::default(), InMemorySigner::from_seed(ALICE));
        let mut lost = Lost { channel, onchain, signer, shell, chain_box, spends: Vec::new() };
        // Whoever published it sends it again.
        lost.shell.broadcasts(&mut lost.chain_box, &commitment);
        (lost, commitment)
    }

    fn catches_up(&mut self) {
        for event in self.chain_box.events() {
            self.shell.hears(&event);
            match event {
                Event::Connected(height, block) => {
                    for tx in &block.txdata {
                        let spent = self.channel.outpoint;
                        if tx.input.iter().any(|input| input.previous_output == spent) {
                            let (channel, onchain) = (&self.channel, &mut self.onchain);
                            self.spends.push(channel.funding_spent(
                                onchain,
                                tx,
                                height,
                                &self.signer,
                            ));
                        } else if let Some(resolution) = &mut self.onchain.resolution {
                            resolution.take(tx, height);
                        }
                    }
                }
                Event::Disconnected(height, _) => drop(self.onchain.unsee(height)),
                _ => {}
            }
        }
    }

    fn turns(&mut self) {
        let claims = self.channel.claims(&self.onchain, &self.signer);
        let told = claims.map(|(published, claims)| Told { published: published.clone(), claims });
        self.shell.turn_on(&mut self.chain_box, told, None);
    }

    fn mines(&mut self, blocks: u32) {
        for _ in 0..blocks {
            self.turns();
            self.chain_box.mine(1);
            self.catches_up();
        }
    }

    /// The last 100 blocks are gone, and the daemon restarts on what is on its disk.
    fn loses_a_hundred(&mut self) {
        self.chain_box.reorg(GONE);
        self.catches_up();
        self.onchain = decode(&encode(&self.onchain)).unwrap();
        self.shell.restarts(&self.chain_box);
    }

    fn taken(&self) -> usize {
        self.onchain.resolution.as_ref().map_or(0, |resolution| resolution.taken.len())
    }
}

/// One commitment: its balance comes home, whatever the chain does.
fn comes_home(format: CommitmentFormat, by: Side) {
    let (mut lost, commitment) = Lost::begins(format, by);
    lost.mines(1);
    let (published, claims) = lost.channel.claims(&lost.onchain, &lost.signer).unwrap();
    assert_eq!(published.txid, commitment.compute_txid());
    let [claim] = claims.as_slice() else { panic!("{claims:?}") };
    let (name, value) = (claim.name, claim.spend.value().sat());
    let (expected, kind) = match by {
        Side::Local => (Name::RD, Spend::Local),
        Side::Remote => (Name::D, Spend::Remote),
    };
    assert_eq!((name, lost.spends.as_slice()), (expected, [kind].as_slice()));
    // C is gone with a hundred blocks, and comes again.
    lost.loses_a_hundred();
    assert!(lost.onchain.resolution.is_none());
    lost.mines(1);
    let ripe = lost.channel.claims(&lost.onchain, &lost.signer).unwrap().1[0].from;
    while lost.chain_box.chain().height().plus(1) < ripe {
        lost.mines(1);
        assert_eq!(lost.taken(), 0);
    }
    // The first try pays too little for the blocks that follow.
    lost.turns();
    assert_eq!(lost.shell.sent.len(), 1, "{name} is published");
    lost.shell.estimates = estimates(DEAR);
    for _ in 0..30 {
        lost.turns();
        let empty = Vec::new();
        let to = crate::chain_box::beside::to_anybody();
        lost.chain_box.mine_block(empty, fulmen_channel::amount::Sat::ZERO, to).unwrap();
        lost.catches_up();
    }
    assert!(lost.shell.sent.len() > 1, "{name} is paid more for");
    lost.mines(1);
    assert_eq!(lost.taken(), 1);
    // It is gone with a hundred blocks, and comes again.
    lost.mines(GONE - 2);
    lost.loses_a_hundred();
    assert_eq!(lost.taken(), 0);
    lost.mines(GONE + 2 + 144);
    assert_eq!(lost.taken(), 1);
    let paid: Vec<_> = lost.shell.confirmed(&lost.chain_box).collect();
    let [version] = paid.as_slice() else { panic!("{} are in blocks", paid.len()) };
    assert_eq!(lost.shell.gained(&lost.chain_box), value - version.fee.sat());
    assert!(version.fee.sat() < value / 2);
    assert!(lost.channel.claims(&lost.onchain, &lost.signer).unwrap().1.is_empty());
}

#[test]
fn what_a_restored_channel_holds_comes_home_through_the_sweeper() {
    for format in [CommitmentFormat::Anchors, CommitmentFormat::StaticRemoteKey] {
        for by in [Side::Remote, Side::Local] {
            comes_home(format, by);
        }
    }
}
