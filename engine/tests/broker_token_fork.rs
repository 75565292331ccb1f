//! Tokens in a child of `fork`. A program of its own, since it forks.

#![cfg(all(target_os = "linux", not(ringmain_loom)))]

use ringmain::broker::{Acknowledgement, Broker};
use std::sync::mpsc::channel;
use std::time::Duration;

#[test]
fn a_token_that_is_given_back_in_a_child_is_refused() {
    let broker = Broker::of::<u64>().build().expect("valid");
    let (sender, tokens) = channel();
    let _subscription = broker
        .subscription()
        .pattern("a")
        .subscribe_with_tokens(Acknowledgement::default(), move |token| _ = sender.send(token))
        .expect("valid");
    let _ = broker.publisher("a").expect("a topic").publish(7).expect("room");
    let token = tokens.recv_timeout(Duration::from_secs(30)).expect("it comes");
    broker.audit();
    let mut token = Some(token);
    // SAFETY: the child takes no lock that another thread may hold: the consumer sleeps.
    let child = unsafe { libc::fork() };
    assert_ne!(child, -1, "the system refuses to fork");
    if child == 0 {
        let was_taken = token.take().is_some_and(|token| token.ack().is_ok());
        // SAFETY: it does not return.
        unsafe { libc::_exit(if was_taken { 1 } else { 0 }) };
    }
    let mut status = 0;
    // SAFETY: the child is ours, and `status` is there to be written.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    token.take().expect("the parent has it").ack().expect("in time");
    broker.drain(Duration::from_secs(30)).expect("it comes back");
    assert_eq!(
        libc::WEXITSTATUS(status),
        0,
        "a consumer that nobody runs has taken it: the child was told so"
    );
}
