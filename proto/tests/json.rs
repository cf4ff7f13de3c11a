//! JSON as lncli and the REST gateway print it.

use fulmen_proto::json::{to_string_pretty, to_value, Bytes};
use fulmen_proto::lnrpc::{
    self, AddInvoiceResponse, BlindedPathConfig, ChannelBalanceResponse, Feature, GetInfoResponse,
    Payment, PendingUpdate,
};
use fulmen_proto::routerrpc::SendPaymentRequest;
use serde_json::json;

#[test]
fn bytes_are_hex_for_people_and_base64_for_rest() {
    let answer = AddInvoiceResponse {
        r_hash: vec![0xab, 0xcd, 0xef, 0xff],
        payment_request: "lnbcrt1".into(),
        add_index: u64::MAX,
        payment_addr: vec![],
    };
    let text = "{\n    \"r_hash\": \"abcdefff\",\n    \"payment_request\": \"lnbcrt1\",\n    \
                \"add_index\": \"18446744073709551615\",\n    \"payment_addr\": \"\"\n}";
    assert_eq!(to_string_pretty(&answer, Bytes::Hex).unwrap(), text);
    assert_eq!(to_value(&answer, Bytes::Base64).unwrap()["r_hash"], json!("q83v/w=="));
}

#[test]
fn an_empty_message_shows_every_field() {
    let value = to_value(&GetInfoResponse::default(), Bytes::Hex).unwrap();
    assert_eq!(value["num_peers"], json!(0));
    assert_eq!(value["best_header_timestamp"], json!("0"));
    assert_eq!(value["synced_to_chain"], json!(false));
    assert_eq!(value["chains"], json!([]));
    assert_eq!(value["features"], json!({}));
    assert_eq!(value["graph_cache_status"], json!("GRAPH_CACHE_STATUS_DISABLED"));
    assert_eq!(value.as_object().unwrap().len(), 22);
    let balance = to_value(&ChannelBalanceResponse::default(), Bytes::Hex).unwrap();
    assert_eq!(balance["local_balance"], json!(null));
}

#[test]
fn unset_oneof_members_and_optional_fields_are_left_out() {
    let point = lnrpc::ChannelPoint { funding_txid: None, output_index: 3 };
    assert_eq!(to_value(&point, Bytes::Hex).unwrap(), json!({"output_index": 3}));
    let update = lnrpc::OpenStatusUpdate {
        update: Some(lnrpc::open_status_update::Update::ChanPending(PendingUpdate::default())),
        pending_chan_id: vec![1],
    };
    let pending =
        json!({"txid": "", "output_index": 0, "fee_per_vbyte": "0", "local_close_tx": false});
    let update = to_value(&update, Bytes::Hex).unwrap();
    assert_eq!(update, json!({"chan_pending": pending, "pending_chan_id": "01"}));
    let config = BlindedPathConfig { num_hops: Some(0), ..BlindedPathConfig::default() };
    let config = to_value(&config, Bytes::Hex).unwrap();
    let lists = json!({"num_hops": 0, "node_omission_list": [], "incoming_channel_list": []});
    assert_eq!(config, lists);
}

#[test]
fn enums_by_name_and_unknown_values_by_number() {
    let mut payment = Payment::default();
    payment.set_status(lnrpc::payment::PaymentStatus::InFlight);
    assert_eq!(to_value(&payment, Bytes::Hex).unwrap()["status"], json!("IN_FLIGHT"));
    payment.status = 77;
    assert_eq!(to_value(&payment, Bytes::Hex).unwrap()["status"], json!(77));
    let mut channel = lnrpc::Channel { commitment_type: 7, ..lnrpc::Channel::default() };
    let first_alias = to_value(&channel, Bytes::Hex).unwrap()["commitment_type"].clone();
    assert_eq!(first_alias, json!("TAPROOT"));
    channel.alias_scids = vec![1, u64::MAX];
    let value = to_value(&channel, Bytes::Hex).unwrap();
    assert_eq!(value["alias_scids"], json!(["1", "18446744073709551615"]));
}

#[test]
fn map_entries_sort_by_number() {
    let mut request = SendPaymentRequest { time_pref: -0.5, ..SendPaymentRequest::default() };
    request.dest_custom_records = [(10, vec![1]), (9, vec![0xff])].into();
    let text = to_string_pretty(&request, Bytes::Hex).unwrap();
    assert!(text.contains("\"9\": \"ff\",\n        \"10\": \"01\""), "{text}");
    assert!(text.contains("\"time_pref\": -0.5"), "{text}");
    let mut info = GetInfoResponse::default();
    let feature = Feature { name: "mpp".into(), is_required: false, is_known: true };
    info.features = [(17, feature)].into();
    let mpp = json!({"name": "mpp", "is_required": false, "is_known": true});
    assert_eq!(to_value(&info, Bytes::Hex).unwrap()["features"], json!({"17": mpp}));
}
