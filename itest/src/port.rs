//! Free loopback ports that stay ours, also while the node behind one is being restarted.

use std::net::TcpListener;

use rand::Rng;

use crate::failure::{Failure, Result};
use crate::places::Lock;

/// Below what Linux hands out to outgoing connections (32768 and up), so that those cannot take
/// a port between our look and the node's start.
const RANGE: std::ops::Range<u16> = 20_000..32_700;
const TRIES: usize = 1_000;

/// A port on 127.0.0.1 that no other test process takes as long as this value lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: Lock,
}

impl Port {
    /// Finds a free one: locked against other tests, and bindable.
    ///
    /// # Errors
    /// When a thousand tries find none.
    pub fn free() -> Result<Self> {
        let locks = std::env::temp_dir().join("fulmen-ports");
        for _ in 0..TRIES {
            let number = rand::thread_rng().gen_range(RANGE);
            let Ok(lock) = Lock::take(&locks.join(number.to_string())) else { continue };
            if TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Port { number, _lock: lock });
            }
        }
        Err(Failure::new(format!("no free port among {RANGE:?} on 127.0.0.1")))
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}
