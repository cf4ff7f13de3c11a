//! A channel between two signers, as far as transactions go: what the stories here play with.

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut};
use fulmen_channel::amount::{FeeratePerKw, Height, Msat, Sat};
use fulmen_channel::keys::{CommitmentKeys, InMemorySigner, Inline, Signer};
use fulmen_channel::params::{CommitmentFormat, Side};
use fulmen_channel::payment::Preimage;
use fulmen_channel::transactions::commitment::{
    self, CommitmentContext, CommitmentSpec, CommitmentTx, CommittedHtlc, Htlc,
};
use fulmen_channel::transactions::spend::Spend;
use fulmen_channel::transactions::{funding, htlc_success, htlc_timeout};

pub const BOTH: [CommitmentFormat; 2] =
    [CommitmentFormat::StaticRemoteKey, CommitmentFormat::Anchors];
pub const CAPACITY: Sat = Sat::new(1_000_000);
pub const FEERATE: FeeratePerKw = FeeratePerKw::new(1_000);
pub const DELAY: u16 = 144;
pub const PREIMAGE: Preimage = Preimage([7; 32]);
pub const EXPIRY: Height = Height::new(500_123);

/// A channel seen from the commitments of one side, the broadcaster, who also funded it.
pub struct Channel {
    pub format: CommitmentFormat,
    pub broadcaster: InMemorySigner,
    pub countersigner: InMemorySigner,
    pub funding: Transaction,
}

/// One of its commitments, with all that was signed for it.
pub struct Signed {
    pub keys: CommitmentKeys,
    pub built: CommitmentTx,
    pub tx: Transaction,
    pub second_stage: Vec<Transaction>,
}

impl Channel {
    pub fn new(format: CommitmentFormat) -> Self {
        let broadcaster = InMemorySigner::from_seed([1; 32]);
        let countersigner = InMemorySigner::from_seed([2; 32]);
        let (one, other) = (broadcaster.basepoints().funding, countersigner.basepoints().funding);
        let funding = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: Vec::new(),
            output: vec![funding::output(&one, &other, CAPACITY)],
        };
        Channel { format, broadcaster, countersigner, funding }
    }

    pub fn keys(&self, number: u64) -> CommitmentKeys {
        let point = self.broadcaster.per_commitment_point(number);
        let (ours, theirs) = (self.broadcaster.basepoints(), self.countersigner.basepoints());
        CommitmentKeys::derive(&ours, &theirs, &point)
    }

    pub fn obscuring_factor(&self) -> u64 {
        let (ours, theirs) = (self.broadcaster.basepoints(), self.countersigner.basepoints());
        commitment::obscuring_factor(&ours.payment, &theirs.payment)
    }

    pub fn context<'a>(&self, keys: &'a CommitmentKeys) -> CommitmentContext<'a> {
        CommitmentContext {
            format: self.format,
            funding: OutPoint::new(self.funding.compute_txid(), 0),
            capacity: CAPACITY,
            obscuring_factor: self.obscuring_factor(),
            dust_limit: Sat::new(354),
            to_self_delay: DELAY,
            broadcaster_pays_fee: true,
            keys,
        }
    }

    /// Builds commitment `number`; both sides sign it and its HT and HE.
    pub fn commit(&self, number: u64, spec: &CommitmentSpec) -> Signed {
        let keys = self.keys(number);
        let context = self.context(&keys);
        let built = commitment::build(&context, &CommitmentSpec { number, ..spec.clone() });
        let sighash = built.sighash(&context);
        let (ours, theirs) =
            (self.broadcaster.sign_funding(sighash), self.countersigner.sign_funding(sighash));
        let tx = built.signed(&context, &ours, &theirs);
        let point = self.broadcaster.per_commitment_point(number);
        let hashes = built.htlc_sighashes(&context, true);
        let theirs = self.countersigner.sign_remote_htlcs(&point, &hashes, &Inline);
        let hashes = built.htlc_sighashes(&context, false);
        let second_stage = (built.htlcs.iter().zip(hashes).zip(theirs))
            .map(|((htlc, hash), theirs)| {
                let mut tx = built.htlc_tx(&context, htlc);
                let ours = self.broadcaster.sign_local_htlc(number, hash);
                let input = second_stage(self.format, htlc, &tx, &theirs, &PREIMAGE);
                tx.input[0].witness = input.witness(&ours, EcdsaSighashType::All);
                tx
            })
            .collect();
        Signed { built, tx, second_stage, keys }
    }
}

/// The input of HT or HE, which `tx` is.
pub fn second_stage(
    format: CommitmentFormat,
    committed: &CommittedHtlc,
    tx: &Transaction,
    countersigner: &Signature,
    preimage: &Preimage,
) -> Spend {
    let (htlc, script) = (&committed.htlc, committed.script.clone());
    let output = tx.input[0].previous_output;
    match htlc.offered {
        true => htlc_timeout::spend(format, htlc, script, output, countersigner),
        false => htlc_success::spend(format, htlc, script, output, countersigner, preimage),
    }
}

impl Signed {
    pub fn outpoint(&self, output: u32) -> OutPoint {
        OutPoint::new(self.built.txid, output)
    }
    pub fn output(&self, output: u32) -> TxOut {
        self.tx.output[output as usize].clone()
    }
    pub fn value(&self, output: u32) -> Sat {
        self.output(output).value.into()
    }
    /// The HTLC that the broadcaster offered, or the one it received.
    pub fn htlc(&self, offered: bool) -> &CommittedHtlc {
        self.built.htlcs.iter().find(|htlc| htlc.htlc.offered == offered).unwrap()
    }
    /// HT or HE of that HTLC.
    pub fn second_stage(&self, offered: bool) -> &Transaction {
        let place = self.built.htlcs.iter().position(|htlc| htlc.htlc.offered == offered);
        &self.second_stage[place.unwrap()]
    }
}

/// A state with something for everybody: both balances, an HTLC each way, one too small.
pub fn full_spec() -> CommitmentSpec {
    let htlc = |offered, sat: u64| Htlc {
        offered,
        amount: Msat::new(sat * 1_000),
        payment_hash: PREIMAGE.hash(),
        cltv_expiry: EXPIRY,
    };
    CommitmentSpec {
        number: 0,
        feerate: FEERATE,
        to_broadcaster: Msat::new(549_900_000),
        to_countersigner: Msat::new(400_000_000),
        htlcs: vec![
            ((Side::Local, 0), htlc(true, 20_000)),
            ((Side::Remote, 0), htlc(false, 30_000)),
            ((Side::Local, 1), htlc(true, 100)),
        ],
    }
}

/// Where claims are paid.
pub fn destination() -> ScriptBuf {
    ScriptBuf::from_hex("00141ca1cca8855bad6bc1ea5436edd8cff10b7e448b").unwrap()
}
