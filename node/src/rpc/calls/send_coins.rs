//! SendCoins, SendMany and EstimateFee.

use super::{failed, sat};
use crate::chain::{fees, Target};
use crate::node::Node;
use crate::sends::{random, SendError, SendRequest};
use crate::wallet::{FundError, FundRequest, Strategy};
use bitcoin::address::NetworkUnchecked;
use bitcoin::hashes::Hash;
use bitcoin::{Address, Network, OutPoint, ScriptBuf, TxOut, Txid};
use fulmen_channel::amount::{FeeratePerKw, Sat};
use fulmen_proto::lnrpc::{self, CoinSelectionStrategy};
use std::collections::BTreeMap;
use tonic::Status;

/// Pays an address, or sweeps to it.
pub async fn send_coins(
    node: &Node,
    request: lnrpc::SendCoinsRequest,
) -> Result<lnrpc::SendCoinsResponse, Status> {
    let script = script(&request.addr, node.config.network)?;
    if request.send_all && request.amount != 0 {
        return Err(failed("amount set while SendAll is active"));
    }
    let outputs = match request.send_all {
        true => Vec::new(),
        false => vec![output(script.clone(), request.amount)?],
    };
    #[allow(deprecated)] // older clients give sat_per_byte
    let feerate = Asked {
        target_conf: request.target_conf,
        sat_per_vbyte: request.sat_per_vbyte,
        sat_per_byte: request.sat_per_byte,
    };
    let fund = FundRequest {
        min_confs: min_confs(request.min_confs, request.spend_unconfirmed)?,
        strategy: strategy(node, request.coin_selection_strategy)?,
        picked: outpoints(&request.outpoints)?,
        ..FundRequest::new(outputs, feerate.resolve(node).await?)
    };
    let sweep_to = request.send_all.then_some(script);
    let label = label(&request.label)?;
    Ok(lnrpc::SendCoinsResponse { txid: send(node, SendRequest { fund, sweep_to, label }).await? })
}

/// Pays several addresses at once.
pub async fn send_many(
    node: &Node,
    request: lnrpc::SendManyRequest,
) -> Result<lnrpc::SendManyResponse, Status> {
    #[allow(deprecated)] // older clients give sat_per_byte
    let feerate = Asked {
        target_conf: request.target_conf,
        sat_per_vbyte: request.sat_per_vbyte,
        sat_per_byte: request.sat_per_byte,
    };
    let outputs = outputs(node, &request.addr_to_amount)?;
    let fund = FundRequest {
        min_confs: min_confs(request.min_confs, request.spend_unconfirmed)?,
        strategy: strategy(node, request.coin_selection_strategy)?,
        ..FundRequest::new(outputs, feerate.resolve(node).await?)
    };
    let label = label(&request.label)?;
    let txid = send(node, SendRequest { fund, sweep_to: None, label }).await?;
    Ok(lnrpc::SendManyResponse { txid })
}

/// What a send would cost.
pub async fn estimate_fee(
    node: &Node,
    request: lnrpc::EstimateFeeRequest,
) -> Result<lnrpc::EstimateFeeResponse, Status> {
    let asked = Asked { target_conf: request.target_conf, ..Asked::default() };
    let feerate = asked.resolve(node).await?;
    let fund = FundRequest {
        min_confs: min_confs(request.min_confs, request.spend_unconfirmed)?,
        strategy: strategy(node, request.coin_selection_strategy)?,
        picked: outpoints(&request.inputs)?,
        ..FundRequest::new(outputs(node, &request.addr_to_amount)?, feerate)
    };
    let asked = SendRequest { fund, sweep_to: None, label: String::new() };
    let plan = node.money.estimate(asked).map_err(|error| refused(error.into()))?;
    let sat_per_vbyte = u64::from(feerate.per_kw()).saturating_mul(4) / 1_000;
    #[allow(deprecated)] // older clients read feerate_sat_per_byte
    Ok(lnrpc::EstimateFeeResponse {
        fee_sat: sat(plan.fee),
        feerate_sat_per_byte: i64::try_from(sat_per_vbyte).unwrap_or(i64::MAX),
        sat_per_vbyte,
        inputs: plan.coins.iter().map(|coin| outpoint(coin.outpoint)).collect(),
    })
}

async fn send(node: &Node, request: SendRequest) -> Result<String, Status> {
    let sent = node.money.send(&node.services.chain, request).await;
    sent.map(|txid| txid.to_string()).map_err(refused)
}

/// lnd tells of missing money without amounts here, and clients compare the whole text.
fn refused(error: SendError) -> Status {
    match error {
        SendError::Fund(FundError::Insufficient { .. }) => {
            failed("insufficient funds available to construct transaction")
        }
        other => failed(other),
    }
}

/// The feerate as requests give it.
#[derive(Clone, Copy, Default)]
pub(super) struct Asked {
    /// Blocks.
    pub target_conf: i32,
    /// In one of two fields.
    pub sat_per_vbyte: u64,
    /// The same.
    pub sat_per_byte: i64,
}

impl Asked {
    /// The feerate to use: the one given, or the estimate for the target, by default 6 blocks.
    pub async fn resolve(self, node: &Node) -> Result<FeeratePerKw, Status> {
        match self.check()? {
            Ok(feerate) => Ok(feerate),
            Err(target) => Ok(node.services.chain.feerate(target).await),
        }
    }

    fn check(self) -> Result<Result<FeeratePerKw, Target>, Status> {
        let (Ok(per_byte), Ok(blocks)) =
            (u64::try_from(self.sat_per_byte), u32::try_from(self.target_conf))
        else {
            return Err(failed("sat_per_byte and target_conf cannot be negative"));
        };
        if per_byte > 0 && self.sat_per_vbyte > 0 {
            let text = "either SatPerByte or SatPerVByte should be set, but not both";
            return Err(failed(text));
        }
        match (per_byte.max(self.sat_per_vbyte), blocks) {
            (0, 0) => Ok(Err(Target::Normal)),
            (0, blocks) => Ok(Err(Target::Within(u16::try_from(blocks).unwrap_or(u16::MAX)))),
            (asked, 0) => {
                let feerate = u32::try_from(asked.saturating_mul(250)).unwrap_or(u32::MAX);
                let feerate = FeeratePerKw::new(feerate);
                if feerate > fees::CEILING {
                    let most = fees::CEILING.per_kw() / 250;
                    return Err(failed(format!(
                        "a fee of {asked} sat/vB must be a mistake: the most is {most} sat/vB"
                    )));
                }
                // 1 sat/vB is a hair too little to be relayed.
                Ok(Ok(feerate.max(FeeratePerKw::FLOOR)))
            }
            _ => Err(failed("fee preference conflict")),
        }
    }
}

/// The script of an address on our network. np2wkh and p2pkh addresses look alike on all test
/// networks, and so they are taken from any of them, as lnd does.
fn script(address: &str, network: Network) -> Result<ScriptBuf, Status> {
    let address = address.trim();
    if address.len() == 66 && hex::decode(address).is_ok() {
        return Err(failed("cannot send coins to pubkeys"));
    }
    let parsed: Address<NetworkUnchecked> = address
        .parse()
        .map_err(|error| failed(format!("the address {address:?} cannot be read: {error}")))?;
    let checked = parsed.require_network(network).map_err(|_| {
        let name = match network {
            Network::Testnet => "testnet3",
            other => crate::config::network_name(other),
        };
        failed(format!("address: {address} is not valid for this network: {name}"))
    })?;
    Ok(checked.script_pubkey())
}

fn outputs(node: &Node, pairs: &BTreeMap<String, i64>) -> Result<Vec<TxOut>, Status> {
    let network = node.config.network;
    pairs.iter().map(|(address, amount)| output(script(address, network)?, *amount)).collect()
}

fn output(script_pubkey: ScriptBuf, amount: i64) -> Result<TxOut, Status> {
    let amount = u64::try_from(amount).map_err(|_| failed("transaction output is negative"))?;
    Ok(TxOut { value: Sat::new(amount).to_amount(), script_pubkey })
}

/// What confirmations coins must have: 1, unless the caller says otherwise.
fn min_confs(min_confs: i32, spend_unconfirmed: bool) -> Result<u32, Status> {
    let asked = u32::try_from(min_confs)
        .map_err(|_| failed("minimum number of confirmations must be a non-negative number"))?;
    match (asked, spend_unconfirmed) {
        (0, false) => Ok(1),
        (0, true) => Ok(0),
        (asked, false) => Ok(asked),
        _ => Err(failed("SpendUnconfirmed set to true with MinConfs > 0")),
    }
}

fn strategy(node: &Node, asked: i32) -> Result<Strategy, Status> {
    match CoinSelectionStrategy::try_from(asked) {
        Ok(CoinSelectionStrategy::StrategyUseGlobalConfig) => Ok(node.money.strategy()),
        Ok(CoinSelectionStrategy::StrategyLargest) => Ok(Strategy::Largest),
        Ok(CoinSelectionStrategy::StrategyRandom) => Ok(random()),
        Err(_) => Err(failed(format!("unknown coin selection strategy: {asked}"))),
    }
}

/// Outpoints as requests give them: the txid as bytes or as text.
pub(super) fn outpoints(given: &[lnrpc::OutPoint]) -> Result<Vec<OutPoint>, Status> {
    given.iter().map(outpoint_in).collect()
}

/// An outpoint as requests give it.
pub(super) fn outpoint_in(given: &lnrpc::OutPoint) -> Result<OutPoint, Status> {
    let txid = match given.txid_str.is_empty() {
        false => given.txid_str.parse().map_err(failed)?,
        true => Txid::from_slice(&given.txid_bytes).map_err(failed)?,
    };
    Ok(OutPoint { txid, vout: given.output_index })
}

/// An outpoint as the API has it.
pub(super) fn outpoint(outpoint: OutPoint) -> lnrpc::OutPoint {
    lnrpc::OutPoint {
        txid_bytes: outpoint.txid.to_byte_array().to_vec(),
        txid_str: outpoint.txid.to_string(),
        output_index: outpoint.vout,
    }
}

/// What the sender calls it; lnd's word for what came through the API otherwise.
fn label(given: &str) -> Result<String, Status> {
    const MOST: usize = 500;
    match given.len() {
        0 => Ok("external".into()),
        length if length > MOST => {
            Err(failed(format!("label length: {length} exceeds limit of: {MOST}")))
        }
        _ => Ok(given.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(target_conf: i32, sat_per_vbyte: u64, sat_per_byte: i64) -> Result<String, String> {
        let asked = Asked { target_conf, sat_per_vbyte, sat_per_byte };
        match asked.check() {
            Ok(Ok(feerate)) => Ok(feerate.per_kw().to_string()),
            Ok(Err(target)) => Ok(format!("{target:?}")),
            Err(status) => Err(status.message().into()),
        }
    }

    #[test]
    fn a_feerate_comes_from_one_field() {
        for (target, vbyte, byte, outcome) in [
            (0, 0, 0, "Normal"),
            (3, 0, 0, "Within(3)"),
            (i32::MAX, 0, 0, "Within(65535)"),
            (0, 1, 0, "253"),
            (0, 2, 0, "500"),
            (0, 0, 10, "2500"),
            (0, 1_000, 0, "250000"),
        ] {
            assert_eq!(asked(target, vbyte, byte).as_deref(), Ok(outcome));
        }
        for (target, vbyte, byte, why) in [
            (6, 2, 0, "fee preference conflict"),
            (6, 0, 2, "fee preference conflict"),
            (0, 2, 2, "either SatPerByte or SatPerVByte should be set, but not both"),
            (-1, 0, 0, "sat_per_byte and target_conf cannot be negative"),
            (0, 1_001, 0, "a fee of 1001 sat/vB must be a mistake: the most is 1000 sat/vB"),
            (
                0,
                u64::MAX,
                0,
                "a fee of 18446744073709551615 sat/vB must be a mistake: the most is 1000 sat/vB",
            ),
        ] {
            assert_eq!(asked(target, vbyte, byte), Err(why.into()));
        }
    }

    #[test]
    fn addresses_of_other_networks_are_refused() {
        let nested = "2Mww8dCYPUpKHofjgcXcBCEGmniw9CoaiD2";
        for (address, network, taken) in [
            (nested, Network::Regtest, true),
            (nested, Network::Testnet, true),
            (nested, Network::Bitcoin, false),
            ("bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk", Network::Regtest, true),
            ("bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk", Network::Signet, false),
            ("tb1q6rz28mcfaxtmd6v789l9rrlrusdprr9pqcpvkl", Network::Regtest, false),
        ] {
            let read = script(address, network).map_err(|status| status.message().to_owned());
            assert_eq!(read.is_ok(), taken, "{address} {network}: {read:?}");
            if let Err(why) = read {
                assert!(why.contains(" is not valid for this network: "), "{why}");
            }
        }
        let key = "02".repeat(33);
        let why = script(&key, Network::Regtest).unwrap_err();
        assert_eq!(why.message(), "cannot send coins to pubkeys");
        assert!(script("nonsense", Network::Regtest).is_err());
    }

    #[test]
    fn confirmations_and_labels_are_as_lnd_takes_them() {
        for (asked, unconfirmed, confs) in [(0, false, 1), (0, true, 0), (3, false, 3)] {
            assert_eq!(min_confs(asked, unconfirmed).ok(), Some(confs));
        }
        assert!(min_confs(-1, false).is_err() && min_confs(1, true).is_err());
        assert_eq!(label("").ok().as_deref(), Some("external"));
        assert_eq!(label(&"x".repeat(500)).ok().map(|label| label.len()), Some(500));
        let why = label(&"x".repeat(501)).unwrap_err();
        assert_eq!(why.message(), "label length: 501 exceeds limit of: 500");
    }
}
