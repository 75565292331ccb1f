//! `replay`: the rows of a CSV file as messages.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringmain::broker::{AnyTopicPublisher, Broker, Dispatcher, Subscription};
use ringmain::topic::Pattern;
use serde::Serialize;

use crate::error::Error;
use crate::input::csv::{CsvInput, Row};
use crate::input::template::Template;
use crate::interrupt::interrupted;
use crate::json;
use crate::progress::Progress;
use crate::report::{Ledger, Report, SubscriptionReport};

/// The options of `replay`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ReplayOptions {
    #[serde(serialize_with = "json::name")]
    pub(crate) file: PathBuf,
    #[serde(serialize_with = "json::text")]
    pub(crate) topic: Template,
    /// One subscription for each, in this order.
    #[serde(serialize_with = "json::texts")]
    pub(crate) subscribe: Vec<Pattern>,
}

/// Rows between two looks at the interrupt.
const STRIDE: u64 = 256;
/// Messages under way; with rows of the largest size 64 MiB.
const CAPACITY: usize = 1_024;
/// Up to so many patterns, every topic is also matched one by one, without the engine's table.
const MAX_CROSS_CHECKED: usize = 64;
/// How long the engine may take to deliver the last messages; and when somebody waits for the
/// program to end.
const SHUTDOWN: Duration = Duration::from_secs(60);
const HASTY_SHUTDOWN: Duration = Duration::from_millis(800);

/// What a subscription's handler has seen. Written by that handler alone.
#[derive(Debug, Default)]
struct Seen {
    messages: AtomicU64,
    out_of_order: AtomicU64,
}

/// Publishes each row of a file. The whole file is checked first, so that a mistake in its last
/// line is found before the first message is on its way; rows are not kept, but read again.
pub(crate) fn replay(options: &ReplayOptions) -> Result<Report, Error> {
    let mut report = Report::of_measurement("replay", options);
    let mut input = CsvInput::open(&options.file, &options.topic)?;
    let mut rows = 0;
    for row in &mut input {
        row?;
        rows += 1;
        if rows % STRIDE == 0 && interrupted() {
            break;
        }
    }
    input.rewind()?;
    Replaying::start(options)?.publish(&mut input, rows, &mut report)?;
    report.finish();
    Ok(report)
}

/// A broker with a subscription for each pattern.
struct Replaying<'o> {
    options: &'o ReplayOptions,
    broker: Broker,
    subscriptions: Vec<Subscription>,
    seen: Vec<Arc<Seen>>,
    /// Rows that each pattern matches, asked one by one.
    matched: Vec<u64>,
}

impl<'o> Replaying<'o> {
    fn start(options: &'o ReplayOptions) -> Result<Self, Error> {
        let dispatcher = Dispatcher::new("replay").capacity(CAPACITY);
        let broker: Broker = Broker::builder().dispatcher(dispatcher).build()?;
        let mut seen = Vec::new();
        let mut subscriptions = Vec::new();
        for pattern in &options.subscribe {
            let mine = Arc::new(Seen::default());
            seen.push(mine.clone());
            let mut next = 0;
            let subscription = broker.subscribe(pattern.as_str(), move |message| {
                std::hint::black_box(message.payload().as_slice());
                if message.sequence() < next {
                    mine.out_of_order.fetch_add(1, Ordering::Relaxed);
                }
                next = message.sequence() + 1;
                mine.messages.fetch_add(1, Ordering::Relaxed);
            });
            subscriptions.push(subscription.map_err(|error| Error::Usage(format!("--subscribe: {error}")))?);
        }
        let matched = vec![0; options.subscribe.len()];
        Ok(Self { options, broker, subscriptions, seen, matched })
    }

    /// Publishes the rows, and writes what came of it into the report.
    fn publish(mut self, input: &mut CsvInput, rows: u64, report: &mut Report) -> Result<(), Error> {
        let mut publisher = self.broker.any_topic_publisher();
        let mut progress = Progress::of_unknown_length("replay");
        let started = Instant::now();
        let mut published = 0;
        for row in input {
            if published % STRIDE == 0 {
                progress.set(published as f64 / rows as f64);
                if interrupted() {
                    break;
                }
            }
            let row = row?;
            self.send(&mut publisher, &row)?;
            if self.matched.len() <= MAX_CROSS_CHECKED {
                for (pattern, matched) in self.options.subscribe.iter().zip(&mut self.matched) {
                    *matched += u64::from(pattern.matches(&row.topic));
                }
            }
            published += 1;
        }
        drop(publisher);
        self.finish(published, started, report);
        Ok(())
    }

    fn send(&self, publisher: &mut AnyTopicPublisher, row: &Row) -> Result<(), Error> {
        publisher.publish(row.topic.as_str(), &row.json).map(drop).map_err(|error| {
            let reason = format!("the engine refused the row: {}", error.kind());
            Error::line(&self.options.file, row.line, None, reason)
        })
    }

    fn finish(self, published: u64, started: Instant, report: &mut Report) {
        let limit = if interrupted() { HASTY_SHUTDOWN } else { SHUTDOWN };
        let shutdown = self.broker.shutdown(limit).expect("no thread that fills a slot shuts down");
        let elapsed = started.elapsed().as_secs_f64();
        let ledger = Ledger::of(&shutdown.ledger);
        let is_cut_short = interrupted() && !shutdown.undelivered.is_empty();
        for (number, (pattern, seen)) in self.options.subscribe.iter().zip(&self.seen).enumerate() {
            // The shutdown has seen the handlers' thread end.
            let delivered = seen.messages.load(Ordering::Relaxed);
            let out_of_order = seen.out_of_order.load(Ordering::Relaxed);
            let counted = self.subscriptions[number].delivered();
            let mut fail =
                |what: String| report.failed_checks.push(format!("subscription {pattern}: {what}"));
            if out_of_order > 0 {
                fail(format!("{out_of_order} messages out of order, or twice"));
            }
            if counted != delivered && !is_cut_short {
                fail(format!("its handler was called {delivered} times, and the ledger says {counted}"));
            }
            let matched = self.matched[number];
            if self.matched.len() <= MAX_CROSS_CHECKED && matched != delivered && !is_cut_short {
                fail(format!("{delivered} of the {matched} messages that it matches were delivered"));
            }
            report.subscriptions.push(SubscriptionReport { pattern: pattern.to_string(), delivered });
        }
        if ledger.published != published {
            report
                .failed_checks
                .push(format!("{published} rows were published, and the ledger says {}", ledger.published));
        }
        report.published = Some(published);
        report.delivered = Some(ledger.delivered);
        report.elapsed_s = Some(elapsed);
        report.messages_per_s = (published > 0).then(|| published as f64 / elapsed);
        report.ledger = Some(ledger);
    }
}
