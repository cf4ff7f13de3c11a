//! GetTransactions, SubscribeTransactions and ListUnspent: what the wallet did and has.

use super::send_coins::outpoint;
use super::{failed, sat};
use crate::channels::record::{ChannelRecord, SpendKind};
use crate::keys::Purpose;
use crate::node::Node;
use crate::wallet::{Coin, Standing, WalletTx};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Address, Network, OutPoint, Script, TxOut, Txid};
use fulmen_proto::lnrpc::{self, AddressType, OutputScriptType};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tonic::Status;

/// The transactions of some blocks, and the unconfirmed ones.
pub async fn get_transactions(
    node: &Node,
    request: lnrpc::GetTransactionsRequest,
) -> Result<lnrpc::TransactionDetails, Status> {
    known_account(&request.account)?;
    let labels = Labels::load(node)?;
    let all = chosen(node.money.transactions(), request.start_height, request.end_height);
    let from = usize::try_from(request.index_offset).unwrap_or(usize::MAX);
    let most = match request.max_transactions {
        0 => usize::MAX,
        most => usize::try_from(most).unwrap_or(usize::MAX),
    };
    let mut page: Vec<WalletTx> = all.into_iter().skip(from).take(most).collect();
    if page.is_empty() {
        return Ok(lnrpc::TransactionDetails::default());
    }
    let first_index = u64::from(request.index_offset);
    let more = u64::try_from(page.len().saturating_sub(1)).unwrap_or(u64::MAX);
    page.sort_by_key(|tx| tx.confirmations);
    let transactions =
        page.iter().map(|tx| transaction(tx, &labels, node.config.network)).collect();
    let last_index = first_index.saturating_add(more);
    Ok(lnrpc::TransactionDetails { transactions, last_index, first_index })
}

/// Those between two heights, of which -1 and an unconfirmed one's lie above all blocks; in
/// falling order if the first height is the higher one. An end of 0 stands for -1.
fn chosen(all: Vec<WalletTx>, start: i32, end: i32) -> Vec<WalletTx> {
    let height = |asked: i32| u32::try_from(asked).unwrap_or(u32::MAX);
    let (start, end) = (height(start), if end == 0 { u32::MAX } else { height(end) });
    let (low, high) = (start.min(end), start.max(end));
    let place = |tx: &WalletTx| tx.block.map_or(u32::MAX, |(height, _)| height.number());
    let mut chosen: Vec<WalletTx> =
        all.into_iter().filter(|tx| (low..=high).contains(&place(tx))).collect();
    if start > end {
        chosen.reverse();
    }
    chosen
}

/// Transactions from now on: each when it appears, and when it confirms.
pub async fn subscribe_transactions(
    node: Arc<Node>,
) -> Result<mpsc::Receiver<Result<lnrpc::Transaction, Status>>, Status> {
    let mut news = node.money.subscribe();
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let told = tokio::select! {
                told = news.recv() => told,
                () = sender.closed() => return,
            };
            let answer = match told {
                Ok(tx) => {
                    let labels = Labels::load(&node);
                    labels.map(|labels| transaction(&tx, &labels, node.config.network))
                }
                Err(RecvError::Lagged(missed)) => Err(failed(format!(
                    "{missed} transactions were missed: subscribe again and read GetTransactions"
                ))),
                Err(RecvError::Closed) => return,
            };
            let over = answer.is_err();
            if sender.send(answer).await.is_err() || over {
                return;
            }
        }
    });
    Ok(receiver)
}

/// The coins with so many confirmations that may be spent.
pub async fn list_unspent(
    node: &Node,
    request: lnrpc::ListUnspentRequest,
) -> Result<lnrpc::ListUnspentResponse, Status> {
    known_account(&request.account)?;
    let min =
        u32::try_from(request.min_confs).map_err(|_| failed("min confirmations must be >= 0"))?;
    let max = u32::try_from(request.max_confs).ok().filter(|max| min <= *max);
    let max = max.ok_or_else(|| failed("max confirmations must be >= min confirmations"))?;
    let fits = |coin: &Coin| {
        let free = !coin.locked && coin.standing != Standing::Immature;
        free && (min..=max).contains(&coin.confirmations)
    };
    let coins = node.money.coins().into_iter().filter(fits);
    let utxos = coins.map(|coin| utxo(&coin, node.config.network)).collect();
    Ok(lnrpc::ListUnspentResponse { utxos })
}

fn known_account(account: &str) -> Result<(), Status> {
    match account {
        "" | "default" => Ok(()),
        other => Err(failed(format!("account {other} not found"))),
    }
}

fn utxo(coin: &Coin, network: Network) -> lnrpc::Utxo {
    let kind = match coin.keychain.purpose {
        Purpose::WitnessKeyHash => AddressType::WitnessPubkeyHash,
        Purpose::NestedWitnessKeyHash => AddressType::NestedPubkeyHash,
        Purpose::Taproot => AddressType::TaprootPubkey,
    };
    let script = &coin.output.script_pubkey;
    lnrpc::Utxo {
        address_type: kind.into(),
        address: address(script, network),
        amount_sat: sat(coin.value()),
        pk_script: script.to_hex_string(),
        outpoint: Some(outpoint(coin.outpoint)),
        confirmations: coin.confirmations.into(),
    }
}

/// What lnd calls the transactions of channels.
struct Labels {
    /// F by its id, if we made it.
    opened: BTreeMap<Txid, String>,
    /// F's output, whose spend closes.
    closing: BTreeMap<OutPoint, String>,
    /// Commitments, whose spends sweep.
    commitments: BTreeMap<Txid, ()>,
}

impl Labels {
    fn load(node: &Node) -> Result<Labels, Status> {
        let records = ChannelRecord::load_all(&node.services.store).map_err(failed)?;
        let mut labels = Labels {
            opened: BTreeMap::new(),
            closing: BTreeMap::new(),
            commitments: BTreeMap::new(),
        };
        for record in records {
            let place = record.short_channel_id().map(|id| format!(":shortchanid-{id}"));
            let place = place.unwrap_or_default();
            if record.initiator {
                labels.opened.insert(record.outpoint.txid, format!("0:openchannel{place}"));
            }
            match record.spent.map(|spent| (spent.kind, spent.txid)) {
                Some((SpendKind::Remote | SpendKind::Local, txid)) => {
                    labels.commitments.insert(txid, ());
                }
                _ => drop(labels.closing.insert(record.outpoint, format!("0:closechannel{place}"))),
            }
        }
        Ok(labels)
    }

    fn of(&self, tx: &WalletTx) -> String {
        if !tx.label.is_empty() {
            return tx.label.clone();
        }
        let spent = || tx.tx.input.iter().map(|input| input.previous_output);
        let closing = spent().find_map(|outpoint| self.closing.get(&outpoint));
        let sweeps = spent().any(|outpoint| self.commitments.contains_key(&outpoint.txid));
        let label = self.opened.get(&tx.txid).or(closing).cloned();
        label.unwrap_or_else(|| if sweeps { "0:sweep".into() } else { String::new() })
    }
}

fn transaction(tx: &WalletTx, labels: &Labels, network: Network) -> lnrpc::Transaction {
    let outputs = tx.tx.output.iter().zip(&tx.our_outputs).zip(0i64..);
    let output_details: Vec<_> = outputs
        .map(|((output, ours), index)| output_detail(output, *ours, index, network))
        .collect();
    let addresses = output_details.iter().map(|output| output.address.clone());
    let inputs = tx.tx.input.iter().zip(&tx.our_inputs);
    #[allow(deprecated)] // older clients read dest_addresses
    lnrpc::Transaction {
        tx_hash: tx.txid.to_string(),
        amount: tx.net_sat(),
        num_confirmations: i32::try_from(tx.confirmations).unwrap_or(i32::MAX),
        block_hash: tx.block.map(|(_, hash)| hash.to_string()).unwrap_or_default(),
        block_height: tx
            .block
            .map_or(0, |(height, _)| i32::try_from(height.number()).unwrap_or(i32::MAX)),
        time_stamp: i64::try_from(tx.time).unwrap_or(i64::MAX),
        total_fees: tx.fee.map_or(0, sat),
        dest_addresses: addresses.filter(|address| !address.is_empty()).collect(),
        raw_tx_hex: serialize_hex(&*tx.tx),
        label: labels.of(tx),
        previous_outpoints: inputs
            .map(|(input, ours)| lnrpc::PreviousOutPoint {
                outpoint: input.previous_output.to_string(),
                is_our_output: *ours,
            })
            .collect(),
        output_details,
    }
}

fn output_detail(
    output: &TxOut,
    is_our_address: bool,
    output_index: i64,
    network: Network,
) -> lnrpc::OutputDetail {
    lnrpc::OutputDetail {
        output_type: script_type(&output.script_pubkey).into(),
        address: address(&output.script_pubkey, network),
        pk_script: output.script_pubkey.to_hex_string(),
        output_index,
        amount: sat(output.value.into()),
        is_our_address,
    }
}

/// The address of a script; empty if it has none.
fn address(script: &Script, network: Network) -> String {
    Address::from_script(script, network).map(|address| address.to_string()).unwrap_or_default()
}

fn script_type(script: &Script) -> OutputScriptType {
    match script {
        _ if script.is_p2pkh() => OutputScriptType::ScriptTypePubkeyHash,
        _ if script.is_p2sh() => OutputScriptType::ScriptTypeScriptHash,
        _ if script.is_p2wpkh() => OutputScriptType::ScriptTypeWitnessV0PubkeyHash,
        _ if script.is_p2wsh() => OutputScriptType::ScriptTypeWitnessV0ScriptHash,
        _ if script.is_p2tr() => OutputScriptType::ScriptTypeWitnessV1Taproot,
        _ if script.is_witness_program() => OutputScriptType::ScriptTypeWitnessUnknown,
        _ if script.is_p2pk() => OutputScriptType::ScriptTypePubkey,
        _ if script.is_multisig() => OutputScriptType::ScriptTypeMultisig,
        _ if script.is_op_return() => OutputScriptType::ScriptTypeNulldata,
        _ => OutputScriptType::ScriptTypeNonStandard,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;
    use bitcoin::{absolute::LockTime, transaction::Version, BlockHash, ScriptBuf, Transaction};
    use fulmen_channel::amount::{Height, Sat};

    fn at(height: Option<u32>) -> WalletTx {
        let tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![],
            output: vec![],
        };
        WalletTx {
            txid: Txid::all_zeros(),
            tx: Arc::new(tx),
            received: Sat::ZERO,
            sent: Sat::ZERO,
            fee: None,
            block: height.map(|height| (Height::new(height), BlockHash::all_zeros())),
            confirmations: 0,
            time: 0,
            our_inputs: vec![],
            our_outputs: vec![],
            label: String::new(),
        }
    }

    #[test]
    fn heights_choose_transactions_and_their_order() {
        const TIP: u32 = 9_999;
        for (start, end, heights) in [
            (0, 0, vec![1, 5, 9, TIP]),
            (0, -1, vec![1, 5, 9, TIP]),
            (5, -1, vec![5, 9, TIP]),
            (5, 9, vec![5, 9]),
            (1, 1, vec![1]),
            (9, 2, vec![9, 5]),
            (-1, 5, vec![TIP, 9, 5]),
            (-1, -1, vec![TIP]),
            (10, 20, vec![]),
        ] {
            let all = [Some(1), Some(5), Some(9), None].map(at).to_vec();
            let place = |tx: WalletTx| tx.block.map_or(TIP, |(height, _)| height.number());
            let got: Vec<u32> = chosen(all, start, end).into_iter().map(place).collect();
            assert_eq!(got, heights, "{start} {end}");
        }
    }

    #[test]
    fn scripts_have_lnds_types() {
        for (hex, kind) in [
            (format!("76a914{}88ac", "00".repeat(20)), OutputScriptType::ScriptTypePubkeyHash),
            (format!("a914{}87", "00".repeat(20)), OutputScriptType::ScriptTypeScriptHash),
            (format!("0014{}", "00".repeat(20)), OutputScriptType::ScriptTypeWitnessV0PubkeyHash),
            (format!("0020{}", "00".repeat(32)), OutputScriptType::ScriptTypeWitnessV0ScriptHash),
            (format!("5120{}", "01".repeat(32)), OutputScriptType::ScriptTypeWitnessV1Taproot),
            (format!("5220{}", "01".repeat(32)), OutputScriptType::ScriptTypeWitnessUnknown),
            (format!("21{}ac", "02".repeat(33)), OutputScriptType::ScriptTypePubkey),
            (format!("5121{}51ae", "02".repeat(33)), OutputScriptType::ScriptTypeMultisig),
            ("6a0100".into(), OutputScriptType::ScriptTypeNulldata),
            ("51".into(), OutputScriptType::ScriptTypeNonStandard),
        ] {
            let script = ScriptBuf::from_hex(&hex).unwrap();
            assert_eq!(script_type(&script), kind, "{hex}");
        }
    }
}
