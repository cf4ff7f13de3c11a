//! The table of what waits together: replacements, chains, pairs of version 3, packages.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{transaction, Amount, Transaction, TxOut};
use fulmen_itest::failure::Result;
use serde_json::{json, Value};

use super::beside::{changed, output, spend, to_anybody, Beside, Coin};

/// Splits a coin into as many.
fn split(coin: Coin, parts: u64) -> Transaction {
    let mut tx = spend(&[coin], 20_000);
    let value = Amount::from_sat(tx.output[0].value.to_sat() / parts);
    tx.output = vec![TxOut { value, script_pubkey: to_anybody() }; parts as usize];
    tx
}

fn of_version_3(coin: Coin, fee: u64, change: impl FnOnce(&mut Transaction)) -> Transaction {
    changed(coin, fee, |tx| {
        tx.version = transaction::Version(3);
        change(tx);
    })
}

#[test]
fn replacements() -> Result<()> {
    let mut both = Beside::start()?;
    let (coin, other, waiting) = (both.coin(), both.coin(), both.coin());
    let first = spend(&[coin], 1_000);
    both.row("first", &first, "");
    let child = spend(&[output(&first, 0)], 5_000);
    both.row("its child", &child, "");
    let vsize = first.vsize() as u64;
    both.row("pays less", &spend(&[coin], 900), "-26 insufficient fee, rejecting replacement");
    both.row("pays as much at no better rate", &spend(&[coin, other], 1_000), "new feerate");
    both.row("better than the first, not with its child", &spend(&[coin], 3_000), "less fees than");
    let barely = spend(&[coin], 6_000 + vsize / 10 - 1);
    both.row("not for its own relay", &barely, "not enough additional fees to relay");
    let parent = spend(&[waiting], 1_000);
    both.row("something else that waits", &parent, "");
    let adds = spend(&[coin, output(&parent, 0)], 50_000);
    both.row("spends another that waits", &adds, "replacement-adds-unconfirmed");
    let circle = spend(&[coin, output(&first, 0)], 60_000);
    both.row("spends what it replaces", &circle, "-26 bad-txns-spends-conflicting-tx");
    let enough = spend(&[coin], 6_000 + vsize.div_ceil(10));
    both.row("just enough", &enough, "");
    both.row("what was replaced, again", &first, "insufficient fee");
    both.row("the child of what was replaced", &child, "-25 bad-txns-inputs-missingorspent");
    let not_signalled = changed(other, 1_000, |tx| tx.input[0].sequence = bitcoin::Sequence::MAX);
    both.row("does not signal", &not_signalled, "");
    both.row("is replaced all the same", &spend(&[other], 2_000), "");

    let many = split(both.coin(), 101);
    both.mine_these(vec![many.clone()])?;
    let coins: Vec<Coin> = (0..101).map(|vout| output(&many, vout)).collect();
    for coin in &coins {
        let answers = both.ask("sendrawtransaction", &[json!(serialize_hex(&spend(&[*coin], 20)))]);
        assert!(answers.iter().all(|answer| answer.is_ok()), "{answers:?}");
    }
    both.row("drives out 101", &spend(&coins, 1_000_000), "too many potential replacements");
    both.row("drives out 100", &spend(&coins[1..], 1_000_000), "");
    both.agree(16)
}

#[test]
fn chains_of_what_waits() -> Result<()> {
    let mut both = Beside::start()?;
    let mut last = spend(&[both.coin()], 1_000);
    for link in 1..=25 {
        both.row(&format!("link {link}"), &last, "");
        last = spend(&[output(&last, 0)], 1_000);
    }
    both.row("link 26", &last, "-26 too-long-mempool-chain");

    let parent = split(both.coin(), 27);
    both.row("parent of many", &parent, "");
    for child in 0..24 {
        both.row(&format!("child {child}"), &spend(&[output(&parent, child)], 1_000), "");
    }
    let grandchild = output(&spend(&[output(&parent, 0)], 1_000), 0);
    both.row("a grandchild too many", &spend(&[grandchild], 1_000), "-26 too-long-mempool-chain");
    both.row("one child too many is let in", &spend(&[output(&parent, 24)], 1_000), "");
    both.row("two are not", &spend(&[output(&parent, 25)], 1_000), "-26 too-long-mempool-chain");

    let big = |coin, outputs: u64| {
        changed(coin, 200_000 + outputs * 400, |tx| {
            let more = TxOut { value: Amount::from_sat(400), script_pubkey: to_anybody() };
            tx.output.extend(vec![more; outputs as usize]);
        })
    };
    let first = big(both.coin(), 1_200);
    both.row("51 kvB", &first, "");
    let second = big(output(&first, 0), 1_100);
    both.row("and 49 more", &second, "");
    both.row("102 in all", &big(output(&second, 0), 300), "-26 too-long-mempool-chain");
    both.agree(26 + 1 + 24 + 3 + 3)
}

#[test]
fn pairs_of_version_3() -> Result<()> {
    let mut both = Beside::start()?;
    let (coin, other) = (both.coin(), both.coin());
    let parent = of_version_3(coin, 1_000, |tx| {
        tx.output[0].value = Amount::ONE_BTC;
        tx.output.push(tx.output[0].clone());
    });
    both.row("parent", &parent, "");
    let plain = spend(&[output(&parent, 0)], 1_000);
    both.row("a child of another version", &plain, "-26 TRUC-violation, non-version=3");
    let big = of_version_3(output(&parent, 0), 1_000, |tx| {
        tx.output = vec![TxOut { value: Amount::from_sat(9_999), ..tx.output[0].clone() }; 24];
    });
    both.row("a big child", &big, "-26 TRUC-violation, version=3 child");
    let child = of_version_3(output(&parent, 0), 1_000, |_| {});
    both.row("a child", &child, "");
    let grandchild = of_version_3(output(&child, 0), 1_000, |_| {});
    both.row("a grandchild", &grandchild, "-26 TRUC-violation");
    let better = of_version_3(output(&parent, 0), 2_000, |_| {});
    both.row("another child in its place", &better, "");
    let old = spend(&[other], 1_000);
    both.row("not of version 3", &old, "");
    let young = of_version_3(output(&old, 0), 1_000, |_| {});
    both.row("its child of version 3", &young, "-26 TRUC-violation, version=3");
    let huge = of_version_3(both.coin(), 20_000, |tx| {
        tx.output = vec![TxOut { value: Amount::from_sat(9_999), ..tx.output[0].clone() }; 240];
    });
    both.row("bigger than 10 kvB", &huge, "-26 TRUC-violation, version=3 tx");
    both.agree(9)
}

#[test]
fn packages() -> Result<()> {
    let mut both = Beside::start()?;
    let coins = [both.coin(), both.coin(), both.coin(), both.coin()];
    let free = of_version_3(coins[0], 0, |_| {});
    both.row("for nothing", &free, "-26 min relay fee not met");
    let pays = of_version_3(output(&free, 0), 5_000, |_| {});
    let poor = of_version_3(output(&free, 0), 3, |_| {});
    let plain = spend(&[coins[1]], 0);
    let for_plain = spend(&[output(&plain, 0)], 9_000);
    let good = spend(&[coins[2]], 1_000);
    let bad = changed(output(&good, 0), 1_000, |tx| tx.version = transaction::Version(9));
    let stranger = spend(&[coins[3]], 1_000);
    for (what, package, succeeds) in [
        ("the child pays too little", [&free, &poor], false),
        ("the child pays", [&free, &pays], true),
        ("both wait already", [&free, &pays], true),
        ("below the relay minimum", [&plain, &for_plain], false),
        ("a bad child", [&good, &bad], false),
    ] {
        let raw: Vec<String> = package.iter().map(|tx| serialize_hex(*tx)).collect();
        let [theirs, ours] = both.ask("submitpackage", &[json!(raw)]);
        let (theirs, ours) = (theirs.unwrap(), ours.unwrap());
        let message = |answer: &Value| answer["package_msg"].as_str() == Some("success");
        assert_eq!(message(&theirs), succeeds, "{what}: {theirs}");
        assert_eq!(message(&ours), succeeds, "{what}: {ours}");
        for tx in package {
            let wtxid = tx.compute_wtxid().to_string();
            let [theirs, ours] = [&theirs, &ours].map(|answer| {
                let result = &answer["tx-results"][&wtxid];
                (result["txid"].clone(), result["vsize"].clone(), result["error"].is_null())
            });
            assert_eq!(theirs, ours, "{what}");
        }
        both.same_state(what)?;
    }
    let raw = [&good, &stranger].map(serialize_hex);
    let [theirs, ours] = both.ask("submitpackage", &[json!(raw)]);
    assert_eq!(theirs.is_err(), ours.is_err());
    assert!(ours.is_err(), "no child of the first");
    both.agree(1)
}
