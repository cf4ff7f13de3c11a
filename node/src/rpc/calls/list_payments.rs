//! ListPayments.

use super::payment::{capacities, to_rpc};
use crate::node::Node;
use crate::payments::{Payment, Status};
use fulmen_proto::lnrpc;
use tonic::Status as RpcStatus;

/// Payments by index: those that succeeded, or with `include_incomplete` all.
pub async fn list_payments(
    node: &Node,
    request: lnrpc::ListPaymentsRequest,
) -> Result<lnrpc::ListPaymentsResponse, RpcStatus> {
    let wanted = match request.max_payments {
        0 => usize::MAX,
        number => usize::try_from(number).unwrap_or(usize::MAX),
    };
    let filter = |payment: &Payment| {
        let created = payment.creation_time_ns / 1_000_000_000;
        (request.include_incomplete || payment.status == Status::Succeeded)
            && (request.creation_date_start == 0 || created >= request.creation_date_start)
            && (request.creation_date_end == 0 || created <= request.creation_date_end)
    };
    let page = |offset, limit| node.switchboard.page::<Payment>(offset, limit, request.reversed);
    let index = |payment: &Payment| payment.payment_index;
    let found = super::pages(request.index_offset, wanted, request.reversed, page, index, filter)?;
    let total = match request.count_total_payments {
        true => super::pages(
            0,
            usize::MAX,
            false,
            |offset, limit| node.switchboard.page::<Payment>(offset, limit, false),
            index,
            |_| true,
        )?
        .len(),
        false => 0,
    };
    let capacities = capacities(node);
    let mut payments: Vec<_> = found.iter().map(|payment| to_rpc(payment, &capacities)).collect();
    if request.omit_hops {
        for attempt in payments.iter_mut().flat_map(|payment| &mut payment.htlcs) {
            if let Some(route) = &mut attempt.route {
                route.hops.clear();
            }
        }
    }
    Ok(lnrpc::ListPaymentsResponse {
        first_index_offset: found.first().map_or(0, index),
        last_index_offset: found.last().map_or(0, index),
        total_num_payments: u64::try_from(total).unwrap_or(u64::MAX),
        payments,
    })
}
