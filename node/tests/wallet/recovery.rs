//! A wallet that lost its rows and looks for its coins in old blocks.

use super::purse::{output_of, Purse};
use fulmen_channel::amount::Height;
use fulmen_node::keys::Purpose;
use fulmen_node::wallet::{Coin, Recovery, Span, WalletTx};

const PURPOSES: [Purpose; 3] =
    [Purpose::WitnessKeyHash, Purpose::NestedWitnessKeyHash, Purpose::Taproot];

/// Coins of each kind, some spent, with change.
fn with_a_past() -> Purse {
    let mut purse = Purse::new();
    for purpose in PURPOSES {
        purse.earn_as(purpose, &[50_000, 20_000]);
    }
    for _ in 0..2 {
        let reservation = purse.fund(60_000);
        let tx = purse.sign(&reservation);
        purse.hear(&tx);
        purse.mine(&[&tx]);
    }
    purse
}

fn owned(purse: &Purse) -> (Vec<Coin>, Vec<WalletTx>) {
    let mut all = purse.wallet.transactions();
    all.sort_by_key(|tx| tx.txid);
    (purse.wallet.coins(), all)
}

fn recovery(purse: &Purse) -> Recovery {
    purse.wallet.recovery().unwrap()
}

#[test]
fn coins_change_and_history_are_found_and_no_address_comes_twice() {
    let mut purse = with_a_past();
    let before = owned(&purse);
    assert!(before.0.len() >= 3 && before.1.len() == 8);
    let last: Vec<_> = PURPOSES.map(|p| purse.act(|w, u| w.new_address(p, u)).unwrap()).into();
    purse.lose_rows(5);
    assert_eq!(recovery(&purse), Recovery { window: 5, span: None, over: false });
    let (first, best) = (Height::new(199), purse.tip());
    purse.act(|wallet, unit| wallet.begin_recovery(first, best, unit));
    purse.reads(first, best.height);
    assert!(recovery(&purse).over);
    assert_eq!(owned(&purse), before);
    // What was given away but never paid comes again: nobody could know.
    let next: Vec<_> = PURPOSES.map(|p| purse.act(|w, u| w.new_address(p, u)).unwrap()).into();
    assert_eq!(next, last);
    // It is a wallet as any other from now on.
    purse.restart();
    assert_eq!(purse.wallet.recovery(), None);
    purse.earn(&[1_000]);
    assert_eq!(purse.wallet.recent_blocks().first().unwrap().height, first);
}

#[test]
fn the_window_is_the_longest_row_of_unused_addresses_that_is_looked_through() {
    for (window, found) in [(30, false), (31, true)] {
        let mut purse = Purse::new();
        for _ in 0..30 {
            purse.act(|wallet, unit| wallet.new_address(Purpose::Taproot, unit)).unwrap();
        }
        let coin = purse.earn_as(Purpose::Taproot, &[9_000])[0];
        purse.lose_rows(window);
        let (first, best) = (Height::new(0), purse.tip());
        purse.act(|wallet, unit| wallet.begin_recovery(first, best, unit));
        purse.reads(first, best.height);
        let outpoints: Vec<_> = purse.wallet.coins().iter().map(|coin| coin.outpoint).collect();
        assert_eq!(outpoints, if found { vec![coin] } else { vec![] }, "window {window}");
    }
}

#[test]
fn a_search_goes_on_after_a_restart_where_it_was() {
    let mut purse = with_a_past();
    let before = owned(&purse);
    purse.lose_rows(5);
    let (first, best) = (Height::new(150), purse.tip());
    purse.act(|wallet, unit| wallet.begin_recovery(first, best, unit));
    for height in first.number()..best.height.number() {
        let next = Height::new(height + 1);
        purse.reads(Height::new(height), Height::new(height));
        purse.restart();
        let span = Some(Span { first, next });
        assert_eq!(recovery(&purse), Recovery { window: 5, span, over: false });
        let part = recovery(&purse).progress(best.height);
        assert!(part > 0.0 && part < 1.0, "{part}");
    }
    purse.reads(best.height, best.height);
    assert!(recovery(&purse).over);
    assert_eq!(recovery(&purse).progress(best.height), 1.0);
    assert_eq!(owned(&purse), before);
}

#[test]
fn blocks_that_a_reorganisation_replaced_are_left_to_the_usual_way() {
    let mut purse = Purse::new();
    let lost = purse.earn(&[10_000])[0];
    purse.lose_rows(5);
    let (first, old) = (Height::new(195), purse.tip());
    purse.act(|wallet, unit| wallet.begin_recovery(first, old, unit));
    purse.chain.roll_back(2);
    purse.chain.mine_empty(3);
    purse.reads(first, old.height.plus(1));
    assert!(recovery(&purse).over);
    assert_eq!(purse.wallet.tip(), Some(old));
    assert!(purse.wallet.coins().is_empty(), "{lost} is not in the chain");
    // The old block goes, and what stands below it was taken from the new chain.
    let below = purse.chain.at(old.height.number() - 1);
    purse.act(|wallet, unit| wallet.disconnect(old, Some(below), unit)).unwrap();
    for height in old.height.number()..=old.height.number() + 1 {
        purse.connects(height);
    }
}

#[test]
fn a_wallet_that_runs_already_finds_what_it_never_saw() {
    let mut purse = Purse::new();
    let tx = purse.payment(Purpose::NestedWitnessKeyHash, 33_000);
    let coin = output_of(&tx);
    let mut blind = purse.blind();
    purse.mine(&[&tx]);
    blind.chain.mine(vec![tx]);
    blind.chain.mine_empty(2);
    // Its rows begin with a later block.
    let best = blind.chain.at(203);
    blind.connects(best.height.number());
    assert!(blind.wallet.coins().is_empty());
    blind.asks(5);
    let first = Height::new(100);
    blind.act(|wallet, unit| wallet.begin_recovery(first, best, unit));
    blind.reads(first, best.height);
    let outpoints: Vec<_> = blind.wallet.coins().iter().map(|coin| coin.outpoint).collect();
    assert_eq!(outpoints, [coin]);
    assert_eq!(blind.balance().confirmed.sat(), 33_000);
}
