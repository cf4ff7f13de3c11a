//! Which permissions a call needs, and which ones the usual macaroons have.

use super::{Op, Ops};

/// What a macaroon must allow for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// The call needs no macaroon: it unlocks the wallet, or tells whether it is locked.
    Nothing,
    /// All of these.
    Ops(&'static [Op]),
}

const ONCHAIN_READ: Op = ("onchain", "read");
const ONCHAIN_WRITE: Op = ("onchain", "write");
const OFFCHAIN_READ: Op = ("offchain", "read");
const OFFCHAIN_WRITE: Op = ("offchain", "write");
const ADDRESS_WRITE: Op = ("address", "write");
const PEERS_READ: Op = ("peers", "read");
const PEERS_WRITE: Op = ("peers", "write");
const INFO_READ: Op = ("info", "read");
const INFO_WRITE: Op = ("info", "write");
const INVOICES_READ: Op = ("invoices", "read");
const INVOICES_WRITE: Op = ("invoices", "write");

/// What a call of `method` (`/package.Service/Method`) needs; none if there is no such method.
pub fn needs(method: &str) -> Option<Needs> {
    let (service, method) = method.strip_prefix('/')?.split_once('/')?;
    match service {
        "lnrpc.WalletUnlocker" | "lnrpc.State" => Some(Needs::Nothing),
        "lnrpc.Lightning" => lightning(method).map(Needs::Ops),
        "routerrpc.Router" => router(method).map(Needs::Ops),
        "walletrpc.WalletKit" => match method {
            "PendingSweeps" => Some(Needs::Ops(&[ONCHAIN_READ])),
            "BumpFee" | "BumpForceCloseFee" => Some(Needs::Ops(&[ONCHAIN_WRITE])),
            _ => None,
        },
        "wtclientrpc.WatchtowerClient" => match method {
            "ListTowers" | "GetTowerInfo" | "Stats" | "Policy" => {
                Some(Needs::Ops(&[OFFCHAIN_READ]))
            }
            "AddTower" | "RemoveTower" | "DeactivateTower" | "TerminateSession" => {
                Some(Needs::Ops(&[OFFCHAIN_WRITE]))
            }
            _ => None,
        },
        "watchtowerrpc.Watchtower" => (method == "GetInfo").then_some(Needs::Ops(&[INFO_READ])),
        "fulmenrpc.Towers" => (method == "Coverage").then_some(Needs::Ops(&[OFFCHAIN_READ])),
        "fulmenrpc.Channels" => {
            let known = matches!(method, "ExplainChannel" | "ChannelRisk");
            known.then_some(Needs::Ops(&[OFFCHAIN_READ]))
        }
        "verrpc.Versioner" => (method == "GetVersion").then_some(Needs::Ops(&[INFO_READ])),
        _ => None,
    }
}

fn lightning(method: &str) -> Option<&'static [Op]> {
    Some(match method {
        "GetInfo" | "GetRecoveryInfo" => &[INFO_READ],
        "StopDaemon" | "DebugLevel" => &[INFO_WRITE],
        "NewAddress" => &[ADDRESS_WRITE],
        "WalletBalance"
        | "GetTransactions"
        | "SubscribeTransactions"
        | "ListUnspent"
        | "EstimateFee" => &[ONCHAIN_READ],
        "SendCoins" | "SendMany" => &[ONCHAIN_WRITE],
        "ListPeers" | "SubscribePeerEvents" => &[PEERS_READ],
        "ConnectPeer" | "DisconnectPeer" => &[PEERS_WRITE],
        "OpenChannel" | "OpenChannelSync" | "CloseChannel" => &[OFFCHAIN_WRITE, ONCHAIN_WRITE],
        "AbandonChannel" | "SendPayment" | "SendPaymentSync" | "RestoreChannelBackups" => {
            &[OFFCHAIN_WRITE]
        }
        "ListChannels"
        | "PendingChannels"
        | "ClosedChannels"
        | "ListAliases"
        | "ChannelBalance"
        | "SubscribeChannelEvents"
        | "ExportChannelBackup"
        | "ExportAllChannelBackups"
        | "VerifyChanBackup"
        | "SubscribeChannelBackups"
        | "DecodePayReq"
        | "ListPayments" => &[OFFCHAIN_READ],
        "BakeMacaroon" => &[("macaroon", "generate")],
        "ListMacaroonIDs" | "CheckMacaroonPermissions" => &[("macaroon", "read")],
        "DeleteMacaroonID" => &[("macaroon", "write")],
        "ListPermissions" => &[INFO_READ],
        "AddInvoice" => &[INVOICES_WRITE],
        "LookupInvoice" | "ListInvoices" | "SubscribeInvoices" => &[INVOICES_READ],
        _ => return None,
    })
}

fn router(method: &str) -> Option<&'static [Op]> {
    match method {
        "SendPaymentV2" | "SendPayment" => Some(&[OFFCHAIN_WRITE]),
        "TrackPaymentV2" | "TrackPayment" | "TrackPayments" => Some(&[OFFCHAIN_READ]),
        _ => None,
    }
}

/// Every entity that a macaroon may name.
pub const ENTITIES: [&str; 11] = [
    "onchain",
    "offchain",
    "address",
    "message",
    "remotesigner",
    "peers",
    "info",
    "invoices",
    "signer",
    "macaroon",
    super::URI,
];
/// Every action, but for those of [`super::URI`].
pub const ACTIONS: [&str; 3] = ["read", "write", "generate"];
/// Entities whose state can be read, by `readonly.macaroon` and `admin.macaroon`.
const READABLE: [&str; 9] = [
    "onchain", "offchain", "address", "message", "peers", "info", "invoices", "signer", "macaroon",
];
/// Entities that `admin.macaroon` may change.
const WRITABLE: [&str; 8] =
    ["onchain", "offchain", "address", "message", "peers", "info", "invoices", "macaroon"];
/// Entities for which `admin.macaroon` may make something new.
const GENERATING: [&str; 3] = ["signer", "macaroon", "remotesigner"];

/// What `readonly.macaroon` allows.
pub fn readonly() -> Ops {
    ops(READABLE.iter().map(|entity| (*entity, "read")))
}

/// What `admin.macaroon` allows: everything.
pub fn admin() -> Ops {
    let read = READABLE.iter().map(|entity| (*entity, "read"));
    let write = WRITABLE.iter().map(|entity| (*entity, "write"));
    let generate = GENERATING.iter().map(|entity| (*entity, "generate"));
    ops(read.chain(write).chain(generate))
}

/// What `invoice.macaroon` allows: to be paid, and to see that one was.
pub fn invoice() -> Ops {
    ops([INVOICES_READ, INVOICES_WRITE, ("address", "read"), ADDRESS_WRITE, ONCHAIN_READ])
}

fn ops(pairs: impl IntoIterator<Item = Op>) -> Ops {
    let mut ops = Ops::new();
    for (entity, action) in pairs {
        ops.entry(entity.to_owned()).or_default().insert(action.to_owned());
    }
    ops
}
