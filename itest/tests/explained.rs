//! A channel drawn by fulmen-cli at each step of its life: open, with an HTLC under way, closed by
//! force, delivered.

use std::process::Command;

use bitcoin::Txid;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::build;
use fulmen_itest::failure::{Context, Failure, Result};
use fulmen_itest::regtest::{Cluster, Daemon, Peer};
use fulmen_proto::routerrpc::SendPaymentRequest;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_drawn_at_each_step_of_its_life() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob, channel) = cluster.pair(Sat::new(1_000_000)).await?;
    alice.pays(&bob, Msat::new(300_000_000)).await?;
    let channel_now = alice.quiet_channel().await?;
    let point = channel.channel_point.as_str();

    let drawn = explain(&alice, point, &[])?;
    let amount = channel_now.local_balance.to_string();
    let (thousands, rest) = amount.split_at(amount.len() - 3);
    for words in [
        "├─ C ours",
        "├─ C theirs",
        "we may publish it",
        "└─ ES  once both agree",
        "to_remote",
        "they, if this C is revoked",
        "300,000",
        &format!("{thousands},{rest}"),
    ] {
        assert!(drawn.contains(words), "{words}\n{drawn}");
    }
    assert!(!drawn.contains('\u{1b}'), "colours in a pipe");
    goes_by_its_names(&alice, channel.chan_id, &drawn, point)?;
    assert!(is_drawn_as_svg(&explain(&alice, point, &["--svg"])?, &drawn)? >= 6, "{drawn}");
    let quiet = cli(&alice, &["channel", "risk"])?;
    assert!(quiet.contains("no HTLC asks for a close"), "{quiet}");

    // Bob hears no more: the HTLC is signed for his commitment, and not on ours.
    let invoice = bob.invoices(Msat::new(50_000_000), "tea").await?;
    bob.signal("STOP")?;
    let request =
        SendPaymentRequest { payment_request: invoice, timeout_seconds: 60, ..Default::default() };
    let _updates = alice.router().await?.send_payment_v2(request).await?.into_inner();
    let expiry = alice
        .until("an HTLC is under way", async || {
            let htlcs = alice.channel().await?.pending_htlcs;
            Ok(htlcs.first().map(|htlc| htlc.expiration_height))
        })
        .await?;
    let drawn = explain(&alice, point, &[])?;
    let mut theirs = drawn.split("C theirs").skip(1);
    let before = theirs.next().context("the one that he has")?;
    assert!(before.contains("to_remote") && !before.contains("HTLC 1 out"), "{drawn}");
    let theirs = theirs.next().context("the one that we have signed since")?;
    for words in ["HTLC 1 out", "HE ", "they, 1 block after C, with R", "HTD ", "to go"] {
        assert!(theirs.contains(words), "{words}\n{drawn}");
    }
    let risk = cli(&alice, &["channel", "risk", point])?;
    assert!(risk.contains(&format!("closes at {}, in ", expiry + 2)), "{risk}");
    assert!(risk.contains("50,000 sat at risk; up to 25,000 may be paid"), "{risk}");

    let _closing = alice.begins_to_close(&channel, true).await?;
    let txid = published(&alice, point).await?;
    let data: Value = serde_json::from_str(&explain(&alice, point, &["--json"])?)?;
    let spends = data["funding"]["outputs"][0]["spends"].as_array().context("spends")?;
    assert_eq!(
        (&spends[0]["txid"], &spends[0]["state"]),
        (&txid.as_str().into(), &"PUBLISHED".into())
    );
    comes_home(&cluster, &alice, &txid, channel.csv_delay).await?;
    bob.signal("CONT")
}

/// Every name leads to the same channel, and none of another's does.
fn goes_by_its_names(alice: &Daemon, scid: u64, drawn: &str, point: &str) -> Result<()> {
    let data: Value = serde_json::from_str(&explain(alice, point, &["--json"])?)?;
    let commitment = data["funding"]["outputs"][0]["spends"][0]["txid"].as_str();
    let (block, tx, output) = (scid >> 40, scid >> 16 & 0xff_ffff, scid & 0xffff);
    for name in [scid.to_string(), format!("{block}x{tx}x{output}")] {
        assert_eq!(explain(alice, &name, &[])?, drawn, "{name}");
    }
    let id = data["channel_id"].as_str().context("an id")?;
    assert_eq!(explain(alice, id, &[])?, drawn);
    let marked = explain(alice, commitment.context("a commitment")?, &[])?;
    assert_eq!(marked.replace(" ◀", ""), drawn);
    assert!(marked.lines().any(|line| line.contains("C ours") && line.ends_with('◀')), "{marked}");
    let strange = explain(alice, "tea", &[]).unwrap_err().to_string();
    assert!(strange.contains("\"tea\" names no channel: write funding_txid:index"), "{strange}");
    let unknown = explain(alice, &"00".repeat(32), &[]).unwrap_err().to_string();
    assert!(unknown.contains("no channel of ours is called"), "{unknown}");
    Ok(())
}

/// The picture is of elements that end in order, and says all that the text says, branches apart.
/// How many transactions it names.
pub fn is_drawn_as_svg(svg: &str, text: &str) -> Result<usize> {
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>"), "{svg}");
    let (mut open, mut words) = (Vec::new(), Vec::new());
    for piece in svg.split('<').skip(1) {
        let (tag, inside) = piece.split_once('>').context("a tag's end")?;
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{svg}"),
            None if tag.ends_with('/') => {}
            None => open.push(tag.split(' ').next().context("a name")?),
        }
        words.extend(inside.split_whitespace());
    }
    assert!(open.is_empty(), "{open:?}\n{svg}");
    let is_word = |word: &&str| !word.contains(['│', '├', '└', '█', '░']);
    let mut named = 0;
    for word in text.split_whitespace().filter(is_word) {
        assert!(words.contains(&word), "{word}\n{svg}");
        named += usize::from(["F", "C", "ES", "D", "RD", "BR"].contains(&word));
    }
    Ok(named)
}

/// Our commitment, once it is published.
async fn published(alice: &Daemon, point: &str) -> Result<String> {
    alice
        .until("our commitment is published", async || {
            let drawn = explain(alice, point, &[])?;
            if !drawn.lines().any(|line| line.contains("C ours") && line.contains("published")) {
                return Ok(None);
            }
            let data: Value = serde_json::from_str(&explain(alice, point, &["--json"])?)?;
            let ours = &data["funding"]["outputs"][0]["spends"][0]["txid"];
            let txid: Txid = ours.as_str().context("a txid")?.parse()?;
            let known = alice.bitcoind().mempool()?.contains(&txid);
            Ok(known.then(|| txid.to_string()))
        })
        .await
}

/// The commitment confirms, our balance waits, and comes home by RD.
async fn comes_home(cluster: &Cluster, alice: &Daemon, txid: &str, delay: u32) -> Result<()> {
    let bitcoind = cluster.bitcoind();
    bitcoind.mine(1)?;
    let height = u32::try_from(bitcoind.height()?)?;
    let comes = async |words: String| {
        alice
            .until(&words, async || Ok(explain(alice, txid, &[])?.contains(&words).then_some(())))
            .await
    };
    comes(format!("block {height}, 1 deep ◀")).await?;
    let drawn = explain(alice, txid, &[])?;
    let matures = height + delay;
    for words in [
        "├─ C theirs".into(),
        "not any more".into(),
        format!("RD     we, from {matures}"),
        format!("{delay} to go"),
    ] {
        assert!(drawn.contains(&words), "{words}\n{drawn}");
    }
    bitcoind.mine(u64::from(delay) - 1)?;
    comes("RD     we, now".into()).await?;
    let wallet = alice.coins().await?.confirmed_balance;
    alice.until("RD is published", async || Ok(bitcoind.mempool()?.first().copied())).await?;
    bitcoind.mine(1)?;
    comes(format!("RD     we, block {}, 1 deep", matures)).await?;
    assert!(alice.coins().await?.confirmed_balance > wallet);
    Ok(())
}

pub fn explain(daemon: &Daemon, channel: &str, flags: &[&str]) -> Result<String> {
    cli(daemon, &[&["channel", "explain", channel], flags].concat())
}

/// What a command prints; its stderr as the failure.
fn cli(daemon: &Daemon, words: &[&str]) -> Result<String> {
    let output = Command::new(build::fulmen_cli()?)
        .arg(format!("--fulmendir={}", daemon.dir().display()))
        .arg(format!("--rpcserver={}", daemon.rpc_address()))
        .arg("--network=regtest")
        .args(words)
        .output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(Failure::new(text(&output.stderr))),
    }
}
