//! Where the money of a channel goes, output by output: what the contract says, and what the chain
//! shows. Every satoshi of F is Alice's, Bob's, the miners', or an anchor that nobody took.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, Txid};
use fulmen_channel::amount::{FeeratePerKw, Msat, Sat};
use fulmen_channel::transactions::weight::{self, ANCHOR};

use super::chain::{name, Ledger, Paper, What};
use super::table::{Htlc, Row, Who, CAPACITY, PUSHED};

/// A row's channel, and the state whose commitment is published.
pub struct Channel {
    pub row: &'static Row,
    pub funding: OutPoint,
    /// Its short channel id.
    pub scid: u64,
    pub feerate: FeeratePerKw,
    /// The publisher's dust limit.
    pub dust: u64,
    pub to_self_delay: u64,
    pub htlcs: Vec<Htlc>,
}

/// An output, and what became of it.
#[derive(Debug)]
pub struct Output {
    pub outpoint: OutPoint,
    pub value: u64,
    pub what: What,
    /// The block that it is in.
    pub height: u64,
    pub spent: Option<(Txid, Paper)>,
}

/// A commitment in a block, and all that came of it.
pub struct Tree {
    pub outputs: Vec<Output>,
}

/// What one side got of a channel, by the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// What it took, less what it put into HT and HE: before its fees.
    pub sat: i64,
    /// Its transactions.
    pub txids: BTreeSet<Txid>,
}

impl Channel {
    pub fn is_trimmed(&self, htlc: &Htlc) -> bool {
        let offered = self.row.is_by_alice() == htlc.by_alice;
        htlc.sat() < self.dust + self.row.second_fee(self.feerate, offered)
    }

    /// What Alice and Bob have beside their HTLCs, fees not counted.
    fn balances(&self) -> [Msat; 2] {
        let offered = |by_alice| {
            let mine = self.htlcs.iter().filter(move |htlc| htlc.by_alice == by_alice);
            mine.fold(Msat::ZERO, |sum, htlc| sum.saturating_add(htlc.amount))
        };
        let alice = CAPACITY.saturating_sub(PUSHED).saturating_msat();
        let bob = PUSHED.saturating_msat();
        [alice.saturating_sub(offered(true)), bob.saturating_sub(offered(false))]
    }

    /// What the funder, Alice, pays for the commitment (BOLT 3).
    fn base_fee(&self) -> u64 {
        let untrimmed = self.htlcs.iter().filter(|htlc| !self.is_trimmed(htlc)).count();
        weight::commitment_fee(self.row.format, self.feerate, untrimmed).sat()
    }

    /// The output of a side's own balance.
    fn own(&self, alice: bool) -> u64 {
        let [of_alice, of_bob] = self.balances();
        match alice {
            true => of_alice.floor().sat() - self.base_fee() - self.anchors().sat(),
            false => of_bob.floor().sat(),
        }
    }

    fn anchors(&self) -> Sat {
        weight::anchors_cost(self.row.format)
    }

    /// What the commitment holds, by the contract alone.
    fn outputs(&self) -> Vec<(What, u64)> {
        let publisher = self.row.is_by_alice();
        let mut outputs =
            vec![(What::ToLocal, self.own(publisher)), (What::ToRemote, self.own(!publisher))];
        if self.anchors() > Sat::ZERO {
            outputs.extend([(What::Anchor, ANCHOR.sat()); 2]);
        }
        let htlcs = self.htlcs.iter().enumerate().filter(|(_, htlc)| !self.is_trimmed(htlc));
        outputs.extend(htlcs.map(|(place, htlc)| (What::Htlc(place), htlc.sat())));
        outputs
    }

    /// What the commitment leaves to miners, by the contract alone: the base fee, HTLCs without an
    /// output, and the parts of a satoshi.
    fn left_to_miners(&self) -> u64 {
        let parts = |msat: Msat| msat.msat() % 1_000;
        let of_htlcs = self.htlcs.iter().map(|htlc| match self.is_trimmed(htlc) {
            true => htlc.amount.msat(),
            false => parts(htlc.amount),
        });
        let of_balances: u64 = self.balances().into_iter().map(parts).sum();
        self.base_fee() + (of_balances + of_htlcs.sum::<u64>()) / 1_000
    }

    /// The commitment in the block, which must be the one that the row is about, to the satoshi.
    pub fn tree(&self, ledger: &Ledger) -> Option<Tree> {
        let (txid, _) = ledger.spend(&self.funding)?;
        let (height, tx) = ledger.tx(&txid);
        let mut expected = self.outputs();
        let mut outputs = Vec::new();
        for (vout, output) in tx.output.iter().enumerate() {
            let value = output.value.to_sat();
            let place = expected.iter().position(|(_, expected)| *expected == value);
            let place = place.unwrap_or_else(|| {
                panic!("{}: {value} sat is none of {expected:?} in {tx:?}", self.row)
            });
            let what = expected.swap_remove(place).0;
            let outpoint = OutPoint { txid, vout: vout as u32 };
            let output = Output { outpoint, value, what, height: *height, spent: None };
            self.follows(ledger, output, &mut outputs);
        }
        assert_eq!(expected, [], "{}: not in {tx:?}", self.row);
        Some(Tree { outputs })
    }

    /// Looks up what spends an output, and follows that into HT and HE.
    fn follows(&self, ledger: &Ledger, mut output: Output, into: &mut Vec<Output>) {
        let Some((txid, input)) = ledger.spend(&output.outpoint) else { return into.push(output) };
        let (height, tx) = ledger.tx(&txid);
        let paper = name(output.what, tx, input);
        output.spent = Some((txid, paper));
        if let (What::Htlc(htlc), true) = (output.what, paper.is_second_stage()) {
            // With anchors an input's signature covers the output at its own place.
            let vout = if self.anchors() > Sat::ZERO { input } else { 0 };
            let value = tx.output[vout].value.to_sat();
            let fee = self.row.second_fee(self.feerate, paper == Paper::HT);
            assert_eq!(value + fee, output.value, "{}: {paper} in {tx:?}", self.row);
            let outpoint = OutPoint { txid, vout: vout as u32 };
            let what = What::Second(htlc, paper);
            let second = Output { outpoint, value, what, height: *height, spent: None };
            self.follows(ledger, second, into);
        }
        into.push(output);
    }

    /// What a side took.
    pub fn taken(&self, tree: &Tree, alice: bool) -> Taken {
        let publisher = self.row.is_by_alice() == alice;
        let mut taken = Taken::default();
        for output in &tree.outputs {
            if let Some((txid, _)) =
                output.spent.filter(|(_, paper)| paper.is_publishers() == publisher)
            {
                taken.sat += i64::try_from(output.value).unwrap();
                taken.txids.insert(txid);
            }
            if publisher && matches!(output.what, What::Second(..)) {
                taken.sat -= i64::try_from(output.value).unwrap();
            }
        }
        taken
    }

    /// What a side is to have taken by the contract, before the fees of its transactions. To whom
    /// an HTLC goes is told by `to_alice`; nobody takes it while its owner is gone.
    pub fn due(&self, tree: &Tree, alice: bool, to_alice: impl Fn(&Htlc) -> Option<bool>) -> i64 {
        let publisher = self.row.is_by_alice() == alice;
        let bumped = if publisher { tree.anchors(true) } else { 0 };
        let sat = if self.row.who == Who::Revoked {
            // All of it is Alice's, but what never was an output, or is gone in Bob's HT and HE.
            let lost = self.second_fees(tree);
            let all = CAPACITY.sat() - self.left_to_miners() - self.anchors().sat();
            if alice {
                all - lost
            } else {
                lost
            }
        } else {
            let htlcs = self.htlcs.iter().filter(|htlc| !self.is_trimmed(htlc));
            let won = htlcs.filter(|htlc| to_alice(htlc) == Some(alice)).map(Htlc::sat);
            self.own(alice) + won.sum::<u64>()
        };
        i64::try_from(sat + bumped).unwrap()
    }

    /// What the publisher's HT and HE left to miners out of the HTLCs.
    fn second_fees(&self, tree: &Tree) -> u64 {
        let spent = tree.outputs.iter().filter_map(|output| output.spent);
        let fees = spent.filter(|(_, paper)| paper.is_second_stage());
        fees.map(|(_, paper)| self.row.second_fee(self.feerate, paper == Paper::HT)).sum()
    }

    /// Nothing of F is unaccounted for. `alice` is what is due to her; Bob has what he took and
    /// what lies there for him, miners what the contract left them, and some anchors nobody took.
    pub fn balances_out(&self, tree: &Tree, alice: i64) {
        let unspent = tree.outputs.iter().filter(|output| output.spent.is_none());
        let for_bob = unspent.filter(|output| output.what != What::Anchor).map(|o| o.value);
        let bob = self.taken(tree, false).sat + i64::try_from(for_bob.sum::<u64>()).unwrap();
        let others = self.left_to_miners() + tree.anchors(false);
        let sum = alice + bob + i64::try_from(others).unwrap();
        assert_eq!(sum, i64::try_from(CAPACITY.sat()).unwrap(), "{}", self.row);
    }
}

impl Tree {
    /// What is in anchors that were spent, or were not.
    fn anchors(&self, spent: bool) -> u64 {
        let anchors = self.outputs.iter().filter(|output| output.what == What::Anchor);
        anchors.filter(|output| output.spent.is_some() == spent).map(|output| output.value).sum()
    }

    /// The paper's transactions in it.
    pub fn papers(&self) -> BTreeSet<Paper> {
        let spends = self.outputs.iter().filter_map(|output| output.spent);
        spends.map(|(_, paper)| paper).chain([Paper::C]).collect()
    }

    /// How many second stages there are in the transaction that has most of them.
    pub fn together(&self) -> usize {
        let mut counts = BTreeMap::new();
        for (txid, paper) in self.outputs.iter().filter_map(|output| output.spent) {
            *counts.entry(txid).or_insert(0) += usize::from(paper.is_second_stage());
        }
        counts.into_values().max().unwrap_or(0)
    }
}
