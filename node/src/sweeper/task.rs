//! The sweeper's task: plans when something changed, and moves what the plan says.

use super::known::Snapshot;
use super::plan::{plan, Estimates, Waits, World};
use super::version::Lent;
use super::Sweeper;
use crate::chain::Target;
use crate::wallet::{Coin, Standing};
use bitcoin::OutPoint;
use std::collections::BTreeMap;
use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

/// Claims that are told within this time of each other go into one plan: the channels that a block
/// concerns hear of it one after another.
const GATHER: Duration = Duration::from_millis(200);

/// How often in a row a plan is made anew because bitcoind refused something: each time what was
/// refused is split, or offers a quarter more.
const TRIES: usize = 40;

/// The numbers of blocks that bitcoind is asked for.
const TARGETS: [u16; 6] = [2, 6, 12, 24, 72, 144];

impl Sweeper {
    /// Runs for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.wake.notified().await;
            tokio::time::sleep(GATHER).await;
            self.chain.wait_synced().await;
            if let Err(why) = self.turn().await {
                tracing::error!("claims are not published: {why}");
            }
        }
    }

    async fn turn(&self) -> Result<(), String> {
        self.end_versions().await?;
        self.send_packages_again().await;
        self.end_broken_batches().await?;
        let estimates = self.estimates().await;
        for _ in 0..TRIES {
            let Snapshot { height, wanted, published, versions } = self.known().snapshot();
            let coins = self.lendable()?;
            let world = World {
                height,
                wanted: &wanted,
                versions: &versions,
                coins: &coins,
                estimates: &estimates,
            };
            let plan = plan(&world);
            self.say_waits(plan.waits);
            let mut again = false;
            for draft in plan.drafts {
                again |= self.publish(draft, &wanted, &published).await?;
            }
            if !again {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Keeps what waits, and says what waits anew for something that may never come.
    fn say_waits(&self, waits: BTreeMap<OutPoint, Waits>) {
        let before = std::mem::replace(&mut self.known().waits, waits.clone());
        for (claim, why) in waits {
            let known =
                before.get(&claim).is_some_and(|was| discriminant(was) == discriminant(&why));
            if !known && matches!(why, Waits::Coins(_) | Waits::Uneconomic(_)) {
                tracing::warn!(%claim, "a claim waits: {why}");
            }
        }
    }

    async fn estimates(&self) -> Estimates {
        let entering = self.chain.entering().await;
        let mut within = BTreeMap::new();
        for blocks in TARGETS {
            within.insert(blocks, self.chain.feerate(Target::Within(blocks)).await);
        }
        Estimates { within, entering }
    }

    /// The wallet's coins that fees may come from, the anchor reserve included: it is there for
    /// this.
    fn lendable(&self) -> Result<Vec<Lent>, String> {
        let wallet = self.money.wallet();
        let lent = wallet.coins().into_iter().filter(Coin::pays_for_closes).map(|coin| {
            let input = wallet.input(&coin).map_err(|error| error.to_string())?;
            Ok(Lent {
                outpoint: coin.outpoint,
                value: coin.value(),
                weight: coin.input_weight(),
                script_sig: input.script_sig,
                confirmed: coin.standing == Standing::Confirmed,
            })
        });
        lent.collect()
    }
}
