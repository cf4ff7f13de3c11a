//! How much a commitment costs beyond the curve work that nobody can avoid: the time to build, sign
//! and check one with 0, 10 and 483 HTLCs, as a multiple of the bare secp256k1 operations in it.
//!
//! Each run of ours is followed by one of the bare operations, and the middle one of all their
//! ratios is printed, so that a busy machine disturbs both alike.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, missing_docs)]

use bitcoin::secp256k1::{ecdsa::Signature, All, Message, PublicKey, Scalar, Secp256k1, SecretKey};
use bitcoin::OutPoint;
use criterion::{criterion_group, criterion_main, Criterion};
use fulmen_channel::amount::{FeeratePerKw, Height, Msat, Sat};
use fulmen_channel::keys::curve::{Curve, VerifyJob};
use fulmen_channel::keys::{CommitmentKeys, InMemorySigner, Inline, Signer};
use fulmen_channel::params::{CommitmentFormat, Side};
use fulmen_channel::payment::Preimage;
use fulmen_channel::transactions::commitment::{
    self, CommitmentContext, CommitmentSpec, CommitmentTx, Htlc,
};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// A channel with so many HTLCs, and what is signed and checked in its commitment.
struct Bench {
    broadcaster: InMemorySigner,
    countersigner: InMemorySigner,
    point: PublicKey,
    spec: CommitmentSpec,
    signatures: Vec<Signature>,
    bare: Bare,
}

/// The curve work alone, on prepared values.
struct Bare {
    secp: Secp256k1<All>,
    secret: SecretKey,
    key: PublicKey,
    tweak: Scalar,
    signed: Vec<(Message, Signature)>,
}

impl Bench {
    fn new(htlcs: u32) -> Self {
        let broadcaster = InMemorySigner::from_seed([1; 32]);
        let countersigner = InMemorySigner::from_seed([2; 32]);
        let htlc = |id: u32| {
            let offered = id % 2 == 0;
            let htlc = Htlc {
                offered,
                amount: Msat::new(1_000_000 + u64::from(id) * 7_919_000 % 1_000_000),
                payment_hash: Preimage([u8::try_from(id % 251).unwrap(); 32]).hash(),
                cltv_expiry: Height::new(900_000 + id),
            };
            ((if offered { Side::Local } else { Side::Remote }, u64::from(id)), htlc)
        };
        let spec = CommitmentSpec {
            number: 42,
            feerate: FeeratePerKw::FLOOR,
            to_broadcaster: Msat::new(4_000_000_000),
            to_countersigner: Msat::new(5_000_000_000),
            htlcs: (0..htlcs).map(htlc).collect(),
        };
        let bare = Bare::new(htlcs + 1);
        let point = broadcaster.per_commitment_point(42);
        let signatures = Vec::new();
        let mut bench = Bench { broadcaster, countersigner, point, spec, signatures, bare };
        bench.signatures = bench.build_and_sign();
        bench
    }

    fn keys(&self) -> CommitmentKeys {
        let (ours, theirs) = (self.broadcaster.basepoints(), self.countersigner.basepoints());
        CommitmentKeys::derive(&ours, &theirs, &self.point)
    }

    fn build<'a>(&self, keys: &'a CommitmentKeys) -> (CommitmentContext<'a>, CommitmentTx) {
        let context = CommitmentContext {
            format: CommitmentFormat::Anchors,
            funding: OutPoint::null(),
            capacity: Sat::new(10_000_000),
            obscuring_factor: 0x2bb0_3852_1914,
            dust_limit: Sat::new(354),
            to_self_delay: 144,
            broadcaster_pays_fee: true,
            keys,
        };
        let built = commitment::build(&context, &self.spec);
        assert_eq!(built.htlcs.len(), self.spec.htlcs.len(), "none is trimmed");
        (context, built)
    }

    /// What the countersigner does for commitment_signed: its signature, then the HTLCs'.
    fn build_and_sign(&self) -> Vec<Signature> {
        let keys = self.keys();
        let (context, built) = self.build(&keys);
        let hashes = built.htlc_sighashes(&context, true);
        let mut signatures = vec![self.countersigner.sign_funding(built.sighash(&context))];
        signatures.extend(self.countersigner.sign_remote_htlcs(&self.point, &hashes, &Inline));
        signatures
    }

    /// What the broadcaster does when it comes.
    fn build_and_verify(&self) {
        let keys = self.keys();
        let (context, built) = self.build(&keys);
        let commitment = (keys.countersigner_funding, built.sighash(&context));
        let hashes = built.htlc_sighashes(&context, true);
        let htlcs = hashes.into_iter().map(|hash| (keys.countersigner_htlc, hash));
        let jobs: Vec<_> = [commitment]
            .into_iter()
            .chain(htlcs)
            .zip(&self.signatures)
            .map(|((key, sighash), signature)| VerifyJob { key, sighash, signature: *signature })
            .collect();
        Inline.verify(&jobs).unwrap();
    }
}

impl Bare {
    fn new(signatures: u32) -> Self {
        let secp = Secp256k1::new();
        let secret = SecretKey::from_slice(&[3; 32]).unwrap();
        let signed = |number: u32| {
            let mut digest = [0; 32];
            digest[..4].copy_from_slice(&number.to_be_bytes());
            let message = Message::from_digest(digest);
            (message, secp.sign_ecdsa(&message, &secret))
        };
        let signed = (0..signatures).map(signed).collect();
        let tweak = Scalar::from_be_bytes([4; 32]).unwrap();
        Bare { key: secret.public_key(&secp), secp, secret, tweak, signed }
    }

    /// The keys of a commitment: a revocation key and three derived ones.
    fn derive(&self) {
        let revocation = black_box(&self.key).mul_tweak(&self.secp, &self.tweak).unwrap();
        black_box(black_box(&self.key).mul_tweak(&self.secp, &self.tweak).unwrap());
        black_box(revocation.combine(&self.key).unwrap());
        for _ in 0..3 {
            black_box(black_box(&self.key).add_exp_tweak(&self.secp, &self.tweak).unwrap());
        }
    }

    fn sign(&self) {
        self.derive();
        for (message, _) in &self.signed {
            black_box(self.secp.sign_ecdsa(black_box(message), &self.secret));
        }
    }

    fn verify(&self) {
        self.derive();
        for (message, signature) in &self.signed {
            self.secp.verify_ecdsa(black_box(message), signature, &self.key).unwrap();
        }
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Has criterion time `ours`, with `bare` beside it; gives the middle ratio of the two.
fn measure(criterion: &mut Criterion, name: &str, ours: impl Fn(), bare: impl Fn()) -> f64 {
    let mut ratios = Vec::new();
    criterion.bench_function(name, |bencher| {
        bencher.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                let time = timed(&ours);
                ratios.push(time.as_secs_f64() / timed(&bare).as_secs_f64());
                total += time;
            }
            total
        });
    });
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
}

fn commitments(criterion: &mut Criterion) {
    let mut lines = Vec::new();
    for htlcs in [0, 10, 483] {
        let bench = Bench::new(htlcs);
        let sign = || {
            black_box(bench.build_and_sign());
        };
        let verify = || bench.build_and_verify();
        let (bare_sign, bare_verify) = (|| bench.bare.sign(), || bench.bare.verify());
        let name = |what: &str| format!("{what}, {htlcs} HTLCs");
        let signing = measure(criterion, &name("build and sign"), sign, bare_sign);
        let checking = measure(criterion, &name("build and verify"), verify, bare_verify);
        let ours = || {
            sign();
            verify();
        };
        let bare = || {
            bare_sign();
            bare_verify();
        };
        let all = measure(criterion, &name("both"), ours, bare);
        lines.push(format!("| {htlcs} | {signing:.2} | {checking:.2} | {all:.2} |"));
    }
    println!("As a multiple of the bare secp256k1 operations:\n");
    println!("| HTLCs | build and sign | build and verify | both |\n|---|---|---|---|");
    println!("{}", lines.join("\n"));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).without_plots();
    targets = commitments
}
criterion_main!(benches);
