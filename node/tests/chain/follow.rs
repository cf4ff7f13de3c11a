//! The follower alone: which blocks come and go.

use super::fake::FakeNode;
use fulmen_channel::amount::Height;
use fulmen_node::chain::follow::{BlockRef, FollowError, Follower, Step};

/// The steps to the tip: `(true, block)` connected, `(false, block)` disconnected.
fn steps(follower: &mut Follower, node: &FakeNode) -> Vec<(bool, BlockRef)> {
    let mut steps = Vec::new();
    loop {
        match follower.step(node).unwrap() {
            Step::Connect(at, block) => {
                assert_eq!(block.block_hash(), at.hash);
                steps.push((true, at));
            }
            Step::Disconnect(at) => steps.push((false, at)),
            Step::AtTip => return steps,
        }
    }
}

#[test]
fn a_fresh_start_begins_with_the_best_block() {
    let node = FakeNode::with_height(7);
    let mut follower = Follower::default();
    assert_eq!(steps(&mut follower, &node), [(true, node.at(7))]);
    let next = node.mine(vec![]);
    assert_eq!(steps(&mut follower, &node), [(true, next)]);
}

#[test]
fn catch_up_brings_every_block_since_the_last_one_processed() {
    let node = FakeNode::with_height(9);
    let mut follower = Follower::new([node.at(6)]);
    let expected: Vec<_> = (7..=9).map(|height| (true, node.at(height))).collect();
    assert_eq!(steps(&mut follower, &node), expected);
    assert_eq!(follower.tip(), Some(node.at(9)));
}

#[test]
fn a_reorg_rolls_back_to_the_fork_and_comes_up_the_other_side() {
    let node = FakeNode::with_height(5);
    let mut follower = Follower::new([node.at(3)]);
    steps(&mut follower, &node);
    let (old4, old5) = (node.at(4), node.at(5));
    node.roll_back(2);
    let new: Vec<_> = (0..3).map(|_| (true, node.mine(vec![]))).collect();
    let expected = [vec![(false, old5), (false, old4)], new].concat();
    assert_eq!(steps(&mut follower, &node), expected);
}

#[test]
fn a_reorg_may_go_below_all_that_we_remember() {
    let node = FakeNode::with_height(8);
    let mut follower = Follower::new([node.at(8)]);
    let old: Vec<_> = (3..=8).rev().map(|height| (false, node.at(height))).collect();
    node.roll_back(6);
    let new = (true, node.mine(vec![]));
    assert_eq!(steps(&mut follower, &node), [old, vec![new]].concat());
}

#[test]
fn a_shorter_chain_is_followed_down() {
    let node = FakeNode::with_height(4);
    let mut follower = Follower::new([node.at(4)]);
    let old = node.at(4);
    node.roll_back(1);
    assert_eq!(steps(&mut follower, &node), [(false, old)]);
    assert_eq!(follower.tip(), Some(node.at(3)));
}

#[test]
fn blocks_that_bitcoind_lost_are_undone_if_we_remember_what_was_before() {
    let node = FakeNode::with_height(4);
    let (before, lost) = (node.at(3), node.at(4));
    node.roll_back(1);
    node.forget(lost.hash);
    let mut follower = Follower::new([before, lost]);
    assert_eq!(steps(&mut follower, &node), [(false, lost)]);
}

#[test]
fn a_chain_without_any_block_of_ours_is_a_strangers() {
    let node = FakeNode::with_height(4);
    let ours = BlockRef { height: Height::new(3), hash: FakeNode::with_height(9).at(9).hash };
    let error = Follower::new([ours]).step(&node).unwrap_err();
    assert!(matches!(error, FollowError::Stranger(block) if block == ours), "{error}");
    // And at the very first block there is nothing to roll back to.
    let ours = BlockRef { height: Height::new(0), hash: node.at(2).hash };
    assert!(matches!(Follower::new([ours]).step(&node), Err(FollowError::Stranger(_))));
}

#[test]
fn a_reorg_between_two_questions_leaves_no_gap() {
    let node = FakeNode::with_height(5);
    let mut follower = Follower::new([node.at(4)]);
    let old = node.at(4);
    // The first answer says that 4 is still in the chain; before the second it no longer is.
    *node.soon.borrow_mut() = Some(Box::new(|node| {
        node.roll_back(2);
        node.mine_empty(3);
    }));
    let taken = steps(&mut follower, &node);
    let new: Vec<_> = (4..=6).map(|height| (true, node.at(height))).collect();
    assert_eq!(taken, [vec![(false, old)], new].concat());
}
