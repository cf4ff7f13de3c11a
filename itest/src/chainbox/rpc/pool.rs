//! Calls about the mempool and about transactions.

use std::collections::BTreeSet;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{OutPoint, Transaction, Txid};
use fulmen_channel::amount::Sat;
use serde_json::{json, Map, Value};

use super::blocks::tx_value;
use super::{btc, decode, per_kvb, Answer, Arguments, RpcError, BAD_PARAMETER, NOT_FOUND};
use crate::chainbox::accept::Candidate;
use crate::chainbox::mempool::{Entry, Mempool};
use crate::chainbox::package::Judged;
use crate::chainbox::policy::{PerKvb, RELAY_MINIMUM};
use crate::chainbox::ChainBox;

/// A transaction may not cost or burn what its sender did not mean to.
const ABSURD: i32 = -25;
/// It is in the chain, and not all spent.
const KNOWN: i32 = -27;
const NO_TX: &str = "TX decode failed. Make sure the tx has at least one input.";
/// 0.1 bitcoin for 1,000 vbytes.
const MAX_FEERATE: Sat = Sat::new(10_000_000);

/// Answers, if the method is one of these.
pub(super) fn answer(
    chain_box: &mut ChainBox,
    method: &str,
    arguments: &Arguments<'_>,
) -> Option<Answer> {
    Some(match method {
        "getmempoolinfo" => Ok(info(&chain_box.pool)),
        "getrawmempool" => raw_mempool(&chain_box.pool, arguments),
        "gettxspendingprevout" => spenders(&chain_box.pool, arguments),
        "getmempoolentry" => entry(&chain_box.pool, arguments),
        "estimatesmartfee" => estimate(chain_box, arguments),
        "getrawtransaction" => raw_transaction(chain_box, arguments),
        "sendrawtransaction" => send(chain_box, arguments),
        "testmempoolaccept" => test(chain_box, arguments),
        "submitpackage" => package(chain_box, arguments),
        _ => return None,
    })
}

fn info(pool: &Mempool) -> Value {
    let entries = pool.entries();
    let sum = pool.sum(entries.iter().map(|entry| &entry.txid));
    json!({
        "loaded": true,
        "size": sum.count,
        "bytes": sum.vsize,
        "usage": 0,
        "total_fee": btc(sum.fee),
        "maxmempool": 300_000_000,
        "mempoolminfee": per_kvb(pool.minimum),
        "minrelaytxfee": per_kvb(RELAY_MINIMUM),
        "incrementalrelayfee": per_kvb(RELAY_MINIMUM),
        "unbroadcastcount": 0,
        "fullrbf": true,
    })
}

fn raw_mempool(pool: &Mempool, arguments: &Arguments<'_>) -> Answer {
    let entries = pool.entries();
    if !arguments.get(0)?.unwrap_or(false) {
        return Ok(json!(entries.iter().map(|entry| entry.txid).collect::<Vec<Txid>>()));
    }
    let all = entries.into_iter().map(|entry| (entry.txid.to_string(), entry_value(pool, entry)));
    Ok(all.collect::<Map<String, Value>>().into())
}

fn entry(pool: &Mempool, arguments: &Arguments<'_>) -> Answer {
    match pool.get(&arguments.hash(0, "txid")?) {
        Some(entry) => Ok(entry_value(pool, entry)),
        None => Err(RpcError::new(NOT_FOUND, "Transaction not in mempool")),
    }
}

fn spenders(pool: &Mempool, arguments: &Arguments<'_>) -> Answer {
    #[derive(serde::Deserialize)]
    struct Output {
        txid: Txid,
        vout: u32,
    }
    let outputs: Vec<Output> = arguments.required(0)?;
    let spender = |Output { txid, vout }: Output| match pool.spender(&OutPoint { txid, vout }) {
        Some(by) => json!({ "txid": txid, "vout": vout, "spendingtxid": by }),
        None => json!({ "txid": txid, "vout": vout }),
    };
    Ok(outputs.into_iter().map(spender).collect())
}

fn entry_value(pool: &Mempool, entry: &Entry) -> Value {
    let mut ancestors = pool.ancestors(&entry.tx);
    ancestors.insert(entry.txid);
    let ancestors = pool.sum(&ancestors);
    let descendants = pool.sum(&pool.with_descendants(BTreeSet::from([entry.txid])));
    json!({
        "vsize": entry.vsize,
        "weight": entry.tx.weight().to_wu(),
        "time": entry.time,
        "height": entry.height.number(),
        "descendantcount": descendants.count,
        "descendantsize": descendants.vsize,
        "ancestorcount": ancestors.count,
        "ancestorsize": ancestors.vsize,
        "wtxid": entry.wtxid,
        "fees": {
            "base": btc(entry.fee),
            "modified": btc(entry.fee),
            "ancestor": btc(ancestors.fee),
            "descendant": btc(descendants.fee),
        },
        "depends": pool.parents(&entry.tx),
        "spentby": pool.children(&entry.txid),
        "bip125-replaceable": true,
        "unbroadcast": false,
    })
}

fn estimate(chain_box: &ChainBox, arguments: &Arguments<'_>) -> Answer {
    let blocks: u32 = arguments.required(0)?;
    Ok(match chain_box.estimate {
        // 1,000 vbytes are 4,000 units of weight.
        Some(rate) => json!({ "feerate": btc(rate.fee(4_000)), "blocks": blocks }),
        None => json!({ "errors": ["Insufficient data or no feerate found"], "blocks": blocks }),
    })
}

fn raw_transaction(chain_box: &ChainBox, arguments: &Arguments<'_>) -> Answer {
    let txid: Txid = arguments.hash(0, "parameter 1")?;
    let verbosity: Value = arguments.get(1)?.unwrap_or(Value::Bool(false));
    let verbose = verbosity.as_bool().unwrap_or_else(|| verbosity.as_u64() != Some(0));
    let in_block = match arguments.get::<String>(2)? {
        Some(_) => Some(arguments.hash(2, "parameter 3")?),
        None => None,
    };
    let found = match in_block {
        None => chain_box.pool.get(&txid).map(|entry| (*entry.tx).clone()),
        Some(hash) => {
            let (_, block) = chain_box
                .chain
                .block(&hash)
                .ok_or_else(|| RpcError::new(NOT_FOUND, "Block hash not found"))?;
            block.txdata.iter().find(|tx| tx.compute_txid() == txid).cloned()
        }
    };
    let tx = found.ok_or_else(|| match in_block {
        Some(_) => RpcError::new(NOT_FOUND, "No such transaction found in the provided block"),
        None => RpcError::new(
            NOT_FOUND,
            "No such mempool transaction. Use -txindex or provide a block hash to enable \
             blockchain transaction queries. Use gettransaction for wallet transactions.",
        ),
    })?;
    if !verbose {
        return Ok(json!(serialize_hex(&tx)));
    }
    let mut value = tx_value(&tx);
    if let (Some(hash), Some(fields)) = (in_block, value.as_object_mut()) {
        fields.insert("blockhash".into(), json!(hash));
        let confirmations = chain_box.chain.confirmations(&hash).unwrap_or(0);
        fields.insert("confirmations".into(), json!(confirmations));
    }
    Ok(value)
}

fn send(chain_box: &mut ChainBox, arguments: &Arguments<'_>) -> Answer {
    let tx: Transaction = arguments.decoded(0, NO_TX)?;
    let max_burn = arguments.amount(2)?.unwrap_or(Sat::ZERO);
    let burns = |output: &bitcoin::TxOut| {
        output.script_pubkey.is_op_return() && Sat::from(output.value) > max_burn
    };
    if tx.output.iter().any(burns) {
        let what = "Unspendable output exceeds maximum configured by user (maxburnamount)";
        return Err(RpcError::new(ABSURD, what));
    }
    let txid = tx.compute_txid();
    if chain_box.pool.get(&txid).is_some() {
        return Ok(json!(txid));
    }
    let made = (0_u32..).zip(&tx.output).map(|(vout, _)| OutPoint { txid, vout });
    if made.into_iter().any(|outpoint| chain_box.chain.coin(&outpoint).is_some()) {
        return Err(RpcError::new(KNOWN, "Transaction outputs already in utxo set"));
    }
    let candidate = chain_box.would_accept(&tx)?;
    if is_absurd(&candidate, arguments)? {
        let what = "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)";
        return Err(RpcError::new(ABSURD, what));
    }
    Ok(json!(chain_box.enter(candidate)))
}

/// A fee above the argument's feerate, which is 0.1 bitcoin for 1,000 vbytes unless given; 0 is
/// no limit.
fn is_absurd(candidate: &Candidate, arguments: &Arguments<'_>) -> Result<bool, RpcError> {
    let most = PerKvb::new(arguments.amount(1)?.unwrap_or(MAX_FEERATE).sat());
    let entry = &candidate.entry;
    Ok(most > PerKvb::new(0) && entry.fee > most.fee(entry.vsize))
}

fn test(chain_box: &ChainBox, arguments: &Arguments<'_>) -> Answer {
    let raw: Vec<String> = arguments.required(0)?;
    let [raw] = raw.as_slice() else {
        let what = "the chain in a box tests one transaction at a time";
        return Err(RpcError::new(BAD_PARAMETER, what));
    };
    let tx: Transaction = decode(raw, NO_TX)?;
    let mut verdict = json!({ "txid": tx.compute_txid(), "wtxid": tx.compute_wtxid() });
    let further = match chain_box.would_accept(&tx) {
        Ok(candidate) if is_absurd(&candidate, arguments)? => {
            json!({ "allowed": false, "reject-reason": "max-fee-exceeded" })
        }
        Ok(Candidate { entry, .. }) => json!({
            "allowed": true,
            "vsize": entry.vsize,
            "fees": {
                "base": btc(entry.fee),
                "effective-feerate": per_kvb(PerKvb::of(entry.fee, entry.vsize)),
                "effective-includes": [entry.wtxid],
            },
        }),
        Err(why) if why.is_missing() => {
            json!({ "allowed": false, "reject-reason": "missing-inputs" })
        }
        Err(why) => json!({
            "allowed": false,
            "reject-reason": why.reason(),
            "reject-details": why.to_string(),
        }),
    };
    if let (Some(verdict), Value::Object(further)) = (verdict.as_object_mut(), further) {
        verdict.extend(further);
    }
    Ok(json!([verdict]))
}

fn package(chain_box: &mut ChainBox, arguments: &Arguments<'_>) -> Answer {
    let raw: Vec<String> = arguments.required(0)?;
    let package = raw.iter().map(|raw| decode(raw, NO_TX)).collect::<Result<Vec<_>, _>>()?;
    let judged = chain_box
        .submit_package(&package)
        .map_err(|why| RpcError::new(ABSURD, format!("package topology disallowed. {why}")))?;
    let mut results = Map::new();
    for tx in &package {
        let result = package_result(chain_box, &judged, tx);
        results.insert(tx.compute_wtxid().to_string(), result);
    }
    let replaced: Vec<Txid> =
        judged.accepted.iter().flat_map(|one| one.replaces.iter().copied()).collect();
    Ok(json!({
        "package_msg": if judged.refused.is_empty() { "success" } else { "transaction failed" },
        "tx-results": results,
        "replaced-transactions": replaced,
    }))
}

fn package_result(chain_box: &ChainBox, judged: &Judged, tx: &Transaction) -> Value {
    let txid = tx.compute_txid();
    if let Some((_, why)) = judged.refused.iter().find(|(refused, _)| *refused == txid) {
        return json!({ "txid": txid, "error": why.to_string() });
    }
    match chain_box.pool.get(&txid) {
        Some(entry) => {
            let alone = PerKvb::of(entry.fee, entry.vsize);
            let rate = per_kvb(judged.together.unwrap_or(alone));
            let fees = json!({ "base": btc(entry.fee), "effective-feerate": rate });
            json!({ "txid": txid, "vsize": entry.vsize, "fees": fees })
        }
        None => json!({ "txid": txid, "error": "package-not-validated" }),
    }
}
