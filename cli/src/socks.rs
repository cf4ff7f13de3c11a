//! --socksproxy: a connection through a SOCKS 5 proxy (RFC 1928), without a password.
//!
//! The proxy is asked for the daemon first; then one loopback connection is carried through it, so
//! that the rest of the program connects as always.

use std::io;
use std::net::SocketAddr;
use tokio::io::{copy_bidirectional, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const VERSION: u8 = 5;
const NO_PASSWORD: u8 = 0;
const CONNECT: u8 = 1;
const BY_NAME: u8 = 3;

/// Connects to `host`:`port` by the proxy at `proxy`; the loopback address that leads there, for
/// one connection.
///
/// # Errors
/// The proxy is away, refuses, or cannot reach the daemon.
pub async fn through(proxy: &str, host: &str, port: u16) -> io::Result<SocketAddr> {
    let mut far = TcpStream::connect(proxy).await?;
    handshake(&mut far, host, port).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let near = listener.local_addr()?;
    tokio::spawn(async move {
        if let Ok((mut near, _)) = listener.accept().await {
            let _ = copy_bidirectional(&mut near, &mut far).await; // gRPC sees how it ended
        }
    });
    Ok(near)
}

async fn handshake(far: &mut TcpStream, host: &str, port: u16) -> io::Result<()> {
    far.write_all(&[VERSION, 1, NO_PASSWORD]).await?;
    let mut chosen = [0; 2];
    far.read_exact(&mut chosen).await?;
    if chosen != [VERSION, NO_PASSWORD] {
        return Err(io::Error::other("the proxy wants a password, or speaks no SOCKS 5"));
    }
    let length = u8::try_from(host.len()).map_err(|_| io::Error::other("the name is too long"))?;
    let mut ask = vec![VERSION, CONNECT, 0, BY_NAME, length];
    ask.extend_from_slice(host.as_bytes());
    ask.extend_from_slice(&port.to_be_bytes());
    far.write_all(&ask).await?;
    let mut head = [0; 4];
    far.read_exact(&mut head).await?;
    let [_, reply, _, kind] = head;
    if reply != 0 {
        return Err(io::Error::other(format!("the proxy cannot reach it: reply {reply}")));
    }
    // the address by which the proxy went, which nobody needs
    let length = match kind {
        BY_NAME => usize::from(far.read_u8().await?),
        4 => 16,
        _ => 4,
    };
    let mut rest = vec![0; length.saturating_add(2)];
    far.read_exact(&mut rest).await?;
    Ok(())
}
