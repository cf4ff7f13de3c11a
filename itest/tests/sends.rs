//! Sending on chain, on a real bitcoind: balances to the satoshi through restarts, lost mempools,
//! reorganisations and double spends.

use bitcoin::{Address, Network, OutPoint, Transaction, Txid};
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::Sat;
use fulmen_itest::bitcoind::Bitcoind;
use fulmen_itest::failure::{Context, Failure, Result};
use fulmen_itest::regtest::{Cluster, Daemon};
use fulmen_proto::lnrpc::{
    self, AddressType, EstimateFeeRequest, GetTransactionsRequest, ListUnspentRequest,
    NewAddressRequest, SendCoinsRequest, SendManyRequest, Utxo,
};
use serde_json::json;
use std::collections::BTreeMap;

const KINDS: [AddressType; 3] =
    [AddressType::WitnessPubkeyHash, AddressType::NestedPubkeyHash, AddressType::TaprootPubkey];

async fn address(daemon: &Daemon, kind: AddressType) -> Result<String> {
    let request = NewAddressRequest { r#type: kind.into(), ..Default::default() };
    Ok(daemon.lightning().await?.new_address(request).await?.into_inner().address)
}

fn parsed(address: &str) -> Result<Address> {
    Ok(address.parse::<Address<_>>()?.require_network(Network::Regtest)?)
}

/// Pays `sat` to an address of each kind, and mines.
async fn is_paid(daemon: &Daemon, amounts: [u64; 3]) -> Result<()> {
    for (kind, sat) in KINDS.into_iter().zip(amounts).filter(|(_, sat)| *sat > 0) {
        let address = parsed(&address(daemon, kind).await?)?;
        daemon.bitcoind().send_to(&address, Sat::new(sat))?;
    }
    daemon.bitcoind().mine(1)?;
    has(daemon, amounts.iter().sum(), 0).await
}

/// Waits for these balances, confirmed and unconfirmed.
async fn has(daemon: &Daemon, confirmed: u64, unconfirmed: u64) -> Result<()> {
    let wanted = (i64::try_from(confirmed)?, i64::try_from(unconfirmed)?);
    let mut last = wanted;
    let seen = daemon
        .until(&format!("its balances are {wanted:?}"), async || {
            let coins = daemon.coins().await?;
            assert_eq!(coins.total_balance, coins.confirmed_balance + coins.unconfirmed_balance);
            last = (coins.confirmed_balance, coins.unconfirmed_balance);
            Ok((last == wanted).then_some(()))
        })
        .await;
    seen.map_err(|failure| Failure::new(format!("{failure}; they are {last:?}")))
}

async fn send(daemon: &Daemon, request: SendCoinsRequest) -> Result<Txid> {
    let sent = daemon.lightning().await?.send_coins(request).await?;
    Ok(sent.into_inner().txid.parse()?)
}

/// The text of the refusal.
async fn refusal(daemon: &Daemon, request: SendCoinsRequest) -> Result<String> {
    let refused = daemon.lightning().await?.send_coins(request).await.expect_err("it is refused");
    assert_eq!(refused.code(), tonic::Code::Unknown);
    Ok(refused.message().to_owned())
}

fn pays(addr: &str, amount: i64) -> SendCoinsRequest {
    SendCoinsRequest { addr: addr.into(), amount, ..Default::default() }
}

fn in_mempool(bitcoind: &Bitcoind, txid: &Txid) -> Result<Transaction> {
    Ok(bitcoind.rpc().get_raw_transaction(txid, None)?)
}

/// What a transaction of the mempool pays, and the feerate that is.
fn fee_of(bitcoind: &Bitcoind, txid: &Txid) -> Result<(u64, f64)> {
    let fee = bitcoind.rpc().get_mempool_entry(txid)?.fees.base.to_sat();
    let weight = in_mempool(bitcoind, txid)?.weight().to_wu();
    Ok((fee, fee as f64 * 4.0 / weight as f64))
}

async fn unspent(daemon: &Daemon, min_confs: i32) -> Result<Vec<Utxo>> {
    let request = ListUnspentRequest { min_confs, max_confs: i32::MAX, ..Default::default() };
    Ok(daemon.lightning().await?.list_unspent(request).await?.into_inner().utxos)
}

async fn transactions(daemon: &Daemon) -> Result<Vec<lnrpc::Transaction>> {
    let request = GetTransactionsRequest::default();
    Ok(daemon.lightning().await?.get_transactions(request).await?.into_inner().transactions)
}

/// Waits until bitcoind has a transaction in its mempool.
async fn is_published(daemon: &Daemon, txid: Txid) -> Result<()> {
    daemon
        .until("its transaction is in the mempool", async || {
            Ok(daemon.bitcoind().mempool()?.contains(&txid).then_some(()))
        })
        .await
}

/// bitcoind starts again, and its mempool is lost.
fn forgets_its_mempool(bitcoind: &Bitcoind) -> Result<()> {
    bitcoind.stop()?;
    std::fs::remove_file(bitcoind.dir().join("regtest/mempool.dat"))?;
    bitcoind.restart()
}

#[tokio::test(flavor = "multi_thread")]
async fn coins_of_all_kinds_pay_together_at_the_feerate_asked() -> Result<()> {
    let cluster = Cluster::start()?;
    let bitcoind = cluster.bitcoind();
    let (alice, bob) = (cluster.daemon("alice").await?, cluster.daemon("bob").await?);
    is_paid(&alice, [100_000, 110_000, 120_000]).await?;
    let kinds: Vec<i32> = unspent(&alice, 1).await?.iter().map(|coin| coin.address_type).collect();
    assert!(KINDS.iter().all(|kind| kinds.contains(&i32::from(*kind))));

    let mut news = alice
        .lightning()
        .await?
        .subscribe_transactions(GetTransactionsRequest::default())
        .await?
        .into_inner();
    let to = address(&bob, AddressType::TaprootPubkey).await?;
    let request =
        SendCoinsRequest { sat_per_vbyte: 7, label: "for the roof".into(), ..pays(&to, 300_000) };
    let txid = send(&alice, request).await?;
    let (fee, rate) = fee_of(bitcoind, &txid)?;
    // The fee is a whole number; signatures may be a few bytes shorter than planned for.
    assert!((6.99..7.1).contains(&rate), "{rate} sat/vB");
    let left = 330_000 - 300_000 - fee;
    has(&alice, 0, left).await?;
    has(&bob, 0, 300_000).await?;
    let mut appeared = news.message().await?.expect("news");
    // That she was paid may still be told.
    while appeared.tx_hash != txid.to_string() {
        appeared = news.message().await?.expect("news");
    }
    assert_eq!(appeared.num_confirmations, 0);

    let block = bitcoind.mine(1)?[0];
    has(&alice, left, 0).await?;
    has(&bob, 300_000, 0).await?;
    let confirmed = news.message().await?.expect("news");
    assert_eq!(confirmed.block_hash, block.to_string());
    let told = transactions(&alice).await?.into_iter().find(|tx| tx.tx_hash == txid.to_string());
    let told = told.expect("it is listed");
    assert_eq!(told, confirmed);
    let raw = bitcoind.rpc().get_raw_transaction(&txid, Some(&block))?;
    assert_eq!(told.raw_tx_hex, bitcoin::consensus::encode::serialize_hex(&raw));
    assert_eq!((told.amount, told.total_fees), (-300_000 - fee as i64, fee as i64));
    assert_eq!((told.label.as_str(), told.num_confirmations), ("for the roof", 1));
    assert_eq!(told.block_height as u64, bitcoind.height()?);
    assert_eq!(told.time_stamp as usize, bitcoind.rpc().get_block_header_info(&block)?.time);
    assert_eq!(told.previous_outpoints.len(), 3);
    assert!(told.previous_outpoints.iter().all(|input| input.is_our_output));
    let ours: Vec<_> = told.output_details.iter().filter(|out| out.is_our_address).collect();
    assert_eq!(ours.iter().map(|out| out.amount).collect::<Vec<_>>(), [left as i64]);
    let theirs = told.output_details.iter().find(|out| !out.is_our_address).expect("bob's");
    assert_eq!((theirs.address.as_str(), theirs.amount), (to.as_str(), 300_000));
    assert_eq!(theirs.output_type(), lnrpc::OutputScriptType::ScriptTypeWitnessV1Taproot);
    let got = transactions(&bob).await?.remove(0);
    assert_eq!((got.amount, got.total_fees, got.label.as_str()), (300_000, 0, ""));
    assert!(got.previous_outpoints.iter().all(|input| !input.is_our_output));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn several_are_paid_at_once_and_the_estimate_is_what_it_costs() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob) = (cluster.daemon("alice").await?, cluster.daemon("bob").await?);
    is_paid(&alice, [500_000, 400_000, 0]).await?;
    let mut pairs = BTreeMap::new();
    for (kind, sat) in KINDS.into_iter().zip([100_000, 200_000, 300_000]) {
        pairs.insert(address(&bob, kind).await?, sat);
    }
    let request = EstimateFeeRequest {
        addr_to_amount: pairs.clone(),
        target_conf: 144,
        ..Default::default()
    };
    let estimate = alice.lightning().await?.estimate_fee(request).await?.into_inner();
    assert_eq!(estimate.sat_per_vbyte, 2, "there is nothing to estimate from");
    has(&alice, 900_000, 0).await?;
    let request = SendManyRequest { addr_to_amount: pairs, target_conf: 144, ..Default::default() };
    let txid = alice.lightning().await?.send_many(request).await?.into_inner().txid.parse()?;
    let fee = fee_of(cluster.bitcoind(), &txid)?.0;
    assert_eq!(fee, estimate.fee_sat as u64);
    let spent = in_mempool(cluster.bitcoind(), &txid)?.input;
    let mut spent: Vec<String> =
        spent.iter().map(|input| input.previous_output.txid.to_string()).collect();
    let mut planned: Vec<String> =
        estimate.inputs.iter().map(|input| input.txid_str.clone()).collect();
    spent.sort();
    planned.sort();
    assert_eq!(spent, planned);
    cluster.bitcoind().mine(1)?;
    has(&bob, 600_000, 0).await?;
    has(&alice, 300_000 - fee, 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn chosen_coins_and_sweeps_spend_what_they_should() -> Result<()> {
    let cluster = Cluster::start()?;
    let bitcoind = cluster.bitcoind();
    let (alice, bob) = (cluster.daemon("alice").await?, cluster.daemon("bob").await?);
    is_paid(&alice, [100_000, 200_000, 1_500_000]).await?;
    let to = address(&bob, AddressType::NestedPubkeyHash).await?;
    let small: Vec<_> =
        unspent(&alice, 1).await?.into_iter().filter(|coin| coin.amount_sat < 300_000).collect();
    let outpoints: Vec<_> = small.iter().filter_map(|coin| coin.outpoint.clone()).collect();
    let chosen = SendCoinsRequest { outpoints: outpoints.clone(), ..pays(&to, 10_000) };
    let txid = send(&alice, chosen).await?;
    let mut spent: Vec<OutPoint> =
        in_mempool(bitcoind, &txid)?.input.iter().map(|input| input.previous_output).collect();
    let mut wanted: Vec<OutPoint> = Vec::new();
    for outpoint in &outpoints {
        wanted.push(OutPoint { txid: outpoint.txid_str.parse()?, vout: outpoint.output_index });
    }
    spent.sort();
    wanted.sort();
    assert_eq!(spent, wanted);
    let again = SendCoinsRequest { outpoints, ..pays(&to, 10_000) };
    assert!(refusal(&alice, again).await?.contains("cannot be spent"));
    bitcoind.mine(1)?;
    let left = alice.until("it confirms", async || {
        let coins = alice.coins().await?;
        Ok((coins.unconfirmed_balance == 0).then_some(coins.confirmed_balance as u64))
    });
    let left = left.await?;

    // With a channel, a sweep leaves the reserve.
    alice.connects(&bob).await?;
    says_what_an_open_lacks(&alice, &bob, left).await?;
    alice.opens(&bob, Sat::new(1_000_000)).await?;
    let coins = alice.coins().await?;
    assert_eq!(coins.reserved_balance_anchor_chan, 10_000);
    let (held, opening) = (coins.confirmed_balance as u64, transactions(&alice).await?);
    let opening = opening.iter().find(|tx| tx.label.starts_with("0:openchannel:shortchanid-"));
    let opening = opening.expect("a labelled opening");
    assert_eq!(held, left - 1_000_000 - opening.total_fees as u64);
    let bob_had = bob.coins().await?.confirmed_balance as u64;
    let sweep = SendCoinsRequest { send_all: true, sat_per_vbyte: 3, ..pays(&to, 0) };
    let txid = send(&alice, sweep.clone()).await?;
    let fee = fee_of(bitcoind, &txid)?.0;
    has(&alice, 0, 10_000).await?;
    bitcoind.mine(1)?;
    has(&alice, 10_000, 0).await?;
    has(&bob, bob_had + held - 10_000 - fee, 0).await?;
    let refused = refusal(&alice, sweep.clone()).await?;
    assert!(refused.starts_with("reserved wallet balance invalidated: "), "{refused}");

    // Once it is closed, everything goes.
    alice.closes(&alice.channel().await?).await?;
    let all = alice.until("the close is money again", async || {
        let coins = alice.coins().await?;
        Ok((coins.confirmed_balance > 900_000 && coins.reserved_balance_anchor_chan == 0)
            .then_some(coins.confirmed_balance as u64))
    });
    let all = all.await?;
    let label = transactions(&alice).await?.into_iter().map(|tx| tx.label);
    assert!(label.clone().any(|label| label.starts_with("0:closechannel:shortchanid-")));
    let bob_had = bob.coins().await?.confirmed_balance as u64;
    let txid = send(&alice, sweep).await?;
    let fee = fee_of(bitcoind, &txid)?.0;
    bitcoind.mine(1)?;
    has(&alice, 0, 0).await?;
    has(&bob, bob_had + all - fee, 0).await
}

/// An open that leaves too little in reserve is refused and says how much is missing: what is
/// right but for one satoshi, when the open is smaller by that.
async fn says_what_an_open_lacks(alice: &Daemon, bob: &Daemon, held: u64) -> Result<()> {
    let refused = async |capacity: u64| {
        let asked = alice.begins_to_open(bob, Sat::new(capacity), |open| open.sat_per_vbyte = 2);
        let refused = asked.await.unwrap_err().to_string();
        assert!(refused.contains("reserved wallet balance invalidated: "), "{refused}");
        assert!(refused.contains("0.00010000 BTC must be, "), "{refused}");
        let (rest, missing) = refused.split_once(" must be, 0.").context("what is missing")?;
        let missing = missing.split_once(" BTC is missing").context(rest.to_owned())?.0;
        Ok::<u64, Failure>(missing.parse()?)
    };
    let capacity = held - 5_000;
    let missing = refused(capacity).await?;
    assert!((5_000..6_000).contains(&missing), "{missing}");
    assert_eq!(refused(capacity - missing + 1).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_refused_and_nothing_is_held() -> Result<()> {
    let cluster = Cluster::start()?;
    let alice = cluster.daemon("alice").await?;
    is_paid(&alice, [100_000, 0, 0]).await?;
    let to = address(&alice, AddressType::WitnessPubkeyHash).await?;
    let with = |change: fn(&mut SendCoinsRequest)| {
        let mut request = pays(&to, 10_000);
        change(&mut request);
        request
    };
    for (request, why) in [
        (pays(&to, 100_000), "insufficient funds available to construct transaction"),
        (pays(&to, 293), "transaction output is dust: 293 sat is too small to be relayed"),
        (pays(&to, 0), "transaction output is dust: 0 sat is too small to be relayed"),
        (pays(&to, -1), "transaction output is negative"),
        (with(|request| request.send_all = true), "amount set while SendAll is active"),
        (
            with(|request| (request.sat_per_vbyte, request.target_conf) = (2, 2)),
            "fee preference conflict",
        ),
        (
            with(|request| request.sat_per_vbyte = 1_001),
            "a fee of 1001 sat/vB must be a mistake: the most is 1000 sat/vB",
        ),
        (
            with(|request| (request.min_confs, request.spend_unconfirmed) = (1, true)),
            "SpendUnconfirmed set to true with MinConfs > 0",
        ),
        (
            with(|request| request.min_confs = 2),
            "insufficient funds available to construct transaction",
        ),
        (
            pays("tb1q6rz28mcfaxtmd6v789l9rrlrusdprr9pqcpvkl", 10_000),
            "address: tb1q6rz28mcfaxtmd6v789l9rrlrusdprr9pqcpvkl is not valid for this network: \
             regtest",
        ),
    ] {
        assert_eq!(refusal(&alice, request).await?, why);
    }
    let bitcoind = cluster.bitcoind();
    assert_eq!(alice.coins().await?.locked_balance, 0);
    has(&alice, 100_000, 0).await?;
    assert!(bitcoind.mempool()?.is_empty());
    bitcoind.stop()?;
    let down = refusal(&alice, pays(&to, 10_000)).await?;
    assert!(down.contains("bitcoind"), "{down}");
    // bitcoind's own refusals come in lnd's words: now it asks for 20 sat/vB.
    let file = bitcoind.dir().join("bitcoin.conf");
    std::fs::write(file, "[regtest]\nminrelaytxfee=0.0002\nincrementalrelayfee=0.0002\n")?;
    bitcoind.restart()?;
    let refused = refusal(&alice, with(|request| request.sat_per_vbyte = 5)).await?;
    assert!(refused.starts_with("unmatched backend error: -26: m"), "{refused}");
    assert!(refused.contains(" fee not met"), "{refused}");
    has(&alice, 100_000, 0).await?;
    assert_eq!(alice.coins().await?.locked_balance, 0);
    // Estimates know what it asks for.
    let txid = send(&alice, pays(&to, 10_000)).await?;
    let rate = fee_of(bitcoind, &txid)?.1;
    assert!((20.0..20.4).contains(&rate), "{rate} sat/vB");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_survives_kills_lost_mempools_and_reorganisations() -> Result<()> {
    let cluster = Cluster::start()?;
    let bitcoind = cluster.bitcoind();
    let (alice, bob) = (cluster.daemon("alice").await?, cluster.daemon("bob").await?);
    is_paid(&alice, [500_000, 0, 0]).await?;
    let to = address(&bob, AddressType::WitnessPubkeyHash).await?;
    let txid = send(&alice, pays(&to, 200_000)).await?;
    let left = 300_000 - fee_of(bitcoind, &txid)?.0;

    // Both go down, and bitcoind forgets.
    alice.killed();
    forgets_its_mempool(bitcoind)?;
    assert!(bitcoind.mempool()?.is_empty());
    alice.starts().await?;
    is_published(&alice, txid).await?;
    has(&alice, 0, left).await?;
    // bitcoind alone forgets, and is told again.
    forgets_its_mempool(bitcoind)?;
    is_published(&alice, txid).await?;
    has(&alice, 0, left).await?;
    // The change can be spent before it confirms, and both are published again.
    let child = send(&alice, pays(&to, 50_000)).await?;
    let left = left - 50_000 - fee_of(bitcoind, &child)?.0;
    forgets_its_mempool(bitcoind)?;
    is_published(&alice, child).await?;

    let block = bitcoind.mine(1)?[0];
    has(&alice, left, 0).await?;
    has(&bob, 250_000, 0).await?;
    bitcoind.rpc().invalidate_block(&block)?;
    has(&alice, 0, left).await?;
    has(&bob, 0, 250_000).await?;
    // The reorganised transactions are lost as well, and one of the daemons with them.
    alice.killed();
    forgets_its_mempool(bitcoind)?;
    alice.starts().await?;
    is_published(&alice, child).await?;
    bitcoind.mine_others(2)?;
    has(&alice, left, 0).await?;
    has(&bob, 250_000, 0).await?;
    alice.stops().await?;
    alice.starts().await?;
    has(&alice, left, 0).await?;
    assert_eq!(alice.coins().await?.locked_balance, 0);
    assert_eq!(transactions(&alice).await?.len(), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_left_the_mempool_counts_again_when_it_is_back() -> Result<()> {
    let cluster = Cluster::start()?;
    let bitcoind = cluster.bitcoind();
    let (alice, bob) = (cluster.daemon("alice").await?, cluster.daemon("bob").await?);
    is_paid(&bob, [100_000, 0, 0]).await?;
    let to = address(&alice, AddressType::TaprootPubkey).await?;
    let txid = send(&bob, pays(&to, 60_000)).await?;
    has(&alice, 0, 60_000).await?;
    // Not confirmed: neither spendable nor listed, unless one asks for it.
    let back = address(&bob, AddressType::WitnessPubkeyHash).await?;
    let refused = refusal(&alice, pays(&back, 10_000)).await?;
    assert_eq!(refused, "insufficient funds available to construct transaction");
    assert!(unspent(&alice, 1).await?.is_empty());
    assert_eq!(unspent(&alice, 0).await?.len(), 1);

    bob.killed();
    forgets_its_mempool(bitcoind)?;
    bitcoind.mine(1)?;
    has(&alice, 0, 0).await?;
    assert!(transactions(&alice).await?.is_empty());
    bob.starts().await?;
    is_published(&bob, txid).await?;
    has(&alice, 0, 60_000).await?;
    bitcoind.mine(1)?;
    has(&alice, 60_000, 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_double_spend_takes_a_payment_away_and_frees_what_was_spent_with_it() -> Result<()> {
    let cluster = Cluster::start()?;
    let bitcoind = cluster.bitcoind();
    let alice = cluster.daemon("alice").await?;
    is_paid(&alice, [100_000, 0, 0]).await?;
    let to = parsed(&address(&alice, AddressType::WitnessPubkeyHash).await?)?;
    let paid = bitcoind.send_to(&to, Sat::new(400_000))?;
    has(&alice, 100_000, 400_000).await?;
    let miner = bitcoind.rpc().get_new_address(None, None)?.assume_checked().to_string();
    let request =
        SendCoinsRequest { spend_unconfirmed: true, sat_per_vbyte: 2, ..pays(&miner, 450_000) };
    let sent = send(&alice, request).await?;
    let fee = fee_of(bitcoind, &sent)?.0;
    has(&alice, 0, 50_000 - fee).await?;

    let payment = in_mempool(bitcoind, &paid.txid)?;
    let rival = double_spend(bitcoind, &payment, &miner)?;
    assert!(!bitcoind.mempool()?.contains(&sent));
    // What is in flight stays held until a block has decided.
    has(&alice, 0, 0).await?;
    assert_eq!(alice.coins().await?.locked_balance, 100_000);
    let block = bitcoind.mine(1)?[0];
    let mined = bitcoind.rpc().get_block(&block)?;
    assert!(mined.txdata.iter().any(|tx| tx.compute_txid() == rival));
    has(&alice, 100_000, 0).await?;
    assert_eq!(alice.coins().await?.locked_balance, 0);
    assert_eq!(transactions(&alice).await?.len(), 1);
    alice.stops().await?;
    alice.starts().await?;
    has(&alice, 100_000, 0).await?;
    // The coin is as good as new.
    let request = SendCoinsRequest { send_all: true, ..pays(&miner, 0) };
    send(&alice, request).await?;
    bitcoind.mine(1)?;
    has(&alice, 0, 0).await
}

/// The miner takes a payment's inputs back, at a fee that replaces it and all that follows.
fn double_spend(bitcoind: &Bitcoind, payment: &Transaction, to: &str) -> Result<Txid> {
    let rpc = bitcoind.rpc();
    let mut inputs = Vec::new();
    for input in &payment.input {
        let spent = input.previous_output;
        inputs.push(json!({ "txid": spent.txid, "vout": spent.vout }));
    }
    let had: u64 = payment.output.iter().map(|output| output.value.to_sat()).sum();
    let value = bitcoin::Amount::from_sat(had - 50_000).to_btc();
    let raw: String = rpc.call("createrawtransaction", &[json!(inputs), json!({ to: value })])?;
    let signed: serde_json::Value = rpc.call("signrawtransactionwithwallet", &[json!(raw)])?;
    Ok(rpc.call("sendrawtransaction", &[signed["hex"].clone()])?)
}
