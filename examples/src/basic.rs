//! One publisher, two subscriptions, one of them behind a wildcard; an orderly end with every message accounted for.

use ringmain::Broker;
use std::sync::mpsc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::builder().build()?;

    // A handler is a closure. It runs on the broker's consumer thread and reads the message where it lies.
    let (sender, orders) = mpsc::channel();
    let _created = broker.subscribe("orders.*.created", move |message| {
        sender.send(format!("{}: {}", message.topic(), String::from_utf8_lossy(message.payload())))
    })?;
    let (sender, all) = mpsc::channel();
    let _everything = broker.subscribe("orders.#", move |message| sender.send(message.id()))?;

    // A publisher bound to its topic is the fastest way; for topics that come at run time there is another.
    let mut publisher = broker.publisher("orders.eu.created")?;
    let published = publisher.publish("order 4711, two crates of lemons")?;
    let mut any = broker.any_topic_publisher();
    let _ = any.publish("orders.us.cancelled", "order 4712")?;
    let _ = any.publish("weather.lisbon", "sunny; and nobody listens")?;

    let first = orders.recv_timeout(LIMIT)?;
    println!("{first}");
    assert_eq!(first, "orders.eu.created: order 4711, two crates of lemons");
    assert_eq!(all.recv_timeout(LIMIT)?, published.id);

    // Shutting down delivers what was accepted, and says where everything went.
    let report = broker.shutdown(LIMIT)?;
    assert_eq!(all.try_iter().count(), 1, "the cancelled order");
    assert!(report.undelivered.is_empty());
    assert!(report.ledger.is_balanced(), "{:?}", report.ledger);
    println!(
        "{} published, {} of them wanted by nobody, {} delivered",
        report.ledger.published,
        report.ledger.unrouted,
        report.ledger.total().delivered()
    );
    assert_eq!((report.ledger.published, report.ledger.unrouted), (3, 1));
    Ok(())
}
