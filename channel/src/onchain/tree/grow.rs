//! How the tree grows: the rules of BOLT 3 and 5 for what may spend which output when, for both
//! sides alike.

use super::{By, Facts, Needs, Node, Output, Settlement, State, Title, What};
use crate::amount::{FeeratePerKw, Height, Sat};
use crate::contract::htlc::Removal;
use crate::keys::signer::Signer;
use crate::onchain::claim::Name;
use crate::onchain::published::{Published, Role, Whose};
use crate::onchain::resolution::{Resolution, Taken};
use crate::onchain::{local_commitment, remote_commitment};
use crate::params::{CommitmentFormat, Side};
use crate::transactions::commitment::{Htlc, HtlcRef};
use crate::transactions::weight::htlc_fee;

/// Blocks after which an anchor is anybody's (BOLT 3).
const ANCHOR_DELAY: u32 = 16;

/// F and all that hangs on it.
pub(super) fn funding(facts: &Facts<'_>, signer: &dyn Signer) -> Node {
    let contract = facts.contract;
    let funding = &contract.funding;
    let resolution = facts.onchain.resolution.as_ref();
    let spent_at = facts.onchain.height;
    let spends = match (resolution, spent_at) {
        (Some(resolution), _) => {
            let commitment = Commitment::confirmed(facts, resolution).node(State::OnChain);
            rivals(facts, signer, resolution.published.txid).chain([commitment]).collect()
        }
        (None, Some(height)) => settled(facts, signer, height),
        (None, None) => possible(facts, signer),
    };
    let taken = facts.spent_by.zip(spent_at);
    let output = Output {
        what: What::Funding,
        place: Some(funding.outpoint.vout),
        value: Some(funding.capacity),
        owner: By::Both,
        htlc: None,
        taken,
        spends,
    };
    let state = if facts.funded_at.is_some() { State::OnChain } else { State::Published };
    Node {
        txid: Some(funding.outpoint.txid),
        height: facts.funded_at,
        outputs: vec![output],
        ..bare(Title::F, contract.params.funder.into(), state)
    }
}

/// What could spend F: both latest commitments, and ES.
fn possible(facts: &Facts<'_>, signer: &dyn Signer) -> Vec<Node> {
    let on_chain = if facts.funded_at.is_some() { State::Ready } else { State::Waits };
    let (ours, theirs) = latest(facts, signer);
    let our_state = match (facts.behind, facts.failed) {
        (true, _) => State::Gone,
        (_, true) => State::Published,
        _ => on_chain,
    };
    let mut nodes = Vec::new();
    nodes.push(Commitment::possible(facts, &ours).node(our_state));
    if let Some(before) = before_latest(facts) {
        nodes.push(Commitment::possible(facts, &before).node(on_chain));
    }
    nodes.push(Commitment::possible(facts, &theirs).node(on_chain));
    nodes.extend(facts.settlements.iter().map(|es| settlement(es, State::Published)));
    if facts.settlements.is_empty() && !facts.failed {
        let needs = Needs::Agreement;
        nodes.push(Node { needs, ..bare(Title::ES, By::Both, State::Waits) });
    }
    nodes
}

/// ES is in a block.
fn settled(facts: &Facts<'_>, signer: &dyn Signer, height: Height) -> Vec<Node> {
    let Some(txid) = facts.spent_by else { return Vec::new() };
    let known = facts.settlements.iter().find(|es| es.txid == txid);
    let unknown = || Node { txid: Some(txid), ..bare(Title::ES, By::Both, State::OnChain) };
    let es = known.map_or_else(unknown, |es| settlement(es, State::OnChain));
    rivals(facts, signer, txid).chain([Node { height: Some(height), ..es }]).collect()
}

/// What could have spent F and now cannot, without its outputs.
fn rivals<'a>(
    facts: &'a Facts<'_>,
    signer: &dyn Signer,
    spent_by: bitcoin::Txid,
) -> impl Iterator<Item = Node> + 'a {
    let (ours, theirs) = latest(facts, signer);
    let each = [Some(ours), before_latest(facts), Some(theirs)].into_iter().flatten();
    let commitments = each.map(|published| Node {
        txid: Some(published.txid),
        number: Some(published.number),
        ..bare(Title::C, published.broadcaster().into(), State::Gone)
    });
    let settlements = facts.settlements.iter().map(|es| settlement(es, State::Gone));
    let settlements = settlements.map(|es| Node { outputs: Vec::new(), ..es });
    let all = commitments.into_iter().chain(settlements);
    all.filter(move |node| node.txid != Some(spent_by))
}

/// Our latest commitment and the peer's.
fn latest(facts: &Facts<'_>, signer: &dyn Signer) -> (Published, Published) {
    let contract = facts.contract;
    let (number, point) = (contract.state.remote_number, contract.state.remote_point);
    let theirs = contract.remote_draft().tx.tx;
    let theirs = remote_commitment::read(contract, &theirs, number, point);
    (local_commitment::read(contract, signer), theirs)
}

/// The peer's commitment before its latest, while that is not revoked.
fn before_latest(facts: &Facts<'_>) -> Option<Published> {
    let contract = facts.contract;
    let number = contract.state.remote_number.checked_sub(1)?;
    let tx = contract.remote_draft_before()?.tx.tx;
    Some(remote_commitment::read(contract, &tx, number, contract.state.revoking_point?))
}

fn settlement(es: &Settlement, state: State) -> Node {
    let share = |(place, value, whose): &(u32, Sat, Side)| Output {
        what: What::Share,
        place: Some(*place),
        value: Some(*value),
        owner: (*whose).into(),
        htlc: None,
        taken: None,
        spends: Vec::new(),
    };
    let outputs = es.shares.iter().map(share).collect();
    Node { txid: Some(es.txid), outputs, ..bare(Title::ES, By::Both, state) }
}

pub(super) fn bare(title: Title, by: By, state: State) -> Node {
    let (txid, height, number, from, until) = (None, None, None, None, None);
    let (delay, needs, outputs) = (0, Needs::Nothing, Vec::new());
    Node { title, by, state, txid, height, number, delay, from, until, needs, outputs }
}

/// A commitment, in a block or not, and what grows on it.
struct Commitment<'a> {
    facts: &'a Facts<'a>,
    published: &'a Published,
    /// What happened since, if it is in a block.
    resolution: Option<&'a Resolution>,
    /// What the remedies need; none where there cannot be any more.
    remedy: Option<Needs>,
    /// What HT and HE were signed for, if that can be told.
    feerate: Option<FeeratePerKw>,
    /// Whose it is.
    holder: Side,
    /// What its holder waits.
    delay: u32,
}

/// An output that something may spend.
#[derive(Clone, Copy)]
struct Spot<'a> {
    /// The height of its block.
    since: Option<Height>,
    taken: Option<&'a Taken>,
    /// What took it, if that can be told.
    taker: Option<Name>,
}

/// When something may spend an output.
#[derive(Clone, Copy, Default)]
struct When {
    delay: u32,
    lock_time: Option<Height>,
    until: Option<Height>,
}

impl<'a> Commitment<'a> {
    fn possible(facts: &'a Facts<'a>, published: &'a Published) -> Self {
        // What failed is revoked no more.
        let remedy = (!facts.failed).then_some(Needs::Revocation);
        Self::new(facts, published, None, remedy)
    }

    fn confirmed(facts: &'a Facts<'a>, resolution: &'a Resolution) -> Self {
        let revoked = matches!(resolution.published.whose, Whose::Revoked(_));
        let remedy = revoked.then_some(Needs::Nothing);
        Self::new(facts, &resolution.published, Some(resolution), remedy)
    }

    fn new(
        facts: &'a Facts<'a>,
        published: &'a Published,
        resolution: Option<&'a Resolution>,
        remedy: Option<Needs>,
    ) -> Self {
        let contract = facts.contract;
        let feerate = match published.whose {
            Whose::Local(feerate) => Some(feerate),
            Whose::Remote if published.number == contract.state.remote_number => {
                Some(contract.remote_draft().tx.feerate)
            }
            Whose::Remote => contract.remote_draft_before().map(|draft| draft.tx.feerate),
            _ => None,
        };
        let holder = published.broadcaster();
        let delay = contract.params.side(holder.other()).to_self_delay.into();
        Commitment { facts, published, resolution, remedy, feerate, holder, delay }
    }

    fn node(&self, state: State) -> Node {
        let outputs = self.published.outputs.iter();
        let outputs = match state {
            State::Gone => Vec::new(),
            _ => outputs.map(|(at, (value, role))| self.output(*at, *value, role)).collect(),
        };
        Node {
            txid: Some(self.published.txid),
            number: Some(self.published.number),
            height: self.since(),
            outputs,
            ..bare(Title::C, self.holder.into(), state)
        }
    }

    fn since(&self) -> Option<Height> {
        self.resolution.map(|resolution| resolution.height)
    }

    fn output(&self, place: u32, value: Sat, role: &Role) -> Output {
        let (holder, other) = (self.holder, self.holder.other());
        let outpoint = self.published.outpoint(place);
        let taken = self.resolution.and_then(|resolution| resolution.taken.get(&outpoint));
        let taker = taken.and_then(|taken| self.taker(role, taken));
        let spot = Spot { since: self.since(), taken, taker };
        let (what, owner, htlc, spends) = match role {
            Role::ToLocal => (What::ToLocal, holder, None, self.balance(&spot)),
            Role::ToRemote => {
                let when = When { delay: self.csv(), ..When::default() };
                let delivery = self.spend(&spot, Name::D, other, when, Needs::Nothing);
                (What::ToRemote, other, None, vec![delivery])
            }
            Role::Anchor(side) => (What::Anchor, *side, None, self.anchor(&spot, *side)),
            Role::Htlc(tag, htlc, _) => {
                (What::Htlc, tag.0, Some((*tag, *htlc)), self.htlc(&spot, *tag, htlc))
            }
        };
        let (place, value, owner) = (Some(place), Some(value), owner.into());
        let taken = taken.map(|taken| (taken.txid, taken.height));
        Output { what, place, value, owner, htlc, taken, spends }
    }

    /// With anchors, what is not the anchors waits a block (BOLT 3).
    fn csv(&self) -> u32 {
        u32::from(self.facts.contract.params.format == CommitmentFormat::Anchors)
    }

    /// Which of those that could have taken an output did, as far as the block tells.
    fn taker(&self, role: &Role, taken: &Taken) -> Option<Name> {
        let resolution = self.resolution?;
        let revoked = self.remedy.is_some();
        let at_once = taken.height < resolution.height.plus(self.delay);
        match role {
            Role::ToLocal if revoked => at_once.then_some(Name::BR),
            Role::ToLocal => Some(Name::RD),
            Role::ToRemote => Some(Name::D),
            Role::Anchor(_) => Some(Name::Anchor),
            Role::Htlc(tag, htlc, _) => {
                let stages = resolution.second.iter();
                let mut of_it = stages.filter(|(outpoint, stage)| {
                    outpoint.txid == taken.txid && stage.htlc == Some(*tag)
                });
                match (of_it.next(), taken.preimage, htlc.offered) {
                    (Some((_, stage)), _, _) if stage.executed => Some(Name::HE),
                    (Some(_), _, _) => Some(Name::HT),
                    (None, Some(_), true) => Some(Name::HED),
                    (None, _, _) if revoked => Some(Name::HBR),
                    (None, None, false) => Some(Name::HTD),
                    (None, _, _) => None,
                }
            }
        }
    }

    /// RD, and BR.
    fn balance(&self, spot: &Spot<'_>) -> Vec<Node> {
        let delayed = When { delay: self.delay, ..When::default() };
        let delivery = self.spend(spot, Name::RD, self.holder, delayed, Needs::Nothing);
        std::iter::once(delivery).chain(self.remedy(spot, Name::BR)).collect()
    }

    /// BR, HTBR or HEBR, if there may be one; after the delay its holder may take it too.
    fn remedy(&self, spot: &Spot<'_>, name: Name) -> Option<Node> {
        let until = spot.since.map(|since| since.plus(self.delay));
        let when = When { until, ..When::default() };
        Some(self.spend(spot, name, self.holder.other(), when, self.remedy?))
    }

    fn anchor(&self, spot: &Spot<'_>, side: Side) -> Vec<Node> {
        let until = spot.since.map(|since| since.plus(ANCHOR_DELAY));
        let late = spot.taken.zip(until).is_some_and(|(taken, until)| taken.height >= until);
        let own = When { until, ..When::default() };
        let anybody = When { delay: ANCHOR_DELAY, ..When::default() };
        let not_this = |this: bool| if this { *spot } else { Spot { taker: None, ..*spot } };
        let own = self.spend(&not_this(!late), Name::Anchor, side, own, Needs::Nothing);
        let anybody = self.spend(&not_this(late), Name::Anchor, side, anybody, Needs::Nothing);
        vec![own, Node { by: By::Anybody, ..anybody }]
    }

    /// The offerer's way, the receiver's, and HBR.
    fn htlc(&self, spot: &Spot<'_>, tag: HtlcRef, htlc: &Htlc) -> Vec<Node> {
        let (holder, other) = (self.holder, self.holder.other());
        let lock_time = htlc.cltv_expiry;
        let expired = lock_time.plus(1);
        let back = When { delay: self.csv(), lock_time: Some(lock_time), until: None };
        let paid = When { delay: self.csv(), lock_time: None, until: Some(expired) };
        let removal = self.facts.contract.htlcs.get(&tag).and_then(|htlc| htlc.removal.as_ref());
        let known = matches!(removal, Some(Removal::Fulfilled(_)));
        let preimage = Needs::Preimage { known };
        let mut spends = match htlc.offered {
            true => vec![
                self.spend(spot, Name::HT, holder, back, Needs::Nothing),
                self.spend(spot, Name::HED, other, paid, preimage),
            ],
            false => vec![
                self.spend(spot, Name::HE, holder, paid, preimage),
                self.spend(spot, Name::HTD, other, back, Needs::Nothing),
            ],
        };
        if let Some(first) = spends.first_mut().filter(|first| first.state != State::Gone) {
            first.outputs = vec![self.second_stage(first, tag, htlc)];
        }
        if let Some(needs) = self.remedy {
            // Of what was revoked HBR takes all, and needs neither preimage nor expiry.
            spends.truncate(if needs == Needs::Nothing { 1 } else { 2 });
            let next = spot.since.map(|since| since.plus(1));
            let until = next.map(|next| if htlc.offered { next.max(expired) } else { next });
            let when = When { until, ..When::default() };
            spends.push(self.spend(spot, Name::HBR, other, when, needs));
        }
        spends
    }

    /// What HT or HE pays.
    fn second_stage(&self, above: &Node, tag: HtlcRef, htlc: &Htlc) -> Output {
        let seen = self.resolution.zip(above.txid).and_then(|(resolution, txid)| {
            let mut stages = resolution.second.iter();
            let (at, stage) = stages.find(|(at, it)| at.txid == txid && it.htlc == Some(tag))?;
            Some((at, stage, resolution.taken.get(at)))
        });
        let (delivery, remedy) = match above.title {
            Title::Claim(Name::HT) => (Name::HTRD, Name::HTBR),
            _ => (Name::HERD, Name::HEBR),
        };
        let taken = seen.and_then(|(_, _, taken)| taken);
        let since = above.height;
        let at_once =
            taken.zip(since).is_some_and(|(taken, since)| taken.height < since.plus(self.delay));
        let taker = match (self.remedy.is_some(), at_once) {
            (false, _) => Some(delivery),
            (true, true) => Some(remedy),
            (true, false) => None,
        };
        let spot = Spot { since, taken, taker };
        let delayed = When { delay: self.delay, ..When::default() };
        let delivery = self.spend(&spot, delivery, self.holder, delayed, Needs::Nothing);
        let format = self.facts.contract.params.format;
        let fee = self.feerate.map(|feerate| htlc_fee(format, feerate, htlc.offered));
        let fee = fee.or((format == CommitmentFormat::Anchors).then_some(Sat::ZERO));
        let built = fee.map(|fee| htlc.amount.floor().saturating_sub(fee));
        Output {
            what: What::SecondStage,
            place: seen.map(|(at, _, _)| at.vout),
            value: seen.map(|(_, stage, _)| stage.value).or(built),
            owner: self.holder.into(),
            htlc: Some((tag, *htlc)),
            taken: taken.map(|taken| (taken.txid, taken.height)),
            spends: std::iter::once(delivery).chain(self.remedy(&spot, remedy)).collect(),
        }
    }

    fn spend(&self, spot: &Spot<'_>, name: Name, side: Side, when: When, needs: Needs) -> Node {
        let expired = when.lock_time.map(|lock_time| lock_time.plus(1));
        let matured = spot.since.map(|since| since.plus(when.delay));
        let from = matured.max(expired);
        let node = Node {
            delay: when.delay,
            from,
            until: when.until,
            needs,
            ..bare(Title::Claim(name), side.into(), State::Waits)
        };
        if let Some(taken) = spot.taken {
            return match spot.taker == Some(name) {
                false => Node { state: State::Gone, ..node },
                true => {
                    let (txid, height) = (Some(taken.txid), Some(taken.height));
                    Node { state: State::OnChain, txid, height, ..node }
                }
            };
        }
        let lacks = match needs {
            Needs::Nothing => false,
            // What the peer knows cannot be told, and is to be reckoned with.
            Needs::Preimage { known } => side == Side::Local && !known,
            Needs::Revocation | Needs::Agreement => true,
        };
        let next = self.facts.height.plus(1);
        let ready = !lacks && matured.is_some() && from.is_some_and(|from| from <= next);
        let state = if ready { State::Ready } else { State::Waits };
        Node { state, ..node }
    }
}
