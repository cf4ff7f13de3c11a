//! What a commitment leaves, taken on the chain in a box: relay refuses each claim in every block
//! before its first one, by BIP 68's clock or its lock time, and takes it in that one.

#[allow(dead_code, reason = "the channel's own tests use all of it")]
#[path = "../../../channel/tests/support/mod.rs"]
pub mod support;

use std::collections::BTreeSet;

use bitcoin::absolute::LockTime;
use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut, Witness};
use fulmen_channel::amount::{Height, Sat};
use fulmen_channel::channel::Channel;
use fulmen_channel::input::{Command, Input};
use fulmen_channel::keys::{InMemorySigner, Inline, Signer};
use fulmen_channel::message::Message;
use fulmen_channel::onchain::claim::{Claim, Pays};
use fulmen_channel::onchain::identify;
use fulmen_channel::onchain::published::Published;
use fulmen_channel::onchain::resolution::Resolution;
use fulmen_channel::output::Event;
use fulmen_channel::params::CommitmentFormat;
use fulmen_channel::script::anchor::witness_script;
use fulmen_itest::chainbox::ChainBox;
use support::{wallet_script, Pair, Party, LEGACY};

use super::beside::{anybody, spend, to_anybody, Coin};

const FORMATS: [CommitmentFormat; 2] =
    [CommitmentFormat::Anchors, CommitmentFormat::StaticRemoteKey];
const ALICE: [u8; 32] = [1; 32];
const BOB: [u8; 32] = [2; 32];
/// What each claim pays.
pub const FEE: u64 = 1_000;

/// A channel whose F is in the box, and coins that pay for second stages.
pub struct World {
    pub chain_box: ChainBox,
    pub pair: Pair,
    pub coins: Vec<Coin>,
}

impl World {
    pub fn open(format: CommitmentFormat, coins: u32) -> World {
        let mut chain_box = ChainBox::new();
        for _ in 0..coins {
            chain_box.mine_to(to_anybody()).unwrap();
        }
        chain_box.mine(101);
        let mut coins: Vec<Coin> = chain_box
            .chain()
            .coins()
            .filter(|(_, coin)| coin.output.script_pubkey == to_anybody())
            .map(|(outpoint, coin)| (*outpoint, coin.output.value.to_sat()))
            .collect();
        let mut pair = opened(format);
        let request = pair.alice.events.iter().find_map(|event| match event {
            Event::FundingNeeded(request) => Some(request.clone()),
            _ => None,
        });
        let request = request.unwrap();
        let mut funding = spend(&[coins.pop().unwrap()], FEE);
        let change = funding.output[0].value - request.amount.to_amount();
        funding.output[0] =
            TxOut { value: request.amount.to_amount(), script_pubkey: request.script };
        funding.output.push(TxOut { value: change, script_pubkey: to_anybody() });
        pair.alice.handle(Input::Command(Command::Fund(Box::new(funding)))).unwrap();
        pair.talk();
        for tx in &pair.alice.published {
            chain_box.submit(tx).unwrap();
        }
        chain_box.mine(3);
        pair.confirms(3);
        World { chain_box, pair, coins }
    }

    /// Four HTLCs, two each way; of each two the receiver knows the first one's preimage.
    fn with_htlcs(format: CommitmentFormat) -> World {
        let mut world = World::open(format, 4);
        let pair = &mut world.pair;
        pair.alice_pays(400_000_000, 0);
        for (n, msat) in [(1, 50_000_000), (2, 40_000_000)] {
            pair.alice.handle(Party::offer(n, msat)).unwrap();
            pair.bob.handle(Party::offer(n + 2, msat + 5_000_000)).unwrap();
        }
        pair.talk();
        pair.bob.fulfills(1);
        pair.alice.fulfills(3);
        pair.alice.sent.clear();
        pair.bob.sent.clear();
        world
    }

    /// Alice's commitment, in a block.
    fn alice_publishes(&mut self) -> Transaction {
        let command = Command::ForceClose("gone".into());
        self.pair.alice.handle(Input::Command(command)).unwrap();
        let tx = self.pair.alice.published.last().unwrap().clone();
        self.chain_box.submit(&tx).unwrap();
        self.chain_box.mine(1);
        assert!(self.chain_box.mempool().entries().is_empty());
        tx
    }

    /// Tries every claim of a side in every block until all is taken: what was taken, in order.
    fn takes_all(&mut self, alice: bool, tx: &Transaction) -> Vec<String> {
        let seed = if alice { ALICE } else { BOB };
        let party = if alice { &self.pair.alice } else { &self.pair.bob };
        let contract = &party.open().contract;
        let signer = InMemorySigner::from_seed(seed);
        let published = identify::published(contract, tx, &signer, &[]).unwrap();
        let mut resolution = Resolution::new(published, self.chain_box.chain().height());
        let (mut taken, mut waited) = (Vec::new(), BTreeSet::new());
        while !resolution.claims(contract).is_empty() {
            let next = self.chain_box.chain().height().plus(1);
            assert!(next < Height::new(1_000), "{:?}", resolution.claims(contract));
            for claim in resolution.claims(contract) {
                let tx = take(&claim, &resolution.published, (seed, 9), self.coins.last().copied());
                let verdict = self.chain_box.submit(&tx);
                match &verdict {
                    Ok(_) => taken.push(claim.name.to_string()),
                    Err(why) => {
                        assert!(["non-final", "non-BIP68-final"].contains(&why.reason()), "{why}");
                        waited.insert(claim.name.to_string());
                    }
                }
                let may = claim.from <= next;
                assert_eq!(verdict.is_ok(), may, "{} in {next:?}: {verdict:?}", claim.name);
                if verdict.is_ok() && tx.input.len() > 1 {
                    self.coins.pop();
                }
            }
            let tip = self.chain_box.mine(1)[0];
            let (height, block) = self.chain_box.chain().block(&tip).unwrap();
            for tx in &block.txdata {
                resolution.see(tx, height, contract);
            }
        }
        assert!(!waited.is_empty(), "nothing was ever too early");
        taken
    }
}

/// Both up to where Alice needs F.
/// A channel that both agreed on; nobody has funded it yet.
pub fn opened(format: CommitmentFormat) -> Pair {
    let (mut alice, policy) = Pair::proposing(|open, _| open.channel_type.format = format);
    let Some(Message::OpenChannel(open)) = alice.sent.pop_front() else { panic!("no open") };
    let signer = Box::new(InMemorySigner::from_seed(BOB));
    let bob = Channel::accept(&open, policy, signer, std::sync::Arc::new(Inline)).unwrap();
    let mut bob = Party::new("bob", bob, BOB);
    bob.drain();
    let mut pair = Pair { alice, bob, negotiated: LEGACY };
    pair.talk();
    pair
}

/// The transaction that takes a claim, with a fee: off what it pays, or from `coin` where the
/// peer's signature fixes that.
pub fn take(
    claim: &Claim,
    on: &Published,
    (seed, wallet): ([u8; 32], u8),
    coin: Option<Coin>,
) -> Transaction {
    let none: (OutPoint, u64) = (claim.spend.outpoint, 0);
    let mut tx = spend(&[none], 0);
    tx.lock_time = LockTime::from_consensus(claim.spend.lock_time.number());
    tx.input = vec![claim.spend.input()];
    match &claim.pays {
        Pays::Anything => {
            let value = claim.spend.value().saturating_sub(Sat::new(FEE)).to_amount();
            tx.output = vec![TxOut { value, script_pubkey: wallet_script(wallet) }];
        }
        Pays::Only(output) => tx.output = vec![output.clone()],
        Pays::Beside(output) => {
            let (previous_output, value) = coin.expect("a coin for the fee");
            let change = spend(&[(previous_output, value)], FEE);
            tx.input.extend(change.input);
            tx.output = vec![output.clone()];
            tx.output.extend(change.output);
        }
    }
    let signer = InMemorySigner::from_seed(seed);
    assert!(claim.sign(on, &mut tx, 0, (&signer, &Inline)));
    tx
}

#[test]
fn the_publisher_waits_for_each_of_its_claims() {
    for format in FORMATS {
        let mut world = World::with_htlcs(format);
        let tx = world.alice_publishes();
        let taken = world.takes_all(true, &tx);
        assert_eq!(taken, ["HE", "RD", "HERD", "HT", "HT", "HTRD", "HTRD"], "{format:?}");
    }
}

#[test]
fn the_other_side_waits_for_expiries_only() {
    for format in FORMATS {
        let mut world = World::with_htlcs(format);
        let tx = world.alice_publishes();
        let mut taken = world.takes_all(false, &tx);
        taken[..2].sort();
        assert_eq!(taken, ["D", "HED", "HTD", "HTD"], "{format:?}");
    }
}

#[test]
fn a_commitment_below_the_mempools_minimum_waits_for_better_days() {
    let mut world = World::open(CommitmentFormat::Anchors, 4);
    world.chain_box.set_minimum(fulmen_itest::chainbox::policy::PerKvb::new(20_000));
    let command = Command::ForceClose("gone".into());
    world.pair.alice.handle(Input::Command(command)).unwrap();
    let tx = world.pair.alice.published.last().unwrap().clone();
    let why = world.chain_box.submit(&tx).unwrap_err();
    assert_eq!(why.reason(), "mempool min fee not met");

    // Its anchor's owner pays for both.
    let signer = InMemorySigner::from_seed(ALICE);
    let script = witness_script(&signer.basepoints().funding).to_p2wsh();
    let vout = tx.output.iter().position(|output| output.script_pubkey == script).unwrap();
    let anchor = OutPoint { txid: tx.compute_txid(), vout: vout as u32 };
    let child = bumps(anchor, &tx.output[vout], &signer, world.coins[0]);
    let judged = world.chain_box.submit_package(&[tx.clone(), child]).unwrap();
    assert!(judged.refused.is_empty(), "{:?}", judged.refused);
    assert_eq!(judged.accepted.len(), 2);
    world.chain_box.mine(1);
    assert!(world.chain_box.chain().find(&tx.compute_txid()).is_some());
}

/// A child of a commitment's anchor that pays a good fee.
fn bumps(anchor: OutPoint, output: &TxOut, signer: &InMemorySigner, coin: Coin) -> Transaction {
    use bitcoin::hashes::Hash;
    use bitcoin::sighash::{EcdsaSighashType, SighashCache};
    let script: ScriptBuf = witness_script(&signer.basepoints().funding);
    let mut tx = spend(&[(anchor, 330), coin], 20_000);
    let all = EcdsaSighashType::All;
    let hash = SighashCache::new(&tx).p2wsh_signature_hash(0, &script, output.value, all).unwrap();
    let signature = signer.sign_funding(hash.to_byte_array());
    let signature = bitcoin::ecdsa::Signature { signature, sighash_type: all };
    let mut witness = Witness::new();
    witness.push(signature.serialize());
    witness.push(script.as_bytes());
    tx.input[0].witness = witness;
    assert_eq!(tx.input[1].witness.last(), Some(anybody().as_bytes()));
    tx
}
