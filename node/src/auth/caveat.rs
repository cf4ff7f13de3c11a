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
        ("iprange", range) => {
            let range = range.split_once('/').ok_or("it has no valid IP range")?;
            match in_range(range.0, range.1, peer).ok_or("it has no valid IP range")? {
                true => Ok(()),
                false => Err("macaroon locked to different IP range"),
            }
        }
        ("lnd-custom", _) => Err("no middleware is registered for it"),
        _ => Err("caveat not recognized"),
    }
}

/// Whether `peer` is in the range of `bits` leading bits of `network`; none for no range.
fn in_range(network: &str, bits: &str, peer: Option<IpAddr>) -> Option<bool> {
    let (network, bits) = (network.parse::<IpAddr>().ok()?, bits.parse::<u32>().ok()?);
    let number = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    };
    let width: u32 = if network.is_ipv4() { 32 } else { 128 };
    let rest = width.checked_sub(bits)?;
    let Some(peer) = peer.map(|peer| peer.to_canonical()) else { return Some(false) };
    // A range of all addresses shifts every bit out.
    let head = |ip: IpAddr| number(ip).checked_shr(rest).unwrap_or(0);
    Some(peer.is_ipv4() == network.is_ipv4() && head(peer) == head(network))
}
