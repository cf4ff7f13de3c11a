//! Which methods lnd's services have, and which of them are built here.

/// A service that is served at all.
pub struct Service {
    /// Its full name.
    pub name: &'static str,
    /// The methods that are built.
    pub built: &'static [&'static str],
    /// lnd's others.
    pub unbuilt: &'static [&'static str],
}

/// Calls that need peers, or a wallet that has seen the whole chain: refused until then.
const NEED_CHAIN: &[(&str, &[&str])] = &[
    (
        "lnrpc.Lightning",
        &[
            "ConnectPeer",
            "DisconnectPeer",
            "OpenChannel",
            "OpenChannelSync",
            "CloseChannel",
            "RestoreChannelBackups",
            "SendPaymentSync",
            "SendCoins",
            "SendMany",
        ],
    ),
    ("routerrpc.Router", &["SendPaymentV2"]),
];

/// Whether a call is refused until the chain was caught up with for the first time.
pub fn needs_chain(service: &str, method: &str) -> bool {
    NEED_CHAIN.iter().any(|(name, methods)| *name == service && methods.contains(&method))
}

/// Whether a service answers before there is a node, and without a macaroon.
pub fn answers_at_all_times(service: &str) -> bool {
    matches!(service, "lnrpc.State" | "lnrpc.WalletUnlocker")
}

/// Every service that is served.
pub const SERVICES: &[Service] = &[
    Service { name: "lnrpc.State", built: &["SubscribeState", "GetState"], unbuilt: &[] },
    Service {
        name: "lnrpc.WalletUnlocker",
        built: &["GenSeed", "InitWallet", "UnlockWallet", "ChangePassword"],
        unbuilt: &[],
    },
    Service {
        name: "walletrpc.WalletKit",
        built: &["PendingSweeps", "BumpFee", "BumpForceCloseFee"],
        unbuilt: &[
            "DeriveKey",
            "DeriveNextKey",
            "EstimateFee",
            "FinalizePsbt",
            "FundPsbt",
            "GetTransaction",
            "ImportAccount",
            "ImportPublicKey",
            "ImportTapscript",
            "LabelTransaction",
            "LeaseOutput",
            "ListAccounts",
            "ListAddresses",
            "ListLeases",
            "ListSweeps",
            "ListUnspent",
            "NextAddr",
            "PublishTransaction",
            "ReleaseOutput",
            "RemoveTransaction",
            "RequiredReserve",
            "SendOutputs",
            "SignMessageWithAddr",
            "SignPsbt",
            "SubmitPackage",
            "VerifyMessageWithAddr",
            "XCreateAccount",
        ],
    },
    Service {
        name: "wtclientrpc.WatchtowerClient",
        built: &[
            "AddTower",
            "RemoveTower",
            "DeactivateTower",
            "TerminateSession",
            "ListTowers",
            "GetTowerInfo",
            "Stats",
            "Policy",
        ],
        unbuilt: &[],
    },
    Service { name: "watchtowerrpc.Watchtower", built: &["GetInfo"], unbuilt: &[] },
    // fulmen's own.
    Service { name: "fulmenrpc.Towers", built: &["Coverage"], unbuilt: &[] },
    Service { name: "fulmenrpc.Channels", built: &["ExplainChannel", "ChannelRisk"], unbuilt: &[] },
    Service { name: "verrpc.Versioner", built: &["GetVersion"], unbuilt: &[] },
    Service {
        name: "lnrpc.Lightning",
        built: &[
            "GetInfo",
            "GetRecoveryInfo",
            "StopDaemon",
            "ConnectPeer",
            "DisconnectPeer",
            "ListPeers",
            "NewAddress",
            "WalletBalance",
            "ChannelBalance",
            "SendCoins",
            "SendMany",
            "EstimateFee",
            "GetTransactions",
            "SubscribeTransactions",
            "ListUnspent",
            "OpenChannelSync",
            "OpenChannel",
            "PendingChannels",
            "ListChannels",
            "ListAliases",
            "ClosedChannels",
            "CloseChannel",
            "ExportChannelBackup",
            "ExportAllChannelBackups",
            "VerifyChanBackup",
            "RestoreChannelBackups",
            "SubscribeChannelBackups",
            "AddInvoice",
            "LookupInvoice",
            "ListInvoices",
            "DecodePayReq",
            "SendPaymentSync",
            "ListPayments",
            "SubscribeInvoices",
            "BakeMacaroon",
            "ListMacaroonIDs",
            "DeleteMacaroonID",
            "ListPermissions",
            "CheckMacaroonPermissions",
            "DebugLevel",
        ],
        unbuilt: &[
            "AbandonChannel",
            "BatchOpenChannel",
            "ChannelAcceptor",
            "DeleteAllPayments",
            "DeleteCanceledInvoice",
            "DeletePayment",
            "DescribeGraph",
            "FeeReport",
            "ForwardingHistory",
            "FundingStateStep",
            "GetChanInfo",
            "GetDebugInfo",
            "GetNetworkInfo",
            "GetNodeInfo",
            "GetNodeMetrics",
            "LookupHtlcResolution",
            "QueryRoutes",
            "RegisterRPCMiddleware",
            "SendCustomMessage",
            "SendOnionMessage",
            "SendPayment",
            "SignMessage",
            "SubscribeChannelEvents",
            "SubscribeChannelGraph",
            "SubscribeCustomMessages",
            "SubscribeOnionMessages",
            "SubscribePeerEvents",
            "UpdateChannelPolicy",
            "VerifyMessage",
        ],
    },
    Service {
        name: "routerrpc.Router",
        built: &["SendPaymentV2", "TrackPaymentV2"],
        unbuilt: &[
            "BuildRoute",
            "DeleteForwardingHistory",
            "EstimateRouteFee",
            "GetMissionControlConfig",
            "HtlcInterceptor",
            "QueryMissionControl",
            "QueryProbability",
            "ResetMissionControl",
            "SendPayment",
            "SendToRoute",
            "SendToRouteV2",
            "SetMissionControlConfig",
            "SubscribeHtlcEvents",
            "TrackPayment",
            "TrackPayments",
            "UpdateChanStatus",
            "XAddLocalChanAliases",
            "XDeleteLocalChanAliases",
            "XFindBaseLocalChanAlias",
            "XImportMissionControl",
        ],
    },
];

/// The full names of the methods that are built.
pub fn built() -> impl Iterator<Item = String> {
    let full = |service: &'static str| move |method: &&str| format!("/{service}/{method}");
    SERVICES.iter().flat_map(move |service| service.built.iter().map(full(service.name)))
}

/// Whether a service that is served has, or will have, a method with this full name.
pub fn is_known(full: &str) -> bool {
    let Some((name, method)) = full.strip_prefix('/').and_then(|full| full.split_once('/')) else {
        return false;
    };
    let of_service = |service: &&Service| service.name == name;
    let has =
        |service: &Service| service.built.contains(&method) || service.unbuilt.contains(&method);
    SERVICES.iter().find(of_service).is_some_and(has)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{needs, Needs};
    use std::collections::BTreeMap;

    #[test]
    fn every_method_that_is_built_needs_what_lnds_needs() {
        let table = include_str!("../../tests/vectors/permissions.tsv");
        let row = |line: &'static str| {
            let mut columns = line.split('\t');
            (columns.next().unwrap(), columns.next().unwrap())
        };
        let table: BTreeMap<_, _> = table.lines().skip(1).map(row).collect();
        let mut count = 0;
        for method in built().filter(|method| !method.starts_with("/fulmenrpc.")) {
            let ours = match needs(&method).expect(&method) {
                Needs::Nothing => String::new(),
                Needs::Ops(ops) => {
                    let mut ops: Vec<_> = ops.iter().map(|(e, a)| format!("{e}:{a}")).collect();
                    ops.sort();
                    ops.join(",")
                }
            };
            assert_eq!(Some(&ours.as_str()), table.get(method.as_str()), "{method}");
            count += 1;
        }
        assert!(count > 25, "only {count} methods are served");
    }

    #[test]
    fn known_methods_are_those_of_services_that_are_served() {
        assert!(is_known("/lnrpc.Lightning/GetInfo") && is_known("/lnrpc.Lightning/GetNodeInfo"));
        for other in ["", "/", "GetInfo", "/lnrpc.Lightning/Nope", "/nope.Nope/GetInfo"] {
            assert!(!is_known(other), "{other}");
        }
    }
}
