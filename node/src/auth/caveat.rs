//! The conditions that a macaroon may carry. What is not known is not satisfied.

use std::net::IpAddr;
use std::time::SystemTime;
use time::format_description::well_known::Rfc3339;
use time::OffsetDateTime;

/// Checks one condition, for a call at `now` from `peer`.
pub(super) fn check(
    condition: &[u8],
    now: SystemTime,
    peer: Option<IpAddr>,
) -> Result<(), &'static str> {
    let condition = std::str::from_utf8(condition).map_err(|_| "it is not text")?;
    match condition.split_once(' ').unwrap_or((condition, "")) {
        ("time-before", time) => {
            let end = OffsetDateTime::parse(time, &Rfc3339).map_err(|_| "it has no valid time")?;
            match OffsetDateTime::from(now) < end {
                true => Ok(()),
                false => Err("macaroon has expired"),
            }
        }
        ("ipaddr", ip) => {
            let ip: IpAddr = ip.parse().map_err(|_| "it has no valid IP address")?;
            match peer.map(|peer| peer.to_canonical()) == Some(ip.to_canonical()) {
                true => Ok(()),
                false => Err("macaroon locked to different IP address"),
            }
        }
        _ => Err("caveat not recognized"),
    }
}
