//! Idempotency at its edges: what gives a key back, and what keeps it.

mod broker_support;

use broker_support::tried::{MILLISECOND, Tried, once, retry, with_store};
use ringmain::broker::dead_letters::Selection;
use ringmain::broker::simulation::Simulation;
use ringmain::broker::{
    Acknowledgement, Backlog, Broker, PublishOptions, Subscription, SubscriptionBuilder, Term, Token,
    WhenFull,
};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn publish_for(tried: &Tried, number: u64, life: Duration) {
    let options = PublishOptions::new().expires_after(life);
    let _ = tried.broker.publisher("a").expect("a topic").publish_with(number, &options).expect("room");
    tried.run();
}

#[test]
fn what_has_expired_while_it_waited_gives_its_key_back() {
    let tried = Tried::on(with_store, |options| options.idempotent(once()), |_, _| Ok::<_, &str>(()));
    tried.subscription.pause().expect("no child");
    tried.run();
    publish_for(&tried, 7, SECOND);
    tried.publish([8]);
    tried.advance(SECOND * 2);
    tried.subscription.resume();
    tried.run();
    assert_eq!((tried.numbers(), tried.account().count(Term::Expired)), (vec![8], 1));
    // Nobody has handled it, and nobody will: it has to be handled when it comes again. Even days later.
    tried.advance(SECOND * 100_000);
    tried.publish([7]);
    assert_eq!((tried.numbers(), tried.account().count(Term::Duplicate)), (vec![7], 0));
}

#[test]
fn what_has_expired_before_its_retry_gives_its_key_back() {
    let options = |options: SubscriptionBuilder<u64>| options.idempotent(once()).retry(retry(3));
    let tried =
        Tried::on(with_store, options, |_, attempt| if attempt == 1 { Err("not yet") } else { Ok(()) });
    publish_for(&tried, 7, MILLISECOND * 50);
    tried.publish([8]);
    tried.advance(SECOND);
    assert_eq!((tried.numbers(), tried.account().count(Term::Expired)), (vec![7, 8, 8], 1));
    tried.publish([7]);
    assert_eq!(tried.account().count(Term::Duplicate), 0, "nobody has handled it");
    assert_eq!(tried.numbers(), [7]);
}

#[test]
fn with_dead_letters_what_waits_is_handled_or_kept_before_its_duplicates_are_dropped() {
    let backlog = Backlog::new(2).when_full(WhenFull::DropOldest);
    let options = |options: SubscriptionBuilder<u64>| options.idempotent(once()).backlog(backlog);
    let tried = Tried::on(with_store, options, |_, _| Ok::<_, &str>(()));
    tried.subscription.pause().expect("no child");
    tried.run();
    // The first 7 may give way, and does: so the second one is no duplicate.
    tried.publish([7, 7, 8]);
    tried.subscription.resume();
    tried.run();
    let letters = tried.broker.dead_letters().expect("it keeps them").count(&Selection::all());
    assert!(
        tried.numbers().contains(&7) || letters > 0,
        "7 is neither handled nor kept: {}",
        tried.account()
    );
}

/// A simulated broker without dead letters, whose subscription keeps two messages at once.
struct Kept {
    simulation: Simulation<u64>,
    broker: Broker<u64>,
    _subscription: Subscription<u64>,
    tokens: Receiver<Token<u64>>,
}

impl Kept {
    fn new(options: impl FnOnce(SubscriptionBuilder<u64>) -> SubscriptionBuilder<u64>) -> Self {
        let simulation = Broker::of().simulate().expect("valid");
        let broker = simulation.broker();
        let (sender, tokens) = channel();
        let terms = Acknowledgement::within(SECOND * 60).in_flight(2);
        let subscription = options(broker.subscription().name("kept").pattern("a"))
            .subscribe_with_tokens(terms, move |token| _ = sender.send(token))
            .expect("valid");
        Self { simulation, broker, _subscription: subscription, tokens }
    }

    fn publish(&mut self, number: u64) {
        let _ = self.broker.publisher("a").expect("a topic").publish(number).expect("room");
        self.simulation.run();
    }

    fn tokens(&mut self) -> Vec<Token<u64>> {
        self.simulation.run();
        self.tokens.try_iter().collect()
    }
}

#[test]
fn of_two_in_flight_the_one_that_fails_does_not_unsay_that_the_other_was_handled() {
    let mut kept = Kept::new(|options| options.idempotent(once()).retry(retry(5)));
    kept.publish(7);
    kept.publish(7);
    let mut tokens = kept.tokens();
    assert_eq!(tokens.len(), 2, "without dead letters the second is a second chance");
    let (first, second) = (tokens.remove(0), tokens.remove(0));
    second.ack().expect("in time");
    kept.simulation.run();
    first.fail("not this time").expect("in time");
    kept.simulation.run();
    kept.simulation.advance(SECOND);
    let again = kept.tokens();
    assert!(
        again.is_empty(),
        "one of both has been handled, and so the other is dropped: {}",
        kept.broker.audit()
    );
}

#[test]
fn a_key_that_was_confirmed_twice_at_one_moment_is_remembered_as_long_as_others() {
    let mut kept = Kept::new(|options| options.idempotent(once().keys(2)));
    kept.publish(7);
    kept.publish(7);
    kept.tokens().into_iter().for_each(|token| token.ack().expect("in time"));
    kept.simulation.run();
    kept.publish(8);
    kept.tokens().into_iter().for_each(|token| token.ack().expect("in time"));
    kept.simulation.run();
    // Two keys have been handled, and two are remembered.
    kept.publish(7);
    assert!(
        kept.tokens().is_empty(),
        "7 is one of the two keys that were handled last: {}",
        kept.broker.audit()
    );
}
