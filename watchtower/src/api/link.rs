//! A Noise connection (BOLT 8) on which one question waits for one answer.

use super::message::{decode, encode};
use crate::noise::{
    Initiator, Opener, Responder, Sealer, Transport, ACT_ONE, ACT_THREE, ACT_TWO, HEADER, MAC,
};
use bitcoin::secp256k1::rand::rngs::OsRng;
use bitcoin::secp256k1::{PublicKey, SecretKey};
use serde::{de::DeserializeOwned, Serialize};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a handshake may take, and how long the other side may take to read on.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no connection any more.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The socket's trouble.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It took too long.
    #[error("the other side does not answer in time")]
    Timeout,
    /// Not who we want, or bytes that nobody sealed for us.
    #[error("{0}")]
    Noise(String),
    /// A message that makes no sense.
    #[error("the other side sends what is no message of this protocol")]
    Garbage,
}

/// One end of it.
pub struct Link {
    stream: TcpStream,
    sealer: Sealer,
    opener: Opener,
}

impl Link {
    /// Connects to the tower of this key as who holds `secret`.
    ///
    /// # Errors
    /// [`LinkError`]
    pub async fn connect(
        address: &str,
        tower: &PublicKey,
        secret: &SecretKey,
    ) -> Result<Link, LinkError> {
        let handshake = async {
            let mut stream = TcpStream::connect(address).await?;
            let (ours, act_one) = Initiator::start(secret, tower, ephemeral()).map_err(noise)?;
            stream.write_all(&act_one).await?;
            let act_two: [u8; ACT_TWO] = read(&mut stream).await?;
            let (transport, act_three) = ours.finish(&act_two).map_err(noise)?;
            stream.write_all(&act_three).await?;
            Ok(Link::new(stream, transport))
        };
        timeout(PATIENCE, handshake).await.map_err(|_| LinkError::Timeout)?
    }

    /// Takes a connection that somebody made; who it is.
    ///
    /// # Errors
    /// [`LinkError`]
    pub async fn accept(
        mut stream: TcpStream,
        secret: &SecretKey,
    ) -> Result<(Link, PublicKey), LinkError> {
        let handshake = async {
            let act_one: [u8; ACT_ONE] = read(&mut stream).await?;
            let ours = Responder::start(secret, ephemeral(), &act_one);
            let (ours, act_two) = ours.map_err(noise)?;
            stream.write_all(&act_two).await?;
            let act_three: [u8; ACT_THREE] = read(&mut stream).await?;
            let (transport, client) = ours.finish(&act_three).map_err(noise)?;
            Ok((Link::new(stream, transport), client))
        };
        timeout(PATIENCE, handshake).await.map_err(|_| LinkError::Timeout)?
    }

    fn new(stream: TcpStream, transport: Transport) -> Link {
        let Transport { sealer, opener } = transport;
        // Only a matter of speed.
        let _ = stream.set_nodelay(true);
        Link { stream, sealer, opener }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// [`LinkError`]
    pub async fn send<T: Serialize>(&mut self, message: &T) -> Result<(), LinkError> {
        let mut frame = Vec::new();
        self.sealer.seal(&encode(message), &mut frame).map_err(noise)?;
        let written = timeout(PATIENCE, self.stream.write_all(&frame)).await;
        Ok(written.map_err(|_| LinkError::Timeout)??)
    }

    /// The next message, if it comes within `patience`.
    ///
    /// # Errors
    /// [`LinkError`]
    pub async fn receive<T: DeserializeOwned>(
        &mut self,
        patience: Duration,
    ) -> Result<T, LinkError> {
        let frame = async {
            let header: [u8; HEADER] = read(&mut self.stream).await?;
            let length = self.opener.length(&header).map_err(noise)?;
            let mut body = vec![0; length.saturating_add(MAC)];
            self.stream.read_exact(&mut body).await?;
            self.opener.message(&body).map_err(noise)
        };
        let message = timeout(patience, frame).await.map_err(|_| LinkError::Timeout)??;
        decode::<Owned<T>>(&message).map(|owned| owned.0).ok_or(LinkError::Garbage)
    }
}

/// What a message borrows nothing of.
#[derive(serde::Deserialize)]
#[serde(bound = "T: DeserializeOwned", transparent)]
struct Owned<T>(T);

async fn read<const N: usize>(stream: &mut TcpStream) -> Result<[u8; N], LinkError> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn ephemeral() -> SecretKey {
    SecretKey::new(&mut OsRng)
}

fn noise(error: impl std::fmt::Display) -> LinkError {
    LinkError::Noise(error.to_string())
}
