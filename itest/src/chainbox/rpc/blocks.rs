//! Calls about the chain.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Address, Block, BlockHash, Network, OutPoint, Script, Transaction, TxOut};
use fulmen_channel::amount::{Height, Sat};
use serde_json::{json, Value};

use super::{btc, Answer, Arguments, RpcError, BAD_PARAMETER, NOT_FOUND};
use crate::chainbox::ChainBox;

/// Every second hash will do: what difficulty 1 would need 2^32 for.
const DIFFICULTY: f64 = 4.656542373906925e-10;

/// Answers, if the method is one of these.
pub(super) fn answer(
    chain_box: &mut ChainBox,
    method: &str,
    arguments: &Arguments<'_>,
) -> Option<Answer> {
    let chain = &chain_box.chain;
    Some(match method {
        "getblockchaininfo" => Ok(chain_info(chain_box)),
        "getblockcount" => Ok(json!(chain.height().number())),
        "getbestblockhash" => Ok(json!(chain.tip())),
        "getblockhash" => block_hash(chain_box, arguments),
        "getblock" => block(chain_box, arguments),
        "getblockheader" => header(chain_box, arguments),
        "gettxout" => tx_out(chain_box, arguments),
        "gettxoutsetinfo" => Ok(coins(chain_box)),
        "submitblock" => submit(chain_box, arguments),
        "invalidateblock" => mark(chain_box, arguments, ChainBox::invalidate),
        "reconsiderblock" => mark(chain_box, arguments, ChainBox::reconsider),
        "generatetoaddress" => generate(chain_box, arguments),
        "getdifficulty" => Ok(json!(DIFFICULTY)),
        _ => return None,
    })
}

fn chain_info(chain_box: &ChainBox) -> Value {
    let chain = &chain_box.chain;
    let tip = chain.tip();
    let time = chain.block(&tip).map_or(0, |(_, block)| block.header.time);
    json!({
        "chain": "regtest",
        "blocks": chain.height().number(),
        "headers": chain.height().number(),
        "bestblockhash": tip,
        "bits": "207fffff",
        "difficulty": DIFFICULTY,
        "time": time,
        "mediantime": chain.median_now(),
        "verificationprogress": 1,
        "initialblockdownload": !chain_box.caught_up,
        "chainwork": work(chain.height()),
        "size_on_disk": 0,
        "pruned": false,
        "warnings": [],
    })
}

/// Each block is worth two hashes.
fn work(height: Height) -> String {
    format!("{:064x}", u64::from(height.number()).saturating_add(1).saturating_mul(2))
}

fn block_hash(chain_box: &ChainBox, arguments: &Arguments<'_>) -> Answer {
    let height: i64 = arguments.required(0)?;
    let height = u32::try_from(height).ok().map(Height::new);
    match height.and_then(|height| chain_box.chain.hash_at(height)) {
        Some(hash) => Ok(json!(hash)),
        None => Err(RpcError::new(BAD_PARAMETER, "Block height out of range")),
    }
}

fn find(chain_box: &ChainBox, hash: BlockHash) -> Result<(Height, &Block), RpcError> {
    let found = chain_box.chain.block(&hash).map(|(height, block)| (height, &**block));
    found.ok_or_else(|| RpcError::new(NOT_FOUND, "Block not found"))
}

fn block(chain_box: &ChainBox, arguments: &Arguments<'_>) -> Answer {
    let (height, block) = find(chain_box, arguments.hash(0, "blockhash")?)?;
    let verbosity: Value = arguments.get(1)?.unwrap_or_else(|| json!(1));
    match verbosity {
        Value::Bool(false) => Ok(json!(serialize_hex(block))),
        Value::Number(number) if number.as_u64() == Some(0) => Ok(json!(serialize_hex(block))),
        Value::Bool(true) => Ok(block_value(chain_box, height, block)),
        Value::Number(number) if number.as_u64() == Some(1) => {
            Ok(block_value(chain_box, height, block))
        }
        _ => Err(RpcError::new(BAD_PARAMETER, "the chain in a box knows verbosity 0 and 1 only")),
    }
}

fn block_value(chain_box: &ChainBox, height: Height, block: &Block) -> Value {
    let mut value = header_value(chain_box, height, block);
    let txids: Vec<Value> = block.txdata.iter().map(|tx| json!(tx.compute_txid())).collect();
    if let Some(fields) = value.as_object_mut() {
        fields.insert("size".into(), json!(block.total_size()));
        fields.insert("weight".into(), json!(block.weight().to_wu()));
        fields.insert("tx".into(), json!(txids));
    }
    value
}

fn header(chain_box: &ChainBox, arguments: &Arguments<'_>) -> Answer {
    let (height, block) = find(chain_box, arguments.hash(0, "hash")?)?;
    Ok(match arguments.get(1)?.unwrap_or(true) {
        true => header_value(chain_box, height, block),
        false => json!(serialize_hex(&block.header)),
    })
}

fn header_value(chain_box: &ChainBox, height: Height, block: &Block) -> Value {
    let (chain, header, hash) = (&chain_box.chain, &block.header, block.block_hash());
    let confirmations = chain.confirmations(&hash);
    let mut value = json!({
        "hash": hash,
        "confirmations": confirmations.map_or(-1, i64::from),
        "height": height.number(),
        "version": header.version.to_consensus(),
        "versionHex": format!("{:08x}", header.version.to_consensus()),
        "merkleroot": header.merkle_root,
        "time": header.time,
        "mediantime": chain.median(hash),
        "nonce": header.nonce,
        "bits": format!("{:08x}", header.bits.to_consensus()),
        "difficulty": DIFFICULTY,
        "chainwork": work(height),
        "nTx": block.txdata.len(),
    });
    let next = confirmations.and_then(|_| chain.hash_at(height.plus(1)));
    if let Some(fields) = value.as_object_mut() {
        if height.number() > 0 {
            fields.insert("previousblockhash".into(), json!(header.prev_blockhash));
        }
        if let Some(next) = next {
            fields.insert("nextblockhash".into(), json!(next));
        }
    }
    value
}

fn tx_out(chain_box: &ChainBox, arguments: &Arguments<'_>) -> Answer {
    let outpoint = OutPoint { txid: arguments.hash(0, "txid")?, vout: arguments.required(1)? };
    let pool = arguments.get(2)?.unwrap_or(true);
    let Some(coin) = chain_box.unspent(&outpoint, pool) else { return Ok(Value::Null) };
    let above = chain_box.chain.height().plus(1).number();
    Ok(json!({
        "bestblock": chain_box.chain.tip(),
        "confirmations": above.saturating_sub(coin.height.number()),
        "value": btc(coin.output.value),
        "scriptPubKey": script_value(&coin.output.script_pubkey),
        "coinbase": coin.coinbase,
    }))
}

pub(super) fn script_value(script: &Script) -> Value {
    let kind = match script {
        script if script.is_p2wpkh() => "witness_v0_keyhash",
        script if script.is_p2wsh() => "witness_v0_scripthash",
        script if script.is_p2tr() => "witness_v1_taproot",
        script if script.is_p2pkh() => "pubkeyhash",
        script if script.is_p2sh() => "scripthash",
        script if script.is_p2pk() => "pubkey",
        script if script.is_op_return() => "nulldata",
        script if script.is_multisig() => "multisig",
        script if script.is_witness_program() => "witness_unknown",
        _ => "nonstandard",
    };
    let mut value = json!({ "asm": asm(script), "hex": script.to_hex_string(), "type": kind });
    if let Ok(address) = Address::from_script(script, Network::Regtest) {
        if let Some(fields) = value.as_object_mut() {
            fields.insert("address".into(), json!(address.to_string()));
        }
    }
    value
}

/// A script in bitcoind's words: pushes are their data, small numbers themselves.
fn asm(script: &Script) -> String {
    let long = script.to_asm_string();
    let words = long.split(' ').filter(|word| !word.starts_with("OP_PUSH") || word.contains("NUM"));
    let words = words.map(|word| match word.strip_prefix("OP_PUSHNUM_") {
        Some("NEG1") => "-1",
        Some(number) => number,
        None if word == "OP_0" => "0",
        None => word,
    });
    words.collect::<Vec<&str>>().join(" ")
}

/// A transaction's fields, for those who do not read hex.
pub(super) fn tx_value(tx: &Transaction) -> Value {
    let input = tx.input.iter().map(|input| {
        let witness: Vec<String> = input.witness.iter().map(hex::encode).collect();
        json!({
            "txid": input.previous_output.txid,
            "vout": input.previous_output.vout,
            "scriptSig": { "hex": input.script_sig.to_hex_string() },
            "txinwitness": witness,
            "sequence": input.sequence.to_consensus_u32(),
        })
    });
    let output = tx.output.iter().enumerate().map(|(n, output): (usize, &TxOut)| {
        json!({ "value": btc(output.value), "n": n,
                "scriptPubKey": script_value(&output.script_pubkey) })
    });
    json!({
        "txid": tx.compute_txid(),
        "hash": tx.compute_wtxid(),
        "version": tx.version.0,
        "size": tx.total_size(),
        "vsize": tx.vsize(),
        "weight": tx.weight().to_wu(),
        "locktime": tx.lock_time.to_consensus_u32(),
        "vin": input.collect::<Vec<Value>>(),
        "vout": output.collect::<Vec<Value>>(),
        "hex": serialize_hex(tx),
    })
}

fn coins(chain_box: &ChainBox) -> Value {
    let chain = &chain_box.chain;
    let (mut count, mut total) = (0_u64, Sat::ZERO);
    for (_, coin) in chain.coins() {
        count = count.saturating_add(1);
        total = total.saturating_add(coin.output.value.into());
    }
    json!({
        "height": chain.height().number(),
        "bestblock": chain.tip(),
        "txouts": count,
        "total_amount": btc(total),
    })
}

fn submit(chain_box: &mut ChainBox, arguments: &Arguments<'_>) -> Answer {
    let block = arguments.decoded(0, "Block decode failed")?;
    Ok(match chain_box.accept_block(block) {
        Ok(()) => Value::Null,
        Err(why) => json!(why.reason()),
    })
}

fn mark(
    chain_box: &mut ChainBox,
    arguments: &Arguments<'_>,
    how: fn(&mut ChainBox, BlockHash) -> bool,
) -> Answer {
    match how(chain_box, arguments.hash(0, "blockhash")?) {
        true => Ok(Value::Null),
        false => Err(RpcError::new(NOT_FOUND, "Block not found")),
    }
}

fn generate(chain_box: &mut ChainBox, arguments: &Arguments<'_>) -> Answer {
    let blocks: u32 = arguments.required(0)?;
    let script = super::purse::address(arguments, 1)?.script_pubkey();
    let mut hashes = Vec::new();
    for _ in 0..blocks {
        let mined = chain_box.mine_to(script.clone());
        hashes.push(json!(mined.map_err(|why| RpcError::new(-1, why))?));
    }
    Ok(hashes.into())
}
