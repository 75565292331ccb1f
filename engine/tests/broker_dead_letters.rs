//! Dead letters: what becomes one, what is kept of it, and how it is replayed.

mod broker_support;

use broker_support::tried::{MILLISECOND, Tried};
use broker_support::{LIMIT, eventually, panic_quietly, shut_down};
use ringmain::broker::dead_letters::{DeadLetterOptions, DeadLetters, Replay, ReplayError, Selection};
use ringmain::broker::{
    Backlog, Breaker, Broker, Dispatcher, FailureKind, Handled, HandlerError, Jitter, Permanent,
    PublishOptions, Retry, SubscribeError, SubscriptionBuilder, Term, WhenFull, WhileOpen,
};
use ringmain::clock::Clock;
use ringmain::message::Priority;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// A subscription of a broker that keeps dead letters.
fn kept<E: Into<HandlerError> + 'static>(
    kept: DeadLetterOptions,
    options: impl FnOnce(SubscriptionBuilder<u64>) -> SubscriptionBuilder<u64>,
    handler: impl FnMut(u64, u16) -> Result<(), E> + Send + 'static,
) -> (Tried, DeadLetters<u64>) {
    let tried = Tried::on(|broker| broker.dead_letters(kept), options, handler);
    let dead = tried.broker.dead_letters().expect("they are kept");
    (tried, dead)
}

fn all() -> Selection {
    Selection::all()
}

fn numbers(dead: &DeadLetters<u64>) -> Vec<u64> {
    dead.query(&all()).iter().map(|letter| letter.message.payload).collect()
}

fn fails(_: u64, _: u16) -> Result<(), &'static str> {
    Err("it fails")
}

/// A handler that fails as long as it is told to.
fn sick(is_sick: &Arc<AtomicBool>) -> impl FnMut(u64, u16) -> Result<(), &'static str> + Send + 'static {
    let is_sick = is_sick.clone();
    move |_, _| if is_sick.load(Ordering::Relaxed) { Err("it is sick") } else { Ok(()) }
}

#[test]
fn a_hundred_that_always_fail_become_a_hundred_letters_of_three_attempts() {
    let retry = Retry::constant(MILLISECOND).jitter(Jitter::None).attempts(3);
    let (tried, dead) = kept(DeadLetterOptions::new(), |options| options.retry(retry), fails);
    tried.publish(0..100);
    tried.advance(MILLISECOND);
    tried.advance(MILLISECOND);
    assert_eq!(tried.calls().len(), 300);
    let account = tried.account();
    let terms = (account.retries, account.count(Term::DeadLettered), account.count(Term::Failed));
    assert_eq!(terms, (200, 100, 0));
    let letters = dead.query(&all());
    assert_eq!(letters.len(), 100);
    for letter in &letters {
        let attempts: Vec<_> =
            letter.attempts.iter().map(|one| (one.attempt, one.error.as_deref())).collect();
        assert_eq!(attempts, [(1, Some("it fails")), (2, Some("it fails")), (3, Some("it fails"))]);
        assert_eq!((letter.kind, &*letter.subscription), (FailureKind::Handler, "tried"));
    }
    assert_eq!(tried.broker.metrics().get("messaging.broker.dlq.size"), Some(100.0));
    assert!(dead.counts().is_balanced());
    let _report = tried.shut_down();
}

#[test]
fn without_a_retry_one_attempt_makes_a_letter_and_a_permanent_error_takes_no_other() {
    let (tried, dead) = kept(DeadLetterOptions::new(), |options| options, fails);
    tried.publish(0..3);
    assert_eq!(numbers(&dead), [0, 1, 2]);
    let retry = Retry::constant(MILLISECOND).attempts(5);
    let broker: Broker<u64> =
        Broker::of().dead_letters(DeadLetterOptions::new()).build().expect("valid options");
    let permanent = broker.subscription().name("permanent").pattern("a").retry(retry);
    let _permanent = permanent.subscribe(|_| Handled::Permanent("never".into())).expect("valid");
    let _ = broker.publisher("a").expect("a topic").publish(1).expect("room");
    broker.drain(LIMIT).expect("it is dead at once");
    let letters = broker.dead_letters().expect("they are kept").query(&all());
    assert_eq!((letters.len(), letters[0].attempts.len(), letters[0].last_error()), (1, 1, Some("never")));
}

#[test]
fn panics_and_errors_that_panic_are_told_as_far_as_they_can_be() {
    struct Mute;
    impl std::fmt::Debug for Mute {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic_quietly()
        }
    }
    impl std::fmt::Display for Mute {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic_quietly()
        }
    }
    impl std::error::Error for Mute {}
    let (tried, dead) = kept(
        DeadLetterOptions::new(),
        |options| options,
        |number, _| -> Result<(), HandlerError> {
            match number {
                0 => std::panic::resume_unwind(Box::new("of text")),
                1 => std::panic::resume_unwind(Box::new(7)),
                2 => Err(Box::new(Mute)),
                _ => Ok(()),
            }
        },
    );
    tried.publish(0..4);
    let told: Vec<_> =
        dead.query(&all()).iter().map(|one| (one.kind, one.last_error().map(str::to_owned))).collect();
    let text = |text: &str| Some(text.to_owned());
    let expected =
        [(FailureKind::Panic, text("of text")), (FailureKind::Panic, None), (FailureKind::Handler, text(""))];
    assert_eq!(told, expected);
    assert_eq!(tried.account().delivered(), 1);
}

#[test]
fn a_letter_keeps_id_headers_and_topic_and_no_texts_where_they_are_switched_off() {
    let options = DeadLetterOptions::new().error_texts(false);
    let (tried, dead) = kept(options, |options| options, fails);
    let headers = PublishOptions::new().header("region", "eu").expect("a header");
    let _ = tried.broker.publisher("a").expect("a topic").publish_with(7, &headers).expect("room");
    tried.run();
    let letters = dead.query(&all());
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!(letter.message.headers.get_str("region"), Some("eu"));
    assert_eq!((letter.message.topic.as_str(), letter.message.payload), ("a", 7));
    assert_eq!((letter.attempts.len(), letter.last_error()), (1, None));
}

#[test]
fn a_full_backlog_makes_letters_of_the_newest_and_the_others_are_delivered() {
    let backlog = Backlog::new(100).when_full(WhenFull::DeadLetter);
    let ok = |_, _| Ok::<_, HandlerError>(());
    let (tried, dead) = kept(DeadLetterOptions::new(), |options| options.backlog(backlog), ok);
    tried.subscription.pause().expect("not forked");
    tried.publish(0..150);
    tried.subscription.resume();
    tried.run();
    let delivered: Vec<_> = tried.calls().iter().map(|call| call.number).collect();
    assert_eq!((delivered, numbers(&dead)), ((0..100).collect(), (100..150).collect()));
    let letters = dead.query(&all());
    // No handler ever got them: nobody says that their attempts are used up.
    assert!(letters.iter().all(|one| one.kind == FailureKind::Overflow && one.attempts.is_empty()));
    let account = tried.account();
    assert_eq!((account.count(Term::DeadLettered), account.count(Term::Overflow)), (50, 0));
}

#[test]
fn it_is_where_a_backlog_without_a_policy_puts_what_finds_no_room_and_a_broker_without_letters_drops_it() {
    let ok = |_, _| Ok::<_, HandlerError>(());
    let (tried, dead) = kept(DeadLetterOptions::new(), |options| options.backlog(Backlog::new(1)), ok);
    tried.subscription.pause().expect("not forked");
    tried.publish(0..3);
    assert_eq!((dead.counts().held, tried.account().count(Term::Overflow)), (2, 0));
    let tried = Tried::new(|options| options.backlog(Backlog::new(1)), ok);
    tried.subscription.pause().expect("not forked");
    tried.publish(0..3);
    assert_eq!(tried.account().count(Term::Overflow), 2);
}

#[test]
fn an_open_breaker_makes_letters_where_it_was_told_to() {
    let breaker = Breaker::consecutive(2).exact().while_open(WhileOpen::DeadLetter);
    let (tried, dead) = kept(DeadLetterOptions::new(), |options| options.breaker(breaker), fails);
    tried.publish(0..5);
    let kinds: Vec<_> = dead.query(&all()).iter().map(|letter| letter.kind).collect();
    let (handler, refused) = (FailureKind::Handler, FailureKind::Refused);
    assert_eq!(kinds, [handler, handler, refused, refused, refused]);
    assert_eq!((tried.calls().len(), tried.account().count(Term::DeadLettered)), (2, 5));
    // One that refuses and no more makes none.
    let breaker = Breaker::consecutive(2).exact().while_open(WhileOpen::Refuse);
    let (tried, dead) = kept(DeadLetterOptions::new(), |options| options.breaker(breaker), fails);
    tried.publish(0..5);
    assert_eq!((dead.counts().held, tried.account().count(Term::Failed)), (2, 3));
}

#[test]
fn what_is_to_make_letters_needs_a_broker_that_keeps_them() {
    let broker: Broker<u64> = Broker::of().build().expect("valid options");
    assert!(broker.dead_letters().is_none());
    let subscription = || broker.subscription().pattern("a");
    let full = subscription().backlog(Backlog::default().when_full(WhenFull::DeadLetter)).subscribe(|_| ());
    let open = subscription().breaker(Breaker::default().while_open(WhileOpen::DeadLetter)).subscribe(|_| ());
    for refused in [full, open] {
        let error = refused.map(drop).expect_err("it has nowhere to put them");
        assert!(matches!(error, SubscribeError::NoDeadLetters { .. }), "{error}");
        assert!(error.to_string().contains("dead_letters"), "{error}");
    }
}

#[test]
fn twelve_thousand_failures_leave_ten_thousand_letters_which_are_replayed_once_at_their_rate() {
    let is_sick = Arc::new(AtomicBool::new(true));
    let (tried, dead) = kept(DeadLetterOptions::new(), |options| options, sick(&is_sick));
    for part in 0..12 {
        tried.publish(part * 1_000..(part + 1) * 1_000);
    }
    let counts = dead.counts();
    assert_eq!((counts.taken, counts.held, counts.evicted), (12_000, 10_000, 2_000));
    assert_eq!(dead.query(&all().at_most(1))[0].message.payload, 2_000);
    is_sick.store(false, Ordering::Relaxed);
    tried.calls();
    let replaying = dead.replay(&all(), Replay::to_subscription()).expect("there are some");
    assert_eq!((replaying.letters, replaying.already_replaying), (10_000, 0));
    let again = dead.replay(&all(), Replay::to_subscription());
    assert_eq!(again, Err(ReplayError::AlreadyReplaying { letters: 10_000 }));
    // The first comes at once, and then one in each millisecond.
    tried.run();
    assert!(tried.broker.audit().total().delivered() == 1);
    tried.run();
    assert_eq!(tried.calls().len(), 1);
    tried.advance(MILLISECOND * 999);
    assert_eq!(tried.calls().len(), 999);
    tried.advance(SECOND * 9);
    let calls = tried.calls();
    assert_eq!(calls.len(), 9_000);
    assert!(calls.iter().all(|call| call.attempt == 1));
    assert!(calls.windows(2).all(|pair| pair[0].number < pair[1].number), "not in their order");
    let (counts, account) = (dead.counts(), tried.account());
    assert_eq!((counts.held, counts.replayed), (0, 10_000));
    assert!(counts.is_balanced(), "{counts}");
    assert_eq!(
        (account.replayed, account.delivered(), account.count(Term::DeadLettered)),
        (10_000, 10_000, 12_000)
    );
    let _report = tried.shut_down();
}

#[test]
fn what_fails_again_in_a_replay_is_one_letter_with_one_history_and_can_be_replayed_again() {
    let is_sick = Arc::new(AtomicBool::new(true));
    let retry = Retry::constant(MILLISECOND).jitter(Jitter::None).attempts(2);
    let (tried, dead) = kept(DeadLetterOptions::new(), |options| options.retry(retry), sick(&is_sick));
    tried.publish([7]);
    tried.advance(MILLISECOND);
    let id = dead.query(&all())[0].message.id;
    for episode in 2..4 {
        dead.replay(&all(), Replay::to_subscription()).expect("it is not being replayed");
        tried.run();
        assert!(tried.subscription.status().retrying == 1);
        tried.advance(MILLISECOND);
        let letters = dead.query(&all());
        let [letter] = &letters[..] else { panic!("{letters:?}") };
        assert_eq!(
            (letter.episodes, letter.message.id, letter.attempts.len()),
            (episode, id, 2 * episode as usize)
        );
        let last = &letter.attempts[letter.attempts.len() - 1];
        assert_eq!((last.attempt, last.episode), (2, episode));
    }
    assert!(dead.counts().is_balanced());
    is_sick.store(false, Ordering::Relaxed);
    dead.replay(&all(), Replay::to_subscription()).expect("it is not being replayed");
    tried.run();
    let account = tried.account();
    assert_eq!((dead.counts().held, account.delivered(), account.replayed), (0, 1, 3));
    assert_eq!((account.count(Term::DeadLettered), account.failures()), (3, 6));
}

#[test]
fn a_replay_waits_for_a_pause_and_keeps_its_letters_when_the_subscription_ends_or_the_broker_stops() {
    let is_sick = Arc::new(AtomicBool::new(true));
    let (mut tried, dead) = kept(DeadLetterOptions::new(), |options| options, sick(&is_sick));
    tried.publish(0..5);
    is_sick.store(false, Ordering::Relaxed);
    tried.subscription.pause().expect("not forked");
    dead.replay(&all(), Replay::to_subscription()).expect("there are some");
    tried.advance(SECOND);
    assert_eq!((tried.calls().len(), dead.counts().held), (5, 5));
    tried.unsubscribe("other", |_| ());
    assert_eq!(tried.calls(), []);
    // Nobody has that name now.
    let refused = dead.replay(&all(), Replay::to_subscription());
    assert_eq!(refused, Err(ReplayError::NoSubscription { letters: 5 }));
    tried.unsubscribe("tried", |_| panic!("it is paused"));
    tried.subscription.pause().expect("not forked");
    dead.replay(&all(), Replay::to_subscription().rate(1_000_000_000)).expect("they are free again");
    tried.advance(SECOND);
    let report = tried.shut_down();
    assert_eq!(report.undelivered.len(), 0, "they were never taken out of the store");
    let counts = dead.counts();
    assert_eq!((counts.held, counts.is_balanced()), (5, true), "{counts}");
    assert_eq!(dead.replay(&all(), Replay::to_subscription()), Err(ReplayError::Closed));
}

#[test]
fn a_letter_that_is_being_replayed_at_the_end_is_in_the_store_and_not_handed_back() {
    let retry = Retry::constant(SECOND).jitter(Jitter::None).attempts(2);
    let (tried, dead) = kept(DeadLetterOptions::new(), |options| options.retry(retry), fails);
    tried.publish(0..3);
    tried.advance(SECOND);
    assert_eq!(dead.counts().held, 3);
    dead.replay(&all(), Replay::to_subscription().rate(1_000_000)).expect("there are some");
    tried.advance(MILLISECOND);
    assert_eq!(tried.subscription.status().retrying, 3);
    let report = tried.shut_down();
    assert_eq!((report.undelivered.len(), dead.counts().held), (0, 3));
    assert_eq!(report.ledger.total().count(Term::Undelivered), 3);
}

#[test]
fn letters_whose_replay_waits_beside_a_stuck_handler_are_free_again_after_the_shutdown() {
    let broker: Broker<u64> =
        Broker::of().dead_letters(DeadLetterOptions::new()).build().expect("valid options");
    let dead = broker.dead_letters().expect("they are kept");
    let retry = Retry::constant(SECOND * 3_600).jitter(Jitter::None).attempts(2);
    let failing = broker.subscription().name("failing").pattern("a").retry(retry);
    let failing = failing.subscribe(|_| Err::<(), _>(Permanent::new("it fails"))).expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..4 {
        let _ = publisher.publish(number).expect("room");
    }
    eventually("all are dead", || dead.counts().held == 4);
    failing.pause().expect("not forked");
    let slowly = Replay::to_subscription().rate(1);
    assert_eq!(dead.replay(&all(), slowly).expect("there are some").letters, 4);
    let (open, door) = std::sync::mpsc::channel::<()>();
    let (entered, has_entered) = std::sync::mpsc::channel();
    let stuck = broker.subscribe("b", move |_| {
        let _ = entered.send(());
        let _ = door.recv();
    });
    let _stuck = stuck.expect("valid");
    let _ = broker.publisher("b").expect("a topic").publish(0).expect("room");
    broker_support::next(&has_entered);
    let report = broker.shutdown(Duration::from_millis(300)).expect("not inside of a closure");
    assert_eq!((report.abandoned.len(), report.ledger.is_balanced()), (1, true), "{}", report.ledger);
    // What is being replayed is not purged: all of it is free.
    assert_eq!((dead.purge(&all()), dead.counts().is_balanced()), (4, true));
    drop(open);
}

#[test]
fn a_name_outlives_its_subscription_and_two_that_fail_on_one_message_are_two_letters() {
    let broker: Broker<u64> =
        Broker::of().dead_letters(DeadLetterOptions::new()).build().expect("valid options");
    let dead = broker.dead_letters().expect("they are kept");
    let failing = |name: &str| {
        let subscription = broker.subscription().name(name).pattern("a");
        subscription.subscribe(|_| Err::<(), _>("it fails")).expect("valid")
    };
    let (billing, shipping) = (failing("billing"), failing("shipping"));
    let _ = broker.publisher("a").expect("a topic").publish(7).expect("room");
    broker.drain(LIMIT).expect("they fail at once");
    let letters = dead.query(&all());
    assert_eq!((letters.len(), letters[0].message.id == letters[1].message.id), (2, true));
    assert_eq!(dead.count(&all().subscription("billing")), 1);
    billing.unsubscribe();
    let handled = Arc::new(AtomicU64::new(0));
    let counted = handled.clone();
    let mended = broker.subscription().name("billing").pattern("elsewhere");
    let _mended = mended.subscribe(move |_| _ = counted.fetch_add(1, Ordering::Relaxed)).expect("valid");
    let replaying =
        dead.replay(&all().subscription("billing"), Replay::to_subscription()).expect("there is one");
    assert_eq!(replaying.letters, 1);
    broker.drain(LIMIT).expect("it is handled");
    assert_eq!((handled.load(Ordering::Relaxed), dead.counts().held), (1, 1));
    drop(shipping);
    let _ledger = shut_down(&broker);
}

#[test]
fn letters_are_purged_counted_and_grouped_as_they_are_selected() {
    let (tried, dead) = kept(
        DeadLetterOptions::new(),
        |options| options,
        |number, _| Err::<(), _>(format!("order {number} not {}", if number < 3 { "found" } else { "paid" })),
    );
    tried.publish(0..10);
    let groups = dead.groups(&all());
    let sizes: Vec<_> = groups.iter().map(|group| group.count).collect();
    assert_eq!(sizes, [7, 3]);
    assert_eq!(dead.count(&all().fingerprint(groups[1].fingerprint)), 3);
    assert_eq!(dead.purge(&all().fingerprint(groups[0].fingerprint)), 7);
    assert_eq!(numbers(&dead), [0, 1, 2]);
    let counts = dead.counts();
    assert_eq!((counts.taken, counts.held, counts.purged, counts.is_balanced()), (10, 3, 7, true));
}

/// A payload that counts how many of it there are, and panics when it is dropped, if it is told to.
struct Counted(u64);

static ALIVE: AtomicU64 = AtomicU64::new(0);

impl Default for Counted {
    fn default() -> Self {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Self(0)
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Self(self.0)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
        if self.0 == 13 && !std::thread::panicking() {
            panic_quietly();
        }
    }
}

#[test]
fn payloads_that_panic_when_dropped_cost_nobody_and_none_is_left() {
    {
        let (clock, _time) = Clock::manual();
        let broker: Broker<Counted> = Broker::of()
            .clock(clock)
            .dead_letters(DeadLetterOptions::new().entries(3))
            .build()
            .expect("valid options");
        let _failing = broker.subscribe("a", |_| Err::<(), _>("it fails")).expect("valid");
        let mut publisher = broker.publisher("a").expect("a topic");
        for number in 10..20 {
            ALIVE.fetch_add(1, Ordering::SeqCst);
            let _ = publisher.publish(Counted(number)).expect("room");
        }
        broker.drain(LIMIT).expect("they fail at once");
        let dead = broker.dead_letters().expect("they are kept");
        let left: Vec<_> = dead.query(&all()).iter().map(|letter| letter.message.payload.0).collect();
        assert_eq!(left, [17, 18, 19]);
        let report = broker.shutdown(LIMIT).expect("not inside of a closure");
        assert!(report.ledger.is_balanced() && report.dead.is_empty(), "{}", report.ledger);
    }
    eventually("none is left", || ALIVE.load(Ordering::SeqCst) == 0);
}

#[test]
fn letters_can_be_published_to_their_topics_once_more_as_children_of_themselves() {
    let mut simulation =
        Broker::of::<u64>().dead_letters(DeadLetterOptions::new()).simulate().expect("valid");
    let broker = simulation.broker();
    let old = broker.subscribe("orders.*", |_| Err::<(), _>("no such customer")).expect("valid");
    let told = PublishOptions::new().header("region", "eu").expect("short").priority(Priority::High);
    let mut publisher = broker.any_topic_publisher();
    for (topic, number) in [("orders.a", 1), ("orders.b", 2), ("orders.c", 3)] {
        let _ = publisher.publish_with(topic, number, &told).expect("room");
    }
    simulation.run();
    let letters = broker.dead_letters().expect("it keeps them");
    let dead: Vec<_> = letters.query(&Selection::all()).iter().map(|letter| letter.message.id).collect();
    drop(old);
    let (sender, received) = std::sync::mpsc::channel();
    let subscribe = |topic| {
        let sender = sender.clone();
        broker.subscribe(topic, move |message| {
            let headers = message.headers().get_str("region").map(str::to_owned);
            sender.send((
                message.to_owned().parent,
                **message,
                message.attempt(),
                headers,
                message.priority(),
            ))
        })
    };
    let _new = (subscribe("orders.a").expect("valid"), subscribe("orders.b").expect("valid"));
    let republished =
        letters.republish(&Selection::all(), Replay::to_topic(), Duration::MAX).expect("they are there");
    simulation.run();
    assert_eq!((republished.letters, republished.unwanted, republished.refusal), (2, 1, None));
    let region = Some("eu".to_owned());
    let expected = [
        (Some(dead[0]), 1, 1, region.clone(), Priority::High),
        (Some(dead[1]), 2, 1, region, Priority::High),
    ];
    assert_eq!(received.try_iter().collect::<Vec<_>>(), expected);
    assert_eq!(
        letters.query(&Selection::all()).iter().map(|it| it.message.id).collect::<Vec<_>>(),
        [dead[2]]
    );
    let counts = letters.counts();
    assert!(counts.is_balanced(), "{counts:?}");
    assert_eq!((counts.replayed, counts.held), (2, 1));
    let report = simulation.shutdown();
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
}

#[test]
fn what_cannot_be_published_again_in_time_or_for_want_of_room_stays() {
    let dispatcher = Dispatcher::new("only").capacity(4).overflow(ringmain::ring::Overflow::Reject);
    let broker = Broker::of::<u64>().dispatcher(dispatcher).dead_letters(DeadLetterOptions::new());
    let broker = broker.build().expect("valid");
    let _sick = broker.subscribe("a", |_| Err::<(), _>("sick")).expect("valid");
    let letters = broker.dead_letters().expect("it keeps them");
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..10 {
        while publisher.publish(number).is_err() {
            std::thread::yield_now();
        }
    }
    broker.drain(LIMIT).expect("nothing hangs");
    // Ten in a second, for a fifth of one: the first, the second, and no third.
    let limit = Duration::from_millis(150);
    let begun = Instant::now();
    let republished =
        letters.republish(&Selection::all(), Replay::to_topic().rate(10), limit).expect("they are there");
    assert!(begun.elapsed() < limit + Duration::from_secs(5));
    assert_eq!((republished.letters + republished.left, republished.refusal.clone()), (10, None));
    assert!((1..=2).contains(&republished.letters), "{republished:?}");
    broker.drain(LIMIT).expect("nothing hangs");
    assert_eq!(letters.count(&Selection::all()), 10, "they have failed again");
    // The ring is full.
    let (release, released) = std::sync::mpsc::channel::<()>();
    let _stuck = broker.subscribe("stuck", move |_| _ = released.recv()).expect("valid");
    let mut stuck = broker.publisher("stuck").expect("a topic");
    while stuck.publish(0).is_ok() {}
    let republished =
        letters.republish(&Selection::all(), Replay::to_topic(), LIMIT).expect("they are there");
    assert_eq!((republished.letters, republished.left), (0, 10));
    assert!(
        matches!(republished.refusal, Some(ringmain::broker::PublishFailure::Full { .. })),
        "{republished:?}"
    );
    drop(release);
    let report = broker.shutdown(LIMIT).expect("no closure");
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    assert!(letters.republish(&Selection::all(), Replay::to_topic(), LIMIT).is_err(), "it is closed");
}
