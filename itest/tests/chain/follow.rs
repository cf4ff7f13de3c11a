//! Following: news by ZMQ and by polling, reorgs, a bitcoind that goes away, broadcasts.

use super::{config, mine_afresh, Followed, News};
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Amount, Network, OutPoint, Transaction};
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::{FeeratePerKw, Height};
use fulmen_itest::bitcoind::Bitcoind;
use fulmen_itest::failure::{Context, Result};
use fulmen_itest::port::Port;
use fulmen_node::chain::{
    BlockRef, BroadcastError, Chain, ChainConfig, ChainError, ChainEvent, RpcAuth, RpcError, Target,
};

fn block_at(bitcoind: &Bitcoind, height: u32) -> Result<BlockRef> {
    let hash = bitcoind.rpc().get_block_hash(height.into())?;
    Ok(BlockRef { height: Height::new(height), hash })
}

/// A transaction of the miner's, signed and not yet sent.
fn unsent(bitcoind: &Bitcoind, sat_per_vb: f64) -> Result<Transaction> {
    let rpc = bitcoind.rpc();
    let address = rpc.get_new_address(None, None)?.require_network(Network::Regtest)?;
    let outputs = serde_json::json!([{ address.to_string(): 0.01 }]);
    let options = serde_json::json!({ "fee_rate": sat_per_vb, "add_inputs": true });
    let args = [serde_json::json!([]), outputs, serde_json::json!(0), options];
    let funded: serde_json::Value = rpc.call("walletcreatefundedpsbt", &args)?;
    let signed: serde_json::Value = rpc.call("walletprocesspsbt", &[funded["psbt"].clone()])?;
    let done: serde_json::Value = rpc.call("finalizepsbt", &[signed["psbt"].clone()])?;
    Ok(deserialize_hex(done["hex"].as_str().context("no transaction")?)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_come_by_zmq_and_by_polling_after_catch_up() -> Result<()> {
    let bitcoind = Bitcoind::start()?;
    bitcoind.mine(5)?;
    for news in [News::Zmq, News::Polling] {
        let height = bitcoind.height()? as u32;
        let known = block_at(&bitcoind, height - 2)?;
        let mut followed = Followed::start(&bitcoind, news, vec![known]).await?;
        assert_eq!(followed.blocks(2).await?, [format!("+{}", height - 1), format!("+{height}")]);
        followed.chain.wait_synced().await;
        assert_eq!(followed.chain.tip(), block_at(&bitcoind, height)?);
        bitcoind.mine(1)?;
        assert_eq!(followed.blocks(1).await?, [format!("+{}", height + 1)]);
        followed.chain.stop().await;
        assert!(followed.events.recv().await.is_none());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_start_begins_at_the_tip() -> Result<()> {
    let bitcoind = Bitcoind::start()?;
    bitcoind.mine(5)?;
    let mut followed = Followed::start(&bitcoind, News::Zmq, vec![]).await?;
    assert_eq!(followed.blocks(1).await?, ["+5"]);
    bitcoind.mine(2)?;
    assert_eq!(followed.blocks(2).await?, ["+6", "+7"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reorg_is_followed() -> Result<()> {
    let bitcoind = Bitcoind::start()?;
    bitcoind.mine(5)?;
    for news in [News::Zmq, News::Polling] {
        let tip = bitcoind.height()? as u32;
        let mut followed =
            Followed::start(&bitcoind, news, vec![block_at(&bitcoind, tip)?]).await?;
        followed.chain.wait_synced().await;
        bitcoind.rpc().invalidate_block(&block_at(&bitcoind, tip - 1)?.hash)?;
        mine_afresh(&bitcoind, 3)?;
        let blocks = followed.blocks(5).await?;
        let (old, new) = ([format!("-{tip}"), format!("-{}", tip - 1)], tip - 1..=tip + 1);
        let new: Vec<_> = new.map(|height| format!("+{height}")).collect();
        assert_eq!(blocks, [&old[..], &new[..]].concat());
        followed.chain.wait_synced().await;
        assert_eq!(followed.chain.tip(), block_at(&bitcoind, tip + 1)?);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bitcoind_that_restarts_is_waited_for_and_caught_up_with() -> Result<()> {
    let bitcoind = Bitcoind::start()?;
    bitcoind.mine(3)?;
    // By polling, since only that notices that bitcoind is away.
    let mut followed = Followed::start(&bitcoind, News::Polling, vec![]).await?;
    followed.chain.wait_synced().await;
    bitcoind.stop()?;
    let why = followed
        .until(|event| match event {
            ChainEvent::Down { why } => Some(why.clone()),
            _ => None,
        })
        .await?;
    assert!(why.starts_with("cannot reach bitcoind at 127.0.0.1:"), "{why}");
    assert!(!followed.chain.synced() && !followed.chain.up());
    assert_eq!(followed.chain.feerate(Target::Background).await, FeeratePerKw::new(500));
    bitcoind.restart()?;
    bitcoind.mine(2)?;
    followed.until(|event| (*event == ChainEvent::Up).then_some(())).await?;
    assert_eq!(followed.blocks(2).await?, ["+4", "+5"]);
    followed.chain.wait_synced().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn zmq_finds_a_restarted_bitcoind_by_itself() -> Result<()> {
    let bitcoind = Bitcoind::start()?;
    bitcoind.mine(3)?;
    let mut followed = Followed::start(&bitcoind, News::Zmq, vec![]).await?;
    followed.chain.wait_synced().await;
    bitcoind.restart()?;
    // The subscription comes back a little after bitcoind does; a block mined before that is
    // told of with the next one.
    let mut heard = Vec::new();
    while heard.is_empty() {
        bitcoind.mine(1)?;
        let next = tokio::time::timeout(std::time::Duration::from_millis(500), followed.blocks(2));
        heard = next.await.unwrap_or(Ok(vec![]))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_does_not_wait_for_whoever_does_not_listen() -> Result<()> {
    let bitcoind = Bitcoind::start()?;
    bitcoind.mine(30)?;
    let start = vec![block_at(&bitcoind, 1)?];
    // 29 blocks for a queue of 10, from which nothing is taken.
    let followed = Followed::start(&bitcoind, News::Zmq, start).await?;
    followed.chain.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_at_start_is_said_plainly() -> Result<()> {
    let bitcoind = Bitcoind::start()?;
    let good = config(&bitcoind, News::Polling);
    let wrong = RpcAuth::UserPass { user: "fulmen".into(), password: "wrong".into() };
    let error = Chain::connect(ChainConfig { rpc_auth: wrong, ..good.clone() }).await.err();
    assert!(matches!(error, Some(ChainError::Rpc(RpcError::Credentials { .. }))), "{error:?}");

    let config = ChainConfig { network: Network::Signet, ..good.clone() };
    let error = Chain::connect(config).await.err().context("connected")?.to_string();
    assert!(error.contains("on the network regtest, but we are set to signet"), "{error}");

    let nobody = Port::free()?;
    let config = ChainConfig { rpc_host: nobody.address(), ..good };
    let error = Chain::connect(config).await.err();
    assert!(matches!(error, Some(ChainError::Rpc(RpcError::Unreachable { .. }))), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_chain_than_ours_stops_the_events() -> Result<()> {
    let (ours, other) = (Bitcoind::start()?, Bitcoind::start()?);
    ours.mine(3)?;
    other.mine(6)?;
    let known = block_at(&ours, 3)?;
    let mut followed = Followed::start(&other, News::Zmq, vec![known]).await?;
    let ChainEvent::Stopped { why } = followed.next().await? else { panic!("not stopped") };
    assert!(why.contains("follows another chain"), "{why}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mempool_transactions_come_by_zmq_and_by_polling() -> Result<()> {
    let bitcoind = Bitcoind::start()?;
    bitcoind.mine(101)?;
    for news in [News::Zmq, News::Polling] {
        let before = unsent(&bitcoind, 5.0)?;
        bitcoind.rpc().send_raw_transaction(&before)?;
        let mut followed = Followed::start(&bitcoind, news, vec![]).await?;
        let wants = |wanted: &Transaction| {
            let wanted = ChainEvent::Mempool(wanted.clone());
            move |event: &ChainEvent| (*event == wanted).then_some(())
        };
        followed.until(wants(&before)).await.context("what was there at the start")?;
        let after = unsent(&bitcoind, 5.0)?;
        bitcoind.rpc().send_raw_transaction(&after)?;
        followed.until(wants(&after)).await.context("what came later")?;
        assert!(followed.chain.in_mempool(after.compute_txid()).await?);
        bitcoind.mine(1)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn broadcasts_are_found_confirmed_spent_and_settled() -> Result<()> {
    let bitcoind = Bitcoind::start()?;
    bitcoind.mine(101)?;
    let tx = unsent(&bitcoind, 5.0)?;
    let (txid, spent) = (tx.compute_txid(), tx.input[0].previous_output);
    let mut followed = Followed::start(&bitcoind, News::Zmq, vec![]).await?;
    let chain = followed.chain.clone();
    followed.chain.wait_synced().await;
    chain.watch_tx(txid, Height::new(102));
    chain.watch_spend(spent, Height::new(102));
    assert!(chain.test_accept(tx.clone()).await?.allowed);
    chain.broadcast(tx.clone()).await?;
    chain.broadcast(tx.clone()).await.context("again is no error")?;
    bitcoind.mine(1)?;
    let (height, found) = followed
        .until(|event| match event {
            ChainEvent::Connected { at, found, .. } if !found.is_empty() => {
                Some((at.height, found.clone()))
            }
            _ => None,
        })
        .await?;
    assert_eq!(height, Height::new(102));
    assert_eq!((found.confirmed[0].txid, found.confirmed[0].tx_index), (txid, 1));
    assert_eq!((found.spent[0].outpoint, &found.spent[0].by), (spent, &tx));
    chain.broadcast(tx.clone()).await.context("in the chain is no error")?;

    let output = OutPoint { txid, vout: 0 };
    let unspent = chain.output_unspent(output, false).await?.context("unspent")?;
    assert_eq!((unspent.output, unspent.confirmations), (tx.output[0].clone(), 1));
    assert_eq!(chain.output_unspent(spent, false).await?, None);

    bitcoind.mine(5)?;
    let settled = followed
        .until(|event| match event {
            ChainEvent::Connected { at, settled, .. } if !settled.is_empty() => {
                Some((at.height, settled.clone()))
            }
            _ => None,
        })
        .await?;
    assert_eq!(settled, (Height::new(107), vec![txid]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_that_bitcoind_could_not_hear_is_sent_when_it_is_back() -> Result<()> {
    let bitcoind = Bitcoind::start()?;
    bitcoind.mine(101)?;
    let tx = unsent(&bitcoind, 5.0)?;
    let mut followed = Followed::start(&bitcoind, News::Polling, vec![]).await?;
    followed.chain.wait_synced().await;
    bitcoind.stop()?;
    let result = followed.chain.broadcast(tx.clone()).await;
    assert!(matches!(result, Err(BroadcastError::Unreachable(_))), "{result:?}");
    bitcoind.restart()?;
    followed.until(|event| (*event == ChainEvent::Mempool(tx.clone())).then_some(())).await?;
    assert_eq!(bitcoind.mempool()?, [tx.compute_txid()]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_broadcasts_say_why() -> Result<()> {
    let bitcoind = Bitcoind::start()?;
    bitcoind.mine(101)?;
    let chain = Chain::connect(config(&bitcoind, News::Polling)).await?;
    let good = unsent(&bitcoind, 5.0)?;

    let mut orphan = good.clone();
    orphan.input[0].previous_output.vout = 77;
    let result = chain.broadcast(orphan).await;
    assert!(matches!(result, Err(BroadcastError::Conflict(_))), "{result:?}");

    let mut forged = good.clone();
    forged.output[0].value -= Amount::from_sat(1_000);
    let result = chain.broadcast(forged).await;
    assert!(matches!(result, Err(BroadcastError::Rejected(_))), "{result:?}");

    let mut early = good.clone();
    early.lock_time = bitcoin::absolute::LockTime::from_height(5_000)?;
    let result = chain.broadcast(early).await;
    assert!(matches!(result, Err(BroadcastError::NotYet(_))), "{result:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn feerates_on_regtest_are_fallbacks_above_the_floor() -> Result<()> {
    let bitcoind = Bitcoind::start()?;
    let chain = Chain::connect(config(&bitcoind, News::Polling)).await?;
    let rates = [Target::Background, Target::Normal, Target::HighPriority];
    let mut got = Vec::new();
    for target in rates {
        got.push(chain.feerate(target).await.per_kw());
    }
    assert_eq!(got, [500, 1_250, 2_500]);
    assert_eq!(chain.anchors_feerate().await, FeeratePerKw::FLOOR);
    assert_eq!(chain.block_at(Height::new(1)).await?, None);
    assert!(chain.block_at(Height::new(0)).await?.is_some());
    Ok(())
}
