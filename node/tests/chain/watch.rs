//! The watcher: what it finds, what it sends again, and what it says when bitcoind is away.

use super::fake::{foreign, spend, stray, FakeNode};
use bitcoin::{OutPoint, ScriptBuf, Transaction};
use fulmen_channel::amount::Height;
use fulmen_node::chain::follow::BlockRef;
use fulmen_node::chain::watcher::{Command, Rules, Watcher};
use fulmen_node::chain::{ChainEvent, Found};

fn rules() -> Rules {
    Rules { chain: "regtest".into(), deep: 3, poll_mempool: false }
}

fn watcher_at(at: BlockRef) -> Watcher {
    Watcher::new(rules(), vec![at], vec![])
}

/// All events until the watcher is idle.
fn run(watcher: &mut Watcher, node: &FakeNode) -> Vec<ChainEvent> {
    let mut events = Vec::new();
    loop {
        let turn = watcher.turn(node);
        events.extend(turn.events);
        if turn.idle {
            return events;
        }
    }
}

/// What was found in new blocks, and what was found late.
fn found(events: &[ChainEvent]) -> Found {
    let mut all = Found::default();
    for event in events {
        match event {
            ChainEvent::Connected { found, .. } | ChainEvent::Found(found) => {
                all.append(found.clone());
            }
            _ => {}
        }
    }
    all
}

/// A short word for each event.
fn words(events: &[ChainEvent]) -> Vec<String> {
    let word = |event: &ChainEvent| match event {
        ChainEvent::Connected { at, .. } => format!("+{}", at.height),
        ChainEvent::Disconnected { at, .. } => format!("-{}", at.height),
        ChainEvent::Found(_) => "found".into(),
        ChainEvent::Mempool(tx) => format!("mempool {}", tx.compute_txid()),
        ChainEvent::Down { .. } => "down".into(),
        ChainEvent::Up => "up".into(),
        ChainEvent::Stopped { .. } => "stopped".into(),
    };
    events.iter().map(word).collect()
}

fn output_of(tx: &Transaction) -> OutPoint {
    OutPoint { txid: tx.compute_txid(), vout: 0 }
}

#[test]
fn confirmations_and_spends_are_found_with_their_place() {
    let node = FakeNode::with_height(3);
    let mut watcher = watcher_at(node.at(3));
    let funding = stray(1);
    let closing = spend(&[foreign(9), output_of(&funding)], &[(1, ScriptBuf::new())]);
    let soon = Height::new(4);
    watcher.command(Command::WatchTx(funding.compute_txid(), soon));
    watcher.command(Command::WatchSpend(output_of(&funding), soon));
    node.mine(vec![stray(2), funding.clone()]);
    node.mine(vec![closing.clone()]);
    let found = found(&run(&mut watcher, &node));
    let confirmed: Vec<_> =
        found.confirmed.iter().map(|c| (c.txid, c.height.number(), c.tx_index)).collect();
    assert_eq!(confirmed, [(funding.compute_txid(), 4, 2)]);
    let spent: Vec<_> = found.spent.iter().map(|s| (s.outpoint, s.height.number())).collect();
    assert_eq!(spent, [(output_of(&funding), 5)]);
    assert_eq!((&found.spent[0].by, found.spent[0].tx_index), (&closing, 1));
}

#[test]
fn a_reorg_takes_a_confirmation_back_and_brings_it_again() {
    let node = FakeNode::with_height(3);
    let mut watcher = watcher_at(node.at(3));
    let funding = stray(1);
    watcher.command(Command::WatchTx(funding.compute_txid(), Height::new(4)));
    node.mine(vec![funding.clone()]);
    assert_eq!(found(&run(&mut watcher, &node)).confirmed.len(), 1);
    node.roll_back(1);
    node.mine(vec![]);
    node.mine(vec![funding]);
    let events = run(&mut watcher, &node);
    assert_eq!(words(&events), ["-4", "+4", "+5"]);
    assert_eq!(found(&events).confirmed[0].height, Height::new(5));
}

#[test]
fn an_unwatched_outpoint_is_not_reported() {
    let node = FakeNode::with_height(3);
    let mut watcher = watcher_at(node.at(3));
    let tx = stray(1);
    for command in [
        Command::WatchTx(tx.compute_txid(), Height::new(4)),
        Command::WatchSpend(foreign(1), Height::new(4)),
        Command::UnwatchTx(tx.compute_txid()),
        Command::UnwatchSpend(foreign(1)),
    ] {
        watcher.command(command);
    }
    node.mine(vec![tx]);
    assert!(found(&run(&mut watcher, &node)).is_empty());
}

#[test]
fn a_watch_set_late_finds_what_was_delivered_before() {
    let node = FakeNode::with_height(3);
    let mut watcher = watcher_at(node.at(3));
    let commitment = stray(1);
    let sweep = spend(&[output_of(&commitment)], &[(1, ScriptBuf::new())]);
    // Both in one block: the watch for the second can only be set when the first is known.
    node.mine(vec![commitment.clone(), sweep]);
    node.mine(vec![]);
    run(&mut watcher, &node);
    watcher.command(Command::WatchSpend(output_of(&commitment), Height::new(4)));
    let read = node.blocks_read.get();
    let events = run(&mut watcher, &node);
    assert_eq!(words(&events), ["found"]);
    assert_eq!(found(&events).spent[0].height, Height::new(4));
    assert_eq!(node.blocks_read.get(), read, "recent blocks are at hand");
    // The same watch, set in time, tells nothing twice.
    assert!(run(&mut watcher, &node).is_empty());
}

#[test]
fn old_blocks_are_searched_only_for_what_is_spent() {
    let node = FakeNode::with_height(3);
    let (gone, kept) = (stray(1), stray(2));
    node.mine(vec![gone.clone(), kept.clone()]);
    node.mine(vec![spend(&[output_of(&gone)], &[(1, ScriptBuf::new())])]);
    node.mine_empty(20);
    let mut watcher = watcher_at(node.at(25));
    watcher.command(Command::WatchSpend(output_of(&kept), Height::new(4)));
    assert!(run(&mut watcher, &node).is_empty());
    assert_eq!(node.blocks_read.get(), 0);
    watcher.command(Command::WatchSpend(output_of(&gone), Height::new(4)));
    watcher.command(Command::WatchTx(kept.compute_txid(), Height::new(4)));
    let found = found(&run(&mut watcher, &node));
    assert_eq!((found.spent.len(), found.confirmed.len()), (1, 1));
}

#[test]
fn a_bitcoind_that_goes_away_is_reported_once_and_caught_up_with() {
    let node = FakeNode::with_height(3);
    let mut watcher = watcher_at(node.at(3));
    assert!(run(&mut watcher, &node).is_empty());
    assert!(watcher.synced());
    node.down.set(true);
    assert_eq!(words(&run(&mut watcher, &node)), ["down"]);
    assert!(run(&mut watcher, &node).is_empty(), "once");
    assert!(!watcher.synced() && !watcher.up());
    node.down.set(false);
    node.mine(vec![]);
    assert_eq!(words(&run(&mut watcher, &node)), ["up", "+4"]);
    assert!(watcher.synced());
}

#[test]
fn a_bitcoind_that_restarts_unnoticed_is_sent_the_broadcasts_again() {
    let node = FakeNode::with_height(3);
    let (ours, theirs) = (stray(1), stray(2));
    let mut watcher = Watcher::new(rules(), vec![node.at(3)], vec![ours.clone()]);
    run(&mut watcher, &node);
    run(&mut watcher, &node);
    assert_eq!(node.sent.take(), std::slice::from_ref(&ours));
    node.connection.set(1);
    node.mempool.borrow_mut().push(theirs.clone());
    let heard = format!("mempool {}", theirs.compute_txid());
    assert_eq!(words(&run(&mut watcher, &node)), [heard]);
    assert_eq!(node.sent.take(), [ours]);
}

#[test]
fn a_late_search_that_fails_is_made_again() {
    let node = FakeNode::with_height(3);
    let mut watcher = watcher_at(node.at(3));
    run(&mut watcher, &node);
    let tx = stray(1);
    node.mine(vec![tx.clone()]);
    run(&mut watcher, &node);
    watcher.command(Command::WatchTx(tx.compute_txid(), Height::new(2)));
    node.down.set(true);
    assert_eq!(words(&run(&mut watcher, &node)), ["down"]);
    node.down.set(false);
    assert_eq!(words(&run(&mut watcher, &node)), ["up", "found"]);
}

#[test]
fn a_bitcoind_that_reads_its_chain_anew_is_waited_for() {
    let node = FakeNode::with_height(9);
    let (processed, rest) = (node.at(9), node.at(8));
    let mut watcher = Watcher::new(rules(), vec![rest, processed], vec![]);
    node.roll_back(5);
    node.catching_up.set(true);
    assert_eq!(words(&run(&mut watcher, &node)), ["down"]);
    assert_eq!(watcher.tip(), Some(processed), "nothing was undone");
    // Not catching up, it means what it says.
    node.catching_up.set(false);
    assert_eq!(words(&run(&mut watcher, &node)), ["up", "-9", "-8", "-7", "-6", "-5"]);
}

#[test]
fn what_waiting_cannot_mend_stops_the_watcher() {
    let stopped = |change: &dyn Fn(&FakeNode), words: &str| {
        let node = FakeNode::with_height(9);
        let mut watcher = watcher_at(node.at(3));
        change(&node);
        let turn = watcher.turn(&node);
        assert!(turn.over);
        match turn.events.as_slice() {
            [ChainEvent::Stopped { why }] => assert!(why.contains(words), "{why}"),
            other => panic!("{other:?}"),
        }
    };
    stopped(
        &|node| node.stranger.set(true),
        "on the network signet, but --bitcoin.regtest is set: give --bitcoin.signet",
    );
    stopped(&|node| node.pruned_below.set(6), "pruned block 4, which we have not seen yet");
    stopped(
        &|node| {
            let old = node.at(3);
            node.roll_back(7);
            node.forget(old.hash);
            node.mine_empty(9);
        },
        "follows another chain",
    );
}

#[test]
fn a_broadcast_is_sent_at_each_block_until_it_confirms_and_settles_when_deep() {
    let node = FakeNode::with_height(3);
    let tx = stray(1);
    let mut watcher = Watcher::new(rules(), vec![node.at(3)], vec![tx.clone()]);
    let one = std::slice::from_ref(&tx);
    let sent = |node: &FakeNode| std::mem::take(&mut *node.sent.borrow_mut());
    run(&mut watcher, &node);
    assert_eq!(sent(&node), one, "at start");
    run(&mut watcher, &node);
    assert!(sent(&node).is_empty(), "not without a new block");
    node.mine(vec![]);
    run(&mut watcher, &node);
    assert_eq!(sent(&node), one);
    node.mine(vec![tx.clone()]);
    run(&mut watcher, &node);
    assert!(sent(&node).is_empty(), "confirmed");
    node.roll_back(1);
    node.mine(vec![]);
    run(&mut watcher, &node);
    assert_eq!(sent(&node), one, "a reorg undid it");
    node.mine(vec![tx.clone()]);
    let mut settled = Vec::new();
    for event in (0..3).flat_map(|_| {
        let events = run(&mut watcher, &node);
        node.mine(vec![]);
        events
    }) {
        if let ChainEvent::Connected { at, settled: now, .. } = event {
            settled.extend(now.into_iter().map(|txid| (txid, at.height.number())));
        }
    }
    // Mined at 6, so 8 is its third confirmation.
    assert_eq!(settled, [(tx.compute_txid(), 8)]);
    assert!(sent(&node).is_empty());
}

#[test]
fn a_restart_knows_which_broadcasts_are_in_recent_blocks() {
    let node = FakeNode::with_height(3);
    let (mined, waiting) = (stray(1), stray(2));
    node.mine(vec![mined.clone()]);
    node.mine(vec![]);
    let broadcasts = vec![mined.clone(), waiting.clone()];
    let mut watcher = Watcher::new(rules(), vec![node.at(5)], broadcasts);
    run(&mut watcher, &node);
    assert_eq!(*node.sent.borrow(), [waiting]);
    node.mine(vec![]);
    match run(&mut watcher, &node).as_slice() {
        [ChainEvent::Connected { settled, .. }] => assert_eq!(*settled, [mined.compute_txid()]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn mempool_transactions_are_told_once_at_start_and_when_notices_were_lost() {
    let node = FakeNode::with_height(3);
    let mut watcher = watcher_at(node.at(3));
    let (first, second) = (stray(1), stray(2));
    let word = |tx: &Transaction| format!("mempool {}", tx.compute_txid());
    node.mempool.borrow_mut().push(first.clone());
    assert_eq!(words(&run(&mut watcher, &node)), [word(&first)]);
    node.mempool.borrow_mut().push(second.clone());
    assert!(run(&mut watcher, &node).is_empty(), "ZMQ would tell");
    watcher.command(Command::LookAtMempool);
    assert_eq!(words(&run(&mut watcher, &node)), [word(&second)]);
}

#[test]
fn a_spend_that_was_in_the_mempool_before_its_output_was_watched_is_told() {
    let node = FakeNode::with_height(3);
    let mut watcher = watcher_at(node.at(3));
    let (tx, other) = (stray(1), stray(2));
    node.mempool.borrow_mut().extend([tx.clone(), other.clone()]);
    assert_eq!(run(&mut watcher, &node).len(), 2, "read at the start, when nobody watches");
    watcher.command(Command::WatchSpend(tx.input[0].previous_output, Height::new(4)));
    let told = words(&run(&mut watcher, &node));
    assert_eq!(told, [format!("mempool {}", tx.compute_txid())]);
    assert!(run(&mut watcher, &node).is_empty());
}

#[test]
fn without_zmq_the_mempool_is_read_each_time() {
    let node = FakeNode::with_height(3);
    let polling = Rules { poll_mempool: true, ..rules() };
    let mut watcher = Watcher::new(polling, vec![node.at(3)], vec![]);
    assert!(run(&mut watcher, &node).is_empty());
    node.mempool.borrow_mut().push(stray(1));
    assert_eq!(run(&mut watcher, &node).len(), 1);
    assert!(run(&mut watcher, &node).is_empty());
}
