//! Every transaction of the paper, judged by Bitcoin's script interpreter with the outputs it
//! spends, in both formats: accepted when it is right, refused when its time, key or secret is not.

use bitcoin::absolute::LockTime;
use bitcoin::{Sequence, Transaction, TxOut};
use fulmen_channel::keys::{Inline, Signer};
use fulmen_channel::params::CommitmentFormat;
use fulmen_channel::payment::Preimage;
use fulmen_channel::transactions::spend::{sweep, sweep_weight, Spend};
use fulmen_channel::transactions::{
    anchor, delivery, htlc_delivery, htlc_revocable_delivery, revocable_delivery,
};

use super::channel::{
    destination, full_spec, second_stage, Channel, Signed, BOTH, DELAY, EXPIRY, FEERATE, PREIMAGE,
};
use super::{assert_valid, missing_signature_bytes, sign, verdict};

/// The transaction that spends this alone, unsigned.
fn alone(spend: &Spend) -> Transaction {
    sweep(std::slice::from_ref(spend), &destination(), FEERATE).unwrap()
}

/// Signs the spend, has it accepted, and checks its predicted weight.
fn accepted(
    spend: &Spend,
    output: &TxOut,
    signer: impl Fn([u8; 32]) -> bitcoin::secp256k1::ecdsa::Signature,
) {
    assert_eq!(&spend.output, output, "the spend knows what it spends");
    let mut tx = alone(spend);
    sign(&mut tx, 0, spend, &signer);
    assert_valid(&tx, std::slice::from_ref(output));
    let predicted = sweep_weight(std::slice::from_ref(spend), &destination());
    assert_eq!(tx.weight().to_wu() + missing_signature_bytes(&tx), predicted);
    assert_eq!(tx.output[0].value, output.value - FEERATE.fee(predicted).to_amount());
}

/// Signs the spend in a transaction changed by `change` and has it refused.
fn refused(
    spend: &Spend,
    change: impl Fn(&mut Transaction),
    signer: impl Fn([u8; 32]) -> bitcoin::secp256k1::ecdsa::Signature,
) {
    let mut tx = alone(spend);
    change(&mut tx);
    sign(&mut tx, 0, spend, &signer);
    assert!(verdict(&tx, 0, std::slice::from_ref(&spend.output)).is_err());
}

fn unchanged(_: &mut Transaction) {}

fn sequence(sequence: Sequence) -> impl Fn(&mut Transaction) {
    move |tx| tx.input[0].sequence = sequence
}

fn in_both_formats(story: impl Fn(Channel, Signed)) {
    for format in BOTH {
        let channel = Channel::new(format);
        let signed = channel.commit(3, &full_spec());
        story(channel, signed);
    }
}

#[test]
fn c_spends_f_with_both_signatures_only() {
    in_both_formats(|channel, signed| {
        assert_valid(&signed.tx, &channel.funding.output);
        assert_eq!(signed.built.trimmed.len(), 1);
        let context = channel.context(&signed.keys);
        let ours = channel.broadcaster.sign_funding(signed.built.sighash(&context));
        let forged = signed.built.signed(&context, &ours, &ours);
        assert!(verdict(&forged, 0, &channel.funding.output).is_err());
    });
}

#[test]
fn rd_takes_to_local_after_the_delay() {
    in_both_formats(|channel, signed| {
        let place = signed.built.to_local.unwrap();
        let context = channel.context(&signed.keys);
        let rd = revocable_delivery::spend(&context, signed.outpoint(place), signed.value(place));
        accepted(&rd, &signed.output(place), |hash| channel.broadcaster.sign_delayed(3, hash));
        let early = sequence(Sequence::from_height(DELAY - 1));
        refused(&rd, early, |hash| channel.broadcaster.sign_delayed(3, hash));
        refused(&rd, unchanged, |hash| channel.broadcaster.sign_delayed(2, hash));
    });
}

#[test]
fn d_takes_to_remote() {
    in_both_formats(|channel, signed| {
        let place = signed.built.to_remote.unwrap();
        let payment = channel.countersigner.basepoints().payment;
        let (outpoint, value) = (signed.outpoint(place), signed.value(place));
        let d = delivery::spend(channel.format, &payment, outpoint, value);
        accepted(&d, &signed.output(place), |hash| channel.countersigner.sign_payment(hash));
        refused(&d, unchanged, |hash| channel.broadcaster.sign_payment(hash));
        if channel.format == CommitmentFormat::Anchors {
            let at_once = sequence(Sequence::ENABLE_RBF_NO_LOCKTIME);
            refused(&d, at_once, |hash| channel.countersigner.sign_payment(hash));
        }
    });
}

#[test]
fn ht_takes_an_offered_htlc_back_after_its_expiry() {
    in_both_formats(|_, signed| {
        let htlc = signed.htlc(true);
        let ht = signed.second_stage(true);
        assert_valid(ht, &[signed.output(htlc.output)]);
        assert_eq!(ht.lock_time, LockTime::from_consensus(EXPIRY.number()));
        let mut early = ht.clone();
        early.lock_time = LockTime::from_consensus(EXPIRY.number() - 1);
        assert!(verdict(&early, 0, &[signed.output(htlc.output)]).is_err());
    });
}

#[test]
fn he_takes_a_received_htlc_with_its_preimage() {
    in_both_formats(|_, signed| {
        let htlc = signed.htlc(false);
        let he = signed.second_stage(false);
        assert_valid(he, &[signed.output(htlc.output)]);
        let mut elements = he.input[0].witness.to_vec();
        elements[3] = vec![8; 32];
        let mut wrong = he.clone();
        wrong.input[0].witness = bitcoin::Witness::from_slice(&elements);
        assert!(verdict(&wrong, 0, &[signed.output(htlc.output)]).is_err());
    });
}

/// With anchors the countersigner's signature lets the broadcaster add an input for the fee, and
/// not touch the first output.
#[test]
fn ht_and_he_take_a_fee_input_with_anchors_only() {
    for format in BOTH {
        let channel = Channel::new(format);
        let signed = channel.commit(3, &full_spec());
        let htlc = signed.htlc(false);
        let context = channel.context(&signed.keys);
        let point = channel.broadcaster.per_commitment_point(3);
        let theirs = signed.built.htlc_sighash(&context, htlc, true);
        let theirs = channel.countersigner.sign_remote_htlcs(&point, &[theirs], &Inline)[0];
        let resign = |tx: &mut Transaction| {
            let value = htlc.htlc.amount.floor();
            let all = bitcoin::sighash::EcdsaSighashType::All;
            let hash =
                fulmen_channel::transactions::sighash::sighash(tx, 0, &htlc.script, value, all);
            let ours = channel.broadcaster.sign_local_htlc(3, hash.unwrap());
            let input = second_stage(format, htlc, tx, &theirs, &PREIMAGE);
            tx.input[0].witness = input.witness(&ours, all);
        };
        let mut bumped = signed.built.htlc_tx(&context, htlc);
        bumped.input.push(signed.tx.input[0].clone());
        bumped.output.push(TxOut { script_pubkey: destination(), ..signed.output(0) });
        resign(&mut bumped);
        let spent = [signed.output(htlc.output), channel.funding.output[0].clone()];
        let accepts = verdict(&bumped, 0, &spent).is_ok();
        assert_eq!(accepts, format == CommitmentFormat::Anchors);

        let mut stolen = bumped.clone();
        stolen.output[0].script_pubkey = destination();
        resign(&mut stolen);
        assert!(verdict(&stolen, 0, &spent).is_err());
    }
}

#[test]
fn htrd_and_herd_take_the_second_stage_after_the_delay() {
    in_both_formats(|channel, signed| {
        for offered in [true, false] {
            let stage = signed.second_stage(offered);
            let outpoint = bitcoin::OutPoint::new(stage.compute_txid(), 0);
            let context = channel.context(&signed.keys);
            let output = &stage.output[0];
            let spend = htlc_revocable_delivery::spend(&context, outpoint, output.value.into());
            accepted(&spend, output, |hash| channel.broadcaster.sign_delayed(3, hash));
            let early = sequence(Sequence::from_height(DELAY - 1));
            refused(&spend, early, |hash| channel.broadcaster.sign_delayed(3, hash));
        }
    });
}

#[test]
fn hed_takes_their_offer_with_the_preimage() {
    in_both_formats(|channel, signed| {
        let htlc = signed.htlc(true);
        let point = channel.broadcaster.per_commitment_point(3);
        let signer = |hash| channel.countersigner.sign_remote_htlcs(&point, &[hash], &Inline)[0];
        let (context, outpoint) = (channel.context(&signed.keys), signed.outpoint(htlc.output));
        let hed = htlc_delivery::execution(&context, &htlc.htlc, outpoint, &PREIMAGE);
        accepted(&hed, &signed.output(htlc.output), signer);
        let wrong = Preimage([8; 32]);
        let wrong = htlc_delivery::execution(&context, &htlc.htlc, outpoint, &wrong);
        refused(&wrong, unchanged, signer);
        if channel.format == CommitmentFormat::Anchors {
            refused(&hed, sequence(Sequence::ENABLE_RBF_NO_LOCKTIME), signer);
        }
    });
}

#[test]
fn htd_takes_our_offer_back_after_its_expiry() {
    in_both_formats(|channel, signed| {
        let htlc = signed.htlc(false);
        let point = channel.broadcaster.per_commitment_point(3);
        let signer = |hash| channel.countersigner.sign_remote_htlcs(&point, &[hash], &Inline)[0];
        let (context, outpoint) = (channel.context(&signed.keys), signed.outpoint(htlc.output));
        let htd = htlc_delivery::timeout(&context, &htlc.htlc, outpoint);
        accepted(&htd, &signed.output(htlc.output), signer);
        let early = LockTime::from_consensus(EXPIRY.number() - 1);
        refused(&htd, |tx| tx.lock_time = early, signer);
        if channel.format == CommitmentFormat::Anchors {
            refused(&htd, sequence(Sequence::ENABLE_RBF_NO_LOCKTIME), signer);
        }
    });
}

#[test]
fn anchors_are_their_owners_at_once_and_anyones_after_16_blocks() {
    let channel = Channel::new(CommitmentFormat::Anchors);
    let signed = channel.commit(3, &full_spec());
    let owners = [
        (&channel.broadcaster, signed.built.broadcaster_anchor.unwrap()),
        (&channel.countersigner, signed.built.countersigner_anchor.unwrap()),
    ];
    for (owner, place) in owners {
        let key = owner.basepoints().funding;
        let spend = anchor::spend(&key, signed.outpoint(place));
        // Alone it is worth less than it costs: to_remote pays for it here.
        let other = signed.built.to_remote.unwrap();
        let payment = channel.countersigner.basepoints().payment;
        let (outpoint, value) = (signed.outpoint(other), signed.value(other));
        let d = delivery::spend(channel.format, &payment, outpoint, value);
        let both = [spend.clone(), d.clone()];
        let mut tx = sweep(&both, &destination(), FEERATE).unwrap();
        sign(&mut tx, 0, &spend, |hash| owner.sign_funding(hash));
        sign(&mut tx, 1, &d, |hash| channel.countersigner.sign_payment(hash));
        assert_valid(&tx, &[signed.output(place), signed.output(other)]);
        let predicted = sweep_weight(&both, &destination());
        assert_eq!(tx.weight().to_wu() + missing_signature_bytes(&tx), predicted);
        assert!(sweep(&[spend], &destination(), FEERATE).is_none(), "too little to sweep alone");

        let mut anyone = tx.clone();
        anyone.input = vec![anchor::abandoned(&key, signed.outpoint(place))];
        let spent = [signed.output(place)];
        verdict(&anyone, 0, &spent).unwrap();
        anyone.input[0].sequence = Sequence::from_height(15);
        assert!(verdict(&anyone, 0, &spent).is_err());
    }
    let without = Channel::new(CommitmentFormat::StaticRemoteKey).commit(3, &full_spec());
    assert_eq!(
        (without.built.broadcaster_anchor, without.built.countersigner_anchor),
        (None, None)
    );
}

#[test]
fn one_sweep_takes_inputs_of_every_kind() {
    let channel = Channel::new(CommitmentFormat::StaticRemoteKey);
    let signed = channel.commit(3, &full_spec());
    let context = channel.context(&signed.keys);
    let (payment, point) =
        (channel.countersigner.basepoints().payment, channel.broadcaster.per_commitment_point(3));
    let place = signed.built.to_remote.unwrap();
    let (hed, htd) = (signed.htlc(true), signed.htlc(false));
    let spends = [
        delivery::spend(channel.format, &payment, signed.outpoint(place), signed.value(place)),
        htlc_delivery::execution(&context, &hed.htlc, signed.outpoint(hed.output), &PREIMAGE),
        htlc_delivery::timeout(&context, &htd.htlc, signed.outpoint(htd.output)),
    ];
    let mut tx = sweep(&spends, &destination(), FEERATE).unwrap();
    assert_eq!(tx.lock_time, LockTime::from_consensus(EXPIRY.number()));
    for (input, spend) in spends.iter().enumerate() {
        sign(&mut tx, input, spend, |hash| match input {
            0 => channel.countersigner.sign_payment(hash),
            _ => channel.countersigner.sign_remote_htlcs(&point, &[hash], &Inline)[0],
        });
    }
    assert_valid(&tx, &spends.clone().map(|spend| spend.output));
    let predicted = sweep_weight(&spends, &destination());
    assert_eq!(tx.weight().to_wu() + missing_signature_bytes(&tx), predicted);
    assert!(sweep(&[], &destination(), FEERATE).is_none());
}
