//! The table of flags: lnd's names, for what is built.

/// What follows a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing, or `=true` or `=false`.
    Switch,
    /// A value; the last one given counts.
    Value,
    /// A value; may be given again for more.
    List,
}

/// A flag, on the command line `--NAME`, in the file `NAME=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    /// Its name without dashes.
    pub name: &'static str,
    /// What follows it.
    pub kind: Kind,
    /// The value if it is not given; of a list, the only entry; empty if there is none.
    pub default: &'static str,
    /// What it does, in a line.
    pub help: &'static str,
}

use Kind::{List, Switch, Value};

const fn flag(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag { name, kind, default, help }
}

/// Every flag.
pub const FLAGS: &[Flag] = &[
    flag("help", Switch, "", "show this and stop"),
    flag("version", Switch, "", "show the version and stop"),
    flag("fulmendir", Value, "~/.fulmen", "directory for everything fulmend keeps"),
    flag("lnddir", Value, "", "the same as fulmendir"),
    flag("configfile", Value, "", "configuration file (default: fulmen.conf in fulmendir)"),
    flag("datadir", Value, "", "directory for the database and secrets (default: fulmendir/data)"),
    flag("logdir", Value, "", "directory for logs (default: fulmendir/logs)"),
    flag("debuglevel", Value, "info", "LEVEL, or SUBSYSTEM=LEVEL,… (trace to critical, off)"),
    flag("alias", Value, "", "the node's name for others, up to 32 bytes (default: of its key)"),
    flag("color", Value, "#3399FF", "the node's colour for others, #RRGGBB"),
    flag("listen", List, ":9735", "address for peers to connect to"),
    flag("rpclisten", List, "localhost:10009", "address for gRPC"),
    flag("externalip", List, "", "address to announce, IP or IP:PORT"),
    flag("tlsextraip", List, "", "further IP address that the TLS certificate is for"),
    flag("tlsextradomain", List, "", "further name that the TLS certificate is for"),
    flag("noseedbackup", Switch, "", "make and open a wallet without asking; for tests only"),
    flag("wallet-unlock-password-file", Value, "", "file with the password that opens the wallet"),
    flag(
        "wallet-unlock-allow-create",
        Switch,
        "",
        "with that file: while there is no wallet, wait for one to be made",
    ),
    flag("maxpendingchannels", Value, "1", "channels that a peer may have opening at once"),
    flag("minchansize", Value, "20000", "smallest channel accepted from a peer, in sat"),
    flag("maxchansize", Value, "16777215", "largest channel accepted from a peer, in sat"),
    flag(
        "channel-max-fee-exposure",
        Value,
        "500000",
        "what a channel may lose to fees at most, in sat",
    ),
    flag("dust-threshold", Value, "", "the same, by its older name"),
    flag("protocol.no-anchors", Switch, "", "offer and accept only channels without anchors"),
    flag("protocol.option-scid-alias", Switch, "", "give channels aliases (option_scid_alias)"),
    flag(
        "protocol.zero-conf",
        Switch,
        "",
        "use channels before they confirm (needs protocol.option-scid-alias)",
    ),
    flag("zeroconfpeer", List, "", "public key of a peer whose zero-conf channels are taken"),
    flag("wtclient.active", Switch, "", "have watchtowers watch the channels (docs/watchtower.md)"),
    flag("wtclient.tower", List, "", "PUBKEY@HOST:PORT of a tower that gets sealed records"),
    flag("wtclient.privatetower", List, "", "one's own tower: it gets a secret of each channel"),
    flag("wtclient.sweep-fee-rate", Value, "10", "what remedies in sealed records pay, in sat/vB"),
    flag("wtclient.max-updates", Value, "100000", "states in one session with a tower, at most"),
    flag("watchtower.active", Switch, "", "be a watchtower for others (docs/watchtower.md)"),
    flag("watchtower.listen", List, ":9911", "where its clients connect to, IP:PORT"),
    flag("watchtower.externalip", List, "", "where they reach it, told by `fulmen-cli tower info`"),
    flag(
        "watchtower.towerdir",
        Value,
        "",
        "what it keeps (default: watchtower/bitcoin/NETWORK in datadir)",
    ),
    flag(
        "coin-selection-strategy",
        Value,
        "largest",
        "which coins pay: largest (few inputs) or random",
    ),
    flag(
        "hodl.exit-settle",
        Switch,
        "",
        "neither settle nor fail what is received, for tests only",
    ),
    flag("trickledelay", Value, "90000", "time between two batches of gossip, in ms"),
    flag("bitcoin.active", Switch, "true", "for lnd's sake; cannot be switched off"),
    flag("bitcoin.mainnet", Switch, "", "use the main network; needs mainnet-at-own-risk"),
    flag(
        "mainnet-at-own-risk",
        Switch,
        "",
        "I know that this is young software, and put on it what I can afford to lose",
    ),
    flag("bitcoin.testnet", Switch, "", "use the test network (3)"),
    flag("bitcoin.signet", Switch, "", "use signet"),
    flag("bitcoin.regtest", Switch, "", "use a regression test network"),
    flag("bitcoin.node", Value, "bitcoind", "where blocks come from; there is only bitcoind"),
    flag(
        "bitcoin.defaultchanconfs",
        Value,
        "0",
        "confirmations before a channel is used (0: 3 to 6 by its size)",
    ),
    flag("bitcoin.basefee", Value, "1000", "fee for forwarding an HTLC, in msat"),
    flag("bitcoin.feerate", Value, "1", "fee for forwarding, in millionths of the amount"),
    flag("bitcoin.timelockdelta", Value, "80", "blocks between a forward's two expiries"),
    flag("bitcoin.minhtlc", Value, "1", "smallest HTLC accepted on our channels, in msat"),
    flag("bitcoind.rpchost", Value, "localhost", "bitcoind's RPC, HOST or HOST:PORT"),
    flag("bitcoind.rpcuser", Value, "", "user for bitcoind's RPC"),
    flag("bitcoind.rpcpass", Value, "", "password for bitcoind's RPC"),
    flag(
        "bitcoind.rpccookie",
        Value,
        "",
        "cookie file for bitcoind's RPC (default: in bitcoind.dir)",
    ),
    flag("bitcoind.dir", Value, "~/.bitcoin", "bitcoind's directory, for its cookie file"),
    flag("bitcoind.zmqpubrawblock", Value, "", "where bitcoind publishes blocks, tcp://HOST:PORT"),
    flag("bitcoind.zmqpubhashblock", Value, "", "where bitcoind publishes block hashes"),
    flag("bitcoind.zmqpubrawtx", Value, "", "where bitcoind publishes transactions"),
];

/// lnd's flags that people set, of what is not built.
pub const NOT_BUILT: &[(&str, &str)] = &[
    ("restlisten", "the REST interface"),
    ("bitcoin.testnet4", "testnet4"),
    ("bitcoin.simnet", "simnet"),
    ("accept-keysend", "keysend"),
    ("accept-amp", "AMP"),
    ("tor.active", "Tor"),
    ("protocol.wumbo-channels", "channels above 16777215 sat"),
    ("db.backend", "another database"),
];

/// Short forms of a few flags.
pub const SHORT: &[(&str, &str)] =
    &[("h", "help"), ("V", "version"), ("C", "configfile"), ("b", "datadir"), ("d", "debuglevel")];

/// The flag of that name.
pub fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name.eq_ignore_ascii_case(name))
}

/// The text of `--help`.
pub fn help() -> String {
    let mut text = String::from("Usage: fulmend [--FLAG[=VALUE]]…\n\n");
    for flag in FLAGS {
        let value = if flag.kind == Switch { "" } else { "=" };
        let again = if flag.kind == List { "; may be repeated" } else { "" };
        let default = match flag.default {
            "" => String::new(),
            default => format!(" (default: {default})"),
        };
        let name = format!("--{}{value}", flag.name);
        text.push_str(&format!("  {name:<28} {}{again}{default}\n", flag.help));
    }
    text.push_str("\nThe same names are used in fulmen.conf, as NAME=VALUE.\n");
    text
}
