//! The pipe to the LDK process: commands out, answers and events in, one JSON object a line.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{channel, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::failure::{Context, Failure, Result};
use crate::wait::PATIENCE;

/// Both ends, and what has come in but was not asked for yet.
#[derive(Debug)]
pub(super) struct Pipe {
    stdin: Mutex<ChildStdin>,
    inbox: Arc<(Mutex<Inbox>, Condvar)>,
}

#[derive(Debug, Default)]
struct Inbox {
    next_id: u64,
    waiting: HashMap<u64, Sender<Value>>,
    events: Vec<Value>,
    ended: bool,
}

impl Pipe {
    /// Reads `stdout` on a thread of its own until it ends.
    pub fn new(stdin: ChildStdin, stdout: ChildStdout) -> Self {
        let inbox: Arc<(Mutex<Inbox>, Condvar)> = Arc::default();
        let fills = Arc::clone(&inbox);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                lock(&fills.0).take_in(line);
                fills.1.notify_all();
            }
            let mut inbox = lock(&fills.0);
            inbox.ended = true;
            inbox.waiting.clear();
            fills.1.notify_all();
        });
        Pipe { stdin: Mutex::new(stdin), inbox }
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// What the process answers, or that it is gone.
    pub fn ask(&self, mut command: Value) -> Result<Value> {
        let what = command.get("command").map(Value::to_string).unwrap_or_default();
        let (tells, answer) = channel();
        let mut inbox = lock(&self.inbox.0);
        inbox.next_id = inbox.next_id.wrapping_add(1);
        command.as_object_mut().context("a command")?.insert("id".into(), json!(inbox.next_id));
        let id = inbox.next_id;
        inbox.waiting.insert(id, tells);
        drop(inbox);
        let mut stdin = lock(&self.stdin);
        writeln!(stdin, "{command}").and_then(|()| stdin.flush()).context(&what)?;
        drop(stdin);
        let answer = answer.recv_timeout(PATIENCE).context(&what)?;
        match answer.get("ok") {
            Some(ok) => Ok(ok.clone()),
            None => Err(Failure::new(format!("ldk refuses {what}: {answer}"))),
        }
    }

    /// The text of one field of a command's answer.
    ///
    /// # Errors
    /// As [`Pipe::ask`], or when there is no such field.
    pub fn take(&self, field: &str, command: Value) -> Result<String> {
        let answer = self.ask(command)?;
        let found = answer.get(field).and_then(Value::as_str);
        found.map(str::to_owned).context(format!("no {field} in {answer}"))
    }

    /// Takes the first event that `wanted` accepts, waiting for it if need be; others stay.
    ///
    /// # Errors
    /// When it does not come within the time; names those that came instead.
    pub fn event(&self, within: Duration, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let began = Instant::now();
        let mut inbox = lock(&self.inbox.0);
        loop {
            if let Some(at) = inbox.events.iter().position(&wanted) {
                return Ok(inbox.events.remove(at));
            }
            let left = within.saturating_sub(began.elapsed());
            if left.is_zero() || inbox.ended {
                let instead = format!("{:?}", inbox.events);
                return Err(Failure::new(format!("ldk sent no such event, but {instead}")));
            }
            let waited = self.inbox.1.wait_timeout(inbox, left);
            inbox = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Inbox {
    fn take_in(&mut self, line: Value) {
        let waits = line.get("id").and_then(Value::as_u64).and_then(|id| self.waiting.remove(&id));
        match waits {
            // Fails only if the asker gave up.
            Some(waits) => drop(waits.send(line)),
            None => self.events.push(line),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
