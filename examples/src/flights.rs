//! A month of departures from New York, published flight by flight and sorted by patterns; every count is checked
//! against one made without the engine.

use ringmain::Broker;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// What is wanted, and how to tell from `[origin, carrier, dest]` without the engine.
type Wanted = (&'static str, fn(&[&str; 3]) -> bool);

const WANTED: [Wanted; 5] = [
    ("flight.#", |_| true),
    ("flight.JFK.#", |[origin, ..]| *origin == "JFK"),
    ("flight.*.UA.*", |[_, carrier, _]| *carrier == "UA"),
    ("flight.LGA.DL.ATL", |flight| *flight == ["LGA", "DL", "ATL"]),
    ("flight.*.*.*.*", |_| false),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/flights-2013-01.csv");
    let mut flights = csv::Reader::from_path(&file)?;
    let column = |headers: &csv::StringRecord, name: &str| headers.iter().position(|header| header == name);
    let headers = flights.headers()?.clone();
    let columns = ["origin", "carrier", "dest"].map(|name| column(&headers, name));

    let broker = Broker::builder().build()?;
    let (sender, delays) = mpsc::channel();
    let mut subscriptions = Vec::new();
    for (pattern, _) in WANTED {
        let sender = sender.clone();
        subscriptions.push(broker.subscription().name(pattern).pattern(pattern).subscribe(
            move |message| {
                let delay = message.as_str().and_then(|text| text.parse::<i64>().ok());
                sender.send((pattern, delay))
            },
        )?);
    }
    drop(sender);

    let mut expected = BTreeMap::new();
    let mut publisher = broker.any_topic_publisher();
    for flight in flights.records() {
        let flight = flight?;
        let [origin, carrier, dest] =
            columns.map(|column| column.and_then(|column| flight.get(column)).unwrap_or(""));
        for (pattern, wants) in WANTED {
            *expected.entry(pattern).or_insert(0_u64) += u64::from(wants(&[origin, carrier, dest]));
        }
        let _ =
            publisher.publish(&format!("flight.{origin}.{carrier}.{dest}"), flight.get(3).unwrap_or(""))?;
    }

    let report = broker.shutdown(LIMIT)?;
    assert!(report.ledger.is_balanced(), "{:?}", report.ledger);
    assert!(report.undelivered.is_empty() && report.abandoned.is_empty());

    let mut delivered: BTreeMap<_, u64> = WANTED.map(|(pattern, _)| (pattern, 0)).into();
    let mut late = BTreeMap::new();
    drop(subscriptions);
    drop(broker);
    for (pattern, delay) in delays.iter() {
        *delivered.entry(pattern).or_default() += 1;
        *late.entry(pattern).or_insert(0_u64) += u64::from(delay.is_some_and(|minutes| minutes > 60));
    }
    for (pattern, count) in &delivered {
        let late = late.get(pattern).copied().unwrap_or(0);
        println!("{pattern:<20} {count:>6} departures, {late:>5} of them more than an hour late");
    }
    assert_eq!(delivered, expected);
    Ok(())
}
