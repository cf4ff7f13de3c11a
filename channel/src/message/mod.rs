//! The channel messages of BOLT 2 (and error, warning of BOLT 1) as one enum. Structs and their
//! codec are lightning's; the two whose fields it keeps private are ours.

mod codec;

pub use codec::{BadMessage, MAX_MESSAGE_LEN};

use lightning::ln::msgs;
use lightning::ln::types::ChannelId;

/// `update_fail_htlc` (BOLT 2, type 131): the HTLC failed, and why, sealed for the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateFailHtlc {
    /// The channel.
    pub channel_id: ChannelId,
    /// Which of the receiver's HTLCs.
    pub htlc_id: u64,
    /// The encrypted failure (BOLT 4).
    pub reason: Vec<u8>,
}

/// `update_fail_malformed_htlc` (BOLT 2, type 135): the onion could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateFailMalformedHtlc {
    /// The channel.
    pub channel_id: ChannelId,
    /// Which of the receiver's HTLCs.
    pub htlc_id: u64,
    /// SHA256 of the onion as it arrived.
    pub sha256_of_onion: [u8; 32],
    /// A failure code with the BADONION bit (0x8000).
    pub failure_code: u16,
}

/// A message of one channel. Large ones are boxed, so that a queue of them stays small.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // each variant is the BOLT message of that name
pub enum Message {
    OpenChannel(Box<msgs::OpenChannel>),
    AcceptChannel(Box<msgs::AcceptChannel>),
    FundingCreated(Box<msgs::FundingCreated>),
    FundingSigned(Box<msgs::FundingSigned>),
    ChannelReady(Box<msgs::ChannelReady>),
    Shutdown(Box<msgs::Shutdown>),
    ClosingSigned(Box<msgs::ClosingSigned>),
    ClosingComplete(Box<msgs::ClosingComplete>),
    ClosingSig(Box<msgs::ClosingSig>),
    UpdateAddHtlc(Box<msgs::UpdateAddHTLC>),
    UpdateFulfillHtlc(Box<msgs::UpdateFulfillHTLC>),
    UpdateFailHtlc(Box<UpdateFailHtlc>),
    UpdateFailMalformedHtlc(Box<UpdateFailMalformedHtlc>),
    CommitmentSigned(Box<msgs::CommitmentSigned>),
    RevokeAndAck(Box<msgs::RevokeAndACK>),
    UpdateFee(msgs::UpdateFee),
    ChannelReestablish(Box<msgs::ChannelReestablish>),
    AnnouncementSignatures(Box<msgs::AnnouncementSignatures>),
    Error(msgs::ErrorMessage),
    Warning(msgs::WarningMessage),
}
