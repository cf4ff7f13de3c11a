//! The daemon's database: damaged, its log too that a kill left, or in use by another daemon.

use std::path::Path;

use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::Result;
use fulmen_itest::fixture::{tells, Fixture};
use fulmen_itest::regtest::{Cluster, Daemon};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::two_daemons::both_agree;

const NETWORK_DIR: &str = "data/chain/bitcoin/regtest";
const FLIPS: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_is_refused_untouched() -> Result<()> {
    let seed = rand::thread_rng().gen();
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let fixture = Fixture::of("v0.1.0");
    let alice = fixture.daemon(&fixture.bitcoind()?, "alice")?;
    alice.starts().await?;
    let told = tells(&alice).await?;
    alice.stops().await?;
    let path = alice.dir().join(NETWORK_DIR).join("fulmen.db");
    let good = std::fs::read(&path)?;

    let foreign = [&b"SQLite format 4\0"[..], &good[16..]].concat();
    for bytes in [&good[..good.len() / 2], &good[..100], &[], b"not a database", &foreign] {
        assert!(!runs_on(&alice, &path, bytes).await?, "{} bytes", bytes.len());
    }
    // Not every byte matters: a page has room that holds nothing.
    let mut refused = 0;
    for flip in 0..FLIPS {
        let mut bytes = good.clone();
        let at = match flip % 3 {
            0 => random.gen_range(0..100),
            1 => random.gen_range(0..good.len() / 4096) * 4096 + random.gen_range(0..16),
            _ => random.gen_range(0..good.len()),
        };
        bytes[at] ^= 1 << random.gen_range(0..8);
        eprintln!("byte {at}");
        match runs_on(&alice, &path, &bytes).await? {
            true => {
                assert_eq!(tells(&alice).await?, told, "byte {at}");
                alice.stops().await?;
            }
            false => refused += 1,
        }
    }
    assert!(refused >= FLIPS / 4, "only {refused} of {FLIPS} refused");
    assert!(runs_on(&alice, &path, &good).await?);
    assert_eq!(tells(&alice).await?, told);
    Ok(())
}

/// Whether alice runs on a file of these bytes. If not, she says why and has left it as it was.
async fn runs_on(alice: &Daemon, path: &Path, bytes: &[u8]) -> Result<bool> {
    std::fs::write(path, bytes)?;
    let before = alice.wrote()?.len();
    alice.spawn()?;
    let look = async || match (alice.info().await.is_ok(), alice.runs()) {
        (false, true) => Ok(None),
        (answers, _) => Ok(Some(answers)),
    };
    if alice.until("it answers or ends", look).await? {
        return Ok(true);
    }
    assert!(!alice.ends()?, "exit code");
    let wrote = alice.wrote()?.split_off(before);
    assert!(wrote.contains("fulmen.db"), "{wrote}");
    let why = ["is damaged and was left untouched", "cannot use the database", "schema version"];
    assert!(why.iter().any(|why| wrote.contains(why)), "{wrote}");
    assert!(std::fs::read(path)? == bytes, "touched");
    Ok(false)
}

/// kill -9 leaves the last commits in the write-ahead log, and a power cut part of one more.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_that_a_kill_left_is_read_whole_or_refused() -> Result<()> {
    let seed = rand::thread_rng().gen();
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let cluster = Cluster::start()?;
    let (alice, bob, _) = cluster.pair(Sat::new(1_000_000)).await?;
    // A new log, which holds nothing but what follows.
    alice.stops().await?;
    alice.starts().await?;
    alice.active_channel(bob.id()?).await?;
    for _ in 0..5 {
        alice.pays(&bob, Msat::new(10_000_000)).await?;
    }
    both_agree(&alice, &bob).await?;
    let told = tells(&alice).await?;
    alice.killed();
    let path = alice.dir().join(NETWORK_DIR).join("fulmen.db");
    let log = path.with_extension("db-wal");
    let (file, good) = (std::fs::read(&path)?, std::fs::read(&log)?);
    assert!(good.len() > 20 * 4096, "nothing much is in a log of {} bytes", good.len());

    for _ in 0..FLIPS / 3 {
        // Many commits follow.
        let at = random.gen_range(0..good.len() / 2);
        let mut bytes = good.clone();
        bytes[at] ^= 1 << random.gen_range(0..8);
        std::fs::write(&log, &bytes)?;
        let before = alice.wrote()?.len();
        alice.spawn()?;
        assert!(!alice.ends()?, "byte {at}: exit code");
        let wrote = alice.wrote()?.split_off(before);
        for says in ["fulmen.db is damaged and was left untouched", "of its log was altered"] {
            assert!(wrote.contains(says), "byte {at}: no `{says}` in {wrote}");
        }
        let untouched = std::fs::read(&path)? == file && std::fs::read(&log)? == bytes;
        assert!(untouched, "byte {at}: touched");
    }
    let torn = [&good[..], &random.gen::<[u8; 32]>().repeat(60)].concat();
    std::fs::write(&log, torn)?;
    alice.starts().await?;
    assert_eq!(tells(&alice).await?, told);
    alice.active_channel(bob.id()?).await?;
    alice.pays(&bob, Msat::new(5_000)).await?;
    both_agree(&alice, &bob).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_on_the_same_directory_is_refused() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob, _) = cluster.pair(Sat::new(1_000_000)).await?;
    let same = format!("--fulmendir={}", alice.dir().display());
    let second = Daemon::new(cluster.bitcoind(), "second", &[&same])?;
    second.spawn()?;
    assert!(!second.ends()?, "exit code");
    assert!(second.wrote()?.contains("is in use by another fulmend"), "{}", second.wrote()?);
    alice.pays(&bob, Msat::new(5_000)).await?;
    both_agree(&alice, &bob).await
}
