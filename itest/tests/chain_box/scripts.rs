//! The table of scripts: what inputs must show.

use bitcoin::hashes::Hash;
use bitcoin::key::{Keypair, TapTweak};
use bitcoin::opcodes::all::{OP_CHECKSIG, OP_CLTV, OP_CSV, OP_DROP};
use bitcoin::opcodes::{OP_FALSE, OP_TRUE};
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::{ecdsa, Message, Scalar, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{
    absolute, consensus, Amount, Script, ScriptBuf, Sequence, Transaction, TxOut, Witness,
};
use fulmen_itest::failure::Result;

use super::beside::{anybody, changed, Beside, Coin};

/// Pays a coin of a witness script, showing these items before the script.
fn shows(coin: Coin, script: &Script, items: &[&[u8]], sequence: Sequence) -> Transaction {
    changed(coin, 1_000, |tx| {
        tx.input[0].sequence = sequence;
        let mut witness = Witness::from_slice(items);
        witness.push(script.as_bytes());
        tx.input[0].witness = witness;
    })
}

const FAILS: &str = "-26 script-verify-flag";

#[test]
fn witness_scripts() -> Result<()> {
    let mut both = Beside::start()?;
    let any = Sequence::ENABLE_RBF_NO_LOCKTIME;
    let coin = both.coin();
    let wrong = changed(coin, 1_000, |tx| tx.input[0].witness = Witness::from_slice(&[[0x52]]));
    both.row("another script", &wrong, FAILS);
    let none = changed(coin, 1_000, |tx| tx.input[0].witness.clear());
    both.row("no witness", &none, FAILS);

    let script = Builder::new().push_opcode(OP_FALSE).into_script();
    let coin = both.coin_for(&script.to_p2wsh())?;
    both.row("false", &shows(coin, &script, &[], any), FAILS);
    let script = Builder::new().push_opcode(OP_TRUE).push_opcode(OP_TRUE).into_script();
    let coin = both.coin_for(&script.to_p2wsh())?;
    both.row("more than true", &shows(coin, &script, &[], any), FAILS);

    let script = Builder::new().push_int(3).push_opcode(OP_CSV).into_script();
    let coin = both.coin_for(&script.to_p2wsh())?;
    let after = |blocks| shows(coin, &script, &[], Sequence::from_height(blocks));
    both.row("CSV: says less than it must", &after(1), FAILS);
    both.row("CSV: too young", &after(3), "-26 non-BIP68-final");
    both.mine(2)?;
    both.row("CSV: old enough", &after(3), "");
    let tall = i64::from(both.chain_box.chain().height().number()) + 3;
    let script = Builder::new().push_int(tall).push_opcode(OP_CLTV).into_script();
    let coin = both.coin_for(&script.to_p2wsh())?;
    let from = |height: i64| {
        let mut tx = shows(coin, &script, &[], any);
        tx.lock_time = absolute::LockTime::from_consensus(u32::try_from(height).unwrap());
        tx
    };
    both.row("CLTV: says less than it must", &from(tall - 2), FAILS);
    both.row("CLTV: too early", &from(tall), "-26 non-final");
    both.mine(2)?;
    both.row("CLTV: late enough", &from(tall), "");

    let script = Builder::new().push_opcode(OP_DROP).push_opcode(OP_TRUE).into_script();
    let coin = both.coin_for(&script.to_p2wsh())?;
    both.row("a long item", &shows(coin, &script, &[&[1; 81]], any), "-26 bad-witness-nonstandard");
    both.row("one just not too long", &shows(coin, &script, &[&[1; 80]], any), "");
    let coin = both.coin_for(&anybody())?;
    let bare = changed(coin, 1_000, |tx| tx.input[0].witness.clear());
    both.row("a bare script of no kind", &bare, "-26 bad-txns-nonstandard-inputs");
    let coin = both.coin_for(&anybody().to_p2sh())?;
    let nested = changed(coin, 1_000, |tx| {
        tx.input[0].witness.clear();
        tx.input[0].script_sig =
            Builder::new().push_slice(PushBytesBuf::from([0x51])).into_script();
    });
    both.row("p2sh", &nested, "");
    both.agree(14)
}

#[test]
fn signatures() -> Result<()> {
    let mut both = Beside::start()?;
    let curve = Secp256k1::new();
    let key = SecretKey::from_slice(&[7; 32])?;
    let public = bitcoin::PublicKey::new(key.public_key(&curve));

    let script = ScriptBuf::new_p2wpkh(&public.wpubkey_hash()?);
    let coin = both.coin_for(&script)?;
    let mut tx = changed(coin, 1_000, |_| {});
    let all = EcdsaSighashType::All;
    let hash = SighashCache::new(&tx).p2wpkh_signature_hash(0, &script, Amount::ONE_BTC, all)?;
    let low = curve.sign_ecdsa(&Message::from(hash), &key);
    let wrong = curve.sign_ecdsa(&Message::from_digest([3; 32]), &key);
    for (what, signature, says) in [
        ("of something else", wrong, FAILS),
        ("with a high S", high(low)?, FAILS),
        ("as it should be", low, ""),
    ] {
        let signature = bitcoin::ecdsa::Signature { signature, sighash_type: all };
        tx.input[0].witness = Witness::p2wpkh(&signature, &public.inner);
        both.row(&format!("p2wpkh, a signature {what}"), &tx, says);
    }

    let pair = Keypair::from_secret_key(&curve, &key);
    let script = ScriptBuf::new_p2tr(&curve, pair.x_only_public_key().0, None);
    let coin = both.coin_for(&script)?;
    let mut tx = changed(coin, 1_000, |_| {});
    let spent = [TxOut { value: Amount::ONE_BTC, script_pubkey: script }];
    let default = TapSighashType::Default;
    let hash = SighashCache::new(&tx).taproot_key_spend_signature_hash(
        0,
        &Prevouts::All(&spent),
        default,
    )?;
    let tweaked = pair.tap_tweak(&curve, None).to_keypair();
    let good = curve.sign_schnorr_no_aux_rand(&Message::from(hash), &tweaked);
    let untweaked = curve.sign_schnorr_no_aux_rand(&Message::from(hash), &pair);
    for (what, signature, says) in [("untweaked", untweaked, FAILS), ("right", good, "")] {
        let signature = bitcoin::taproot::Signature { signature, sighash_type: default };
        tx.input[0].witness = Witness::p2tr_key_spend(&signature);
        both.row(&format!("p2tr, a key that is {what}"), &tx, says);
    }

    let script = Builder::new().push_key(&public).push_opcode(OP_CHECKSIG).into_script();
    let coin = both.coin_for(&script)?;
    let mut tx = changed(coin, 1_000, |tx| tx.input[0].witness.clear());
    let hash = SighashCache::new(&tx).legacy_signature_hash(0, &script, all.to_u32())?;
    let signature = curve.sign_ecdsa(&Message::from_digest(hash.to_byte_array()), &key);
    let signature = bitcoin::ecdsa::Signature { signature, sighash_type: all };
    tx.input[0].script_sig = Builder::new().push_slice(signature.serialize()).into_script();
    both.row("p2pk", &tx, "");
    assert_eq!(consensus::serialize(&tx).len(), tx.base_size());
    both.agree(6)
}

/// The same signature with the other S, which the curve takes and relay does not.
fn high(low: ecdsa::Signature) -> Result<ecdsa::Signature> {
    let mut bytes = low.serialize_compact();
    let s = SecretKey::from_slice(&bytes[32..])?.negate();
    bytes[32..].copy_from_slice(&Scalar::from(s).to_be_bytes());
    Ok(ecdsa::Signature::from_compact(&bytes)?)
}
