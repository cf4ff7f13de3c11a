//! From a draft to a signed transaction, and to the version that it is then. The wallet's coins are
//! the wallet's to sign.

use super::plan::Draft;
use super::version::Version;
use super::wanted::Wanted;
use bitcoin::{OutPoint, ScriptBuf, Transaction};
use fulmen_channel::keys::{InMemorySigner, Inline};
use fulmen_channel::onchain::published::Published;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The commitment that each claim is on.
pub type Commitments = BTreeMap<OutPoint, Arc<Published>>;

impl Draft {
    /// The claims that it takes, in the order of its inputs.
    pub fn taken<'a>(&self, wanted: &'a [Wanted]) -> Vec<&'a Wanted> {
        let find = |outpoint: &OutPoint| wanted.iter().find(|w| w.outpoint() == *outpoint);
        self.claims.iter().filter_map(find).collect()
    }

    /// It with its claims signed, by the `signer` of each channel; what is left goes to `rest`.
    ///
    /// # Errors
    /// The claim that cannot be signed: it is on no commitment of `on`.
    pub fn sign(
        &self,
        rest: Option<ScriptBuf>,
        taken: &[&Wanted],
        on: &Commitments,
        signer: impl Fn(u64) -> InMemorySigner,
    ) -> Result<Transaction, OutPoint> {
        let mut tx = self.built.tx.clone();
        let place = self.built.rest.and_then(|rest| usize::try_from(rest).ok());
        let output = place.and_then(|place| tx.output.get_mut(place));
        if let (Some(output), Some(script)) = (output, rest) {
            output.script_pubkey = script;
        }
        for (input, wanted) in taken.iter().enumerate() {
            let signer = signer(wanted.channel);
            let signs =
                |on: &Arc<Published>| wanted.claim.sign(on, &mut tx, input, (&signer, &Inline));
            if !on.get(&wanted.outpoint()).is_some_and(signs) {
                return Err(wanted.outpoint());
            }
        }
        Ok(tx)
    }

    /// What it is once signed as `tx`.
    pub fn into_version(self, tx: Transaction, taken: &[&Wanted]) -> Version {
        let parent = taken.first().and_then(|wanted| wanted.parent.as_ref());
        Version {
            tx,
            fee: self.built.fee,
            weight: self.built.weight,
            claims: taken.iter().map(|wanted| (wanted.channel, wanted.outpoint())).collect(),
            coins: self.built.coins,
            rest: self.built.rest,
            parent: parent.map(|parent| parent.tx.clone()),
            since: self.since,
            start: self.start,
            attempts: self.attempts,
        }
    }
}
