//! An LDK node as a child process: one JSON object a line comes in on stdin, answers and events
//! go out on stdout. The node stops when stdin ends.
//!
//!     → {"id": 1, "command": "start", "dir": "/tmp/carol", "listen": "127.0.0.1:9735", …}
//!     ← {"id": 1, "ok": {"node_id": "02…"}}
//!     → {"id": 2, "command": "pay", "invoice": "lnbcrt1…"}
//!     ← {"id": 2, "ok": {"payment_hash": "…"}}
//!     ← {"event": "payment_failed", "payment_hash": "…", "reason": "RouteNotFound"}
//!     ← {"id": 3, "error": "an invoice that cannot be read"}

mod command;
mod event;
mod node;

use std::io::{stdin, stdout, BufRead, Write};

use serde_json::{json, Value};

use command::Request;
use node::Peer;

fn main() {
    let mut peer = None;
    for line in stdin().lock().lines().map_while(Result::ok) {
        let request: Request = match serde_json::from_str(&line) {
            Ok(request) => request,
            Err(error) => {
                say(&json!({ "id": null, "error": error.to_string() }));
                continue;
            }
        };
        say(&match node::obey(&mut peer, request.command) {
            Ok(ok) => json!({ "id": request.id, "ok": ok }),
            Err(error) => json!({ "id": request.id, "error": error.to_string() }),
        });
    }
    peer.as_ref().map(Peer::stop);
}

/// Writes one line. A reader that is gone ends the process: nobody is left to work for.
fn say(value: &Value) {
    let mut out = stdout().lock();
    if writeln!(out, "{value}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}
