//! Signing the inputs that spend our coins.

use super::keychain::{Accounts, Keychain};
use super::{Wallet, WalletError};
use crate::keys::Purpose;
use bitcoin::key::{CompressedPublicKey, Keypair, TapTweak};
use bitcoin::secp256k1::Message;
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut, Witness};
use std::collections::BTreeMap;

/// Why a transaction cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// A taproot signature commits to every spent output.
    #[error("cannot sign: the output {0}, which the transaction spends too, is not known")]
    UnknownOutput(OutPoint),
    /// The transaction and its inputs do not fit together.
    #[error("cannot sign: {0}")]
    Sighash(String),
    /// The keys.
    #[error(transparent)]
    Wallet(#[from] WalletError),
}

impl Accounts {
    /// The p2wkh script of a key; in nested outputs, the redeem script.
    pub fn witness_program(
        &self,
        keychain: Keychain,
        index: u32,
    ) -> Result<ScriptBuf, WalletError> {
        let key = self.key(keychain, index)?.public_key(&self.secp);
        Ok(ScriptBuf::new_p2wpkh(&CompressedPublicKey(key).wpubkey_hash()))
    }
}

impl Wallet {
    /// Signs every input that spends an output of ours, and returns how many those are; the
    /// others are left as they are. `others` are the outputs that those spend, needed only when
    /// an input of ours is taproot.
    pub fn sign(
        &self,
        tx: &mut Transaction,
        others: &BTreeMap<OutPoint, TxOut>,
    ) -> Result<usize, SignError> {
        let ours: Vec<_> = (tx.input.iter().enumerate())
            .filter_map(|(number, input)| {
                let ((keychain, index), output) = self.graph.index.txout(input.previous_output)?;
                Some((number, keychain, index, output.clone()))
            })
            .collect();
        for (number, keychain, index, output) in &ours {
            let (number, index) = (*number, *index);
            let witness = match keychain.purpose {
                Purpose::Taproot => self.sign_taproot(tx, others, number, *keychain, index)?,
                Purpose::WitnessKeyHash | Purpose::NestedWitnessKeyHash => {
                    self.sign_key_hash(tx, number, *keychain, index, output)?
                }
            };
            if let Some(input) = tx.input.get_mut(number) {
                input.witness = witness;
            }
        }
        Ok(ours.len())
    }

    fn sign_key_hash(
        &self,
        tx: &Transaction,
        number: usize,
        keychain: Keychain,
        index: u32,
        output: &TxOut,
    ) -> Result<Witness, SignError> {
        let program = self.accounts.witness_program(keychain, index)?;
        let sighash_type = EcdsaSighashType::All;
        let sighash = SighashCache::new(tx)
            .p2wpkh_signature_hash(number, &program, output.value, sighash_type)
            .map_err(|e| SignError::Sighash(e.to_string()))?;
        let secret = self.accounts.key(keychain, index)?;
        // A low R makes the weight certain.
        let signature = self.accounts.secp.sign_ecdsa_low_r(&Message::from(sighash), &secret);
        let signature = bitcoin::ecdsa::Signature { signature, sighash_type };
        Ok(Witness::p2wpkh(&signature, &secret.public_key(&self.accounts.secp)))
    }

    fn sign_taproot(
        &self,
        tx: &Transaction,
        others: &BTreeMap<OutPoint, TxOut>,
        number: usize,
        keychain: Keychain,
        index: u32,
    ) -> Result<Witness, SignError> {
        let mut spent = Vec::new();
        for input in &tx.input {
            let outpoint = input.previous_output;
            let own = self.graph.index.txout(outpoint).map(|(_, output)| output);
            let output = own.or_else(|| others.get(&outpoint));
            spent.push(output.ok_or(SignError::UnknownOutput(outpoint))?);
        }
        let sighash_type = TapSighashType::Default;
        let sighash = SighashCache::new(tx)
            .taproot_key_spend_signature_hash(number, &Prevouts::All(&spent), sighash_type)
            .map_err(|e| SignError::Sighash(e.to_string()))?;
        let secp = &self.accounts.secp;
        let secret = self.accounts.key(keychain, index)?;
        let tweaked = Keypair::from_secret_key(secp, &secret).tap_tweak(secp, None).to_keypair();
        let signature = secp.sign_schnorr_no_aux_rand(&Message::from(sighash), &tweaked);
        Ok(Witness::p2tr_key_spend(&bitcoin::taproot::Signature { signature, sighash_type }))
    }
}
