//! The demo: what it draws is what is published, and it runs where there is no bitcoind.

use std::process::Command;

use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::build;
use fulmen_itest::demo::facts;
use fulmen_itest::demo::picture::{Commitment, Spend};
use fulmen_itest::failure::Result;

use super::daemons::cluster;

#[tokio::test(flavor = "multi_thread")]
async fn the_commitment_that_is_drawn_is_the_one_that_is_published() -> Result<()> {
    for pays_first in [false, true] {
        let cluster = cluster()?;
        let (alice, bob, channel) = cluster.pair(Sat::new(1_000_000)).await?;
        if pays_first {
            alice.pays(&bob, Msat::new(300_000_001)).await?;
        }
        let picture = facts::open(&alice, &bob).await?;
        assert_eq!(picture.value, Sat::new(1_000_000));
        assert_eq!(picture.depth, 6);
        let Spend::Commitment(drawn) = &picture.spends[0] else { panic!("no commitment") };
        let _updates = alice.begins_to_close(&channel, true).await?;
        let bitcoind = cluster.bitcoind();
        let published = alice
            .until("its commitment is published", async || Ok(bitcoind.mempool()?.pop()))
            .await?;
        let tx = bitcoind.rpc().get_raw_transaction(&published, None)?;
        assert_eq!(tx.input[0].previous_output, picture.funding);
        let mut real: Vec<Sat> = tx.output.iter().map(|output| output.value.into()).collect();
        real.sort();
        assert_eq!(outputs(drawn), real, "{drawn:?}");
        let paid = real.iter().fold(Sat::ZERO, |sum, value| sum.saturating_add(*value));
        assert_eq!(Some(drawn.fee), Sat::new(1_000_000).checked_sub(paid));
    }
    Ok(())
}

fn outputs(drawn: &Commitment) -> Vec<Sat> {
    let balances = [drawn.to_local, drawn.to_remote].into_iter().flatten();
    let htlcs = drawn.htlcs.iter().map(|htlc| htlc.amount);
    let anchors = drawn.anchors.iter().map(|(_, value)| *value);
    let mut all: Vec<Sat> = balances.chain(htlcs).chain(anchors).collect();
    all.sort();
    all
}

#[test]
fn it_runs_where_there_is_no_bitcoind() -> Result<()> {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    demo.env("FULMEND_EXE", build::fulmend()?).env_remove("BITCOIND_EXE").env("PATH", "/nowhere");
    let output = demo.output()?;
    let text = String::from_utf8(output.stdout)?;
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for line in ["the chain in a box, regtest", "─ Ca ", "─ Cb ", "RSMC", "─ ES ", "250,000 sat"]
    {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "colours in a pipe");
    let width = text.lines().map(|line| line.chars().count()).max();
    assert!(width <= Some(100), "{width:?}\n{text}");
    let mut strange = Command::new(env!("CARGO_BIN_EXE_demo"));
    assert!(!strange.arg("--kep").output()?.status.success());
    Ok(())
}
