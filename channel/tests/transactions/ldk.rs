//! The same channel built by LDK: keys, scripts, commitments, HTLC transactions, witnesses and
//! closings must be equal, over parameters that look random.

use bitcoin::secp256k1::Secp256k1;
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::{OutPoint, Txid};
use fulmen_channel::amount::{FeeratePerKw, Height, Msat, Sat};
use fulmen_channel::keys::{derive, CommitmentKeys, InMemorySigner, Signer};
use fulmen_channel::params::{Basepoints, CommitmentFormat, Side};
use fulmen_channel::payment::{PaymentHash, Preimage};
use fulmen_channel::script;
use fulmen_channel::transactions::closing::{build_closing, ClosingSpec, Method, Share};
use fulmen_channel::transactions::commitment::{
    self, CommitmentContext, CommitmentSpec, CommitmentTx, Htlc,
};
use lightning::ln::chan_utils::{
    self, ChannelPublicKeys, ChannelTransactionParameters, ClosingTransaction,
    CommitmentTransaction, CounterpartyChannelTransactionParameters, HTLCOutputInCommitment,
};
use lightning::ln::channel_keys::{DelayedPaymentBasepoint, HtlcBasepoint, RevocationBasepoint};
use lightning::types::features::ChannelTypeFeatures;
use lightning::types::payment::PaymentPreimage;

use super::channel::{second_stage, BOTH};
use super::Dice;

/// A channel, one state of it, and the same in LDK's terms.
struct Random {
    broadcaster: InMemorySigner,
    countersigner: InMemorySigner,
    keys: CommitmentKeys,
    format: CommitmentFormat,
    funding: OutPoint,
    delay: u16,
    dust_limit: Sat,
    broadcaster_funded: bool,
    spec: CommitmentSpec,
}

const CAPACITY: Sat = Sat::new(1 << 40);

impl Random {
    fn new(dice: &mut Dice, format: CommitmentFormat, htlcs: u64) -> Self {
        let broadcaster = InMemorySigner::from_seed(dice.bytes());
        let countersigner = InMemorySigner::from_seed(dice.bytes());
        let number = dice.below(1 << 48);
        let (ours, theirs) = (broadcaster.basepoints(), countersigner.basepoints());
        let point = broadcaster.per_commitment_point(number);
        let txid: Txid = hex::encode(dice.bytes()).parse().unwrap();
        // Few amounts, hashes and expiries, so that equal outputs do occur.
        let preimages = [1, 2, 3].map(|byte| Preimage([byte; 32]));
        let htlc = |id, dice: &mut Dice| {
            let offered = dice.coin();
            let htlc = Htlc {
                offered,
                amount: Msat::new(1 + dice.below(40) * 99_999),
                payment_hash: preimages[dice.below(3) as usize].hash(),
                cltv_expiry: Height::new(700_000 + dice.below(5) as u32),
            };
            ((if offered { Side::Local } else { Side::Remote }, id), htlc)
        };
        Random {
            keys: CommitmentKeys::derive(&ours, &theirs, &point),
            format,
            funding: OutPoint::new(txid, dice.below(1 << 16) as u32),
            delay: dice.below(1 << 16) as u16,
            dust_limit: Sat::new(354 + dice.below(500)),
            broadcaster_funded: dice.coin(),
            spec: CommitmentSpec {
                number,
                feerate: FeeratePerKw::new(dice.below(3_000) as u32),
                to_broadcaster: Msat::new(dice.below(3_000_000_000)),
                to_countersigner: Msat::new(dice.below(3_000_000_000)),
                htlcs: (0..htlcs).map(|id| htlc(id, dice)).collect(),
            },
            broadcaster,
            countersigner,
        }
    }

    fn context(&self) -> CommitmentContext<'_> {
        let (ours, theirs) = (self.broadcaster.basepoints(), self.countersigner.basepoints());
        let (opener, accepter) =
            if self.broadcaster_funded { (ours, theirs) } else { (theirs, ours) };
        CommitmentContext {
            format: self.format,
            funding: self.funding,
            capacity: CAPACITY,
            obscuring_factor: commitment::obscuring_factor(&opener.payment, &accepter.payment),
            dust_limit: self.dust_limit,
            to_self_delay: self.delay,
            broadcaster_pays_fee: self.broadcaster_funded,
            keys: &self.keys,
        }
    }

    fn channel_type(&self) -> ChannelTypeFeatures {
        match self.format {
            CommitmentFormat::StaticRemoteKey => ChannelTypeFeatures::only_static_remote_key(),
            CommitmentFormat::Anchors => {
                ChannelTypeFeatures::anchors_zero_htlc_fee_and_dependencies()
            }
        }
    }

    fn parameters(&self) -> ChannelTransactionParameters {
        let funding = lightning::chain::transaction::OutPoint {
            txid: self.funding.txid,
            index: self.funding.vout as u16,
        };
        ChannelTransactionParameters {
            holder_pubkeys: public_keys(&self.broadcaster.basepoints()),
            holder_selected_contest_delay: 1,
            is_outbound_from_holder: self.broadcaster_funded,
            counterparty_parameters: Some(CounterpartyChannelTransactionParameters {
                pubkeys: public_keys(&self.countersigner.basepoints()),
                selected_contest_delay: self.delay,
            }),
            funding_outpoint: Some(funding),
            splice_parent_funding_txid: None,
            channel_type_features: self.channel_type(),
            channel_value_satoshis: CAPACITY.sat(),
        }
    }

    /// LDK's commitment; which outputs there are is worked out here, from BOLT 3 and LDK's weights.
    fn theirs(&self) -> CommitmentTransaction {
        let (spec, channel_type) = (&self.spec, self.channel_type());
        let feerate = u64::from(spec.feerate.per_kw());
        let anchors = self.format == CommitmentFormat::Anchors;
        let is_kept = |htlc: &Htlc| {
            let weight = match htlc.offered {
                true => chan_utils::htlc_timeout_tx_weight(&channel_type),
                false => chan_utils::htlc_success_tx_weight(&channel_type),
            };
            let fee = if anchors { 0 } else { feerate * weight / 1000 };
            htlc.amount.msat() / 1000 >= self.dust_limit.sat() + fee
        };
        let kept = spec.htlcs.iter().map(|(_, htlc)| htlc).filter(|htlc| is_kept(htlc));
        let kept: Vec<_> = kept.map(their_htlc).collect();
        let base = if anchors { 1124 } else { 724 };
        let fee = feerate * (base + 172 * kept.len() as u64) / 1000;
        let cost = fee + if anchors { 660 } else { 0 };
        let after = |balance: Msat, pays: bool| {
            let value = (balance.msat() / 1000).saturating_sub(if pays { cost } else { 0 });
            if value < self.dust_limit.sat() {
                0
            } else {
                value
            }
        };
        let point = self.broadcaster.per_commitment_point(spec.number);
        CommitmentTransaction::new(
            derive::secret_index(spec.number),
            &point,
            after(spec.to_broadcaster, self.broadcaster_funded),
            after(spec.to_countersigner, !self.broadcaster_funded),
            spec.feerate.per_kw(),
            kept,
            &self.parameters().as_holder_broadcastable(),
            &Secp256k1::new(),
        )
    }
}

fn public_keys(basepoints: &Basepoints) -> ChannelPublicKeys {
    ChannelPublicKeys {
        funding_pubkey: basepoints.funding,
        revocation_basepoint: RevocationBasepoint(basepoints.revocation),
        payment_point: basepoints.payment,
        delayed_payment_basepoint: DelayedPaymentBasepoint(basepoints.delayed_payment),
        htlc_basepoint: HtlcBasepoint(basepoints.htlc),
    }
}

fn their_htlc(htlc: &Htlc) -> HTLCOutputInCommitment {
    HTLCOutputInCommitment {
        offered: htlc.offered,
        amount_msat: htlc.amount.msat(),
        cltv_expiry: htlc.cltv_expiry.number(),
        payment_hash: lightning::types::payment::PaymentHash(htlc.payment_hash.0),
        transaction_output_index: None,
    }
}

fn compare(random: &Random) -> CommitmentTx {
    let (context, theirs) = (random.context(), random.theirs());
    let ours = commitment::build(&context, &random.spec);
    let trusted = theirs.trust();
    assert_eq!(ours.tx, trusted.built_transaction().transaction);
    assert_eq!(ours.txid, trusted.txid());
    let funding = chan_utils::make_funding_redeemscript(
        &random.keys.broadcaster_funding,
        &random.keys.countersigner_funding,
    );
    assert_eq!(context.funding_script(), funding);
    let hash = trusted.built_transaction().get_sighash_all(&funding, CAPACITY.sat());
    assert_eq!(&ours.sighash(&context), hash.as_ref());
    assert_eq!(ours.htlcs.len(), theirs.nondust_htlcs().len());
    for (ours_at, theirs_at) in ours.htlcs.iter().zip(theirs.nondust_htlcs()) {
        compare_htlc(random, &ours, ours_at, theirs_at, trusted.keys());
    }
    let counted = ours.tx.output.iter().map(|output| output.value.to_sat()).sum::<u64>();
    assert_eq!(ours.fee.sat(), CAPACITY.sat() - counted);
    ours
}

fn compare_htlc(
    random: &Random,
    commitment: &CommitmentTx,
    ours: &commitment::CommittedHtlc,
    theirs: &HTLCOutputInCommitment,
    keys: &chan_utils::TxCreationKeys,
) {
    let (context, channel_type) = (random.context(), random.channel_type());
    assert_eq!(Some(ours.output), theirs.transaction_output_index);
    assert_eq!(their_htlc(&ours.htlc).payment_hash, theirs.payment_hash);
    let script = chan_utils::get_htlc_redeemscript(theirs, &channel_type, keys);
    assert_eq!(ours.script, script);
    let tx = chan_utils::build_htlc_transaction(
        &commitment.txid,
        random.spec.feerate.per_kw(),
        random.delay,
        theirs,
        &channel_type,
        &keys.broadcaster_delayed_payment_key,
        &keys.revocation_key,
    );
    assert_eq!(commitment.htlc_tx(&context, ours), tx);
    let hash = commitment.htlc_sighash(&context, ours, true);
    let (one, other) =
        (random.broadcaster.sign_payment(hash), random.countersigner.sign_payment(hash));
    let input = second_stage(random.format, ours, &tx, &other, &Preimage([5; 32]));
    let witness = input.witness(&one, EcdsaSighashType::All);
    let preimage = (!ours.htlc.offered).then_some(PaymentPreimage([5; 32]));
    let expected =
        chan_utils::build_htlc_input_witness(&one, &other, &preimage, &script, &channel_type);
    assert_eq!(witness, expected);
}

#[test]
fn commitments_and_htlc_transactions_are_ldks() {
    let mut dice = Dice(0);
    for format in BOTH {
        for round in 0..40 {
            let htlcs = dice.below(round + 1);
            compare(&Random::new(&mut dice, format, htlcs));
        }
    }
}

#[test]
fn a_full_commitment_is_ldks() {
    let mut dice = Dice(1_000_000);
    for format in BOTH {
        let mut random = Random::new(&mut dice, format, 483);
        random.spec.feerate = FeeratePerKw::new(253);
        let built = compare(&random);
        assert!(built.htlcs.len() > 300, "most of them are large enough");
        assert_eq!(built.htlcs.len() + built.trimmed.len(), 483);
    }
}

/// Balances at and around nothing, the fee and the dust limit, paid by either side.
#[test]
fn commitments_of_the_poor_are_ldks() {
    let mut dice = Dice(2_000_000);
    for format in BOTH {
        for htlcs in [0, 0, 3] {
            for balance in [0, 353_999, 354_000, 684_000, 1_500_000, 2_484_000, 1 << 40] {
                let mut random = Random::new(&mut dice, format, htlcs);
                random.dust_limit = Sat::new(354);
                random.spec.feerate = FeeratePerKw::new(1_000);
                random.spec.to_broadcaster = Msat::new(balance);
                compare(&random);
                random.broadcaster_funded = !random.broadcaster_funded;
                compare(&random);
            }
        }
    }
}

#[test]
fn equal_outputs_are_in_the_order_of_their_expiry() {
    let mut dice = Dice(3_000_000);
    for format in BOTH {
        let mut random = Random::new(&mut dice, format, 0);
        let htlc = |cltv| Htlc {
            offered: true,
            amount: Msat::new(50_000_000),
            payment_hash: PaymentHash([4; 32]),
            cltv_expiry: Height::new(cltv),
        };
        random.spec.htlcs = [503, 501, 502, 501]
            .into_iter()
            .zip(0..)
            .map(|(cltv, id)| ((Side::Local, id), htlc(cltv)))
            .collect();
        let built = compare(&random);
        let tags: Vec<_> = built.htlcs.iter().map(|htlc| htlc.tag.1).collect();
        assert_eq!(tags, [1, 3, 2, 0]);
        random.spec.htlcs.reverse();
        assert_eq!(commitment::build(&random.context(), &random.spec).htlcs, built.htlcs);
    }
}

#[test]
fn scripts_are_ldks() {
    let mut dice = Dice(4_000_000);
    for format in BOTH {
        let random = Random::new(&mut dice, format, 0);
        let keys = &random.keys;
        let payment = &keys.countersigner_payment;
        assert_eq!(
            script::anchor::witness_script(payment),
            chan_utils::get_keyed_anchor_redeemscript(payment)
        );
        assert_eq!(
            script::to_remote::script_pubkey(format, payment),
            chan_utils::get_countersigner_payment_script(&random.channel_type(), payment)
        );
        assert_eq!(
            derive::per_commitment_secret(&[3; 32], 77),
            chan_utils::build_commitment_secret(&[3; 32], 77)
        );
    }
}

#[test]
fn closings_are_ldks() {
    let mut dice = Dice(5_000_000);
    for _ in 0..50 {
        let random = Random::new(&mut dice, CommitmentFormat::Anchors, 0);
        let script = |dice: &mut Dice| {
            let program = hex::encode(&dice.bytes()[..20]);
            bitcoin::ScriptBuf::from_hex(&format!("0014{program}")).unwrap()
        };
        let scripts = [script(&mut dice), script(&mut dice)];
        let share = |balance, script: &bitcoin::ScriptBuf| Share {
            balance: Msat::new(balance),
            script: script.clone(),
            omitted: false,
        };
        let (one, other) = (400_000 + dice.below(1_000) * 1_000, dice.below(1_000_000));
        let closing = build_closing(&ClosingSpec {
            method: Method::Legacy,
            funding: random.funding,
            capacity: CAPACITY,
            local: share(one, &scripts[0]),
            remote: share(other, &scripts[1]),
            fee: Sat::ZERO,
            payer: Side::Local,
            dust_limit: Sat::new(354),
        })
        .unwrap();
        let large = |msat: u64| if msat / 1_000 < 354 { 0 } else { msat / 1_000 };
        let [ours, theirs] = scripts;
        let ldk = ClosingTransaction::new(large(one), large(other), ours, theirs, random.funding);
        assert_eq!(&closing.tx, ldk.trust().built_transaction());
    }
}
