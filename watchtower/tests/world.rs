//! A channel that lives, the states of it that Bob revokes, and what Alice gives her towers.

use crate::chain::Chain;
use crate::support::{wallet_script, Pair, Party};
use bitcoin::secp256k1::SecretKey;
use bitcoin::{ScriptBuf, Transaction};
use fulmen_channel::amount::FeeratePerKw;
use fulmen_channel::input::{Command, Input};
use fulmen_channel::keys::{InMemorySigner, Signer};
use fulmen_channel::params::CommitmentFormat;
use fulmen_watchtower::private::PrivateChannel;
use fulmen_watchtower::record::{Sealed, Terms, Unrevoked};

pub const FORMATS: [CommitmentFormat; 2] =
    [CommitmentFormat::Anchors, CommitmentFormat::StaticRemoteKey];
pub const ALICE: [u8; 32] = [1; 32];
pub const FEERATE: FeeratePerKw = FeeratePerKw::new(1_000);

/// A state that Bob revokes later.
pub struct Kept {
    /// Bob as he was.
    pub cheat: Party,
    /// The commitment as he could publish it.
    pub tx: Transaction,
    /// What Alice keeps of it until it is revoked.
    pub unrevoked: Unrevoked,
}

pub fn home() -> ScriptBuf {
    wallet_script(9)
}

pub fn terms() -> Terms {
    Terms { feerate: FEERATE, destination: home() }
}

fn keep(pair: &Pair) -> Kept {
    let mut cheat = Party::restored(&pair.bob);
    cheat.handle(Input::Command(Command::ForceClose("cheating".into()))).unwrap();
    let tx = cheat.published.last().unwrap().clone();
    let contract = &pair.alice.open().contract;
    let unrevoked = Unrevoked::of(contract, &contract.remote_draft(), terms());
    assert_eq!(unrevoked.txid, tx.compute_txid());
    Kept { cheat, tx, unrevoked }
}

/// Every state of a channel whose HTLCs come and go in both directions.
pub fn a_life(format: CommitmentFormat) -> (Pair, Vec<Kept>) {
    let mut pair = Pair::open_with(|open, _| open.channel_type.format = format);
    let mut kept = vec![keep(&pair)];
    pair.alice_pays(400_000_000, 0);
    kept.push(keep(&pair));
    for n in 1..6 {
        pair.alice.handle(Party::offer(n, 10_000_000 * n)).unwrap();
        pair.bob.handle(Party::offer(n + 20, 7_000_000 * n)).unwrap();
        pair.talk();
        kept.push(keep(&pair));
        if n % 2 == 0 {
            pair.bob.fulfills(n);
            pair.alice.fulfills(n + 20);
            pair.talk();
            kept.push(keep(&pair));
        }
    }
    pair.alice_pays(1_000_000, 40);
    (pair, kept)
}

/// What Alice gives an altruist tower when Bob has revoked the state; and what that leaves out.
pub fn seal(pair: &Pair, kept: &Kept) -> (Sealed, usize) {
    seal_at(pair, kept, terms())
}

/// The same at these terms.
pub fn seal_at(pair: &Pair, kept: &Kept, terms: Terms) -> (Sealed, usize) {
    let contract = &pair.alice.open().contract;
    let secret = contract.revocations.get(kept.unrevoked.number).expect("it is revoked");
    let secret = SecretKey::from_slice(&secret).unwrap();
    let mut unrevoked = kept.unrevoked.clone();
    unrevoked.set_terms(terms);
    unrevoked.seal(&secret, &InMemorySigner::from_seed(ALICE))
}

/// What Alice gives a private tower.
pub fn private(pair: &Pair) -> PrivateChannel {
    let contract = &pair.alice.open().contract;
    let signer = InMemorySigner::from_seed(ALICE);
    let secret = signer.revocation_secret();
    assert_eq!(
        secret.public_key(&bitcoin::secp256k1::Secp256k1::new()),
        signer.basepoints().revocation
    );
    PrivateChannel::of(contract, &secret, home())
}

/// The chain right after this state was published.
pub fn breached(pair: &Pair, kept: &Kept) -> Chain {
    let outpoint = pair.alice.open().contract.funding.outpoint;
    let mut chain = Chain::with(outpoint, pair.funding_output());
    chain.take(&kept.tx).unwrap();
    chain
}

/// What pays to Alice.
pub fn home_worth(chain: &Chain) -> u64 {
    let coins = chain.coins.values();
    coins.filter(|(out, _)| out.script_pubkey == home()).map(|(out, _)| out.value.to_sat()).sum()
}
