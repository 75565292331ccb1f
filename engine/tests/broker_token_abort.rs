//! The end of subscriptions that keep messages, beside what panics when it is dropped. A program of its own: two
//! panics at once end it.

use ringmain::broker::{Acknowledgement, Breaker, Broker, Token};

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("a panic on purpose"));
    }
}

#[test]
fn a_handler_and_a_callback_that_both_panic_when_they_are_dropped_do_not_end_the_process() {
    let broker = Broker::of::<u64>().build().expect("valid");
    let (one, other) = (Bomb, Bomb);
    let subscription = broker
        .subscription()
        .pattern("a")
        .breaker(Breaker::default())
        .on_error(move |_, _| _ = &one)
        .subscribe_with_tokens(Acknowledgement::default(), move |token: Token<u64>| {
            let _ = &other;
            let _ = token.ack();
        })
        .expect("valid");
    let _ = broker.publisher("a").expect("a topic").publish(7).expect("room");
    broker.drain(std::time::Duration::from_secs(30)).expect("it is handled");
    // The consumer drops both.
    subscription.unsubscribe();
    let report = broker.shutdown(std::time::Duration::from_secs(30)).expect("no closure");
    assert!(report.dead.is_empty());
}
