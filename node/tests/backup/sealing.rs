//! What is sealed comes back whole, and nothing else is taken for it.

use super::{keys, single};
use fulmen_node::backup::vault::{Kind, OVERHEAD};
use fulmen_node::backup::{BackupError, Single, Vault};

#[test]
fn what_is_sealed_comes_back() {
    let vault = Vault::new(&keys(1));
    let one = single(1, 7);
    let sealed = vault.seal_single(&one).unwrap();
    assert_ne!(sealed, vault.seal_single(&one).unwrap(), "each time with another nonce");
    assert_eq!(vault.open_single(&sealed), Ok(one));
    for count in [0, 1, 50] {
        let many: Vec<Single> = (0..count).map(|index| single(1, index)).collect();
        let sealed = vault.seal_multi(&many).unwrap();
        // docs/backups.md tells the size.
        assert!(sealed.len() < OVERHEAD + 8 + many.len() * 200, "{count}: {}", sealed.len());
        assert_eq!(vault.open_multi(&sealed), Ok(many));
    }
}

#[test]
fn an_earlier_backup_lacks_what_our_own_commitment_needs() {
    let vault = Vault::new(&keys(1));
    let now = single(1, 7);
    let earlier = Single { own: None, ..now.clone() };
    let plain =
        |single: &Single| vault.open(Kind::Single, &vault.seal_single(single).unwrap()).unwrap();
    // It ended where `own` begins: a byte that tells that there is none is the last one now.
    let mut bytes = plain(&earlier);
    assert_eq!(bytes.pop(), Some(0));
    let same = bytes[1..].to_vec();
    // The first byte is the format that the row was written in.
    bytes[0] = 2;
    let sealed = vault.seal(Kind::Single, &bytes).unwrap();
    assert_eq!(vault.open_single(&sealed), Ok(earlier));
    assert!(plain(&now)[1..].starts_with(&same));
}

#[test]
fn whatever_else_is_refused_in_words() {
    let vault = Vault::new(&keys(1));
    let sealed = vault.seal_single(&single(1, 7)).unwrap();
    for at in 0..sealed.len() {
        let mut flipped = sealed.clone();
        flipped[at] ^= 1;
        let wanted = if at == 0 { BackupError::Version(0) } else { BackupError::Seal };
        assert_eq!(vault.open_single(&flipped), Err(wanted), "byte {at}");
        let wanted = if at <= 24 { BackupError::Short } else { BackupError::Seal };
        assert_eq!(vault.open_single(&sealed[..at]), Err(wanted), "cut to {at}");
    }
    assert_eq!(Vault::new(&keys(2)).open_single(&sealed), Err(BackupError::Seal), "another seed");
    assert_eq!(vault.open_multi(&sealed), Err(BackupError::Seal), "another kind");
    assert_eq!(vault.open(Kind::Storage, &sealed), Err(BackupError::Seal));
    let mut later = sealed.clone();
    later[0] = 2;
    let why = vault.open_single(&later).unwrap_err().to_string();
    assert!(why.contains("version is 2"), "{why}");
    let garbage = vault.seal(Kind::Single, b"garbage").unwrap();
    assert!(matches!(vault.open_single(&garbage), Err(BackupError::Format(_))));
    // Sealed by us, but with a number whose keys are others.
    let wrong = Single { index: 8, ..single(1, 7) };
    let sealed = vault.seal_single(&wrong).unwrap();
    assert_eq!(vault.open_single(&sealed), Err(BackupError::Keys(8)));
}
