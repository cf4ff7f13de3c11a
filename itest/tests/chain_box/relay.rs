//! The table of what is relayed: form, amounts, times, fees.

use bitcoin::script::Builder;
use bitcoin::{absolute, opcodes, transaction, Amount, ScriptBuf, Sequence, TxOut};
use fulmen_itest::failure::Result;
use serde_json::json;

use super::beside::{anybody, changed, output, spend, Beside};

fn pays(value: u64, script_pubkey: ScriptBuf) -> TxOut {
    TxOut { value: Amount::from_sat(value), script_pubkey }
}

fn data(length: usize) -> ScriptBuf {
    let bytes = bitcoin::script::PushBytesBuf::try_from(vec![7; length]).unwrap();
    ScriptBuf::new_op_return(bytes)
}

#[test]
fn forms_and_fees() -> Result<()> {
    let mut both = Beside::start()?;
    let coin = both.coin();
    let first = spend(&[coin], 1_000);
    both.row("plain", &first, "");
    both.row("again", &first, "");
    both.row("a child of what waits", &spend(&[output(&first, 0)], 1_000), "");
    both.call_row("no transaction", "sendrawtransaction", &[json!("00")], "-22 TX decode failed");

    let coin = both.coin();
    let vsize = spend(&[coin], 0).vsize() as u64;
    let least = vsize.div_ceil(10);
    both.row("below the relay minimum", &spend(&[coin], least - 1), "-26 min relay fee not met");
    both.row("for nothing", &spend(&[coin], 0), "-26 min relay fee not met, 0 <");
    both.row("more than there is", &spend(&[coin], u64::MAX), "-26 bad-txns-in-belowout");
    let twice = spend(&[coin, coin], 1_000);
    both.row("the same input twice", &twice, "-26 bad-txns-inputs-duplicate");
    let nothing = changed(coin, 1_000, |tx| tx.output.clear());
    both.row("no output", &nothing, "-26 bad-txns-vout-empty");
    let much = changed(coin, 0, |tx| tx.output[0].value = Amount::MAX_MONEY + Amount::ONE_SAT);
    both.row("more than all money", &much, "-26 bad-txns-vout-toolarge");
    let with =
        |outputs: &[TxOut]| changed(coin, 200_000, |tx| tx.output.extend_from_slice(outputs));
    both.row("dust, p2wsh", &with(&[pays(329, anybody().to_p2wsh())]), "-26 dust");
    let key_hash = ScriptBuf::from_hex(&format!("0014{}", "07".repeat(20)))?;
    both.row("dust, p2wpkh", &with(&[pays(293, key_hash.clone())]), "-26 dust");
    both.row("dust, p2sh", &with(&[pays(539, anybody().to_p2sh())]), "-26 dust");
    both.row("a script of no kind", &with(&[pays(10_000, anybody())]), "-26 scriptpubkey");
    both.row("two OP_RETURN", &with(&[pays(0, data(3)), pays(0, data(3))]), "-26 multi-op-return");
    both.row("a long OP_RETURN", &with(&[pays(0, data(81))]), "-26 scriptpubkey");
    for version in [0, 4] {
        let tx = changed(coin, 1_000, |tx| tx.version = transaction::Version(version));
        both.row(&format!("version {version}"), &tx, "-26 version");
    }
    let small = changed(coin, 0, |tx| tx.output = vec![pays(0, ScriptBuf::new_op_return([]))]);
    both.row("61 bytes", &small, "-26 tx-size-small");
    let burn = json!(bitcoin::consensus::encode::serialize_hex(&with(&[pays(9, data(1))])));
    both.call_row("burns by mistake", "sendrawtransaction", &[burn, json!(0)], "-25 Unspendable");
    let dear = spend(&[coin], 10_000_000);
    let dear = json!(bitcoin::consensus::encode::serialize_hex(&dear));
    both.call_row("pays much by mistake", "sendrawtransaction", &[dear], "-25 Fee exceeds");
    let fits = with(&[pays(330, anybody().to_p2wsh()), pays(294, key_hash), pays(0, data(80))]);
    both.row("just no dust, and 80 bytes", &fits, "");
    let odd = changed(both.coin(), least, |tx| {
        tx.input[0].script_sig = Builder::new().push_opcode(opcodes::all::OP_DUP).into_script();
    });
    both.row("a scriptSig that computes", &odd, "-26 scriptsig-not-pushonly");
    let coin = both.coin();
    both.row("just the relay minimum", &spend(&[coin], least), "");
    both.agree(24)
}

#[test]
fn times_and_what_is_spent() -> Result<()> {
    let mut both = Beside::start()?;
    let coin = both.coin();
    let height = both.chain_box.chain().height().number();
    let locked =
        |at| changed(coin, 1_000, |tx| tx.lock_time = absolute::LockTime::from_consensus(at));
    both.row("locked to the block after next", &locked(height + 1), "-26 non-final");
    let median = both.chain_box.chain().median_now();
    both.row("locked to the median time", &locked(median), "-26 non-final");
    both.row("locked to before the median time", &locked(median - 1), "");
    let (coin, ten) = (both.coin(), both.coin());
    let locked =
        changed(coin, 1_000, |tx| tx.lock_time = absolute::LockTime::from_consensus(height));
    both.row("locked to the tip", &locked, "");

    both.mine(1)?;
    let young = output(&locked, 0);
    let waits = |sequence| changed(young, 1_000, |tx| tx.input[0].sequence = sequence);
    both.row("two blocks too young", &waits(Sequence::from_height(3)), "-26 non-BIP68-final");
    both.row("a block too young", &waits(Sequence::from_height(2)), "-26 non-BIP68-final");
    let minutes = Sequence::from_512_second_intervals(1);
    both.row("minutes too young", &waits(minutes), "-26 non-BIP68-final");
    both.row(
        "waits for what waits",
        &spend(&[output(&waits(minutes), 0)], 900),
        "-25 bad-txns-inp",
    );
    let not_asked = changed(young, 1_000, |tx| {
        tx.version = transaction::Version::ONE;
        tx.input[0].sequence = Sequence::from_height(9);
    });
    both.row("version 1 knows no such wait", &not_asked, "");
    both.mine(1)?;
    let of_confirmed = changed(output(&not_asked, 0), 1_000, |tx| {
        tx.input[0].sequence = Sequence::from_height(1);
    });
    both.row("old enough", &of_confirmed, "");
    let of_waiting = changed(output(&of_confirmed, 0), 1_000, |tx| {
        tx.input[0].sequence = Sequence::from_height(1);
    });
    both.row("a block after what waits", &of_waiting, "-26 non-BIP68-final");

    let spent = spend(&[ten], 1_000);
    both.row("a coin", &spent, "");
    both.mine(1)?;
    both.row("is in the chain", &spent, "-27 Transaction outputs already in utxo set");
    both.row("spent in the chain", &spend(&[ten], 2_000), "-25 bad-txns-inputs-missingorspent");
    let tip = both.block(both.chain_box.chain().tip());
    let young = spend(&[output(&tip.txdata[0], 0)], 1_000);
    both.row("a young coinbase", &young, "-26 bad-txns-premature-spend-of-coinbase");
    let next = both.chain_box.template(fulmen_channel::amount::Sat::ZERO, anybody());
    both.row("a coinbase itself", &next.mine(vec![]).txdata[0], "-26 coinbase");
    both.agree(16)
}

#[test]
fn questions_have_the_same_answers() -> Result<()> {
    let mut both = Beside::start()?;
    let tx = spend(&[both.coin()], 1_000);
    both.row("waits", &tx, "");
    let child = spend(&[output(&tx, 0)], 700);
    both.row("its child", &child, "");
    let txid = json!(tx.compute_txid());
    let nobody = json!("07".repeat(32));
    for (method, arguments) in [
        ("getblockhash", vec![json!(9_999)]),
        ("getblock", vec![nobody.clone(), json!(0)]),
        ("getblockheader", vec![nobody.clone()]),
        ("getblockheader", vec![json!("07")]),
        ("getmempoolentry", vec![nobody.clone()]),
        ("getrawtransaction", vec![nobody.clone()]),
        ("invalidateblock", vec![nobody.clone()]),
        ("sendtoaddress", vec![json!("nowhere"), json!(1)]),
        ("nonsense", vec![]),
    ] {
        let [theirs, ours] = both.ask(method, &arguments);
        if method == "sendtoaddress" {
            // bitcoind has no wallet here: that it refuses is all.
            assert!(theirs.is_err() && ours.is_err());
        } else {
            assert_eq!(theirs.unwrap_err(), ours.unwrap_err(), "{method}");
        }
    }
    let of_tx = |method, verbose: &[bool]| {
        let mut arguments = vec![txid.clone()];
        arguments.extend(verbose.iter().map(|verbose| json!(verbose)));
        (method, arguments)
    };
    let genesis = json!(both.chain_box.chain().hash_at(fulmen_channel::amount::Height::new(0)));
    let tip = json!(both.chain_box.chain().tip());
    let hex = |tx| json!([bitcoin::consensus::encode::serialize_hex(tx)]);
    let other = spend(&[both.coin()], 2_000);
    for (method, arguments) in [
        of_tx("getmempoolentry", &[]),
        of_tx("getrawtransaction", &[]),
        of_tx("getrawtransaction", &[true]),
        ("getblockchaininfo", vec![]),
        ("getmempoolinfo", vec![]),
        ("getblockheader", vec![genesis]),
        ("getblockheader", vec![tip.clone()]),
        ("getblockheader", vec![tip.clone(), json!(false)]),
        ("getblock", vec![tip.clone()]),
        ("getblock", vec![tip, json!(0)]),
        ("gettxout", vec![txid.clone(), json!(0)]),
        ("gettxout", vec![json!(child.compute_txid()), json!(0)]),
        ("gettxout", vec![json!(child.compute_txid()), json!(0), json!(false)]),
        ("gettxout", vec![json!(other.input[0].previous_output.txid), json!(0)]),
        ("estimatesmartfee", vec![json!(6)]),
        (
            "gettxspendingprevout",
            vec![json!([
                { "txid": txid, "vout": 0 },
                { "txid": child.compute_txid(), "vout": 0 },
            ])],
        ),
        ("testmempoolaccept", vec![hex(&other)]),
        ("testmempoolaccept", vec![hex(&tx)]),
        ("testmempoolaccept", vec![hex(&spend(&[output(&other, 0)], 9))]),
    ] {
        let [theirs, ours] = both.ask(method, &arguments);
        same_where_both_speak(method, &theirs.unwrap(), &ours.unwrap());
    }
    both.agree(2)
}

/// Every field that both have is the same, and the box has those that anybody reads.
fn same_where_both_speak(at: &str, theirs: &serde_json::Value, ours: &serde_json::Value) {
    use serde_json::Value;
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            assert!(!ours.is_empty(), "{at}");
            for (name, ours) in ours {
                let differs = [
                    "size_on_disk",
                    "usage",
                    "time",
                    "unbroadcast",
                    "unbroadcastcount",
                    "desc",
                    "blocks",
                ];
                if differs.contains(&name.as_str()) {
                    continue;
                }
                let theirs =
                    theirs.get(name).unwrap_or_else(|| panic!("{at}: bitcoind has no {name}"));
                same_where_both_speak(&format!("{at}.{name}"), theirs, ours);
            }
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            assert_eq!(theirs.len(), ours.len(), "{at}");
            theirs
                .iter()
                .zip(ours)
                .for_each(|(theirs, ours)| same_where_both_speak(at, theirs, ours));
        }
        (Value::Number(theirs), Value::Number(ours)) => {
            let (theirs, ours) = (theirs.as_f64().unwrap(), ours.as_f64().unwrap());
            assert!((theirs - ours).abs() <= theirs.abs() * 1e-12, "{at}: {theirs} or {ours}");
        }
        _ => assert_eq!(theirs, ours, "{at}"),
    }
}
