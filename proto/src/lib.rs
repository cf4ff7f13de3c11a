//! lnrpc, wire compatible, and what fulmen tells beyond it: the generated messages, clients and
//! servers, and their JSON.

pub mod json;
pub mod tls;

/// Messages and service of `fulmenrpc`, fulmen's own: channels explained.
#[allow(missing_docs, clippy::all)] // generated
pub mod fulmenrpc {
    tonic::include_proto!("fulmenrpc");
}

/// Messages and service of `lnrpc`: the node's main interface; also the wallet unlocker and state.
#[allow(missing_docs, clippy::all)] // generated
pub mod lnrpc {
    tonic::include_proto!("lnrpc");
}

/// Messages and service of `routerrpc`: payments followed to their end.
#[allow(missing_docs, clippy::all)] // generated
pub mod routerrpc {
    tonic::include_proto!("routerrpc");
}

/// Messages and service of `walletrpc`: what is taken on chain.
#[allow(missing_docs, clippy::all)] // generated
pub mod walletrpc {
    tonic::include_proto!("walletrpc");
}

/// Messages and service of `wtclientrpc`: the watchtowers that watch this node's channels.
#[allow(missing_docs, clippy::all)] // generated
pub mod wtclientrpc {
    tonic::include_proto!("wtclientrpc");
}

/// Messages and service of `watchtowerrpc`: the watchtower within the daemon.
#[allow(missing_docs, clippy::all)] // generated
pub mod watchtowerrpc {
    tonic::include_proto!("watchtowerrpc");
}

/// Messages and service of `verrpc`: which program answers.
#[allow(missing_docs, clippy::all)] // generated
pub mod verrpc {
    tonic::include_proto!("verrpc");
}
