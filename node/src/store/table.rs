//! The tables: each maps keys of bytes to values of bytes.

macro_rules! tables {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A table. A new one needs no migration: it is made when the file is next opened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Table { $($(#[$doc])* $variant,)* }

        impl Table {
            /// Every table.
            pub const ALL: &'static [Table] = &[$(Table::$variant,)*];

            /// Its name in the database.
            pub const fn name(self) -> &'static str {
                match self { $(Table::$variant => $name,)* }
            }
        }
    };
}

tables! {
    /// Facts about the file and the node, by name: `schema_version`, the last block processed.
    Meta = "meta",
    /// The static row of a channel: what was agreed at its opening.
    Channel = "channel",
    /// The contract's named rows: channel number, then row name.
    ChannelRow = "channel_row",
    /// Short channel ids ever given away for a channel.
    Alias = "alias",
    /// Invoices by add index.
    Invoice = "invoice",
    /// Payment hash to the add index of its invoice.
    InvoiceByHash = "invoice_by_hash",
    /// Settle index to the add index of its invoice.
    InvoiceBySettle = "invoice_by_settle",
    /// Payments by index.
    Payment = "payment",
    /// Payment hash to the index of its payment.
    PaymentByHash = "payment_by_hash",
    /// The attempts of a payment: hash, session key, route.
    Attempt = "attempt",
    /// Payment hash to preimage.
    Preimage = "preimage",
    /// HTLCs joined across two channels, or to a local payment.
    Circuit = "circuit",
    /// The wallet's change sets.
    Wallet = "wallet",
    /// Wallet outputs set aside for a transaction.
    Reservation = "reservation",
    /// Transactions to broadcast until they are deep.
    Broadcast = "broadcast",
    /// What the sweeper has in hand.
    Claim = "claim",
    /// Outputs whose spend is watched for.
    Watch = "watch",
    /// Peers to stay connected to.
    Peer = "peer",
    /// Our own announcements, and what they were made of.
    Announcement = "announcement",
    /// Macaroon root keys by id.
    RootKey = "root_key",
    /// The peers' commitments that are not revoked, as towers will be told of them.
    TowerState = "tower_state",
    /// What waits for watchtowers: tower, channel, number.
    TowerQueue = "tower_queue",
    /// Watchtowers that were added by command, by their keys.
    Tower = "tower",
    /// How far a channel is with a watchtower.
    TowerSession = "tower_session",
    /// Forwarded HTLCs, for the operator's reports.
    Forward = "forward",
    /// Channels that were restored from their backups, by number.
    Restored = "restored",
    /// What peers with channels have us keep (BOLT 1), by node id.
    PeerStorage = "peer_storage",
    /// What was given and noted at a channel's opening, by channel number.
    ChannelNote = "channel_note",
    /// Channels that came to nothing, by number, with F: no backup of theirs brings them back.
    Forgotten = "forgotten",
}
