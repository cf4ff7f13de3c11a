//! Addresses as lnd's flags write them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Parses `IP`, `IP:PORT`, `:PORT` (every interface), `PORT` (this machine only) and `localhost`
/// in place of an IP. Names are not looked up.
pub(super) fn socket(text: &str, default_port: u16) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    if let Ok(ip) = bare(text).parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, default_port));
    }
    let port_of = |port: &str| port.parse::<u16>().map_err(|_| format!("\"{port}\" is no port"));
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    match text.rsplit_once(':') {
        Some(("", port)) => Ok((Ipv4Addr::UNSPECIFIED, port_of(port)?).into()),
        Some(("localhost", port)) => Ok((loopback, port_of(port)?).into()),
        None if text == "localhost" => Ok((loopback, default_port).into()),
        None if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok((loopback, port_of(text)?).into())
        }
        _ => Err("must be IP:PORT, IP, :PORT or localhost:PORT".into()),
    }
}

/// Parses `HOST` or `HOST:PORT` and returns `HOST:PORT`.
pub(super) fn host(text: &str, default_port: u16) -> Result<String, String> {
    let text = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let wrong = || "must be HOST or HOST:PORT".to_owned();
    if let Ok(IpAddr::V6(ip)) = bare(text).parse() {
        return Ok(format!("[{ip}]:{default_port}"));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
        None => (text, default_port),
    };
    let v6 = host.starts_with('[') && host.ends_with(']');
    let odd = |c: char| c.is_whitespace() || c == '/' || c == '@' || (c == ':' && !v6);
    if host.is_empty() || host.contains(odd) {
        return Err(wrong());
    }
    Ok(format!("{host}:{port}"))
}

/// An IPv6 address without its brackets.
fn bare(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}

/// Parses where a publisher of ZMQ listens.
pub(super) fn zmq(text: &str) -> Result<String, String> {
    match text.strip_prefix("tcp://").or(text.strip_prefix("ipc://")) {
        Some(rest) if !rest.is_empty() => Ok(text.to_owned()),
        _ => Err("must be tcp://HOST:PORT or ipc://PATH".into()),
    }
}
