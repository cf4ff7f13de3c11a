//! fulmen-tower as a program on a real bitcoind: the node is away, the peer cheats, and the tower
//! takes what each of its modes can; killed in between, with bitcoind away, over a reorganisation.

use std::time::Duration;

use bitcoin::constants::genesis_block;
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use bitcoin::{Address, Network, ScriptBuf, Transaction};
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::{FeeratePerKw, Sat};
use fulmen_channel::input::{Command, Input};
use fulmen_channel::keys::InMemorySigner;
use fulmen_channel::output::Event;
use fulmen_channel::params::CommitmentFormat;
use fulmen_itest::bitcoind::Bitcoind;
use fulmen_itest::failure::{Context, Result};
pub use fulmen_itest::tower::Tower;
use fulmen_itest::wait;
use fulmen_watchtower::api::link::Link;
use fulmen_watchtower::api::message::{Reply, Request, VERSION};
use fulmen_watchtower::private::PrivateChannel;
use fulmen_watchtower::record::{Terms, Unrevoked};

use crate::chain_box::claims::opened;
use crate::chain_box::claims::support::{wallet_script, Pair, Party};

const ALICE: [u8; 32] = [1; 32];
const PATIENCE: Duration = Duration::from_secs(60);

fn starts(bitcoind: &Bitcoind) -> Result<Tower> {
    Tower::on(bitcoind, "127.0.0.1:0".into(), Some(node().1))
}

async fn asks(tower: &Tower, secret: &SecretKey, requests: Vec<Request>) -> Result<Vec<Reply>> {
    let mut link = Link::connect(&tower.address, &tower.id, secret).await?;
    let chain = genesis_block(Network::Regtest).block_hash();
    let mut replies = Vec::new();
    let hello = Request::Hello { version: VERSION, chain };
    for request in std::iter::once(hello).chain(requests) {
        link.send(&request).await?;
        replies.push(link.receive(PATIENCE).await?);
    }
    Ok(replies)
}

/// The node's identity.
fn node() -> (SecretKey, PublicKey) {
    let secret = SecretKey::from_slice(&[3; 32]).unwrap();
    (secret, secret.public_key(&Secp256k1::new()))
}

/// A channel whose F is in a block.
fn pair_on(bitcoind: &Bitcoind) -> Result<Pair> {
    let mut pair = opened(CommitmentFormat::Anchors);
    let request = pair.alice.events.iter().find_map(|event| match event {
        Event::FundingNeeded(request) => Some(request.clone()),
        _ => None,
    });
    let request = request.context("bob accepted")?;
    let address = Address::from_script(&request.script, Network::Regtest)?;
    let funding = bitcoind.send_to(&address, request.amount)?;
    let funding = bitcoind.rpc().get_raw_transaction(&funding.txid, None)?;
    pair.alice.handle(Input::Command(Command::Fund(Box::new(funding))))?;
    pair.talk();
    bitcoind.mine(3)?;
    pair.confirms(3);
    Ok(pair)
}

fn home() -> ScriptBuf {
    wallet_script(9)
}

/// A state with HTLCs in both directions, revoked since: what Bob could publish of it, and what
/// Alice kept.
fn revoked_state(pair: &mut Pair) -> (Transaction, Unrevoked) {
    pair.alice_pays(300_000_000, 0);
    pair.alice.handle(Party::offer(1, 20_000_000)).unwrap();
    pair.bob.handle(Party::offer(2, 30_000_000)).unwrap();
    pair.talk();
    let mut cheat = Party::restored(&pair.bob);
    cheat.handle(Input::Command(Command::ForceClose("cheating".into()))).unwrap();
    let contract = &pair.alice.open().contract;
    let terms = Terms { feerate: FeeratePerKw::new(1_000), destination: home() };
    let unrevoked = Unrevoked::of(contract, &contract.remote_draft(), terms);
    pair.alice_pays(1_000_000, 40);
    (cheat.published.last().unwrap().clone(), unrevoked)
}

/// Waits until so many remedies are in the mempool, and has them mined. What they pay to Alice.
fn mined(bitcoind: &Bitcoind, count: usize) -> Result<Sat> {
    let what = format!("{count} remedies in the mempool");
    let txids = wait::until(what, PATIENCE, || {
        let all = bitcoind.mempool()?;
        Ok((all.len() == count).then_some(all))
    })?;
    let mut sum = Sat::ZERO;
    for txid in txids {
        let tx = bitcoind.rpc().get_raw_transaction(&txid, None)?;
        for output in tx.output.iter().filter(|output| output.script_pubkey == home()) {
            sum = sum.saturating_add(output.value.into());
        }
    }
    bitcoind.mine_others(1)?;
    assert!(bitcoind.mempool()?.is_empty());
    Ok(sum)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altruist_tower_on_its_own_takes_all_of_a_breach() -> Result<()> {
    let bitcoind = Bitcoind::start()?;
    let mut pair = pair_on(&bitcoind)?;
    let mut tower = starts(&bitcoind)?;
    let (breach, unrevoked) = revoked_state(&mut pair);
    let secret = pair.alice.open().contract.revocations.get(unrevoked.number);
    let secret = SecretKey::from_slice(&secret.context("it is revoked")?)?;
    let (sealed, left_out) = unrevoked.seal(&secret, &InMemorySigner::from_seed(ALICE));
    assert_eq!(left_out, 0);
    let session = SecretKey::from_slice(&[4; 32])?;
    let put = Request::Put { sequence: 0, records: vec![sealed], note: vec![] };
    let replies = asks(&tower, &session, vec![put]).await?;
    let Reply::Stored(receipt) = &replies[1] else { panic!("not stored: {replies:?}") };
    assert!(receipt.is_genuine(&session.public_key(&Secp256k1::new()), &tower.id));

    // Dead while the breach comes into a block, it sees it all the same.
    tower.process.kill();
    bitcoind.rpc().send_raw_transaction(&breach)?;
    bitcoind.mine(1)?;
    let tower = tower.again_for(&bitcoind, Some(node().1))?;
    let outputs = breach.output.iter().filter(|output| output.value.to_sat() != 330);
    let worth = outputs.clone().map(|output| output.value.to_sat()).sum::<u64>();
    let count = outputs.count();
    assert_eq!(count, 4);
    let taken = mined(&bitcoind, count)?;
    // Each of them pays its own fee, about 600 units of weight at 1000 sat/kw.
    let fees = Sat::new(worth).saturating_sub(taken);
    assert!((4 * 400..4 * 700).contains(&fees.sat()), "{fees}");
    drop(tower);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_tower_on_its_own_takes_the_cheaters_balance_again_after_a_reorganisation(
) -> Result<()> {
    let bitcoind = Bitcoind::start()?;
    let mut pair = pair_on(&bitcoind)?;
    let tower = starts(&bitcoind)?;
    let (breach, _) = revoked_state(&mut pair);
    let revocation = InMemorySigner::from_seed(ALICE).revocation_secret();
    let contract = &pair.alice.open().contract;
    let channel = PrivateChannel::of(contract, &revocation, home());
    let put = || Request::PutChannel { body: channel.to_bytes(), note: vec![] };
    let stranger = SecretKey::from_slice(&[4; 32])?;
    let refused = asks(&tower, &stranger, vec![put()]).await?;
    assert!(matches!(refused[1], Reply::Refused(_)));
    assert_eq!(asks(&tower, &node().0, vec![put()]).await?[1], Reply::Done);

    bitcoind.rpc().send_raw_transaction(&breach)?;
    bitcoind.mine(1)?;
    // bitcoind goes away; then the block that the remedy is in goes away, with 19 above it.
    bitcoind.restart()?;
    let first = mined(&bitcoind, 1)?;
    assert!(first > Sat::new(250_000) && first < Sat::new(300_000), "{first}");
    let block = bitcoind.rpc().get_best_block_hash()?;
    bitcoind.mine_others(19)?;
    bitcoind.rpc().invalidate_block(&block)?;
    // What bitcoind itself still has of it is gone too.
    bitcoind.restart_with(&["-persistmempool=0"])?;
    let again = mined(&bitcoind, 1)?;
    assert!(again <= first && again > Sat::new(250_000), "{again}");
    Ok(())
}
