//! Coin selection: what comes out is enough, costs what was asked, and leaves no dust.

use super::purse::{funding_output, pays, Purse};
use bitcoin::{OutPoint, ScriptBuf, Transaction};
use fulmen_channel::amount::{FeeratePerKw, Sat};
use fulmen_node::keys::Purpose;
use fulmen_node::wallet::{Coin, FundError, FundRequest, Plan, Strategy, DUST};

const KINDS: [Purpose; 3] =
    [Purpose::NestedWitnessKeyHash, Purpose::WitnessKeyHash, Purpose::Taproot];

/// Numbers that look random and are the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// From dust to a few million satoshi, small ones as likely as large ones.
    fn amount(&mut self) -> u64 {
        let bits = 10 + self.below(12);
        300 + self.below(1 << bits)
    }
}

fn values(coins: &[Coin]) -> Vec<u64> {
    let mut values: Vec<u64> = coins.iter().map(|coin| coin.value().sat()).collect();
    values.sort_unstable();
    values
}

/// The transaction of a plan, signed.
fn signed(purse: &mut Purse, plan: Plan) -> Transaction {
    let reservation = purse.act(|wallet, unit| wallet.reserve(plan, unit)).unwrap();
    purse.sign(&reservation)
}

#[test]
fn any_coins_and_any_target_give_enough_at_the_feerate_asked_and_no_dust() {
    let mut dice = Dice(0x5eed);
    let (mut paid, mut changeless) = (0, 0);
    for round in 0..40 {
        let mut purse = Purse::new();
        for kind in KINDS {
            // Coins of about the same value have a set for almost every sum.
            let amounts: Vec<u64> = match round % 3 {
                0 => (0..5).map(|_| 20_000 + dice.below(4_000)).collect(),
                _ => (0..dice.below(6)).map(|_| dice.amount()).collect(),
            };
            purse.earn_as(kind, &amounts);
        }
        let has = purse.sums().0;
        let feerate = FeeratePerKw::new(253 + dice.below(5_000) as u32);
        let target = 330 + dice.below(has.max(1) + has / 8);
        let strategy = if round % 2 == 0 { Strategy::Largest } else { Strategy::Random(round) };
        let request = FundRequest { strategy, feerate, ..pays(target) };
        let plan = match purse.wallet.plan(&request) {
            Ok(plan) => plan,
            Err(error) => {
                // Only when even all the coins that are worth their fee do not pay for it.
                assert!(matches!(error, FundError::Insufficient { .. }), "{error}");
                let sweep = FundRequest { outputs: vec![], ..request };
                let script = funding_output(330).script_pubkey;
                let most = purse.wallet.plan_sweep(script, &sweep);
                assert!(
                    most.is_ok_and(|plan| plan.outputs[0].value.to_sat() < target) || has < 9_000
                );
                continue;
            }
        };
        let (fee, change) = (plan.fee, plan.change);
        let spent: u64 = values(&plan.coins).iter().sum();
        assert_eq!(spent, target + fee.sat() + change.sat());
        assert!(change == Sat::ZERO || change >= DUST, "dust as change: {change}");
        let tx = signed(&mut purse, plan);
        let exact = feerate.fee(tx.weight().to_wu());
        // A signature may be a byte shorter than planned for; without change, what would have
        // been an output and its fee goes to the miners.
        let shorter = feerate.fee(tx.input.len() as u64).sat() + 1;
        let given = if change == Sat::ZERO { feerate.fee(124).sat() + DUST.sat() } else { 0 };
        assert!(
            (exact.sat()..=exact.sat() + shorter + given).contains(&fee.sat()),
            "{fee} {exact}"
        );
        paid += 1;
        changeless += usize::from(change == Sat::ZERO);
    }
    assert!(paid > 20 && changeless > 0 && changeless < paid, "{paid} {changeless}");
}

#[test]
fn a_set_without_change_is_preferred() {
    let mut purse = Purse::new();
    purse.earn(&[500_000, 70_000, 31_000, 20_500, 9_000]);
    // 31,000 and 20,500 pay for 50,000 and the fee of two inputs, with a little left.
    let plan = purse.wallet.plan(&pays(50_400)).unwrap();
    assert_eq!((values(&plan.coins), plan.change), (vec![20_500, 31_000], Sat::ZERO));
    // Nothing fits here: the largest coin, and change.
    let plan = purse.wallet.plan(&pays(45_000)).unwrap();
    assert_eq!(values(&plan.coins), [500_000]);
    assert!(plan.change > Sat::new(450_000));
}

#[test]
fn chance_chooses_other_coins_and_no_more_than_needed() {
    let mut purse = Purse::new();
    purse.earn(&[100_000; 12]);
    let chosen = |lot| {
        let request = FundRequest { strategy: Strategy::Random(lot), ..pays(150_000) };
        purse.wallet.plan(&request).unwrap().coins
    };
    let one: Vec<OutPoint> = chosen(1).iter().map(|coin| coin.outpoint).collect();
    assert_eq!(one.len(), 2);
    let same: Vec<OutPoint> = chosen(1).iter().map(|coin| coin.outpoint).collect();
    assert_eq!(one, same, "one lot, one choice");
    let others = (2..10).map(|lot| chosen(lot).iter().map(|coin| coin.outpoint).collect());
    let others: Vec<Vec<OutPoint>> = others.collect();
    assert!(others.iter().any(|other| *other != one));
    // What the lot drew first is put back when a later coin pays for all of it.
    let mut purse = Purse::new();
    purse.earn(&[1_000, 2_000, 3_000, 900_000]);
    for lot in 0..8 {
        let request = FundRequest { strategy: Strategy::Random(lot), ..pays(800_000) };
        assert_eq!(values(&purse.wallet.plan(&request).unwrap().coins), [900_000]);
    }
}

#[test]
fn picked_coins_are_spent_all_of_them_and_no_others() {
    let mut purse = Purse::new();
    let coins = purse.earn(&[10_000, 20_000, 500_000]);
    let request = FundRequest { picked: coins[..2].to_vec(), ..pays(5_000) };
    let plan = purse.wallet.plan(&request).unwrap();
    assert_eq!(values(&plan.coins), [10_000, 20_000]);
    assert_eq!(plan.change, Sat::new(25_000 - plan.fee.sat()));
    // Named twice, spent once.
    let twice = FundRequest { picked: vec![coins[0], coins[0]], ..pays(5_000) };
    assert_eq!(purse.wallet.plan(&twice).unwrap().coins.len(), 1);
    let little = FundRequest { picked: coins[..2].to_vec(), ..pays(50_000) };
    let error = purse.wallet.plan(&little).unwrap_err();
    assert!(matches!(error, FundError::Insufficient { have, .. } if have.sat() == 30_000));
    // A stranger's, and one that is held.
    let theirs = crate::chain::fake::foreign(88);
    let error = purse.wallet.plan(&FundRequest { picked: vec![theirs], ..pays(5_000) });
    assert!(matches!(error, Err(FundError::NotACoin(outpoint)) if outpoint == theirs));
    purse.fund(400_000);
    let error = purse.wallet.plan(&FundRequest { picked: vec![coins[2]], ..pays(5_000) });
    assert!(matches!(error, Err(FundError::NotACoin(outpoint)) if outpoint == coins[2]));
}

fn sweep(anchor_channels: u32) -> FundRequest {
    let feerate = FeeratePerKw::new(1_000);
    FundRequest { anchor_channels, ..FundRequest::new(vec![], feerate) }
}

fn elsewhere() -> ScriptBuf {
    funding_output(330).script_pubkey
}

#[test]
fn a_sweep_takes_every_coin_that_is_worth_its_fee() {
    let mut purse = Purse::new();
    for kind in KINDS {
        purse.earn_as(kind, &[50_000, 40_000, 250]);
    }
    let plan = purse.wallet.plan_sweep(elsewhere(), &sweep(0)).unwrap();
    // 250 sat pay for a taproot input, but for no other.
    assert_eq!(values(&plan.coins), [250, 40_000, 40_000, 40_000, 50_000, 50_000, 50_000]);
    assert_eq!(plan.change, Sat::ZERO);
    let (fee, paid) = (plan.fee, plan.outputs[0].value.to_sat());
    assert_eq!(paid + fee.sat(), 270_250);
    let tx = signed(&mut purse, plan);
    assert_eq!(tx.output.len(), 1);
    assert_eq!(fee, FeeratePerKw::new(1_000).fee(tx.weight().to_wu()));
    assert!(matches!(
        purse.wallet.plan_sweep(elsewhere(), &sweep(0)),
        Err(FundError::Insufficient { .. })
    ));
}

#[test]
fn a_sweep_leaves_the_anchor_reserve_or_is_refused() {
    let mut purse = Purse::new();
    let coins = purse.earn(&[60_000, 40_000]);
    let plan = purse.wallet.plan_sweep(elsewhere(), &sweep(3)).unwrap();
    assert_eq!(plan.change, Sat::new(30_000));
    assert_eq!(plan.outputs[0].value.to_sat() + plan.fee.sat(), 70_000);
    let tx = signed(&mut purse, plan.clone());
    assert_eq!(plan.fee, FeeratePerKw::new(1_000).fee(tx.weight().to_wu()));
    purse.act(|wallet, unit| wallet.release(tx.compute_txid(), 0, unit));
    // What is not swept counts.
    let some = FundRequest { picked: vec![coins[0]], ..sweep(3) };
    let plan = purse.wallet.plan_sweep(elsewhere(), &some).unwrap();
    assert_eq!((values(&plan.coins), plan.change), (vec![60_000], Sat::ZERO));
    let most = FundRequest { picked: vec![coins[0]], ..sweep(6) };
    assert_eq!(purse.wallet.plan_sweep(elsewhere(), &most).unwrap().change, Sat::new(20_000));
    let error = purse.wallet.plan_sweep(elsewhere(), &sweep(11)).unwrap_err();
    assert!(matches!(error, FundError::Reserve { reserve, .. } if reserve.sat() == 100_000));
    assert!(error.to_string().starts_with("reserved wallet balance invalidated: "), "{error}");
}

#[test]
fn more_coins_than_a_transaction_holds_are_refused_by_number() {
    let mut purse = Purse::new();
    let script = purse.payment(Purpose::WitnessKeyHash, 1).output[0].script_pubkey.clone();
    let coins = vec![(1_000, script); 1_500];
    let many = crate::chain::fake::spend(&[crate::chain::fake::foreign(9)], &coins);
    purse.mine(&[&many]);
    let request = FundRequest { feerate: FeeratePerKw::new(253), ..sweep(0) };
    let error = purse.wallet.plan_sweep(elsewhere(), &request).unwrap_err();
    assert!(matches!(error, FundError::TooManyCoins(1_500)), "{error}");
    let error = purse.wallet.plan(&FundRequest { feerate: request.feerate, ..pays(1_385_000) });
    assert!(matches!(error, Err(FundError::TooManyCoins(1_500))));
}
