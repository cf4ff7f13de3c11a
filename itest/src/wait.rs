//! Waiting for what sends no event of its own: another process's state behind its RPC.
//!
//! Everything that does send events (a pipe, a stream) is waited for there. What is left, such as
//! "bitcoind answers now" or "this channel is active", can only be asked for; it is asked for
//! here and nowhere else, often at first and ever less often, until a deadline.

use std::fmt::Display;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};

/// What a daemon gets for anything it does: far more than it needs, also on a slow machine that is
/// busy. It costs nothing where all is well.
pub const PATIENCE: Duration = Duration::from_secs(180);

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Asks `probe` until it gives a value, for at most `within`.
///
/// # Errors
/// The probe's own failure at once, or that `what` did not come within the time.
pub fn until<T>(
    what: impl Display,
    within: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let mut pauses = Pauses::new(within);
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        sleep(pauses.next(&what)?);
    }
}

/// [`until`] for probes that are asynchronous.
///
/// # Errors
/// As [`until`].
pub async fn until_async<T>(
    what: impl Display,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let mut pauses = Pauses::new(within);
    loop {
        if let Some(value) = probe().await? {
            return Ok(value);
        }
        tokio::time::sleep(pauses.next(&what)?).await;
    }
}

/// The pauses between questions: each half as long again, none past the deadline.
struct Pauses {
    began: Instant,
    within: Duration,
    pause: Duration,
}

impl Pauses {
    fn new(within: Duration) -> Self {
        Pauses { began: Instant::now(), within, pause: FIRST_PAUSE }
    }

    fn next(&mut self, what: impl Display) -> Result<Duration> {
        if self.began.elapsed() > self.within {
            return Err(Failure::new(format!("{what}: not within {:?}", self.within)));
        }
        let pause = self.pause;
        self.pause = LONGEST_PAUSE.min(pause.saturating_add(pause.checked_div(2).unwrap_or(pause)));
        Ok(pause)
    }
}
