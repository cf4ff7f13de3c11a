//! Who may do how much: a tower for anyone must bear those who mean harm. Pure.
//!
//! ```text
//!   sessions, bytes
//!   0 ├──────────── anybody, each address to its share ────────────┤ 3/4 ├─ kept back ─┤ all
//!                                                                          sessions: a few for
//!                                                                          an address; bytes: an
//!                                                                          even part for each
//!                                                                          address that has one
//! ```
//!
//! A client's key costs nothing, an address does: that is what is counted by.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// An address has at most this part of a tower's sessions and bytes.
const SHARE: u64 = 16;
/// This part is kept back for those who have little.
const KEPT_BACK: u64 = 4;
/// So many sessions an address may have in any case.
const FEW: u64 = 4;

/// The bounds of a tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at once.
    pub max_sessions: u64,
    /// Records in a session.
    pub max_states: u64,
    /// Bytes of records in a session.
    pub max_bytes: u64,
    /// Bytes on disk from which on no more records are taken: what blocks and breaches need on
    /// top of them is little.
    pub max_disk: u64,
    /// Connections at once, beside those of private clients.
    pub max_connections: usize,
    /// Connections at once from one address.
    pub max_per_address: usize,
    /// Requests a second from an address, on the average.
    pub requests_per_second: u32,
    /// How many may come at once.
    pub burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_sessions: 10_000,
            max_states: 100_000,
            max_bytes: 64 << 20,
            max_disk: 4 << 30,
            max_connections: 256,
            max_per_address: 32,
            requests_per_second: 50,
            burst: 200,
        }
    }
}

/// What a tower holds, and what of it is one address's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Sessions.
    pub sessions: u64,
    /// Bytes on disk.
    pub disk: u64,
    /// Addresses that have a session.
    pub addresses: u64,
    /// Sessions of this address.
    pub own_sessions: u64,
    /// Bytes of its records.
    pub own_bytes: u64,
}

impl Limits {
    /// Whether so many sessions are nearly all there may be.
    pub fn is_crowded(&self, sessions: u64) -> bool {
        sessions >= before_the_rest(self.max_sessions)
    }

    /// Whether an address may begin a session. The disk has room for those that are there, then.
    pub fn admits_session(&self, load: &Load) -> bool {
        let share = (self.max_sessions / SHARE).max(FEW);
        let most = if self.is_crowded(load.sessions) { FEW } else { share };
        load.sessions < self.max_sessions
            && load.own_sessions < most
            && load.disk < before_the_rest(self.max_disk)
            && load.own_bytes < self.max_disk / SHARE
    }

    /// Whether an address may add to a session. What is kept back suffices for all of them: whoever
    /// has more than an even part of it gets nothing of it.
    pub fn admits_records(&self, load: &Load) -> bool {
        let rest = before_the_rest(self.max_disk);
        let even = self.max_disk.saturating_sub(rest).checked_div(load.addresses);
        let most = match load.disk < rest {
            true => self.max_disk / SHARE,
            false => even.unwrap_or(u64::MAX).min(self.max_disk / SHARE),
        };
        load.disk < self.max_disk && load.own_bytes < most
    }
}

fn before_the_rest(all: u64) -> u64 {
    all.saturating_sub(all / KEPT_BACK)
}

/// Where a client comes from, as far as it counts: an IPv4 address, or the 64 bits of an IPv6
/// address that name a network, in which one has as many addresses as one likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(pub [u8; 8]);

impl Origin {
    /// Nothing for this machine's own addresses: a proxy's or an onion service's, behind which
    /// there may be anybody.
    pub fn of(address: IpAddr) -> Option<Origin> {
        let address = address.to_canonical();
        if address.is_loopback() {
            return None;
        }
        let network = match address {
            // No network of IPv6 begins with zeros (RFC 4291 keeps them back).
            IpAddr::V4(four) => u64::from(four.to_bits()),
            IpAddr::V6(six) => u64::try_from(six.to_bits() >> 64).unwrap_or(0),
        };
        Some(Origin(network.to_be_bytes()))
    }
}

/// Who is at the door: connections of each address, and how fast it asks over all of them.
#[derive(Debug, Default)]
pub struct Gate {
    /// This machine's own is `None`.
    addresses: HashMap<Option<Origin>, Address>,
}

#[derive(Debug)]
struct Address {
    connections: usize,
    bucket: Bucket,
}

impl Gate {
    /// Whether this address may have one more connection; it asks something by that.
    pub fn enter(&mut self, limits: &Limits, from: Option<Origin>, now: Duration) -> bool {
        // Whoever is gone is remembered until it could begin anew anyway.
        self.addresses.retain(|_, known| known.connections > 0 || !known.bucket.is_full(now));
        let fresh = || Address { connections: 0, bucket: Bucket::new(limits) };
        let address = self.addresses.entry(from).or_insert_with(fresh);
        let enters = address.connections < limits.max_per_address
            && (from.is_none() || address.bucket.take(now));
        if enters {
            address.connections = address.connections.saturating_add(1);
        }
        enters
    }

    /// A connection of this address has ended.
    pub fn leave(&mut self, from: Option<Origin>) {
        if let Some(address) = self.addresses.get_mut(&from) {
            address.connections = address.connections.saturating_sub(1);
        }
    }

    /// Whether this address, which has a connection, may ask something now.
    pub fn take(&mut self, from: Origin, now: Duration) -> bool {
        self.addresses.get_mut(&Some(from)).is_some_and(|address| address.bucket.take(now))
    }
}

/// How fast requests may come: a bucket that fills with time.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Thousandths of a request.
    left: u64,
    full: u64,
    per_second: u64,
    at: Duration,
}

impl Bucket {
    /// Full, at the beginning of time.
    pub fn new(limits: &Limits) -> Bucket {
        let full = u64::from(limits.burst).saturating_mul(1_000);
        let per_second = u64::from(limits.requests_per_second).saturating_mul(1_000);
        Bucket { left: full, full, per_second, at: Duration::ZERO }
    }

    fn at(&self, now: Duration) -> u64 {
        let passed = now.saturating_sub(self.at).as_micros();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        let filled = self.per_second.saturating_mul(passed) / 1_000_000;
        self.left.saturating_add(filled).min(self.full)
    }

    fn is_full(&self, now: Duration) -> bool {
        self.at(now) == self.full
    }

    /// Whether a request may be served at `now`, which only grows.
    pub fn take(&mut self, now: Duration) -> bool {
        self.left = self.at(now);
        self.at = now;
        match self.left.checked_sub(1_000) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Option<Origin> {
        Origin::of(address.parse().unwrap())
    }

    #[test]
    fn an_address_of_ipv6_counts_by_its_network() {
        assert_eq!(from("2001:db8:1:2::1"), from("2001:db8:1:2:ffff::9"));
        assert_ne!(from("2001:db8:1:2::1"), from("2001:db8:1:3::1"));
        assert_eq!(from("192.0.2.1"), from("::ffff:192.0.2.1"));
        assert_ne!(from("192.0.2.1"), from("192.0.2.2"));
        for own in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(from(own), None, "{own}");
        }
    }

    #[test]
    fn an_address_has_its_pace_over_all_of_its_connections() {
        let limits =
            Limits { burst: 6, requests_per_second: 1, max_per_address: 2, ..Limits::default() };
        let (one, other) = (from("192.0.2.1"), from("192.0.2.2"));
        let (mut gate, at) = (Gate::default(), Duration::from_secs);
        assert!(gate.enter(&limits, one, at(0)) && gate.enter(&limits, one, at(0)));
        assert!(!gate.enter(&limits, one, at(0)), "two connections and no more");
        let asked = (0..9).filter(|_| gate.take(one.unwrap(), at(0))).count();
        assert_eq!(asked, 4, "and two for the connections");
        gate.leave(one);
        assert!(!gate.enter(&limits, one, at(0)), "going and coming gives nothing");
        assert!(gate.enter(&limits, other, at(0)) && gate.take(other.unwrap(), at(0)));
        assert!(gate.enter(&limits, one, at(1)));
        [one, one, other].into_iter().for_each(|from| gate.leave(from));
        assert_eq!(gate.addresses.len(), 2);
        assert!(gate.enter(&limits, from("192.0.2.3"), at(60)));
        assert_eq!(gate.addresses.len(), 1, "who is gone is forgotten");
        // This machine's own have a place each, and their pace is each connection's.
        assert!((0..2).all(|_| gate.enter(&limits, None, at(60))));
        assert!(!gate.enter(&limits, None, at(60)));
    }

    #[test]
    fn no_address_takes_the_room_of_others() {
        let limits = Limits { max_sessions: 160, max_disk: 16_000, ..Limits::default() };
        let load = Load::default();
        let begins = |load| limits.admits_session(&load);
        assert!(begins(load) && begins(Load { own_sessions: 9, ..load }));
        assert!(!begins(Load { own_sessions: 10, ..load }), "a sixteenth of all");
        assert!(!begins(Load { own_bytes: 1_000, ..load }));
        assert!(!begins(Load { own_sessions: 4, sessions: 120, ..load }), "few are left");
        assert!(begins(Load { own_sessions: 3, sessions: 159, ..load }));
        assert!(!begins(Load { sessions: 160, ..load }));
        assert!(begins(Load { disk: 11_999, ..load }) && !begins(Load { disk: 12_000, ..load }));
        let adds = |disk, addresses, own_bytes| {
            limits.admits_records(&Load { disk, addresses, own_bytes, ..load })
        };
        assert!(adds(11_999, 40, 999) && !adds(0, 1, 1_000), "a sixteenth of all");
        // The rest of 4,000 is for 40 addresses.
        assert!(adds(12_000, 40, 99) && !adds(12_000, 40, 100));
        assert!(adds(15_999, 40, 0) && !adds(16_000, 40, 0));
        assert!(!adds(12_000, 2, 1_000));
    }

    #[test]
    fn a_bucket_gives_a_burst_and_then_what_flows_in() {
        let limits = Limits { burst: 3, requests_per_second: 2, ..Limits::default() };
        let mut bucket = Bucket::new(&limits);
        let at = Duration::from_millis;
        let served = |bucket: &mut Bucket, now| (0..9).filter(|_| bucket.take(at(now))).count();
        assert_eq!(served(&mut bucket, 0), 3);
        assert_eq!(served(&mut bucket, 499), 0);
        assert_eq!(served(&mut bucket, 1_000), 2);
        assert_eq!(served(&mut bucket, 60_000), 3);
    }
}
