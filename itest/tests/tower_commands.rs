//! Watchtowers by command: added while the daemon runs, listed, left and taken up again over
//! restarts; what each covers; and the tower within a daemon.

use std::time::Duration;

use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::{Failure, Result};
use fulmen_itest::port::Port;
use fulmen_itest::regtest::{Cluster, Daemon};
use fulmen_itest::tower::Tower;
use fulmen_itest::wait;
use serde_json::Value;

use crate::command_line::says;

const PATIENCE: Duration = Duration::from_secs(60);

/// What `wtclient` says, with these words.
pub fn asks(daemon: &Daemon, words: &[&str]) -> Result<Value> {
    says(daemon, &[&["wtclient"], words].concat())
}

/// Why `wtclient` does not do it.
fn refuses(daemon: &Daemon, words: &[&str]) -> String {
    asks(daemon, words).expect_err("it must not").to_string()
}

/// Waits until `wtclient` says something of which this is so.
fn until(daemon: &Daemon, words: &[&str], is_so: impl Fn(&Value) -> bool) -> Result<Value> {
    wait::until(format!("wtclient {words:?}"), PATIENCE, || {
        Ok(Some(asks(daemon, words)?).filter(|told| is_so(told)))
    })
}

/// Everything that waited is with the towers.
pub fn is_up_to_date(daemon: &Daemon) -> Result<Value> {
    until(daemon, &["stats"], |stats| stats["num_pending_backups"] == 0)
}

/// The sessions for channels with anchors of the tower of this key.
pub fn sessions(daemon: &Daemon, key: &str) -> Result<Vec<Value>> {
    let told = asks(daemon, &["tower", "--include_sessions", key])?;
    assert_eq!(told["pubkey"], key);
    assert_eq!(told["num_sessions"], told["sessions"].as_array().unwrap().len());
    let info = &told["session_info"][0];
    assert_eq!(
        (&info["policy_type"], &told["session_info"][1]["num_sessions"]),
        (&"ANCHOR".into(), &0.into())
    );
    assert_eq!(info["active_session_candidate"], told["active_session_candidate"]);
    assert_eq!(info["num_sessions"], info["sessions"].as_array().unwrap().len());
    Ok(info["sessions"].as_array().unwrap().clone())
}

async fn pays(alice: &Daemon, bob: &Daemon) -> Result<()> {
    alice.pays(bob, Msat::new(50_000_000)).await?;
    alice.quiet_channel().await?;
    Ok(())
}

/// Of one kind of outputs, the states that are not covered, as `first to last`.
fn uncovered(daemon: &Daemon, kind: &str) -> Result<String> {
    let told = asks(daemon, &["coverage", "--json"])?;
    let outputs = told["channels"][0]["outputs"].as_array().unwrap();
    let output = outputs.iter().find(|output| output["output"] == kind).unwrap();
    let range = |range: &Value| {
        let end = |name: &str| range[name].as_str().unwrap().to_owned();
        format!("{} to {}", end("first"), end("last"))
    };
    let ranges: Vec<String> = output["uncovered"].as_array().unwrap().iter().map(range).collect();
    Ok(ranges.join(", "))
}

fn revoked(daemon: &Daemon) -> Result<u64> {
    let told = asks(daemon, &["coverage", "--json"])?;
    Ok(told["channels"][0]["revoked_states"].as_str().unwrap().parse()?)
}

/// Alice, who uses towers and knows none yet, and Bob, with a channel and a state that was revoked
/// before there was any.
async fn alice_and_bob(cluster: &Cluster) -> Result<(Daemon, Daemon)> {
    let flags = ["--wtclient.active", "--wtclient.sweep-fee-rate=7"];
    let alice = Daemon::new(cluster.bitcoind(), "alice", &flags)?;
    alice.starts().await?;
    let bob = cluster.daemon("bob").await?;
    alice.receives_coins(Sat::new(2_000_000)).await?;
    alice.connects(&bob).await?;
    alice.opens(&bob, Sat::new(1_000_000)).await?;
    pays(&alice, &bob).await?;
    Ok((alice, bob))
}

#[tokio::test(flavor = "multi_thread")]
async fn towers_are_added_used_and_removed_by_command() -> Result<()> {
    let cluster = Cluster::start()?;
    let bitcoind = cluster.bitcoind();
    let (alice, bob) = alice_and_bob(&cluster).await?;
    assert_eq!(asks(&alice, &["towers"])?["towers"], Value::Array(vec![]));
    assert!(refuses(&bob, &["towers"]).contains("watchtower client not active"));
    assert!(says(&alice, &["tower", "info"])
        .unwrap_err()
        .to_string()
        .contains("watchtower not active"));
    let before = revoked(&alice)?;
    assert!(before > 0);
    assert_eq!(uncovered(&alice, "TO_CHEATER")?, format!("0 to {}", before - 1));

    // Added while the daemon runs, it is used at once.
    let port = Port::free()?;
    let tower = Tower::on(bitcoind, port.address(), None)?;
    let (key, address) = (tower.id.to_string(), tower.address.clone());
    asks(&alice, &["add", &format!("{key}@{address}")])?;
    pays(&alice, &bob).await?;
    is_up_to_date(&alice)?;
    let now = revoked(&alice)?;
    let [session] = &sessions(&alice, &key)?[..] else { panic!("one session") };
    assert_eq!(session["num_backups"], now - before, "the state that both agreed on then too");
    assert_eq!(
        (&session["sweep_sat_per_vbyte"], &session["sweep_sat_per_byte"]),
        (&7.into(), &7.into())
    );
    assert_eq!(
        (&session["max_backups"], &session["num_pending_backups"]),
        (&100_000.into(), &0.into())
    );
    assert_eq!(uncovered(&alice, "TO_CHEATER")?, format!("0 to {}", before - 1));
    assert_eq!(uncovered(&alice, "HTLC_SECOND_STAGE")?, format!("0 to {}", now - 1), "anchors");
    let policy = asks(&alice, &["policy", "--anchor"])?;
    assert_eq!(
        (&policy["max_updates"], &policy["sweep_sat_per_vbyte"]),
        (&100_000.into(), &7.into())
    );
    assert!(refuses(&alice, &["policy", "--taproot"]).contains("taproot"));
    let stats = asks(&alice, &["stats"])?;
    assert_eq!(
        (&stats["num_backups"], &stats["num_sessions_acquired"]),
        (&(now - before).into(), &1.into())
    );

    addresses_come_and_go(&alice, &key, &address)?;

    // A session that is ended is not used again; the next one is.
    let id = session["id"].as_str().unwrap().to_owned();
    let status = asks(&alice, &["session", "terminate", &id])?["status"].clone();
    assert_eq!(status, format!("Successful termination of session: {id}"));
    pays(&alice, &bob).await?;
    is_up_to_date(&alice)?;
    let both = sessions(&alice, &key)?;
    let states: u64 = both.iter().map(|it| it["num_backups"].as_u64().unwrap()).sum();
    assert_eq!((both.len(), states), (2, revoked(&alice)? - before));
    let words = ["towers", "--include_sessions", "--exclude_exhausted_sessions"];
    let listed = asks(&alice, &words)?["towers"][0]["sessions"].clone();
    assert!(listed.as_array().unwrap().iter().all(|it| it["id"] != id.as_str()), "{listed}");

    left_and_taken_up_again((&alice, &bob), tower, &key).await
}

/// All but the last.
fn addresses_come_and_go(alice: &Daemon, key: &str, address: &str) -> Result<()> {
    asks(alice, &["add", &format!("{key}@localhost:1")])?;
    assert_eq!(asks(alice, &["tower", key])?["addresses"][0], "localhost:1");
    asks(alice, &["remove", &format!("{key}@localhost:1")])?;
    let last = refuses(alice, &["remove", &format!("{key}@{address}")]);
    assert!(last.contains("cannot remove last tower address"), "{last}");
    let unknown = alice.id()?.to_string();
    assert!(refuses(alice, &["remove", &unknown]).contains("tower not found"));
    assert!(
        refuses(alice, &["session", "terminate", &unknown]).contains("client session not found")
    );
    Ok(())
}

/// The tower is away, the daemon restarts, the tower is left and comes to use again, and forgets
/// the channel when that is closed.
async fn left_and_taken_up_again(
    (alice, bob): (&Daemon, &Daemon),
    mut tower: Tower,
    key: &str,
) -> Result<()> {
    let bitcoind = alice.bitcoind();
    tower.process.kill();
    pays(alice, bob).await?;
    let waits = asks(alice, &["stats"])?["num_pending_backups"].as_u64().unwrap();
    assert!(waits > 0);
    assert!(refuses(alice, &["remove", key]).contains("tower has unacked updates"));
    alice.stops().await?;
    alice.starts().await?;
    assert_eq!(asks(alice, &["stats"])?["num_pending_backups"], waits, "they are on disk");
    let tower = tower.again_for(bitcoind, None)?;
    is_up_to_date(alice)?;
    let full = revoked(alice)?;

    let status = asks(alice, &["deactivate", key])?["status"].clone();
    assert_eq!(status, format!("Successful deactivation of tower: {key}"));
    alice.active_channel(bob.id()?).await?;
    pays(alice, bob).await?;
    assert_eq!(asks(alice, &["tower", key])?["active_session_candidate"], false);
    assert_eq!(asks(alice, &["stats"])?["num_pending_backups"], 0, "nothing is kept for it");
    let now = revoked(alice)?;
    assert!(uncovered(alice, "TO_CHEATER")?.ends_with(&format!(", {full} to {}", now - 1)));
    asks(alice, &["remove", key])?;
    alice.stops().await?;
    alice.starts().await?;
    assert_eq!(asks(alice, &["tower", key])?["active_session_candidate"], false, "over restarts");
    asks(alice, &["add", &format!("{key}@{}", tower.address)])?;
    alice.active_channel(bob.id()?).await?;
    pays(alice, bob).await?;
    is_up_to_date(alice)?;
    let text = says_text(alice)?;
    assert!(text.contains("the cheater's balance"), "{text}");

    let channel = alice.quiet_channel().await?;
    alice.closes(&channel).await?;
    // So deep that no reorganisation is counted with any more.
    bitcoind.mine(101)?;
    until(alice, &["tower", key], |tower| tower["num_sessions"] == 0)?;
    is_up_to_date(alice)?;
    asks(alice, &["remove", key])?;
    assert!(refuses(alice, &["tower", key]).contains("tower not found"), "it has nothing of ours");
    let again = tower.again_for(bitcoind, None)?;
    assert!(again.logs()?.contains(" 0 sessions, 0 states"), "{}", again.logs()?);
    Ok(())
}

/// The picture.
fn says_text(daemon: &Daemon) -> Result<String> {
    let output = std::process::Command::new(fulmen_itest::build::fulmen_cli()?)
        .arg(format!("--fulmendir={}", daemon.dir().display()))
        .arg(format!("--rpcserver={}", daemon.rpc_address()))
        .args(["--network=regtest", "wtclient", "coverage"])
        .output()?;
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout)?),
        false => Err(Failure::new(String::from_utf8_lossy(&output.stderr))),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_is_a_tower_for_others() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob) = alice_and_bob(&cluster).await?;
    let port = Port::free()?;
    let address = port.address();
    let listens = format!("--watchtower.listen={address}");
    let reached = format!("--watchtower.externalip={address}");
    let flags = ["--watchtower.active", listens.as_str(), reached.as_str()];
    let carol = Daemon::new(cluster.bitcoind(), "carol", &flags)?;
    carol.starts().await?;
    let info = says(&carol, &["tower", "info"])?;
    let key = info["pubkey"].as_str().unwrap();
    assert_ne!(key, carol.id()?.to_string());
    assert_eq!(info["listeners"][0], address);
    assert_eq!(info["uris"][0], format!("{key}@{address}"));
    asks(&alice, &["add", info["uris"][0].as_str().unwrap()])?;
    pays(&alice, &bob).await?;
    is_up_to_date(&alice)?;
    assert_eq!(sessions(&alice, key)?.len(), 1);
    carol.stops().await?;
    carol.starts().await?;
    assert_eq!(says(&carol, &["tower", "info"])?["pubkey"], key);
    pays(&alice, &bob).await?;
    is_up_to_date(&alice)?;
    Ok(())
}
