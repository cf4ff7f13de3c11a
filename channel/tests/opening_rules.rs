//! Every rule of open_channel and accept_channel as a table: what is changed in an honest message,
//! and what the other side says to it.

use crate::support::{funding_tx, limits, wallet_script, Pair, Party, Verdict, LEGACY};
use bitcoin::{Amount, ScriptBuf, Transaction};
use fulmen_channel::amount::{FeeratePerKw, Msat, Sat};
use fulmen_channel::channel::Channel;
use fulmen_channel::error::{Answer, Refused};
use fulmen_channel::input::{Command, FundingRequest, Input};
use fulmen_channel::keys::{InMemorySigner, Inline};
use fulmen_channel::message::Message;
use fulmen_channel::output::Event;
use fulmen_channel::params::CommitmentFormat;
use fulmen_channel::protocol::opening::{AcceptPolicy, OpenRequest};
use lightning::ln::msgs::{AcceptChannel, FundingCreated, FundingSigned, OpenChannel};
use lightning::ln::types::ChannelId;
use lightning::types::features::ChannelTypeFeatures;
use std::sync::Arc;

fn accepts(open: &OpenChannel, policy: AcceptPolicy) -> Result<Party, String> {
    let signer = Box::new(InMemorySigner::from_seed([2; 32]));
    match Channel::accept(open, policy, signer, Arc::new(Inline)) {
        Ok(channel) => {
            let mut bob = Party::new("bob", channel, [2; 32]);
            bob.drain();
            Ok(bob)
        }
        Err(violation) => {
            assert_eq!(violation.answer, Answer::Fail);
            Err(violation.to_string())
        }
    }
}

/// Alice's open_channel, and Bob's policy.
fn proposed() -> (Party, OpenChannel, AcceptPolicy) {
    let (mut alice, policy) = Pair::proposing(|_, _| {});
    let Some(Message::OpenChannel(open)) = alice.sent.pop_front() else { panic!("no open") };
    (alice, *open, policy)
}

fn accepted() -> (Party, Party, AcceptChannel) {
    let (alice, open, policy) = proposed();
    let mut bob = accepts(&open, policy).unwrap();
    let Some(Message::AcceptChannel(accept)) = bob.sent.pop_front() else { panic!("no accept") };
    (alice, bob, *accept)
}

fn unknown_type() -> ChannelTypeFeatures {
    let mut features = ChannelTypeFeatures::anchors_zero_htlc_fee_and_dependencies();
    features.set_taproot_required();
    features
}

type OpenChange = fn(&mut OpenChannel);

/// What is changed, and what Bob says to it; nothing: he accepts.
const OPEN_RULES: &[(&str, OpenChange)] = &[
    ("", |_| {}),
    ("unknown chain", |o| o.common_fields.chain_hash = [9; 32].into()),
    ("not between", |o| o.common_fields.funding_satoshis = 19_999),
    ("", |o| o.common_fields.funding_satoshis = 50_000),
    ("not between", |o| o.common_fields.funding_satoshis = 16_000_001),
    ("not between", |o| o.common_fields.funding_satoshis = u64::MAX),
    ("not between", |o| o.common_fields.funding_satoshis = 0),
    ("push_msat", |o| o.push_msat = 1_000_000_001),
    ("push_msat", |o| o.push_msat = u64::MAX),
    ("does not pay fee", |o| o.push_msat = 1_000_000_000),
    ("does not pay fee", |o| o.push_msat = 1_000_000_000 - 1_783_999),
    ("", |o| o.push_msat = 1_000_000_000 - 1_784_000),
    ("", |o| o.push_msat = 1),
    ("is too long", |o| o.common_fields.to_self_delay = 2_017),
    ("", |o| o.common_fields.to_self_delay = 2_016),
    ("max_accepted_htlcs", |o| o.common_fields.max_accepted_htlcs = 484),
    ("", |o| o.common_fields.max_accepted_htlcs = 483),
    ("", |o| o.common_fields.max_accepted_htlcs = 1),
    ("max_accepted_htlcs", |o| o.common_fields.max_accepted_htlcs = 0),
    ("too low or", |o| o.common_fields.commitment_feerate_sat_per_1000_weight = 252),
    ("", |o| o.common_fields.commitment_feerate_sat_per_1000_weight = 253),
    ("too low or", |o| o.common_fields.commitment_feerate_sat_per_1000_weight = 250_001),
    ("too low or", |o| o.common_fields.commitment_feerate_sat_per_1000_weight = u32::MAX),
    ("dust limit", |o| o.common_fields.dust_limit_satoshis = 353),
    ("", |o| o.common_fields.dust_limit_satoshis = 354),
    ("", |o| o.common_fields.dust_limit_satoshis = 1_092),
    ("dust limit", |o| o.common_fields.dust_limit_satoshis = 1_093),
    ("dust limit", |o| o.common_fields.dust_limit_satoshis = u64::MAX),
    ("above the channel reserve", |o| {
        o.common_fields.dust_limit_satoshis = 600;
        o.channel_reserve_satoshis = 599;
    }),
    ("", |o| {
        o.common_fields.dust_limit_satoshis = 600;
        o.channel_reserve_satoshis = 600;
    }),
    ("more than a fifth", |o| o.channel_reserve_satoshis = 200_001),
    ("more than a fifth", |o| o.channel_reserve_satoshis = u64::MAX),
    ("", |o| o.channel_reserve_satoshis = 200_000),
    ("HTLC minimum", |o| o.common_fields.htlc_minimum_msat = 100_001_000),
    ("", |o| o.common_fields.htlc_minimum_msat = 100_000_000),
    ("HTLC minimum", |o| o.common_fields.htlc_minimum_msat = u64::MAX),
    ("channel_type is missing", |o| o.common_fields.channel_type = None),
    ("is not known here", |o| o.common_fields.channel_type = Some(unknown_type())),
    ("is not known here", |o| {
        o.common_fields.channel_type = Some(ChannelTypeFeatures::empty());
    }),
    ("", |o| {
        let bare = ChannelTypeFeatures::only_static_remote_key();
        o.common_fields.channel_type = Some(bare);
    }),
    ("not taken from this peer", |o| o.common_fields.channel_type = Some(varied(false, true))),
    ("was not negotiated", |o| o.common_fields.channel_type = Some(varied(true, false))),
    ("public channel", |o| {
        o.common_fields.channel_type = Some(varied(true, false));
        o.common_fields.channel_flags = 1;
    }),
    ("", |o| o.common_fields.shutdown_scriptpubkey = None),
    ("", |o| o.common_fields.shutdown_scriptpubkey = Some(wallet_script(1))),
    ("no known form", |o| {
        o.common_fields.shutdown_scriptpubkey = Some(ScriptBuf::from_bytes(vec![0x6a]));
    }),
    ("", |o| o.common_fields.channel_flags = 0xff),
    ("", |o| o.common_fields.max_htlc_value_in_flight_msat = u64::MAX),
];

/// The type with anchors and these variations.
fn varied(scid_alias: bool, zero_conf: bool) -> ChannelTypeFeatures {
    let mut features = ChannelTypeFeatures::anchors_zero_htlc_fee_and_dependencies();
    if scid_alias {
        features.set_scid_privacy_required();
    }
    if zero_conf {
        features.set_zero_conf_required();
    }
    features
}

#[test]
fn variations_of_the_channel_type_are_taken_as_the_policy_says() {
    // Type: alias, zero-conf, bare; policy: an alias, trust, anchors.
    let table = [
        ((true, false, false), (true, false, true), ""),
        ((true, false, false), (false, true, true), "was not negotiated"),
        ((false, true, false), (true, true, true), ""),
        ((false, true, false), (true, false, true), "not taken from this peer"),
        ((true, true, false), (true, true, true), ""),
        ((false, false, false), (true, true, false), "with anchors"),
        ((false, false, true), (true, true, false), ""),
    ];
    for ((alias, zero_conf, bare), (negotiated, trusted, anchors), reason) in table {
        let (_, mut open, mut policy) = proposed();
        let kind = match bare {
            true => ChannelTypeFeatures::only_static_remote_key(),
            false => varied(alias, zero_conf),
        };
        open.common_fields.channel_type = Some(kind.clone());
        policy.alias = negotiated.then_some(9);
        (policy.zero_conf, policy.anchors) = (trusted, anchors);
        match (accepts(&open, policy), reason) {
            (Ok(mut bob), "") => match bob.sent.pop_front() {
                Some(Message::AcceptChannel(said)) => {
                    assert_eq!(said.common_fields.channel_type, Some(kind));
                    let at_once = zero_conf || (negotiated && trusted);
                    assert_eq!(said.common_fields.minimum_depth == 0, at_once);
                }
                other => panic!("{other:?}"),
            },
            (Err(text), reason) if !reason.is_empty() => assert!(text.contains(reason), "{text}"),
            (other, reason) => panic!("{kind}: {reason}: {:?}", other.err()),
        }
    }
}

#[test]
fn open_channel_rules() {
    for (row, (reason, change)) in OPEN_RULES.iter().enumerate() {
        let (_, mut open, policy) = proposed();
        change(&mut open);
        match (accepts(&open, policy), *reason) {
            (Ok(bob), "") => assert_eq!(bob.is_saying(), ["accept_channel"]),
            (Err(text), reason) if !reason.is_empty() => {
                assert!(text.contains(reason), "row {row}: {text}");
            }
            (Ok(_), reason) => panic!("row {row}: {reason}: accepted"),
            (Err(text), _) => panic!("row {row}: {text}"),
        }
    }
}

#[test]
fn neither_side_above_its_reserve_is_refused() {
    // Alice pushes so that she keeps just her reserve after fee and anchors, and Bob gets no more
    // than his.
    let (_, mut open, mut policy) = proposed();
    open.common_fields.funding_satoshis = 60_000;
    open.channel_reserve_satoshis = 12_000;
    policy.local.channel_reserve = Sat::new(48_000);
    open.push_msat = 12_000_000;
    let refused = accepts(&open, policy.clone()).err().unwrap();
    assert!(refused.contains("neither side"), "{refused}");
    open.push_msat = 12_001_000;
    assert!(accepts(&open, policy).is_ok());
}

#[test]
fn accept_channel_rules() {
    type Change = fn(&mut AcceptChannel);
    let reasons: &[(&str, Change)] = &[
        ("", |_| {}),
        ("names another channel", |a| a.common_fields.temporary_channel_id = ChannelId([8; 32])),
        ("another channel_type", |a| a.common_fields.channel_type = None),
        ("another channel_type", |a| a.common_fields.channel_type = Some(unknown_type())),
        ("another channel_type", |a| {
            let bare = ChannelTypeFeatures::only_static_remote_key();
            a.common_fields.channel_type = Some(bare);
        }),
        ("dust limit", |a| a.common_fields.dust_limit_satoshis = 353),
        ("dust limit", |a| a.common_fields.dust_limit_satoshis = 1_093),
        ("", |a| a.common_fields.dust_limit_satoshis = 1_092),
        ("above the channel reserve", |a| a.channel_reserve_satoshis = 353),
        ("", |a| a.channel_reserve_satoshis = 354),
        ("more than a fifth", |a| a.channel_reserve_satoshis = 200_001),
        ("minimum_depth", |a| a.common_fields.minimum_depth = 2_017),
        ("minimum_depth", |a| a.common_fields.minimum_depth = u32::MAX),
        ("", |a| a.common_fields.minimum_depth = 0),
        ("is too long", |a| a.common_fields.to_self_delay = 2_017),
        ("max_accepted_htlcs", |a| a.common_fields.max_accepted_htlcs = 484),
        ("max_accepted_htlcs", |a| a.common_fields.max_accepted_htlcs = 0),
        ("HTLC minimum", |a| a.common_fields.htlc_minimum_msat = u64::MAX),
        ("no known form", |a| {
            let script = ScriptBuf::from_bytes(vec![0x51]);
            a.common_fields.shutdown_scriptpubkey = Some(script);
        }),
    ];
    for (row, (reason, change)) in reasons.iter().enumerate() {
        let (mut alice, _, mut accept) = accepted();
        change(&mut accept);
        let verdict = alice.hears(Message::AcceptChannel(Box::new(accept)));
        let asked = alice.events.iter().any(|event| matches!(event, Event::FundingNeeded(_)));
        match verdict {
            Verdict::Fine => assert!(reason.is_empty() && asked, "row {row}: {reason}"),
            Verdict::Failed(text) => {
                assert!(!reason.is_empty() && text.contains(reason), "row {row}: {text}");
                assert!(!asked, "no money is asked for");
            }
            Verdict::Warned(text) => panic!("row {row}: {text}"),
        }
    }
}

#[test]
fn a_reserve_below_the_others_dust_is_refused_or_raised() {
    let (mut alice, mut bob, mut accept) = accepted();
    accept.channel_reserve_satoshis = 500;
    let mut open = proposed().1;
    open.common_fields.dust_limit_satoshis = 1_092;
    bob.sent.clear();
    let policy = AcceptPolicy {
        local: fulmen_channel::params::SideParams {
            channel_reserve: Sat::new(400),
            ..proposed().2.local
        },
        ..proposed().2
    };
    let mut other = accepts(&open, policy).unwrap();
    match other.sent.pop_front() {
        Some(Message::AcceptChannel(said)) => assert_eq!(said.channel_reserve_satoshis, 1_092),
        message => panic!("{message:?}"),
    }
    assert_eq!(alice.hears(Message::AcceptChannel(Box::new(accept))), Verdict::Fine);
}

#[test]
fn a_channel_without_anchors_pays_enough_by_itself() {
    let mut open = proposed().1;
    let policy = |urgent| AcceptPolicy { urgent, ..proposed().2 };
    open.common_fields.commitment_feerate_sat_per_1000_weight = 600;
    let urgent = Some(fulmen_channel::amount::FeeratePerKw::new(12_500));
    assert!(accepts(&open, policy(urgent)).is_ok(), "an anchor raises the fee");
    open.common_fields.channel_type = Some(ChannelTypeFeatures::only_static_remote_key());
    let refused = accepts(&open, policy(urgent)).map(drop).unwrap_err();
    assert!(refused.to_string().contains("too late"), "{refused}");
    assert!(accepts(&open, policy(None)).is_ok(), "no estimate is known yet");
    open.common_fields.commitment_feerate_sat_per_1000_weight = 625;
    assert!(accepts(&open, policy(urgent)).is_ok());
}

fn request(change: impl FnOnce(&mut OpenRequest)) -> Result<Channel, Refused> {
    let signer = InMemorySigner::from_seed([1; 32]);
    let mut wanted = OpenRequest {
        chain: bitcoin::constants::ChainHash::REGTEST,
        temporary_channel_id: ChannelId([3; 32]),
        capacity: Sat::new(1_000_000),
        push: Msat::ZERO,
        feerate: FeeratePerKw::new(1_000),
        local: limits(&signer),
        channel_type: CommitmentFormat::Anchors.into(),
        announce: false,
        alias: None,
        negotiated: LEGACY,
    };
    change(&mut wanted);
    Channel::open(wanted, Box::new(signer), Arc::new(Inline))
}

#[test]
fn what_we_ask_ourselves_is_checked() {
    type Change = fn(&mut OpenRequest);
    let reasons: &[(&str, Change)] = &[
        ("", |_| {}),
        ("at most", |r| r.capacity = Sat::new(1 << 24)),
        ("", |r| r.capacity = Sat::new((1 << 24) - 1)),
        ("too little", |r| r.capacity = Sat::new(10_000)),
        ("below the channel's capacity", |r| r.capacity = Sat::ZERO),
        ("below the channel's capacity", |r| r.push = Msat::new(1_000_000_000)),
        ("below the channel's capacity", |r| r.push = Msat::new(u64::MAX)),
        ("too little", |r| r.push = Msat::new(1_000_000_000 - 1_784_000)),
        ("dust limit", |r| r.local.dust_limit = Sat::new(353)),
        ("dust limit", |r| r.local.dust_limit = Sat::new(10_001)),
        ("feerate", |r| r.feerate = FeeratePerKw::new(252)),
        ("feerate", |r| r.feerate = FeeratePerKw::new(250_001)),
        ("483", |r| r.local.max_accepted_htlcs = 484),
        ("", |r| r.channel_type.scid_alias = true),
        ("public channel", |r| (r.channel_type.scid_alias, r.announce) = (true, true)),
        ("needs option_scid_alias", |r| r.channel_type.zero_conf = true),
        ("", |r| (r.channel_type.zero_conf, r.alias) = (true, Some(1))),
        ("", |r| (r.channel_type.zero_conf, r.alias, r.announce) = (true, Some(1), true)),
    ];
    for (row, (reason, change)) in reasons.iter().enumerate() {
        match (request(change), *reason) {
            (Ok(_), "") => {}
            (Err(refused), reason) if !reason.is_empty() => {
                assert!(refused.to_string().contains(reason), "row {row}: {refused}");
            }
            (result, reason) => panic!("row {row}: {reason}: {:?}", result.err()),
        }
    }
}

/// Bob agreed; what F is to be.
fn to_fund() -> (Party, Party, FundingRequest) {
    let (mut alice, bob, accept) = accepted();
    assert_eq!(alice.hears(Message::AcceptChannel(Box::new(accept))), Verdict::Fine);
    let Some(Event::FundingNeeded(request)) = alice.events.last().cloned() else { panic!() };
    (alice, bob, request)
}

#[test]
fn f_must_pay_what_was_agreed() {
    let (mut alice, _, request) = to_fund();
    let fund = |tx: Transaction| Input::Command(Command::Fund(Box::new(tx)));
    let mut poor = funding_tx(&request);
    poor.output[0].value = Amount::from_sat(999_999);
    let mut elsewhere = funding_tx(&request);
    elsewhere.output[0].script_pubkey = wallet_script(1);
    for wrong in [poor, elsewhere] {
        let refused = alice.handle(fund(wrong)).unwrap_err();
        assert_eq!(refused, Refused::BadFunding(Sat::new(1_000_000)));
    }
    let mut second = funding_tx(&request);
    second
        .output
        .insert(0, bitcoin::TxOut { value: Amount::ONE_BTC, script_pubkey: wallet_script(1) });
    alice.handle(fund(second)).unwrap();
    match alice.sent.pop_front() {
        Some(Message::FundingCreated(created)) => assert_eq!(created.funding_output_index, 1),
        message => panic!("{message:?}"),
    }
    assert!(alice.published.is_empty(), "not before the peer has signed");
    let refused = alice.handle(fund(funding_tx(&request))).unwrap_err();
    assert!(matches!(refused, Refused::NotUsable(_)));
}

/// Alice's funding_created is out.
fn signing() -> (Party, Party, FundingCreated) {
    let (mut alice, bob, request) = to_fund();
    let tx = Box::new(funding_tx(&request));
    alice.handle(Input::Command(Command::Fund(tx))).unwrap();
    let Some(Message::FundingCreated(created)) = alice.sent.pop_front() else { panic!() };
    (alice, bob, *created)
}

#[test]
fn a_wrong_first_signature_ends_it_on_either_side() {
    let (_, mut bob, mut created) = signing();
    created.funding_output_index = 1;
    let verdict = bob.hears(Message::FundingCreated(Box::new(created.clone())));
    assert!(matches!(verdict, Verdict::Failed(text) if text.contains("signature")));
    assert!(bob.disk.0.is_empty(), "nothing of it is kept");
    let (_, mut bob, mut created) = signing();
    created.temporary_channel_id = ChannelId([1; 32]);
    let verdict = bob.hears(Message::FundingCreated(Box::new(created)));
    assert!(matches!(verdict, Verdict::Failed(text) if text.contains("another channel")));

    let signed = |change: fn(&mut FundingSigned)| {
        let (mut alice, mut bob, created) = signing();
        let first = created.signature;
        assert_eq!(bob.hears(Message::FundingCreated(Box::new(created))), Verdict::Fine);
        let Some(Message::FundingSigned(mut signed)) = bob.sent.pop_front() else { panic!() };
        change(&mut signed);
        if signed.channel_id == ChannelId([7; 32]) {
            (signed.channel_id, signed.signature) = (alice.channel.channel_id(), first);
        }
        let verdict = alice.hears(Message::FundingSigned(signed));
        (alice, verdict)
    };
    let (alice, verdict) = signed(|message| message.channel_id = ChannelId([7; 32]));
    assert!(matches!(verdict, Verdict::Failed(text) if text.contains("signature")));
    assert!(alice.published.is_empty() && alice.disk.0.is_empty(), "F stays at home");
    let (alice, verdict) = signed(|message| message.channel_id = ChannelId([6; 32]));
    assert!(matches!(verdict, Verdict::Failed(text) if text.contains("another channel")));
    assert!(alice.published.is_empty());
    let (alice, verdict) = signed(|_| {});
    assert_eq!((verdict, alice.published.len()), (Verdict::Fine, 1));
}

#[test]
fn a_disconnection_before_both_signed_forgets_the_channel() {
    let (alice, bob, _) = to_fund();
    let (signing_alice, _, _) = signing();
    let (proposing_alice, _, _) = proposed();
    for mut party in [alice, bob, signing_alice, proposing_alice] {
        party.handle(Input::Disconnected).unwrap();
        assert!(matches!(party.events.last(), Some(Event::Abandoned(_))), "{}", party.name);
        assert!(party.disk.0.is_empty() && party.published.is_empty());
        let told = party.events.len();
        party.handle(Input::Disconnected).unwrap();
        assert_eq!(party.events.len(), told, "once");
    }
}

#[test]
fn f_is_published_only_when_the_channel_is_durable() {
    let (mut alice, mut bob, created) = signing();
    bob.hears(Message::FundingCreated(Box::new(created)));
    let signed = bob.sent.pop_front().unwrap();
    alice.channel.handle(Input::Message(signed)).unwrap();
    use fulmen_channel::output::Output;
    let Output::Persist(unit) = alice.channel.poll() else { panic!("nothing to write") };
    assert!(matches!(alice.channel.poll(), Output::Idle { .. }));
    alice.channel.handle(Input::Persisted(unit.id)).unwrap();
    assert!(matches!(alice.channel.poll(), Output::Broadcast(_)));
}

#[test]
fn an_abandoned_channel_is_silent_whatever_it_hears() {
    let (mut alice, open, _) = proposed();
    let error = lightning::ln::msgs::ErrorMessage {
        channel_id: ChannelId([3; 32]),
        data: "no\u{7} thanks".into(),
    };
    alice.handle(Input::Message(Message::Error(error.clone()))).unwrap();
    assert_eq!(alice.events.last(), Some(&Event::Abandoned("the peer said: no thanks".into())));
    let told = alice.events.len();
    for message in [Message::OpenChannel(Box::new(open)), Message::Error(error)] {
        assert_eq!(alice.hears(message), Verdict::Fine);
    }
    alice.handle(Input::Command(Command::Abandon("again".into()))).unwrap_err();
    assert_eq!((alice.events.len(), alice.sent.len()), (told, 0));
    assert_eq!(alice.channel.channel_id(), ChannelId([3; 32]), "never the id that means all");
}
