//! Conflation beside what else a subscription can be told.

mod broker_support;

use broker_support::tried::{Tried, retry};
use ringmain::broker::dead_letters::DeadLetterOptions;
use ringmain::broker::{
    Acknowledgement, Breaker, Broker, FailureKind, Feature, Term, Together, Token, WhileOpen, key,
};
use std::sync::mpsc::channel;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Publishes two values of one key, lets both be in flight, has both fail in that order, publishes a third if
/// there is one, and returns what is handed out from then on.
fn after_both_have_failed(first_to_fail: usize, newer: Option<u64>) -> Vec<u64> {
    let mut simulation = Broker::of::<u64>().simulate().expect("valid");
    let broker = simulation.broker();
    let (sender, tokens) = channel();
    let subscription = broker.subscription().pattern("a").conflate(key::topic()).retry(retry(5));
    let _subscription = subscription
        .subscribe_with_tokens(Acknowledgement::within(SECOND * 60).in_flight(2), move |token: Token<u64>| {
            let _ = sender.send(token);
        })
        .expect("valid");
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in [1, 2] {
        let _ = publisher.publish(number).expect("room");
        simulation.run();
    }
    let mut kept: Vec<_> = tokens.try_iter().collect();
    assert_eq!(kept.len(), 2);
    kept.remove(first_to_fail).fail("no").expect("in time");
    simulation.run();
    kept.remove(0).fail("no").expect("in time");
    simulation.run();
    // Both had to wait to be tried again, and have the same key. One is out of date.
    if let Some(newer) = newer {
        let _ = publisher.publish(newer).expect("room");
        simulation.run();
    }
    simulation.advance(SECOND);
    let mut handed_out = Vec::new();
    loop {
        let tokens: Vec<_> = tokens.try_iter().collect();
        if tokens.is_empty() {
            break;
        }
        for token in tokens {
            handed_out.push(*token.message());
            token.ack().expect("in time");
        }
        simulation.advance(SECOND);
    }
    handed_out
}

#[test]
fn of_two_that_wait_for_another_attempt_with_one_key_none_is_left_beside_a_newer_one() {
    assert_eq!(after_both_have_failed(0, Some(3)), [3]);
    assert_eq!(after_both_have_failed(1, Some(3)), [3]);
}

#[test]
fn the_older_one_that_fails_last_does_not_wait_beside_the_newer() {
    assert_eq!(after_both_have_failed(1, None), [2]);
}

#[test]
fn an_open_breaker_that_refuses_does_so_also_where_newer_ones_take_the_places_of_older() {
    assert_eq!(Feature::Breaker.with(Feature::Conflation), Together::Work, "each does what it does alone");
    let breaker =
        Breaker::consecutive(1).open_for(SECOND * 10..=SECOND * 10).exact().while_open(WhileOpen::Refuse);
    let tried =
        Tried::new(|options| options.conflate(key::topic()).breaker(breaker), |_, _| Err::<(), _>("sick"));
    tried.publish([1]);
    tried.publish([2, 3]);
    let account = tried.account();
    assert_eq!(
        (account.failures_of(FailureKind::Refused), account.count(Term::Backlogged)),
        (2, 0),
        "{account}"
    );
}

#[test]
fn an_open_breaker_that_makes_dead_letters_does_so_also_where_newer_ones_take_the_places_of_older() {
    let breaker =
        Breaker::consecutive(1).open_for(SECOND * 10..=SECOND * 10).exact().while_open(WhileOpen::DeadLetter);
    let tried = Tried::on(
        |broker| broker.dead_letters(DeadLetterOptions::new()),
        |options| options.conflate(key::topic()).breaker(breaker),
        |_, _| Err::<(), _>("sick"),
    );
    tried.publish([1]);
    tried.publish([2, 3]);
    let account = tried.account();
    assert_eq!((account.count(Term::DeadLettered), account.count(Term::Backlogged)), (3, 0), "{account}");
}
