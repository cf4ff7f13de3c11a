//! Funding: choosing coins for outputs, and holding them until the transaction is decided.

use super::coins::{anchor_reserve, Coin, Standing, View};
use super::keychain::Keychain;
use super::{rows, Wallet, WalletError};
use crate::keys::Purpose;
use crate::store::Unit;
use bitcoin::absolute::LockTime;
use bitcoin::script::PushBytesBuf;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, VarInt, Witness};
use fulmen_channel::amount::{FeeratePerKw, Sat};

/// Change below this is left to the miners: the dust limit of p2wkh (BOLT 3, appendix of dust).
pub const DUST: Sat = Sat::new(294);

/// The most unconfirmed ancestors a transaction may have, itself included, to be relayed.
const MAX_PACKAGE: usize = 25;

/// What is to be paid.
#[derive(Debug, Clone)]
pub struct FundRequest {
    /// The outputs.
    pub outputs: Vec<TxOut>,
    /// The feerate of the transaction.
    pub feerate: FeeratePerKw,
    /// What coins are good enough. 0: all, even money that somebody may take back. 1: confirmed
    /// ones and our own unconfirmed change. More: coins with so many confirmations.
    pub min_confs: u32,
    /// Channels with anchors, this one included: the wallet keeps [`anchor_reserve`] for them.
    pub anchor_channels: u32,
}

/// A transaction whose inputs are held for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The transaction's id, which signing does not change.
    pub txid: Txid,
    /// The transaction, to be signed.
    pub tx: Transaction,
    /// Its fee.
    pub fee: Sat,
    /// Which output is our change.
    pub change: Option<u32>,
}

/// Why outputs cannot be paid; in lnd's words, which clients look for.
#[derive(Debug, thiserror::Error)]
pub enum FundError {
    /// Too little money.
    #[error(
        "not enough witness outputs to create funding transaction, need {} only have {}  available",
        btc(*need), btc(*have)
    )]
    Insufficient {
        /// Outputs and fees.
        need: Sat,
        /// All the coins that may be used.
        have: Sat,
    },
    /// Enough to pay, but not to keep the reserve as well.
    #[error(
        "reserved wallet balance invalidated: transaction would leave insufficient funds for fee \
         bumping anchor channel closings (see debug log for details): {} would be left, {} must be",
        btc(*left), btc(*reserve)
    )]
    Reserve {
        /// What would be left.
        left: Sat,
        /// What must be.
        reserve: Sat,
    },
    /// An output that no node relays.
    #[error("an output of {0} is too small to be relayed")]
    Dust(Sat),
    /// There is nothing to pay.
    #[error("the transaction has no outputs")]
    Empty,
    /// The sum of the outputs is no amount of money.
    #[error("the outputs are worth more than all bitcoin")]
    TooMuch,
    /// The wallet itself.
    #[error(transparent)]
    Wallet(#[from] WalletError),
}

/// As lnd writes amounts: eight decimals unless it is a whole number.
fn btc(sat: Sat) -> String {
    const COIN: u64 = 100_000_000;
    match (sat.sat() / COIN, sat.sat() % COIN) {
        (whole, 0) => format!("{whole} BTC"),
        (whole, rest) => format!("{whole}.{rest:08} BTC"),
    }
}

/// Coins that pay for outputs, and what is left over.
struct Choice {
    coins: Vec<Coin>,
    fee: Sat,
    change: Sat,
}

impl Wallet {
    /// Chooses coins for `request` and holds them. The reservation survives a restart once `unit`
    /// is durable; it ends when a block decides its inputs, or with [`Wallet::release`].
    ///
    /// Confirmed coins are used if they are enough, otherwise unconfirmed ones as well.
    pub fn fund(
        &mut self,
        request: &FundRequest,
        unit: &mut Unit,
    ) -> Result<Reservation, FundError> {
        let outputs = checked(&request.outputs)?;
        let view = self.view();
        let coins = self.coins_of(&view);
        let usable = usable(&coins, request.min_confs);
        let choice = self.choose(&view, &usable, request, outputs)?;
        let reserve = anchor_reserve(request.anchor_channels);
        let left = left_over(&coins, &choice);
        if left < reserve {
            return Err(FundError::Reserve { left, reserve });
        }
        let reservation = self.assemble(request, choice, unit)?;
        rows::put_reservation(unit, reservation.txid, &reservation.tx);
        self.reserved.insert(reservation.txid, reservation.tx.clone());
        Ok(reservation)
    }

    /// Gives up a reservation whose transaction will never be broadcast: its inputs are free
    /// again, and the transaction, if the wallet knows it, no longer counts. `now` in unix seconds.
    pub fn release(&mut self, txid: Txid, now: u64, unit: &mut Unit) {
        if self.reserved.remove(&txid).is_some() {
            rows::delete_reservation(unit, txid);
            self.evicted(txid, now, unit);
        }
    }

    /// The reserved transactions, unsigned as they were made.
    pub fn reservations(&self) -> impl Iterator<Item = (&Txid, &Transaction)> {
        self.reserved.iter()
    }

    fn choose(
        &self,
        view: &View,
        usable: &[Coin],
        request: &FundRequest,
        outputs: Sat,
    ) -> Result<Choice, FundError> {
        let confirmed: Vec<Coin> = usable.iter().filter(|c| c.confirmations > 0).cloned().collect();
        if let Ok(choice) = select(&confirmed, request, outputs) {
            return Ok(choice);
        }
        let choice = select(usable, request, outputs)?;
        let parents = choice.coins.iter().map(|coin| coin.outpoint.txid);
        if self.ancestry(view, parents).unconfirmed.len() < MAX_PACKAGE {
            return Ok(choice);
        }
        // Too long a chain to be relayed: leave out the coins that come at the end of long ones.
        let short = |coin: &&Coin| {
            let ancestry = self.ancestry(view, [coin.outpoint.txid]);
            ancestry.unconfirmed.len() < MAX_PACKAGE / 5
        };
        let short: Vec<Coin> = usable.iter().filter(short).cloned().collect();
        let choice = select(&short, request, outputs)?;
        let parents = choice.coins.iter().map(|coin| coin.outpoint.txid);
        if self.ancestry(view, parents).unconfirmed.len() < MAX_PACKAGE {
            return Ok(choice);
        }
        select(&confirmed, request, outputs)
    }

    fn assemble(
        &mut self,
        request: &FundRequest,
        choice: Choice,
        unit: &mut Unit,
    ) -> Result<Reservation, WalletError> {
        let mut outputs = request.outputs.clone();
        let mut change_script = None;
        if choice.change > Sat::ZERO {
            let script_pubkey = self.reveal(Keychain::CHANGE, unit)?;
            change_script = Some(script_pubkey.clone());
            outputs.push(TxOut { value: choice.change.to_amount(), script_pubkey });
        }
        // An order that tells nothing about which output is whose (BIP 69).
        outputs.sort_by(|a, b| (a.value, &a.script_pubkey).cmp(&(b.value, &b.script_pubkey)));
        let mut inputs = Vec::new();
        for coin in &choice.coins {
            inputs.push(self.input(coin)?);
        }
        inputs.sort_by_key(|input| input.previous_output);
        let tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: inputs,
            output: outputs,
        };
        let is_change = |output: &TxOut| Some(&output.script_pubkey) == change_script.as_ref();
        let change = (0u32..).zip(&tx.output).find(|(_, output)| is_change(output));
        let change = change.map(|(number, _)| number);
        Ok(Reservation { txid: tx.compute_txid(), fee: choice.fee, change, tx })
    }

    /// An unsigned input. That of a nested output has its script signature already, since the
    /// transaction's id depends on it.
    fn input(&self, coin: &Coin) -> Result<TxIn, WalletError> {
        let mut script_sig = ScriptBuf::new();
        if coin.keychain.purpose == Purpose::NestedWitnessKeyHash {
            let program = self.accounts.witness_program(coin.keychain, coin.index)?;
            // 22 bytes: far below the limit of a push.
            let push = PushBytesBuf::try_from(program.into_bytes())
                .map_err(|e| WalletError::Keys(e.to_string()))?;
            script_sig.push_slice(push);
        }
        Ok(TxIn {
            previous_output: coin.outpoint,
            script_sig,
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        })
    }
}

/// The sum of the outputs.
fn checked(outputs: &[TxOut]) -> Result<Sat, FundError> {
    if outputs.is_empty() {
        return Err(FundError::Empty);
    }
    let mut sum = Sat::ZERO;
    for output in outputs {
        if output.value < output.script_pubkey.minimal_non_dust() {
            return Err(FundError::Dust(output.value.into()));
        }
        sum = sum.saturating_add(output.value.into());
    }
    if sum > Sat::MAX_MONEY {
        return Err(FundError::TooMuch);
    }
    Ok(sum)
}

fn usable(coins: &[Coin], min_confs: u32) -> Vec<Coin> {
    let good = |coin: &&Coin| match coin.standing {
        _ if coin.locked => false,
        Standing::Confirmed => coin.confirmations >= min_confs,
        Standing::OwnChange => min_confs <= 1,
        Standing::Foreign => min_confs == 0,
        Standing::Immature => false,
    };
    coins.iter().filter(good).cloned().collect()
}

/// What would be left to bump fees with: coins that we may count on, the change included.
fn left_over(coins: &[Coin], choice: &Choice) -> Sat {
    let spent = |outpoint: &OutPoint| choice.coins.iter().any(|coin| coin.outpoint == *outpoint);
    let stays = |coin: &&Coin| {
        matches!(coin.standing, Standing::Confirmed | Standing::OwnChange)
            && !coin.locked
            && !spent(&coin.outpoint)
    };
    let kept = coins.iter().filter(stays).map(Coin::value);
    kept.fold(choice.change, Sat::saturating_add)
}

/// Coins that pay for the outputs and the fee: the largest first, so as few as can be. Those
/// that cost more to spend than they are worth are never taken.
fn select(coins: &[Coin], request: &FundRequest, outputs: Sat) -> Result<Choice, FundError> {
    let worth = |coin: &&Coin| {
        let cost = request.feerate.fee(input_weight(coin));
        coin.value().saturating_sub(cost)
    };
    let mut best: Vec<&Coin> = coins.iter().filter(|coin| worth(coin) > Sat::ZERO).collect();
    best.sort_by_key(|coin| (std::cmp::Reverse(worth(coin)), coin.outpoint));
    let mut chosen = Vec::new();
    for coin in best {
        chosen.push(coin.clone());
        if let Some((fee, change)) = settle(&chosen, request, outputs) {
            return Ok(Choice { coins: chosen, fee, change });
        }
    }
    let have = coins.iter().map(Coin::value).fold(Sat::ZERO, Sat::saturating_add);
    let fee = request.feerate.fee(weight(&chosen, &request.outputs, false));
    Err(FundError::Insufficient { need: outputs.saturating_add(fee), have })
}

/// Divides what `coins` are worth into outputs, fee and change, of which the last two are
/// returned; nothing if it is not enough.
fn settle(coins: &[Coin], request: &FundRequest, outputs: Sat) -> Option<(Sat, Sat)> {
    let sum = coins.iter().map(Coin::value).fold(Sat::ZERO, Sat::saturating_add);
    let rest = sum.checked_sub(outputs)?;
    let fee = |change| request.feerate.fee(weight(coins, &request.outputs, change));
    let change = rest.saturating_sub(fee(true));
    if change >= DUST {
        return Some((fee(true), change));
    }
    // Too little for an output of its own goes to the miners.
    (rest >= fee(false)).then_some((rest, Sat::ZERO))
}

/// The weight of the signed transaction, in weight units.
fn weight(coins: &[Coin], outputs: &[TxOut], change: bool) -> u64 {
    // Version, lock time, segwit marker and flag.
    const FIXED: u64 = 4 * (4 + 4) + 2;
    const CHANGE: u64 = 4 * (8 + 1 + 22);
    let count = |number: usize| (VarInt::from(number).size() as u64).saturating_mul(4);
    let number = outputs.len().saturating_add(usize::from(change));
    let counts = [count(coins.len()), count(number)];
    let pays = outputs.iter().map(|output| output.weight().to_wu());
    let parts = coins.iter().map(input_weight).chain(pays).chain(counts);
    let fixed = if change { FIXED + CHANGE } else { FIXED };
    parts.fold(fixed, u64::saturating_add)
}

/// The weight of a signed input.
fn input_weight(coin: &Coin) -> u64 {
    const BARE: u64 = 4 * (32 + 4 + 4 + 1);
    coin.keychain.satisfaction_weight().saturating_add(BARE)
}
