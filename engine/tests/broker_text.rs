//! What accounts look like as text.

use ringmain::broker::{Broker, Dispatcher};
use std::time::Duration;

#[test]
fn a_ledger_shows_what_is_not_zero() {
    let broker: Broker = Broker::builder().dispatcher(Dispatcher::new("main")).build().expect("a broker");
    let mut calls = 0;
    let _billing = broker
        .subscription()
        .name("billing")
        .pattern("orders.#")
        .subscribe(move |_| {
            calls += 1;
            if calls == 1 { Err("planted") } else { Ok(()) }
        })
        .expect("a pattern");
    let _idle = broker.subscription().name("idle").pattern("nothing").subscribe(|_| ()).expect("a pattern");
    let mut publisher = broker.publisher("orders.eu").expect("a topic");
    for _ in 0..3 {
        let _ = publisher.publish("x").expect("there is room");
    }
    let _ = broker.publisher("elsewhere").expect("a topic").publish("x").expect("nobody wants it");
    let metrics = broker.metrics();
    let lines = metrics.to_string();
    assert!(lines.contains("messaging.broker.messages.published 4\n"), "{lines}");
    assert!(!lines.contains("dlq"), "what is 0 is not shown: {lines}");
    let last = lines.lines().next_back().expect("a line for each dispatcher");
    assert!(last.starts_with("dispatcher main: depth ") && last.contains(" of 4096, 0 refused"), "{lines}");
    let ledger = broker.shutdown(Duration::from_secs(20)).expect("no closure").ledger;
    let expected = "4 published, 1 unrouted, balanced\n\
                    ring main: 3 claimed = 3 consumed\n\
                    billing: 3 routed = 2 delivered + 1 dropped_failed; failures: 1 handler";
    assert_eq!(ledger.to_string(), expected);
}
