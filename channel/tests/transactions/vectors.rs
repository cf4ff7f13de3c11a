//! BOLT 3's vectors for F, C, HT and HE, byte for byte, with their signatures.

use bitcoin::consensus::encode::serialize;
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::secp256k1::{PublicKey, SecretKey};
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use fulmen_channel::amount::{FeeratePerKw, Height, Msat, Sat};
use fulmen_channel::keys::{CommitmentKeys, InMemorySigner, Inline, Secrets, Signer};
use fulmen_channel::params::{CommitmentFormat, Side};
use fulmen_channel::payment::{PaymentHash, Preimage};
use fulmen_channel::transactions::commitment::{
    self, CommitmentContext, CommitmentSpec, CommittedHtlc, Htlc, HtlcRef,
};
use fulmen_channel::transactions::{funding, weight};
use serde_json::Value;

use super::channel::second_stage;
use super::{assert_valid, bytes, bytes32, vector};

/// The two sides of the appendix, its channel and its HTLCs.
struct Appendix {
    format: CommitmentFormat,
    local: InMemorySigner,
    remote: InMemorySigner,
    point: PublicKey,
    keys: CommitmentKeys,
    params: Value,
}

fn secret(params: &Value, name: &str) -> SecretKey {
    SecretKey::from_slice(&bytes(&params["keys"][name])).unwrap()
}

fn point(params: &Value, name: &str) -> PublicKey {
    PublicKey::from_slice(&bytes(&params["keys"][name])).unwrap()
}

impl Appendix {
    fn new(format: CommitmentFormat) -> Self {
        let params = vector("bolt03-commitment")["params"].clone();
        let unused = SecretKey::from_slice(&[9; 32]).unwrap();
        let local = InMemorySigner::from_secrets(Secrets {
            funding: secret(&params, "local_funding_privkey"),
            revocation: unused,
            payment: secret(&params, "local_payment_basepoint_secret"),
            delayed_payment: secret(&params, "local_delayed_payment_basepoint_secret"),
            htlc: secret(&params, "local_payment_basepoint_secret"),
            per_commitment_seed: [0; 32],
        });
        let remote = InMemorySigner::from_secrets(Secrets {
            funding: secret(&params, "remote_funding_privkey"),
            revocation: secret(&params, "remote_revocation_basepoint_secret"),
            payment: secret(&params, "remote_payment_basepoint_secret"),
            delayed_payment: unused,
            htlc: secret(&params, "remote_payment_basepoint_secret"),
            per_commitment_seed: [0; 32],
        });
        let per_commitment = point(&params, "local_per_commitment_point");
        let (ours, theirs) = (local.basepoints(), remote.basepoints());
        let keys = CommitmentKeys::derive(&ours, &theirs, &per_commitment);
        Appendix { format, local, remote, point: per_commitment, keys, params }
    }

    fn context(&self, dust_limit: u64) -> CommitmentContext<'_> {
        let txid = self.params["funding_tx_id"].as_str().unwrap();
        CommitmentContext {
            format: self.format,
            funding: OutPoint::new(txid.parse().unwrap(), 0),
            capacity: Sat::new(self.params["funding_amount_satoshi"].as_u64().unwrap()),
            obscuring_factor: commitment::obscuring_factor(
                &self.local.basepoints().payment,
                &self.remote.basepoints().payment,
            ),
            dust_limit: Sat::new(dust_limit),
            to_self_delay: 144,
            broadcaster_pays_fee: true,
            keys: &self.keys,
        }
    }

    fn htlcs(&self, case: &str) -> Vec<(HtlcRef, Htlc)> {
        let wanted: &[u64] = match case {
            _ if case.contains("no HTLCs") => &[],
            _ if case.contains("same amount and preimage") => &[1, 5, 6],
            _ => &[0, 1, 2, 3, 4],
        };
        let all = self.params["htlcs"].as_array().unwrap();
        let one = |id: &u64| {
            let htlc = all.iter().find(|htlc| htlc["id"].as_u64() == Some(*id)).unwrap();
            let offered = htlc["direction"] == "local->remote";
            let htlc = Htlc {
                offered,
                amount: Msat::new(htlc["amount_msat"].as_u64().unwrap()),
                payment_hash: PaymentHash(bytes32(&htlc["payment_hash"])),
                cltv_expiry: Height::new(htlc["cltv_expiry"].as_u64().unwrap() as u32),
            };
            ((if offered { Side::Local } else { Side::Remote }, *id), htlc)
        };
        wanted.iter().map(one).collect()
    }

    fn preimage(&self, id: u64) -> Preimage {
        let all = self.params["htlcs"].as_array().unwrap();
        let htlc = all.iter().find(|htlc| htlc["id"].as_u64() == Some(id)).unwrap();
        Preimage(bytes32(&htlc["payment_preimage"]))
    }

    fn spec(&self, case: &Value) -> CommitmentSpec {
        let feerate = case.get("local_feerate_per_kw").unwrap_or(&case["feerate_per_kw"]);
        CommitmentSpec {
            number: self.params["commitment_number"].as_u64().unwrap(),
            feerate: FeeratePerKw::new(feerate.as_u64().unwrap() as u32),
            to_broadcaster: Msat::new(case["to_local_msat"].as_u64().unwrap()),
            to_countersigner: Msat::new(case["to_remote_msat"].as_u64().unwrap()),
            htlcs: self.htlcs(case["name"].as_str().unwrap()),
        }
    }

    /// The HTLC transaction with both signatures.
    fn signed_htlc(
        &self,
        htlc: &CommittedHtlc,
        mut tx: Transaction,
        remote: &Signature,
        local: &Signature,
    ) -> Transaction {
        let input = second_stage(self.format, htlc, &tx, remote, &self.preimage(htlc.tag.1));
        tx.input[0].witness = input.witness(local, EcdsaSighashType::All);
        tx
    }
}

fn signature(case: &Value, name: &str) -> Option<Signature> {
    case.get(name).map(|der| Signature::from_der(&bytes(der)).unwrap())
}

fn dust_limit(case: &Value) -> u64 {
    case.get("dust_limit_satoshis").map_or(546, |dust| dust.as_u64().unwrap())
}

/// Builds and signs the commitment and compares everything the case tells of it.
fn check_commitment(appendix: &Appendix, spec: &CommitmentSpec, case: &Value) {
    let name = case["name"].as_str().unwrap();
    let context = appendix.context(dust_limit(case));
    let built = commitment::build(&context, spec);
    let sighash = built.sighash(&context);
    let (local, remote) =
        (appendix.local.sign_funding(sighash), appendix.remote.sign_funding(sighash));
    let signed = built.signed(&context, &local, &remote);
    assert_eq!(hex::encode(serialize(&signed)), case["commitment_tx"].as_str().unwrap(), "{name}");
    if case.get("erratum").is_none() {
        assert_eq!(Some(remote), signature(case, "remote_signature"), "{name}");
    }
    if let Some(expected) = signature(case, "local_signature") {
        assert_eq!(local, expected, "{name}");
    }
    if let Some(fee) = case.get("actual_commitment_fee_sat") {
        assert_eq!(built.fee.sat(), fee.as_u64().unwrap(), "{name}");
    }
    if let Some(fee) = case.get("base_commitment_fee_sat") {
        let formula = weight::commitment_fee(context.format, spec.feerate, built.htlcs.len());
        assert_eq!(formula.sat(), fee.as_u64().unwrap(), "{name}");
        let available = spec.to_broadcaster.floor();
        assert_eq!(built.base_fee, formula.min(available), "{name}");
    }
    assert_eq!(commitment::number_of(&signed, context.obscuring_factor), Some(42));
    let funding = funding::output(
        &context.keys.broadcaster_funding,
        &context.keys.countersigner_funding,
        context.capacity,
    );
    assert_valid(&signed, &[funding]);
}

/// The same for its HTLC transactions.
fn check_htlcs(appendix: &Appendix, spec: &CommitmentSpec, case: &Value) {
    let context = &appendix.context(dust_limit(case));
    let built = commitment::build(context, spec);
    let expected = case["htlc_txs"].as_array().unwrap();
    assert_eq!(built.htlcs.len(), expected.len(), "{}", case["name"]);
    let hashes = built.htlc_sighashes(context, true);
    let remote = appendix.remote.sign_remote_htlcs(&appendix.point, &hashes, &Inline);
    let hashes = built.htlc_sighashes(context, false);
    let local = appendix.local.sign_remote_htlcs(&appendix.point, &hashes, &Inline);
    for (place, expected) in expected.iter().enumerate() {
        let htlc = &built.htlcs[place];
        assert_eq!(Some(remote[place]), signature(expected, "remote_htlc_signature"));
        if let Some(signature) = signature(expected, "local_htlc_signature") {
            assert_eq!(local[place], signature);
        }
        if let Some(output) = expected.get("output_index") {
            assert_eq!(u64::from(htlc.output), output.as_u64().unwrap());
        }
        if let Some(id) = expected.get("htlc") {
            assert_eq!(htlc.tag.1, id.as_u64().unwrap());
        }
        let tx = built.htlc_tx(context, htlc);
        let tx = appendix.signed_htlc(htlc, tx, &remote[place], &local[place]);
        assert_eq!(hex::encode(serialize(&tx)), expected["tx"].as_str().unwrap());
        assert_valid(&tx, &[built.tx.output[htlc.output as usize].clone()]);
    }
}

fn check_file(format: CommitmentFormat, file: &str, count: usize) {
    let appendix = Appendix::new(format);
    let vector = vector(file);
    let cases = vector["cases"].as_array().unwrap();
    assert_eq!(cases.len(), count);
    for case in cases {
        check_commitment(&appendix, &appendix.spec(case), case);
        check_htlcs(&appendix, &appendix.spec(case), case);
    }
}

#[test]
fn the_keys_of_the_appendix() {
    let appendix = Appendix::new(CommitmentFormat::Anchors);
    let key = |name| point(&appendix.params, name);
    let keys = &appendix.keys;
    assert_eq!(keys.revocation, key("local_revocation_pubkey"));
    assert_eq!(keys.delayed, key("local_delayedpubkey"));
    assert_eq!(keys.broadcaster_htlc, key("local_htlcpubkey"));
    assert_eq!(keys.countersigner_htlc, key("remote_htlcpubkey"));
    assert_eq!(keys.countersigner_payment, key("remote_payment_basepoint"));
    assert_eq!(keys.broadcaster_funding, key("local_funding_pubkey"));
    assert_eq!(keys.countersigner_funding, key("remote_funding_pubkey"));
    assert_eq!(appendix.context(546).obscuring_factor, 0x2bb0_3852_1914);
    assert_eq!(
        hex::encode(appendix.context(546).funding_script()),
        appendix.params["funding_witness_script"].as_str().unwrap()
    );
}

#[test]
fn commitments_with_static_remotekey() {
    check_file(CommitmentFormat::StaticRemoteKey, "bolt03-commitment", 16);
}

#[test]
fn commitments_with_anchors() {
    check_file(CommitmentFormat::Anchors, "bolt03-commitment-anchors", 9);
}

#[test]
fn commitments_with_anchors_and_local_signatures() {
    check_file(CommitmentFormat::Anchors, "bolt03-commitment-anchors-eclair-text", 10);
}

/// The withdrawn format whose HTLC transactions had a fee: its commitments are ours once the HTLCs
/// it trimmed are left out, and without a feerate its HTLC transactions are ours too.
#[test]
fn commitments_with_anchors_of_the_withdrawn_kind() {
    let appendix = Appendix::new(CommitmentFormat::Anchors);
    let vector = vector("bolt03-commitment-anchors-legacy-fee");
    let cases = vector["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 17);
    for case in cases {
        let mut spec = appendix.spec(case);
        let feerate = u64::from(spec.feerate.per_kw());
        spec.htlcs.retain(|(_, htlc)| {
            let weight = if htlc.offered { 666 } else { 706 };
            htlc.amount.floor().sat() >= 546 + feerate * weight / 1000
        });
        check_commitment(&appendix, &spec, case);
        if feerate == 0 {
            check_htlcs(&appendix, &spec, case);
        }
    }
}

/// F of Appendix B, signed and accepted; its wallet side is the vector's, its output ours.
#[test]
fn the_funding_transaction_of_the_appendix() {
    let vector = vector("bolt03-funding");
    let case = &vector["cases"][0];
    let key = |name: &str| PublicKey::from_slice(&bytes(&case[name])).unwrap();
    let (local, remote) = (key("local_funding_pubkey"), key("remote_funding_pubkey"));
    let script = funding::funding_script(&remote, &local);
    assert_eq!(hex::encode(&script), case["funding_witness_script"].as_str().unwrap());

    let expected: Transaction =
        bitcoin::consensus::deserialize(&bytes(&case["funding_tx"])).unwrap();
    let capacity = Sat::new(case["funding_satoshis"].as_u64().unwrap());
    let output = funding::output(&local, &remote, capacity);
    let place = funding::find(&expected, &output).unwrap();
    assert_eq!(place.txid.to_string(), case["funding_txid"].as_str().unwrap());
    assert_eq!(u64::from(place.vout), case["funding_output"].as_u64().unwrap());

    let input_txid = case["input_txid"].as_str().unwrap().parse().unwrap();
    let change = expected.output[1].script_pubkey.clone();
    let ours = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(input_txid, 0),
            script_sig: expected.input[0].script_sig.clone(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![
            output,
            TxOut {
                value: Amount::from_sat(case["change_satoshis"].as_u64().unwrap()),
                script_pubkey: change,
            },
        ],
    };
    assert_eq!(hex::encode(serialize(&ours)), case["funding_tx"].as_str().unwrap());
    let coinbase: Transaction =
        bitcoin::consensus::deserialize(&bytes(&case["block1_coinbase_tx"])).unwrap();
    assert_valid(&ours, &coinbase.output);
    let nowhere = TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new() };
    assert_eq!(funding::find(&ours, &nowhere), None);
}
