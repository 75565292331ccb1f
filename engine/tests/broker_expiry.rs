//! Expiry: messages that expire where they wait, who is told, and what becomes of them.

mod broker_support;

use broker_support::panic_quietly;
use broker_support::tried::{MILLISECOND, Tried, with_store};
use ringmain::broker::dead_letters::Selection;
use ringmain::broker::{
    Backlog, Breaker, Broker, FailureKind, Jitter, PublishOptions, Retry, SubscribeError,
    SubscriptionBuilder, Term, WhenFull, WhileOpen,
};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

type Options = SubscriptionBuilder<u64>;

/// Publishes numbers that expire after so long.
fn publish_brief(tried: &Tried, life: Duration, numbers: impl IntoIterator<Item = u64>) {
    let options = PublishOptions::new().expires_after(life);
    let mut publisher = tried.broker.publisher("a").expect("a topic");
    for number in numbers {
        let _ = publisher.publish_with(number, &options).expect("room");
    }
    tried.run();
}

fn letters(tried: &Tried) -> Vec<(u64, FailureKind, usize)> {
    let letters = tried.broker.dead_letters().expect("it keeps them").query(&Selection::all());
    letters.iter().map(|letter| (letter.message.payload, letter.kind, letter.attempts.len())).collect()
}

/// Has numbers noted of messages that expire.
fn noting(options: Options) -> (Options, Receiver<u64>) {
    let (sender, expired) = channel();
    (options.on_expired(move |message| _ = sender.send(**message)), expired)
}

fn pause(tried: &Tried) {
    tried.subscription.pause().expect("no child");
    tried.run();
}

#[test]
fn what_waits_expires_at_its_moment_and_not_when_somebody_looks() {
    let mut expired = None;
    let options = |options| {
        let (options, receiver) = noting(options);
        expired = Some(receiver);
        options
    };
    let tried = Tried::new(options, |_, _| Ok::<_, &str>(()));
    let expired = expired.expect("it was told");
    pause(&tried);
    publish_brief(&tried, SECOND * 2, [1]);
    publish_brief(&tried, SECOND, [2, 3]);
    tried.publish([4]);
    tried.advance(MILLISECOND * 999);
    assert_eq!((tried.account().count(Term::Expired), tried.account().count(Term::Backlogged)), (0, 4));
    tried.advance(MILLISECOND);
    assert_eq!((tried.account().count(Term::Expired), tried.account().count(Term::Backlogged)), (2, 2));
    tried.advance(SECOND);
    assert_eq!(expired.try_iter().collect::<Vec<_>>(), [2, 3, 1]);
    tried.subscription.resume();
    tried.run();
    assert_eq!(tried.calls().iter().map(|call| call.number).collect::<Vec<_>>(), [4]);
    let _report = tried.shut_down();
}

#[test]
fn behind_an_open_breaker_and_while_it_waits_for_another_attempt_too() {
    let breaker = Breaker::consecutive(1).open_for(SECOND * 60..=SECOND * 60).exact();
    let tried = Tried::new(|options| options.breaker(breaker), |_, _| Err::<(), _>("sick"));
    publish_brief(&tried, SECOND, [1, 2]);
    tried.advance(SECOND);
    let account = tried.account();
    assert_eq!((account.count(Term::Failed), account.count(Term::Expired)), (1, 1));
    let _report = tried.shut_down();
    for is_ordered in [false, true] {
        let retry = Retry::constant(SECOND * 60).jitter(Jitter::None).attempts(3).at_most_waiting(2);
        let retry = if is_ordered { retry.in_order() } else { retry };
        let tried = Tried::new(|options| options.retry(retry), |_, _| Err::<(), _>("sick"));
        publish_brief(&tried, SECOND, [1, 2]);
        assert_eq!(tried.calls().len(), if is_ordered { 1 } else { 2 });
        tried.advance(SECOND);
        let account = tried.account();
        assert_eq!(
            (account.count(Term::Expired), account.count(Term::Retrying)),
            (2, 0),
            "ordered: {is_ordered}"
        );
        // They have left their places to others.
        tried.publish([3]);
        assert_eq!((tried.calls().len(), tried.account().count(Term::Retrying)), (1, 1));
        let _report = tried.shut_down();
    }
}

#[test]
fn behind_a_breaker_that_refuses_nothing_waits_for_what_has_expired() {
    let breaker = Breaker::consecutive(1).open_for(SECOND * 60..=SECOND * 60).exact();
    let options = |options: Options| options.breaker(breaker.while_open(WhileOpen::Refuse));
    let tried = Tried::new(options, |_, _| Err::<(), _>("sick"));
    pause(&tried);
    publish_brief(&tried, SECOND, [1, 2]);
    tried.subscription.resume();
    tried.run();
    assert_eq!(tried.account().count(Term::Backlogged), 1, "the breaker has opened before it");
    tried.advance(SECOND);
    tried.publish([3]);
    let account = tried.account();
    assert_eq!((account.count(Term::Expired), account.count(Term::Backlogged)), (1, 0));
    assert_eq!(account.count(Term::Failed), 2, "the last one was refused");
    let _report = tried.shut_down();
}

#[test]
fn what_came_behind_one_that_has_expired_is_still_first_behind_a_breaker_that_refuses() {
    let breaker = Breaker::consecutive(1).open_for(SECOND * 2..=SECOND * 2).exact();
    let retry = Retry::constant(SECOND * 10).jitter(Jitter::None).in_order();
    let options = |options: Options| options.retry(retry).breaker(breaker.while_open(WhileOpen::Refuse));
    let tried = Tried::new(options, |number, _| if number == 1 { Err("sick") } else { Ok(()) });
    publish_brief(&tried, SECOND, [1]);
    tried.publish([2]);
    tried.advance(SECOND);
    tried.publish([3]);
    let account = tried.account();
    let counts = [Term::Expired, Term::Backlogged, Term::Failed].map(|term| account.count(term));
    assert_eq!(counts, [1, 2, 0], "the head has gone, and the others wait in order");
    tried.advance(SECOND);
    assert_eq!(tried.calls().iter().map(|call| call.number).collect::<Vec<_>>(), [1, 2, 3]);
    let _report = tried.shut_down();
}

#[test]
fn what_expires_can_become_a_dead_letter_wherever_it_does() {
    let backlog = Backlog::new(2).when_full(WhenFull::DropNewest);
    let tried = Tried::on(
        with_store,
        |options| options.dead_letter_expired().backlog(backlog),
        |_, _| Ok::<_, &str>(()),
    );
    // When it arrives.
    publish_brief(&tried, Duration::ZERO, [1]);
    // Where it waits.
    pause(&tried);
    publish_brief(&tried, SECOND, [2]);
    tried.advance(SECOND);
    assert_eq!(letters(&tried), [(1, FailureKind::Expired, 0), (2, FailureKind::Expired, 0)]);
    let account = tried.account();
    assert_eq!((account.count(Term::DeadLettered), account.failures_of(FailureKind::Expired)), (2, 2));
    assert_eq!(
        (
            account.count(Term::Expired),
            tried.broker.metrics().get("messaging.broker.errors").unwrap_or(-1.0) as i64
        ),
        (0, 0),
        "no handler has failed"
    );
    let _report = tried.shut_down();
}

#[test]
fn a_message_that_was_tried_and_expires_keeps_its_attempts() {
    let retry = Retry::constant(SECOND * 60).jitter(Jitter::None).attempts(3);
    let options = |options: Options| options.dead_letter_expired().retry(retry);
    let tried = Tried::on(with_store, options, |_, _| Err::<(), _>("sick"));
    publish_brief(&tried, SECOND, [1]);
    tried.advance(SECOND);
    assert_eq!(letters(&tried), [(1, FailureKind::Expired, 1)]);
    let _report = tried.shut_down();
}

#[test]
fn a_full_backlog_lets_what_has_expired_go_first_and_tells_of_it() {
    for are_dead in [false, true] {
        let mut expired = None;
        let backlog = Backlog::new(3).when_full(WhenFull::DropNewest);
        let options = |options: Options| {
            let (options, receiver) = noting(options.backlog(backlog));
            expired = Some(receiver);
            if are_dead { options.dead_letter_expired() } else { options }
        };
        let tried = Tried::on(with_store, options, |_, _| Ok::<_, &str>(()));
        let expired = expired.expect("it was told");
        pause(&tried);
        publish_brief(&tried, SECOND, [1, 2]);
        tried.publish([3]);
        // Nobody has looked since: the clock was moved without a turn.
        tried.time().advance(SECOND);
        tried.publish([4, 5, 6]);
        let account = tried.account();
        assert_eq!((account.count(Term::Backlogged), account.count(Term::Overflow)), (3, 1));
        let (noted, dead) = (expired.try_iter().count(), letters(&tried).len());
        assert_eq!((noted, dead), if are_dead { (0, 2) } else { (2, 0) });
        let _report = tried.shut_down();
    }
}

#[test]
fn a_callback_that_panics_costs_nobody_anything() {
    let options = |options: Options| options.on_expired(|_| panic_quietly());
    let tried = Tried::new(options, |_, _| Ok::<_, &str>(()));
    publish_brief(&tried, Duration::ZERO, [1, 2]);
    pause(&tried);
    publish_brief(&tried, SECOND, [3]);
    tried.advance(SECOND);
    tried.subscription.resume();
    tried.publish([4]);
    assert_eq!((tried.account().count(Term::Expired), tried.account().delivered()), (3, 1));
    let _report = tried.shut_down();
}

#[test]
fn messages_that_expire_behind_one_that_does_not_leave_nothing_behind() {
    let tried = Tried::new(|options| options.backlog(Backlog::new(100)), |_, _| Ok::<_, &str>(()));
    pause(&tried);
    tried.publish([0]);
    for round in 0..1_000_u64 {
        publish_brief(&tried, MILLISECOND, (0..10).map(|number| round * 10 + number + 1));
        tried.advance(MILLISECOND);
    }
    tried.publish([10_001, 10_002]);
    let account = tried.account();
    assert_eq!((account.count(Term::Expired), account.count(Term::Backlogged)), (10_000, 3));
    tried.subscription.resume();
    tried.run();
    assert_eq!(tried.calls().iter().map(|call| call.number).collect::<Vec<_>>(), [0, 10_001, 10_002]);
    let _report = tried.shut_down();
}

#[test]
fn without_a_store_no_expired_message_can_become_a_dead_letter() {
    let broker = Broker::of::<u64>().build().expect("valid");
    let refused = broker.subscription().pattern("a").dead_letter_expired().subscribe(|_| ());
    assert!(matches!(refused, Err(SubscribeError::NoDeadLetters { option: "the expiry of messages" })));
}

#[test]
fn on_threads_what_waits_expires_without_anybody_publishing() {
    let broker = Broker::of::<u64>().build().expect("valid");
    let (options, expired) = noting(broker.subscription().pattern("a"));
    let subscription = options.subscribe(|_| ()).expect("valid");
    subscription.pause().expect("no child");
    let brief = PublishOptions::new().expires_after(MILLISECOND * 20);
    let _ = broker.publisher("a").expect("a topic").publish_with(7, &brief).expect("room");
    assert_eq!(expired.recv_timeout(SECOND * 30), Ok(7));
    let report = broker.shutdown(SECOND * 30).expect("no closure");
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    assert_eq!(report.ledger.total().count(Term::Expired), 1);
}
