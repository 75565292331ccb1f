//! Time limits of a handler's calls: what is late, what becomes of it, and what a handler is told. Mostly on a
//! simulation, to the nanosecond; who is named while a call runs is in `broker_time_limits_watched`.

mod broker_support;

use broker_support::Random;
use broker_support::tried::{MILLISECOND, Tried, once, retry, with_store};
use ringmain::broker::dead_letters::{DeadLetter, Selection};
use ringmain::broker::{
    Acknowledgement, Breaker, BreakerState, Broker, FailureKind, HandlerError, Permanent, RetryAfter,
    SubscribeError, SubscriptionBuilder, Term, Token, TokenError, WhileOpen, key,
};
use ringmain::clock::{Timestamp, VirtualTime};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

const LIMIT: Duration = Duration::from_millis(50);

/// What a handler is told about time.
type Slow = Arc<OnceLock<VirtualTime>>;

/// A subscription with a time limit of 50 ms, on a broker that keeps dead letters. Its handler says how many
/// milliseconds it takes, and what it then returns.
fn limited(
    options: impl FnOnce(SubscriptionBuilder<u64>) -> SubscriptionBuilder<u64>,
    mut handler: impl FnMut(u64, u16) -> (u32, Result<(), HandlerError>) + Send + 'static,
) -> Tried {
    let time = Slow::default();
    let moved = time.clone();
    let handler = move |number, attempt| {
        let (takes, outcome) = handler(number, attempt);
        moved.get().expect("it is there").advance(MILLISECOND * takes);
        outcome
    };
    let tried = Tried::on(with_store, |subscription| options(subscription.time_limit(LIMIT)), handler);
    assert!(time.set(tried.time()).is_ok());
    tried
}

fn letters(tried: &Tried) -> Vec<Arc<DeadLetter<u64>>> {
    let dead = tried.broker.dead_letters().expect("they are kept");
    dead.query(&Selection::all())
}

fn error(text: &str) -> Result<(), HandlerError> {
    Err(text.into())
}

#[test]
fn a_call_that_returns_after_its_limit_has_failed_whatever_it_returned() {
    let tried = limited(
        |options| options,
        |number, _| match number {
            0 => (50, Ok(())),
            1 => (51, Ok(())),
            2 => (50, error("no")),
            3 => (51, error("no")),
            _ => (51, Err(Permanent::new("never").into())),
        },
    );
    tried.publish(0..5);
    let account = tried.account();
    assert_eq!((account.delivered(), account.late, account.count(Term::DeadLettered)), (1, 3, 4));
    assert_eq!(account.failures_of(FailureKind::TimedOut), 3);
    assert_eq!(account.failures_of(FailureKind::Handler), 1);
    let kinds: Vec<_> = letters(&tried).iter().map(|letter| (letter.message.payload, letter.kind)).collect();
    let late = FailureKind::TimedOut;
    assert_eq!(kinds, [(1, late), (2, FailureKind::Handler), (3, late), (4, late)]);
    let _report = tried.shut_down();
}

#[test]
fn a_dead_letter_names_the_limit_how_long_the_call_took_and_how_it_returned() {
    let tried = limited(|options| options, |number, _| (60, if number == 0 { Ok(()) } else { error("no") }));
    tried.publish(0..2);
    let texts: Vec<_> = letters(&tried).iter().map(|letter| letter.last_error().map(str::to_owned)).collect();
    let text = |returned| {
        let discarded = "which is discarded";
        Some(format!("the call took 60ms, over its time limit of 50ms; it returned {returned}, {discarded}"))
    };
    assert_eq!(texts, [text("well"), text("an error")]);
    assert_eq!(letters(&tried)[0].attempts.len(), 1);
}

#[test]
fn the_next_attempt_comes_when_the_late_call_has_returned_and_has_a_limit_of_its_own() {
    // What a late call has returned is discarded, so that neither error has a say.
    let outcomes = [
        |attempt| if attempt == 1 { Ok(()) } else { error("no") },
        |_| Err(Permanent::new("never").into()),
        |_| Err(RetryAfter::new(MILLISECOND * 7, "later").into()),
    ];
    for outcome in outcomes {
        let tried = limited(
            |options| options.retry(retry(3)),
            move |_, attempt| if attempt < 3 { (60, outcome(attempt)) } else { (10, Ok(())) },
        );
        tried.publish([1]);
        tried.advance(MILLISECOND * 1_000);
        let calls: Vec<_> = tried.calls().iter().map(|call| (call.at, call.attempt)).collect();
        assert_eq!(calls, [(0, 1), (160, 2), (320, 3)]);
        let account = tried.account();
        assert_eq!((account.delivered(), account.late, account.retries), (1, 2, 2));
        assert_eq!(account.failures_of(FailureKind::TimedOut), 2);
        let _report = tried.shut_down();
    }
}

#[test]
fn late_calls_open_a_breaker_as_failures_do() {
    // Through each way that a breaker learns of a call: of a message that comes as it is, and as a probe.
    let breaker = Breaker::consecutive(3).open_for(MILLISECOND * 100..=MILLISECOND * 100).exact();
    let tried = limited(
        |options| options.breaker(breaker),
        |_, _| (60, Err(Permanent::new("it would not count, and is discarded").into())),
    );
    tried.publish(0..10);
    let status = tried.subscription.status();
    assert_eq!((tried.calls().len(), status.breaker, status.backlogged), (3, Some(BreakerState::Open), 7));
    tried.advance(MILLISECOND * 100);
    assert_eq!((tried.numbers(), tried.subscription.status().breaker), (vec![3], Some(BreakerState::Open)));
    assert_eq!(tried.account().late, 4);
    // One that is in time does not.
    let breaker = Breaker::consecutive(3);
    let tried = limited(|options| options.breaker(breaker), |_, _| (50, Ok(())));
    tried.publish(0..10);
    assert_eq!(tried.subscription.status().breaker, Some(BreakerState::Closed));
}

#[test]
fn the_key_of_a_late_call_is_not_remembered() {
    let mut calls = 0;
    let tried = limited(
        |options| options.idempotent(once()),
        move |_, _| {
            calls += 1;
            (if calls == 1 { 51 } else { 1 }, Ok(()))
        },
    );
    tried.publish([7]);
    assert_eq!(tried.account().late, 1);
    tried.publish([7, 7]);
    let account = tried.account();
    assert_eq!((tried.calls().len(), account.delivered(), account.count(Term::Duplicate)), (2, 1, 1));
}

#[test]
fn a_key_stays_reserved_while_a_late_call_waits_for_its_next_attempt() {
    let tried = limited(
        |options| options.idempotent(once()).retry(retry(2)),
        |_, attempt| (if attempt == 1 { 51 } else { 1 }, Ok(())),
    );
    tried.publish([7, 7]);
    assert_eq!(tried.account().count(Term::Duplicate), 1);
    tried.advance(MILLISECOND * 100);
    tried.publish([7]);
    let account = tried.account();
    assert_eq!((account.delivered(), account.count(Term::Duplicate), account.late), (1, 2, 1));
}

#[test]
fn a_newer_value_takes_the_place_of_one_whose_call_was_late() {
    let tried = limited(
        |options| options.conflate(key::topic()).retry(retry(5)),
        |number, _| (if number == 1 { 51 } else { 1 }, Ok(())),
    );
    tried.publish([1]);
    assert_eq!((tried.numbers(), tried.account().count(Term::Retrying)), (vec![1], 1));
    tried.publish([2]);
    tried.advance(MILLISECOND * 1_000);
    let account = tried.account();
    assert_eq!(tried.numbers(), [2]);
    assert_eq!((account.delivered(), account.count(Term::Conflated), account.late), (1, 1, 1));
}

#[test]
fn in_order_the_others_wait_for_the_one_whose_call_was_late() {
    let tried = limited(
        |options| options.retry(retry(5).in_order()),
        |number, attempt| (if number == 1 && attempt < 3 { 51 } else { 1 }, Ok(())),
    );
    tried.publish(0..4);
    tried.advance(MILLISECOND * 1_000);
    assert_eq!(tried.numbers(), [0, 1, 1, 1, 2, 3]);
    assert_eq!((tried.account().delivered(), tried.account().late), (4, 2));
}

#[test]
fn what_is_asked_before_the_call_does_not_count() {
    let time = Slow::default();
    let (filter, keys, handler) = (time.clone(), time.clone(), time.clone());
    let wait = |time: &Slow| time.get().expect("it is there").advance(LIMIT * 2);
    let by_number = key::of(move |message: &ringmain::message::Message<'_, u64>| {
        wait(&keys);
        Some(**message)
    });
    let tried = Tried::new(
        |options| {
            let options = options.time_limit(LIMIT).filter(move |message| {
                assert_eq!((message.deadline(), message.is_cancelled()), (None, false));
                wait(&filter);
                true
            });
            options.idempotent(ringmain::broker::Idempotency::by(by_number))
        },
        move |_, _| {
            handler.get().expect("it is there").advance(LIMIT);
            Ok::<_, HandlerError>(())
        },
    );
    assert!(time.set(tried.time()).is_ok());
    tried.publish(0..2);
    let account = tried.account();
    assert_eq!((account.delivered(), account.late, account.failures()), (2, 0, 0));
}

#[test]
fn a_late_call_that_panics_has_panicked() {
    let time = Slow::default();
    let moved = time.clone();
    let late = move |_, _| -> Result<(), HandlerError> {
        moved.get().expect("it is there").advance(LIMIT * 2);
        broker_support::panic_quietly()
    };
    let tried = Tried::on(with_store, |options| options.time_limit(LIMIT).retry(retry(2)), late);
    assert!(time.set(tried.time()).is_ok());
    tried.publish([1]);
    tried.advance(MILLISECOND * 100);
    let account = tried.account();
    assert_eq!((account.failures_of(FailureKind::Panic), account.failures(), account.late), (2, 2, 0));
    assert_eq!(letters(&tried)[0].kind, FailureKind::Panic);
}

/// An error that panics when it is dropped.
#[derive(Debug, thiserror::Error)]
#[error("it panics")]
struct Explosive;

impl Drop for Explosive {
    fn drop(&mut self) {
        broker_support::panic_quietly();
    }
}

#[test]
fn an_error_that_panics_when_it_is_discarded_changes_nothing() {
    let tried = limited(|options| options, |_, _| (51, Err(Explosive.into())));
    tried.publish(0..3);
    let account = tried.account();
    assert_eq!((account.late, account.failures_of(FailureKind::TimedOut), account.failures()), (3, 3, 3));
    assert_eq!(letters(&tried).len(), 3);
}

#[test]
fn error_callbacks_are_told_of_a_late_call_once_and_outside_of_its_limit() {
    let (sender, told) = channel();
    let time = Slow::default();
    let moved = time.clone();
    let tried = limited(
        |options| {
            options.on_error(move |message, failed| {
                moved.get().expect("it is there").advance(LIMIT * 10);
                let text = failed.error.map(ToString::to_string);
                let _ = sender.send((failed.kind, message.deadline(), text));
            })
        },
        |number, _| match number {
            0 => (60, Ok(())),
            _ => (1, error("no")),
        },
    );
    assert!(time.set(tried.time()).is_ok());
    tried.publish(0..2);
    let told: Vec<_> = told.try_iter().collect();
    let text =
        "the call took 60ms, over its time limit of 50ms; it returned well, which is discarded".to_owned();
    let expected =
        [(FailureKind::TimedOut, None, Some(text)), (FailureKind::Handler, None, Some("no".to_owned()))];
    assert_eq!(told, expected);
    assert_eq!(tried.account().late, 1, "what the callback takes does not count");
}

#[test]
fn a_call_is_told_its_deadline_and_when_that_has_passed() {
    let mut simulation = Broker::of::<u64>().simulate().expect("valid");
    let (broker, time) = (simulation.broker(), simulation.time());
    let (sender, seen) = channel();
    let look = move |message: &ringmain::message::Message<'_, u64>| {
        let deadline = message.deadline().map(Timestamp::as_nanos);
        let before = message.is_cancelled();
        time.advance(LIMIT);
        let at = message.is_cancelled();
        time.advance(Duration::from_nanos(1));
        // Others may look, too.
        let after = std::thread::scope(|scope| scope.spawn(|| message.is_cancelled()).join());
        let _ = sender.send((deadline, [before, at, after.expect("no panic")]));
    };
    let limited = broker.subscription().pattern("a").time_limit(LIMIT).retry(retry(2));
    let limited = limited.subscribe(look.clone()).expect("valid");
    let unlimited = broker.subscription().pattern("b").subscribe(look).expect("valid");
    let publish = |topic: &str| _ = broker.publisher(topic).expect("a topic").publish(1).expect("room");
    let limit = LIMIT.as_nanos() as u64;
    publish("a");
    simulation.run();
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [(Some(limit), [false, false, true])]);
    // The same of one that has waited: its second attempt, and after a pause.
    simulation.advance(Duration::from_secs(1));
    assert_eq!(
        seen.try_iter().collect::<Vec<_>>(),
        [(Some(2 * limit + 1 + 100_000_000), [false, false, true])]
    );
    limited.pause().expect("no child");
    publish("a");
    let begun = simulation.clock().now().as_nanos();
    simulation.run();
    limited.resume();
    simulation.run();
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [(Some(begun + limit), [false, false, true])]);
    publish("b");
    simulation.run();
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [(None, [false; 3])]);
    drop((limited, unlimited));
    assert!(simulation.shutdown().ledger.is_balanced());
}

#[test]
fn a_fallback_has_no_limit() {
    let time = Slow::default();
    let moved = time.clone();
    let tried = limited(
        |options| {
            let options = options.breaker(Breaker::consecutive(1).while_open(WhileOpen::Refuse));
            options.fallback(move |message| {
                moved.get().expect("it is there").advance(LIMIT * 2);
                assert_eq!(message.deadline(), None);
            })
        },
        |_, _| (51, Ok(())),
    );
    assert!(time.set(tried.time()).is_ok());
    tried.publish(0..3);
    assert_eq!((tried.account().late, tried.account().delivered()), (1, 2));
}

#[test]
fn limits_that_cannot_be_are_refused_with_what_to_do() {
    let broker = Broker::of::<u64>().build().expect("valid");
    let subscribe = |limit| broker.subscription().pattern("a").time_limit(limit).subscribe(|_| ()).map(drop);
    let day = Duration::from_secs(86_400);
    for limit in [Duration::ZERO, Duration::from_nanos(999), day + Duration::from_nanos(1), Duration::MAX] {
        let error = subscribe(limit).expect_err("no such limit");
        assert!(matches!(error, SubscribeError::TimeLimit { limit: refused, .. } if refused == limit));
        let text = error.to_string();
        for part in [&*format!("{limit:?}"), "1µs to 86400s", "leave it out"] {
            assert!(text.contains(part), "{text}");
        }
    }
    for limit in [Duration::from_micros(1), day] {
        subscribe(limit).expect("such a limit can be");
    }
}

#[test]
fn with_a_token_the_shorter_limit_holds_until_the_message_is_settled() {
    let second = Duration::from_secs(1);
    for (time_limit, own, expected) in [(10, 30, 10), (30, 10, 10)] {
        let mut simulation = Broker::of::<u64>().simulate().expect("valid");
        let broker = simulation.broker();
        let (sender, tokens) = channel::<Token<u64>>();
        let terms = Acknowledgement::within(second * own).in_flight(4);
        let subscription = broker.subscription().pattern("a").time_limit(second * time_limit);
        let _subscription = subscription
            .subscribe_with_tokens(terms, move |token| _ = sender.send(token))
            .expect("both go together");
        let mut publisher = broker.publisher("a").expect("a topic");
        for number in 0..3 {
            let _ = publisher.publish(number).expect("room");
        }
        simulation.run();
        let [in_time, extended, late] = [0; 3].map(|_| tokens.try_recv().expect("handed out"));
        let at = |seconds: u32| Some(Timestamp::from_nanos((second * seconds).as_nanos() as u64));
        assert_eq!(late.deadline(), at(expected));
        simulation.advance(second * (expected - 1));
        assert!(!late.is_cancelled());
        extended.extend().expect("in time");
        in_time.ack().expect("in time");
        simulation.advance(second);
        assert!(late.is_cancelled() && late.deadline().is_none());
        assert_eq!((extended.deadline(), extended.is_cancelled()), (at(2 * expected - 1), false));
        assert_eq!(late.ack(), Err(TokenError::TooLate));
        extended.ack().expect("it was extended");
        simulation.run();
        let account = broker.audit().total();
        assert_eq!((account.delivered(), account.late), (2, 1));
        assert_eq!(account.failures_of(FailureKind::TimedOut), 1);
        assert!(simulation.shutdown().ledger.is_balanced());
    }
}

/// What each attempt at each message takes, in milliseconds, and whether it returns well.
type Plan = Vec<Vec<(u32, bool)>>;

#[test]
fn whatever_calls_take_each_message_ends_as_its_first_attempt_in_time_that_went_well() {
    const ATTEMPTS: u16 = 3;
    let mut random = Random::new();
    for _ in 0..200 {
        let messages = 1 + random.below(20);
        let plan: Plan = (0..messages)
            .map(|_| (0..ATTEMPTS).map(|_| (random.below(101) as u32, random.below(2) == 0)).collect())
            .collect();
        let is_ordered = random.below(2) == 0;
        let policy = if is_ordered { retry(ATTEMPTS).in_order() } else { retry(ATTEMPTS) };
        let followed = Arc::new(plan.clone());
        let tried = limited(
            |options| options.retry(policy),
            move |number, attempt| {
                let (takes, is_well) = followed[number as usize][usize::from(attempt) - 1];
                (takes, if is_well { Ok(()) } else { error("no") })
            },
        );
        tried.publish(0..messages);
        tried.advance(Duration::from_secs(3_600));

        let (mut delivered, mut dead, mut late, mut failed) = (0, 0, 0, 0);
        let mut texts = Vec::new();
        for attempts in &plan {
            let goes_well = |&(takes, is_well): &(u32, bool)| takes <= 50 && is_well;
            let needed = attempts.iter().position(goes_well);
            delivered += u64::from(needed.is_some());
            dead += u64::from(needed.is_none());
            let failures = &attempts[..needed.unwrap_or(attempts.len())];
            let late_calls = failures.iter().filter(|(takes, _)| *takes > 50).count() as u64;
            late += late_calls;
            failed += failures.len() as u64 - late_calls;
            if needed.is_none() {
                let took =
                    |&(takes, _): &(u32, bool)| (takes > 50).then(|| format!("the call took {takes}ms,"));
                texts.push(failures.iter().map(took).collect::<Vec<_>>());
            }
        }
        let account = tried.account();
        let counted = (account.delivered(), account.count(Term::DeadLettered), account.late);
        assert_eq!(counted, (delivered, dead, late), "{plan:?}");
        assert_eq!(account.failures_of(FailureKind::TimedOut), late);
        assert_eq!(account.failures_of(FailureKind::Handler), failed);
        let mut letters = letters(&tried);
        letters.sort_by_key(|letter| letter.message.payload);
        for (letter, expected) in letters.iter().zip(texts) {
            for (attempt, text) in letter.attempts.iter().zip(expected) {
                let is_late = text.is_some();
                assert_eq!(attempt.kind == FailureKind::TimedOut, is_late);
                let starts = attempt.error.as_deref().expect("each has one");
                assert!(text.is_none_or(|text| starts.starts_with(&text)), "{starts}");
            }
        }
        let _report = tried.shut_down();
    }
}

#[test]
fn a_broker_without_a_limit_counts_nothing_late() {
    let calls = Arc::new(Mutex::new(0));
    let (time, counted) = (Slow::default(), calls.clone());
    let moved = time.clone();
    let tried = Tried::new(
        |options| options,
        move |_, _| {
            *counted.lock().expect("no panic") += 1;
            moved.get().expect("it is there").advance(Duration::from_secs(3_600));
            Ok::<_, HandlerError>(())
        },
    );
    assert!(time.set(tried.time()).is_ok());
    tried.publish(0..3);
    assert_eq!(
        (tried.account().delivered(), tried.account().late, *calls.lock().expect("no panic")),
        (3, 0, 3)
    );
}
