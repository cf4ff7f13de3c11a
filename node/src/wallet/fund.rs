//! Funding: choosing coins for outputs, and holding them until the transaction is decided.
//!
//! ```text
//!   plan (outputs) ──┐
//!                    ├──▶ Plan ──▶ reserve ──▶ Reservation: inputs are held ──▶ sign
//!   plan_sweep ──────┘     └ what it would cost
//! ```

use super::coins::{anchor_reserve, Coin, Standing, View};
use super::keychain::Keychain;
use super::select::{all_worthy, select, sum, too_heavy, Choice, Strategy, Target};
use super::{rows, Wallet, WalletError};
use crate::keys::Purpose;
use crate::store::Unit;
use bitcoin::absolute::LockTime;
use bitcoin::script::PushBytesBuf;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use fulmen_channel::amount::{FeeratePerKw, Sat};

/// Change below this is left to the miners: the dust limit of p2wkh (BOLT 3, appendix of dust).
pub const DUST: Sat = Sat::new(294);

/// The most unconfirmed ancestors a transaction may have, itself included, to be relayed.
const MAX_PACKAGE: usize = 25;

/// What is to be paid, and how.
#[derive(Debug, Clone)]
pub struct FundRequest {
    /// The outputs; for a sweep none.
    pub outputs: Vec<TxOut>,
    /// The feerate of the transaction.
    pub feerate: FeeratePerKw,
    /// What coins are good enough. 0: all, even money that somebody may take back. 1: confirmed
    /// ones and our own unconfirmed change. More: coins with so many confirmations.
    pub min_confs: u32,
    /// Channels with anchors, this one included: the wallet keeps [`anchor_reserve`] for them.
    pub anchor_channels: u32,
    /// How coins are chosen.
    pub strategy: Strategy,
    /// The coins to spend, all of them; none: the wallet chooses.
    pub picked: Vec<OutPoint>,
}

impl FundRequest {
    /// A request for `outputs`; further fields as usual.
    pub fn new(outputs: Vec<TxOut>, feerate: FeeratePerKw) -> FundRequest {
        FundRequest {
            outputs,
            feerate,
            min_confs: 1,
            anchor_channels: 0,
            strategy: Strategy::Largest,
            picked: Vec::new(),
        }
    }
}

/// A transaction as it would be: nothing is held for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The coins it would spend.
    pub coins: Vec<Coin>,
    /// What it would pay, change apart.
    pub outputs: Vec<TxOut>,
    /// Its fee.
    pub fee: Sat,
    /// What would come back; nothing if zero.
    pub change: Sat,
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
         bumping anchor channel closings (see debug log for details): {} would be left, {} must \
         be, {} is missing",
        btc(*left), btc(*reserve), btc(reserve.saturating_sub(*left))
    )]
    Reserve {
        /// What would be left.
        left: Sat,
        /// What must be.
        reserve: Sat,
    },
    /// An output that no node relays.
    #[error("transaction output is dust: {0} is too small to be relayed")]
    Dust(Sat),
    /// There is nothing to pay.
    #[error("the transaction has no outputs")]
    Empty,
    /// The sum of the outputs is no amount of money.
    #[error("the outputs are worth more than all bitcoin")]
    TooMuch,
    /// A coin that was picked cannot be spent.
    #[error(
        "the output {0} cannot be spent: it is not the wallet's, is spent, held for another \
         transaction, or has too few confirmations"
    )]
    NotACoin(OutPoint),
    /// The coins do not fit into one transaction.
    #[error(
        "spending {0} coins makes a transaction that is too large to be relayed; spend fewer, \
         chosen by their outpoints"
    )]
    TooManyCoins(usize),
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
        let plan = self.plan(request)?;
        Ok(self.reserve(plan, unit)?)
    }

    /// How `request` would be paid now.
    ///
    /// # Errors
    /// [`FundError`] when it cannot be.
    pub fn plan(&self, request: &FundRequest) -> Result<Plan, FundError> {
        let target = checked(request)?;
        let view = self.view();
        let coins = self.coins_of(&view);
        let usable = usable(&coins, request)?;
        let choice = match request.picked.is_empty() {
            true => self.choose(&view, &usable, target, request.strategy),
            false => target.settle(usable.clone()),
        };
        let choice = choice.ok_or_else(|| shortage(&usable, target))?;
        let reserve = anchor_reserve(request.anchor_channels);
        let left = left_over(&coins, &choice.coins).saturating_add(choice.change);
        if left < reserve {
            return Err(FundError::Reserve { left, reserve });
        }
        let Choice { coins, fee, change } = choice;
        Ok(Plan { coins, outputs: request.outputs.clone(), fee, change })
    }

    /// How all coins, or all that were picked, would be swept to `script` now. What the anchor
    /// reserve needs comes back as change.
    ///
    /// # Errors
    /// [`FundError`] when nothing worth sending would be left.
    pub fn plan_sweep(&self, script: ScriptBuf, request: &FundRequest) -> Result<Plan, FundError> {
        let coins = self.coins();
        let usable = usable(&coins, request)?;
        let dust = script.minimal_non_dust();
        let mut outputs = vec![TxOut { value: dust, script_pubkey: script }];
        let target = Target { outputs: &outputs, feerate: request.feerate };
        let chosen = match request.picked.is_empty() {
            true => all_worthy(&usable, target),
            false => usable.clone(),
        };
        if too_heavy(&chosen, &outputs) {
            return Err(FundError::TooManyCoins(chosen.len()));
        }
        let reserve = anchor_reserve(request.anchor_channels);
        let stays = left_over(&coins, &chosen);
        let change = match reserve.saturating_sub(stays) {
            Sat::ZERO => Sat::ZERO,
            missing => missing.max(DUST),
        };
        let fee = target.fee(&chosen, change > Sat::ZERO);
        let swept = sum(&chosen).saturating_sub(fee);
        let paid = swept.saturating_sub(change);
        if paid < dust.into() {
            let left = stays.saturating_add(swept);
            return Err(match change {
                Sat::ZERO => shortage(&usable, target),
                _ => FundError::Reserve { left, reserve },
            });
        }
        if let Some(output) = outputs.first_mut() {
            output.value = paid.to_amount();
        }
        Ok(Plan { coins: chosen, outputs, fee, change })
    }

    /// What is missing now of the reserve for `channels` channels with anchors, reckoned as when a
    /// transaction is planned.
    pub fn missing_reserve(&self, channels: u32) -> Sat {
        anchor_reserve(channels).saturating_sub(left_over(&self.coins(), &[]))
    }

    /// Makes the transaction of a plan and holds its inputs. The plan must be of now: no coin may
    /// have been held or spent since.
    ///
    /// # Errors
    /// [`WalletError`] when a key cannot be derived.
    pub fn reserve(&mut self, plan: Plan, unit: &mut Unit) -> Result<Reservation, WalletError> {
        let reservation = self.assemble(plan, unit)?;
        self.hold(&reservation.tx, unit);
        Ok(reservation)
    }

    /// Holds the inputs of a transaction that was made elsewhere.
    pub fn hold(&mut self, tx: &Transaction, unit: &mut Unit) {
        let txid = tx.compute_txid();
        rows::put_reservation(unit, txid, tx);
        self.reserved.insert(txid, tx.clone());
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
        target: Target,
        strategy: Strategy,
    ) -> Option<Choice> {
        let confirmed: Vec<Coin> = usable.iter().filter(|c| c.confirmations > 0).cloned().collect();
        if let Some(choice) = select(&confirmed, target, strategy) {
            return Some(choice);
        }
        let choice = select(usable, target, strategy)?;
        let parents = choice.coins.iter().map(|coin| coin.outpoint.txid);
        if self.ancestry(view, parents).unconfirmed.len() < MAX_PACKAGE {
            return Some(choice);
        }
        // Too long a chain to be relayed: leave out the coins that come at the end of long ones.
        let short = |coin: &&Coin| {
            let ancestry = self.ancestry(view, [coin.outpoint.txid]);
            ancestry.unconfirmed.len() < MAX_PACKAGE / 5
        };
        let short: Vec<Coin> = usable.iter().filter(short).cloned().collect();
        let choice = select(&short, target, strategy)?;
        let parents = choice.coins.iter().map(|coin| coin.outpoint.txid);
        (self.ancestry(view, parents).unconfirmed.len() < MAX_PACKAGE).then_some(choice)
    }

    fn assemble(&mut self, plan: Plan, unit: &mut Unit) -> Result<Reservation, WalletError> {
        let Plan { coins, mut outputs, fee, change } = plan;
        let mut change_script = None;
        if change > Sat::ZERO {
            let script_pubkey = self.reveal(Keychain::CHANGE, unit)?;
            change_script = Some(script_pubkey.clone());
            outputs.push(TxOut { value: change.to_amount(), script_pubkey });
        }
        // An order that tells nothing about which output is whose (BIP 69).
        outputs.sort_by(|a, b| (a.value, &a.script_pubkey).cmp(&(b.value, &b.script_pubkey)));
        let mut inputs = Vec::new();
        for coin in &coins {
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
        Ok(Reservation { txid: tx.compute_txid(), fee, change, tx })
    }

    /// An unsigned input. That of a nested output has its script signature already, since the
    /// transaction's id depends on it.
    ///
    /// # Errors
    /// [`WalletError`] when its key cannot be derived.
    pub fn input(&self, coin: &Coin) -> Result<TxIn, WalletError> {
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

/// The outputs, if they can be paid at all.
fn checked(request: &FundRequest) -> Result<Target<'_>, FundError> {
    if request.outputs.is_empty() {
        return Err(FundError::Empty);
    }
    for output in &request.outputs {
        if output.value < output.script_pubkey.minimal_non_dust() {
            return Err(FundError::Dust(output.value.into()));
        }
    }
    let target = Target { outputs: &request.outputs, feerate: request.feerate };
    if target.sum() > Sat::MAX_MONEY {
        return Err(FundError::TooMuch);
    }
    Ok(target)
}

/// The coins that are good enough: those that were picked, or all.
fn usable(coins: &[Coin], request: &FundRequest) -> Result<Vec<Coin>, FundError> {
    let good = |coin: &&Coin| match coin.standing {
        _ if coin.locked => false,
        Standing::Confirmed => coin.confirmations >= request.min_confs,
        Standing::OwnChange => request.min_confs <= 1,
        Standing::Foreign => request.min_confs == 0,
        Standing::Immature => false,
    };
    let good: Vec<Coin> = coins.iter().filter(good).cloned().collect();
    if request.picked.is_empty() {
        return Ok(good);
    }
    let mut picked = Vec::new();
    for outpoint in &request.picked {
        let coin = good.iter().find(|coin| coin.outpoint == *outpoint);
        picked.push(coin.cloned().ok_or(FundError::NotACoin(*outpoint))?);
    }
    picked.sort_by_key(|coin| coin.outpoint);
    picked.dedup_by_key(|coin| coin.outpoint);
    Ok(picked)
}

/// Why `coins` do not pay for `target`.
fn shortage(coins: &[Coin], target: Target) -> FundError {
    let worthy = all_worthy(coins, target);
    let need = target.sum().saturating_add(target.fee(&worthy, false));
    if sum(&worthy) >= need && too_heavy(&worthy, target.outputs) {
        return FundError::TooManyCoins(worthy.len());
    }
    FundError::Insufficient { need, have: sum(coins) }
}

/// What would be left to bump fees with: coins that we may count on, change apart.
fn left_over(coins: &[Coin], spent: &[Coin]) -> Sat {
    let spent = |outpoint: &OutPoint| spent.iter().any(|coin| coin.outpoint == *outpoint);
    let stays = |coin: &&Coin| coin.pays_for_closes() && !spent(&coin.outpoint);
    coins.iter().filter(stays).map(Coin::value).fold(Sat::ZERO, Sat::saturating_add)
}
