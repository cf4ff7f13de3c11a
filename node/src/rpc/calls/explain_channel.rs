//! ExplainChannel: the tree of a channel's transactions.

use super::{channel_point, failed, sat};
use crate::channels::explain::{self, Explained, Name};
use crate::node::Node;
use fulmen_channel::onchain::tree::{By, Needs, Node as Tree, Output, State, What};
use fulmen_channel::params::Side;
use fulmen_channel::payment::PaymentHash;
use fulmen_channel::transactions::commitment::HtlcRef;
use fulmen_proto::fulmenrpc::{self, output, transaction};
use tonic::Status;

/// The tree of the channel that the request names.
pub async fn explain_channel(
    node: &Node,
    request: fulmenrpc::ExplainChannelRequest,
) -> Result<fulmenrpc::ExplainChannelResponse, Status> {
    let (name, channel) = named(node, &request.channel).await?;
    Ok(fulmenrpc::ExplainChannelResponse {
        channel_point: channel_point(channel.outpoint),
        channel_id: hex::encode(channel.channel_id.0),
        chan_id: channel.names.0.unwrap_or(0),
        remote_pubkey: channel.peer.to_string(),
        phase: channel.phase.into(),
        height: channel.height.number(),
        funding: Some(transaction(&channel.tree)),
        asked_txid: name.txid(&channel).unwrap_or_default(),
    })
}

/// The channel of this name.
pub(super) async fn named(node: &Node, text: &str) -> Result<(Name, Explained), Status> {
    let name = Name::parse(text).ok_or_else(|| {
        failed(format!(
            "{text:?} names no channel: write funding_txid:index, a short channel id, the \
             channel's id, or the id of a transaction of it"
        ))
    })?;
    let found = explain::find(&node.services, &name).await.map_err(failed)?;
    let found = found.ok_or_else(|| failed(format!("no channel of ours is called {text}")))?;
    Ok((name, found))
}

fn transaction(node: &Tree) -> fulmenrpc::Transaction {
    let (needs, preimage_known) = match node.needs {
        Needs::Nothing => (transaction::Needs::Nothing, false),
        Needs::Preimage { known } => (transaction::Needs::Preimage, known),
        Needs::Revocation => (transaction::Needs::Revocation, false),
        Needs::Agreement => (transaction::Needs::Agreement, false),
    };
    let state = match node.state {
        State::OnChain => transaction::State::OnChain,
        State::Published => transaction::State::Published,
        State::Ready => transaction::State::Ready,
        State::Waits => transaction::State::Waits,
        State::Gone => transaction::State::Gone,
    };
    fulmenrpc::Transaction {
        name: node.title.to_string(),
        by: side(node.by),
        state: state.into(),
        txid: node.txid.map(|txid| txid.to_string()).unwrap_or_default(),
        height: node.height.map(|height| height.number()),
        number: node.number,
        delay: node.delay,
        from: node.from.map(|height| height.number()),
        until: node.until.map(|height| height.number()),
        needs: needs.into(),
        preimage_known,
        outputs: node.outputs.iter().map(output).collect(),
    }
}

fn output(output: &Output) -> fulmenrpc::Output {
    let what = match output.what {
        What::Funding => output::What::Funding,
        What::ToLocal => output::What::ToLocal,
        What::ToRemote => output::What::ToRemote,
        What::Anchor => output::What::Anchor,
        What::Htlc => output::What::Htlc,
        What::SecondStage => output::What::SecondStage,
        What::Share => output::What::Share,
    };
    let told = output.htlc.as_ref().map(|(tag, it)| {
        let (amount, expiry) = (it.amount.msat(), it.cltv_expiry.number());
        htlc(*tag, amount, it.payment_hash, expiry)
    });
    fulmenrpc::Output {
        what: what.into(),
        index: output.place,
        value_sat: output.value.map(sat),
        owner: side(output.owner),
        htlc: told,
        taken_by: output.taken.map(|(txid, _)| txid.to_string()).unwrap_or_default(),
        taken_height: output.taken.map(|(_, height)| height.number()),
        spends: output.spends.iter().map(transaction).collect(),
    }
}

/// An HTLC as the API tells it.
pub(super) fn htlc(
    (by, id): HtlcRef,
    amount_msat: u64,
    payment_hash: PaymentHash,
    expiry: u32,
) -> fulmenrpc::Htlc {
    fulmenrpc::Htlc {
        id,
        incoming: by == Side::Remote,
        amount_msat: i64::try_from(amount_msat).unwrap_or(i64::MAX),
        payment_hash: payment_hash.0.to_vec(),
        expiry,
    }
}

fn side(by: By) -> i32 {
    match by {
        By::Us => fulmenrpc::Side::Us,
        By::Them => fulmenrpc::Side::Them,
        By::Both => fulmenrpc::Side::Both,
        By::Anybody => fulmenrpc::Side::Anybody,
    }
    .into()
}
