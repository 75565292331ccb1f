//! Where the system has no `membarrier`, both halves of the asymmetric fence are full fences, and all works as before.
//!
//! This program has one test: it takes the system call away from itself, before the first ring is built, and for good.
#![cfg(all(target_os = "linux", not(miri)))]

use ringmain::ring::{Polled, RingBuilder};
use ringmain::wait::WaitStrategy;
use std::io::Error;
use std::sync::mpsc::channel;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const EVENTS: u64 = 20_000;

fn membarrier() -> libc::c_long {
    const QUERY: libc::c_long = 0;
    // SAFETY: membarrier takes two integers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, QUERY, 0 as libc::c_long) }
}

/// Has `membarrier` fail in this thread and all that it starts from now on, as on a kernel that does not know it.
fn take_membarrier_away() {
    const LOAD_NUMBER: libc::sock_filter = libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 };
    const fn answer(with: u32) -> libc::sock_filter {
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: with }
    }
    let mut program = [
        LOAD_NUMBER,
        libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: libc::SYS_membarrier as u32 },
        answer(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let none: libc::c_ulong = 0;
    // SAFETY: integers only.
    let outcome = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as libc::c_ulong, none, none, none) };
    assert_eq!(outcome, 0, "{}", Error::last_os_error());
    // SAFETY: the filter and the program that it points to live until the call returns, which copies both.
    let outcome = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter, none, none)
    };
    assert_eq!(outcome, 0, "{}", Error::last_os_error());
    assert_eq!((membarrier(), Error::last_os_error().raw_os_error()), (-1, Some(libc::ENOSYS)));
}

#[test]
fn threads_sleep_and_wake_and_rings_close_without_membarrier() {
    take_membarrier_away();
    for strategy in [WaitStrategy::Blocking, WaitStrategy::Adaptive] {
        // Of two slots, so that both sides wait for each other all the time.
        let mut graph = RingBuilder::new(2, u64::default).expect("a power of two").wait(strategy).graph();
        let (_, mut poller) = graph.poller(&[]).expect("no dependency");
        let (mut producer, ring) = graph.build_single_producer().expect("no threads to start");
        let (ended, has_ended) = channel();
        std::thread::spawn(move || {
            let mut next = 0;
            let seen = loop {
                assert!(poller.wait(strategy, LIMIT), "the consumer slept on");
                let polled = poller.poll(2, |event, _, _| {
                    assert_eq!(*event, next);
                    next += 1;
                });
                if polled == Polled::Finished {
                    break next;
                }
            };
            ended.send(seen).expect("the test waits");
        });
        for number in 0..EVENTS {
            producer.publish_timeout(LIMIT, |event| *event = number).expect("the consumer goes on");
        }
        ring.close();
        assert_eq!(has_ended.recv_timeout(LIMIT), Ok(EVENTS), "{strategy}");
    }
}
