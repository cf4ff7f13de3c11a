//! Macaroons over the wire: the files, baking, listing, deleting and checking them.

use std::collections::BTreeMap;

use bitcoin::hashes::{hmac, sha256, Hash, HashEngine};
use fulmen_itest::failure::Result;
use fulmen_itest::regtest::{Cluster, Daemon};
use fulmen_proto::lnrpc::{
    BakeMacaroonRequest, CheckMacPermRequest, DeleteMacaroonIdRequest, GetInfoRequest, Invoice,
    ListMacaroonIDsRequest, ListPermissionsRequest, MacaroonPermission, WalletBalanceRequest,
};
use tonic::{Code, Status};

const DENIED: &str = "permission denied";

fn permission(entity: &str, action: &str) -> MacaroonPermission {
    MacaroonPermission { entity: entity.into(), action: action.into() }
}

async fn bakes(
    daemon: &Daemon,
    root_key_id: u64,
    permissions: &[(&str, &str)],
) -> std::result::Result<Vec<u8>, Status> {
    let permissions = permissions.iter().map(|(entity, action)| permission(entity, action));
    let request = BakeMacaroonRequest {
        permissions: permissions.collect(),
        root_key_id,
        allow_external_permissions: false,
    };
    let baked = daemon.lightning().await.unwrap().bake_macaroon(request).await?;
    Ok(hex::decode(baked.into_inner().macaroon).unwrap())
}

/// Which of three calls a macaroon is good for: GetInfo, WalletBalance, AddInvoice.
async fn opens(daemon: &Daemon, macaroon: &[u8]) -> Result<[std::result::Result<(), String>; 3]> {
    let mut lightning = daemon.lightning_with(Some(macaroon)).await?;
    let said = |status: Status| status.message().to_owned();
    Ok([
        lightning.get_info(GetInfoRequest {}).await.map(drop).map_err(said),
        lightning.wallet_balance(WalletBalanceRequest::default()).await.map(drop).map_err(said),
        lightning.add_invoice(Invoice::default()).await.map(drop).map_err(said),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_macaroon_opens_what_it_was_baked_for_until_its_root_key_is_deleted() -> Result<()> {
    let cluster = Cluster::start()?;
    let alice = cluster.daemon("alice").await?;
    let no = || Err(DENIED.to_owned());
    let info = bakes(&alice, 0, &[("info", "read")]).await?;
    assert_eq!(opens(&alice, &info).await?, [Ok(()), no(), no()]);
    let uri = bakes(&alice, 5, &[("uri", "/lnrpc.Lightning/WalletBalance")]).await?;
    assert_eq!(opens(&alice, &uri).await?, [no(), Ok(()), no()]);
    let both = bakes(&alice, 7, &[("invoices", "write"), ("onchain", "read")]).await?;
    assert_eq!(opens(&alice, &both).await?, [no(), Ok(()), Ok(())]);
    for (name, good) in [("readonly", [true, true, false]), ("invoice", [false, true, true])] {
        let file = alice.admin_macaroon().with_file_name(format!("{name}.macaroon"));
        let opened = opens(&alice, &std::fs::read(file)?).await?;
        assert_eq!(opened, good.map(|good| if good { Ok(()) } else { no() }), "{name}");
    }
    narrowed(&alice, &info).await?;

    let mut lightning = alice.lightning().await?;
    let ids = lightning.list_macaroon_i_ds(ListMacaroonIDsRequest {}).await?.into_inner();
    assert_eq!(ids.root_key_ids, [0, 5, 7]);
    let delete = |root_key_id| DeleteMacaroonIdRequest { root_key_id };
    let refused = lightning.delete_macaroon_id(delete(0)).await.unwrap_err();
    let says = (refused.code(), refused.message());
    assert_eq!(says, (Code::Unknown, "the specified ID cannot be deleted"));
    assert!(lightning.delete_macaroon_id(delete(7)).await?.into_inner().deleted);
    assert!(!lightning.delete_macaroon_id(delete(7)).await?.into_inner().deleted);
    let gone = || Err("cannot get macaroon: root key with id 7 doesn't exist".to_owned());
    assert_eq!(opens(&alice, &both).await?, [gone(), gone(), gone()]);
    alice.stops().await?;
    alice.starts().await?;
    assert_eq!(opens(&alice, &both).await?, [gone(), gone(), gone()]);
    assert_eq!(opens(&alice, &uri).await?, [no(), Ok(()), no()]);
    Ok(())
}

/// What a holder adds only ever takes away.
async fn narrowed(alice: &Daemon, info: &[u8]) -> Result<()> {
    for (caveat, good) in [
        ("time-before 2999-01-01T00:00:00Z", true),
        ("time-before 2009-01-03T18:15:05Z", false),
        ("ipaddr 127.0.0.1", true),
        ("ipaddr 10.1.2.3", false),
        ("iprange 127.0.0.0/8", true),
        ("iprange 10.0.0.0/8", false),
        ("lnd-custom account x", false),
        ("moon full", false),
    ] {
        let opened = &opens(alice, &with_caveat(info, caveat)).await?[0];
        assert_eq!(opened.is_ok(), good, "{caveat}: {opened:?}");
    }
    Ok(())
}

/// A macaroon with a condition added, as any holder can: the last 35 bytes end the caveats and
/// carry the signature.
fn with_caveat(macaroon: &[u8], condition: &str) -> Vec<u8> {
    let (head, end) = macaroon.split_at(macaroon.len() - 35);
    let (end, signature) = end.split_at(3);
    let mut engine = hmac::HmacEngine::<sha256::Hash>::new(signature);
    engine.input(condition.as_bytes());
    let signature = hmac::Hmac::from_engine(engine).to_byte_array();
    let length = u8::try_from(condition.len()).unwrap();
    assert!(length < 128, "a varint of one byte");
    [head, &[2, length], condition.as_bytes(), &[0], end, &signature].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_known_permissions_are_baked_unless_told_otherwise() -> Result<()> {
    let cluster = Cluster::start()?;
    let alice = cluster.daemon("alice").await?;
    for (permissions, says) in [
        (&[][..], "permission list cannot be empty"),
        (&[("moon", "read")], "invalid permission entity"),
        (&[("info", "eat")], "invalid permission action"),
        (&[("uri", "/lnrpc.Lightning/Nope")], "invalid permission action"),
        (&[("uri", "read")], "invalid permission action"),
    ] {
        let refused = bakes(&alice, 0, permissions).await.unwrap_err();
        assert!(refused.message().starts_with(says), "{permissions:?}: {refused:?}");
        assert_eq!(refused.code(), Code::Unknown);
    }
    let request = BakeMacaroonRequest {
        permissions: vec![permission("moon", "eat")],
        root_key_id: 0,
        allow_external_permissions: true,
    };
    let mut lightning = alice.lightning().await?;
    let external = hex::decode(lightning.bake_macaroon(request).await?.into_inner().macaroon)?;
    let check = |macaroon: &[u8], entity: &str, action: &str| CheckMacPermRequest {
        macaroon: macaroon.to_vec(),
        permissions: vec![permission(entity, action)],
        ..CheckMacPermRequest::default()
    };
    let checked = lightning.check_macaroon_permissions(check(&external, "moon", "eat")).await?;
    assert!(checked.into_inner().valid);
    let not = lightning.check_macaroon_permissions(check(&external, "info", "read")).await;
    let not = not.unwrap_err();
    assert_eq!((not.code(), not.message()), (Code::InvalidArgument, DENIED));

    // A macaroon for a method by name is good when that is the one that is called.
    let uri = bakes(&alice, 0, &[("uri", "/lnrpc.Lightning/GetInfo")]).await?;
    for (method, default, good) in [
        ("/lnrpc.Lightning/GetInfo", true, true),
        ("/lnrpc.Lightning/StopDaemon", true, false),
        ("/lnrpc.Lightning/Nope", true, false),
        ("/lnrpc.Lightning/Nope", false, true),
    ] {
        let request = CheckMacPermRequest {
            macaroon: uri.clone(),
            permissions: Vec::new(),
            full_method: method.into(),
            check_default_perms_from_full_method: default,
        };
        let checked = lightning.check_macaroon_permissions(request).await;
        assert_eq!(checked.is_ok(), good, "{method}: {checked:?}");
    }
    readonly_may_not_bake(&alice).await
}

async fn readonly_may_not_bake(alice: &Daemon) -> Result<()> {
    let file = alice.admin_macaroon().with_file_name("readonly.macaroon");
    let mut reader = alice.lightning_with(Some(&std::fs::read(file)?)).await?;
    let refused = reader.bake_macaroon(BakeMacaroonRequest::default()).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unknown, DENIED));
    let listed = reader.list_permissions(ListPermissionsRequest {}).await?.into_inner();
    let listed: BTreeMap<_, _> = listed
        .method_permissions
        .into_iter()
        .map(|(method, list)| (method, list.permissions))
        .collect();
    let close = &listed["/lnrpc.Lightning/CloseChannel"];
    assert_eq!(close, &[permission("offchain", "write"), permission("onchain", "write")]);
    assert_eq!(listed["/lnrpc.Lightning/GetInfo"], [permission("info", "read")]);
    assert!(!listed.contains_key("/lnrpc.Lightning/DescribeGraph"), "it is not built");
    Ok(())
}
