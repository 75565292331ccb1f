//! The fault table of the guide (`guide::failure`): each test that it names exists, and here are those for the
//! lines that no other file shows, and for one of `guide::ordering`.

mod broker_support;

use broker_support::tried::{MILLISECOND, Tried};
use broker_support::{Random, eventually, next, shut_down};
use ringmain::broker::dead_letters::DeadLetterOptions;
use ringmain::broker::{
    Backlog, Broker, Dispatcher, DropReason, Jitter, PublishOptions, Retry, Term, WhenFull,
};
use ringmain::clock::Clock;
use ringmain::message::Payload;
use ringmain::ring::Overflow;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// The tests that the page names, as `file::test`.
fn named() -> BTreeSet<(String, String)> {
    let page = include_str!("../src/guide/failure.rs");
    let cells = page.split('`').filter(|cell| cell.starts_with("broker") && !cell.contains(' '));
    let named = cells.filter_map(|cell| cell.split_once("::"));
    named.map(|(file, test)| (file.to_owned(), test.to_owned())).collect()
}

#[test]
fn each_line_of_the_table_names_tests_that_exist() {
    let page = include_str!("../src/guide/failure.rs");
    let table = page.split("//! | fault |").nth(1).expect("the table");
    let lines: Vec<&str> = table.lines().skip(2).take_while(|line| line.starts_with("//! |")).collect();
    assert!(lines.len() > 20, "the table has {} lines", lines.len());
    for line in lines {
        assert!(line.contains("`broker"), "no test is named in: {line}");
    }
    for (file, test) in named() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/{file}.rs"));
        let source = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}.rs: {error}"));
        assert!(source.contains(&format!("#[test]\nfn {test}()")), "{file}.rs has no test {test}");
    }
}

#[test]
fn a_slow_handler_holds_up_its_own_dispatcher_alone() {
    let broker: Broker<u64> = Broker::of()
        .dispatcher(Dispatcher::new("slow").capacity(64))
        .dispatcher(Dispatcher::new("fast").capacity(64))
        .build()
        .expect("a broker");
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (sender, slow_calls) = mpsc::channel();
    let _slow = broker.subscription().pattern("a").dispatcher("slow").subscribe(move |message| {
        sender.send(**message).expect("somebody listens");
        let _ = may_go_on.recv();
    });
    let (sender, beside_it) = mpsc::channel();
    let _same = broker
        .subscription()
        .pattern("a")
        .dispatcher("slow")
        .subscribe(move |message| sender.send(**message))
        .expect("a pattern");
    let (sender, fast_calls) = mpsc::channel();
    let _fast = broker
        .subscription()
        .pattern("a")
        .dispatcher("fast")
        .subscribe(move |message| sender.send(**message))
        .expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..10 {
        let _ = publisher.publish(number).expect("room");
    }
    assert_eq!(next(&slow_calls), 0);
    // All of the other dispatcher's, while the first call of this one still runs.
    for number in 0..10 {
        assert_eq!(next(&fast_calls), number);
    }
    let depth = broker.metrics().dispatcher("slow").expect("it is there").depth;
    assert!(depth >= 9, "{depth} of ten wait");
    assert!(beside_it.try_iter().count() <= 1, "who shares the dispatcher waits");
    drop(go_on);
    shut_down(&broker);
    assert_eq!(slow_calls.try_iter().count(), 9);
}

#[test]
fn with_everything_full_at_once_each_message_is_counted_once() {
    const PUBLISHED: u64 = 200;
    let broker = Broker::of::<u64>()
        .dispatcher(Dispatcher::new("small").capacity(16).overflow(Overflow::Reject))
        .dead_letters(DeadLetterOptions::new().entries(5));
    let mut simulation = broker.simulate().expect("a broker");
    let broker = simulation.broker();
    let retry = Retry::constant(MILLISECOND).jitter(Jitter::None).attempts(2).at_most_waiting(3);
    let failing = broker.subscription().name("failing").pattern("a").dispatcher("small").retry(retry);
    let _failing = failing.subscribe(|_| Err::<(), _>("on purpose")).expect("a pattern");
    let paused = broker.subscription().name("paused").pattern("a").dispatcher("small");
    let paused = paused.backlog(Backlog::new(4).when_full(WhenFull::DropOldest));
    let paused = paused.subscribe(|_| ()).expect("a pattern");
    paused.pause().expect("no fork");
    simulation.run();

    let mut publisher = broker.publisher("a").expect("a topic");
    let (mut accepted, mut refused) = (0, 0);
    for number in 0..PUBLISHED {
        match publisher.publish(number) {
            Ok(_) => accepted += 1,
            Err(_) => refused += 1,
        }
        // The ring is full nine times of ten.
        if number % 20 == 19 {
            simulation.run();
        }
    }
    simulation.advance(MILLISECOND * 5);
    assert!(accepted > 100 && refused > 20, "{accepted} accepted, {refused} refused");

    let ledger = broker.audit();
    assert!(ledger.is_balanced(), "{ledger}");
    let of = |name: &str| {
        ledger.subscriptions.iter().find(|account| account.name == name).expect("it is there").clone()
    };
    let (failing, paused) = (of("failing"), of("paused"));
    for account in [&failing, &paused] {
        assert_eq!((account.routed, account.refused), (accepted, refused));
        assert_eq!(account.accounted(), accepted);
    }
    assert_eq!(failing.count(Term::DeadLettered), accepted);
    assert_eq!((paused.count(Term::Backlogged), paused.dropped_for(DropReason::Overflow)), (4, accepted - 4));
    let letters = broker.dead_letters().expect("they are kept").counts();
    assert_eq!((letters.taken, letters.held, letters.evicted), (accepted, 5, accepted - 5));
    assert!(simulation.shutdown().ledger.is_balanced());
}

/// A message of 64 KiB, which knows its number.
fn large(number: u64) -> Payload {
    let mut content = vec![0; 64 << 10];
    content[..8].copy_from_slice(&number.to_le_bytes());
    Payload::new(&content).expect("it fits")
}

/// Limits in bytes, each with how many messages of 64 KiB fit: what lies beside the payload takes some, and not more
/// than 4 KiB.
fn byte_limits() -> impl Iterator<Item = (usize, u64)> {
    (1..=4)
        .flat_map(|messages| [(messages * (64 << 10), messages - 1), (messages * (68 << 10), messages)])
        .map(|(bytes, fit)| (bytes, fit as u64))
}

#[test]
fn of_messages_of_64_kib_as_many_wait_as_the_bytes_of_a_backlog_allow() {
    const PUBLISHED: u64 = 6;
    for (bytes, fit) in byte_limits() {
        for when_full in [WhenFull::DropNewest, WhenFull::DropOldest, WhenFull::DeadLetter] {
            let broker = Broker::builder().dead_letters(DeadLetterOptions::new());
            let mut simulation = broker.simulate().expect("a broker");
            let broker = simulation.broker();
            let (sender, delivered) = mpsc::channel();
            let backlog = Backlog::new(100).bytes(bytes).when_full(when_full);
            let paused = broker.subscription().pattern("a").backlog(backlog).subscribe(move |message| {
                let number = message.as_slice().first_chunk().map_or(u64::MAX, |it| u64::from_le_bytes(*it));
                sender.send((number, message.len()))
            });
            let paused = paused.expect("a pattern");
            paused.pause().expect("no fork");
            simulation.run();
            let mut publisher = broker.publisher("a").expect("a topic");
            for number in 0..PUBLISHED {
                let _ = publisher.publish(large(number)).expect("room");
                simulation.run();
            }
            let case = format!("{bytes} bytes, {when_full:?}");
            assert_eq!(paused.status().backlogged, fit, "{case}");
            paused.resume();
            simulation.run();
            let first = if when_full == WhenFull::DropOldest { PUBLISHED - fit } else { 0 };
            let expected: Vec<_> = (first..first + fit).map(|number| (number, 64 << 10)).collect();
            // One that never fits costs the others nothing.
            assert_eq!(delivered.try_iter().collect::<Vec<_>>(), expected, "{case}");
            let account = broker.audit().total();
            let over = if when_full == WhenFull::DeadLetter { Term::DeadLettered } else { Term::Overflow };
            assert_eq!((account.delivered(), account.count(over)), (fit, PUBLISHED - fit), "{case}");
            assert!(simulation.shutdown().ledger.is_balanced(), "{case}");
        }
    }
}

#[test]
fn of_letters_of_64_kib_as_many_are_held_as_the_bytes_of_the_store_allow() {
    const PUBLISHED: u64 = 6;
    for (bytes, fit) in byte_limits() {
        let broker = Broker::builder().dead_letters(DeadLetterOptions::new().bytes(bytes));
        let mut simulation = broker.simulate().expect("a broker");
        let broker = simulation.broker();
        let _failing = broker.subscribe("a", |_| Err::<(), _>("on purpose")).expect("a pattern");
        let mut publisher = broker.publisher("a").expect("a topic");
        for number in 0..PUBLISHED {
            let _ = publisher.publish(large(number)).expect("room");
            simulation.run();
        }
        let letters = broker.dead_letters().expect("they are kept").counts();
        assert!(letters.is_balanced(), "{letters:?}");
        // One that alone takes more than all is lost; another takes the places of older ones.
        let (evicted, lost) = if fit == 0 { (0, PUBLISHED) } else { (PUBLISHED - fit, 0) };
        assert_eq!((letters.held, letters.evicted, letters.lost), (fit, evicted, lost), "{bytes} bytes");
        assert!(simulation.shutdown().ledger.is_balanced());
    }
}

#[test]
fn a_clock_that_jumps_ahead_has_each_attempt_made_once() {
    let retry = Retry::constant(Duration::from_secs(3_600)).jitter(Jitter::None).attempts(2);
    let tried =
        Tried::new(|it| it.retry(retry), |_, attempt| if attempt == 1 { Err("not yet") } else { Ok(()) });
    tried.publish(0..10);
    let mut publisher = tried.broker.publisher("a").expect("a topic");
    let short_lived = PublishOptions::new().expires_after(Duration::from_secs(60));
    for number in 10..15 {
        let _ = publisher.publish_with(number, &short_lived).expect("room");
    }
    tried.run();
    assert_eq!(tried.calls().len(), 15);
    // Ten years in one step, with nothing done in between.
    tried.time().advance(Duration::from_secs(10 * 365 * 86_400));
    tried.run();
    let calls: Vec<_> = tried.calls().iter().map(|call| (call.number, call.attempt)).collect();
    assert_eq!(calls, (0..10).map(|number| (number, 2)).collect::<Vec<_>>());
    let account = tried.account();
    assert_eq!((account.delivered(), account.count(Term::Expired), account.retries), (10, 5, 15));
    assert!(tried.shut_down().undelivered.is_empty());
}

#[test]
fn no_moment_comes_before_an_earlier_one() {
    let clock = Clock::hardware();
    let mut random = Random::new();
    let mut before = clock.now();
    let mut readings = 0_u64;
    eventually("time passes", || {
        for _ in 0..random.below(1_000) {
            let now = clock.now();
            assert!(now >= before);
            // The wall clock's time of a moment is that of the clock, whatever the system's wall clock says by now.
            assert_eq!(
                clock.wall(now).duration_since(clock.wall(before)).ok(),
                Some(now.since(before)),
                "after {readings} readings"
            );
            before = now;
            readings += 1;
        }
        readings > 100_000
    });
}

#[test]
fn the_next_stage_does_not_wait_for_a_message_that_is_to_be_tried_again() {
    let broker = Broker::of::<u64>().dispatcher(Dispatcher::new("staged").capacity(64).stages(&[1, 1]));
    let mut simulation = broker.simulate().expect("a broker");
    let broker = simulation.broker();
    let retry = Retry::constant(MILLISECOND).jitter(Jitter::None).in_order();
    let first = broker.subscription().pattern("a").stage(0).retry(retry);
    let _first = first
        .subscribe(|message| if message.attempt() == 1 { Err("not yet") } else { Ok(()) })
        .expect("a pattern");
    let (sender, seen) = mpsc::channel();
    let _second = broker
        .subscription()
        .pattern("a")
        .stage(1)
        .subscribe(move |message| sender.send(**message))
        .expect("a pattern");
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..3 {
        let _ = publisher.publish(number).expect("room");
    }
    simulation.run();
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
    let account = broker.audit().total();
    assert_eq!(
        (account.delivered(), account.count(Term::Retrying), account.count(Term::Backlogged)),
        (3, 1, 2)
    );
}
