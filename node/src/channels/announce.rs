//! What a channel tells the network and its peer (BOLT 7): announcement_signatures and
//! channel_announcement for announced channels, channel_update for all of them.

use super::driver::Driver;
use crate::peer::wire::WireMessage;
use crate::store::{Store, StoreError, Table};
use bitcoin::hashes::{sha256d, Hash};
use bitcoin::secp256k1::{ecdsa::Signature, Message as Digest, PublicKey, Secp256k1, SecretKey};
use fulmen_channel::amount::Msat;
use fulmen_channel::message::Message;
use lightning::ln::msgs;
use lightning::routing::gossip::NodeId;
use lightning::types::features::ChannelFeatures;
use lightning::util::ser::{LengthReadable, Writeable};

/// Confirmations before a channel is announced (BOLT 7).
pub const ANNOUNCE_DEPTH: u32 = 6;

/// What we ask for forwarding over our side of a channel.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding {
    /// Fee per HTLC.
    pub base_fee: Msat,
    /// Fee per million of its value.
    pub fee_ppm: u32,
    /// Blocks between incoming and outgoing expiry.
    pub cltv_delta: u16,
    /// The smallest HTLC we forward.
    pub htlc_minimum: Msat,
}

impl Default for Forwarding {
    fn default() -> Self {
        Forwarding {
            base_fee: Msat::new(1_000),
            fee_ppm: 1,
            cltv_delta: 80,
            htlc_minimum: Msat::new(1_000),
        }
    }
}

/// What was said and heard of a channel's announcement.
#[derive(Debug, Default)]
pub struct Announcer {
    signatures_sent: bool,
    update_sent: bool,
    announced: bool,
    theirs: Option<msgs::AnnouncementSignatures>,
    pub(super) remote_update: Option<msgs::ChannelUpdate>,
    last_timestamp: u32,
}

impl Announcer {
    /// As stored: the peer's signatures and its last policy.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read.
    pub fn load(store: &Store, index: u64) -> Result<Self, StoreError> {
        let theirs = read(store.get(Table::Announcement, &key(index, b's'))?);
        let remote_update = read(store.get(Table::Announcement, &key(index, b'u'))?);
        Ok(Announcer { theirs, remote_update, ..Announcer::default() })
    }

    pub(super) fn disconnected(&mut self) {
        (self.signatures_sent, self.update_sent, self.announced) = (false, false, false);
    }

    pub(super) fn theirs(&mut self, theirs: msgs::AnnouncementSignatures) {
        self.theirs = Some(theirs);
        self.announced = false;
    }
}

fn read<T: LengthReadable>(stored: Option<Vec<u8>>) -> Option<T> {
    T::read_from_fixed_length_buffer(&mut stored?.as_slice()).ok()
}

fn key(index: u64, kind: u8) -> Vec<u8> {
    let mut key = index.to_be_bytes().to_vec();
    key.push(kind);
    key
}

/// Signs the double SHA256 of a gossip message.
fn sign(secret: &SecretKey, message: &impl Writeable) -> Signature {
    Secp256k1::signing_only().sign_ecdsa(&digest(message), secret)
}

fn digest(message: &impl Writeable) -> Digest {
    Digest::from_digest(sha256d::Hash::hash(&message.encode()).to_byte_array())
}

impl Driver {
    /// Says what is due of the announcement.
    pub(super) async fn announce(&mut self) {
        let ready = self.channel.funded().filter(|open| open.is_usable());
        let Some(open) = ready else { return };
        let announced = open.contract.params.announce && open.confirmations() >= ANNOUNCE_DEPTH;
        let (real, told_as) = (open.life.short_channel_id, open.told_as());
        if let Some(name) = told_as.filter(|_| !self.announcer.update_sent) {
            self.announcer.update_sent = true;
            let update = self.channel_update(name);
            self.send(WireMessage::ChannelUpdate(Box::new(update))).await;
        }
        let Some(scid) = real.filter(|_| announced) else { return };
        if !self.announcer.signatures_sent && !self.announcer.announced {
            self.announcer.signatures_sent = true;
            let signatures = self.announcement_signatures(scid);
            let message = Message::AnnouncementSignatures(Box::new(signatures));
            self.send(WireMessage::Channel(message)).await;
        }
        if !self.announcer.announced {
            self.announce_to_peer(scid).await;
        }
    }

    /// The peer's policy for this channel, if it is newer than what we know: durable, since it is
    /// told only once.
    pub(super) fn peer_update(&mut self, update: msgs::ChannelUpdate) {
        let named = update.contents.short_channel_id;
        // By a name that it had from us, or its own.
        let ours = self
            .channel
            .funded()
            .is_some_and(|open| open.answers_to(named) || open.life.remote_alias == Some(named));
        let newer =
            |known: &msgs::ChannelUpdate| update.contents.timestamp > known.contents.timestamp;
        if ours && self.announcer.remote_update.as_ref().is_none_or(newer) {
            let (key, bytes) = (key(self.index, b'u'), update.encode());
            self.carry(|unit| {
                unit.put(Table::Announcement, key, bytes);
            });
            self.flush_soon();
            self.announcer.remote_update = Some(update);
        }
    }

    async fn announce_to_peer(&mut self, scid: u64) {
        let Some(theirs) = self.announcer.theirs.clone() else { return };
        self.announcer.announced = true;
        match self.channel_announcement(scid, &theirs) {
            Some(announcement) => {
                let index = self.index;
                let bytes = theirs.encode();
                self.carry(|unit| {
                    unit.put(Table::Announcement, key(index, b's'), bytes);
                });
                self.send(WireMessage::ChannelAnnouncement(Box::new(announcement))).await;
                let update = self.channel_update(scid);
                self.send(WireMessage::ChannelUpdate(Box::new(update))).await;
            }
            None => {
                tracing::warn!(channel = self.index, "the peer's announcement is not signed well");
                self.announcer.theirs = None;
            }
        }
    }

    fn unsigned_announcement(&self, scid: u64) -> Option<msgs::UnsignedChannelAnnouncement> {
        let open = self.channel.funded()?;
        let (a, b) = (&open.contract.params.local, &open.contract.params.remote);
        let ours = (self.services().keys.node_id(), a.basepoints.funding);
        let theirs = (self.peer, b.basepoints.funding);
        let (first, second) = if self.is_first() { (ours, theirs) } else { (theirs, ours) };
        Some(msgs::UnsignedChannelAnnouncement {
            features: ChannelFeatures::empty(),
            chain_hash: self.services().chain_hash,
            short_channel_id: scid,
            node_id_1: NodeId::from_pubkey(&first.0),
            node_id_2: NodeId::from_pubkey(&second.0),
            bitcoin_key_1: NodeId::from_pubkey(&first.1),
            bitcoin_key_2: NodeId::from_pubkey(&second.1),
            excess_data: Vec::new(),
        })
    }

    /// Node 1 is the one whose id is smaller as bytes (BOLT 7).
    fn is_first(&self) -> bool {
        self.services().keys.node_id().serialize() < self.peer.serialize()
    }

    fn announcement_signatures(&self, scid: u64) -> msgs::AnnouncementSignatures {
        let channel_id = self.channel.channel_id();
        let (node, bitcoin) = self.our_signatures(scid);
        let (node_signature, bitcoin_signature) = (node, bitcoin);
        msgs::AnnouncementSignatures {
            channel_id,
            short_channel_id: scid,
            node_signature,
            bitcoin_signature,
        }
    }

    fn our_signatures(&self, scid: u64) -> (Signature, Signature) {
        let bytes = self.unsigned_announcement(scid).map(|unsigned| unsigned.encode());
        let hash = sha256d::Hash::hash(&bytes.unwrap_or_default()).to_byte_array();
        let secret = self.services().keys.node_secret();
        let node = Secp256k1::signing_only().sign_ecdsa(&Digest::from_digest(hash), &secret);
        (node, self.channel.sign_announcement(hash))
    }

    fn channel_announcement(
        &self,
        scid: u64,
        theirs: &msgs::AnnouncementSignatures,
    ) -> Option<msgs::ChannelAnnouncement> {
        let contents = self.unsigned_announcement(scid)?;
        let open = self.channel.funded()?;
        let digest = digest(&contents);
        let verify = |signature: &Signature, key: &PublicKey| {
            Secp256k1::verification_only().verify_ecdsa(&digest, signature, key).is_ok()
        };
        let funding = &open.contract.params.remote.basepoints.funding;
        let valid = theirs.short_channel_id == scid
            && verify(&theirs.node_signature, &self.peer)
            && verify(&theirs.bitcoin_signature, funding);
        if !valid {
            return None;
        }
        let ours = self.our_signatures(scid);
        let theirs = (theirs.node_signature, theirs.bitcoin_signature);
        let (first, second) = if self.is_first() { (ours, theirs) } else { (theirs, ours) };
        Some(msgs::ChannelAnnouncement {
            node_signature_1: first.0,
            node_signature_2: second.0,
            bitcoin_signature_1: first.1,
            bitcoin_signature_2: second.1,
            contents,
        })
    }

    /// Our policy for our side of the channel.
    fn channel_update(&mut self, scid: u64) -> msgs::ChannelUpdate {
        let now = u32::try_from(crate::clock::unix_time()).unwrap_or(u32::MAX);
        // Each is newer than the one before, also within a second.
        let timestamp = now.max(self.announcer.last_timestamp.saturating_add(1));
        self.announcer.last_timestamp = timestamp;
        let services = self.services();
        let policy = services.forwarding;
        // At most what the channel holds, whatever the peer would take (BOLT 7).
        let maximum = self.channel.funded().map(|open| {
            let most = open.contract.params.remote.max_htlc_value_in_flight;
            most.min(open.contract.funding.capacity.saturating_msat())
        });
        const MUST_BE_ONE: u8 = 1;
        const DO_NOT_FORWARD: u8 = 2;
        let private = self.channel.funded().is_some_and(|open| !open.contract.params.announce);
        let contents = msgs::UnsignedChannelUpdate {
            chain_hash: services.chain_hash,
            short_channel_id: scid,
            timestamp,
            message_flags: MUST_BE_ONE | if private { DO_NOT_FORWARD } else { 0 },
            channel_flags: u8::from(!self.is_first()),
            cltv_expiry_delta: policy.cltv_delta,
            htlc_minimum_msat: policy.htlc_minimum.msat(),
            htlc_maximum_msat: maximum.unwrap_or_default().max(policy.htlc_minimum).msat(),
            fee_base_msat: u32::try_from(policy.base_fee.msat()).unwrap_or(u32::MAX),
            fee_proportional_millionths: policy.fee_ppm,
            excess_data: Vec::new(),
        };
        let signature = sign(&services.keys.node_secret(), &contents);
        msgs::ChannelUpdate { signature, contents }
    }
}

/// Whether a channel_update was signed by `node`.
pub fn is_signed_by(update: &msgs::ChannelUpdate, node: &PublicKey) -> bool {
    let digest = digest(&update.contents);
    Secp256k1::verification_only().verify_ecdsa(&digest, &update.signature, node).is_ok()
}
