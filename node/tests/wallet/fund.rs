//! Funding: fees to the satoshi, the reserve, reservations.

use super::purse::{funding_output, output_of, pays, Purse, NOW};
use crate::chain::fake::spend;
use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut};
use fulmen_channel::amount::{FeeratePerKw, Sat};
use fulmen_node::keys::Purpose;
use fulmen_node::store::Table;
use fulmen_node::wallet::{FundError, FundRequest, Standing, DUST};
use std::collections::BTreeMap;

fn value(outputs: &[TxOut]) -> u64 {
    outputs.iter().map(|output| output.value.to_sat()).sum()
}

fn inputs(tx: &Transaction) -> Vec<OutPoint> {
    tx.input.iter().map(|input| input.previous_output).collect()
}

#[test]
fn each_kind_of_coin_is_spent_with_valid_scripts_and_an_exact_fee() {
    let kinds = [Purpose::NestedWitnessKeyHash, Purpose::WitnessKeyHash, Purpose::Taproot];
    for kind in kinds {
        let mut purse = Purse::new();
        purse.earn_as(kind, &[100_000]);
        let reservation = purse.fund(60_000);
        let tx = purse.sign(&reservation);
        let fee = FeeratePerKw::new(1_000).fee(tx.weight().to_wu());
        assert_eq!(reservation.fee, fee, "{kind:?}");
        assert_eq!(value(&tx.output), 100_000 - fee.sat());
        let change = reservation.change.unwrap() as usize;
        assert!(purse.wallet.is_ours(&tx.output[change].script_pubkey));
        assert_eq!(tx.output[1 - change], funding_output(60_000));
    }
}

#[test]
fn coins_of_all_kinds_are_spent_together() {
    let mut purse = Purse::new();
    purse.earn_as(Purpose::NestedWitnessKeyHash, &[30_000, 30_000]);
    purse.earn_as(Purpose::WitnessKeyHash, &[30_000, 30_000]);
    purse.earn_as(Purpose::Taproot, &[30_000]);
    let reservation = purse.fund(140_000);
    let tx = purse.sign(&reservation);
    assert_eq!(tx.input.len(), 5);
    assert_eq!(reservation.fee, FeeratePerKw::new(1_000).fee(tx.weight().to_wu()));
}

#[test]
fn hundreds_of_coins_still_pay_the_exact_fee() {
    let mut purse = Purse::new();
    let script = purse.payment(Purpose::WitnessKeyHash, 1).output[0].script_pubkey.clone();
    let coins = vec![(1_000, script); 300];
    let many = spend(&[crate::chain::fake::foreign(9)], &coins);
    purse.mine(&[&many]);
    let request = FundRequest { feerate: FeeratePerKw::new(253), ..pays(269_500) };
    let reservation = purse.try_fund(&request).unwrap();
    assert!(reservation.change.is_some());
    let tx = purse.sign(&reservation);
    assert!(tx.input.len() > 252, "the count of inputs takes three bytes");
    let exact = request.feerate.fee(tx.weight().to_wu()).sat();
    // A rare signature is a byte shorter than planned for.
    let fee = reservation.fee.sat();
    assert!((exact..exact + 2).contains(&fee), "{fee}, exact {exact}");
}

#[test]
fn change_too_small_to_be_spent_goes_to_the_fee() {
    // What two outputs cost at 1,000 sat/kw more than the payment: found by asking.
    let mut purse = Purse::new();
    purse.earn(&[100_000]);
    let with_change = purse.fund(90_000).fee.sat();
    let at_dust = 100_000 - with_change - DUST.sat();
    for (sat, change) in [(at_dust, true), (at_dust + 1, false)] {
        let mut purse = Purse::new();
        purse.earn(&[100_000]);
        let reservation = purse.fund(sat);
        assert_eq!(reservation.change.is_some(), change);
        let outputs = if change { sat + DUST.sat() } else { sat };
        assert_eq!(reservation.fee.sat(), 100_000 - outputs);
        purse.sign(&reservation);
    }
}

#[test]
fn too_little_money_is_told_in_lnds_words() {
    let mut purse = Purse::new();
    purse.earn(&[100_000]);
    let error = purse.try_fund(&pays(500_000)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not enough witness outputs to create funding transaction, need 0.00500485 BTC only have \
         0.00100000 BTC  available"
    );
    assert!(purse.rows_of(Table::Reservation).is_empty());
    let error = Purse::new().try_fund(&pays(99_999_550)).unwrap_err().to_string();
    assert!(error.ends_with("only have 0 BTC  available"), "{error}");
}

#[test]
fn all_but_the_fee_can_be_spent() {
    let mut purse = Purse::new();
    purse.earn(&[100_000]);
    let (mut most, mut highest) = (99_000, 100_000_u64);
    while most < highest {
        let middle = (most + highest).div_ceil(2);
        let mut purse = Purse::new();
        purse.earn(&[100_000]);
        match purse.try_fund(&pays(middle)) {
            Ok(_) => most = middle,
            Err(_) => highest = middle - 1,
        }
    }
    let reservation = purse.fund(most);
    let tx = purse.sign(&reservation);
    assert_eq!(100_000 - most, FeeratePerKw::new(1_000).fee(tx.weight().to_wu()).sat());
}

#[test]
fn the_anchor_reserve_stays_in_the_wallet() {
    let mut purse = Purse::new();
    purse.earn(&[100_000]);
    let request = |sat| FundRequest { anchor_channels: 2, ..pays(sat) };
    let error = purse.try_fund(&request(80_000)).unwrap_err();
    assert!(matches!(error, FundError::Reserve { reserve, .. } if reserve == Sat::new(20_000)));
    // 100,000 less 80,000 and the fee of one input and two outputs.
    let FundError::Reserve { left, .. } = &error else { panic!("{error}") };
    assert!((19_000..20_000).contains(&left.sat()), "{left}");
    let missing = 20_000 - left.sat();
    let text = error.to_string();
    assert!(text.starts_with("reserved wallet balance invalidated: "), "{text}");
    let ends = format!(
        "0.000{} BTC would be left, 0.00020000 BTC must be, 0.00000{missing} BTC is missing",
        left.sat()
    );
    assert!(text.ends_with(&ends), "{text}\n{ends}");
    assert!(purse.rows_of(Table::Reservation).is_empty());
    purse.try_fund(&request(79_000)).unwrap();
}

#[test]
fn what_is_missing_of_the_reserve_is_what_a_transaction_would_lack() {
    let mut purse = Purse::new();
    assert_eq!(purse.wallet.missing_reserve(0), Sat::ZERO);
    assert_eq!(purse.wallet.missing_reserve(2), Sat::new(20_000), "a wallet without coins");
    purse.earn(&[12_000, 50_000]);
    assert_eq!(purse.wallet.missing_reserve(6), Sat::ZERO);
    assert_eq!(purse.wallet.missing_reserve(7), Sat::new(8_000));
    purse.fund(40_000);
    assert_eq!(purse.wallet.missing_reserve(2), Sat::new(8_000), "a locked coin is not counted");
    let payment = purse.payment(Purpose::WitnessKeyHash, 80_000);
    purse.hear(&payment);
    assert_eq!(purse.wallet.missing_reserve(2), Sat::new(8_000), "nor what may be taken back");
}

#[test]
fn the_reserve_may_lie_in_coins_that_are_not_touched_but_not_in_locked_or_foreign_ones() {
    let request = FundRequest { anchor_channels: 1, ..pays(49_000) };
    let mut purse = Purse::new();
    purse.earn(&[50_000, 30_000]);
    purse.try_fund(&request).unwrap();
    // The other coin is locked now, and new money is not yet ours for certain.
    let mut purse = Purse::new();
    purse.earn(&[50_000, 30_000]);
    let payment = purse.payment(Purpose::WitnessKeyHash, 80_000);
    purse.hear(&payment);
    purse.fund(29_000);
    // 50,000 is spent on that, its change of some 20,500 is what remains.
    let left = purse.try_fund(&FundRequest { anchor_channels: 1, ..pays(28_000) });
    assert!(matches!(left, Err(FundError::Reserve { .. })), "{left:?}");
}

#[test]
fn reserved_coins_are_locked_and_not_used_twice() {
    let mut purse = Purse::new();
    purse.earn(&[100_000, 100_000]);
    let first = purse.fund(60_000);
    assert_eq!(purse.sums(), (100_000, 0, 100_000));
    let second = purse.fund(60_000);
    assert_ne!(inputs(&first.tx), inputs(&second.tx));
    assert_ne!(first.tx.output, second.tx.output, "change goes to fresh addresses");
    assert!(matches!(purse.try_fund(&pays(1_000)), Err(FundError::Insufficient { .. })));
}

#[test]
fn a_broadcast_reservation_shows_its_change_and_ends_when_it_confirms() {
    let mut purse = Purse::new();
    purse.earn(&[100_000]);
    let reservation = purse.fund(60_000);
    let change = 40_000 - reservation.fee.sat();
    let tx = purse.sign(&reservation);
    purse.hear(&tx);
    assert_eq!(purse.sums(), (0, change, 0));
    assert_eq!(purse.wallet.coins()[0].standing, Standing::OwnChange);
    purse.mine(&[&tx]);
    assert_eq!(purse.sums(), (change, 0, 0));
    assert!(purse.rows_of(Table::Reservation).is_empty());
    // A reorg does not free the inputs: the transaction is still there.
    purse.undo();
    assert_eq!(purse.sums(), (0, change, 0));
}

#[test]
fn a_released_reservation_frees_its_coins_even_if_it_was_signed_and_noted() {
    let mut purse = Purse::new();
    purse.earn(&[100_000]);
    let reservation = purse.fund(60_000);
    let tx = purse.sign(&reservation);
    purse.hear(&tx);
    purse.act(|wallet, unit| wallet.release(reservation.txid, NOW + 1, unit));
    purse.restart();
    assert_eq!(purse.sums(), (100_000, 0, 0));
    assert!(purse.rows_of(Table::Reservation).is_empty());
    purse.fund(60_000);
}

#[test]
fn a_conflict_that_confirms_frees_the_other_coins() {
    let mut purse = Purse::new();
    let coins = purse.earn(&[50_000, 40_000]);
    purse.fund(80_000);
    assert_eq!(purse.sums(), (0, 0, 90_000));
    let conflict = spend(&[coins[0]], &[(49_000, ScriptBuf::from_bytes(vec![0x51]))]);
    // Unconfirmed it frees nothing.
    purse.hear(&conflict);
    assert_eq!(purse.sums(), (0, 0, 40_000));
    purse.mine(&[&conflict]);
    assert_eq!(purse.sums(), (40_000, 0, 0));
}

#[test]
fn a_double_spend_of_what_we_spent_unconfirmed_frees_our_other_coins() {
    let mut purse = Purse::new();
    purse.earn(&[40_000]);
    let payment = purse.payment(Purpose::WitnessKeyHash, 50_000);
    purse.hear(&payment);
    let request = FundRequest { min_confs: 0, ..pays(80_000) };
    let reservation = purse.try_fund(&request).unwrap();
    let tx = purse.sign(&reservation);
    purse.hear(&tx);
    assert_eq!(purse.wallet.conflict_depth(&tx), 0);
    // The payer takes his money back: our transaction has lost its parent.
    let rival =
        spend(&[payment.input[0].previous_output], &[(1, ScriptBuf::from_bytes(vec![0x51]))]);
    purse.mine(&[&rival]);
    assert_eq!(purse.sums(), (40_000, 0, 0));
    assert!(purse.rows_of(Table::Reservation).is_empty());
    assert_eq!(purse.wallet.conflict_depth(&tx), 1);
    purse.mine(&[]);
    assert_eq!(purse.wallet.conflict_depth(&tx), 2);
    purse.undo();
    purse.undo();
    assert_eq!(purse.wallet.conflict_depth(&tx), 0);
}

#[test]
fn min_confs_says_which_coins_are_good_enough() {
    let mut purse = Purse::new();
    purse.earn(&[100_000]);
    let own = purse.fund(60_000);
    let own = purse.sign(&own);
    purse.hear(&own);
    let foreign = purse.payment(Purpose::WitnessKeyHash, 200_000);
    purse.hear(&foreign);
    // Now: about 39,400 of own change, 200,000 of somebody's, nothing confirmed.
    let ask = |purse: &mut Purse, sat, min_confs| {
        let result = purse.try_fund(&FundRequest { min_confs, ..pays(sat) });
        if let Ok(reservation) = &result {
            let txid = reservation.txid;
            purse.act(|wallet, unit| wallet.release(txid, NOW + 1, unit));
        }
        result.is_ok()
    };
    for (sat, min_confs, enough) in
        [(30_000, 1, true), (50_000, 1, false), (50_000, 0, true), (30_000, 2, false)]
    {
        assert_eq!(ask(&mut purse, sat, min_confs), enough, "{sat} {min_confs}");
    }
    purse.mine(&[&own, &foreign]);
    assert!(!ask(&mut purse, 50_000, 2), "one confirmation is not two");
    purse.mine(&[]);
    assert!(ask(&mut purse, 50_000, 2));
}

#[test]
fn change_of_a_transaction_that_others_can_undo_is_not_own_change() {
    let mut purse = Purse::new();
    let payment = purse.payment(Purpose::WitnessKeyHash, 100_000);
    purse.hear(&payment);
    let daring = FundRequest { min_confs: 0, ..pays(60_000) };
    let reservation = purse.try_fund(&daring).unwrap();
    let tx = purse.sign(&reservation);
    purse.hear(&tx);
    assert_eq!(purse.wallet.coins()[0].standing, Standing::Foreign);
    assert!(matches!(purse.try_fund(&pays(1_000)), Err(FundError::Insufficient { .. })));
}

#[test]
fn confirmed_coins_come_before_own_change() {
    let mut purse = Purse::new();
    purse.earn(&[500_000]);
    let big = purse.fund(60_000);
    let big = purse.sign(&big);
    let small = purse.payment(Purpose::WitnessKeyHash, 50_000);
    purse.mine(&[&small]);
    purse.hear(&big);
    let reservation = purse.fund(30_000);
    assert_eq!(inputs(&reservation.tx), [output_of(&small)]);
}

#[test]
fn a_chain_of_unconfirmed_change_ends_before_nodes_refuse_it() {
    let mut purse = Purse::new();
    purse.earn(&[1_000_000]);
    for _ in 0..24 {
        let reservation = purse.fund(2_000);
        let tx = purse.sign(&reservation);
        purse.hear(&tx);
    }
    // One that has 24 unconfirmed ancestors is the 25th of its package; another is too many.
    let last = purse.fund(2_000);
    let last = purse.sign(&last);
    purse.hear(&last);
    assert!(matches!(purse.try_fund(&pays(2_000)), Err(FundError::Insufficient { .. })));
}

#[test]
fn inputs_and_outputs_are_in_an_order_that_tells_nothing() {
    let mut purse = Purse::new();
    purse.earn(&[40_000, 40_000, 40_000]);
    let reservation = purse.fund(100_000);
    let spent = inputs(&reservation.tx);
    assert!(spent.is_sorted());
    assert!(reservation.tx.output.is_sorted_by_key(|output| output.value));
}

#[test]
fn outputs_that_cannot_be_paid_are_refused() {
    let mut purse = Purse::new();
    purse.earn(&[100_000]);
    assert!(matches!(purse.try_fund(&pays(329)), Err(FundError::Dust(sat)) if sat.sat() == 329));
    let nothing = FundRequest { outputs: vec![], ..pays(1) };
    assert!(matches!(purse.try_fund(&nothing), Err(FundError::Empty)));
    let outputs = vec![funding_output(u64::MAX), funding_output(u64::MAX)];
    let all = FundRequest { outputs, ..pays(1) };
    assert!(matches!(purse.try_fund(&all), Err(FundError::TooMuch)));
    let greedy = FundRequest { feerate: FeeratePerKw::new(u32::MAX), ..pays(1_000) };
    assert!(matches!(purse.try_fund(&greedy), Err(FundError::Insufficient { .. })));
}

#[test]
fn inputs_of_others_are_left_alone_and_taproot_must_know_them() {
    let mut purse = Purse::new();
    let plain = purse.earn(&[50_000])[0];
    let taproot = purse.earn_as(Purpose::Taproot, &[50_000])[0];
    let theirs = crate::chain::fake::foreign(88);
    let pay = [(90_000, ScriptBuf::from_bytes(vec![0x51]))];
    let nothing = BTreeMap::new();
    let mut tx = spend(&[theirs, plain], &pay);
    assert_eq!(purse.wallet.sign(&mut tx, &nothing).unwrap(), 1);
    assert!(tx.input[0].witness.is_empty() && !tx.input[1].witness.is_empty());
    let mut tx = spend(&[theirs, taproot], &pay);
    let error = purse.wallet.sign(&mut tx, &nothing).unwrap_err().to_string();
    assert!(error.contains(&theirs.to_string()), "{error}");
    // Their script is anyone's, so that all inputs can be checked.
    let output = TxOut {
        value: bitcoin::Amount::from_sat(7),
        script_pubkey: ScriptBuf::from_bytes(vec![0x51]),
    };
    let others = BTreeMap::from([(theirs, output.clone())]);
    assert_eq!(purse.wallet.sign(&mut tx, &others).unwrap(), 1);
    let ours = purse.wallet.coins().into_iter().find(|coin| coin.outpoint == taproot).unwrap();
    super::purse::verify(&tx, &[output, ours.output]);
}
