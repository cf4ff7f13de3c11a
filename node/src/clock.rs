//! The wall clock, in one place.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since 1970.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Seconds since 1970.
pub fn unix_time() -> u64 {
    now().as_secs()
}
