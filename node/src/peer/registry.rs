//! Who is connected, who shall be, and what is remembered about them. Locked briefly, never while
//! waiting for anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bitcoin::secp256k1::PublicKey;
use lightning::types::features::InitFeatures;
use tokio::sync::{mpsc, watch};

use super::frames::Traffic;
use super::session::CloseReason;
use super::wire::WireMessage;
use super::{Address, PeerFault, PeerInfo};

/// Two connections in opposite directions, the second no later than this after the first, were
/// begun by both sides at once.
const AT_ONCE: Duration = Duration::from_secs(5);
/// About how many nodes something is remembered while they are neither connected nor wanted.
const REMEMBERED: usize = 1000;

/// A connection as others see it.
#[derive(Clone)]
pub(super) struct Entry {
    pub id: u64,
    pub outbound: bool,
    pub address: String,
    pub since: Instant,
    pub features: InitFeatures,
    pub traffic: Arc<Traffic>,
    pub queue: mpsc::Sender<WireMessage>,
    pub close: Arc<watch::Sender<Option<CloseReason>>>,
    /// Becomes true when the connection's last event is out.
    pub gone: watch::Receiver<bool>,
    pub closing: bool,
}

/// Whether a new connection may open.
pub(super) enum Admission {
    Open,
    /// When the older connection of the same node is gone, ask again.
    After(watch::Receiver<bool>),
    Refused(CloseReason),
}

#[derive(Default)]
struct History {
    flaps: u32,
    last_flap: Option<SystemTime>,
    last_fault: Option<PeerFault>,
}

#[derive(Default)]
struct State {
    connections: BTreeMap<PublicKey, Entry>,
    wanted: BTreeMap<PublicKey, watch::Sender<Vec<Address>>>,
    dialing: BTreeSet<PublicKey>,
    history: BTreeMap<PublicKey, History>,
    next_id: u64,
}

/// All peers of the node.
pub(super) struct Registry {
    us: PublicKey,
    max_strangers: usize,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl Registry {
    pub fn new(us: PublicKey, max_strangers: usize) -> Self {
        Self { us, max_strangers, state: Mutex::default(), changed: watch::Sender::new(()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever a connection opens or ends or a dial ends.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub fn next_id(&self) -> u64 {
        let mut state = self.state();
        state.next_id = state.next_id.wrapping_add(1);
        state.next_id
    }

    /// Enters a new connection of `node`, unless an older one or too many strangers forbid it.
    pub fn admit(&self, node: PublicKey, entry: &Entry) -> Admission {
        let mut state = self.state();
        if let Some(old) = state.connections.get_mut(&node) {
            let earlier = entry.since.saturating_duration_since(old.since);
            let (was, is) = (old.outbound, entry.outbound);
            if !old.closing && !replaces(&self.us, &node, was, is, earlier) {
                return Admission::Refused(CloseReason::Duplicate);
            }
            old.close.send_if_modified(|reason| {
                let first = reason.is_none();
                reason.get_or_insert(CloseReason::Replaced);
                first
            });
            return Admission::After(old.gone.clone());
        }
        if !entry.outbound && !state.wanted.contains_key(&node) {
            let inbound = state.connections.iter().filter(|(_, entry)| !entry.outbound);
            let strangers = inbound.filter(|(node, _)| !state.wanted.contains_key(node)).count();
            if strangers >= self.max_strangers {
                return Admission::Refused(CloseReason::TooManyPeers);
            }
        }
        state.connections.insert(node, entry.clone());
        self.changed.send_replace(());
        Admission::Open
    }

    /// From here on the node counts as disconnected; its place stays taken until `remove`.
    pub fn closing(&self, node: &PublicKey, id: u64) {
        let mut state = self.state();
        if let Some(entry) = state.connections.get_mut(node).filter(|entry| entry.id == id) {
            entry.closing = true;
        }
        state.forget_some();
        let history = state.history.entry(*node).or_default();
        history.flaps = history.flaps.saturating_add(1);
        history.last_flap = Some(SystemTime::now());
    }

    pub fn remove(&self, node: &PublicKey, id: u64) {
        let mut state = self.state();
        if state.connections.get(node).is_some_and(|entry| entry.id == id) {
            state.connections.remove(node);
        }
        self.changed.send_replace(());
    }

    /// The node's connection, if it is open.
    pub fn get(&self, node: &PublicKey) -> Option<Entry> {
        self.state().connections.get(node).filter(|entry| !entry.closing).cloned()
    }

    /// Asks the node's connection to end, and counts it as ended; `false` if there is none.
    pub fn hang_up(&self, node: &PublicKey) -> bool {
        let mut state = self.state();
        let Some(entry) = state.connections.get_mut(node).filter(|entry| !entry.closing) else {
            return false;
        };
        entry.closing = true;
        entry.close.send_replace(Some(CloseReason::Asked));
        true
    }

    /// Takes the sole right to dial `node`; `false` if another call has it.
    pub fn start_dialing(&self, node: &PublicKey) -> bool {
        self.state().dialing.insert(*node)
    }

    pub fn stop_dialing(&self, node: &PublicKey) {
        self.state().dialing.remove(node);
        self.changed.send_replace(());
    }

    /// Notes where a wanted node may be reached. Gives what its keeper listens to, if it has none.
    pub fn want(&self, node: PublicKey, at: Vec<Address>) -> Option<watch::Receiver<Vec<Address>>> {
        let mut state = self.state();
        if let Some(keeper) = state.wanted.get(&node) {
            keeper.send_replace(at);
            return None;
        }
        let (keeper, addresses) = watch::channel(at);
        state.wanted.insert(node, keeper);
        Some(addresses)
    }

    pub fn unwant(&self, node: &PublicKey) {
        self.state().wanted.remove(node);
    }

    /// Remembers what went wrong with a peer, or what it complained about.
    pub fn note_fault(&self, node: &PublicKey, text: &str) {
        let mut state = self.state();
        state.forget_some();
        let fault = PeerFault { at: SystemTime::now(), text: printable(text) };
        state.history.entry(*node).or_default().last_fault = Some(fault);
    }

    /// Every open connection, by node id.
    pub fn list(&self) -> Vec<PeerInfo> {
        let state = self.state();
        let open = state.connections.iter().filter(|(_, entry)| !entry.closing);
        open.map(|(node, entry)| {
            let history = state.history.get(node);
            PeerInfo {
                node: *node,
                address: entry.address.clone(),
                inbound: !entry.outbound,
                features: entry.features.clone(),
                bytes_sent: entry.traffic.sent.load(Ordering::Relaxed),
                bytes_received: entry.traffic.received.load(Ordering::Relaxed),
                ping_micros: entry.traffic.ping_micros.load(Ordering::Relaxed),
                last_ping_payload: entry.traffic.last_ping(),
                last_fault: history.and_then(|history| history.last_fault.clone()),
                flap_count: history.map_or(0, |history| history.flaps),
                last_flap: history.and_then(|history| history.last_flap),
            }
        })
        .collect()
    }
}

impl State {
    /// Strangers come under ever new names: what is remembered about them is bounded.
    fn forget_some(&mut self) {
        if self.history.len() >= REMEMBERED {
            let (connections, wanted) = (&self.connections, &self.wanted);
            self.history
                .retain(|node, _| connections.contains_key(node) || wanted.contains_key(node));
        }
    }
}

/// Whether a new connection of `them` takes an old one's place, which began that much earlier. It
/// does, as the old one may have died unseen; but when both sides connected at once, both must keep
/// the same of the two: the one that the node with the greater key began.
fn replaces(
    us: &PublicKey,
    them: &PublicKey,
    old_outbound: bool,
    new_outbound: bool,
    earlier: Duration,
) -> bool {
    let at_once = old_outbound != new_outbound && earlier <= AT_ONCE;
    !at_once || new_outbound == (us.serialize() > them.serialize())
}

/// What a peer wrote, fit for a terminal (BOLT 1: printable ASCII only).
fn printable(text: &str) -> String {
    text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).take(1000).collect()
}

#[cfg(test)]
mod tests {
    use bitcoin::secp256k1::{Secp256k1, SecretKey};

    use super::*;

    fn node(n: u16) -> PublicKey {
        let [high, low] = n.to_be_bytes();
        let mut secret = [1; 32];
        (secret[0], secret[1]) = (high, low);
        SecretKey::from_slice(&secret).unwrap().public_key(&Secp256k1::signing_only())
    }

    #[test]
    fn both_sides_keep_the_same_of_two_connections_made_at_once() {
        for n in 1..20 {
            let (alice, bob) = (node(n), node(n + 1));
            // Each side may see either of them first; true: the one that Alice began is kept.
            let alice_keeps = |first_is_alices: bool| {
                let replaced =
                    replaces(&alice, &bob, first_is_alices, !first_is_alices, Duration::ZERO);
                first_is_alices != replaced
            };
            let bob_keeps = |first_is_alices: bool| {
                let replaced = replaces(&bob, &alice, !first_is_alices, first_is_alices, AT_ONCE);
                first_is_alices != replaced
            };
            let kept = alice_keeps(true);
            assert_eq!([alice_keeps(false), bob_keeps(true), bob_keeps(false)], [kept; 3]);
        }
    }

    #[test]
    fn a_later_connection_or_one_of_the_same_side_replaces_the_old_one() {
        let (alice, bob) = (node(1), node(2));
        let later = AT_ONCE + Duration::from_millis(1);
        for (us, them) in [(alice, bob), (bob, alice)] {
            for outbound in [false, true] {
                assert!(replaces(&us, &them, outbound, outbound, Duration::ZERO));
                assert!(replaces(&us, &them, outbound, !outbound, later));
            }
        }
    }

    #[test]
    fn what_is_remembered_about_strangers_is_bounded() {
        let registry = Registry::new(node(0), 1);
        registry.want(node(1), vec![]);
        registry.note_fault(&node(1), "late");
        for n in 2..3000 {
            registry.note_fault(&node(n), "rude");
        }
        let history = &registry.state().history;
        assert!(history.len() <= REMEMBERED && history.contains_key(&node(1)));
    }
}
