//! A child of `fork` has a copy of the broker, and none of its threads: it is told so, and hangs
//! nowhere. A program of its own, since it forks.

#![cfg(all(target_os = "linux", not(ringmain_loom)))]

mod broker_support;

use broker_support::{next, shut_down};
use ringmain::broker::{Broker, DrainError, PublishFailure, ShutdownError, SubscribeError, UnsubscribeError};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);

/// Runs `f` in a child. Returns what it returned, as the child's exit status; nothing where it hung.
fn in_a_child(f: impl FnOnce() -> u8) -> Option<u8> {
    // SAFETY: the child calls `f`, which takes no lock that a thread of the parent may have held,
    // and ends without running anything of the parent's.
    let child = unsafe { libc::fork() };
    assert_ne!(child, -1, "the system refuses to fork");
    if child == 0 {
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or(255);
        // SAFETY: it does not return.
        unsafe { libc::_exit(code.into()) };
    }
    let deadline = Instant::now() + LIMIT;
    loop {
        let mut status = 0;
        // SAFETY: the child is ours, and `status` is there to be written.
        match unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } {
            0 if Instant::now() > deadline => {
                // SAFETY: the child is ours and has not been waited for.
                unsafe { libc::kill(child, libc::SIGKILL) };
                return None;
            }
            0 => std::thread::park_timeout(Duration::from_millis(1)),
            _ if libc::WIFEXITED(status) => return Some(libc::WEXITSTATUS(status) as u8),
            _ => return None,
        }
    }
}

/// Which of several claims do not hold, as a number: 0 if all do.
fn wrong(claims: &[bool]) -> u8 {
    claims.iter().position(|holds| !holds).map_or(0, |first| first as u8 + 1)
}

#[test]
fn a_child_is_refused_and_hangs_nowhere() {
    let broker: Broker = Broker::builder().build().expect("valid options");
    let (sender, received) = mpsc::channel();
    let subscription = broker
        .subscribe("#", move |message| sender.send(message.topic().to_string()).unwrap())
        .expect("a pattern");
    let mut kept = Some((
        broker.clone(),
        broker.subscribe("other", |_| ()).expect("a pattern"),
        broker.publisher("a").expect("a topic"),
        broker.any_topic_publisher(),
        broker.subscribe("third", |_| ()).expect("a pattern"),
    ));
    // Not the first use of any of them.
    let (_, _, publisher, any, _) = kept.as_mut().expect("it is there");
    let _ = publisher.publish("x").expect("room");
    let _ = any.publish("b", "x").expect("room");
    assert_eq!((next(&received), next(&received)), ("a".to_owned(), "b".to_owned()));

    let outcome = in_a_child(|| {
        let hour = Duration::from_secs(3_600);
        let (broker, other, mut publisher, mut any, third) = kept.take().expect("it is there");
        let forked = PublishFailure::Forked;
        // A ring's room is used up by as much as nobody consumes; then the wait for more is refused.
        let mut last = Ok(());
        for _ in 0..5_000 {
            last = publisher.publish("x").map(drop).map_err(|error| error.kind().clone());
            if last.is_err() {
                break;
            }
        }
        let claims = [
            last == Err(forked.clone()),
            any.publish("new", "x").map_err(|error| error.kind().clone()).err() == Some(forked.clone()),
            broker.subscribe("a", |_| ()).map(drop) == Err(SubscribeError::Forked),
            broker.drain(hour) == Err(DrainError::Forked),
            broker.shutdown(hour).map(drop) == Err(ShutdownError::Forked),
            other.unsubscribe_timeout(hour) == Err(UnsubscribeError::Forked),
            broker.audit().published >= 2,
        ];
        third.unsubscribe();
        drop((publisher, any, broker));
        wrong(&claims)
    });
    assert_eq!(outcome, Some(0), "the first claim that does not hold, or nothing if the child hangs");

    // A child that ends as programs do.
    let outcome = in_a_child(|| {
        let own: Broker = Broker::builder().build().expect("a broker of the child's own");
        let (sender, received) = mpsc::channel();
        let subscription = own.subscribe("a", move |_| sender.send(()).unwrap()).expect("a pattern");
        let _ = own.publisher("a").expect("a topic").publish("x").expect("room");
        let is_delivered = received.recv_timeout(LIMIT).is_ok();
        let report = own.shutdown(LIMIT).expect("its own");
        wrong(&[is_delivered, subscription.delivered() == 1, report.ledger.is_balanced()])
    });
    assert_eq!(outcome, Some(0));

    // The parent has noticed nothing.
    let _ = broker.publisher("c").expect("a topic").publish("x").expect("room");
    assert_eq!(next(&received), "c");
    let ledger = shut_down(&broker);
    assert_eq!((ledger.published, subscription.delivered()), (3, 3));
}
