//! What waits beside a ring, seen by those who ask whether anything does: it is in one place at each moment, and nobody
//! takes it for settled before it has been counted. With a whole broker, which only models can have without threads.

use ringmain::broker::dead_letters::{DeadLetterOptions, Replay, Selection};
use ringmain::broker::unstarted::UnstartedConsumers;
use ringmain::broker::{
    Acknowledgement, Backlog, Broker, Dispatcher, DrainError, DropReason, Jitter, PublishOptions, Retry,
    Subscription, SubscriptionBuilder, SubscriptionLedger, Term, Token, WhenFull,
};
use ringmain::clock::{Clock, VirtualTime};
use ringmain::message::Message;
use ringmain::wait::WaitStrategy;
use ringmain_loom_tests::sync::Mutex;
use ringmain_loom_tests::sync::thread;
use ringmain_loom_tests::{Bound, Explored, explore};
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A broker that does nothing by itself, and its time.
struct Still {
    broker: Broker<u64>,
    consumers: UnstartedConsumers<u64>,
    time: VirtualTime,
}

impl Still {
    fn new() -> Self {
        let dispatcher = Dispatcher::new("only").capacity(4).wait(WaitStrategy::BusySpin);
        let (clock, time) = Clock::manual();
        let broker = Broker::of().dispatcher(dispatcher).dead_letters(DeadLetterOptions::new()).clock(clock);
        let (broker, consumers) = broker.build_unstarted().expect("valid options");
        Self { broker, consumers, time }
    }

    fn subscription(&self) -> SubscriptionBuilder<u64> {
        self.broker.subscription().pattern("a")
    }

    /// Subscribes with a handler that fails so many times, and then does not.
    fn fails_at_first(&self, failures: usize, retry: Option<Retry>) -> Subscription<u64> {
        let left: Mutex<usize> = Mutex::new(failures);
        let subscription = retry.into_iter().fold(self.subscription(), SubscriptionBuilder::retry);
        let handler = move |_: &Message<'_, u64>| {
            let mut left = left.lock();
            let has_failed = *left > 0;
            *left = left.saturating_sub(1);
            if has_failed { Err("not yet") } else { Ok(()) }
        };
        subscription.subscribe(handler).expect("a pattern")
    }

    fn publish(&self) {
        let _ = self.broker.publisher("a").expect("a topic").publish(7).expect("room");
    }

    /// Has a message wait while its subscription is paused.
    fn park(&mut self, subscription: &Subscription<u64>) {
        let _ = subscription.pause_timeout(Duration::ZERO);
        self.publish();
        self.consumers.turn(1);
        assert_eq!(subscription.status().backlogged, 1);
    }

    /// Looks whether all is settled, while the consumer does what is left. Returns whether it was, and what has come
    /// of all in the end, which must have been known by then.
    fn look(self, is_settled: impl FnOnce(&Broker<u64>) -> bool) -> (bool, SubscriptionLedger) {
        let Self { broker, mut consumers, time } = self;
        let consumer = thread::spawn(move || {
            for _ in 0..3 {
                consumers.turn(4);
            }
            consumers
        });
        let is_settled = is_settled(&broker);
        let then = broker.audit();
        let mut consumers = consumer.join().expect("the consumer panicked");
        // It may have gone through all that there was before it was stopped.
        consumers.turn(4);
        let after = broker.audit();
        assert!(after.is_balanced(), "{after}");
        let in_the_end = broker.drain(Duration::ZERO);
        assert!(
            matches!(in_the_end, Ok(()) | Err(DrainError::ConsumerLost { .. })),
            "{in_the_end:?}: {after}"
        );
        assert!(!is_settled || then == after, "it was not settled: {then}, and then {after}");
        drop(time);
        (is_settled, after.total())
    }
}

fn has_drained(broker: &Broker<u64>) -> bool {
    broker.drain(Duration::ZERO).is_ok()
}

fn is_quiet(broker: &Broker<u64>) -> bool {
    broker.quiesce(Duration::ZERO).is_ok()
}

fn at_once() -> Retry {
    Retry::constant(Duration::ZERO).jitter(Jitter::None)
}

/// What a handler keeps.
type Kept = Arc<Mutex<Option<Token<u64>>>>;

/// A subscription that keeps its messages with tokens.
fn with_tokens(still: &Still) -> (Subscription<u64>, Kept) {
    let tokens = Kept::default();
    let kept = tokens.clone();
    let terms = Acknowledgement::within(SECOND);
    let subscription =
        still.subscription().subscribe_with_tokens(terms, move |token| *kept.lock() = Some(token));
    (subscription.expect("a pattern"), tokens)
}

#[test]
fn a_drain_does_not_end_before_what_has_waited_is_counted() {
    explore("a drain beside a backlog", Bound::Preemptions(3), || {
        let mut still = Still::new();
        let subscription = still.fails_at_first(0, None);
        still.park(&subscription);
        subscription.resume();
        let (has_drained, total) = still.look(has_drained);
        assert_eq!(total.delivered(), 1);
        subscription.detach();
        has_drained
    })
    .saw_exactly([false, true])
    .in_at_least(100);
}

/// From its slot into the waiting room, and from there into a call and back.
#[test]
fn a_drain_does_not_end_while_a_message_is_on_its_way_to_be_tried_again() {
    explore("a drain beside a retry", Bound::Preemptions(3), || {
        let still = Still::new();
        let subscription = still.fails_at_first(2, Some(at_once()));
        still.publish();
        let (has_drained, total) = still.look(has_drained);
        assert_eq!((total.delivered(), total.retries), (1, 2));
        subscription.detach();
        has_drained
    })
    .saw_exactly([false, true])
    .in_at_least(100);
}

#[test]
fn a_drain_does_not_end_before_what_has_expired_is_counted() {
    explore("a drain beside an expiry", Bound::Preemptions(3), || {
        let mut still = Still::new();
        let subscription = still.fails_at_first(0, None);
        let _ = subscription.pause_timeout(Duration::ZERO);
        let options = PublishOptions::new().expires_after(SECOND);
        let _ = still.broker.publisher("a").expect("a topic").publish_with(7, &options).expect("room");
        still.consumers.turn(1);
        still.time.advance(SECOND);
        let (has_drained, total) = still.look(has_drained);
        assert_eq!(total.count(Term::Expired), 1);
        subscription.detach();
        has_drained
    })
    .saw_exactly([false, true])
    .in_at_least(100);
}

#[test]
fn a_drain_does_not_end_before_a_token_that_has_come_back_is_counted() {
    explore("a drain beside a token", Bound::Preemptions(3), || {
        let mut still = Still::new();
        let (subscription, tokens) = with_tokens(&still);
        still.publish();
        still.consumers.turn(1);
        let token = tokens.lock().take().expect("it was handed out");
        token.ack().expect("in time");
        let (has_drained, total) = still.look(has_drained);
        assert_eq!(total.delivered(), 1);
        subscription.detach();
        has_drained
    })
    .saw_exactly([false, true])
    .in_at_least(100);
}

/// Stops the consumer and looks, while it hands a message out that has waited or not. Threads are switched at most so
/// often where they could go on.
fn stop_while_handing_out(has_waited: bool, most: usize) -> Explored<(bool, [u64; 2])> {
    explore("a drain beside a stop", Bound::Preemptions(most), move || {
        let mut still = Still::new();
        let (subscription, tokens) = with_tokens(&still);
        if has_waited {
            still.park(&subscription);
            subscription.resume();
        } else {
            still.publish();
        }
        let (has_drained, total) = still.look(|broker| {
            broker.cut_short();
            has_drained(broker)
        });
        let fate = [Term::Undelivered, Term::InDoubt].map(|term| total.count(term));
        assert_eq!(fate.iter().sum::<u64>(), 1);
        subscription.detach();
        drop(tokens);
        (has_drained, fate)
    })
    .saw_exactly([(false, [0, 1]), (false, [1, 0]), (true, [0, 1]), (true, [1, 0])])
}

/// A message whose token is to be handed out is nobody's for a moment, if its consumer is stopped then.
#[test]
fn a_drain_does_not_end_before_what_was_not_handed_out_is_counted() {
    stop_while_handing_out(true, 3).in_at_least(1_000);
}

/// One that has not waited is still in its slot, and is left there.
#[test]
fn a_drain_ends_after_what_was_not_handed_out_as_it_came() {
    stop_while_handing_out(false, 2).in_at_least(1_000);
}

#[test]
fn a_drain_does_not_end_before_what_a_subscription_has_left_is_counted() {
    explore("a drain beside an end", Bound::Exhaustive, || {
        let mut still = Still::new();
        let subscription = still.fails_at_first(0, None);
        still.park(&subscription);
        drop(subscription);
        let (has_drained, total) = still.look(has_drained);
        assert_eq!(total.dropped_for(DropReason::Unsubscribed), 1);
        has_drained
    })
    .saw_exactly([false, true])
    .in_at_least(100);
}

/// What waits gives way to a message that was published after the drain has begun.
#[test]
fn a_drain_does_not_end_before_what_has_given_way_is_counted() {
    explore("a drain beside a full backlog", Bound::Preemptions(3), || {
        let mut still = Still::new();
        let latest = Backlog::new(1).when_full(WhenFull::DropOldest);
        let subscription = still.subscription().backlog(latest).subscribe(|_| ()).expect("a pattern");
        still.park(&subscription);
        let Still { broker, mut consumers, .. } = still;
        let consumer = {
            let broker = broker.clone();
            thread::spawn(move || {
                let _ = broker.publisher("a").expect("a topic").publish(8).expect("room");
                consumers.turn(1);
                subscription.resume();
                consumers.turn(1);
                subscription.detach();
                consumers
            })
        };
        let has_drained = has_drained(&broker);
        let total = broker.audit().total();
        let dropped = total.dropped_for(DropReason::Overflow);
        assert!(!has_drained || dropped == 1, "it was not settled: {total:?}");
        drop(consumer.join().expect("the consumer panicked"));
        has_drained
    })
    .saw_exactly([false, true])
    .in_at_least(100);
}

/// A letter that is replayed is copied, which is foreign code, before it is delivered.
#[test]
fn it_is_not_quiet_while_a_letter_is_on_its_way_to_be_replayed() {
    explore("quiet beside a replay", Bound::Preemptions(3), || {
        let mut still = Still::new();
        let subscription = still.fails_at_first(2, None);
        for _ in 0..2 {
            still.publish();
            still.consumers.turn(1);
        }
        let letters = still.broker.dead_letters().expect("they are kept");
        let _ = letters.replay(&Selection::all(), Replay::to_subscription().rate(1)).expect("two");
        // The second is due later.
        still.consumers.turn(1);
        still.time.advance(SECOND);
        let (is_quiet, total) = still.look(is_quiet);
        assert_eq!((total.delivered(), total.replayed), (2, 2));
        subscription.detach();
        is_quiet
    })
    .saw_exactly([false, true])
    .in_at_least(100);
}

/// Who looks at a subscription never finds a message of it in two places.
#[test]
fn a_message_that_waits_is_in_one_place() {
    explore("a status", Bound::Preemptions(3), || {
        let mut still = Still::new();
        let (subscription, tokens) = with_tokens(&still);
        still.park(&subscription);
        subscription.resume();
        let Still { mut consumers, .. } = still;
        let consumer = thread::spawn(move || {
            consumers.turn(4);
            consumers
        });
        let places = || {
            let status = subscription.status();
            [status.backlogged, status.retrying, status.in_flight]
        };
        let seen = [places(), places()];
        drop(consumer.join().expect("the consumer panicked"));
        assert_eq!(places(), [0, 0, 1]);
        subscription.detach();
        drop(tokens);
        seen
    })
    .saw_exactly([
        [[1, 0, 0], [1, 0, 0]],
        [[1, 0, 0], [0, 0, 0]],
        [[1, 0, 0], [0, 0, 1]],
        [[0, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 1]],
        [[0, 0, 1], [0, 0, 1]],
    ])
    .in_at_least(10);
}
