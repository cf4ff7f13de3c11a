//! What the picture is drawn from: F and the closing transaction as they are on chain, the
//! commitments as both daemons' ListChannels tell of them.

use std::collections::BTreeMap;

use bitcoin::{OutPoint, Transaction, Txid};
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::{Height, Sat};
use fulmen_proto::lnrpc::{Channel, ClosedChannelsRequest, CommitmentType, ListUnspentRequest};

use super::picture::{Commitment, Htlc, Picture, Settlement, Spend};
use crate::bitcoind::Bitcoind;
use crate::failure::{Context, Failure, Result};
use crate::regtest::Daemon;

/// Blocks that are searched for a transaction, from the tip down.
const SEARCHED: u64 = 100;
/// What an anchor holds (BOLT 3).
const ANCHOR: Sat = Sat::new(330);

/// The channel as it stands: F and both commitments.
///
/// # Errors
/// When a daemon does not answer, or F is not in a block.
pub async fn open(one: &Daemon, other: &Daemon) -> Result<Picture> {
    let (ours, theirs) = (one.quiet_channel().await?, other.quiet_channel().await?);
    let mut picture = funding(one.bitcoind(), &ours, [one.name(), other.name()])?;
    picture.spends = vec![
        Spend::Commitment(commitment(&ours, one.name(), other.name())?),
        Spend::Commitment(commitment(&theirs, other.name(), one.name())?),
    ];
    Ok(picture)
}

/// The channel after it was closed together: F and ES; nothing as long as one of them has not
/// closed it, or its coin is not in its wallet. `was` is the channel before.
///
/// # Errors
/// When a daemon does not answer, or ES is not in a block.
pub async fn closed(one: &Daemon, other: &Daemon, was: &Channel) -> Result<Option<Picture>> {
    let mut picture = funding(one.bitcoind(), was, [one.name(), other.name()])?;
    let (mut coins, mut txid) = (BTreeMap::new(), None);
    for daemon in [one, other] {
        let mut lightning = daemon.lightning().await?;
        let list = lightning.closed_channels(ClosedChannelsRequest::default()).await?;
        let mut list = list.into_inner().channels.into_iter();
        let found = list.find(|channel| channel.channel_point == was.channel_point);
        let Some(found) = found else { return Ok(None) };
        txid = Some(found.closing_tx_hash.parse::<Txid>()?);
        let request = ListUnspentRequest { max_confs: i32::MAX, ..Default::default() };
        for utxo in lightning.list_unspent(request).await?.into_inner().utxos {
            let outpoint = utxo.outpoint.context("an outpoint")?;
            coins.insert((outpoint.txid_str, outpoint.output_index), daemon.name());
        }
    }
    let (es, height) = find(one.bitcoind(), txid.context("a closing transaction")?)?;
    let txid = es.compute_txid();
    let mut pays = Vec::new();
    for (vout, output) in (0_u32..).zip(&es.output) {
        let Some(whose) = coins.get(&(txid.to_string(), vout)) else { return Ok(None) };
        pays.push((Sat::from(output.value), (*whose).to_owned()));
    }
    let paid = pays.iter().fold(Sat::ZERO, |sum, (value, _)| sum.saturating_add(*value));
    let fee = picture.value.saturating_sub(paid);
    picture.spends = vec![Spend::Settlement(Settlement { txid, height, fee, pays })];
    Ok(Some(picture))
}

fn funding(bitcoind: &Bitcoind, channel: &Channel, sides: [&str; 2]) -> Result<Picture> {
    let funding: OutPoint = channel.channel_point.parse()?;
    let (tx, height) = find(bitcoind, funding.txid)?;
    let output = tx.output.get(usize::try_from(funding.vout)?).context("F's output")?;
    let depth = bitcoind.height()?.saturating_add(1).saturating_sub(height.number().into());
    let (value, depth) = (output.value.into(), u32::try_from(depth)?);
    let sides = sides.map(str::to_owned);
    Ok(Picture { funding, value, height, depth, sides, spends: Vec::new() })
}

/// The commitment of the daemon that says `channel` of itself.
///
/// # Errors
/// When what it says makes no sense.
pub fn commitment(channel: &Channel, owner: &str, other: &str) -> Result<Commitment> {
    let limits = channel.local_constraints.as_ref().context("constraints")?;
    let worth = |value: Sat| Some(value).filter(|value| value.sat() >= limits.dust_limit_sat);
    let (to_local, to_remote) =
        (worth(sat(channel.local_balance)?), worth(sat(channel.remote_balance)?));
    let mut htlcs = Vec::new();
    for htlc in &channel.pending_htlcs {
        let (offered, expiry) = (!htlc.incoming, Height::new(htlc.expiration_height));
        let amount = worth(sat(htlc.amount)?);
        htlcs.extend(amount.map(|amount| Htlc { amount, offered, expiry }));
    }
    // A side that has nothing in the commitment needs no anchor, unless payments hang on it.
    let sides = [(owner, to_local), (other, to_remote)];
    let has_anchors = channel.commitment_type() == CommitmentType::Anchors;
    let anchored = sides.iter().filter(|(_, balance)| balance.is_some() || !htlcs.is_empty());
    let anchors = anchored.filter(|_| has_anchors).map(|(name, _)| ((*name).into(), ANCHOR));
    let anchors: Vec<(String, Sat)> = anchors.collect();
    let outputs = [to_local, to_remote].into_iter().flatten();
    let outputs = outputs.chain(htlcs.iter().map(|htlc: &Htlc| htlc.amount));
    let outputs = outputs.chain(anchors.iter().map(|(_, value)| *value));
    // What is too small for an output, and parts of a satoshi, go to the miner too.
    let fee = outputs.fold(sat(channel.capacity)?, Sat::saturating_sub);
    Ok(Commitment {
        owner: owner.into(),
        other: other.into(),
        fee,
        rate: u32::try_from(channel.fee_per_kw)?,
        to_local,
        delay: limits.csv_delay,
        to_remote,
        anchors,
        htlcs,
    })
}

/// A transaction of the last blocks, and its block's height.
fn find(bitcoind: &Bitcoind, txid: Txid) -> Result<(Transaction, Height)> {
    let tip = bitcoind.height()?;
    for height in (tip.saturating_sub(SEARCHED)..=tip).rev() {
        let block = bitcoind.rpc().get_block(&bitcoind.rpc().get_block_hash(height)?)?;
        if let Some(tx) = block.txdata.into_iter().find(|tx| tx.compute_txid() == txid) {
            return Ok((tx, Height::new(u32::try_from(height)?)));
        }
    }
    Err(Failure::new(format!("{txid} is in none of the last blocks")))
}

fn sat(amount: i64) -> Result<Sat> {
    Ok(Sat::new(u64::try_from(amount)?))
}
