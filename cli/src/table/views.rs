//! Which lists of which answers become tables, and with which columns.

/// How a column's cells are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As it is.
    Text,
    /// As it is; its middle may be left out where room is short.
    Id,
    /// To the right, with commas.
    Number,
    /// Seconds since 1970, as a date.
    Time,
    /// A bar shared by the numbers at two paths.
    Bar {
        /// Path of the filled part.
        ours: &'static str,
        /// Path of the rest.
        theirs: &'static str,
    },
}

impl Kind {
    pub(super) fn is_right(self) -> bool {
        self == Kind::Number
    }
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its header.
    pub title: &'static str,
    /// Where a row has its value: names with dots between.
    pub path: &'static str,
    /// How it is shown.
    pub kind: Kind,
}

/// A list in an answer, and its columns.
#[derive(Clone, Copy, Debug)]
pub struct List {
    /// The answer's field.
    pub name: &'static str,
    /// In order.
    pub columns: &'static [Column],
}

const fn text(title: &'static str, path: &'static str) -> Column {
    Column { title, path, kind: Kind::Text }
}

const fn id(title: &'static str, path: &'static str) -> Column {
    Column { title, path, kind: Kind::Id }
}

const fn number(title: &'static str, path: &'static str) -> Column {
    Column { title, path, kind: Kind::Number }
}

const fn time(title: &'static str, path: &'static str) -> Column {
    Column { title, path, kind: Kind::Time }
}

const BALANCES: Column = Column {
    title: "",
    path: "",
    kind: Kind::Bar { ours: "local_balance", theirs: "remote_balance" },
};

const PENDING: List = List {
    name: "pending_open_channels",
    columns: &[
        id("NODE", "channel.remote_node_pub"),
        id("CHANNEL_POINT", "channel.channel_point"),
        number("CAPACITY", "channel.capacity"),
        number("LOCAL", "channel.local_balance"),
        number("REMOTE", "channel.remote_balance"),
        number("BLOCKS_LEFT", "confirmations_until_active"),
    ],
};

const FORCED: List = List {
    name: "pending_force_closing_channels",
    columns: &[
        id("NODE", "channel.remote_node_pub"),
        id("CHANNEL_POINT", "channel.channel_point"),
        number("CAPACITY", "channel.capacity"),
        number("LIMBO", "limbo_balance"),
        number("BLOCKS_LEFT", "blocks_til_maturity"),
        id("CLOSING_TXID", "closing_txid"),
    ],
};

const WAITING: List = List {
    name: "waiting_close_channels",
    columns: &[
        id("NODE", "channel.remote_node_pub"),
        id("CHANNEL_POINT", "channel.channel_point"),
        number("CAPACITY", "channel.capacity"),
        number("LIMBO", "limbo_balance"),
        id("CLOSING_TXID", "closing_txid"),
    ],
};

const CLAIMS: List = List {
    name: "claims",
    columns: &[
        id("CHANNEL_POINT", "channel_point"),
        id("CLAIM", "witness_type"),
        id("OUTPOINT", "outpoint"),
        number("SAT", "amount_sat"),
        number("FROM", "maturity_height"),
        number("UNTIL", "deadline_height"),
        number("BUDGET", "budget"),
        number("SAT_VB", "sat_per_vbyte"),
    ],
};

const LISTS: &[(&str, &[List])] = &[
    (
        "lnrpc.ListChannelsResponse",
        &[List {
            name: "channels",
            columns: &[
                text("PEER", "peer_alias"),
                id("NODE", "remote_pubkey"),
                id("CHANNEL_POINT", "channel_point"),
                number("CAPACITY", "capacity"),
                number("LOCAL", "local_balance"),
                BALANCES,
                number("REMOTE", "remote_balance"),
                number("SENT", "total_satoshis_sent"),
                number("RECEIVED", "total_satoshis_received"),
                text("ACTIVE", "active"),
            ],
        }],
    ),
    ("lnrpc.PendingChannelsResponse", &[PENDING, FORCED, WAITING]),
    ("pendingchannels", &[PENDING, FORCED, WAITING, CLAIMS]),
    (
        "lnrpc.ClosedChannelsResponse",
        &[List {
            name: "channels",
            columns: &[
                id("NODE", "remote_pubkey"),
                id("CHANNEL_POINT", "channel_point"),
                number("CAPACITY", "capacity"),
                number("SETTLED", "settled_balance"),
                text("TYPE", "close_type"),
                number("HEIGHT", "close_height"),
                id("CLOSING_TXID", "closing_tx_hash"),
            ],
        }],
    ),
    (
        "lnrpc.ListPeersResponse",
        &[List {
            name: "peers",
            columns: &[
                id("NODE", "pub_key"),
                text("ADDRESS", "address"),
                text("INBOUND", "inbound"),
                number("BYTES_SENT", "bytes_sent"),
                number("BYTES_RECEIVED", "bytes_recv"),
                number("PING_US", "ping_time"),
            ],
        }],
    ),
    (
        "lnrpc.ListInvoiceResponse",
        &[List {
            name: "invoices",
            columns: &[
                number("INDEX", "add_index"),
                time("MADE", "creation_date"),
                number("SAT", "value"),
                number("PAID", "amt_paid_sat"),
                text("STATE", "state"),
                id("HASH", "r_hash"),
                text("MEMO", "memo"),
            ],
        }],
    ),
    (
        "lnrpc.ListPaymentsResponse",
        &[List {
            name: "payments",
            columns: &[
                number("INDEX", "payment_index"),
                time("MADE", "creation_date"),
                number("SAT", "value_sat"),
                number("FEE", "fee_sat"),
                text("STATE", "status"),
                id("HASH", "payment_hash"),
            ],
        }],
    ),
    (
        "lnrpc.TransactionDetails",
        &[List {
            name: "transactions",
            columns: &[
                time("SEEN", "time_stamp"),
                number("HEIGHT", "block_height"),
                number("CONFS", "num_confirmations"),
                number("SAT", "amount"),
                number("FEE", "total_fees"),
                id("TXID", "tx_hash"),
                text("LABEL", "label"),
            ],
        }],
    ),
    (
        "listunspent",
        &[List {
            name: "utxos",
            columns: &[
                number("CONFS", "confirmations"),
                number("SAT", "amount_sat"),
                id("ADDRESS", "address"),
                id("OUTPOINT", "outpoint"),
            ],
        }],
    ),
    (
        "lnrpc.ListAliasesResponse",
        &[List {
            name: "alias_maps",
            columns: &[text("SCID", "base_scid"), text("ALIASES", "aliases")],
        }],
    ),
];

/// The lists that become tables in the message, or answer in another shape, called `message`;
/// none for a single answer.
pub fn lists(message: &str) -> &'static [List] {
    LISTS.iter().find(|(name, _)| *name == message).map_or(&[], |(_, lists)| lists)
}

/// Every message that has a table, for the tests.
#[cfg(test)]
pub(super) fn all() -> &'static [(&'static str, &'static [List])] {
    LISTS
}
