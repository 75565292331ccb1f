//! A child of `fork` sees circles of its own, whatever threads of its parent were waiting for. A program of its own,
//! since it forks.

#![cfg(all(target_os = "linux", not(ringmain_loom)))]

mod ring_support;

use ring_support::{LIMIT, graph};
use ringmain::ring::{MultiProducer, Poller, PublishError, Ring};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A full ring of one slot.
fn full() -> (MultiProducer<u64>, Poller<u64>, Ring<u64>) {
    let mut graph = graph(1);
    let (_, poller) = graph.poller(&[]).expect("no dependency");
    let (mut producer, ring) = graph.build_multi_producer().expect("no threads");
    producer.publish(|event| *event = 1).expect("room");
    (producer, poller, ring)
}

/// A handler on a thread of its own, which publishes into a full ring: how that ended.
fn publish_inside(
    mut poller: Poller<u64>,
    mut into: MultiProducer<u64>,
) -> Receiver<Result<u64, PublishError>> {
    let (told, outcome) = channel();
    thread::spawn(move || {
        poller.poll(1, |_, _, _| _ = told.send(into.publish(|event| *event = 2)));
        poller
    });
    outcome
}

/// Whether of two handlers that fill each other's rings one is told so, and the other goes on.
fn sees_a_circle() -> bool {
    let (left, of_left, _left) = full();
    let (right, of_right, _right) = full();
    let ends = [publish_inside(of_left, right), publish_inside(of_right, left)];
    let ends = ends.map(|end| end.recv_timeout(LIMIT / 4).ok());
    ends.contains(&Some(Err(PublishError::WouldDeadlock))) && ends.contains(&Some(Ok(1)))
}

#[test]
fn a_child_sees_circles_of_its_own_while_its_parent_waits() {
    let (into, mut poller, _ring) = full();
    let (_other, of_other, _other_ring) = full();
    let waits = publish_inside(of_other, into);
    // By then it is on the list of those who wait.
    assert!(waits.recv_timeout(Duration::from_millis(50)).is_err());

    // SAFETY: the child touches none of the parent's rings, and ends without running anything of the parent's.
    let child = unsafe { libc::fork() };
    assert_ne!(child, -1, "the system refuses to fork");
    if child == 0 {
        let sees = std::panic::catch_unwind(sees_a_circle).unwrap_or(false);
        // SAFETY: it does not return.
        unsafe { libc::_exit(i32::from(!sees)) };
    }
    let deadline = Instant::now() + LIMIT;
    let mut status = 0;
    // SAFETY: the child is ours, and `status` is there to be written.
    while unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == 0 {
        if Instant::now() > deadline {
            // SAFETY: the child is ours and has not been waited for.
            unsafe { libc::kill(child, libc::SIGKILL) };
        }
        thread::park_timeout(Duration::from_millis(1));
    }
    assert!(
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
        "the child saw none, or hung: {status}"
    );

    // The parent's wait is as it was.
    poller.poll(1, |_, _, _| {});
    assert_eq!(waits.recv_timeout(LIMIT), Ok(Ok(1)));
    assert!(sees_a_circle());
}
