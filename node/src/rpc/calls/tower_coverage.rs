//! Coverage: which revoked states and outputs no tower takes, should they be published while this
//! node is away (rules 5).

use super::explain_channel::named;
use super::{channel_point, failed};
use crate::channels::explain;
use crate::channels::FundedSnapshot;
use crate::node::Node;
use crate::tower_client::{Covered, Ranges};
use bitcoin::OutPoint;
use fulmen_channel::params::{CommitmentFormat, Side};
use fulmen_proto::fulmenrpc::{self as rpc, OutputKind};
use tonic::Status;

/// What is covered of one channel, or of all that are not closed.
pub async fn coverage(
    node: &Node,
    request: rpc::CoverageRequest,
) -> Result<rpc::CoverageResponse, Status> {
    let outpoints: Vec<OutPoint> = match request.channel.as_str() {
        "" => explain::live(&node.services).await.iter().map(|channel| channel.outpoint).collect(),
        name => vec![named(node, name).await?.1.outpoint],
    };
    let mut channels = Vec::new();
    for outpoint in outpoints {
        let Some(handle) = node.services.registry.by_outpoint(&outpoint) else { continue };
        let Some(snapshot) = handle.describe().await else { continue };
        let Some(funded) = snapshot.funded else { continue };
        let covered = node.services.towers.covered(handle.index).map_err(failed)?;
        channels.push(rpc::ChannelCoverage {
            channel_point: channel_point(outpoint),
            chan_id: funded.listed_as.unwrap_or(0),
            remote_pubkey: snapshot.peer.to_string(),
            format: format(funded.params.format).into(),
            revoked_states: funded.revoked,
            to_self_delay: funded.params.side(Side::Local).to_self_delay.into(),
            outputs: outputs(&funded, &covered),
            towers: covered.iter().map(tower).collect(),
        });
    }
    Ok(rpc::CoverageResponse { channels })
}

fn format(format: CommitmentFormat) -> &'static str {
    match format {
        CommitmentFormat::StaticRemoteKey => "static_remotekey",
        CommitmentFormat::Anchors => "anchors",
    }
}

fn tower(covered: &Covered) -> rpc::TowerCoverage {
    let Covered { tower, progress, pending } = covered;
    rpc::TowerCoverage {
        pubkey: tower.id.to_string(),
        addresses: tower.addresses.clone(),
        private: tower.private,
        active: tower.active,
        states: ranges(&progress.covered),
        pending: *pending,
        partial_states: progress.partial,
        left_out_outputs: progress.left_out,
    }
}

fn outputs(funded: &FundedSnapshot, covered: &[Covered]) -> Vec<rpc::OutputCoverage> {
    let kinds = [
        OutputKind::ToCheater,
        OutputKind::ToUs,
        OutputKind::HtlcOutput,
        OutputKind::HtlcSecondStage,
    ];
    let (format, delay) = (funded.params.format, funded.params.side(Side::Local).to_self_delay);
    let one = |kind: OutputKind| {
        let taking = covered.iter().filter(|it| takes(it.tower.private, format, kind));
        let taking: Vec<&Covered> = taking.filter(|it| it.progress.covered.count() > 0).collect();
        let all = taking.iter().fold(Ranges::default(), |all, it| all.and(&it.progress.covered));
        let uncovered = all.missing(funded.revoked);
        rpc::OutputCoverage {
            output: kind.into(),
            towers: taking.iter().map(|it| it.tower.id.to_string()).collect(),
            uncovered: ranges(&uncovered),
            uncovered_states: uncovered.count(),
            race: kind == OutputKind::HtlcOutput && !taking.is_empty(),
            otherwise: otherwise(kind, delay),
        }
    };
    kinds.into_iter().map(one).collect()
}

/// Whether a tower of this mode takes outputs of this kind (rules 5).
fn takes(private: bool, format: CommitmentFormat, kind: OutputKind) -> bool {
    match (private, kind) {
        (_, OutputKind::ToCheater) => true,
        (private, OutputKind::ToUs | OutputKind::HtlcOutput) => !private,
        // With anchors the cheater adds an input: its txid cannot be known beforehand.
        (private, OutputKind::HtlcSecondStage) => {
            private || format == CommitmentFormat::StaticRemoteKey
        }
    }
}

fn otherwise(kind: OutputKind, delay: u16) -> String {
    match kind {
        OutputKind::ToCheater => {
            format!("lost, unless the node is back within {delay} blocks of the breach")
        }
        OutputKind::ToUs => "nobody else can take it: it waits for the node".into(),
        OutputKind::HtlcOutput => "it waits for the node until the cheater moves it to a second \
                                   stage, or claims what is the cheater's by then"
            .into(),
        OutputKind::HtlcSecondStage => {
            format!("lost, unless the node is back within {delay} blocks of the second stage")
        }
    }
}

fn ranges(ranges: &Ranges) -> Vec<rpc::StateRange> {
    ranges.iter().map(|(first, last)| rpc::StateRange { first, last }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_takes_what_it_can() {
        use CommitmentFormat::{Anchors, StaticRemoteKey};
        use OutputKind::*;
        // Altruist with anchors, altruist with static_remotekey, private with either.
        for (kind, anchors, legacy, private) in [
            (ToCheater, true, true, true),
            (ToUs, true, true, false),
            (HtlcOutput, true, true, false),
            (HtlcSecondStage, false, true, true),
        ] {
            assert_eq!(takes(false, Anchors, kind), anchors, "{kind:?}");
            assert_eq!(takes(false, StaticRemoteKey, kind), legacy, "{kind:?}");
            assert_eq!(takes(true, Anchors, kind), private, "{kind:?}");
            assert_eq!(takes(true, StaticRemoteKey, kind), private, "{kind:?}");
        }
    }
}
