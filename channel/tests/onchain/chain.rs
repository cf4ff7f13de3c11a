//! A chain small enough to look at: blocks of transactions, each input checked by Bitcoin's script
//! rules, its relative delay and the lock time by the heights here.

use crate::support::{wallet_script, Party};
use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, Transaction, TxOut};
use fulmen_channel::amount::{Height, Sat};
use fulmen_channel::keys::{InMemorySigner, Inline};
use fulmen_channel::onchain::claim::{Claim, Pays};
use fulmen_channel::onchain::published::Published;
use fulmen_channel::onchain::resolution::Resolution;
use fulmen_channel::payment::Preimage;
use std::collections::BTreeMap;

/// Unspent outputs, and the height that each came at.
pub struct Chain {
    pub height: Height,
    pub coins: BTreeMap<OutPoint, (TxOut, Height)>,
    /// All that was taken into blocks.
    pub history: Vec<(Transaction, Height)>,
    funding: (OutPoint, TxOut),
}

impl Chain {
    /// A chain on which F is.
    pub fn with(funding: OutPoint, output: TxOut) -> Self {
        let height = Height::new(100);
        let funding = (funding, output);
        let coins = BTreeMap::from([(funding.0, (funding.1.clone(), Height::default()))]);
        Chain { height, coins, history: Vec::new(), funding }
    }

    pub fn at(&mut self, height: u32) {
        assert!(height >= self.height.number());
        self.height = Height::new(height);
    }

    /// The blocks from `height` on are gone; the transactions that they held, and in which.
    pub fn back_to(&mut self, height: Height) -> Vec<(Transaction, Height)> {
        let mut before = Chain::with(self.funding.0, self.funding.1.clone());
        let mut gone = Vec::new();
        for (tx, at) in std::mem::take(&mut self.history) {
            if at < height {
                before.height = at;
                before.take(&tx).unwrap();
            } else {
                gone.push((tx, at));
            }
        }
        before.height = height.minus(1);
        *self = before;
        gone
    }

    /// Takes a transaction into a block of the present height.
    pub fn take(&mut self, tx: &Transaction) -> Result<(), String> {
        let bytes = serialize(tx);
        let now = self.height.number();
        if tx.lock_time.to_consensus_u32() >= now && tx.lock_time.is_block_height() {
            return Err("its lock time is not over".into());
        }
        for (place, input) in tx.input.iter().enumerate() {
            let found = self.coins.get(&input.previous_output);
            let (output, since) = found.ok_or("an input is spent, or never was")?;
            let delay = input.sequence;
            let delay = if delay.is_height_locked() { delay.0 & 0xffff } else { 0 };
            if since.plus(delay).number() > now {
                return Err(format!("input {place} may not be spent before {delay} blocks"));
            }
            let (script, value) = (output.script_pubkey.as_bytes(), output.value.to_sat());
            bitcoinconsensus::verify(script, value, &bytes, None, place)
                .map_err(|error| format!("input {place}: {error:?}"))?;
        }
        let inputs = tx.input.iter().map(|i| self.coins[&i.previous_output].0.value.to_sat());
        let paid: u64 = tx.output.iter().map(|out| out.value.to_sat()).sum();
        assert!(paid <= inputs.sum::<u64>(), "it pays more than it has");
        for input in &tx.input {
            self.coins.remove(&input.previous_output);
        }
        self.history.push((tx.clone(), self.height));
        let txid = tx.compute_txid();
        for (vout, output) in (0..).zip(&tx.output) {
            self.coins.insert(OutPoint { txid, vout }, (output.clone(), self.height));
        }
        Ok(())
    }
}

/// The transaction that takes a claim alone, without a fee: what it leaves is all of it.
pub fn takes(claim: &Claim, published: &Published, seed: [u8; 32]) -> Transaction {
    let output = match &claim.pays {
        Pays::Anything => {
            TxOut { value: claim.spend.value().to_amount(), script_pubkey: wallet_script(9) }
        }
        Pays::Beside(output) | Pays::Only(output) => output.clone(),
    };
    let mut tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(claim.spend.lock_time.number()),
        input: vec![claim.spend.input()],
        output: vec![output],
    };
    let signer = InMemorySigner::from_seed(seed);
    assert!(claim.sign(published, &mut tx, 0, (&signer, &Inline)));
    tx
}

/// One side, what it sees of the commitment, and what it has in its wallet by now.
pub struct Claimant<'a> {
    pub party: &'a Party,
    pub seed: [u8; 32],
    pub resolution: Resolution,
}

impl Claimant<'_> {
    /// Sees what is in blocks; the preimages that it learned.
    pub fn catches_up(&mut self, chain: &Chain) -> Vec<(u64, Preimage)> {
        let contract = &self.party.open().contract;
        let see = |(tx, height): &(Transaction, Height)| {
            self.resolution.see(tx, *height, contract);
            self.resolution.preimages(tx)
        };
        chain.history.iter().flat_map(see).collect()
    }

    /// Takes all it may in a block of this height: the names of what it took, and what is its own.
    pub fn claims_at(&mut self, chain: &mut Chain, height: u32) -> (Vec<String>, Sat) {
        chain.at(height);
        self.catches_up(chain);
        let contract = &self.party.open().contract;
        let (mut names, mut own) = (Vec::new(), Sat::ZERO);
        for claim in self.resolution.claims(contract) {
            let tx = takes(&claim, &self.resolution.published, self.seed);
            let (early, accepted) = (claim.from > chain.height, chain.take(&tx));
            assert_eq!(
                early,
                accepted.is_err(),
                "{} from {:?}: {accepted:?}",
                claim.name,
                claim.from
            );
            if accepted.is_ok() {
                self.resolution.see(&tx, chain.height, contract);
                names.push(claim.name.to_string());
                if claim.pays == Pays::Anything {
                    own = own.saturating_add(claim.spend.value());
                }
            }
        }
        names.sort();
        (names, own)
    }
}
