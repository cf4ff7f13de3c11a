//! NewAddress and WalletBalance.

use super::{failed, sat};
use crate::keys::Purpose;
use crate::node::Node;
use fulmen_proto::lnrpc::{self, AddressType};
use std::collections::BTreeMap;
use tonic::Status;

/// A fresh address, or the last that was not used.
pub async fn new_address(
    node: &Node,
    request: lnrpc::NewAddressRequest,
) -> Result<lnrpc::NewAddressResponse, Status> {
    if !matches!(request.account.as_str(), "" | "default") {
        return Err(failed(format!("account {} not found", request.account)));
    }
    let asked = AddressType::try_from(request.r#type)
        .map_err(|_| failed(format!("unknown address type: {}", request.r#type)))?;
    let (kind, unused) = match asked {
        AddressType::WitnessPubkeyHash => (Purpose::WitnessKeyHash, false),
        AddressType::NestedPubkeyHash => (Purpose::NestedWitnessKeyHash, false),
        AddressType::UnusedWitnessPubkeyHash => (Purpose::WitnessKeyHash, true),
        AddressType::UnusedNestedPubkeyHash => (Purpose::NestedWitnessKeyHash, true),
        AddressType::TaprootPubkey => (Purpose::Taproot, false),
        AddressType::UnusedTaprootPubkey => (Purpose::Taproot, true),
    };
    let address = node.money.address(kind, unused).await.map_err(failed)?;
    Ok(lnrpc::NewAddressResponse { address: address.to_string() })
}

/// What the wallet holds.
pub async fn wallet_balance(
    node: &Node,
    request: lnrpc::WalletBalanceRequest,
) -> Result<lnrpc::WalletBalanceResponse, Status> {
    if !matches!(request.account.as_str(), "" | "default") {
        return Err(failed(format!("account {} not found", request.account)));
    }
    let balance = node.money.balance();
    let account = lnrpc::WalletAccountBalance {
        confirmed_balance: sat(balance.confirmed),
        unconfirmed_balance: sat(balance.unconfirmed),
    };
    Ok(lnrpc::WalletBalanceResponse {
        total_balance: sat(balance.total()),
        confirmed_balance: sat(balance.confirmed),
        unconfirmed_balance: sat(balance.unconfirmed),
        locked_balance: sat(balance.locked),
        reserved_balance_anchor_chan: sat(balance.anchor_reserve),
        account_balance: BTreeMap::from([("default".into(), account)]),
    })
}
