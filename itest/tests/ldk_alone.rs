//! Two LDK nodes among themselves: what the other stories lean on when they use one as a peer.

use std::sync::Arc;

use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::bitcoind::Bitcoind;
use fulmen_itest::failure::Result;
use fulmen_itest::ldk::LdkPeer;

#[test]
fn two_ldk_nodes_open_pay_restart_and_close() -> Result<()> {
    let bitcoind = Arc::new(Bitcoind::start()?);
    let (carol, dave) = (LdkPeer::start(&bitcoind, "carol")?, LdkPeer::start(&bitcoind, "dave")?);
    carol.receives_coins(Sat::new(2_000_000))?;
    dave.receives_coins(Sat::new(100_000))?;

    let opened = carol.opens(dave.node_id(), &dave.address(), Sat::new(1_000_000), true)?;
    assert!(bitcoind.mempool()?.contains(&opened.funding.unwrap().txid));
    bitcoind.mine(6)?;
    let channel = carol.usable_channel(dave.node_id())?;
    dave.usable_channel(carol.node_id())?;
    assert_eq!(channel.capacity(), Sat::new(1_000_000));

    carol.pays(&dave.invoices(Msat::new(30_000_000), "tea")?)?;
    dave.kill();
    dave.starts_again()?;
    carol.connects(dave.node_id(), &dave.address())?;
    dave.usable_channel(carol.node_id())?;
    dave.pays(&carol.invoices(Msat::new(10_000_000), "change")?)?;
    let received = carol.payments()?.into_iter().find(|payment| payment.direction == "Inbound");
    assert_eq!(received.unwrap().status, "Succeeded");

    carol.closes(&carol.usable_channel(dave.node_id())?)?;
    carol.event(fulmen_itest::wait::PATIENCE, |event| event["event"] == "channel_closed")?;
    bitcoind.mine(6)?;
    dave.sync()?;
    let dave_has = dave.balances()?.onchain();
    assert_eq!(dave_has, Sat::new(100_000 + 30_000 - 10_000));
    Ok(())
}
