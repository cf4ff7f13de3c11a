//! A wallet from its making to its password's change, through the real daemon.

use std::fmt::Debug;
use std::os::unix::fs::PermissionsExt;

use fulmen_itest::failure::{Context, Result};
use fulmen_itest::regtest::{Cluster, Daemon};
use fulmen_proto::lnrpc::WalletState::{self, *};
use fulmen_proto::lnrpc::{
    ChangePasswordRequest, GenSeedRequest, GetInfoRequest, GetRecoveryInfoRequest, GetStateRequest,
    InitWalletRequest, SubscribeStateRequest, SubscribeStateResponse, UnlockWalletRequest,
};
use tonic::Streaming;

const PASSWORD: &[u8] = b"correct horse";
const OTHER: &[u8] = b"battery staple";

const NOT_CREATED: &str = "wallet not created, create one to enable full RPC access";
const LOCKED_TEXT: &str = "wallet locked, unlock it to enable full RPC access";
const WRONG: &str = "invalid passphrase for master public key";
const SHORT: &str = "password must have at least 8 characters";
const OPEN: &str = "wallet already unlocked, WalletUnlocker service is no longer available";

#[tokio::test(flavor = "multi_thread")]
async fn made_locked_unlocked_and_given_another_password() -> Result<()> {
    let cluster = Cluster::start()?;
    let alice = Daemon::without_wallet(cluster.bitcoind(), "alice", &[])?;
    alice.spawn()?;
    made(&alice).await?;
    let (id, admin) = (alice.id()?, std::fs::read(alice.admin_macaroon())?);
    alice.stops().await?;

    alice.spawn()?;
    unlocked(&alice).await?;
    assert_eq!((alice.id()?, std::fs::read(alice.admin_macaroon())?), (id, admin.clone()));
    alice.stops().await?;

    alice.spawn()?;
    password_changed(&alice).await?;
    assert_eq!(alice.id()?, id);
    // The root key is new: what was baked before is void.
    assert_ne!(std::fs::read(alice.admin_macaroon())?, admin);
    let mut old = alice.lightning_with(Some(&admin)).await?;
    says(old.get_info(GetInfoRequest {}).await, "verification failed: signature mismatch");
    alice.stops().await?;

    alice.spawn()?;
    says(unlock(&alice, PASSWORD).await, WRONG);
    let mut request = UnlockWalletRequest { recovery_window: -1, ..Default::default() };
    request.wallet_password = OTHER.into();
    says(alice.unlocker().await?.unlock_wallet(request.clone()).await, "must not be negative");
    // Its birthday is known, so that the search does not begin with the first block.
    request.recovery_window = 10;
    alice.unlocker().await?.unlock_wallet(request).await?;
    alice.catches_up().await?;
    let info = alice.lightning().await?.get_recovery_info(GetRecoveryInfoRequest {}).await?;
    assert!(info.into_inner().recovery_finished);
    Ok(())
}

/// No wallet: what answers, what is refused, and each state on the way to a node that serves all.
async fn made(alice: &Daemon) -> Result<()> {
    let mut unlocker = alice.unlocker().await?;
    let mut states = follow(alice).await?;
    assert_eq!(next(&mut states).await?, NonExisting);
    says(alice.lightning_with(None).await?.get_info(GetInfoRequest {}).await, NOT_CREATED);
    says(unlock(alice, PASSWORD).await, "wallet not found");
    let aezeed = GenSeedRequest { aezeed_passphrase: b"aezeed".into(), ..Default::default() };
    says(unlocker.gen_seed(aezeed).await, "have no passphrase");
    let short = GenSeedRequest { seed_entropy: vec![1; 16], ..Default::default() };
    says(unlocker.gen_seed(short).await, "expected 32 bytes, instead got 16");
    let zeros = GenSeedRequest { seed_entropy: vec![0; 32], ..Default::default() };
    let zeros = unlocker.gen_seed(zeros).await?.into_inner();
    assert_eq!(zeros.cipher_seed_mnemonic.join(" "), format!("{}art", "abandon ".repeat(23)));
    assert_eq!(zeros.enciphered_seed, [vec![0; 32], vec![0x66]].concat());

    let seed = unlocker.gen_seed(GenSeedRequest::default()).await?.into_inner();
    let init = InitWalletRequest {
        wallet_password: PASSWORD.into(),
        cipher_seed_mnemonic: seed.cipher_seed_mnemonic,
        ..Default::default()
    };
    let short = InitWalletRequest { wallet_password: b"7 bytes".into(), ..init.clone() };
    says(unlocker.init_wallet(short).await, SHORT);
    let mut wrong = init.clone();
    wrong.cipher_seed_mnemonic = vec!["abandon".into(); 24];
    says(unlocker.init_wallet(wrong).await, "these words are not a seed");
    let key = InitWalletRequest { macaroon_root_key: vec![1; 31], ..init.clone() };
    says(unlocker.init_wallet(key).await, "exactly 32 bytes");
    assert!(!alice.admin_macaroon().exists());

    let made = unlocker.init_wallet(init.clone()).await?.into_inner();
    // It is good from now on, and the files are there.
    assert!(alice.admin_macaroon().exists());
    let seed_file = alice.admin_macaroon().with_file_name("wallet.seed");
    assert_eq!(seed_file.metadata()?.permissions().mode() & 0o777, 0o600);
    for state in [Unlocked, RpcActive, ServerActive] {
        assert_eq!(next(&mut states).await?, state);
    }
    alice.lightning_with(Some(&made.admin_macaroon)).await?.get_info(GetInfoRequest {}).await?;
    says(unlocker.init_wallet(init).await, OPEN);
    says(unlocker.gen_seed(GenSeedRequest::default()).await, OPEN);
    alice.catches_up().await
}

/// A locked wallet: what answers, and a wrong password before the right one.
async fn unlocked(alice: &Daemon) -> Result<()> {
    let mut unlocker = alice.unlocker().await?;
    let mut states = follow(alice).await?;
    assert_eq!(next(&mut states).await?, Locked);
    let admin = std::fs::read(alice.admin_macaroon())?;
    for macaroon in [None, Some(&admin[..])] {
        let mut lightning = alice.lightning_with(macaroon).await?;
        says(lightning.get_info(GetInfoRequest {}).await, LOCKED_TEXT);
    }
    says(unlocker.gen_seed(GenSeedRequest::default()).await, "wallet already exists");
    says(unlocker.init_wallet(InitWalletRequest::default()).await, "wallet already exists");
    says(unlock(alice, OTHER).await, WRONG);
    assert_eq!(state(alice).await?, Locked);
    unlock(alice, PASSWORD).await?;
    says(unlock(alice, PASSWORD).await, "");
    for state in [Unlocked, RpcActive, ServerActive] {
        assert_eq!(next(&mut states).await?, state);
    }
    says(unlock(alice, PASSWORD).await, OPEN);
    alice.catches_up().await
}

async fn password_changed(alice: &Daemon) -> Result<()> {
    let mut unlocker = alice.unlocker().await?;
    let change = |current: &[u8], new: &[u8]| ChangePasswordRequest {
        current_password: current.into(),
        new_password: new.into(),
        new_macaroon_root_key: true,
        ..Default::default()
    };
    says(unlocker.change_password(change(OTHER, OTHER)).await, WRONG);
    says(unlocker.change_password(change(PASSWORD, b"short")).await, SHORT);
    let changed = unlocker.change_password(change(PASSWORD, OTHER)).await?.into_inner();
    assert!(!changed.admin_macaroon.is_empty());
    alice.catches_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn stateless_the_macaroon_is_in_the_answer_only() -> Result<()> {
    let cluster = Cluster::start()?;
    let alice = Daemon::without_wallet(cluster.bitcoind(), "alice", &[])?;
    alice.spawn()?;
    let mut unlocker = alice.unlocker().await?;
    let seed = unlocker.gen_seed(GenSeedRequest::default()).await?.into_inner();
    let init = InitWalletRequest {
        wallet_password: PASSWORD.into(),
        cipher_seed_mnemonic: seed.cipher_seed_mnemonic,
        stateless_init: true,
        macaroon_root_key: vec![7; 32],
        ..Default::default()
    };
    let admin = unlocker.init_wallet(init).await?.into_inner().admin_macaroon;
    serves(&alice, &admin).await?;
    assert!(macaroons(&alice)?.is_empty());
    alice.killed();

    // Unlocked in the usual way, the files are written; with the password's change they go again.
    alice.spawn()?;
    unlock(&alice, PASSWORD).await?;
    serves(&alice, &admin).await?;
    assert_eq!(macaroons(&alice)?.len(), 3);
    alice.killed();
    alice.spawn()?;
    let change = ChangePasswordRequest {
        current_password: PASSWORD.into(),
        new_password: OTHER.into(),
        stateless_init: true,
        ..Default::default()
    };
    let again = alice.unlocker().await?.change_password(change).await?.into_inner();
    serves(&alice, &again.admin_macaroon).await?;
    serves(&alice, &admin).await?;
    assert!(macaroons(&alice)?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_a_file_opens_the_wallet_by_itself() -> Result<()> {
    let cluster = Cluster::start()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("password");
    std::fs::write(&file, [PASSWORD, b"\n"].concat())?;
    let flag = format!("--wallet-unlock-password-file={}", file.display());
    let strict = Daemon::without_wallet(cluster.bitcoind(), "strict", &[&flag])?;
    strict.spawn()?;
    assert!(!strict.ends()?);
    assert!(strict.wrote()?.contains("there is no wallet"), "{}", strict.wrote()?);

    let flags = [&flag[..], "--wallet-unlock-allow-create"];
    let alice = Daemon::without_wallet(cluster.bitcoind(), "alice", &flags)?;
    alice.spawn()?;
    let mut unlocker = alice.unlocker().await?;
    let seed = unlocker.gen_seed(GenSeedRequest::default()).await?.into_inner();
    let init = InitWalletRequest {
        wallet_password: PASSWORD.into(),
        cipher_seed_mnemonic: seed.cipher_seed_mnemonic,
        ..Default::default()
    };
    unlocker.init_wallet(init).await?;
    alice.catches_up().await?;
    alice.stops().await?;
    alice.starts().await?;
    alice.stops().await?;
    std::fs::write(&file, OTHER)?;
    alice.spawn()?;
    assert!(!alice.ends()?);
    assert!(alice.wrote()?.contains(WRONG), "{}", alice.wrote()?);
    Ok(())
}

async fn unlock(alice: &Daemon, password: &[u8]) -> Result<()> {
    let request = UnlockWalletRequest { wallet_password: password.into(), ..Default::default() };
    alice.unlocker().await?.unlock_wallet(request).await?;
    Ok(())
}

/// Waits until `admin` opens a node that has caught up.
async fn serves(alice: &Daemon, admin: &[u8]) -> Result<()> {
    let ready = async || {
        let mut lightning = alice.lightning_with(Some(admin)).await?;
        let info = lightning.get_info(GetInfoRequest {}).await.ok();
        Ok(info.filter(|info| info.get_ref().synced_to_chain).map(drop))
    };
    alice.until("it serves whoever has the macaroon", ready).await
}

fn macaroons(alice: &Daemon) -> Result<Vec<String>> {
    let folder = alice.admin_macaroon();
    let folder = folder.parent().context("a folder")?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        found.push(entry?.file_name().to_string_lossy().into_owned());
    }
    found.retain(|name| name.ends_with(".macaroon"));
    Ok(found)
}

async fn state(alice: &Daemon) -> Result<WalletState> {
    Ok(alice.state().await?.get_state(GetStateRequest {}).await?.into_inner().state())
}

async fn follow(alice: &Daemon) -> Result<Streaming<SubscribeStateResponse>> {
    let states = alice.state().await?.subscribe_state(SubscribeStateRequest {}).await?;
    Ok(states.into_inner())
}

async fn next(states: &mut Streaming<SubscribeStateResponse>) -> Result<WalletState> {
    Ok(states.message().await?.context("a state")?.state())
}

#[track_caller]
fn says<T: Debug, E: Debug>(answer: std::result::Result<T, E>, text: &str) {
    let why = format!("{:?}", answer.unwrap_err());
    assert!(why.contains(text), "{why} does not say {text:?}");
}
