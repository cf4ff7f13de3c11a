//! What becomes of our anchor on a commitment, as `pendingchannels` tells it. That it comes back
//! with what paid for the commitment is played in `unconfirmed`.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::secp256k1::PublicKey;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use bitcoincore_rpc::RpcApi as _;
use fulmen_channel::script::anchor::witness_script;
use fulmen_itest::bitcoind::Bitcoind;
use fulmen_itest::failure::{Context, Result};
use fulmen_itest::regtest::{Cluster, Daemon};
use fulmen_proto::lnrpc::pending_channels_response::force_closed_channel::AnchorState;

use crate::two_daemons::CAPACITY;

/// Blocks after which an anchor is anybody's (BOLT 3).
const ANYBODYS: u16 = 16;

/// Takes the anchors of a commitment for miners, which needs no secret: the keys are in the witness
/// that spends F.
fn picks_up_anchors(bitcoind: &Bitcoind, commitment: &Transaction) -> Result<Txid> {
    let script = commitment.input[0].witness.last().context("the script of F")?;
    let keys = [&script[2..35], &script[36..69]].map(PublicKey::from_slice);
    let mut input = Vec::new();
    for key in keys {
        let anchor = witness_script(&key?);
        let pays = |out: &TxOut| out.script_pubkey == anchor.to_p2wsh();
        let Some(place) = commitment.output.iter().position(pays) else { continue };
        let outpoint = OutPoint { txid: commitment.compute_txid(), vout: u32::try_from(place)? };
        input.push(TxIn {
            previous_output: outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::from_height(ANYBODYS),
            witness: Witness::from_slice(&[&[][..], anchor.as_bytes()]),
        });
    }
    let output =
        vec![TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new_op_return([7; 20]) }];
    let tx = Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output };
    Ok(bitcoind.rpc().send_raw_transaction(serialize_hex(&tx))?)
}

async fn is(daemon: &Daemon, state: AnchorState) -> Result<()> {
    daemon
        .until("the anchor's state is told", async || {
            let closing = daemon.pending_channels().await?.pending_force_closing_channels;
            Ok(closing.iter().any(|channel| channel.anchor() == state).then_some(()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anchor_that_somebody_else_picks_up_is_lost() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob, channel) = cluster.pair(CAPACITY).await?;
    let bitcoind = cluster.bitcoind();
    bob.stops().await?;
    alice.begins_to_close(&channel, true).await?;
    let commitment = alice
        .until("her commitment is in the mempool", async || {
            let waiting = alice.pending_channels().await?.waiting_close_channels;
            let txid: Option<Txid> = waiting.first().and_then(|it| it.closing_txid.parse().ok());
            let waits = bitcoind.mempool()?;
            Ok(txid.filter(|txid| waits.contains(txid)))
        })
        .await?;
    let published = bitcoind.rpc().get_raw_transaction(&commitment, None)?;
    // Alone, so that nothing of hers pays for it.
    let _: serde_json::Value = bitcoind
        .rpc()
        .call("generateblock", &["raw(51)".into(), serde_json::json!([commitment.to_string()])])?;
    is(&alice, AnchorState::Limbo).await?;
    bitcoind.mine(u64::from(ANYBODYS))?;
    let taker = picks_up_anchors(bitcoind, &published)?;
    let held = bitcoind.mine(1)?;
    is(&alice, AnchorState::Lost).await?;
    // The block goes, and with it who took it.
    bitcoind.rpc().invalidate_block(held.first().context("a block")?)?;
    is(&alice, AnchorState::Limbo).await?;
    assert!(bitcoind.mempool()?.contains(&taker));
    bitcoind.mine_others(2)?;
    is(&alice, AnchorState::Lost).await
}
