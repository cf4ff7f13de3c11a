//! A channel: two doors over one state.

use crate::amount::{Height, Msat};
use crate::changeset::Rows;
use crate::error::{BadRow, Refused, Violation};
use crate::input::{Command, Handled, Input};
use crate::keys::curve::Curve;
use crate::keys::signer::Signer;
use crate::message::Message;
use crate::onchain::tree;
use crate::outbox::Outbox;
use crate::output::{Event, Output};
use crate::params::Negotiated;
use crate::protocol::failing::readable;
use crate::protocol::open::{Open, Tools};
use crate::protocol::opening::{AcceptPolicy, Accepted, OpenRequest, Proposed, Signing, ToFund};
use crate::protocol::settling::Bump;
use crate::protocol::updating::BASELESS;
use crate::transactions::commitment::CommitmentTx;
use lightning::ln::msgs;
use lightning::ln::types::ChannelId;
use std::sync::Arc;

/// One channel with one peer.
///
/// There are three kinds of methods. *Makers*: [`Channel::open`], [`Channel::accept`],
/// [`Channel::restore`]. *Getters* change nothing. And the two doors:
///
/// - [`Channel::handle`] takes one [`Input`]: something that happened. It returns at once; a
///   command of our own that cannot be done is [`Refused`], and then nothing changed. A message of
///   the peer's is never refused: a broken rule is answered through the other door.
/// - [`Channel::poll`] gives one [`Output`]: something to do. Hand in all inputs that are waiting,
///   then poll until [`Output::Idle`]; what was handed in together is signed and written together.
///
/// Persist, then speak: `Output::Persist(changes)` leaves at once, and everything that relies on it
/// stays inside until `Input::Persisted(n)` says that it is durable. A restart is
/// [`Channel::restore`] over the rows that were durable.
///
/// The run loop is small:
///
/// ```
/// use fulmen_channel::{channel::Channel, input::Input, output::Output, changeset::Rows};
///
/// fn run(channel: &mut Channel, waiting: Vec<Input>, disk: &mut Rows) {
///     for input in waiting {
///         if let Err(refused) = channel.handle(input) {
///             println!("not done: {refused}");
///         }
///     }
///     loop {
///         match channel.poll() {
///             Output::Persist(unit) => {
///                 unit.changes.apply_to(disk); // … and flush, before this:
///                 let _ = channel.handle(Input::Persisted(unit.id));
///             }
///             Output::Send(message) => println!("to the peer: {message:?}"),
///             Output::Broadcast(tx) => println!("publish {}", tx.compute_txid()),
///             Output::Idle { act_by } => break println!("done; look again at {act_by:?}"),
///             other => println!("{other:?}"),
///         }
///     }
/// }
/// ```
pub struct Channel {
    signer: Box<dyn Signer>,
    curve: Arc<dyn Curve>,
    out: Outbox,
    phase: Phase,
    /// What holds on the connection that the channel is opened on.
    negotiated: Negotiated,
}

/// Where the channel is. Each is a type that consumes itself into the next.
#[derive(Debug)]
enum Phase {
    Proposed(Box<Proposed>),
    ToFund(Box<ToFund>),
    Signing(Box<Signing>),
    Accepted(Box<Accepted>),
    Open(Box<Open>),
    /// It never came to be; this was its id.
    Abandoned(ChannelId),
}

impl Channel {
    /// We open a channel: `open_channel` is the first output.
    ///
    /// # Errors
    /// [`Refused`] when the request itself breaks BOLT 2 or cannot pay its own fees.
    pub fn open(
        request: OpenRequest,
        signer: Box<dyn Signer>,
        curve: Arc<dyn Curve>,
    ) -> Result<Channel, Refused> {
        let negotiated = request.negotiated;
        let (proposed, message) = Proposed::new(request, signer.as_ref())?;
        let phase = Phase::Proposed(Box::new(proposed));
        let mut channel = Self::new(signer, curve, phase, negotiated);
        channel.out.at_once(Output::Send(Message::OpenChannel(Box::new(message))));
        Ok(channel)
    }

    /// The peer opens a channel and we agree: `accept_channel` is the first output.
    ///
    /// # Errors
    /// [`Violation`] when open_channel breaks BOLT 2 or our policy: answer with its text as error.
    pub fn accept(
        open: &msgs::OpenChannel,
        policy: AcceptPolicy,
        signer: Box<dyn Signer>,
        curve: Arc<dyn Curve>,
    ) -> Result<Channel, Violation> {
        let negotiated = policy.negotiated;
        let (accepted, message) = Accepted::receive(open, policy, signer.as_ref())?;
        let phase = Phase::Accepted(Box::new(accepted));
        let mut channel = Self::new(signer, curve, phase, negotiated);
        channel.out.at_once(Output::Send(Message::AcceptChannel(Box::new(message))));
        Ok(channel)
    }

    /// A channel as it was when its rows were written; the peer is not connected. News about HTLCs
    /// that are not over come again.
    ///
    /// # Errors
    /// [`BadRow`] when the rows are damaged or from a newer version.
    pub fn restore(
        rows: &Rows,
        signer: Box<dyn Signer>,
        curve: Arc<dyn Curve>,
    ) -> Result<Channel, BadRow> {
        let mut open = Box::new(Open::restore(rows)?);
        let mut out = Outbox::default();
        let mut tools = Tools { signer: signer.as_ref(), curve: curve.as_ref(), out: &mut out };
        open.resume(&mut tools);
        let (phase, negotiated) = (Phase::Open(open), Negotiated::default());
        Ok(Channel { signer, curve, out, phase, negotiated })
    }

    fn new(
        signer: Box<dyn Signer>,
        curve: Arc<dyn Curve>,
        phase: Phase,
        negotiated: Negotiated,
    ) -> Self {
        Channel { signer, curve, out: Outbox::default(), phase, negotiated }
    }

    /// Takes one thing that happened.
    ///
    /// # Errors
    /// [`Refused`] for a command of our own that cannot be done; nothing changed then.
    pub fn handle(&mut self, input: Input) -> Result<Handled, Refused> {
        if let Input::Persisted(id) = input {
            self.out.persisted(id);
            return Ok(Handled::Done);
        }
        if let (Input::Command(Command::Abandon(why)), Some(open)) = (&input, self.funded()) {
            if open.may_be_forgotten() {
                self.give_up(open.channel_id(), why.clone());
                return Ok(Handled::Done);
            }
        }
        if let (Input::FundingFound(tx), Some(open)) = (&input, self.funded()) {
            // With HTLCs in flight it is kept, so that none counts as failed that may have arrived.
            if open.is_baseless(tx) && open.contract.htlcs.is_empty() {
                self.give_up(open.channel_id(), BASELESS.into());
                return Ok(Handled::Done);
            }
        }
        if let Phase::Open(open) = &mut self.phase {
            let (signer, curve) = (self.signer.as_ref(), self.curve.as_ref());
            return open.handle(input, &mut Tools { signer, curve, out: &mut self.out });
        }
        if let (Phase::Abandoned(_), false) = (&self.phase, matches!(input, Input::Command(_))) {
            return Ok(Handled::Done);
        }
        match input {
            Input::Message(message) => {
                let phase = self.take_phase();
                match self.negotiate(phase, message) {
                    Ok(next) => self.phase = next,
                    Err((id, violation)) => self.give_up(id, violation.to_string()),
                }
                Ok(Handled::Done)
            }
            Input::Command(Command::Fund(tx)) => self.fund(*tx),
            Input::Command(_) if matches!(self.phase, Phase::Abandoned(_)) => {
                Err(Refused::NotUsable("abandoned"))
            }
            Input::Command(Command::Abandon(why)) => {
                let id = self.channel_id();
                self.give_up(id, why);
                Ok(Handled::Done)
            }
            Input::Command(_) => Err(Refused::NotUsable("not open yet")),
            Input::Disconnected => {
                self.out.drop_messages();
                self.abandon("the peer disconnected before the channel was funded".into());
                Ok(Handled::Done)
            }
            _ => Ok(Handled::Done),
        }
    }

    /// Gives one thing to do; [`Output::Idle`] when there is none for now.
    #[must_use]
    pub fn poll(&mut self) -> Output {
        if let Phase::Open(open) = &mut self.phase {
            let (signer, curve) = (self.signer.as_ref(), self.curve.as_ref());
            open.settle(&mut Tools { signer, curve, out: &mut self.out });
        } else {
            self.out.seal(Default::default());
        }
        self.out.next().unwrap_or(Output::Idle { act_by: self.act_by() })
    }

    /// The phase, to be put back: a broken rule leaves the channel abandoned.
    fn take_phase(&mut self) -> Phase {
        let gone = Phase::Abandoned(self.phase.id());
        std::mem::replace(&mut self.phase, gone)
    }

    fn negotiate(
        &mut self,
        phase: Phase,
        message: Message,
    ) -> Result<Phase, (ChannelId, Violation)> {
        let (signer, curve) = (self.signer.as_ref(), self.curve.as_ref());
        let id = phase.id();
        let named = |violation| (id, violation);
        match (phase, message) {
            (_, Message::Error(error)) => {
                self.abandon(format!("the peer said: {}", readable(&error)));
                Ok(Phase::Abandoned(id))
            }
            (phase, Message::Warning(_)) => Ok(phase),
            (Phase::Proposed(proposed), Message::AcceptChannel(accept)) => {
                let (next, request) = proposed.receive(&accept).map_err(named)?;
                self.out.stage(Output::Event(Event::FundingNeeded(request)));
                Ok(Phase::ToFund(Box::new(next)))
            }
            (Phase::Accepted(accepted), Message::FundingCreated(created)) => {
                let (open, signed) = accepted.fund(&created, signer, curve).map_err(named)?;
                self.out.stage(Output::Send(Message::FundingSigned(Box::new(signed))));
                Ok(self.opened(open))
            }
            (Phase::Signing(signing), Message::FundingSigned(signed)) => {
                let open = signing.receive(&signed, signer, curve).map_err(named)?;
                if let Some(tx) = &open.funding_tx {
                    self.out.stage(Output::Broadcast(Box::new(tx.clone())));
                }
                Ok(self.opened(open))
            }
            (_, _) => {
                let what = "a message that does not belong into this phase";
                Err(named(Violation::fail("BOLT 2 channel establishment", what)))
            }
        }
    }

    fn opened(&mut self, mut open: Open) -> Phase {
        open.negotiated = self.negotiated;
        let (channel_id, outpoint) = (open.channel_id(), open.contract.funding.outpoint);
        let (signer, curve) = (self.signer.as_ref(), self.curve.as_ref());
        open.watch(&mut Tools { signer, curve, out: &mut self.out });
        self.out.stage(Output::Event(Event::Opened { channel_id, outpoint }));
        // A zero-conf channel is ready at once.
        open.ready_if_due(&mut Tools { signer, curve, out: &mut self.out });
        Phase::Open(Box::new(open))
    }

    fn fund(&mut self, tx: bitcoin::Transaction) -> Result<Handled, Refused> {
        let phase = self.take_phase();
        let (signer, curve) = (self.signer.as_ref(), self.curve.as_ref());
        match phase {
            Phase::ToFund(to_fund) => match to_fund.fund(tx, signer, curve) {
                Ok((signing, created)) => {
                    self.phase = Phase::Signing(Box::new(signing));
                    let message = Message::FundingCreated(Box::new(created));
                    self.out.stage(Output::Send(message));
                    Ok(Handled::Done)
                }
                Err((to_fund, refused)) => {
                    self.phase = Phase::ToFund(to_fund);
                    Err(refused)
                }
            },
            other => {
                self.phase = other;
                Err(Refused::NotUsable("not waiting for its funding transaction"))
            }
        }
    }

    /// Fails a channel that is not funded: an error, and it is forgotten.
    fn give_up(&mut self, channel_id: ChannelId, why: String) {
        let error = msgs::ErrorMessage { channel_id, data: why.clone() };
        self.out.stage(Output::Send(Message::Error(error)));
        self.abandon(why);
    }

    fn abandon(&mut self, why: String) {
        self.phase = Phase::Abandoned(self.phase.id());
        self.out.stage(Output::Event(Event::Abandoned(why)));
    }

    fn act_by(&self) -> Option<Height> {
        self.funded().and_then(Open::act_by)
    }

    /// The channel once it is funded.
    pub fn funded(&self) -> Option<&Open> {
        match &self.phase {
            Phase::Open(open) => Some(open),
            _ => None,
        }
    }

    /// The id that messages name it by: temporary until it is funded.
    pub fn channel_id(&self) -> ChannelId {
        self.phase.id()
    }

    /// What one more HTLC of ours could carry, by balance.
    pub fn spendable(&self) -> Msat {
        match self.funded() {
            Some(open) if open.is_usable() => open.contract.spendable(),
            _ => Msat::ZERO,
        }
    }

    /// Our latest commitment and the peer's, unsigned; none before the channel is funded.
    pub fn commitments(&self) -> (Option<CommitmentTx>, Option<CommitmentTx>) {
        let contract = self.funded().map(|open| &open.contract);
        let local = contract.map(|contract| contract.local_draft(self.signer.as_ref()).tx);
        (local, contract.map(|contract| contract.remote_draft().tx))
    }

    /// The tree of its transactions: what is on chain, what could come, who may spend what from
    /// when. None before the channel is funded.
    pub fn tree(&self) -> Option<tree::Node> {
        Some(self.funded()?.tree(self.signer.as_ref()))
    }

    /// Our commitment, signed, when it is published and nothing that spends F is in a block.
    pub fn forced(&self) -> Option<bitcoin::Transaction> {
        self.funded()?.forced(self.signer.as_ref())
    }

    /// A commitment that is published and not in a block, and what raises its fee: see
    /// [`crate::protocol::open::Open::bump`] (BOLT 5, requirements for anchors).
    pub fn bump(&self) -> Option<Bump> {
        self.funded()?.bump(self.signer.as_ref())
    }

    /// Signs with our key in F: for the channel's announcement (BOLT 7).
    pub fn sign_announcement(&self, sighash: [u8; 32]) -> bitcoin::secp256k1::ecdsa::Signature {
        self.signer.sign_funding(sighash)
    }
}

impl Phase {
    fn id(&self) -> ChannelId {
        match self {
            Phase::Proposed(phase) => phase.temporary_channel_id(),
            Phase::ToFund(phase) => phase.temporary_channel_id(),
            // The peer names the new id first in funding_signed; errors use it from here on.
            Phase::Signing(phase) => phase.channel_id(),
            Phase::Accepted(phase) => phase.temporary_channel_id(),
            Phase::Open(open) => open.channel_id(),
            Phase::Abandoned(id) => *id,
        }
    }
}
