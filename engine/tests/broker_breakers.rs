//! Breakers: when a handler is left alone, what becomes of its messages meanwhile, and how it is tried again.

mod broker_support;

use broker_support::panic_quietly;
use broker_support::tried::{MILLISECOND, Tried};
use ringmain::broker::{
    Backlog, Breaker, BreakerState, Broker, FailureKind, HandlerError, Jitter, Permanent, Retry,
    SubscribeError, Term, WhileOpen,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Opens at five failures in a row, for a second, then two, and so on; three probes close it.
fn breaker() -> Breaker {
    Breaker::consecutive(5).open_for(SECOND..=SECOND * 60).exact().probes(3)
}

/// A handler that fails as long as it is told to.
fn sick(is_sick: &Arc<AtomicBool>) -> impl FnMut(u64, u16) -> Result<(), &'static str> + Send + 'static {
    let is_sick = is_sick.clone();
    move |_, _| if is_sick.load(Ordering::Relaxed) { Err("it is sick") } else { Ok(()) }
}

fn state(tried: &Tried) -> Option<BreakerState> {
    tried.subscription.status().breaker
}

#[test]
fn it_opens_at_five_probes_after_a_second_and_closes_when_the_handler_is_mended() {
    let is_sick = Arc::new(AtomicBool::new(true));
    let tried = Tried::new(|options| options.breaker(breaker()).backlog(Backlog::new(1_000)), sick(&is_sick));
    tried.publish(0..1_000);
    assert_eq!((tried.calls().len(), state(&tried)), (5, Some(BreakerState::Open)));
    assert_eq!(tried.account().count(Term::Backlogged), 995);
    tried.advance(MILLISECOND * 999);
    assert_eq!(tried.calls(), []);
    tried.advance(MILLISECOND);
    assert_eq!((tried.calls().len(), state(&tried)), (1, Some(BreakerState::Open)));
    is_sick.store(false, Ordering::Relaxed);
    tried.advance(SECOND);
    assert_eq!(tried.calls(), [], "it is open for twice as long");
    tried.advance(SECOND);
    let numbers: Vec<_> = tried.calls().iter().map(|call| call.number).collect();
    assert_eq!(numbers, (6..1_000).collect::<Vec<_>>());
    let status = tried.subscription.status();
    assert_eq!((status.breaker, status.breaker_changes), (Some(BreakerState::Closed), 5));
    let account = tried.account();
    assert_eq!((account.delivered(), account.count(Term::Failed)), (994, 6));
    // What comes now is delivered as it comes.
    tried.publish([1_000]);
    assert_eq!((tried.calls().len(), tried.subscription.status().is_catching_up), (1, false));
    let _report = tried.shut_down();
}

#[test]
fn an_open_breaker_uses_up_no_attempt_and_the_due_retry_is_the_probe() {
    let retry = Retry::constant(MILLISECOND * 10).jitter(Jitter::None).attempts(3).in_order();
    let breaker = Breaker::consecutive(2).open_for(SECOND..=SECOND).exact();
    let fails = |_, _| Err::<(), _>("it fails");
    let tried = Tried::new(|options| options.retry(retry).breaker(breaker), fails);
    tried.publish([1]);
    for _ in 0..200 {
        tried.advance(MILLISECOND * 10);
    }
    let calls: Vec<_> = tried.calls().iter().map(|call| (call.at, call.attempt)).collect();
    assert_eq!(calls, [(0, 1), (10, 2), (1_010, 3)]);
    assert_eq!(tried.account().count(Term::Failed), 1);
}

#[test]
fn neither_a_pause_nor_the_breaker_lifts_the_other() {
    let is_sick = Arc::new(AtomicBool::new(true));
    let tried = Tried::new(|options| options.breaker(breaker()), sick(&is_sick));
    tried.publish(0..10);
    assert_eq!(tried.calls().len(), 5);
    is_sick.store(false, Ordering::Relaxed);
    tried.subscription.pause().expect("not forked");
    // Its time has passed, and it is paused.
    tried.advance(SECOND * 2);
    assert_eq!(tried.calls(), []);
    tried.subscription.resume();
    tried.run();
    assert!(tried.broker.audit().total().delivered() == 5);
    // It is open again, and resumed.
    is_sick.store(true, Ordering::Relaxed);
    tried.publish(10..20);
    assert_eq!(state(&tried), Some(BreakerState::Open));
    tried.calls();
    tried.subscription.pause().expect("not forked");
    tried.subscription.resume();
    tried.run();
    assert_eq!(tried.calls(), []);
    assert_eq!(tried.subscription.status().backlogged, 5);
}

#[test]
fn a_success_in_between_begins_the_count_anew_and_a_panic_counts_as_a_failure() {
    let tried = Tried::new(
        |options| options.breaker(breaker()),
        |number, _| -> Result<(), HandlerError> {
            match number {
                4 => Ok(()),
                number if number % 2 == 0 => panic_quietly(),
                _ => Err("it fails".into()),
            }
        },
    );
    tried.publish(0..9);
    assert_eq!((tried.calls().len(), state(&tried)), (9, Some(BreakerState::Closed)));
    tried.publish([9]);
    assert_eq!((tried.calls().len(), state(&tried)), (1, Some(BreakerState::Open)));
}

#[test]
fn a_filter_that_panics_counts_for_no_breaker() {
    let tried = Tried::new(
        |options| {
            options.breaker(breaker()).filter(|message| if **message < 8 { panic_quietly() } else { true })
        },
        |_, _| Ok::<_, HandlerError>(()),
    );
    tried.publish(0..10);
    assert_eq!((tried.calls().len(), state(&tried)), (2, Some(BreakerState::Closed)));
    assert_eq!(tried.account().count(Term::Failed), 8);
}

#[test]
fn an_open_breaker_that_refuses_does_so_at_once_and_lets_one_probe_through() {
    let is_sick = Arc::new(AtomicBool::new(true));
    let breaker = breaker().while_open(WhileOpen::Refuse);
    let tried = Tried::new(|options| options.breaker(breaker), sick(&is_sick));
    tried.publish(0..10);
    let account = tried.account();
    assert_eq!((account.count(Term::Failed), account.failures_of(FailureKind::Refused)), (10, 5));
    assert_eq!((tried.calls().len(), tried.subscription.status().backlogged), (5, 0));
    tried.advance(SECOND);
    tried.publish(10..12);
    assert_eq!(tried.calls().len(), 1, "one probe, which fails");
    is_sick.store(false, Ordering::Relaxed);
    tried.advance(SECOND * 2);
    tried.publish(12..20);
    assert_eq!((tried.calls().len(), state(&tried)), (8, Some(BreakerState::Closed)));
    let account = tried.account();
    assert_eq!((account.delivered(), account.failures_of(FailureKind::Refused)), (8, 6));
    // The engine counts what handlers have failed, and these were never called.
    let errors = tried.broker.metrics().get("messaging.broker.errors");
    assert_eq!(errors, Some(6.0));
}

#[test]
fn it_opens_at_a_rate_and_if_no_call_has_ever_gone_well() {
    let breaker = Breaker::rate(0.5, 10).at_least(4).open_for(SECOND..=SECOND).exact();
    let half = |number: u64, _| if number.is_multiple_of(2) { Err("it fails") } else { Ok(()) };
    let tried = Tried::new(|options| options.breaker(breaker.clone()), half);
    tried.publish(0..10);
    assert_eq!((tried.calls().len(), state(&tried)), (4, Some(BreakerState::Open)));
    let tried = Tried::new(|options| options.breaker(breaker), |_, _| Err::<(), _>("never"));
    tried.publish(0..10);
    assert_eq!((tried.calls().len(), state(&tried)), (4, Some(BreakerState::Open)));
}

#[test]
fn slow_calls_open_it_by_the_brokers_clock() {
    let time = Arc::new(std::sync::Mutex::new(None::<ringmain::clock::VirtualTime>));
    let moved = time.clone();
    let breaker = breaker().slow_calls(MILLISECOND * 10);
    let tried = Tried::new(
        |options| options.breaker(breaker),
        move |number, _| {
            if let Some(time) = &*moved.lock().expect("no panic") {
                time.advance(if number < 5 { MILLISECOND * 10 } else { MILLISECOND * 11 });
            }
            Ok::<_, HandlerError>(())
        },
    );
    *time.lock().expect("no panic") = Some(tried.time());
    tried.publish(0..5);
    assert_eq!(state(&tried), Some(BreakerState::Closed));
    tried.publish(5..20);
    assert_eq!((tried.calls().len(), state(&tried)), (10, Some(BreakerState::Open)));
}

#[test]
fn it_can_be_opened_closed_and_reset_by_hand() {
    let is_sick = Arc::new(AtomicBool::new(true));
    let tried = Tried::new(|options| options.breaker(breaker()), sick(&is_sick));
    tried.subscription.open_breaker();
    tried.run();
    assert!(state(&tried) == Some(BreakerState::Open));
    tried.publish(0..3);
    tried.advance(SECOND * 3_600);
    assert_eq!((tried.calls(), tried.subscription.status().backlogged), (vec![], 3));
    tried.subscription.close_breaker();
    tried.run();
    assert!(tried.broker.audit().total().failures() == 3);
    tried.publish(3..20);
    assert_eq!((tried.calls().len(), state(&tried)), (20, Some(BreakerState::Closed)));
    tried.subscription.reset_breaker();
    tried.publish(20..40);
    assert_eq!((tried.calls().len(), state(&tried)), (5, Some(BreakerState::Open)));
    tried.subscription.reset_breaker();
    tried.run();
    assert!(tried.broker.audit().total().failures() == 30);
    assert_eq!(state(&tried), Some(BreakerState::Open));
}

#[test]
fn after_it_has_closed_others_come_between_what_has_waited() {
    // One, two, four and eight of a turn: beside a backlog that is long, the others of the consumer are not held up.
    let is_sick = Arc::new(AtomicBool::new(true));
    let tried = Tried::new(|options| options.breaker(breaker().probes(1)), sick(&is_sick));
    let order: Arc<std::sync::Mutex<Vec<u64>>> = Arc::default();
    tried.publish(0..500);
    is_sick.store(false, Ordering::Relaxed);
    let seen = order.clone();
    let delivered = Arc::new(AtomicU64::new(0));
    let counted = delivered.clone();
    let other = tried.broker.subscribe("b", move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        seen.lock().expect("no panic").push(0);
    });
    let _other = other.expect("valid");
    tried.advance(SECOND);
    let _ = tried.broker.publisher("b").expect("a topic").publish(0).expect("room");
    tried.run();
    assert_eq!((delivered.load(Ordering::Relaxed), tried.account().delivered()), (1, 496));
}

#[test]
fn what_an_open_breaker_holds_back_is_handed_back_when_the_broker_shuts_down() {
    let is_sick = Arc::new(AtomicBool::new(true));
    let tried = Tried::new(|options| options.breaker(breaker()), sick(&is_sick));
    tried.publish(0..10);
    assert_eq!(tried.calls().len(), 5);
    let report = tried.shut_down();
    let back: Vec<_> = report.undelivered.iter().map(|one| one.message.payload).collect();
    assert_eq!(back, (5..10).collect::<Vec<_>>());
}

#[test]
fn a_breaker_that_cannot_work_is_refused_with_the_reason() {
    let broker: Broker<u64> = Broker::of().build().expect("valid options");
    let subscription = broker.subscription().pattern("a").breaker(Breaker::consecutive(0));
    let error = subscription.subscribe(|_| ()).map(drop).expect_err("it would never be closed");
    assert!(matches!(error, SubscribeError::Breaker { .. }), "{error:?}");
}

#[test]
fn an_open_breaker_refuses_also_while_retries_wait() {
    let retry = Retry::constant(MILLISECOND * 10).jitter(Jitter::None).attempts(4);
    let breaker = Breaker::consecutive(2).open_for(SECOND..=SECOND).exact().while_open(WhileOpen::Refuse);
    let fails = |_, _| Err::<(), _>("it fails");
    let tried = Tried::new(|options| options.retry(retry).breaker(breaker), fails);
    tried.publish(0..10);
    let status = tried.subscription.status();
    assert_eq!((status.retrying, status.backlogged, status.is_catching_up), (2, 0, false));
    assert_eq!(tried.account().failures_of(FailureKind::Refused), 8);
    tried.advance(MILLISECOND * 500);
    tried.publish(10..20);
    assert_eq!((tried.calls().len(), tried.account().failures_of(FailureKind::Refused)), (2, 18));
    // A due retry is the probe.
    tried.advance(MILLISECOND * 500);
    assert_eq!(tried.calls().len(), 1);
}

#[test]
fn errors_that_speak_of_the_message_open_no_breaker() {
    let breaker = Breaker::consecutive(2).exact();
    let tried = Tried::new(
        |options| options.breaker(breaker),
        |number, _| -> Result<(), HandlerError> {
            if number < 10 { Err(Permanent::new("no such account").into()) } else { Err("it fails".into()) }
        },
    );
    tried.publish(0..10);
    assert_eq!((tried.calls().len(), state(&tried)), (10, Some(BreakerState::Closed)));
    tried.publish(10..12);
    assert_eq!(state(&tried), Some(BreakerState::Open));
}

#[test]
fn a_probe_that_finds_nothing_to_deliver_is_given_back() {
    let retry = Retry::constant(SECOND * 3).jitter(Jitter::None).attempts(2);
    let breaker = Breaker::consecutive(2).open_for(SECOND..=SECOND * 60).exact().probes(1);
    let tried = Tried::new(
        |options| options.retry(retry).breaker(breaker),
        |number, _| {
            if number < 2 { Err("it fails") } else { Ok(()) }
        },
    );
    tried.publish([0, 1]);
    // The open time passes, and the retries are not due yet.
    tried.advance(MILLISECOND * 1_500);
    tried.calls();
    tried.publish([2]);
    let calls: Vec<_> = tried.calls().iter().map(|call| (call.number, call.at)).collect();
    assert_eq!((calls, state(&tried)), (vec![(2, 1_500)], Some(BreakerState::Closed)));
}

#[test]
fn while_it_is_open_another_handler_is_called_and_probes_are_the_handlers_own() {
    let is_sick = Arc::new(AtomicBool::new(true));
    let (sender, fallen_back) = std::sync::mpsc::channel();
    let options = |options: ringmain::broker::SubscriptionBuilder<u64>| {
        options.breaker(breaker().probes(1).while_open(WhileOpen::Pause)).fallback(move |message| {
            let _ = sender.send(**message);
            match **message {
                6 => panic_quietly(),
                7 => return Err("nothing in the cache"),
                _ => {}
            }
            Ok(())
        })
    };
    let tried = Tried::new(options, sick(&is_sick));
    tried.publish(0..10);
    assert_eq!((tried.calls().len(), fallen_back.try_iter().collect::<Vec<_>>()), (5, vec![5, 6, 7, 8, 9]));
    let account = tried.account();
    assert_eq!((account.delivered(), account.count(Term::Failed), account.failures()), (3, 7, 7));
    assert_eq!(account.failures_of(FailureKind::Refused), 0);
    is_sick.store(false, Ordering::Relaxed);
    tried.advance(SECOND);
    tried.publish([10, 11]);
    assert_eq!((tried.calls().len(), state(&tried)), (2, Some(BreakerState::Closed)));
    assert_eq!(fallen_back.try_iter().count(), 0);
    let _report = tried.shut_down();
}

#[test]
fn a_fallback_without_a_breaker_is_refused() {
    let broker = Broker::of::<u64>().build().expect("valid");
    let refused = broker.subscription().pattern("a").fallback(|_| ()).subscribe(|_| ());
    assert!(matches!(refused, Err(SubscribeError::FallbackWithoutBreaker)));
}
