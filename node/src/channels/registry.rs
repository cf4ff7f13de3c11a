//! All channels' tasks by number, id, peer and watched output: who gets which message.

use super::{Action, Snapshot, ToChannel};
use crate::payments::Usable;
use crate::peer::PeerLink;
use bitcoin::secp256k1::PublicKey;
use bitcoin::OutPoint;
use fulmen_channel::amount::Sat;
use fulmen_channel::input::{Command, Feerates};
use lightning::ln::types::ChannelId;
use lightning::types::features::InitFeatures;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// How many messages may wait for a channel before whoever sends waits too.
pub const INBOX: usize = 4096;
/// How many channels whose F is in no block may be promised at once by peers that nothing else is
/// known of. Each costs a task, rows and a watch, for up to 2,016 blocks.
const MAX_PROMISED: usize = 50;

/// A handle to one channel's task.
#[derive(Clone)]
pub struct Handle {
    /// Its number.
    pub index: u64,
    /// Its peer.
    pub peer: PublicKey,
    /// Its id: temporary while it opens.
    pub channel_id: ChannelId,
    /// The id it began with: the peer may still use it.
    first_id: ChannelId,
    /// F's output, once it is known.
    pub outpoint: Option<OutPoint>,
    inbox: mpsc::Sender<ToChannel>,
}

impl Handle {
    /// A handle that speaks into `inbox`.
    pub fn new(
        index: u64,
        peer: PublicKey,
        channel_id: ChannelId,
        outpoint: Option<OutPoint>,
        inbox: mpsc::Sender<ToChannel>,
    ) -> Self {
        Handle { index, peer, channel_id, first_id: channel_id, outpoint, inbox }
    }
    /// Hands over a message; waits while the inbox is full. False when the task is over.
    pub async fn tell(&self, message: ToChannel) -> bool {
        self.inbox.send(message).await.is_ok()
    }
    /// What the channel tells about itself; none when its task is over.
    pub async fn describe(&self) -> Option<Snapshot> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(ToChannel::Describe(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// All channels with a task. Clones are the same registry.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    channels: Mutex<BTreeMap<u64, Handle>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    peers: Mutex<BTreeMap<PublicKey, (PeerLink, InitFeatures)>>,
    watched: Mutex<BTreeMap<OutPoint, BTreeSet<u64>>>,
    capacities: Mutex<BTreeMap<[u8; 32], Sat>>,
    usable: Mutex<BTreeMap<u64, Usable>>,
    feerates: Mutex<Option<Feerates>>,
    /// Channels that need no reserve for bumping fees.
    without_reserve: Mutex<BTreeSet<u64>>,
    /// Channels that peers opened and whose F is in no block.
    promised: Mutex<BTreeSet<u64>>,
}

impl Default for Registry {
    fn default() -> Self {
        let inner = Inner {
            channels: Mutex::default(),
            tasks: Mutex::default(),
            peers: Mutex::default(),
            usable: Mutex::default(),
            watched: Mutex::default(),
            capacities: Mutex::default(),
            feerates: Mutex::default(),
            without_reserve: Mutex::default(),
            promised: Mutex::default(),
        };
        Registry { inner: Arc::new(inner) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The peers of channels that are not mere promises.
fn real<'a>(
    channels: &'a BTreeMap<u64, Handle>,
    promised: &'a BTreeSet<u64>,
) -> impl Iterator<Item = PublicKey> + 'a {
    let real = channels.values().filter(|handle| !promised.contains(&handle.index));
    real.map(|handle| handle.peer)
}

impl Registry {
    /// A peer is connected.
    pub fn peer_up(&self, peer: PublicKey, link: PeerLink, features: InitFeatures) {
        lock(&self.inner.peers).insert(peer, (link, features));
    }
    /// Its connection is gone.
    pub fn peer_down(&self, peer: &PublicKey) {
        lock(&self.inner.peers).remove(peer);
    }
    /// The connection to a peer and what it offers; none when it is not connected.
    pub fn peer(&self, peer: &PublicKey) -> Option<(PeerLink, InitFeatures)> {
        lock(&self.inner.peers).get(peer).cloned()
    }
    /// Takes a channel in.
    pub fn insert(&self, handle: Handle) {
        lock(&self.inner.channels).insert(handle.index, handle);
    }
    /// Whether the wallet keeps a reserve for a channel: it has anchors, and is not closed yet.
    pub fn set_reserve(&self, index: u64, needed: bool) {
        let mut without = lock(&self.inner.without_reserve);
        if needed {
            without.remove(&index);
        } else {
            without.insert(index);
        }
    }
    /// How many channels the wallet keeps a reserve for. Promises lock none of it.
    pub fn reserves(&self) -> u32 {
        let channels = lock(&self.inner.channels);
        let without = lock(&self.inner.without_reserve);
        let promised = lock(&self.inner.promised);
        let with = channels.keys().filter(|it| !without.contains(it) && !promised.contains(it));
        u32::try_from(with.count()).unwrap_or(u32::MAX)
    }
    /// Takes in that a peer begins to open channel `index`, unless too many are promised by peers
    /// that have nothing but promises here: whoever makes up node ids pays for none of them.
    pub fn admit(&self, index: u64, peer: &PublicKey) -> bool {
        let channels = lock(&self.inner.channels);
        let mut promised = lock(&self.inner.promised);
        let known: BTreeSet<PublicKey> = real(&channels, &promised).collect();
        let of_stranger =
            |index: &&u64| channels.get(index).is_none_or(|handle| !known.contains(&handle.peer));
        let admits =
            known.contains(peer) || promised.iter().filter(of_stranger).count() < MAX_PROMISED;
        if admits {
            promised.insert(index);
        }
        admits
    }
    /// Whether a peer opened this channel and F is in no block.
    pub fn set_promised(&self, index: u64, promised: bool) {
        let mut all = lock(&self.inner.promised);
        if promised {
            all.insert(index);
        } else {
            all.remove(&index);
        }
    }
    /// Whether there is more with a peer than it promised: a channel that we opened, or one whose F
    /// is in a block.
    pub fn knows(&self, peer: &PublicKey) -> bool {
        let channels = lock(&self.inner.channels);
        let promised = lock(&self.inner.promised);
        let mut known = real(&channels, &promised);
        known.any(|known| known == *peer)
    }
    /// A channel's task runs.
    pub fn started(&self, task: JoinHandle<()>) {
        let mut tasks = lock(&self.inner.tasks);
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }
    /// Stops every channel's task, and returns when all are over.
    pub async fn stop(&self) {
        for handle in self.all() {
            handle.tell(ToChannel::Stop).await;
        }
        let tasks = std::mem::take(&mut *lock(&self.inner.tasks));
        for task in tasks {
            // A panic in a task was reported when it happened.
            let _ = task.await;
        }
    }
    /// The task of a channel is over.
    pub fn remove(&self, index: u64) {
        lock(&self.inner.channels).remove(&index);
        lock(&self.inner.usable).remove(&index);
        lock(&self.inner.without_reserve).remove(&index);
        lock(&self.inner.promised).remove(&index);
        lock(&self.inner.watched).retain(|_, watchers| {
            watchers.remove(&index);
            !watchers.is_empty()
        });
    }
    /// A channel has its id.
    pub fn opened(&self, index: u64, channel_id: ChannelId) {
        if let Some(handle) = lock(&self.inner.channels).get_mut(&index) {
            handle.channel_id = channel_id;
        }
    }
    /// Whether payments may leave by a channel now, and what it can carry.
    pub fn set_usable(&self, index: u64, usable: Option<Usable>) {
        let mut all = lock(&self.inner.usable);
        match usable {
            Some(usable) => all.insert(index, usable),
            None => all.remove(&index),
        };
    }
    /// The channels that payments may leave by now.
    pub fn usable_channels(&self) -> Vec<Usable> {
        lock(&self.inner.usable).values().cloned().collect()
    }
    /// Whoever spends `outpoint` is told to channel `index`.
    pub fn watch(&self, index: u64, outpoint: OutPoint) {
        lock(&self.inner.watched).entry(outpoint).or_default().insert(index);
        if let Some(handle) = lock(&self.inner.channels).get_mut(&index) {
            handle.outpoint.get_or_insert(outpoint);
        }
    }
    /// All channels in the order of their opening.
    pub fn all(&self) -> Vec<Handle> {
        lock(&self.inner.channels).values().cloned().collect()
    }
    /// The channels with a peer.
    pub fn of_peer(&self, peer: &PublicKey) -> Vec<Handle> {
        self.all().into_iter().filter(|handle| handle.peer == *peer).collect()
    }
    /// The channel of a peer with this id. The all-zero id means none in particular.
    pub fn find(&self, peer: &PublicKey, channel_id: &ChannelId) -> Option<Handle> {
        let is = |handle: &Handle| [handle.channel_id, handle.first_id].contains(channel_id);
        self.of_peer(peer).into_iter().find(is)
    }
    /// The channel with this number.
    pub fn by_index(&self, index: u64) -> Option<Handle> {
        lock(&self.inner.channels).get(&index).cloned()
    }
    /// The channel with this id.
    pub fn by_id(&self, channel_id: &ChannelId) -> Option<Handle> {
        self.all().into_iter().find(|handle| handle.channel_id == *channel_id)
    }
    /// The channel on this output of F.
    pub fn by_outpoint(&self, outpoint: &OutPoint) -> Option<Handle> {
        self.all().into_iter().find(|handle| handle.outpoint == Some(*outpoint))
    }
    /// The channels that watch `outpoint`. A hostile peer may name another channel's F as its own:
    /// that must not turn news away from whose it is.
    pub fn watchers_of(&self, outpoint: &OutPoint) -> Vec<Handle> {
        let watchers = lock(&self.inner.watched).get(outpoint).cloned().unwrap_or_default();
        let channels = lock(&self.inner.channels);
        watchers.iter().filter_map(|index| channels.get(index).cloned()).collect()
    }
    /// What a channel holds, kept for as long as the daemon runs: payments show it.
    pub fn set_capacity(&self, channel: ChannelId, capacity: Sat) {
        lock(&self.inner.capacities).insert(channel.0, capacity);
    }
    /// What channels hold, by id.
    pub fn capacities(&self) -> BTreeMap<[u8; 32], Sat> {
        lock(&self.inner.capacities).clone()
    }
    /// Tells a command to a channel; its outcome is of no interest.
    pub async fn command(&self, channel: ChannelId, command: Command) {
        if let Some(handle) = self.by_id(&channel) {
            handle.tell(ToChannel::Command(command, None)).await;
        }
    }
    /// Carries out actions that belong to no channel's own task.
    pub async fn act(&self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Remove { channel, id, removal } => {
                    self.command(channel, Command::Remove { id, removal }).await;
                }
                Action::After(run) => run(),
            }
        }
    }
    /// The last fee estimates; none before the first.
    pub fn feerates(&self) -> Option<Feerates> {
        *lock(&self.inner.feerates)
    }
    /// New estimates.
    pub fn set_feerates(&self, feerates: Feerates) {
        *lock(&self.inner.feerates) = Some(feerates);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::secp256k1::{Secp256k1, SecretKey};

    #[test]
    fn made_up_peers_promise_fifty_channels_in_all() {
        let registry = Registry::default();
        let peer = |n: u64| {
            let key = SecretKey::from_slice(&[[0; 24].as_slice(), &n.to_be_bytes()].concat());
            PublicKey::from_secret_key(&Secp256k1::signing_only(), &key.unwrap())
        };
        let opens = |index: u64, peer: PublicKey| {
            let admitted = registry.admit(index, &peer);
            if admitted {
                let (inbox, _) = mpsc::channel(1);
                registry.insert(Handle::new(index, peer, ChannelId::new_zero(), None, inbox));
            }
            admitted
        };
        assert!((1..=50).all(|n| opens(n, peer(n))));
        assert!(!opens(51, peer(51)) && !opens(51, peer(1)));
        assert!(!registry.knows(&peer(1)));
        assert_eq!(registry.reserves(), 0, "they lock no money");
        // One comes true: its peer may open another, and a stranger has its place.
        registry.set_promised(1, false);
        assert_eq!(registry.reserves(), 1);
        assert!(registry.knows(&peer(1)) && opens(51, peer(1)) && opens(52, peer(52)));
        assert!(!opens(53, peer(53)));
        // One is forgotten, and one of a block that is gone is a promise again.
        registry.remove(2);
        assert!(opens(53, peer(53)));
        registry.set_promised(1, true);
        registry.remove(3);
        assert!(!opens(54, peer(54)), "both of peer 1 count");
        registry.remove(4);
        assert!(!opens(54, peer(54)));
        registry.remove(5);
        assert!(opens(54, peer(54)));
    }

    #[test]
    fn naming_the_same_output_takes_no_news_from_whose_it_is() {
        let key = SecretKey::from_slice(&[1; 32]).unwrap();
        let peer = PublicKey::from_secret_key(&Secp256k1::signing_only(), &key);
        let registry = Registry::default();
        for index in [0, 1] {
            let (inbox, _) = mpsc::channel(1);
            registry.insert(Handle::new(index, peer, ChannelId::new_zero(), None, inbox));
            registry.watch(index, OutPoint::null());
        }
        let watchers = || -> Vec<u64> {
            registry.watchers_of(&OutPoint::null()).iter().map(|handle| handle.index).collect()
        };
        assert_eq!(watchers(), [0, 1]);
        registry.remove(1);
        assert_eq!(watchers(), [0]);
        registry.remove(0);
        assert!(watchers().is_empty());
    }
}
