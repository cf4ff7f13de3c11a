//! What may be asked for, as it stands in the JSON.

use serde::Deserialize;

/// A line of input; `id` comes back with the answer.
#[derive(Deserialize)]
pub struct Request {
    pub id: u64,
    #[serde(flatten)]
    pub command: Command,
}

/// The commands. Amounts carry their unit in the name; node ids are hex, channels are
/// `user_channel_id` in decimal.
#[derive(Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    Start(Start),
    NodeId,
    NewAddress,
    Balances,
    Connect {
        node_id: String,
        address: String,
    },
    Disconnect {
        node_id: String,
    },
    ListPeers,
    OpenChannel(OpenChannel),
    ListChannels,
    Bolt11Invoice {
        msat: Option<u64>,
        description: String,
        expiry_secs: u32,
    },
    /// An invoice for a preimage that the caller has: what is paid is held until `Claim`.
    HoldInvoice {
        msat: u64,
        description: String,
        expiry_secs: u32,
        payment_hash: String,
    },
    Claim {
        payment_hash: String,
        preimage: String,
        msat: u64,
    },
    Pay {
        invoice: String,
        msat: Option<u64>,
    },
    ListPayments,
    Close {
        channel: String,
        node_id: String,
    },
    ForceClose {
        channel: String,
        node_id: String,
    },
    Sync,
    Stop,
}

/// How to start the node. With an alias it may announce itself and its channels.
#[derive(Deserialize)]
pub struct Start {
    pub dir: String,
    pub rpc_host: String,
    pub rpc_port: u16,
    pub rpc_user: String,
    pub rpc_password: String,
    pub listen: String,
    pub alias: Option<String>,
    /// Whether to open anchor channels (and else static_remotekey alone).
    pub anchors: bool,
    /// Node ids whose channels it uses before they are in a block.
    #[serde(default)]
    pub trusts: Vec<String>,
}

/// A channel to open.
#[derive(Deserialize)]
pub struct OpenChannel {
    pub node_id: String,
    pub address: String,
    pub sat: u64,
    pub push_msat: Option<u64>,
    pub announced: bool,
}
