//! The list of transactions.

use super::purse::{Purse, NOW};
use fulmen_node::keys::Purpose;

#[test]
fn transactions_tell_amounts_fees_and_places() {
    let mut purse = Purse::new();
    let coin = purse.earn(&[100_000])[0];
    let reservation = purse.fund(60_000);
    let spent = purse.sign(&reservation);
    purse.hear(&spent);
    let incoming = purse.payment(Purpose::Taproot, 7_000);
    purse.act(|wallet, unit| wallet.mempool(&incoming, NOW + 5, unit));
    let fee = reservation.fee.sat();

    let all = purse.wallet.transactions();
    let told: Vec<_> = all
        .iter()
        .map(|tx| (tx.txid, tx.net_sat(), tx.fee.map(|fee| fee.sat()), tx.confirmations))
        .collect();
    let expected = [
        (coin.txid, 100_000, None, 1),
        (spent.compute_txid(), -60_000 - fee as i64, Some(fee), 0),
        (incoming.compute_txid(), 7_000, None, 0),
    ];
    assert_eq!(told, expected);
    let tip = purse.wallet.tip().unwrap();
    assert_eq!(all[0].block, Some((tip.height, tip.hash)));
    assert_eq!((all[1].time, all[2].time), (NOW, NOW + 5));
}
