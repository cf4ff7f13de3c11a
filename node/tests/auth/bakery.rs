//! Root keys and macaroon files across restarts, and the check of a call's metadata.

use fulmen_node::auth::{readonly, Bakery, BakeryError, Denied, Macaroon};
use fulmen_node::store::{Store, Table};
use std::path::Path;
use std::time::SystemTime;
use tempfile::tempdir;

const GET_INFO: &str = "/lnrpc.Lightning/GetInfo";
const STOP: &str = "/lnrpc.Lightning/StopDaemon";
const ADD_INVOICE: &str = "/lnrpc.Lightning/AddInvoice";

fn hex_of(path: &Path) -> String {
    hex::encode(std::fs::read(path).unwrap())
}

fn check(bakery: &Bakery, macaroons: &[&str], method: &str) -> Result<(), String> {
    let result = bakery.check(macaroons, method, SystemTime::now(), None);
    result.map_err(|denied| denied.to_string())
}

#[test]
fn files_are_written_once_and_open_what_they_should() {
    let dir = tempdir().unwrap();
    let here = dir.path().join("regtest");
    let store = Store::open(&here.join("fulmen.db")).unwrap();
    let bakery = Bakery::open(&store, &[1; 32]).unwrap();
    bakery.write_files(&here).unwrap();
    let read = |name: &str| hex_of(&here.join(format!("{name}.macaroon")));
    let (admin, reader, invoice) = (read("admin"), read("readonly"), read("invoice"));
    for method in [GET_INFO, STOP, ADD_INVOICE] {
        assert_eq!(check(&bakery, &[&admin], method), Ok(()));
    }
    assert_eq!(check(&bakery, &[&reader], GET_INFO), Ok(()));
    assert_eq!(check(&bakery, &[&reader], STOP), Err("permission denied".into()));
    assert_eq!(check(&bakery, &[&invoice], ADD_INVOICE), Ok(()));
    assert_eq!(check(&bakery, &[&invoice], GET_INFO), Err("permission denied".into()));
    assert_eq!(check(&bakery, &[&admin.to_uppercase()], GET_INFO), Ok(()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = here.join("admin.macaroon").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }

    // After a restart the same files are good, and stay.
    drop(bakery);
    store.close();
    let store = Store::open(&here.join("fulmen.db")).unwrap();
    let bakery = Bakery::open(&store, &[1; 32]).unwrap();
    bakery.write_files(&here).unwrap();
    assert_eq!(read("admin"), admin);
    assert_eq!(check(&bakery, &[&admin], STOP), Ok(()));
    // The file of another node is replaced.
    let other = Store::open(&dir.path().join("other.db")).unwrap();
    let other = Bakery::open(&other, &[1; 32]).unwrap();
    let mismatch = "verification failed: signature mismatch after caveat verification";
    assert_eq!(check(&other, &[&admin], STOP), Err(mismatch.into()));
    std::fs::write(here.join("admin.macaroon"), other.bake(readonly())).unwrap();
    bakery.write_files(&here).unwrap();
    assert_eq!(check(&bakery, &[&read("admin")], STOP), Ok(()));
}

#[test]
fn root_keys_lie_sealed_in_the_store() {
    let dir = tempdir().unwrap();
    let store = Store::open(&dir.path().join("fulmen.db")).unwrap();
    Bakery::open(&store, &[1; 32]).unwrap();
    let sealed = store.get(Table::RootKey, b"0").unwrap().unwrap();
    assert_eq!(sealed.len(), 24 + 32 + 16);
    let other = Bakery::open(&store, &[2; 32]);
    assert!(matches!(other, Err(BakeryError::OtherSeed(id)) if id == "0"));
}

#[test]
fn metadata_must_hold_one_macaroon_in_hex() {
    let dir = tempdir().unwrap();
    let store = Store::open(&dir.path().join("fulmen.db")).unwrap();
    let bakery = Bakery::open(&store, &[1; 32]).unwrap();
    let good = bakery.bake(readonly());
    let (good, text) = (Macaroon::decode(&good).unwrap(), hex::encode(&good));
    assert_eq!(check(&bakery, &[], GET_INFO), Err("expected 1 macaroon, got 0".into()));
    assert_eq!(check(&bakery, &[&text, &text], GET_INFO), Err("expected 1 macaroon, got 2".into()));
    for nonsense in ["", "xyz", "0", "00", &text[1..], &"00".repeat(40_000)] {
        let result = bakery.check(&[nonsense], GET_INFO, SystemTime::now(), None);
        assert!(matches!(result, Err(Denied::Unreadable(_))), "{result:?}");
    }
    let nope = "/lnrpc.Lightning/Nope";
    let unknown = format!("{nope}: unknown permissions required for method");
    assert_eq!(check(&bakery, &[&text], nope), Err(unknown));
    assert_eq!(check(&bakery, &[], "/lnrpc.State/GetState"), Ok(()));
    assert_ne!(bakery.bake(readonly()), good.encode(), "two macaroons with one nonce");

    let mut local = good;
    local.add_caveat("ipaddr 127.0.0.1");
    let local = hex::encode(local.encode());
    let from = |ip: &str| {
        let peer = Some(ip.parse().unwrap());
        bakery.check(&[&local], GET_INFO, SystemTime::now(), peer)
    };
    assert_eq!(from("127.0.0.1"), Ok(()));
    assert!(matches!(from("10.0.0.1"), Err(Denied::Caveat { .. })));
}

#[tokio::test]
async fn macaroons_end_with_their_root_key() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("fulmen.db");
    let store = Store::open(&path).unwrap();
    let bakery = Bakery::open(&store, &[1; 32]).unwrap();
    let seventh = bakery.bake_under(7, readonly()).await.unwrap();
    let other = hex::encode(bakery.bake_under(7, readonly()).await.unwrap());
    let tenth = hex::encode(bakery.bake_under(10, readonly()).await.unwrap());
    let usual = hex::encode(bakery.bake_under(0, readonly()).await.unwrap());
    assert_eq!(bakery.ids(), [0, 7, 10]);
    assert_eq!(bakery.has(&seventh, &[("info", "read")], "", SystemTime::now(), None), Ok(()));
    let denied = bakery.has(&seventh, &[("info", "write")], "", SystemTime::now(), None);
    assert_eq!(denied, Err(Denied::Permission));
    let seventh = hex::encode(seventh);

    drop(bakery);
    store.close();
    let store = Store::open(&path).unwrap();
    let bakery = Bakery::open(&store, &[1; 32]).unwrap();
    assert_eq!(bakery.ids(), [0, 7, 10]);
    for good in [&seventh, &other, &tenth, &usual] {
        assert_eq!(check(&bakery, &[good], GET_INFO), Ok(()));
    }
    assert!(bakery.delete(7).await.unwrap());
    assert!(!bakery.delete(7).await.unwrap(), "there was none");
    let stays = bakery.delete(0).await.unwrap_err().to_string();
    assert_eq!(stays, "the specified ID cannot be deleted");
    let gone = "cannot get macaroon: root key with id 7 doesn't exist";
    for bakery in [&bakery, &Bakery::open(&store, &[1; 32]).unwrap()] {
        assert_eq!(bakery.ids(), [0, 10]);
        for (macaroon, answer) in [
            (&seventh, Err(gone.to_owned())),
            (&other, Err(gone.to_owned())),
            (&tenth, Ok(())),
            (&usual, Ok(())),
        ] {
            assert_eq!(check(bakery, &[macaroon], GET_INFO), answer);
        }
    }
    let again = hex::encode(bakery.bake_under(7, readonly()).await.unwrap());
    assert_eq!(check(&bakery, &[&again], GET_INFO), Ok(()));
    let mismatch = "verification failed: signature mismatch after caveat verification";
    assert_eq!(check(&bakery, &[&seventh], GET_INFO), Err(mismatch.into()));
}
