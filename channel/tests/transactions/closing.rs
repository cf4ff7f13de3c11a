//! ES: who pays, what is left out, and that Bitcoin takes it.

use bitcoin::{ScriptBuf, Sequence};
use fulmen_channel::amount::{Msat, Sat};
use fulmen_channel::keys::Signer;
use fulmen_channel::params::{CommitmentFormat, Side};
use fulmen_channel::transactions::closing::{
    build_closing, closing_weight, ClosingError, ClosingSpec, Method, Share,
};

use super::channel::{Channel, CAPACITY};
use super::{assert_valid, missing_signature_bytes};

fn p2wpkh() -> ScriptBuf {
    ScriptBuf::from_hex("00141ca1cca8855bad6bc1ea5436edd8cff10b7e448b").unwrap()
}

fn p2tr() -> ScriptBuf {
    ScriptBuf::from_hex("5120000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
        .unwrap()
}

fn op_return() -> ScriptBuf {
    ScriptBuf::from_hex("6a06aabbccddeeff").unwrap()
}

fn spec(channel: &Channel, local_msat: u64, remote_msat: u64) -> ClosingSpec {
    let share = |msat, script| Share { balance: Msat::new(msat), script, omitted: false };
    ClosingSpec {
        method: Method::Legacy,
        funding: bitcoin::OutPoint::new(channel.funding.compute_txid(), 0),
        capacity: CAPACITY,
        local: share(local_msat, p2wpkh()),
        remote: share(remote_msat, p2tr()),
        fee: Sat::new(1_000),
        payer: Side::Local,
        dust_limit: Sat::new(354),
    }
}

fn channel() -> Channel {
    Channel::new(CommitmentFormat::Anchors)
}

#[test]
fn es_pays_both_and_bitcoin_takes_it() {
    let channel = channel();
    for (method, sequence, lock_time) in [
        (Method::Legacy, Sequence::MAX, 0),
        (Method::Simple { lock_time: 700_000 }, Sequence(0xffff_fffd), 700_000),
    ] {
        for payer in [Side::Local, Side::Remote] {
            let base = spec(&channel, 400_000_999, 599_999_001);
            let closing = build_closing(&ClosingSpec { method, payer, ..base.clone() }).unwrap();
            let [local, remote] = [closing.local, closing.remote].map(|place| {
                let output = &closing.tx.output[place.unwrap() as usize];
                (output.value.to_sat(), output.script_pubkey.clone())
            });
            let (ours, theirs) = match payer {
                Side::Local => (399_000, 599_999),
                Side::Remote => (400_000, 598_999),
            };
            assert_eq!((local, remote), ((ours, p2wpkh()), (theirs, p2tr())));
            assert_eq!(closing.tx.input[0].sequence, sequence);
            assert_eq!(closing.tx.lock_time.to_consensus_u32(), lock_time);

            let keys = [&channel.broadcaster, &channel.countersigner]
                .map(|signer| signer.basepoints().funding);
            let hash = closing.sighash(&keys[1], &keys[0]);
            let one = channel.broadcaster.sign_funding(hash);
            let other = channel.countersigner.sign_funding(hash);
            let signed = closing.signed((&keys[0], &one), (&keys[1], &other));
            assert_eq!(signed, closing.signed((&keys[1], &other), (&keys[0], &one)));
            assert_valid(&signed, &channel.funding.output);
            let predicted = closing_weight([&base.local.script, &base.remote.script]);
            let real = signed.weight().to_wu() + missing_signature_bytes(&signed);
            assert_eq!(real, predicted);
        }
    }
}

#[test]
fn outputs_too_small_to_relay_are_left_out() {
    let channel = channel();
    let built = |spec: &ClosingSpec| {
        let closing = build_closing(spec).unwrap();
        (closing.local.is_some(), closing.remote.is_some())
    };
    let mut small = spec(&channel, 900_000_000, 353_999);
    assert_eq!(built(&small), (true, false));
    small.remote.balance = Msat::new(354_000);
    assert_eq!(built(&small), (true, true));

    // Without a dust limit of our own, each script's threshold counts.
    small.dust_limit = Sat::ZERO;
    small.remote = Share { script: p2wpkh(), balance: Msat::new(293_999), omitted: false };
    assert_eq!(built(&small), (true, false));
    small.remote.balance = Msat::new(294_000);
    assert_eq!(built(&small), (true, true));
    small.remote.omitted = true;
    assert_eq!(built(&small), (true, false));

    // The fee comes off before an output is judged.
    let payer = spec(&channel, 1_353_999, 900_000_000);
    assert_eq!(built(&payer), (false, true));
}

#[test]
fn a_fee_too_high_is_refused() {
    let channel = channel();
    let poor = spec(&channel, 999_999, 900_000_000);
    let too_high = ClosingError::FeeTooHigh { fee: Sat::new(1_000), balance: Sat::new(999) };
    assert_eq!(build_closing(&poor), Err(too_high));
    let nothing = spec(&channel, 1_100_000, 300_000);
    assert_eq!(build_closing(&nothing), Err(ClosingError::NothingLeft(Sat::new(1_000))));
}

#[test]
fn an_op_return_gets_nothing_in_a_simple_close() {
    let channel = channel();
    let mut burnt = spec(&channel, 5_000_000, 900_000_000);
    burnt.local.script = op_return();
    burnt.method = Method::Simple { lock_time: 0 };
    let closing = build_closing(&burnt).unwrap();
    let output = &closing.tx.output[closing.local.unwrap() as usize];
    assert_eq!((output.value.to_sat(), &output.script_pubkey), (0, &op_return()));
}

#[test]
fn equal_values_are_ordered_by_script() {
    let channel = channel();
    let closing = build_closing(&spec(&channel, 401_000_000, 400_000_000)).unwrap();
    assert_eq!((closing.local, closing.remote), (Some(0), Some(1)));
    let mut swapped = spec(&channel, 401_000_000, 400_000_000);
    (swapped.local.script, swapped.remote.script) = (p2tr(), p2wpkh());
    let closing = build_closing(&swapped).unwrap();
    assert_eq!((closing.local, closing.remote), (Some(1), Some(0)));
}
