//! The ends of messages that handlers keep, in simulations: of their time, their subscription, their copies.

mod broker_support;

use broker_support::panic_quietly;
use ringmain::broker::dead_letters::{DeadLetterOptions, Replay, Selection};
use ringmain::broker::simulation::Simulation;
use ringmain::broker::{
    Acknowledgement, Backlog, Breaker, BreakerState, Broker, Idempotency, Subscription, SubscriptionBuilder,
    Term, Token, TokenError, key,
};
use ringmain::message::MessagePayload;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A simulated broker with dead letters, whose subscription keeps its messages.
struct Kept<P: MessagePayload> {
    simulation: Simulation<P>,
    broker: Broker<P>,
    subscription: Option<Subscription<P>>,
    tokens: Receiver<Token<P>>,
}

impl<P: MessagePayload> Kept<P> {
    fn new(
        terms: Acknowledgement,
        options: impl FnOnce(SubscriptionBuilder<P>) -> SubscriptionBuilder<P>,
    ) -> Self {
        let simulation = Broker::of().dead_letters(DeadLetterOptions::new()).simulate().expect("valid");
        let broker = simulation.broker();
        let (sender, tokens) = channel();
        let subscription = options(broker.subscription().name("kept").pattern("a"));
        let subscription = subscription.subscribe_with_tokens(terms, move |token| _ = sender.send(token));
        Self { simulation, broker, subscription: Some(subscription.expect("valid")), tokens }
    }

    fn publish(&mut self, fill: impl FnOnce(&mut P)) {
        let _ =
            self.broker.publisher("a").expect("a topic").publish_in_place(|slot| fill(slot)).expect("room");
        self.simulation.run();
    }

    fn token(&self) -> Token<P> {
        self.tokens.try_recv().expect("it was handed out")
    }

    fn letters(&self) -> usize {
        self.broker.dead_letters().expect("it keeps them").count(&Selection::all())
    }

    fn replay(&mut self) -> u64 {
        let letters = self.broker.dead_letters().expect("it keeps them");
        let before = self.broker.audit().total().replayed;
        let _replaying = letters.replay(&Selection::all(), Replay::to_subscription());
        self.simulation.run();
        self.broker.audit().total().replayed - before
    }
}

fn within(limit: Duration) -> Acknowledgement {
    Acknowledgement::within(limit)
}

#[test]
fn a_replayed_letter_that_was_acknowledged_before_its_subscription_ended_leaves_the_store() {
    let mut kept = Kept::<u64>::new(within(SECOND * 60), |options| options);
    kept.publish(|slot| *slot = 7);
    kept.token().fail("at first").expect("in time");
    kept.simulation.run();
    assert_eq!((kept.letters(), kept.replay()), (1, 1));
    kept.token().ack().expect("in time");
    drop(kept.subscription.take());
    kept.simulation.run();
    assert_eq!(kept.broker.audit().total().delivered(), 1);
    assert_eq!(kept.letters(), 0, "its replay went well, and it is counted as delivered");
}

#[test]
fn what_failed_before_its_subscription_ended_is_a_dead_letter() {
    let mut kept = Kept::<u64>::new(within(SECOND * 60), |options| options);
    kept.publish(|slot| *slot = 7);
    // Nobody doubts it: it has failed, and whoever has said so was told that this was in time.
    kept.token().fail("the bank does not answer").expect("in time");
    drop(kept.subscription.take());
    kept.simulation.run();
    let account = kept.broker.audit().total();
    assert_eq!((account.count(Term::DeadLettered), account.count(Term::InDoubt)), (1, 0), "{account}");
}

#[test]
fn a_token_that_comes_too_late_is_counted_also_when_its_subscription_is_past() {
    let mut kept = Kept::<u64>::new(within(SECOND), |options| options);
    kept.publish(|slot| *slot = 7);
    let token = kept.token();
    kept.simulation.advance(SECOND);
    drop(kept.subscription.take());
    kept.simulation.run();
    assert_eq!(token.ack(), Err(TokenError::TooLate), "says: it is counted as late");
    assert_eq!(kept.broker.audit().total().late, 1);
}

/// A payload whose `Clone` panics the so-and-so-manieth time.
#[derive(Default)]
struct Brittle {
    number: u64,
    clones_left: Option<Arc<AtomicU64>>,
}

impl Clone for Brittle {
    fn clone(&self) -> Self {
        if let Some(left) = &self.clones_left
            && left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err()
        {
            panic_quietly();
        }
        Self { number: self.number, clones_left: self.clones_left.clone() }
    }
}

/// Hands one out whose token is kept beyond its time, and which cannot be copied then.
fn timed_out_and_not_copied(
    options: impl FnOnce(SubscriptionBuilder<Brittle>) -> SubscriptionBuilder<Brittle>,
) -> (Kept<Brittle>, Token<Brittle>) {
    let mut kept = Kept::<Brittle>::new(within(SECOND).in_flight(2), options);
    kept.publish(|slot| *slot = Brittle { number: 7, clones_left: Some(Arc::new(1.into())) });
    let token = kept.token();
    kept.simulation.advance(SECOND);
    (kept, token)
}

#[test]
fn what_cannot_be_copied_when_its_time_is_up_has_failed_and_is_no_doubt() {
    let (kept, token) = timed_out_and_not_copied(|options| options);
    let account = kept.broker.audit().total();
    assert_eq!(token.ack(), Err(TokenError::TooLate), "says: the message has failed");
    assert_eq!((account.failures(), account.count(Term::InDoubt)), (1, 0), "{account}");
}

#[test]
fn what_cannot_be_copied_when_its_time_is_up_gives_its_key_back() {
    let by_number =
        || Idempotency::by(key::of(|message: &ringmain::message::Message<'_, Brittle>| Some(message.number)));
    let (mut kept, token) = timed_out_and_not_copied(|options| options.idempotent(by_number()));
    drop(token);
    kept.simulation.run();
    kept.publish(|slot| *slot = Brittle { number: 7, clones_left: None });
    assert_eq!(
        kept.broker.audit().total().count(Term::Duplicate),
        0,
        "nobody has handled it: {}",
        kept.broker.audit()
    );
}

#[test]
fn a_replayed_letter_that_cannot_be_copied_when_its_time_is_up_can_be_replayed_again() {
    let mut kept = Kept::<Brittle>::new(within(SECOND), |options| options);
    let left = Arc::new(AtomicU64::new(100));
    let given = left.clone();
    kept.publish(|slot| *slot = Brittle { number: 7, clones_left: Some(given) });
    kept.token().fail("at first").expect("in time");
    kept.simulation.run();
    assert_eq!((kept.letters(), kept.replay()), (1, 1));
    let token = kept.token();
    left.store(0, SeqCst);
    kept.simulation.advance(SECOND);
    drop(token);
    left.store(100, SeqCst);
    kept.simulation.run();
    assert_eq!((kept.letters(), kept.replay()), (1, 1), "it is there, and nobody replays it");
}

/// A payload that looks, when it is dropped, how much of the subscription is still uncounted.
#[derive(Clone, Default)]
struct Witness(Option<(ringmain::broker::WeakBroker<Witness>, std::sync::mpsc::Sender<u64>)>);

impl Drop for Witness {
    fn drop(&mut self) {
        if let Some((broker, seen)) = &self.0
            && let Some(broker) = broker.upgrade()
        {
            let _ = seen.send(broker.audit().total().count(Term::Backlogged));
        }
    }
}

#[test]
fn when_a_subscription_ends_all_is_counted_before_anything_foreign_is_dropped() {
    let mut kept = Kept::<Witness>::new(within(SECOND * 60), |options| options.backlog(Backlog::new(10)));
    let (seen, saw) = channel();
    let witness = Witness(Some((kept.broker.downgrade(), seen)));
    for _ in 0..3 {
        let witness = witness.clone();
        kept.publish(|slot| *slot = witness);
    }
    kept.token().ack().expect("in time");
    while saw.try_recv().is_ok() {}
    drop(kept.subscription.take());
    kept.simulation.run();
    // Whatever hangs in a payload's drop hangs with all others counted.
    assert_eq!(saw.try_iter().collect::<Vec<_>>(), [0, 0, 0]);
}

#[test]
fn what_was_acknowledged_when_its_subscription_ended_is_consumed_as_well() {
    let mut kept = Kept::<u64>::new(within(SECOND * 60), |options| options);
    kept.publish(|slot| *slot = 7);
    kept.token().ack().expect("in time");
    drop(kept.subscription.take());
    kept.simulation.run();
    let delivered = kept.broker.audit().total().delivered();
    let consumed = kept.broker.metrics().get("messaging.broker.messages.consumed");
    assert_eq!((delivered, consumed), (1, Some(1.0)), "what is delivered is consumed");
}

#[test]
fn who_is_told_of_a_panic_of_a_handler_that_keeps_messages_is_told_its_text() {
    let mut simulation =
        Broker::of::<u64>().dead_letters(DeadLetterOptions::new()).simulate().expect("valid");
    let broker = simulation.broker();
    let (sender, told) = channel();
    let _subscription = broker
        .subscription()
        .pattern("a")
        .on_error(move |_, failed| _ = sender.send(failed.panic.map(str::to_owned)))
        .subscribe_with_tokens(within(SECOND), |_token: Token<u64>| {
            std::panic::resume_unwind(Box::new("the bank does not answer"))
        })
        .expect("valid");
    let _ = broker.publisher("a").expect("a topic").publish(7).expect("room");
    simulation.run();
    assert_eq!(told.try_recv().expect("it has failed").as_deref(), Some("the bank does not answer"));
    let letters = broker.dead_letters().expect("it keeps them").query(&Selection::all());
    assert_eq!(letters[0].last_error(), Some("the bank does not answer"));
}

#[test]
fn a_message_that_is_kept_for_longer_than_a_call_may_take_is_slow() {
    let breaker = Breaker::consecutive(1).slow_calls(Duration::from_millis(10));
    let mut kept = Kept::<u64>::new(within(SECOND * 60), |options| options.breaker(breaker));
    kept.publish(|slot| *slot = 7);
    kept.simulation.advance(SECOND * 30);
    kept.token().ack().expect("in time");
    kept.simulation.run();
    let state = kept.subscription.as_ref().expect("it has not ended").status().breaker;
    assert_eq!(state, Some(BreakerState::Open), "30 seconds are more than 10 ms");
}
