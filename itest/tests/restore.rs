//! A wallet made again from its words: every coin is found, no address is given away twice.

use std::collections::BTreeSet;

use bitcoin::{Address, Network};
use fulmen_channel::amount::Sat;
use fulmen_itest::failure::Result;
use fulmen_itest::regtest::{Cluster, Daemon, DEEP};
use fulmen_proto::lnrpc::{
    AddressType, GenSeedRequest, GetRecoveryInfoRequest, GetRecoveryInfoResponse,
    InitWalletRequest, NewAddressRequest, UnlockWalletRequest,
};

const PASSWORD: &[u8] = b"correct horse";
/// More than a wallet looks ahead in daily life.
const UNUSED: usize = 40;
const WINDOW: i32 = 60;

const KINDS: [AddressType; 3] =
    [AddressType::WitnessPubkeyHash, AddressType::NestedPubkeyHash, AddressType::TaprootPubkey];

#[tokio::test(flavor = "multi_thread")]
async fn words_bring_back_every_coin() -> Result<()> {
    let cluster = Cluster::start()?;
    let alice = Daemon::without_wallet(cluster.bitcoind(), "alice", &[])?;
    alice.spawn()?;
    let request = GenSeedRequest::default();
    let words = alice.unlocker().await?.gen_seed(request).await?.into_inner();
    let words = words.cipher_seed_mnemonic;
    init(&alice, &words, 0).await?;
    assert_eq!(recovery(&alice).await?, GetRecoveryInfoResponse::default());
    let used = lives(&cluster, &alice).await?;
    let (id, coins) = (alice.id()?, alice.coins().await?);
    assert!(coins.confirmed_balance > 2_000_000, "{coins:?}");
    drop(alice);

    let again = Daemon::without_wallet(cluster.bitcoind(), "again", &[])?;
    again.spawn()?;
    init(&again, &words, WINDOW).await?;
    let done =
        GetRecoveryInfoResponse { recovery_mode: true, recovery_finished: true, progress: 1.0 };
    assert_eq!(recovery(&again).await?, done);
    assert_eq!(again.id()?, id);
    let found = again.coins().await?;
    assert_eq!(
        (found.confirmed_balance, found.total_balance),
        (coins.confirmed_balance, coins.total_balance)
    );
    for kind in KINDS {
        assert!(!used.contains(&address(&again, kind).await?), "{kind:?} is given away again");
    }
    // What it found stays, and it can be spent.
    again.stops().await?;
    again.spawn()?;
    unlock(&again, 0).await?;
    assert_eq!(again.coins().await?, found);
    assert_eq!(recovery(&again).await?, GetRecoveryInfoResponse::default());
    let bob = cluster.daemon("bob").await?;
    again.connects(&bob).await?;
    again.opens(&bob, Sat::new(1_500_000)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_was_not_searched_for_is_when_it_is_next_unlocked() -> Result<()> {
    let cluster = Cluster::start()?;
    let words = "abandon ".repeat(23) + "art";
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let alice = Daemon::without_wallet(cluster.bitcoind(), "alice", &[])?;
    alice.spawn()?;
    init(&alice, &words, 0).await?;
    alice.receives_coins(Sat::new(700_000)).await?;
    let coins = alice.coins().await?;
    drop(alice);

    // A wallet begins with the best block.
    cluster.bitcoind().mine(1)?;
    let again = Daemon::without_wallet(cluster.bitcoind(), "again", &[])?;
    again.spawn()?;
    init(&again, &words, 0).await?;
    assert_eq!(again.coins().await?.total_balance, 0, "only what comes from now on");
    again.stops().await?;
    // Blocks that come meanwhile are read once the search is over.
    cluster.bitcoind().mine(3)?;
    again.spawn()?;
    unlock(&again, WINDOW).await?;
    assert_eq!(again.coins().await?, coins);
    assert!(recovery(&again).await?.recovery_finished);
    Ok(())
}

/// Receives on each kind of address, spends, gets change. The addresses that were given away.
async fn lives(cluster: &Cluster, alice: &Daemon) -> Result<BTreeSet<String>> {
    let mut used = BTreeSet::new();
    for kind in KINDS {
        for _ in 0..UNUSED {
            used.insert(address(alice, kind).await?);
        }
        let paid = address(alice, kind).await?;
        let to = paid.parse::<Address<_>>()?.require_network(Network::Regtest)?;
        cluster.bitcoind().send_to(&to, Sat::new(1_000_000))?;
        used.insert(paid);
    }
    cluster.bitcoind().mine(DEEP)?;
    alice.receives_coins(Sat::new(100_000)).await?;
    let bob = cluster.daemon("bob").await?;
    alice.connects(&bob).await?;
    let channel = alice.opens(&bob, Sat::new(1_700_000)).await?;
    alice.closes(&channel).await?;
    cluster.bitcoind().mine(DEEP)?;
    alice.catches_up().await?;
    Ok(used)
}

async fn init(daemon: &Daemon, words: &[String], recovery_window: i32) -> Result<()> {
    let request = InitWalletRequest {
        wallet_password: PASSWORD.into(),
        cipher_seed_mnemonic: words.to_vec(),
        recovery_window,
        ..Default::default()
    };
    daemon.unlocker().await?.init_wallet(request).await?;
    daemon.catches_up().await
}

async fn unlock(daemon: &Daemon, recovery_window: i32) -> Result<()> {
    let wallet_password = PASSWORD.into();
    let request = UnlockWalletRequest { wallet_password, recovery_window, ..Default::default() };
    daemon.unlocker().await?.unlock_wallet(request).await?;
    daemon.catches_up().await
}

async fn address(daemon: &Daemon, kind: AddressType) -> Result<String> {
    let request = NewAddressRequest { r#type: kind.into(), ..Default::default() };
    Ok(daemon.lightning().await?.new_address(request).await?.into_inner().address)
}

async fn recovery(daemon: &Daemon) -> Result<GetRecoveryInfoResponse> {
    let request = GetRecoveryInfoRequest {};
    Ok(daemon.lightning().await?.get_recovery_info(request).await?.into_inner())
}
