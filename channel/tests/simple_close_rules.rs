//! What a peer may say in closing_complete and closing_sig, and what is made of it.

use crate::simple_close::{agreed, alices, bobs, close, close_at, pays, versions, with_bobs};
use crate::support::{assert_spends, wallet_script, Pair, Verdict, SIMPLE};
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::ScriptBuf;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_channel::error::Refused;
use fulmen_channel::input::Input;
use fulmen_channel::message::Message;
use fulmen_channel::params::Side;
use fulmen_channel::transactions::closing::{build_closing, ClosingSpec, Method, Share};
use lightning::ln::msgs::{ClosingComplete, ClosingSig, Shutdown};

/// Bob has said shutdown and has not offered yet; what he would offer with these outputs.
pub struct Forger {
    pub pair: Pair,
}

impl Forger {
    pub fn new(bobs_msat: u64) -> Self {
        let mut pair = with_bobs(bobs_msat);
        pair.alice.handle(close_at(alices(), 1_000)).unwrap();
        Pair::deliver(&mut pair.alice, &mut pair.bob);
        let channel_id = pair.alice.channel.channel_id();
        let said = Shutdown { channel_id, scriptpubkey: bobs() };
        assert_eq!(pair.alice.hears(Message::Shutdown(Box::new(said))), Verdict::Fine);
        Forger { pair }
    }

    /// Bob's true signature on an ES of his with these outputs: his, Alice's.
    fn signs(&self, said: &ClosingComplete, with: (bool, bool)) -> Signature {
        let open = self.pair.bob.open();
        let base = open.contract.state.base;
        let spec = ClosingSpec {
            method: Method::Simple { lock_time: said.locktime },
            funding: open.contract.funding.outpoint,
            capacity: open.contract.funding.capacity,
            local: Share {
                balance: base.local,
                script: said.closer_scriptpubkey.clone(),
                omitted: !with.0,
            },
            remote: Share {
                balance: base.remote,
                script: said.closee_scriptpubkey.clone(),
                omitted: !with.1,
            },
            fee: Sat::new(said.fee_satoshis),
            payer: Side::Local,
            dust_limit: Sat::ZERO,
        };
        let params = &open.contract.params;
        let keys = (&params.local.basepoints.funding, &params.remote.basepoints.funding);
        let tx = build_closing(&spec).unwrap();
        self.pair.bob.channel.sign_announcement(tx.sighash(keys.0, keys.1))
    }

    pub fn complete(&self, fee: u64, locktime: u32) -> ClosingComplete {
        ClosingComplete {
            channel_id: self.pair.bob.channel.channel_id(),
            closer_scriptpubkey: bobs(),
            closee_scriptpubkey: alices(),
            fee_satoshis: fee,
            locktime,
            closer_output_only: None,
            closee_output_only: None,
            closer_and_closee_outputs: None,
        }
    }

    fn says(&mut self, said: &ClosingComplete) -> Verdict {
        self.pair.alice.hears(Message::ClosingComplete(Box::new(said.clone())))
    }

    fn answer(&self) -> Option<ClosingSig> {
        self.pair.alice.sent.iter().find_map(|message| match message {
            Message::ClosingSig(said) => Some((**said).clone()),
            _ => None,
        })
    }
}

impl Forger {
    fn new_with_balance(msat: u64) -> Self {
        if msat < 900_000_000 {
            return Self::new(msat);
        }
        // More than the reserve lets through: written into both disks.
        let mut forger = Self::new(400_000_000);
        let all = 1_000_000_000;
        let (alice, bob) = (&mut forger.pair.alice, &mut forger.pair.bob);
        alice.channel = alice.with_balance(Msat::new(all - msat));
        bob.channel = bob.with_balance(Msat::new(msat));
        alice.drain();
        bob.drain();
        forger.pair.disconnects();
        forger.pair.alice.handle(Input::Connected(SIMPLE)).unwrap();
        forger.pair.bob.handle(Input::Connected(SIMPLE)).unwrap();
        Pair::deliver(&mut forger.pair.bob, &mut forger.pair.alice);
        let channel_id = forger.pair.alice.channel.channel_id();
        let said = Shutdown { channel_id, scriptpubkey: bobs() };
        assert_eq!(forger.pair.alice.hears(Message::Shutdown(Box::new(said))), Verdict::Fine);
        forger
    }
}

#[test]
fn which_signature_the_closee_answers() {
    const CLOSER: (bool, bool) = (true, false);
    const CLOSEE: (bool, bool) = (false, true);
    const BOTH: (bool, bool) = (true, true);
    // Bob's balance, the kinds he signs, the kind that Alice answers (none: she warns).
    type Row = (u64, &'static [(bool, bool)], Option<(bool, bool)>);
    let table: [Row; 9] = [
        (400_000_000, &[BOTH], Some(BOTH)),
        (400_000_000, &[CLOSEE], Some(CLOSEE)),
        (400_000_000, &[CLOSEE, BOTH], Some(BOTH)),
        (400_000_000, &[CLOSER], None),
        (400_000_000, &[], None),
        (400_000_000, &[CLOSER, BOTH], Some(BOTH)),
        // Alice's own output is dust.
        (999_900_000, &[CLOSER], Some(CLOSER)),
        (999_900_000, &[CLOSER, BOTH], Some(CLOSER)),
        (999_900_000, &[BOTH], None),
    ];
    for (msat, kinds, expected) in table {
        let mut forger = Forger::new_with_balance(msat);
        let mut said = forger.complete(700, 650_000);
        for kind in kinds {
            let signature = Some(forger.signs(&said, *kind));
            match *kind {
                CLOSER => said.closer_output_only = signature,
                CLOSEE => said.closee_output_only = signature,
                _ => said.closer_and_closee_outputs = signature,
            }
        }
        let verdict = forger.says(&said);
        let Some(kind) = expected else {
            assert!(matches!(verdict, Verdict::Warned(_)), "{kinds:?}");
            assert!(versions(&forger.pair.alice).1.is_none());
            continue;
        };
        assert_eq!(verdict, Verdict::Fine, "{kinds:?}");
        let answer = forger.answer().expect("an answer");
        let given = [
            (CLOSER, answer.closer_output_only),
            (CLOSEE, answer.closee_output_only),
            (BOTH, answer.closer_and_closee_outputs),
        ];
        let given: Vec<_> = given.iter().filter(|(_, it)| it.is_some()).map(|(k, _)| *k).collect();
        assert_eq!(given, [kind]);
        assert_eq!((answer.fee_satoshis, answer.locktime), (700, 650_000));
        let tx = versions(&forger.pair.alice).1.unwrap();
        assert_eq!(tx.lock_time.to_consensus_u32(), 650_000);
        assert_spends(&tx, &forger.pair.funding_output());
        assert_eq!(pays(&tx, &bobs()) > 0, kind.0);
        assert_eq!(pays(&tx, &alices()) > 0, kind.1);
    }
}

#[test]
fn a_hostile_closing_complete_is_warned_about_and_nothing_is_signed() {
    type Change = fn(&mut Forger, &mut ClosingComplete);
    let table: [(&str, Change); 8] = [
        ("more than the 400000", |_, said| said.fee_satoshis = 400_001),
        ("more than the 400000", |_, said| said.fee_satoshis = u64::MAX),
        ("that we said last", |_, said| said.closee_scriptpubkey = wallet_script(7)),
        ("of no known form", |_, said| {
            said.closer_scriptpubkey = ScriptBuf::new_p2sh(&Hash::all_zeros());
        }),
        ("signature", |_, said| said.locktime = 1),
        ("signature", |_, said| said.fee_satoshis = 701),
        ("signature", |_, said| said.closer_scriptpubkey = wallet_script(7)),
        ("signature", |_, said| {
            // The same signature with the other S: valid to some, but not standard.
            let mut bytes = said.closer_and_closee_outputs.unwrap().serialize_compact();
            let s = bitcoin::secp256k1::SecretKey::from_slice(&bytes[32..]).unwrap().negate();
            bytes[32..].copy_from_slice(&s.secret_bytes());
            let high = Signature::from_compact(&bytes).unwrap();
            said.closer_and_closee_outputs = Some(high);
        }),
    ];
    for (row, (why, change)) in table.into_iter().enumerate() {
        let mut forger = Forger::new(400_000_000);
        let mut said = forger.complete(700, 0);
        said.closer_and_closee_outputs = Some(forger.signs(&said, (true, true)));
        change(&mut forger, &mut said);
        let verdict = forger.says(&said);
        let Verdict::Warned(text) = verdict else { panic!("row {row}: {verdict:?}") };
        assert!(text.contains(why), "row {row}: {text}");
        assert!(forger.answer().is_none());
        assert!(forger.pair.alice.open().closing.theirs.is_none());
        // The peer comes back, honest.
        forger.pair.bob.handle(close(bobs())).unwrap();
        forger.pair.reconnects();
        agreed(&forger.pair);
    }
}

#[test]
fn a_script_fixed_at_opening_holds_in_every_version() {
    let mut pair = Pair::open_with(|open, policy| {
        (open.negotiated, policy.negotiated) = (SIMPLE, SIMPLE);
        open.local.upfront_shutdown_script = Some(alices());
        policy.local.upfront_shutdown_script = Some(bobs());
    });
    pair.alice_pays(400_000_000, 1);
    pair.alice.handle(close_at(alices(), 1_000)).unwrap();
    pair.talk();
    agreed(&pair);
    let elsewhere = pair.alice.handle(close_at(wallet_script(9), 3_000)).unwrap_err();
    assert_eq!(elsewhere, Refused::WrongShutdownScript);
    let mut forger = Forger { pair };
    let mut said = forger.complete(900, 0);
    said.closer_scriptpubkey = wallet_script(9);
    said.closer_and_closee_outputs = Some(forger.signs(&said, (true, true)));
    let verdict = forger.says(&said);
    assert!(matches!(verdict, Verdict::Warned(text) if text.contains("fixed at opening")));
}

#[test]
fn a_hostile_closing_sig_is_warned_about_and_nothing_is_published() {
    type Change = fn(&mut ClosingSig);
    let table: [(&str, Change); 9] = [
        ("are not those", |said| said.fee_satoshis += 1),
        ("are not those", |said| said.locktime = 9),
        ("are not those", |said| said.closer_scriptpubkey = wallet_script(9)),
        ("are not those", |said| said.closee_scriptpubkey = wallet_script(9)),
        ("exactly one", |said| said.closer_and_closee_outputs = None),
        ("exactly one", |said| said.closer_output_only = said.closer_and_closee_outputs),
        ("exactly one", |said| {
            said.closee_output_only = said.closer_and_closee_outputs.take();
        }),
        ("is wrong", |said| {
            said.closer_output_only = said.closer_and_closee_outputs.take();
        }),
        ("no closing_complete", |_| {}),
    ];
    for (row, (why, change)) in table.into_iter().enumerate() {
        let mut pair = with_bobs(400_000_000);
        pair.alice.handle(close_at(alices(), 1_000)).unwrap();
        pair.bob.handle(close_at(bobs(), 500)).unwrap();
        let sig = loop {
            Pair::deliver(&mut pair.alice, &mut pair.bob);
            if let Some(Message::ClosingSig(_)) = pair.bob.sent.front() {
                break pair.bob.sent.pop_front();
            }
            Pair::deliver(&mut pair.bob, &mut pair.alice);
        };
        let Some(Message::ClosingSig(mut sig)) = sig else { panic!("no closing_sig") };
        if row == 8 {
            assert_eq!(pair.alice.hears(Message::ClosingSig(sig.clone())), Verdict::Fine);
            pair.alice.published.clear();
        }
        let before = pair.alice.published.len();
        change(&mut sig);
        let verdict = pair.alice.hears(Message::ClosingSig(sig));
        let Verdict::Warned(text) = verdict else { panic!("row {row}: {verdict:?}") };
        assert!(text.contains(why), "row {row}: {text}");
        assert_eq!(pair.alice.published.len(), before);
        pair.reconnects();
        agreed(&pair);
    }
}
