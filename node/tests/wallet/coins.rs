//! Money that comes, is confirmed, replaced, rolled back and lost.

use super::purse::{output_of, pays, Purse, NOW};
use crate::chain::fake::{foreign, spend, stray};
use bitcoin::ScriptBuf;
use fulmen_node::chain::follow::BlockSource;
use fulmen_node::keys::Purpose;
use fulmen_node::store::{Table, Unit};
use fulmen_node::wallet::{anchor_reserve, FundRequest, Standing, WalletError};

fn elsewhere() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51])
}

#[test]
fn a_payment_is_unconfirmed_then_confirmed_and_deeper_with_each_block() {
    let mut purse = Purse::new();
    let payment = purse.payment(Purpose::WitnessKeyHash, 50_000);
    purse.hear(&payment);
    assert_eq!(purse.sums(), (0, 50_000, 0));
    assert_eq!(purse.wallet.unconfirmed(), [payment.compute_txid()]);
    purse.mine(&[&payment]);
    assert_eq!(purse.sums(), (50_000, 0, 0));
    purse.mine(&[]);
    assert_eq!(purse.wallet.coins()[0].confirmations, 2);
    assert!(purse.wallet.unconfirmed().is_empty());
}

#[test]
fn a_payment_needs_no_mempool() {
    let mut purse = Purse::new();
    let payment = purse.payment(Purpose::Taproot, 50_000);
    purse.mine(&[&stray(200), &payment]);
    assert_eq!(purse.sums(), (50_000, 0, 0));
}

#[test]
fn strangers_transactions_leave_no_trace() {
    let mut purse = Purse::new();
    let before = purse.rows_of(Table::Wallet).len();
    purse.hear(&stray(200));
    assert_eq!(purse.rows_of(Table::Wallet).len(), before);
    purse.mine(&[&stray(201)]);
    assert_eq!(purse.rows_of(Table::Wallet).len(), before + 1, "the block itself");
    assert!(purse.wallet.transactions().is_empty());
}

#[test]
fn hearing_of_a_transaction_again_writes_nothing() {
    let mut purse = Purse::new();
    let payment = purse.payment(Purpose::WitnessKeyHash, 50_000);
    purse.hear(&payment);
    let mut unit = Unit::new();
    purse.wallet.mempool(&payment, NOW + 60, &mut unit);
    assert!(unit.is_empty());
}

#[test]
fn a_reorg_makes_a_payment_unconfirmed_and_another_block_confirms_it_again() {
    let mut purse = Purse::new();
    let payment = purse.payment(Purpose::WitnessKeyHash, 50_000);
    purse.mine(&[&payment]);
    purse.undo();
    assert_eq!(purse.sums(), (0, 50_000, 0));
    purse.mine(&[]);
    assert_eq!(purse.sums(), (0, 50_000, 0));
    purse.mine(&[&payment]);
    assert_eq!(purse.sums(), (50_000, 0, 0));
}

#[test]
fn a_double_spend_that_confirms_takes_the_payment_away_and_a_reorg_gives_it_back() {
    let mut purse = Purse::new();
    let payment = purse.payment(Purpose::WitnessKeyHash, 50_000);
    purse.hear(&payment);
    let rival = spend(&[payment.input[0].previous_output], &[(49_000, elsewhere())]);
    purse.mine(&[&rival]);
    assert_eq!(purse.sums(), (0, 0, 0));
    purse.undo();
    // Nothing but the mempool can tell now which of the two will win.
    purse.mine(&[&payment]);
    assert_eq!(purse.sums(), (50_000, 0, 0));
}

#[test]
fn the_later_of_two_conflicting_unconfirmed_payments_counts() {
    let mut purse = Purse::new();
    let first = purse.payment(Purpose::WitnessKeyHash, 50_000);
    purse.hear(&first);
    let mut second = purse.payment(Purpose::WitnessKeyHash, 60_000);
    second.input = first.input.clone();
    purse.act(|wallet, unit| wallet.mempool(&second, NOW + 1, unit));
    purse.restart();
    assert_eq!(purse.sums(), (0, 60_000, 0));
}

#[test]
fn what_the_mempool_lost_no_longer_counts_until_it_is_back() {
    let mut purse = Purse::new();
    let payment = purse.payment(Purpose::WitnessKeyHash, 50_000);
    purse.hear(&payment);
    purse.act(|wallet, unit| wallet.evicted(payment.compute_txid(), NOW + 1, unit));
    purse.restart();
    assert_eq!(purse.sums(), (0, 0, 0));
    purse.act(|wallet, unit| wallet.mempool(&payment, NOW + 2, unit));
    purse.restart();
    assert_eq!(purse.sums(), (0, 50_000, 0));
}

#[test]
fn a_coinbase_matures_after_100_blocks() {
    let mut purse = Purse::new();
    let mut reward = purse.payment(Purpose::WitnessKeyHash, 50_000);
    reward.input = crate::chain::fake::coinbase(201, 9_999).input;
    purse.mine(&[&reward]);
    // bitcoind announces it as if it had come from the mempool.
    purse.hear(&reward);
    assert_eq!(purse.wallet.coins()[0].standing, Standing::Immature);
    assert_eq!(purse.sums(), (0, 0, 0));
    for _ in 0..98 {
        purse.mine(&[]);
    }
    assert_eq!(purse.sums(), (0, 0, 0));
    purse.mine(&[]);
    assert_eq!(purse.sums(), (50_000, 0, 0));
}

#[test]
fn blocks_must_come_in_order() {
    let mut purse = Purse::new();
    let skipped = purse.chain.mine(vec![]);
    let next = purse.chain.mine(vec![]);
    let block = purse.chain.block(next.hash).unwrap();
    let result = purse.act(|wallet, unit| wallet.connect(next, &block, unit));
    assert!(matches!(result, Err(WalletError::OutOfOrder { given, .. }) if given == next));
    let result = purse.act(|wallet, unit| wallet.disconnect(skipped, None, unit));
    assert!(matches!(result, Err(WalletError::OutOfOrder { given, .. }) if given == skipped));
    purse.restart();
    assert_eq!(purse.wallet.tip(), Some(purse.chain.at(200)));
}

#[test]
fn the_first_block_of_a_wallet_may_go_and_those_below_it() {
    let mut purse = Purse::new();
    for height in (197..200).rev() {
        purse.undo();
        assert_eq!(purse.wallet.recent_blocks(), [purse.chain.at(height)]);
    }
    let payment = purse.payment(Purpose::WitnessKeyHash, 50_000);
    purse.mine(&[&payment]);
    purse.mine(&[]);
    assert_eq!(purse.sums(), (50_000, 0, 0));
    let known: Vec<_> = (197..200).map(|height| purse.chain.at(height)).collect();
    assert_eq!(purse.wallet.recent_blocks(), known);
}

#[test]
fn only_the_latest_blocks_and_those_with_our_money_are_kept() {
    let mut purse = Purse::new();
    let payment = purse.payment(Purpose::WitnessKeyHash, 50_000);
    let ours = purse.mine(&[&payment]);
    for _ in 0..200 {
        let at = purse.chain.mine(vec![]);
        let block = purse.chain.block(at.hash).unwrap();
        purse.act(|wallet, unit| wallet.connect(at, &block, unit)).unwrap();
    }
    purse.restart();
    let recent = purse.wallet.recent_blocks();
    assert_eq!((recent.len(), recent.last().copied()), (144, purse.wallet.tip()));
    let kept = purse.rows_of(Table::Wallet).iter().filter(|(key, _)| key[0] == b'b').count();
    assert_eq!(kept, 145);
    assert_eq!(purse.wallet.transactions()[0].block, Some((ours.height, ours.hash)));
    assert_eq!(purse.sums(), (50_000, 0, 0));
}

#[test]
fn spent_coins_are_gone_even_if_somebody_else_spent_them_with_our_keys() {
    let mut purse = Purse::new();
    let coin = purse.earn(&[50_000])[0];
    let theft = spend(&[coin, foreign(77)], &[(49_000, elsewhere())]);
    purse.hear(&theft);
    assert_eq!(purse.sums(), (0, 0, 0));
    purse.mine(&[&theft]);
    assert_eq!(purse.sums(), (0, 0, 0));
    assert_eq!(purse.wallet.transactions().last().unwrap().net_sat(), -50_000);
}

#[test]
fn a_damaged_row_is_named_and_nothing_is_guessed() {
    let purse = Purse::new();
    let ring = {
        let master = bitcoin::bip32::Xpriv::new_master(bitcoin::Network::Regtest, &[7; 32]);
        fulmen_node::keys::KeyRing::from_master(master.unwrap(), bitcoin::Network::Regtest).unwrap()
    };
    for (key, value) in
        [(vec![], vec![]), (b"b\0\0".to_vec(), vec![0; 32]), (b"zz".to_vec(), vec![])]
    {
        let mut rows = purse.rows_of(Table::Wallet);
        rows.push((key, value));
        let network = bitcoin::Network::Regtest;
        let wallet = fulmen_node::wallet::Wallet::from_rows(&ring, network, rows, vec![]);
        assert!(matches!(wallet, Err(WalletError::Damaged(_))));
    }
}

#[test]
fn the_reserve_grows_with_channels_up_to_its_cap() {
    for (channels, sat) in [(0, 0), (1, 10_000), (9, 90_000), (10, 100_000), (5_000, 100_000)] {
        assert_eq!(anchor_reserve(channels).sat(), sat);
    }
    assert_eq!(Purse::new().wallet.balance(2).anchor_reserve.sat(), 20_000);
}

#[test]
fn an_output_of_ours_deep_in_a_transaction_is_found() {
    let mut purse = Purse::new();
    let payment = purse.payment(Purpose::WitnessKeyHash, 50_000);
    let ours = payment.output[0].script_pubkey.clone();
    let batch = spend(&[foreign(9)], &[(1, elsewhere()), (2, elsewhere()), (30_000, ours)]);
    purse.mine(&[&batch]);
    let coin = &purse.wallet.coins()[0];
    assert_eq!((coin.outpoint.txid, coin.outpoint.vout), (output_of(&batch).txid, 2));
}

#[test]
fn what_came_back_to_the_mempool_in_the_same_second_counts() {
    let mut purse = Purse::new();
    let payment = purse.payment(Purpose::WitnessKeyHash, 50_000);
    purse.hear(&payment);
    purse.act(|wallet, unit| wallet.evicted(payment.compute_txid(), NOW, unit));
    assert_eq!(purse.sums(), (0, 0, 0));
    purse.hear(&payment);
    assert_eq!(purse.sums(), (0, 50_000, 0));
}

#[test]
fn a_strangers_transaction_that_displaced_one_of_ours_is_not_listed() {
    let mut purse = Purse::new();
    let payment = purse.payment(Purpose::WitnessKeyHash, 50_000);
    purse.hear(&payment);
    let rival = spend(&[payment.input[0].previous_output], &[(49_000, elsewhere())]);
    purse.act(|wallet, unit| wallet.mempool(&rival, NOW + 1, unit));
    purse.restart();
    assert_eq!(purse.sums(), (0, 0, 0));
    assert!(purse.wallet.transactions().is_empty());
    purse.mine(&[&rival]);
    assert!(purse.wallet.transactions().is_empty());
}

#[test]
fn what_replaces_a_payment_in_the_same_second_wins_over_all_that_follows_it() {
    for number in 0..8 {
        let mut purse = Purse::new();
        let payment = purse.payment(Purpose::WitnessKeyHash, 50_000);
        purse.hear(&payment);
        let request = FundRequest { min_confs: 0, ..pays(40_000) };
        let child = purse.try_fund(&request).unwrap();
        let child = purse.sign(&child);
        purse.hear(&child);
        // Its id, by which ties would be broken, differs in each round.
        let rival = spend(&[payment.input[0].previous_output], &[(1_000 + number, elsewhere())]);
        purse.hear(&rival);
        assert_eq!(purse.sums(), (0, 0, 0));
    }
}
