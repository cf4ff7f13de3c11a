//! JSON-RPC over HTTP as bitcoind serves it: basic authentication, one thread a connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use serde_json::{json, Value};

use super::Shared;
use crate::chainbox::rpc::{Answer, RpcError, NO_METHOD};

/// A request that is none.
const BAD_REQUEST: i32 = -32_600;
const BAD_JSON: i32 = -32_700;
/// More than the largest block in hex.
const MAX_BODY: u64 = 16_000_000;
const MAX_LINE: u64 = 8_192;

/// Serves until the process ends. `login` is `USER:PASSWORD`.
pub(super) fn serve(listener: &TcpListener, login: &str, shared: &Arc<Shared>) {
    let login = Arc::new(format!("Basic {}", STANDARD.encode(login)));
    for stream in listener.incoming().filter_map(Result::ok) {
        let (login, shared) = (Arc::clone(&login), Arc::clone(shared));
        // A connection that breaks is the client's affair.
        thread::spawn(move || drop(converse(stream, &login, &shared)));
    }
}

/// Answers the requests of one connection until it is closed.
fn converse(mut stream: TcpStream, login: &str, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = Request::read(&mut reader)? {
        if request.authorization.as_deref() != Some(login) {
            return respond(&mut stream, 401, "");
        }
        let (status, body, stops) = match request.method.as_str() {
            "POST" => answer(&request.body, shared),
            _ => (405, "JSONRPC server handles only POST requests".into(), false),
        };
        respond(&mut stream, status, &body)?;
        if stops {
            shared.stop();
        }
        if request.closes {
            break;
        }
    }
    Ok(())
}

struct Request {
    method: String,
    authorization: Option<String>,
    closes: bool,
    body: Vec<u8>,
}

impl Request {
    /// The next request; nothing when the client has closed.
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let Some(first) = line(reader)? else { return Ok(None) };
        let method = first.split(' ').next().unwrap_or_default().to_owned();
        let mut request = Request { method, authorization: None, closes: false, body: Vec::new() };
        let mut length = 0;
        while let Some(line) = line(reader)?.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "authorization" => request.authorization = Some(value.to_owned()),
                "content-length" => length = value.parse().map_err(io::Error::other)?,
                "connection" => request.closes = value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        if length > MAX_BODY {
            return Err(io::Error::other("too long"));
        }
        reader.take(length).read_to_end(&mut request.body)?;
        Ok(Some(request))
    }
}

/// A line without its end; nothing at the end of the stream.
fn line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    match reader.take(MAX_LINE).read_line(&mut line)? {
        0 => Ok(None),
        _ => Ok(Some(line.trim_end().to_owned())),
    }
}

fn respond(stream: &mut TcpStream, status: u16, body: &str) -> io::Result<()> {
    let (reason, further) = match status {
        200 => ("OK", ""),
        400 => ("Bad Request", ""),
        401 => ("Unauthorized", "WWW-Authenticate: Basic realm=\"jsonrpc\"\r\n"),
        404 => ("Not Found", ""),
        405 => ("Method Not Allowed", ""),
        _ => ("Internal Server Error", ""),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\n{further}\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes())
}

/// Status and body for a request or a batch of them, and whether one of them was `stop`.
fn answer(body: &[u8], shared: &Shared) -> (u16, String, bool) {
    match serde_json::from_slice(body) {
        Ok(Value::Array(batch)) => {
            let calls: Vec<Call> = batch.iter().map(|request| call(request, shared)).collect();
            let stops = calls.iter().any(|call| call.stops);
            let answers: Vec<Value> = calls.into_iter().map(|call| call.response).collect();
            (200, Value::Array(answers).to_string(), stops)
        }
        Ok(request) => {
            let call = call(&request, shared);
            (call.status, format!("{}\n", call.response), call.stops)
        }
        Err(_) => {
            let error = RpcError::new(BAD_JSON, "Parse error");
            let call = Call::new(&Value::Null, false, Err(error));
            (call.status, call.response.to_string(), false)
        }
    }
}

struct Call {
    status: u16,
    response: Value,
    stops: bool,
}

impl Call {
    /// Old clients are told of errors in the HTTP status too; those of version 2.0 are not.
    fn new(id: &Value, version_2: bool, answer: Answer) -> Self {
        let error = |error: &RpcError| json!({ "code": error.code, "message": error.message });
        let status = match &answer {
            Err(error) if !version_2 && error.code == NO_METHOD => 404,
            Err(error) if !version_2 && error.code == BAD_REQUEST => 400,
            Err(_) if !version_2 => 500,
            _ => 200,
        };
        let response = match (version_2, &answer) {
            (true, Ok(result)) => json!({ "jsonrpc": "2.0", "result": result, "id": id }),
            (true, Err(why)) => json!({ "jsonrpc": "2.0", "error": error(why), "id": id }),
            (false, Ok(result)) => json!({ "result": result, "error": null, "id": id }),
            (false, Err(why)) => json!({ "result": null, "error": error(why), "id": id }),
        };
        Call { status, response, stops: false }
    }
}

fn call(request: &Value, shared: &Shared) -> Call {
    let field = |name| request.get(name).unwrap_or(&Value::Null);
    let version_2 = field("jsonrpc").as_str() == Some("2.0");
    let (method, arguments) = (field("method").as_str(), field("params"));
    let empty = Vec::new();
    let arguments = match arguments {
        Value::Array(arguments) => Ok(arguments),
        Value::Null => Ok(&empty),
        _ => Err(RpcError::new(BAD_REQUEST, "the chain in a box takes arguments by position")),
    };
    let method = method.ok_or_else(|| RpcError::new(BAD_REQUEST, "Missing method"));
    let answer = method
        .clone()
        .and_then(|method| arguments.and_then(|arguments| shared.answer(method, arguments)));
    let stops = answer.is_ok() && method.is_ok_and(|method| method == "stop");
    Call { stops, ..Call::new(field("id"), version_2, answer) }
}
