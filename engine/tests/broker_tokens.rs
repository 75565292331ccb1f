//! Tokens: messages that handlers keep, how they are settled, and what becomes of those that are not.

mod broker_support;

use broker_support::panic_quietly;
use broker_support::tried::retry;
use ringmain::broker::dead_letters::{DeadLetterOptions, Replay, Selection};
use ringmain::broker::simulation::Simulation;
use ringmain::broker::{
    Acknowledgement, Backlog, Breaker, BreakerState, Broker, DrainError, FailureKind, Idempotency, Permanent,
    SubscribeError, Subscription, SubscriptionBuilder, SubscriptionLedger, Term, Token, TokenError, key,
};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_secs(30);

/// A simulated broker whose subscription keeps its messages.
struct Kept {
    simulation: Simulation<u64>,
    broker: Broker<u64>,
    subscription: Option<Subscription<u64>>,
    tokens: Receiver<Token<u64>>,
    kept: VecDeque<Token<u64>>,
    calls: Vec<(u64, u16)>,
}

impl Kept {
    fn new(
        terms: Acknowledgement,
        options: impl FnOnce(SubscriptionBuilder<u64>) -> SubscriptionBuilder<u64>,
    ) -> Self {
        let simulation = Broker::of().dead_letters(DeadLetterOptions::new()).simulate().expect("valid");
        let broker = simulation.broker();
        let (sender, tokens) = channel();
        let subscription = options(broker.subscription().name("kept").pattern("a"));
        let subscription = subscription.subscribe_with_tokens(terms, move |token| {
            let _ = sender.send(token);
        });
        let subscription = Some(subscription.expect("valid"));
        Self { simulation, broker, subscription, tokens, kept: VecDeque::new(), calls: Vec::new() }
    }

    fn publish(&mut self, numbers: impl IntoIterator<Item = u64>) {
        let mut publisher = self.broker.publisher("a").expect("a topic");
        for number in numbers {
            let _ = publisher.publish(number).expect("room");
        }
        self.run();
    }

    fn run(&mut self) {
        self.simulation.run();
        self.note();
    }

    fn advance(&mut self, by: Duration) {
        self.simulation.advance(by);
        self.note();
    }

    fn note(&mut self) {
        for token in self.tokens.try_iter() {
            self.calls.push((*token.message(), token.message().attempt()));
            self.kept.push_back(token);
        }
    }

    /// The calls since the last look.
    fn calls(&mut self) -> Vec<(u64, u16)> {
        std::mem::take(&mut self.calls)
    }

    fn oldest(&mut self) -> Token<u64> {
        self.kept.pop_front().expect("there is one")
    }

    fn account(&self) -> SubscriptionLedger {
        let ledger = self.broker.audit();
        assert!(ledger.is_balanced(), "{ledger}");
        ledger.total()
    }

    fn letters(&self) -> usize {
        self.broker.dead_letters().expect("it keeps them").count(&Selection::all())
    }

    fn shut_down(self) -> ringmain::broker::ShutdownReport<u64> {
        let report = self.simulation.shutdown();
        assert!(report.ledger.is_balanced(), "{}", report.ledger);
        report
    }
}

fn within(limit: Duration) -> Acknowledgement {
    Acknowledgement::within(limit)
}

#[test]
fn four_in_flight_the_others_wait_and_each_that_is_settled_makes_room() {
    let mut kept = Kept::new(within(SECOND * 30).in_flight(4), |options| options);
    kept.publish(0..100);
    assert_eq!((kept.calls().len(), kept.account().count(Term::Backlogged)), (4, 96));
    assert_eq!(kept.account().count(Term::InFlight), 4);
    let status = kept.subscription.as_ref().expect("not ended").status();
    assert_eq!((status.in_flight, status.backlogged, status.is_catching_up), (4, 96, false));
    kept.oldest().ack().expect("in time");
    kept.run();
    assert_eq!((kept.calls().len(), kept.account().delivered()), (1, 1));
    drop(kept.oldest());
    kept.run();
    assert_eq!((kept.calls().len(), kept.letters()), (1, 1));
    assert_eq!(kept.account().failures_of(FailureKind::Cancelled), 1);
    let late = kept.oldest();
    kept.advance(SECOND * 30);
    assert_eq!(kept.account().failures_of(FailureKind::TimedOut), 4);
    assert_eq!(late.ack(), Err(TokenError::TooLate));
    assert_eq!(kept.account().late, 1);
    let report = kept.shut_down();
    assert_eq!(report.in_doubt.len(), 4);
}

#[test]
fn a_token_that_learns_twice_that_it_is_too_late_is_counted_as_late_once() {
    let mut kept = Kept::new(within(SECOND), |options| options);
    kept.publish([7]);
    let late = kept.oldest();
    kept.advance(SECOND);
    assert_eq!(late.extend(), Err(TokenError::TooLate));
    assert_eq!(late.ack(), Err(TokenError::TooLate));
    assert_eq!(kept.account().late, 1);
    let _report = kept.shut_down();
}

#[test]
fn what_is_not_settled_in_time_is_tried_again_and_its_token_comes_too_late() {
    let mut kept = Kept::new(within(SECOND), |options| options.retry(retry(2)));
    kept.publish([7]);
    let first = kept.oldest();
    kept.advance(MILLISECOND * 999);
    assert_eq!(kept.account().failures(), 0);
    kept.advance(MILLISECOND);
    assert_eq!(kept.account().failures_of(FailureKind::TimedOut), 1);
    kept.advance(MILLISECOND * 100);
    assert_eq!(kept.calls(), [(7, 1), (7, 2)]);
    assert_eq!(first.fail("it is too late for that as well"), Err(TokenError::TooLate));
    kept.oldest().ack().expect("in time");
    kept.run();
    let account = kept.account();
    assert_eq!((account.delivered(), account.late, account.retries), (1, 1, 1));
    let _report = kept.shut_down();
}

#[test]
fn a_limit_can_be_extended_until_it_has_passed() {
    let mut kept = Kept::new(within(SECOND), |options| options);
    kept.publish([7]);
    for _ in 0..5 {
        kept.advance(MILLISECOND * 900);
        kept.kept[0].extend().expect("in time");
    }
    kept.advance(MILLISECOND * 999);
    assert_eq!(kept.account().failures(), 0);
    kept.advance(MILLISECOND);
    assert_eq!(kept.kept[0].extend(), Err(TokenError::TooLate));
    assert_eq!(kept.account().failures_of(FailureKind::TimedOut), 1);
    let _report = kept.shut_down();
}

#[test]
fn what_fails_is_tried_again_as_its_policy_and_its_token_say() {
    let mut kept = Kept::new(within(SECOND * 10), |options| options.retry(retry(3)));
    kept.publish([7]);
    kept.oldest().fail("not yet").expect("in time");
    kept.advance(MILLISECOND * 100);
    kept.oldest().retry_after(SECOND, "in a second").expect("in time");
    kept.advance(MILLISECOND * 999);
    assert_eq!(kept.calls(), [(7, 1), (7, 2)]);
    kept.advance(MILLISECOND);
    assert_eq!(kept.calls(), [(7, 3)]);
    kept.oldest().fail("it was the last").expect("in time");
    kept.run();
    assert_eq!((kept.account().failures(), kept.letters()), (3, 1));
    let letters = kept.broker.dead_letters().expect("it keeps them").query(&Selection::all());
    let texts: Vec<_> = letters[0].attempts.iter().map(|attempt| attempt.error.as_deref()).collect();
    assert_eq!(texts, [Some("not yet"), Some("in a second"), Some("it was the last")]);
    kept.publish([8]);
    kept.oldest().fail(Permanent::new("it is of no use")).expect("in time");
    kept.run();
    assert_eq!((kept.account().retries, kept.letters()), (2, 2));
    let _report = kept.shut_down();
}

#[test]
fn a_replayed_letter_is_handed_out_and_goes_when_it_is_settled() {
    let mut kept = Kept::new(within(SECOND * 10), |options| options);
    kept.publish([7]);
    kept.oldest().fail("at first").expect("in time");
    kept.run();
    let letters = kept.broker.dead_letters().expect("it keeps them");
    let _replaying = letters.replay(&Selection::all(), Replay::to_subscription()).expect("it is there");
    kept.run();
    assert_eq!((kept.calls(), letters.count(&Selection::all())), (vec![(7, 1), (7, 1)], 1));
    kept.oldest().ack().expect("in time");
    kept.run();
    assert_eq!((kept.account().delivered(), letters.count(&Selection::all())), (1, 0));
    // One that is in doubt stays in the store.
    kept.publish([8]);
    kept.oldest().fail("at first").expect("in time");
    kept.run();
    let _replaying = letters.replay(&Selection::all(), Replay::to_subscription()).expect("it is there");
    kept.run();
    let report = kept.shut_down();
    assert_eq!((report.in_doubt.len(), letters.count(&Selection::all())), (1, 1));
    assert!(report.undelivered.is_empty());
}

#[test]
fn a_handler_that_panics_with_its_token_has_failed_and_without_it_has_settled_nothing() {
    let simulation = Broker::of().simulate().expect("valid");
    let broker = simulation.broker();
    let (sender, tokens) = channel();
    let (told, failures) = channel();
    let subscription = broker.subscription().pattern("a").on_error(move |message, failed| {
        let _ = told.send((**message, failed.kind));
    });
    let _subscription = subscription
        .subscribe_with_tokens(within(SECOND).in_flight(10), move |token: Token<u64>| {
            if token.message().is_multiple_of(2) {
                let _ = sender.send(token);
            }
            panic_quietly();
        })
        .expect("valid");
    let mut simulation = simulation;
    for number in 0..4 {
        let _ = broker.publisher("a").expect("a topic").publish(number).expect("room");
    }
    simulation.run();
    tokens.try_iter().for_each(|token| token.ack().expect("in time"));
    simulation.run();
    let account = broker.audit().total();
    assert_eq!((account.delivered(), account.failures_of(FailureKind::Panic)), (2, 2));
    assert_eq!(failures.try_iter().collect::<Vec<_>>(), [(1, FailureKind::Panic), (3, FailureKind::Panic)]);
    let report = simulation.shutdown();
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
}

#[test]
fn when_the_subscription_ends_its_tokens_are_told_and_their_messages_are_in_doubt() {
    let mut kept = Kept::new(within(SECOND).in_flight(2), |options| options);
    kept.publish(0..5);
    let (acknowledged, other) = (kept.oldest(), kept.oldest());
    // It comes back before the end of the subscription is read.
    acknowledged.ack().expect("in time");
    drop(kept.subscription.take());
    kept.run();
    assert_eq!(other.ack(), Err(TokenError::Ended));
    let account = kept.account();
    assert_eq!((account.delivered(), account.count(Term::InDoubt), account.late), (1, 1, 0));
    assert_eq!(account.count(Term::Unsubscribed), 3);
    let _report = kept.shut_down();
}

#[test]
fn neither_a_pause_nor_a_full_flight_lifts_the_other() {
    let mut kept = Kept::new(within(SECOND), |options| options);
    kept.publish(0..3);
    let subscription = kept.subscription.take().expect("not ended");
    subscription.pause().expect("no child");
    kept.run();
    kept.oldest().ack().expect("in time");
    kept.run();
    assert_eq!((kept.calls().len(), kept.account().delivered()), (1, 1), "settled, and no call begins");
    subscription.resume();
    kept.run();
    assert_eq!(kept.calls(), [(1, 1)]);
    subscription.pause().expect("no child");
    subscription.resume();
    kept.run();
    assert_eq!(kept.calls(), [], "one is in flight");
    let _report = kept.shut_down();
}

#[test]
fn in_order_the_others_wait_while_a_message_is_in_flight_and_while_it_waits() {
    let mut kept = Kept::new(within(SECOND), |options| options.retry(retry(3).in_order()));
    kept.publish(0..3);
    kept.oldest().fail("not yet").expect("in time");
    kept.advance(MILLISECOND * 100);
    kept.oldest().ack().expect("in time");
    kept.run();
    kept.oldest().ack().expect("in time");
    kept.run();
    kept.oldest().ack().expect("in time");
    kept.run();
    assert_eq!(kept.calls(), [(0, 1), (0, 2), (1, 1), (2, 1)]);
    let _report = kept.shut_down();
}

#[test]
fn a_breaker_hears_of_each_when_it_is_settled_and_a_probe_that_does_not_come_back_is_over_at_its_limit() {
    let breaker = Breaker::consecutive(2).open_for(SECOND..=SECOND * 60).exact().probes(1);
    let mut kept = Kept::new(within(SECOND * 5).in_flight(4), |options| options.breaker(breaker));
    let state = |kept: &Kept| kept.subscription.as_ref().expect("not ended").status().breaker;
    kept.publish(0..6);
    assert_eq!((kept.calls().len(), state(&kept)), (4, Some(BreakerState::Closed)));
    drop(kept.oldest());
    kept.oldest().fail("sick").expect("in time");
    kept.run();
    assert_eq!(state(&kept), Some(BreakerState::Open));
    kept.oldest().ack().expect("in time");
    kept.run();
    assert_eq!(state(&kept), Some(BreakerState::Open), "what began before changes nothing");
    kept.advance(SECOND);
    assert_eq!((kept.calls(), state(&kept)), (vec![(4, 1)], Some(BreakerState::HalfOpen)));
    // Another takes the place of one that is out for longer than the breaker was open.
    kept.advance(SECOND * 2);
    assert_eq!(kept.calls(), [(5, 1)]);
    kept.advance(SECOND * 10);
    assert_eq!((kept.calls(), kept.account().failures_of(FailureKind::TimedOut)), (vec![], 3));
    let _report = kept.shut_down();
}

#[test]
fn what_fails_while_a_newer_value_waits_is_not_tried_again() {
    let by_last_digit = key::of(|message: &ringmain::message::Message<'_, u64>| Some(**message % 10));
    let mut kept = Kept::new(within(SECOND), |options| options.conflate(by_last_digit).retry(retry(5)));
    kept.publish([1]);
    kept.publish([11, 21]);
    kept.oldest().fail("not yet").expect("in time");
    kept.run();
    kept.oldest().ack().expect("in time");
    kept.advance(SECOND);
    assert_eq!(kept.calls(), [(1, 1), (21, 1)]);
    assert_eq!(kept.account().count(Term::Conflated), 2);
    let _report = kept.shut_down();
}

#[test]
fn a_newer_value_takes_the_places_of_all_that_were_kept_at_once_and_have_failed() {
    let mut kept =
        Kept::new(within(SECOND).in_flight(2), |options| options.retry(retry(2)).conflate(key::topic()));
    kept.publish([1]);
    kept.publish([2]);
    for _ in 0..2 {
        kept.oldest().fail("sick").expect("in time");
    }
    kept.run();
    // Of both that wait to be tried again, the older one is out of date.
    assert_eq!((kept.account().count(Term::Retrying), kept.account().count(Term::Conflated)), (1, 1));
    kept.publish([3]);
    assert_eq!((kept.account().count(Term::Retrying), kept.account().count(Term::Conflated)), (0, 2));
    kept.advance(SECOND / 2);
    assert_eq!(kept.calls(), [(1, 1), (2, 1), (3, 1)]);
    let _report = kept.shut_down();
}

#[test]
fn a_duplicate_of_what_is_in_flight_is_one() {
    let once = Idempotency::by(key::of(|message: &ringmain::message::Message<'_, u64>| Some(**message)));
    let mut kept = Kept::new(within(SECOND).in_flight(4), |options| options.idempotent(once));
    kept.publish([7, 7]);
    assert_eq!((kept.calls().len(), kept.account().count(Term::Duplicate)), (1, 1));
    kept.oldest().ack().expect("in time");
    kept.publish([7]);
    assert_eq!((kept.calls().len(), kept.account().count(Term::Duplicate)), (0, 2));
    let _report = kept.shut_down();
}

#[test]
fn of_two_chances_in_flight_the_one_that_fails_does_not_undo_that_the_other_was_handled() {
    // Without dead letters, a duplicate of what is in flight is its second chance.
    let mut simulation = Broker::of::<u64>().simulate().expect("valid");
    let broker = simulation.broker();
    let (sender, tokens) = channel();
    let once = Idempotency::by(key::of(|message: &ringmain::message::Message<'_, u64>| Some(**message)));
    let subscription = broker.subscription().name("kept").pattern("a").idempotent(once).retry(retry(3));
    let subscription = subscription.subscribe_with_tokens(within(SECOND).in_flight(4), move |token| {
        let _ = sender.send(token);
    });
    let subscription = subscription.expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    let _ = publisher.publish(7).expect("room");
    let _ = publisher.publish(7).expect("room");
    simulation.run();
    let two: [Token<u64>; 2] = tokens.try_iter().collect::<Vec<_>>().try_into().expect("two");
    let [first, second] = two;
    first.ack().expect("in time");
    second.fail("sick").expect("in time");
    simulation.run();
    let _ = publisher.publish(7).expect("room");
    simulation.advance(SECOND);
    assert!(tokens.try_iter().next().is_none(), "it has been handled");
    let audit = broker.audit();
    let account =
        audit.subscriptions.iter().find(|account| account.id == subscription.id()).expect("it is there");
    assert_eq!((account.delivered(), account.count(Term::Duplicate)), (1, 2));
}

#[test]
fn a_token_that_is_leaked_fails_at_its_limit_and_the_message_is_kept() {
    let mut kept = Kept::new(within(SECOND), |options| options.retry(retry(2)));
    kept.publish([7]);
    broker_support::leak(kept.oldest());
    kept.advance(SECOND * 2);
    broker_support::leak(kept.oldest());
    kept.advance(SECOND * 2);
    assert_eq!(kept.calls(), [(7, 1), (7, 2)]);
    let letters = kept.broker.dead_letters().expect("it keeps them").query(&Selection::all());
    assert_eq!((letters.len(), letters[0].message.payload, letters[0].attempts.len()), (1, 7, 2));
    let _report = kept.shut_down();
}

#[test]
fn terms_under_which_nothing_could_be_in_flight_are_refused_and_so_is_order_with_several() {
    let broker = Broker::of::<u64>().build().expect("valid");
    let subscribe = |terms, options: SubscriptionBuilder<u64>| {
        options.pattern("a").subscribe_with_tokens(terms, drop).map(|_| ())
    };
    for terms in [within(SECOND).in_flight(0), within(Duration::ZERO)] {
        let refused = subscribe(terms, broker.subscription());
        assert!(matches!(refused, Err(SubscribeError::Acknowledgement { .. })), "{refused:?}");
    }
    let ordered = broker.subscription().retry(retry(3).in_order());
    let refused = subscribe(within(SECOND).in_flight(2), ordered).expect_err("no order");
    let text = refused.to_string();
    assert!(text.contains("retry in order") && text.contains("several in flight"), "{text}");
    assert_eq!(subscribe(within(SECOND), broker.subscription().retry(retry(3).in_order())), Ok(()));
}

/// A broker with threads whose subscription sends its tokens to this one.
fn threaded(terms: Acknowledgement) -> (Broker<u64>, Subscription<u64>, Receiver<Token<u64>>) {
    let broker = Broker::of().build().expect("valid");
    let (sender, tokens): (Sender<Token<u64>>, _) = channel();
    let subscription = broker.subscription().name("kept").pattern("a").backlog(Backlog::new(100_000));
    let subscription = subscription.subscribe_with_tokens(terms, move |token| {
        let _ = sender.send(token);
    });
    (broker, subscription.expect("valid"), tokens)
}

fn publish(broker: &Broker<u64>, count: u64) {
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..count {
        let _ = publisher.publish(number).expect("room");
    }
}

#[test]
fn workers_of_ones_own_settle_everything_before_a_shutdown_returns() {
    let (broker, _subscription, tokens) = threaded(within(LIMIT).in_flight(16));
    let tokens = Arc::new(Mutex::new(tokens));
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let tokens = tokens.clone();
            std::thread::spawn(move || {
                let mut handled = 0;
                loop {
                    let Ok(token) = tokens.lock().expect("no panic").recv() else { return handled };
                    if token.ack().is_ok() {
                        handled += 1;
                    }
                }
            })
        })
        .collect();
    publish(&broker, 5_000);
    let report = broker.shutdown(LIMIT).expect("no closure");
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    assert_eq!(
        (report.ledger.total().delivered(), report.in_doubt.len(), report.undelivered.len()),
        (5_000, 0, 0)
    );
    drop((broker, report));
    let handled: u64 = workers.into_iter().map(|worker| worker.join().expect("no panic")).sum();
    assert_eq!(handled, 5_000);
}

#[test]
fn a_shutdown_lists_what_is_in_doubt_hands_back_what_waits_and_keeps_to_its_limit() {
    let (broker, _subscription, tokens) = threaded(within(LIMIT).in_flight(2));
    publish(&broker, 5);
    let first = tokens.recv_timeout(LIMIT).expect("it comes");
    let second = tokens.recv_timeout(LIMIT).expect("it comes");
    let begun = Instant::now();
    let report = broker.shutdown(MILLISECOND * 200).expect("no closure");
    assert!(begun.elapsed() < SECOND * 5, "{:?}", begun.elapsed());
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    let in_doubt: Vec<_> = report.in_doubt.iter().map(|one| (&*one.subscription, one.message)).collect();
    assert_eq!(in_doubt, [("kept", first.message().id()), ("kept", second.message().id())]);
    assert_eq!(report.undelivered.len(), 3);
    assert_eq!((first.ack(), second.fail("no")), (Err(TokenError::Ended), Err(TokenError::Ended)));
}

#[test]
fn a_drain_waits_for_tokens_and_says_so() {
    let (broker, _subscription, tokens) = threaded(within(LIMIT));
    publish(&broker, 1);
    let token = tokens.recv_timeout(LIMIT).expect("it comes");
    let drained = broker.drain(MILLISECOND * 20);
    assert!(
        matches!(&drained, Err(DrainError::Waiting { subscriptions, messages: 1, .. }) if subscriptions[0] == "kept"),
        "{drained:?}"
    );
    token.ack().expect("in time");
    assert_eq!(broker.drain(LIMIT), Ok(()));
    assert_eq!(broker.audit().total().delivered(), 1);
}

#[test]
fn beside_a_handler_that_never_returns_what_is_in_flight_is_counted_and_the_acknowledged_is_delivered() {
    let (broker, _subscription, tokens) = threaded(within(LIMIT).in_flight(4));
    let (stuck, is_stuck) = channel::<()>();
    let (release, released) = channel::<()>();
    let _stuck = broker
        .subscribe("stuck", move |_| {
            let _ = stuck.send(());
            let _ = released.recv();
        })
        .expect("valid");
    publish(&broker, 2);
    let first = tokens.recv_timeout(LIMIT).expect("it comes");
    let second = tokens.recv_timeout(LIMIT).expect("it comes");
    let _ = broker.publisher("stuck").expect("a topic").publish(1).expect("room");
    is_stuck.recv_timeout(LIMIT).expect("it is called");
    // Its consumer does not come to read of it.
    first.ack().expect("in time");
    let report = broker.shutdown(MILLISECOND * 100).expect("no closure");
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    let account = report.ledger.subscriptions.iter().find(|one| one.name == "kept").expect("it is there");
    assert_eq!((account.delivered(), account.count(Term::InDoubt)), (1, 1), "{account:?}");
    assert_eq!(report.in_doubt.len(), 1);
    assert_eq!(report.in_doubt[0].message, second.message().id());
    assert_eq!(second.ack(), Err(TokenError::Ended));
    drop(release);
}

#[test]
fn a_handler_that_never_returns_with_its_token_is_in_doubt_once() {
    let broker = Broker::of::<u64>().build().expect("valid");
    let (stuck, is_stuck) = channel::<()>();
    let (release, released) = channel::<()>();
    let _stuck = broker
        .subscription()
        .name("stuck")
        .pattern("a")
        .subscribe_with_tokens(within(LIMIT), move |token| {
            let _ = stuck.send(());
            let _ = released.recv();
            drop(token);
        })
        .expect("valid");
    publish(&broker, 3);
    is_stuck.recv_timeout(LIMIT).expect("it is called");
    let report = broker.shutdown(MILLISECOND * 100).expect("no closure");
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    let account = report.ledger.total();
    assert_eq!((account.count(Term::InDoubt), account.count(Term::Undelivered)), (1, 2), "{account:?}");
    assert_eq!((report.abandoned.len(), report.in_doubt.len()), (1, 1));
    drop(release);
}

/// A payload whose `Clone` panics when it is told to.
#[derive(Default)]
struct Brittle(bool);

impl Clone for Brittle {
    fn clone(&self) -> Self {
        if self.0 {
            panic_quietly();
        }
        Self(self.0)
    }
}

#[test]
fn a_message_that_cannot_be_copied_is_not_handed_out_and_counted_as_failed() {
    let broker = Broker::of::<Brittle>().build().expect("valid");
    let (sender, tokens) = channel();
    let _subscription = broker
        .subscription()
        .pattern("a")
        .subscribe_with_tokens(within(LIMIT), move |token: Token<Brittle>| {
            let _ = sender.send(());
            let _ = token.ack();
        })
        .expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    for breaks in [true, false, true] {
        let _ = publisher.publish_in_place(|slot| slot.0 = breaks).expect("room");
    }
    let report = broker.shutdown(LIMIT).expect("no closure");
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    let account = report.ledger.total();
    assert_eq!((account.delivered(), account.count(Term::Failed), tokens.try_iter().count()), (1, 2, 1));
}
