//! Where a peer may be reached: a host name or IP address, and a port.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The port of Lightning nodes on the main network, taken where none is given (BOLT 1).
pub const DEFAULT_PORT: u16 = 9735;

/// A host and a TCP port. As text `host:port`, `[2001:db8::1]:port`, or the host alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// A name, or an IP address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// A text is no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// There is no host, or it holds what no host name can.
    #[error("{0:?} is not a host name or IP address")]
    Host(String),
    /// What follows the last colon is not a port.
    #[error("{0:?} is not a port: give a number from 1 to 65535")]
    Port(String),
    /// A Tor onion service.
    #[error("{0} is a Tor address: fulmen does not connect through Tor yet")]
    Tor(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        if text.parse::<Ipv6Addr>().is_ok() {
            return Ok(Self { host: text.to_owned(), port: DEFAULT_PORT });
        }
        if let Some((host, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
            host.parse::<Ipv6Addr>().map_err(|_| BadAddress::Host(host.to_owned()))?;
            let port = if rest.is_empty() { Some("") } else { rest.strip_prefix(':') };
            let port = port.ok_or_else(|| BadAddress::Port(rest.to_owned()))?;
            return Ok(Self { host: host.to_owned(), port: parse_port(port)? });
        }
        let (host, port) = text.split_once(':').unwrap_or((text, ""));
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if host.is_empty() || !host.chars().all(fits) {
            return Err(BadAddress::Host(host.to_owned()));
        }
        if host.to_ascii_lowercase().ends_with(".onion") {
            return Err(BadAddress::Tor(host.to_owned()));
        }
        Ok(Self { host: host.to_owned(), port: parse_port(port)? })
    }
}

fn parse_port(text: &str) -> Result<u16, BadAddress> {
    match text.parse() {
        _ if text.is_empty() => Ok(DEFAULT_PORT),
        Ok(port) if port > 0 => Ok(port),
        _ => Err(BadAddress::Port(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, host, port, written) in [
            ("127.0.0.1:1234", "127.0.0.1", 1234, "127.0.0.1:1234"),
            ("node.example.com", "node.example.com", 9735, "node.example.com:9735"),
            ("[2001:db8::1]:9", "2001:db8::1", 9, "[2001:db8::1]:9"),
            ("[::1]", "::1", 9735, "[::1]:9735"),
            ("::1", "::1", 9735, "[::1]:9735"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address, Address { host: host.to_owned(), port });
            assert_eq!(address.to_string(), written);
            assert_eq!(written.parse(), Ok(address));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in
            ["", ":9735", "a b", "host:0", "host:65536", "host:x", "[::1", "[x]:1", "[::1]9"]
        {
            text.parse::<Address>().expect_err(text);
        }
        assert!(matches!("abc.onion:9735".parse::<Address>(), Err(BadAddress::Tor(_))));
    }
}
