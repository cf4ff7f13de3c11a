//! The table of blocks, and reorganisations.

use bitcoin::hashes::Hash;
use bitcoin::{
    absolute, Amount, Block, CompactTarget, Sequence, Transaction, TxMerkleNode, Witness,
};
use fulmen_channel::amount::{Height, Sat};
use fulmen_itest::chainbox::block::grind;
use fulmen_itest::failure::Result;
use serde_json::json;

use super::beside::{changed, output, spend, to_anybody, Beside, Coin};

/// The next block with these transactions, changed before it is mined.
fn next(both: &Beside, transactions: Vec<Transaction>, change: impl FnOnce(&mut Block)) -> Block {
    let mut block = both.chain_box.template(Sat::ZERO, to_anybody()).mine(transactions);
    change(&mut block);
    grind(&mut block);
    block
}

#[test]
fn valid_and_invalid() -> Result<()> {
    let mut both = Beside::start()?;
    assert!(both.chain_box.chain().height() > Height::new(150), "past the first halving");
    let coin = both.coin();
    let good = spend(&[coin], 0);
    let median = both.chain_box.chain().median_now();

    let more = next(&both, vec![], |block| block.txdata[0].output[0].value += Amount::ONE_SAT);
    both.block_row("one satoshi too much", &more, "bad-cb-amount");
    let mut other_root = next(&both, vec![], |_| {});
    other_root.header.merkle_root = TxMerkleNode::all_zeros();
    grind_header(&mut other_root);
    both.block_row("another merkle root", &other_root, "bad-txnmrklroot");
    let mut no_work = next(&both, vec![], |_| {});
    while no_work.header.block_hash().to_byte_array()[31] < 0x80 {
        no_work.header.nonce += 1;
    }
    both.block_row("no work", &no_work, "high-hash");
    let bits =
        next(&both, vec![], |block| block.header.bits = CompactTarget::from_consensus(0x207f_fffe));
    both.block_row("another target", &bits, "bad-diffbits");
    let early = next(&both, vec![], |block| block.header.time = median);
    both.block_row("too old", &early, "time-too-old");
    let late = next(&both, vec![], |block| block.header.time += 3 * 3_600);
    both.block_row("too new", &late, "time-too-new");
    let high = next(&both, vec![], |block| {
        block.txdata[0].input[0].script_sig = vec![2, 0x39, 0x30, 0].into();
    });
    both.block_row("another height", &high, "bad-cb-height");
    let twice = next(&both, vec![], |block| {
        let mut second = block.txdata[0].clone();
        second.output[0].value = Amount::ZERO;
        block.txdata.push(second);
    });
    both.block_row("two coinbases", &twice, "bad-cb-multiple");
    let none = next(&both, vec![good.clone()], |block| drop(block.txdata.remove(0)));
    both.block_row("no coinbase", &none, "bad-cb-missing");
    let bare = next(&both, vec![good.clone()], |block| {
        block.txdata[0].output.truncate(1);
        block.txdata[0].input[0].witness = Witness::new();
    });
    both.block_row("witnesses without commitment", &bare, "unexpected-witness");
    let other = next(&both, vec![good.clone()], |block| {
        block.txdata[1].input[0].witness.push([7]);
    });
    both.block_row("another witness", &other, "bad-witness-merkle-match");

    invalid_transactions(&mut both, coin, &good);
    let fine = next(&both, vec![good], |_| {});
    both.block_row("a good one", &fine, "");
    both.block_row("again", &fine, "duplicate");
    both.agree(20)
}

/// Blocks that are fine but for a transaction; `good` spends `coin`.
fn invalid_transactions(both: &mut Beside, coin: Coin, good: &Transaction) {
    let height = both.chain_box.chain().height().number();
    let locked =
        changed(coin, 0, |tx| tx.lock_time = absolute::LockTime::from_consensus(height + 1));
    let tip = both.block(both.chain_box.chain().tip());
    let young = spend(&[output(&tip.txdata[0], 0)], 0);
    let false_script = changed(coin, 0, |tx| tx.input[0].witness = Witness::from_slice(&[[0x52]]));
    let mint = changed(coin, 0, |tx| tx.output[0].value += Amount::ONE_SAT);
    let nobodys = spend(&[output(&spend(&[coin], 7), 0)], 0);
    let waits = changed(output(good, 0), 0, |tx| tx.input[0].sequence = Sequence::from_height(1));
    let again = spend(&[coin], 1);
    for (what, transactions, says) in [
        ("locked", vec![locked], "bad-txns-nonfinal"),
        ("a young coinbase", vec![young], "bad-txns-premature-spend-of-coinbase"),
        ("a script that does not hold", vec![false_script], "script-verify-flag"),
        ("more out than in", vec![mint], "bad-txns-in-belowout"),
        ("nobody's coin", vec![nobodys], "bad-txns-inputs-missingorspent"),
        ("a coin twice", vec![good.clone(), again], "bad-txns-inputs-missingorspent"),
        ("waits for its own block", vec![good.clone(), waits], "bad-txns-nonfinal"),
    ] {
        let block = next(both, transactions, |_| {});
        both.block_row(what, &block, says);
    }
}

/// Tries nonces and leaves the merkle root alone.
fn grind_header(block: &mut Block) {
    while block.header.block_hash().to_byte_array()[31] >= 0x7f {
        block.header.nonce += 1;
    }
}

#[test]
fn what_a_reorganisation_takes_out_waits_again() -> Result<()> {
    let mut both = Beside::start()?;
    let coins = [both.coin(), both.coin(), both.coin()];
    let mined = spend(&[coins[0]], 1_000);
    both.row("mined", &mined, "");
    both.mine(1)?;
    let first = both.chain_box.chain().tip();
    let child = changed(output(&mined, 0), 1_000, |tx| {
        tx.input[0].sequence = Sequence::from_height(1);
    });
    both.row("may come the block after", &child, "");
    let late = changed(coins[1], 1_000, |tx| {
        let height = both.chain_box.chain().height().number();
        tx.lock_time = absolute::LockTime::from_consensus(height);
    });
    both.row("may come now", &late, "");
    both.row("its child", &spend(&[output(&late, 0)], 1_000), "");
    let rival = spend(&[coins[2]], 1_000);
    both.row("the first of two", &rival, "");

    both.call_row("a block is gone", "invalidateblock", &[json!(first)], "");
    both.same_state("what it held waits, what cannot come now does not")?;
    let other = spend(&[coins[2]], 0);
    both.mine_these(vec![other])?;
    both.same_state("a block holds the other of two")?;
    both.mine(2)?;
    both.same_state("a longer branch")?;
    both.call_row("the block is back", "reconsiderblock", &[json!(first)], "");
    both.same_state("the longer branch stays")?;

    both.chain_box.reorg(2);
    let blocks: Vec<Block> = both
        .chain_box
        .events()
        .into_iter()
        .filter_map(|event| match event {
            fulmen_itest::chainbox::Event::Connected(_, block) => Some((*block).clone()),
            _ => None,
        })
        .collect();
    for block in blocks.iter().rev().take(3).rev() {
        let raw = bitcoin::consensus::encode::serialize_hex(block);
        let _: serde_json::Value =
            bitcoincore_rpc::RpcApi::call(both.bitcoind.rpc(), "submitblock", &[raw.into()])?;
    }
    both.agree(7)
}
