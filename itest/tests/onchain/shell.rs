//! Alice's sweeper without a daemon: the planner between her channel and the chain in a box, and a
//! small wallet of hers that pays fees. What the daemon does over disk and RPC is done at once.

use crate::chain_box::beside::{spend, Coin};
use bitcoin::secp256k1::{Message, PublicKey, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{CompressedPublicKey, OutPoint, ScriptBuf, Transaction, TxOut, Txid, Witness};
use fulmen_channel::amount::{FeeratePerKw, Sat};
use fulmen_channel::keys::InMemorySigner;
use fulmen_channel::protocol::open::Open;
use fulmen_itest::chainbox::{ChainBox, Event};
use fulmen_node::chain::broadcast::{outcome, Broadcasts};
use fulmen_node::chain::{BlockRef, ChainEvent, Found, RpcError};
use fulmen_node::sweeper::known::{Known, Snapshot};
use fulmen_node::sweeper::plan::{plan, Draft, Estimates, World};
use fulmen_node::sweeper::version::{Lent, Version};
use fulmen_node::sweeper::wanted::Wanted;
use fulmen_node::sweeper::{Bump, OnChain, Waits};
use std::collections::BTreeMap;

/// The number of the channel.
const CHANNEL: u64 = 1;
/// How many coins the wallet begins with, and what each holds.
const COINS: u64 = 16;
const COIN: u64 = 250_000;
/// The weight of a p2wpkh input with the longest signature.
const INPUT: u64 = 272;
/// Less than this is left to miners rather than made an output.
const DUST: u64 = 294;

/// See the module.
pub struct Shell {
    pub known: Known,
    pub estimates: Estimates,
    /// Every version that was ever sent.
    pub sent: BTreeMap<Txid, Version>,
    /// What the last plan says of what is not published.
    pub waits: BTreeMap<OutPoint, Waits>,
    broadcasts: Broadcasts,
    seed: [u8; 32],
}

/// Feerates in sat per 1,000 weight units, for 2, 6, 12 and 144 blocks.
pub fn estimates([two, six, twelve, day]: [u32; 4]) -> Estimates {
    let rates = [(2, two), (6, six), (12, twelve), (144, day)];
    let within = rates.map(|(blocks, rate)| (blocks, FeeratePerKw::new(rate)));
    Estimates { within: within.into(), entering: FeeratePerKw::FLOOR }
}

fn key() -> (SecretKey, PublicKey) {
    let secret = SecretKey::from_slice(&[42; 32]).unwrap();
    (secret, secret.public_key(&Secp256k1::new()))
}

/// Where the wallet's money is.
pub fn own_script() -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&CompressedPublicKey(key().1).wpubkey_hash())
}

impl Shell {
    /// For the channel of the side with this seed; `coin` pays what is in the wallet.
    pub fn new(chain_box: &mut ChainBox, coin: Coin, seed: [u8; 32]) -> Shell {
        let mut tx = spend(&[coin], 2_000);
        tx.output[0].value -= Sat::new(COINS * COIN).to_amount();
        let value = Sat::new(COIN).to_amount();
        let own = (0..COINS).map(|_| TxOut { value, script_pubkey: own_script() });
        tx.output.extend(own);
        chain_box.submit(&tx).unwrap();
        let known = Known::new(Vec::new(), chain_box.chain().height());
        Shell {
            known,
            estimates: Estimates::default(),
            sent: BTreeMap::new(),
            waits: BTreeMap::new(),
            broadcasts: Broadcasts::default(),
            seed,
        }
    }

    /// What happened on chain.
    pub fn hears(&mut self, event: &Event) {
        let at = |height, block: &bitcoin::Block| BlockRef { height, hash: block.block_hash() };
        let event = match event {
            Event::Connected(height, block) => {
                let settled = self.broadcasts.connected(block, *height, 6);
                let (at, block) = (at(*height, block), block.clone());
                ChainEvent::Connected { at, block, found: Found::default(), settled }
            }
            Event::Disconnected(height, block) => {
                self.broadcasts.disconnected(*height);
                ChainEvent::Disconnected { at: at(*height, block), tip: None }
            }
            _ => return,
        };
        self.known.chain_event(&event);
    }

    /// Sends a commitment of ours, and again at each block.
    pub fn broadcasts(&mut self, chain_box: &mut ChainBox, tx: &Transaction) {
        self.broadcasts.add(tx.clone());
        let _ = chain_box.submit(tx);
    }

    /// Forgets what is not on disk.
    pub fn restarts(&mut self, chain_box: &ChainBox) {
        let height = chain_box.chain().height();
        self.known = Known::new(self.known.snapshot().versions, height);
    }

    /// Plans and publishes, as the daemon does when something changed.
    pub fn turn(&mut self, chain_box: &mut ChainBox, open: &Open) {
        let on_chain = open.claims().map(|(published, claims)| {
            let published = published.clone();
            OnChain { published, claims }
        });
        let bump = open.bump(&InMemorySigner::from_seed(self.seed));
        self.turn_on(chain_box, on_chain, bump);
    }

    /// The same of what a channel tells.
    pub fn turn_on(
        &mut self,
        chain_box: &mut ChainBox,
        on_chain: Option<OnChain>,
        bump: Option<Bump>,
    ) {
        self.known.claims(CHANNEL, on_chain);
        self.known.bump(CHANNEL, bump);
        // The daemon asks its wallet.
        let chain = chain_box.chain();
        let versions: Vec<Version> = self.known.versions().cloned().collect();
        let is_there =
            |txid| chain.find(&txid).is_some() || chain_box.mempool().get(&txid).is_some();
        let stands = |version: &Version| {
            let mut coins = version.coins.iter();
            is_there(version.txid()) || coins.all(|coin| is_there(coin.outpoint.txid))
        };
        let lost: Vec<_> = versions.iter().filter(|v| !stands(v)).map(Version::txid).collect();
        self.known.lost(lost);
        for (version, beaten) in self.known.over() {
            if beaten {
                self.broadcasts.abandon(&version.txid());
            }
        }
        for tx in self.broadcasts.due() {
            let _ = chain_box.submit(&tx);
        }
        for version in self.known.packages() {
            if let Some(parent) = version.parent {
                let _ = chain_box.submit_package(&[parent, version.tx]);
            }
        }
        for version in self.known.batches() {
            let txid = version.txid();
            let waits = chain_box.mempool().get(&txid).is_some();
            if !waits && chain_box.would_accept(&version.tx).is_err() {
                self.known.remove(&txid);
                self.broadcasts.abandon(&txid);
            }
        }
        for _ in 0..40 {
            let now = self.known.snapshot();
            let coins = self.coins(chain_box, &now);
            let plan = plan(&World {
                height: now.height,
                wanted: &now.wanted,
                versions: &now.versions,
                coins: &coins,
                estimates: &self.estimates,
            });
            self.waits = plan.waits;
            let mut again = false;
            for draft in plan.drafts {
                again |= self.publishes(chain_box, draft, &now);
            }
            if !again {
                return;
            }
        }
    }

    /// Whether it is to be planned anew.
    fn publishes(&mut self, chain_box: &mut ChainBox, draft: Draft, now: &Snapshot) -> bool {
        let taken = draft.taken(&now.wanted);
        let rest = draft.built.rest.map(|_| own_script());
        let signer = |_| InMemorySigner::from_seed(self.seed);
        let mut tx = draft.sign(rest, &taken, &now.published, signer).unwrap();
        signs(&mut tx, &draft.built.coins);
        let replaces = draft.replaces.clone();
        let version = draft.into_version(tx, &taken);
        within_budget(&version, &taken);
        let txid = version.txid();
        let verdict = match &version.parent {
            None => chain_box.submit(&version.tx).map(drop).map_err(|why| why.to_string()),
            Some(parent) => package(chain_box, parent, &version.tx),
        };
        if let Err(message) = verdict {
            let refused = RpcError::Refused { method: "", code: -26, message };
            // What a reorganisation put back is there already.
            if let Err(why) = outcome(Err(refused)) {
                return self.known.refused(&version, why.asks_for_more());
            }
        }
        self.broadcasts.add(version.tx.clone());
        self.known.add(version.clone());
        self.sent.insert(txid, version);
        for txid in replaces {
            self.known.remove(&txid);
            self.broadcasts.abandon(&txid);
        }
        false
    }

    /// The wallet's coins in blocks that no version holds.
    fn coins(&self, chain_box: &ChainBox, now: &Snapshot) -> Vec<Lent> {
        let held = |at: &OutPoint| {
            let mut inputs = now.versions.iter().flat_map(|version| &version.tx.input);
            inputs.any(|input| input.previous_output == *at)
        };
        let script = own_script();
        let coins = chain_box.chain().coins();
        let ours = coins.filter(|(at, coin)| coin.output.script_pubkey == script && !held(at));
        ours.map(|(at, coin)| Lent {
            outpoint: *at,
            value: coin.output.value.into(),
            weight: INPUT,
            script_sig: ScriptBuf::new(),
            confirmed: true,
        })
        .collect()
    }

    /// The versions that are in blocks.
    pub fn confirmed<'a>(&'a self, chain_box: &'a ChainBox) -> impl Iterator<Item = &'a Version> {
        self.sent.values().filter(|sent| chain_box.chain().find(&sent.txid()).is_some())
    }

    /// What the wallet has more than at first.
    pub fn gained(&self, chain_box: &ChainBox) -> u64 {
        let script = own_script();
        let coins = chain_box.chain().coins().map(|(_, coin)| &coin.output);
        let ours = coins.filter(|output| output.script_pubkey == script);
        ours.map(|output| output.value.to_sat()).sum::<u64>().wrapping_sub(COINS * COIN)
    }
}

/// As the daemon hands a package in: together, or else one after the other.
fn package(
    chain_box: &mut ChainBox,
    parent: &Transaction,
    child: &Transaction,
) -> Result<(), String> {
    let judged = chain_box.submit_package(&[parent.clone(), child.clone()]);
    match judged.map(|judged| judged.refused.first().map(|(_, why)| why.to_string())) {
        Ok(None) => Ok(()),
        Ok(Some(why)) => {
            let _ = chain_box.submit(parent);
            chain_box.submit(child).map(drop).map_err(|_| why)
        }
        Err(why) => Err(why.to_string()),
    }
}

/// Signs the wallet's inputs, which are the last ones.
fn signs(tx: &mut Transaction, coins: &[Lent]) {
    let (secret, public) = key();
    let first = tx.input.len() - coins.len();
    for (place, coin) in (first..).zip(coins) {
        assert_eq!(tx.input[place].previous_output, coin.outpoint);
        let all = EcdsaSighashType::All;
        let value = coin.value.to_amount();
        let hash = SighashCache::new(&*tx)
            .p2wpkh_signature_hash(place, &own_script(), value, all)
            .unwrap();
        let signature = Secp256k1::new().sign_ecdsa(&Message::from(hash), &secret);
        let signature = bitcoin::ecdsa::Signature { signature, sighash_type: all };
        tx.input[place].witness = Witness::p2wpkh(&signature, &public);
    }
}

/// No version costs more than the budgets of what it takes, but for change that is dust.
fn within_budget(version: &Version, taken: &[&Wanted]) {
    let budget: u64 = taken.iter().map(|wanted| wanted.budget().sat()).sum();
    let fixed = version.rest.is_none() && version.coins.is_empty();
    let names: Vec<_> = taken.iter().map(|wanted| wanted.claim.name).collect();
    assert!(
        version.fee.sat() <= budget + DUST || fixed,
        "{names:?} for {} of {budget}",
        version.fee
    );
}
