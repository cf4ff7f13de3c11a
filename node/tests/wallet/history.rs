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

#[test]
fn transactions_tell_whose_inputs_and_outputs_are_and_keep_their_labels() {
    let mut purse = Purse::new();
    purse.earn(&[100_000]);
    let reservation = purse.fund(60_000);
    let tx = purse.sign(&reservation);
    purse.hear(&tx);
    let txid = tx.compute_txid();
    purse.act(|wallet, unit| wallet.label(txid, "rent, paid in märz", unit));
    purse.restart();
    let told = purse.wallet.transactions().pop().unwrap();
    assert_eq!((told.txid, told.label.as_str()), (txid, "rent, paid in märz"));
    assert_eq!(told.our_inputs, [true]);
    let change = reservation.change.unwrap() as usize;
    assert_eq!(told.our_outputs, [change == 0, change == 1]);
    assert_eq!(purse.wallet.transactions()[0].our_inputs, [false]);
}

#[test]
fn news_are_told_once_when_they_appear_and_once_when_they_confirm() {
    let mut purse = Purse::new();
    let payment = purse.payment(Purpose::WitnessKeyHash, 50_000);
    let told = |purse: &mut Purse| -> Vec<_> {
        let news = purse.wallet.take_news();
        news.into_iter().map(|tx| (tx.txid, tx.confirmations)).collect()
    };
    let txid = payment.compute_txid();
    for again in [false, true] {
        purse.act(|wallet, unit| wallet.mempool(&payment, NOW, unit));
        let expected = if again { vec![] } else { vec![(txid, 0)] };
        assert_eq!(told(&mut purse), expected);
    }
    let at = purse.chain.mine(vec![payment.clone(), crate::chain::fake::stray(5)]);
    let block = fulmen_node::chain::follow::BlockSource::block(&purse.chain, at.hash).unwrap();
    purse.act(|wallet, unit| wallet.connect(at, &block, unit)).unwrap();
    assert_eq!(told(&mut purse), [(txid, 1)]);
    assert!(told(&mut purse).is_empty());
}
