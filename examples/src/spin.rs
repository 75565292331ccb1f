//! The lowest latency there is: a consumer that spins on a core of its own. While messages flow no system call is made;
//! `scripts/no-syscalls.sh` counts them.
//!
//! `spin [MESSAGES]`, a million unless told otherwise.

use ringmain::Broker;
use ringmain::affinity::Pinning;
use ringmain::broker::Dispatcher;
use ringmain::wait::WaitStrategy;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let messages: u64 = std::env::args().nth(1).as_deref().unwrap_or("1000000").parse()?;
    let ticks = Dispatcher::new("ticks").wait(WaitStrategy::BusySpin).pinning(Pinning::Auto);
    let broker = Broker::builder().dispatcher(ticks).build()?;

    // The handler owns its state: no lock, no atomic.
    let mut expected = 0_u64;
    let subscription = broker.subscribe("ticks.*", move |message| {
        let (number, _) = message.split_first_chunk().ok_or("a tick starts with its number")?;
        assert_eq!(u64::from_le_bytes(*number), expected, "ticks come in order");
        expected += 1;
        Ok::<(), &str>(())
    })?;

    let mut publisher = broker.publisher("ticks.lemon")?;
    let mut tick = [0_u8; 64];
    let started = Instant::now();
    for number in 0..messages {
        tick[..8].copy_from_slice(&number.to_le_bytes());
        let _ = publisher.publish(&tick)?;
    }
    let report = broker.shutdown(LIMIT)?;
    let elapsed = started.elapsed();

    assert!(report.ledger.is_balanced(), "{:?}", report.ledger);
    assert_eq!(subscription.delivered(), messages);
    println!("{messages} ticks in {elapsed:.1?}");
    Ok(())
}
