//! What to publish now: claims, coins, estimates and earlier versions in, transactions out. Pure.
//!
//! ```text
//!   claims ─▶ of a version that stands: as they are ┐
//!          ─▶ new, or not to stay together ─────────┴─▶ batches ─▶ curve ─▶ build ─▶ drafts
//!                                                                             └────▶ what waits
//! ```
//!
//! A version stays until a block takes one of its inputs or its feerate falls behind the curve. A
//! later one replaces one, whole, so that rules 3 and 4 of BIP 125 are one comparison.

use super::batch::{alone, together};
use super::budget::{left, rate_of, Curve};
use super::build::{build, Built, Terms};
use super::version::{Lent, Version};
use super::wanted::{Parent, Wanted};
use bitcoin::{OutPoint, Txid};
use fulmen_channel::amount::{FeeratePerKw, Height, Sat};
use fulmen_channel::onchain::claim::Pays;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Feerates by how soon, and the least that enters the mempool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Estimates {
    /// Blocks, and the feerate to confirm within them.
    pub within: BTreeMap<u16, FeeratePerKw>,
    /// What enters the mempool now.
    pub entering: FeeratePerKw,
}

impl Estimates {
    /// For so many blocks, or fewer if there is no estimate for them.
    pub fn within(&self, blocks: u32) -> FeeratePerKw {
        let fits = |within: &u16| u32::from(*within) <= blocks;
        let known = self.within.iter().rev().find(|(within, _)| fits(within));
        let known = known.or_else(|| self.within.iter().next());
        known.map_or(self.entering, |(_, rate)| *rate).max(self.entering)
    }
}

/// Why a claim is not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Waits {
    /// Its delay, or its HTLC.
    #[error("may not be in a block before {0}")]
    Until(Height),
    /// It costs too much at this feerate.
    #[error("uneconomic at {0}: waits for lower feerates")]
    Uneconomic(FeeratePerKw),
    /// The wallet has too little.
    #[error("the wallet lacks {0} to pay the fee: send some to a new address")]
    Coins(Sat),
    /// Its commitment needs no help at this feerate.
    #[error("the commitment pays enough by itself for now: {0} are wanted")]
    Enough(FeeratePerKw),
}

/// All that is known.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The best block.
    pub height: Height,
    /// What is to be taken; nothing that a block spends.
    pub wanted: &'a [Wanted],
    /// What was published before and is not settled.
    pub versions: &'a [Version],
    /// The wallet's coins that nothing holds.
    pub coins: &'a [Lent],
    /// bitcoind's feerates.
    pub estimates: &'a Estimates,
}

/// A transaction to sign, write and publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The claims that it takes, in the order of its inputs.
    pub claims: Vec<OutPoint>,
    /// It.
    pub built: Built,
    /// The versions that it takes the place of.
    pub replaces: Vec<Txid>,
    /// The best block when the first version was published.
    pub since: Height,
    /// The feerate of the first version.
    pub start: FeeratePerKw,
    /// How many versions there were, this one included.
    pub attempts: u32,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To publish, in this order.
    pub drafts: Vec<Draft>,
    /// What waits, and why.
    pub waits: BTreeMap<OutPoint, Waits>,
}

/// Claims that go together, and what was published of them.
struct Batch<'a> {
    claims: Vec<&'a Wanted>,
    /// The version of just these.
    stands: Option<&'a Version>,
    /// Versions of some of these and others.
    splits: Vec<&'a Version>,
}

/// Plans.
pub fn plan(world: &World) -> Plan {
    let mut plan = Plan::default();
    let mut free = world.coins.to_vec();
    let next = world.height.plus(1);
    let (ripe, unripe): (Vec<_>, Vec<_>) =
        world.wanted.iter().partition(|wanted| wanted.claim.from <= next);
    for wanted in unripe {
        plan.waits.insert(wanted.outpoint(), Waits::Until(wanted.claim.from));
    }
    for batch in batches(world, ripe) {
        match world.decide(&batch, &free) {
            Ok((draft, waits)) => {
                plan.waits.extend(waits);
                if let Some(draft) = draft {
                    let used = |coin: &Lent| draft.built.coins.contains(coin);
                    free.retain(|coin| !used(coin));
                    plan.drafts.push(draft);
                }
            }
            Err(waits) => {
                let claims = batch.claims.iter().map(|wanted| (wanted.outpoint(), waits));
                plan.waits.extend(claims);
            }
        }
    }
    plan
}

/// The claims in batches. Those of a version stay together, unless one of them must be alone.
fn batches<'a>(world: &World<'a>, ripe: Vec<&'a Wanted>) -> Vec<Batch<'a>> {
    let mut rest: BTreeMap<OutPoint, &Wanted> =
        ripe.iter().map(|wanted| (wanted.outpoint(), *wanted)).collect();
    let mut versions: Vec<&Version> = world.versions.iter().collect();
    versions.sort_by_key(|version| Reverse(version.fee));
    let (mut batches, mut broken) = (Vec::new(), Vec::new());
    for version in versions {
        let claims: Vec<&Wanted> =
            version.claims.iter().filter_map(|(_, claim)| rest.get(claim).copied()).collect();
        let whole = claims.len() == version.claims.len();
        if !whole || must_split(&claims, version, world) {
            broken.push(version);
            continue;
        }
        rest.retain(|outpoint, _| !version.claims.iter().any(|(_, claim)| claim == outpoint));
        batches.push(Batch { claims, stands: Some(version), splits: Vec::new() });
    }
    let mut fresh = world.parts(rest.into_values().collect(), &broken);
    fresh.sort_by_key(|claims| Reverse(budget_of(claims)));
    for claims in fresh {
        let (splits, others) = broken.into_iter().partition(|version| touches(version, &claims));
        broken = others;
        batches.push(Batch { claims, stands: None, splits });
    }
    batches
}

/// Whether a version takes one of these.
fn touches(version: &Version, claims: &[&Wanted]) -> bool {
    let takes = |wanted: &&Wanted| version.claims.iter().any(|(_, at)| *at == wanted.outpoint());
    claims.iter().any(takes)
}

/// Whether the claims of `version` are to go on apart, and the first of them can pay for that.
fn must_split(claims: &[&Wanted], version: &Version, world: &World) -> bool {
    let price = world.price(claims, Some(version));
    let stays = world.is_enough(claims, version, &price);
    let leaves = claims.iter().any(|wanted| alone(wanted, world.height));
    let apart = leaves || !(stays || world.is_sound(claims, Some(version)));
    if claims.len() < 2 || !apart {
        return false;
    }
    let parts = world.parts(claims.to_vec(), &[version]);
    if parts.len() < 2 {
        return false;
    }
    let richest = parts.iter().map(|part| budget_of(part)).max().unwrap_or_default();
    let step = FeeratePerKw::FLOOR.fee(version.weight);
    richest >= version.fee.saturating_add(step)
}

fn budget_of(claims: &[&Wanted]) -> Sat {
    sum(claims, Wanted::budget)
}

fn sum(claims: &[&Wanted], part: fn(&Wanted) -> Sat) -> Sat {
    claims.iter().fold(Sat::ZERO, |sum, wanted| sum.saturating_add(part(wanted)))
}

/// By how much an estimate must have grown for what has no deadline to be published anew: a
/// quarter.
fn grew(from: FeeratePerKw, to: FeeratePerKw) -> bool {
    u64::from(to.per_kw()).saturating_mul(4) >= u64::from(from.per_kw()).saturating_mul(5)
}

/// A batch with a deadline pays at most this part of the largest budget in it. Who replaces it pays
/// more than all of it paid: near the deadline one of them must be able to, and early at no great
/// cost.
const EASILY: u64 = 4;

/// What a batch should pay now.
struct Price {
    since: Height,
    start: FeeratePerKw,
    rate: FeeratePerKw,
    /// What the budget buys.
    top: FeeratePerKw,
    /// The end of the curve, if there is one.
    horizon: Option<Height>,
}

/// A transaction, if there is one to publish, and what waits.
type Decision = (Option<Draft>, Vec<(OutPoint, Waits)>);

impl World<'_> {
    /// Claims in batches. What was published of them and does not stand is among `broken`.
    fn parts<'a>(&self, claims: Vec<&'a Wanted>, broken: &[&Version]) -> Vec<Vec<&'a Wanted>> {
        let mut parts = Vec::new();
        for mut like in together(claims, self.height) {
            let past = broken.iter().copied().find(|version| touches(version, &like));
            like.sort_by_key(|wanted| (Reverse(wanted.budget()), wanted.outpoint()));
            let mut sound: Vec<Vec<&Wanted>> = Vec::new();
            for wanted in like {
                let fits = |part: &&mut Vec<&'a Wanted>| {
                    let with: Vec<&Wanted> = part.iter().copied().chain([wanted]).collect();
                    self.is_sound(&with, past)
                };
                match sound.iter_mut().find(fits) {
                    Some(part) => part.push(wanted),
                    None => sound.push(vec![wanted]),
                }
            }
            // Who cannot pay alone for what a transaction weighs besides does so with others.
            let entering = self.estimates.entering;
            let poor = |part: &Vec<&Wanted>| self.price(part, past).top < entering;
            let (poor, mut sound): (Vec<_>, Vec<_>) = sound.into_iter().partition(poor);
            sound.extend((!poor.is_empty()).then(|| poor.concat()));
            for part in &mut sound {
                part.sort_by_key(|wanted| (wanted.deadline(), wanted.outpoint()));
            }
            // Who has fewer coins than that pays for several with one.
            let coins = self.coins.len().saturating_add(usize::from(past.is_some()));
            let short = sound.len() > coins && sound.iter().flatten().any(|it| it.lacks_fee());
            parts.extend(if short { vec![sound.concat()] } else { sound });
        }
        parts
    }

    /// Whether claims may be in one transaction that takes the place of `past`: each affords what
    /// all pay and, where there is a deadline, one of them alone could soon take the place of it.
    fn is_sound(&self, claims: &[&Wanted], past: Option<&Version>) -> bool {
        let price = self.price(claims, past);
        let weight = rough_weight(claims);
        let step = FeeratePerKw::FLOOR.fee(weight);
        let before = past.map_or(Sat::ZERO, |version| version.fee);
        let fee = price.rate.fee(weight).max(before.saturating_add(step));
        let richest = claims.iter().map(|wanted| wanted.budget()).max().unwrap_or_default();
        let parts_easily = fee.sat().saturating_mul(EASILY) <= richest.sat();
        let afforded = claims.iter().all(|wanted| affords(wanted, price.rate));
        afforded && (price.horizon.is_none() || parts_easily)
    }

    /// What to publish for a batch, with what waits of it.
    fn decide(&self, batch: &Batch, free: &[Lent]) -> Result<Decision, Waits> {
        let past = batch.stands.or(batch.splits.first().copied());
        let price = self.price(&batch.claims, past);
        let (claims, waits) = match batch.stands {
            None => worthwhile(&batch.claims, &price, self.estimates.entering),
            Some(_) => (batch.claims.clone(), Vec::new()),
        };
        let price = if waits.is_empty() { price } else { self.price(&claims, past) };
        let parent = claims.first().and_then(|wanted| wanted.parent.as_ref());
        let stays = |version| self.is_enough(&claims, version, &price);
        if claims.is_empty() || batch.stands.is_some_and(stays) {
            return Ok((None, waits));
        }
        let fixed = claims.iter().any(|wanted| wanted.is_fixed());
        if price.horizon.is_none() && price.rate > price.top && !fixed {
            return Err(Waits::Uneconomic(price.rate));
        }
        let pays_alone = |parent: &Parent| rate_of(parent.fee, parent.weight()) >= price.rate;
        if past.is_none() && parent.is_some_and(pays_alone) {
            return Err(Waits::Enough(price.rate));
        }
        let built = match self.build(&claims, past, price.rate, free) {
            // It stands as it is, as high as it can.
            Err(_) if batch.stands.is_some() => return Ok((None, waits)),
            built => built?,
        };
        if !self.enters(&built, parent) && !fixed {
            return Err(Waits::Uneconomic(price.rate));
        }
        let draft = Draft {
            claims: claims.iter().map(|wanted| wanted.outpoint()).collect(),
            built,
            replaces: batch.stands.iter().chain(&batch.splits).map(|v| v.txid()).collect(),
            since: price.since,
            start: price.start,
            attempts: past.map_or(0, |version| version.attempts).saturating_add(1),
        };
        Ok((Some(draft), waits))
    }

    fn build(
        &self,
        claims: &[&Wanted],
        past: Option<&Version>,
        rate: FeeratePerKw,
        free: &[Lent],
    ) -> Result<Built, Waits> {
        let present = |claim: &OutPoint| self.wanted.iter().any(|w| w.outpoint() == *claim);
        // One of which a block took an input is in no mempool.
        let replaced =
            past.filter(|version| version.claims.iter().all(|(_, claim)| present(claim)));
        let parent = claims.first().and_then(|wanted| wanted.parent.as_ref());
        let terms = Terms {
            rate,
            replaces: replaced.map(|version| version.fee),
            at_least: claims.iter().filter_map(|w| w.refused).max().unwrap_or_default(),
            budget: budget_of(claims),
            parent,
        };
        // A replacement may not bring unconfirmed inputs of its own (BIP 125, rule 2), nor may a
        // child that goes in a package with its parent.
        let confirmed_only = past.is_some() || parent.is_some();
        let free: Vec<Lent> =
            free.iter().filter(|coin| coin.confirmed || !confirmed_only).cloned().collect();
        build(claims, terms, past.map_or(&[][..], |version| &version.coins), &free)
    }

    /// What a batch should pay now.
    fn price(&self, claims: &[&Wanted], past: Option<&Version>) -> Price {
        let since = past.map_or(self.height, |version| version.since);
        let weight = rough_weight(claims);
        let top = rate_of(budget_of(claims), weight);
        let horizon = claims.iter().filter_map(|wanted| wanted.horizon(since)).min();
        let deadline = claims.iter().filter_map(|wanted| wanted.deadline()).min();
        let leisure = claims.iter().map(|wanted| wanted.leisure().blocks()).min().unwrap_or(0);
        let blocks = deadline.map_or(u32::from(leisure), |deadline| left(self.height, deadline));
        let estimate = self.estimates.within(blocks);
        let ordered = claims.iter().filter_map(|wanted| wanted.order.feerate).max();
        let start = ordered.unwrap_or(past.map_or(estimate, |version| version.start));
        // The operator's word counts more than the estimate.
        let least = ordered.map_or(estimate, |_| self.estimates.entering);
        let rate = match horizon {
            Some(deadline) => {
                let top_of = |part: fn(&Wanted) -> Sat| rate_of(sum(claims, part), weight);
                let urgent = top_of(Wanted::urgent_budget);
                let curve = Curve { start, top: urgent, since, deadline }.at(self.height);
                let patient = self.estimates.within(u32::from(leisure));
                let patient = patient.min(top_of(Wanted::patient_budget));
                curve.max(least).min(urgent).max(patient)
            }
            // Nothing is lost by waiting for a feerate that is worth it.
            None => start.max(least),
        };
        Price { since, start, rate, top, horizon }
    }

    /// Whether a version may stay as it is.
    fn is_enough(&self, claims: &[&Wanted], version: &Version, price: &Price) -> bool {
        if claims.iter().any(|wanted| wanted.is_fixed()) {
            return true;
        }
        if claims.iter().any(|wanted| wanted.refused.is_some()) {
            return false;
        }
        let parent = claims.first().and_then(|wanted| wanted.parent.as_ref());
        let (fee, weight) = with_parent((version.fee, version.weight), parent);
        let step = FeeratePerKw::FLOOR.fee(version.weight);
        let ordered = claims.iter().any(|wanted| wanted.order.feerate.is_some());
        match price.horizon {
            None if !ordered => !grew(rate_of(fee, weight), price.rate),
            _ => price.rate.fee(weight) < fee.saturating_add(step),
        }
    }

    /// Whether the mempool takes it, with its parent.
    fn enters(&self, built: &Built, parent: Option<&Parent>) -> bool {
        let (fee, weight) = with_parent((built.fee, built.weight), parent);
        fee >= self.estimates.entering.fee(weight)
    }
}

/// Fee and weight of a transaction, together with the commitment that it pays for.
fn with_parent((fee, weight): (Sat, u64), parent: Option<&Parent>) -> (Sat, u64) {
    match parent {
        Some(parent) => (fee.saturating_add(parent.fee), weight.saturating_add(parent.weight())),
        None => (fee, weight),
    }
}

/// About what a transaction of these weighs, a coin and change included where they need one.
fn rough_weight(claims: &[&Wanted]) -> u64 {
    const FRAME: u64 = 42 + 124;
    const COIN: u64 = 272;
    let sum = claims.iter().map(|wanted| weigh(wanted)).fold(FRAME, u64::saturating_add);
    match claims.iter().any(|wanted| wanted.lacks_fee()) {
        true => sum.saturating_add(COIN),
        false => sum,
    }
}

/// What a claim adds to a transaction's weight, with the commitment that it pays for.
fn weigh(wanted: &Wanted) -> u64 {
    let parent = wanted.parent.as_ref().map_or(0, Parent::weight);
    let output = match &wanted.claim.pays {
        Pays::Beside(output) => output.weight().to_wu(),
        _ => 0,
    };
    wanted.claim.spend.weight().saturating_add(parent).saturating_add(output)
}

/// Whether a claim's own budget pays for its own weight: if not, it would hold up those with it.
fn affords(wanted: &Wanted, rate: FeeratePerKw) -> bool {
    wanted.is_fixed() || rate.fee(weigh(wanted)) <= wanted.budget()
}

/// The claims that are worth their own weight at this feerate, and those that wait for a lower
/// one. With a deadline each is offered what its budget allows, if that enters the mempool.
fn worthwhile<'a>(
    claims: &[&'a Wanted],
    price: &Price,
    entering: FeeratePerKw,
) -> (Vec<&'a Wanted>, Vec<(OutPoint, Waits)>) {
    let rate = price.rate;
    let at = if price.horizon.is_some() { entering } else { rate };
    let worth = |wanted: &&Wanted| affords(wanted, at);
    let (worthy, others): (Vec<&Wanted>, Vec<&Wanted>) = claims.iter().partition(|w| worth(w));
    let waits = others.iter().map(|wanted| (wanted.outpoint(), Waits::Uneconomic(rate)));
    let waits = waits.collect();
    (worthy, waits)
}
