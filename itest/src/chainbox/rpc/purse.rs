//! Calls about the miner's wallet, the only one.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Address, Network, Transaction, Txid};
use fulmen_channel::amount::Sat;
use serde_json::{json, Value};

use super::{btc, Answer, Arguments, RpcError, NOT_FOUND, WRONG_TYPE};
use crate::chainbox::ChainBox;

/// Not enough money.
const POOR: i32 = -6;

/// Answers, if the method is one of these.
pub(super) fn answer(
    chain_box: &mut ChainBox,
    method: &str,
    arguments: &Arguments<'_>,
) -> Option<Answer> {
    Some(match method {
        // There is one wallet, under whatever name.
        "createwallet" | "loadwallet" => wallet(arguments),
        "listwallets" => Ok(json!(["miner"])),
        "getnewaddress" => Ok(json!(chain_box.wallet.new_address().to_string())),
        "getbalance" => Ok(btc(balance(chain_box))),
        "sendtoaddress" => send(chain_box, arguments),
        "gettransaction" => transaction(chain_box, arguments),
        _ => return None,
    })
}

/// An address of regtest.
pub(super) fn address(arguments: &Arguments<'_>, at: usize) -> Result<Address, RpcError> {
    let address: String = arguments.required(at)?;
    let address = address.parse::<Address<_>>().ok();
    let address = address.and_then(|address| address.require_network(Network::Regtest).ok());
    address.ok_or_else(|| RpcError::new(NOT_FOUND, "Invalid address"))
}

fn wallet(arguments: &Arguments<'_>) -> Answer {
    Ok(json!({ "name": arguments.required::<String>(0)? }))
}

fn balance(chain_box: &ChainBox) -> Sat {
    let coins = chain_box.wallet.coins(&chain_box.chain, &chain_box.pool);
    coins.iter().fold(Sat::ZERO, |sum, (_, output)| sum.saturating_add(output.value.into()))
}

fn send(chain_box: &mut ChainBox, arguments: &Arguments<'_>) -> Answer {
    let script = address(arguments, 0)?.script_pubkey();
    let amount = arguments.amount(1)?.filter(|amount| *amount > Sat::ZERO);
    let amount = amount.ok_or_else(|| RpcError::new(WRONG_TYPE, "Invalid amount for send"))?;
    match chain_box.pay(script, amount) {
        Some(outpoint) => Ok(json!(outpoint.txid)),
        None => Err(RpcError::new(POOR, "Insufficient funds")),
    }
}

fn transaction(chain_box: &ChainBox, arguments: &Arguments<'_>) -> Answer {
    let txid: Txid = arguments.hash(0, "txid")?;
    let waits = chain_box.pool.get(&txid).map(|entry| (None, &*entry.tx));
    let mined = || chain_box.chain.find(&txid).map(|(hash, tx)| (Some(hash), tx));
    let Some((hash, tx)) = waits.or_else(mined) else {
        return Err(RpcError::new(NOT_FOUND, "Invalid or non-wallet transaction id"));
    };
    let block = hash.and_then(|hash| chain_box.chain.block(&hash));
    let time = block.map_or(chain_box.now, |(_, block)| block.header.time.into());
    let mut value = json!({
        "amount": btc(received(chain_box, tx)),
        "confirmations": hash.and_then(|hash| chain_box.chain.confirmations(&hash)).unwrap_or(0),
        "txid": txid,
        "walletconflicts": [],
        "time": time,
        "timereceived": time,
        "bip125-replaceable": if hash.is_some() { "no" } else { "yes" },
        "details": [],
        "hex": serialize_hex(tx),
    });
    if let (Some((height, _)), Some(fields)) = (block, value.as_object_mut()) {
        fields.insert("blockhash".into(), json!(hash));
        fields.insert("blockheight".into(), json!(height.number()));
        fields.insert("blocktime".into(), Value::from(time));
    }
    Ok(value)
}

/// What a transaction pays to the wallet.
fn received(chain_box: &ChainBox, tx: &Transaction) -> Sat {
    let own = tx.output.iter().filter(|output| chain_box.wallet.owns(&output.script_pubkey));
    own.fold(Sat::ZERO, |sum, output| sum.saturating_add(output.value.into()))
}
