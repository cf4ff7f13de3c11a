//! Messages as bytes, worked out by hand from the field numbers.

use fulmen_proto::lnrpc::{
    channel_point::FundingTxid, ChannelPoint, Invoice, WalletBalanceResponse,
};
use prost::Message;

#[test]
fn an_invoice_is_its_fields_by_number() {
    let invoice =
        Invoice { memo: "tea".into(), value_msat: 300, is_keysend: true, ..Invoice::default() };
    let by_hand = hex::decode("0a03746561b801ac02c80101").unwrap();
    assert_eq!(invoice.encode_to_vec(), by_hand);
    assert_eq!(Invoice::decode(by_hand.as_slice()).unwrap(), invoice);
}

#[test]
fn a_oneof_keeps_its_last_member() {
    let both = hex::decode("0a02abcd1204656665661801").unwrap();
    let funding_txid = Some(FundingTxid::FundingTxidStr("efef".into()));
    let point = ChannelPoint { funding_txid, output_index: 1 };
    assert_eq!(ChannelPoint::decode(both.as_slice()).unwrap(), point);
}

#[test]
fn unknown_fields_are_passed_over_and_broken_bytes_refused() {
    let newer = hex::decode("0805f8ff3f07").unwrap();
    assert_eq!(WalletBalanceResponse::decode(newer.as_slice()).unwrap().total_balance, 5);
    assert!(Invoice::decode([0x0a, 0x05, b'x'].as_slice()).is_err());
}
