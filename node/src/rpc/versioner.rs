//! `verrpc.Versioner`: which program answers.

use super::calls::get_info::{COMMIT_HASH, VERSION};
use fulmen_proto::verrpc;
use tonic::{async_trait, Request, Response, Status};

/// The service.
pub struct Versioner;

#[async_trait]
impl verrpc::versioner_server::Versioner for Versioner {
    async fn get_version(
        &self,
        _: Request<verrpc::VersionRequest>,
    ) -> Result<Response<verrpc::Version>, Status> {
        Ok(Response::new(version()))
    }
}

/// The numbers are those of the lnd whose interface is served, for clients that compare them.
fn version() -> verrpc::Version {
    let (numbers, rest) = VERSION.split_once('-').unwrap_or((VERSION, ""));
    let mut numbers = numbers.split('.').map(|number| number.parse().unwrap_or(0));
    let mut number = || numbers.next().unwrap_or(0);
    verrpc::Version {
        version: VERSION.into(),
        app_major: number(),
        app_minor: number(),
        app_patch: number(),
        app_pre_release: rest.split(' ').next().unwrap_or_default().into(),
        commit: env!("FULMEN_COMMIT").into(),
        commit_hash: COMMIT_HASH.into(),
        // Those of a Go program.
        build_tags: Vec::new(),
        go_version: String::new(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_numbers_are_those_of_the_text() {
        let version = super::version();
        assert!(version.version.starts_with("0.20.99-beta fulmen="));
        assert_eq!((version.app_major, version.app_minor, version.app_patch), (0, 20, 99));
        assert_eq!(version.app_pre_release, "beta");
        let known = version.commit_hash.len() == 40 && version.commit_hash.contains(|c| c != '0');
        assert!(known || version.commit_hash.starts_with('v'), "{version:?}");
        assert!(!version.commit.is_empty());
    }
}
