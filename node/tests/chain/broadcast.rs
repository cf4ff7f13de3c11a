//! What bitcoind's refusals mean, and in which order transactions are sent again.

use super::fake::{block, foreign, spend, stray};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, OutPoint, ScriptBuf};
use fulmen_channel::amount::Height;
use fulmen_node::chain::broadcast::{outcome, BroadcastError, Broadcasts};
use fulmen_node::chain::rpc::RpcError;

#[test]
fn refusals_are_told_apart() {
    let refused = |code, message: &str| {
        let message = message.to_string();
        outcome(Err(RpcError::Refused { method: "sendrawtransaction", code, message }))
    };
    type Expected = fn(&Result<(), BroadcastError>) -> bool;
    let ok: Expected = |r| r.is_ok();
    let fee: Expected = |r| matches!(r, Err(BroadcastError::FeeTooLow(_)));
    let conflict: Expected = |r| matches!(r, Err(BroadcastError::Conflict(_)));
    let early: Expected = |r| matches!(r, Err(BroadcastError::NotYet(_)));
    let rejected: Expected = |r| matches!(r, Err(BroadcastError::Rejected(_)));
    for (code, message, expected) in [
        (-27, "Transaction already in block chain", ok),
        (-27, "Transaction outputs already in utxo set", ok),
        (-26, "txn-already-known", ok),
        (-26, "min relay fee not met, 0 < 110", fee),
        (-26, "mempool min fee not met, 110 < 500", fee),
        (-26, "insufficient fee, rejecting replacement 12ab", fee),
        (-25, "bad-txns-inputs-missingorspent", conflict),
        (-26, "txn-mempool-conflict", conflict),
        (-26, "non-final", early),
        (-26, "non-BIP68-final", early),
        (-26, "mandatory-script-verify-flag-failed", rejected),
        (-22, "TX decode failed", rejected),
    ] {
        let outcome = refused(code, message);
        assert!(expected(&outcome), "{message}: {outcome:?}");
    }
}

#[test]
fn no_answer_is_not_a_refusal() {
    let away = RpcError::Unreachable { host: "h".into(), why: "refused".into() };
    assert!(matches!(outcome(Err(away)), Err(BroadcastError::Unreachable(_))));
}

#[test]
fn parents_go_first() {
    let mut txs = vec![stray(1)];
    for _ in 0..5 {
        let parent = OutPoint { txid: txs.last().unwrap().compute_txid(), vout: 0 };
        txs.push(spend(&[parent, foreign(7)], &[(1_000, ScriptBuf::new())]));
    }
    let mut broadcasts = Broadcasts::default();
    txs.iter().rev().for_each(|tx| broadcasts.add(tx.clone()));
    assert_eq!(broadcasts.due(), txs);
}

#[test]
fn a_conflict_in_the_chain_settles_a_transaction_too() {
    let ours = spend(&[foreign(1), foreign(2)], &[(1_000, ScriptBuf::new())]);
    let theirs = spend(&[foreign(2)], &[(2_000, ScriptBuf::new())]);
    let mut broadcasts = Broadcasts::default();
    broadcasts.add(ours.clone());
    let empty = block(BlockHash::all_zeros(), 1, vec![stray(9)]);
    let conflict = block(BlockHash::all_zeros(), 2, vec![theirs]);
    assert!(broadcasts.connected(&conflict, Height::new(10), 2).is_empty());
    assert!(broadcasts.due().is_empty(), "no use sending it");
    broadcasts.disconnected(Height::new(10));
    assert_eq!(broadcasts.due().len(), 1, "the conflict is gone");
    assert!(broadcasts.connected(&conflict, Height::new(10), 2).is_empty());
    let settled = broadcasts.connected(&empty, Height::new(11), 2);
    assert_eq!(settled, [ours.compute_txid()]);
    assert!(broadcasts.is_empty());
}

#[test]
fn an_abandoned_transaction_is_not_sent_again() {
    let (one, two) = (stray(1), stray(2));
    let mut broadcasts = Broadcasts::default();
    [&one, &two].into_iter().for_each(|tx| broadcasts.add(tx.clone()));
    broadcasts.abandon(&one.compute_txid());
    assert_eq!(broadcasts.due(), [two]);
}
