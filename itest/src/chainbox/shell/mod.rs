//! The box as a process that takes bitcoind's place: HTTP, ZMQ and a folder around a [`ChainBox`].
//!
//! Started with bitcoind's own flags, those of them that have a meaning here.

mod disk;
mod http;
mod options;
mod zmq;

use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc::{channel, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Instant, UNIX_EPOCH};

use rand::RngCore;
use serde_json::{json, Value};

use self::disk::Disk;
use self::options::Options;
use self::zmq::Publisher;
use super::rpc::{self, Answer, RpcError};
use super::ChainBox;
use crate::failure::{Context, Failure, Result};

/// bitcoind's code as long as it reads its files.
const WARMING_UP: i32 = -28;

/// Runs the program with these arguments until `stop` is called.
///
/// # Errors
/// When an argument is unknown, the folder cannot be used, or a port is taken.
pub fn run(arguments: impl Iterator<Item = String>) -> Result<()> {
    let arguments: Vec<String> = arguments.collect();
    if arguments.iter().any(|argument| argument.trim_start_matches('-') == "version") {
        println!("fulmen's chain in a box, policy of Bitcoin Core 29.1");
        return Ok(());
    }
    let options = Options::parse(&arguments)?;
    std::fs::create_dir_all(&options.folder).context(options.folder.display())?;
    let address = format!("127.0.0.1:{}", options.rpc_port);
    let listener = TcpListener::bind(&address).context(format!("listen on {address}"))?;
    let login = match &options.login {
        Some(login) => login.clone(),
        None => cookie(&options.folder)?,
    };
    let (stop, stopped) = channel();
    let shared = Arc::new(Shared { core: Mutex::default(), stop, began: Instant::now() });
    let server = Arc::clone(&shared);
    thread::spawn(move || http::serve(&listener, &login, &server));

    let publisher = Publisher::bind(&options.publish)?;
    let core = Core::load(&options.folder, publisher)?;
    *shared.lock() = Some(core);
    stopped.recv().map_err(|_| Failure::new("nobody can stop the box any more"))?;
    let core = shared.lock();
    core.as_ref().map_or(Ok(()), |core| core.disk.keep_mempool(core.chain_box.mempool()))
}

/// A new random login in `.cookie`, as bitcoind makes one where no password is set.
fn cookie(folder: &Path) -> Result<String> {
    let mut secret = [0; 32];
    rand::thread_rng().fill_bytes(&mut secret);
    let login = format!("__cookie__:{}", hex::encode(secret));
    std::fs::write(folder.join(".cookie"), &login).context("write .cookie")?;
    Ok(login)
}

/// What the server's threads share.
struct Shared {
    /// Nothing as long as the files are being read.
    core: Mutex<Option<Core>>,
    stop: Sender<()>,
    began: Instant,
}

struct Core {
    chain_box: ChainBox,
    disk: Disk,
    publisher: Publisher,
    /// The clock, if `setmocktime` stopped it.
    stopped_at: Option<u64>,
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Core>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one call.
    fn answer(&self, method: &str, arguments: &[Value]) -> Answer {
        let mut core = self.lock();
        let Some(core) = core.as_mut() else {
            return Err(RpcError::new(WARMING_UP, "Loading block index…"));
        };
        match method {
            "uptime" => Ok(json!(self.began.elapsed().as_secs())),
            "getzmqnotifications" => Ok(core.publisher.listed()),
            "setmocktime" => {
                core.stopped_at = arguments.first().and_then(Value::as_u64).filter(|at| *at > 0);
                Ok(Value::Null)
            }
            "stop" => Ok(json!("Bitcoin Core stopping")),
            _ => core.answer(method, arguments),
        }
    }

    /// Ends the program, once the answer to `stop` is on its way.
    fn stop(&self) {
        // Fails only when it ends already.
        let _ = self.stop.send(());
    }
}

impl Core {
    fn load(folder: &Path, publisher: Publisher) -> Result<Self> {
        let mut chain_box = ChainBox::new();
        chain_box.set_time(now()?);
        let disk = Disk::open(folder, &mut chain_box)?;
        Ok(Core { chain_box, disk, publisher, stopped_at: None })
    }

    /// What happened is on disk before it is answered, and published at once.
    fn answer(&mut self, method: &str, arguments: &[Value]) -> Answer {
        let internal = |why: Failure| RpcError::new(-1, why);
        self.chain_box.set_time(self.stopped_at.map_or_else(now, Ok).map_err(internal)?);
        let answer = rpc::answer(&mut self.chain_box, method, arguments);
        let events = self.chain_box.events();
        self.disk.keep(&events).map_err(internal)?;
        self.publisher.publish(&events, self.chain_box.chain());
        answer
    }
}

fn now() -> Result<u64> {
    Ok(UNIX_EPOCH.elapsed().context("the clock")?.as_secs())
}
