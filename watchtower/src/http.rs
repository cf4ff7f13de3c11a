//! A question over HTTP/1.1 and its answer: what bitcoind's JSON-RPC needs of HTTP, on one
//! connection that is kept. Blocks, but never longer than its time; whatever the other side sends
//! or leaves out is an error, never a loop.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// No head of an answer is longer.
const LONGEST_HEAD: u64 = 1 << 14;
/// Nor its body: a block has 8 MB in hex, a large mempool's list some 20 MB.
const LONGEST_BODY: u64 = 1 << 28;

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status, such as 200.
    pub status: u16,
    /// What follows the head.
    pub body: Vec<u8>,
}

/// A connection to one server, made when it is first needed and again when it broke.
pub struct Http {
    host: String,
    timeout: Duration,
    kept: Mutex<Option<Connection>>,
    made: AtomicU64,
}

type Connection = BufReader<Timed>;

impl Http {
    /// To `host` (`address:port`); nothing is sent yet. No call lasts longer than `timeout`, once
    /// those before it are over.
    pub fn new(host: &str, timeout: Duration) -> Http {
        Http { host: host.into(), timeout, kept: Mutex::new(None), made: AtomicU64::new(0) }
    }

    /// Sends `body` with `authorization` (a whole header value) and waits for the answer. It may
    /// arrive twice: a server closes a connection that is idle, perhaps just now.
    ///
    /// # Errors
    /// When there is no connection, no whole answer in time, or none that is HTTP.
    pub fn post(&self, authorization: &str, body: &[u8]) -> io::Result<Answer> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now().checked_add(self.timeout).ok_or(io::ErrorKind::InvalidInput)?;
        let request = self.request(authorization, body);
        // It is taken out: what is left of an answer that broke off is nobody's answer.
        let answered = kept.take().map(|mut connection| {
            connection.get_mut().until = until;
            exchange(connection, &request)
        });
        let (answer, connection) = match answered {
            Some(Err(error)) if !is_closed(&error) => return Err(error),
            Some(Ok(answered)) => answered,
            _ => exchange(self.connect(until)?, &request)?,
        };
        *kept = connection;
        Ok(answer)
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    fn request(&self, authorization: &str, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nAuthorization: {authorization}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        [head.as_bytes(), body].concat()
    }

    fn connect(&self, until: Instant) -> io::Result<Connection> {
        let mut last = io::Error::other("the name has no address");
        for address in self.host.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(until)?) {
                Ok(stream) => {
                    self.made.fetch_add(1, Ordering::Relaxed);
                    return Ok(BufReader::new(Timed { stream, until }));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Asks and reads the answer; the connection comes back if it can be used again.
fn exchange(
    mut connection: Connection,
    request: &[u8],
) -> io::Result<(Answer, Option<Connection>)> {
    connection.get_mut().write_all(request)?;
    let (status, length) = head(&mut connection)?;
    let mut body = Vec::new();
    connection.by_ref().take(length.unwrap_or(LONGEST_BODY)).read_to_end(&mut body)?;
    match length {
        Some(length) if body.len() as u64 != length => Err(broken("the answer breaks off")),
        length => Ok((Answer { status, body }, length.map(|_| connection))),
    }
}

/// The status and the length of the body, if that is told.
fn head(connection: &mut Connection) -> io::Result<(u16, Option<u64>)> {
    let mut head = connection.take(LONGEST_HEAD);
    let first = line(&mut head)?.ok_or(io::ErrorKind::ConnectionAborted)?;
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    let status = status.ok_or_else(|| broken("the answer is not HTTP"))?;
    let mut length = None;
    loop {
        let next = line(&mut head)?.ok_or_else(|| broken("the answer's head breaks off"))?;
        if next.is_empty() {
            return Ok((status, length));
        }
        let (name, value) = next.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            let number = value.trim().parse().ok().filter(|length| *length <= LONGEST_BODY);
            length = Some(number.ok_or_else(|| broken("the answer has a length that is none"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(broken("the answer is in pieces, which bitcoind never does"));
        }
    }
}

/// The next line without its end; none where there is nothing more.
fn line(head: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    head.read_until(b'\n', &mut bytes)?;
    match bytes.strip_suffix(b"\n") {
        Some(line) => Ok(Some(String::from_utf8_lossy(line).trim_end().to_owned())),
        None if bytes.is_empty() => Ok(None),
        None => Err(broken("the answer's head breaks off or does not end")),
    }
}

fn broken(why: &str) -> io::Error {
    io::Error::other(why)
}

/// Whether the server closed the connection rather than answer.
fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
}

/// A stream whose reads and writes end at a time, however few bytes each moves.
struct Timed {
    stream: TcpStream,
    until: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.until)?))?;
        self.stream.read(buffer).map_err(named)
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.until)?))?;
        self.stream.write(buffer).map_err(named)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// The time that is left; an error when there is none.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left).ok_or_else(late)
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

/// Unix calls a read that timed out one that would block.
fn named(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => late(),
        _ => error,
    }
}
