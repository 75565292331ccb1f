//! A load on an engine of its own: a broker, subscribers that check what they get, publishers that
//! are driven.
//!
//! Everything is built for a section of a run and taken down after it, because threads that wait by
//! spinning would disturb whatever is measured next on the same cores. The threads of publishers
//! live as long as one call that drives them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, OnceLock, mpsc};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ringmain::broker::{
    AnyTopicPublisher, Broker, Dispatcher, PublishFailure, Publisher, Subscription, Undelivered,
};
use ringmain::clock::{Clock, Timestamp};

use super::options::Rate;
use super::plan::Plan;
use super::reader::{Body, Expected, Findings, Numbers, Reader, Senders};
use crate::error::Error;
use crate::interrupt::{self, interrupted};
use crate::load::pacer::{Manners, Pacer, Schedule, Span, Tally};
use crate::machine::allocations::{self, Allocations};
use crate::machine::cores;
use crate::machine::usage::involuntary_switches;
use crate::report;
use crate::stats::histogram;

/// What the threads that publish are called.
const PUBLISHER: &str = "publisher";
/// Messages between two looks at the clock and at the interrupt.
pub(crate) const STRIDE: usize = 64;
/// The longest warm-up: it ends earlier when the ring has been round twice and all topics are
/// known.
const WARM_UP: Duration = Duration::from_millis(100);
/// Allocations are counted over so many messages at least, unless that takes longer than this.
const MIN_COUNTED: u64 = 10_000;
const COUNT_PATIENCE: Duration = Duration::from_secs(3);
/// Without a single delivery for so long, messages are taken for lost.
const STANDSTILL: Duration = Duration::from_secs(5);
/// How long an engine may take to stop; and when somebody waits for the program to end.
const SHUTDOWN: Duration = Duration::from_secs(10);
const HASTY_SHUTDOWN: Duration = Duration::from_millis(800);
/// The patterns of subscribers, in turn. Both match all topics.
const PATTERNS: [&str; 2] = ["bench.*.tick", "bench.#"];
/// Bound publishers: one for each publishing thread and topic, each some 2 KiB.
const MAX_BOUND: usize = 1 << 20;
/// Failures that are told one by one.
const MAX_FAILURES: usize = 8;

/// One publishing thread's publishers, and what it writes.
struct Sender {
    publishers: Publishers,
    /// The topic of the next message.
    topic: usize,
    body: Body,
    sent: u64,
}

enum Publishers {
    Bound(Vec<Publisher>),
    AtRunTime(Box<AnyTopicPublisher>, Arc<[String]>),
}

impl Sender {
    /// Publishes one message, to the topic whose turn it is.
    #[inline]
    fn send(&mut self, number: u64) -> Result<(), PublishFailure> {
        let bytes = self.body.numbered(number);
        let (outcome, topics) = match &mut self.publishers {
            Publishers::Bound(publishers) => (publishers[self.topic].publish(bytes), publishers.len()),
            Publishers::AtRunTime(publisher, topics) => {
                (publisher.publish(&topics[self.topic], bytes), topics.len())
            }
        };
        let _ = outcome.map_err(|error| error.kind().clone())?;
        self.sent += 1;
        self.topic = if self.topic + 1 == topics { 0 } else { self.topic + 1 };
        Ok(())
    }

    /// Publishes as fast as back-pressure allows while `go_on` says so, which is asked once in a
    /// while with the number of messages sent since the start.
    fn flood(&mut self, mut go_on: impl FnMut(u64) -> bool) -> Result<u64, PublishFailure> {
        let before = self.sent;
        while !interrupted() && go_on(self.sent - before) {
            for _ in 0..STRIDE {
                self.send(self.sent)?;
            }
        }
        Ok(self.sent - before)
    }
}

/// What a section found that measures how many messages go through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Saturated {
    /// Messages that were published and delivered to all subscribers, without those that warmed
    /// everything up.
    pub(crate) messages: u64,
    pub(crate) elapsed: Duration,
    /// The time with that of warming up.
    pub(crate) whole: Duration,
}

impl Saturated {
    /// Nanoseconds a message; `None` when there was none.
    pub(crate) fn ns_per_message(&self) -> Option<f64> {
        (self.messages > 0).then(|| self.elapsed.as_nanos() as f64 / self.messages as f64)
    }
}

/// What a section found that measures latency; the times themselves are with the subscribers.
#[derive(Debug)]
pub(crate) struct Paced {
    /// What became of the messages that came due; nothing where there was no rate to keep.
    pub(crate) tally: Option<Tally>,
    /// The least that the latency of those messages can have been which were not sent.
    pub(crate) omitted: Histogram<u64>,
    /// From the first intended time until the end, or until everything was delivered.
    pub(crate) elapsed: Duration,
    /// How often the publishing threads were taken off their cores against their will.
    pub(crate) involuntary_switches: Option<u64>,
}

/// What an engine has come to.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) ledger: report::Ledger,
    /// From the intended times to the handlers, of all subscribers.
    pub(crate) latency: Histogram<u64>,
    /// What was found wrong, in words.
    pub(crate) failures: Vec<String>,
    /// How often the threads that call handlers were taken off their cores against their will.
    pub(crate) involuntary_switches: Option<u64>,
}

/// A running engine with its load.
pub(crate) struct Session<'p> {
    plan: &'p Plan,
    broker: Broker,
    clock: Clock,
    subscriptions: Vec<Subscription>,
    senders: Vec<Sender>,
    record_from: Arc<AtomicU64>,
    schedules: Arc<OnceLock<Vec<Schedule>>>,
    found: mpsc::Receiver<Findings>,
}

impl<'p> Session<'p> {
    /// Builds the broker, subscribes, and makes the publishers; `None` when the run was interrupted
    /// meanwhile.
    pub(crate) fn start(plan: &'p Plan, clock: &Clock, numbers: Numbers) -> Result<Option<Self>, Error> {
        match Self::build(plan, clock, numbers) {
            Err(Error::Interrupted) => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    fn build(plan: &'p Plan, clock: &Clock, numbers: Numbers) -> Result<Self, Error> {
        let bound = plan.load.publishers * plan.load.topics;
        if !plan.load.runtime_topics && bound > MAX_BOUND {
            return Err(Error::Usage(format!(
                "--publishers, --topics: {bound} bound publishers, and {MAX_BOUND} are the most; with \
                 --runtime-topics every thread has one"
            )));
        }
        let mut builder = Broker::builder().clock(clock.clone());
        if !plan.by_default {
            let dispatcher = Dispatcher::new("bench")
                .capacity(plan.load.capacity)
                .wait(plan.wait())
                .pinning(plan.pinning())
                .stages(&[plan.consumers]);
            builder = builder.dispatcher(dispatcher);
        }
        let broker: Broker = builder.build()?;
        let body = Body::new(plan.load.payload);
        let record_from = Arc::new(AtomicU64::new(u64::MAX));
        let (all_senders, schedules) = (Arc::new(OnceLock::new()), Arc::new(OnceLock::new()));
        let (finder, found) = mpsc::channel();
        let subscriptions = (0..plan.load.subscribers)
            .map(|number| {
                let expected = Expected {
                    numbers,
                    body: body.clone(),
                    clock: clock.clone(),
                    senders: all_senders.clone(),
                    record_from: record_from.clone(),
                    schedules: schedules.clone(),
                    // One of them will do.
                    stall: plan.load.planted_stall.filter(|_| number == 0),
                };
                let mut reader = Reader::new(number, expected, finder.clone());
                let subscription =
                    broker.subscribe(PATTERNS[number % PATTERNS.len()], move |message| reader.read(message));
                subscription.map_err(|error| Error::Usage(format!("--subscribers: {error}")))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let topics: Arc<[String]> =
            (0..plan.load.topics).map(|number| format!("bench.{number}.tick")).collect();
        let senders = (0..plan.load.publishers)
            .map(|_| {
                let publishers = if plan.load.runtime_topics {
                    Publishers::AtRunTime(Box::new(broker.any_topic_publisher()), topics.clone())
                } else {
                    Publishers::Bound(bind(&broker, &topics)?)
                };
                Ok(Sender { publishers, topic: 0, body: body.clone(), sent: 0 })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let known = introduce(&senders, topics);
        all_senders.set(Arc::new(known)).expect("set nowhere else");
        let clock = clock.clone();
        Ok(Self { plan, broker, clock, subscriptions, senders, record_from, schedules, found })
    }

    /// Publishes as fast as back-pressure allows: first until everything is warm, then for a time.
    /// The time that counts ends when everything has been delivered.
    pub(crate) fn saturate(&mut self, lasting: Duration) -> Result<Saturated, Error> {
        let Self { plan, clock, subscriptions, senders, .. } = self;
        let (plan, clock) = (*plan, &*clock);
        let crew = Crew::new(plan, clock, subscriptions, senders);
        let work = |_number: usize, sender: &mut Sender| {
            let began = clock.now();
            let warm_by = began.after(WARM_UP);
            let warmed = sender.flood(|sent| sent < lap(plan) && clock.now() < warm_by);
            crew.settle(&warmed);
            let started = clock.now();
            let end = started.after(lasting);
            // A warm-up that failed leaves nothing to measure, but others wait at the barrier.
            let sent = warmed.and_then(|_| sender.flood(|_| clock.now() < end));
            let ended = crew.settle(&sent);
            Ok((sent?, began, started, ended))
        };
        let sections = crew.drive(senders, work, || {})?;
        Ok(Saturated {
            messages: sections.iter().map(|section| section.0).sum(),
            elapsed: longest(sections.iter().map(|&(_, _, started, ended)| (started, ended))),
            whole: longest(sections.iter().map(|&(_, began, _, ended)| (began, ended))),
        })
    }

    /// Counts what all threads allocate and free in the midst of a section, and the messages that
    /// every subscriber got meanwhile.
    pub(crate) fn count_allocations(&mut self, lasting: Duration) -> Result<(Allocations, u64), Error> {
        let Self { plan, clock, subscriptions, senders, .. } = self;
        let (plan, clock, subscriptions) = (*plan, &*clock, &*subscriptions);
        let crew = Crew::new(plan, clock, subscriptions, senders);
        let target = crew.published.load(Ordering::Relaxed) + lap(plan) * plan.load.publishers as u64;
        let delivered = || subscriptions.iter().map(Subscription::delivered).min().unwrap_or(0);
        let done = AtomicBool::new(false);
        let mut counted = (Allocations::default(), 0);
        let observe = || {
            let warm_by = clock.now().after(COUNT_PATIENCE);
            while delivered() < target && clock.now() < warm_by && !interrupted() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let before = delivered();
            let (after, allocations) = allocations::count(|| {
                let count_by = clock.now().after(COUNT_PATIENCE);
                loop {
                    std::thread::sleep(lasting);
                    let now = delivered();
                    if now - before >= MIN_COUNTED || clock.now() >= count_by || interrupted() {
                        return now;
                    }
                }
            });
            counted = (allocations, after - before);
            done.store(true, Ordering::Relaxed);
        };
        let work = |_number: usize, sender: &mut Sender| {
            let sent = sender.flood(|_| !done.load(Ordering::Relaxed));
            crew.settle(&sent);
            sent
        };
        crew.drive(senders, work, observe)?;
        Ok(counted)
    }

    /// Publishes at a rate for a time, the first part of which is left out of the histogram; every
    /// message carries the time for which it was intended.
    pub(crate) fn pace(&mut self, rate: Rate, lasting: Duration, warm_up: Duration) -> Result<Paced, Error> {
        let Self { plan, clock, subscriptions, senders, record_from, schedules, .. } = self;
        let (clock, turns) = (&*clock, senders.len());
        let manners = Manners { shares_core: plan.shares_cores(), may_park: plan.may_park() };
        let crew = Crew::new(plan, clock, subscriptions, senders);
        let common_start = AtomicU64::new(0);
        let work = |number: usize, sender: &mut Sender| {
            if crew.meet() {
                let start = clock.now().after(Duration::from_micros(200));
                common_start.store(start.as_nanos(), Ordering::Relaxed);
                record_from.store(start.after(warm_up).as_nanos(), Ordering::Relaxed);
                let all = match rate {
                    Rate::Max => Vec::new(),
                    Rate::PerSecond(rate) => {
                        (0..turns).map(|turn| Schedule::new(rate, start, (turn, turns))).collect()
                    }
                };
                schedules.set(all).expect("an engine is paced once");
            }
            // The barrier orders all of these.
            crew.meet();
            let start = Timestamp::from_nanos(common_start.load(Ordering::Relaxed));
            let span = Span::new(start, lasting);
            let end = span.end();
            let (before, switches_before) = (sender.sent, involuntary_switches());
            let schedule = schedules.get().and_then(|all| all.get(number));
            let mut pacer = schedule.map(|schedule| Pacer::new(*schedule, clock.clone(), span, manners));
            let outcome = match &mut pacer {
                None => send_at_once(sender, clock, end),
                Some(pacer) => send_paced(sender, pacer),
            };
            let switches = switches_before.zip(involuntary_switches()).map(|(before, now)| now - before);
            // The last message is due before the end: what is left of the time belongs to the rate.
            while clock.now() < end && !interrupted() {
                std::thread::sleep(end.since(clock.now()).min(Duration::from_millis(10)));
            }
            let sent = outcome.map(|()| sender.sent - before);
            let ended = crew.settle(&sent);
            sent.map(|_| (pacer, start, ended, switches))
        };
        let sections = crew.drive(senders, work, || {})?;
        let elapsed = longest(sections.iter().map(|section| (section.1, section.2)));
        let switches = sections.iter().map(|section| section.3).sum();
        let (mut tally, mut omitted) = (None, histogram());
        for (pacer, _, ended, _) in sections {
            if let Some(pacer) = pacer {
                tally.get_or_insert_with(Tally::default).add(&pacer.finish(ended, &mut omitted));
            }
        }
        Ok(Paced { tally, omitted, elapsed, involuntary_switches: switches })
    }

    /// Shuts the engine down, and compares what was sent with what was found.
    pub(crate) fn finish(self) -> Ended {
        let Self { plan, broker, clock, subscriptions, senders, schedules, found, .. } = self;
        let sent: Vec<u64> = senders.iter().map(|sender| sender.sent).collect();
        let limit = if interrupted() { HASTY_SHUTDOWN } else { SHUTDOWN };
        let shutdown = broker.shutdown(limit).expect("no thread that fills a slot shuts down");
        let ledger = report::Ledger::of(&shutdown.ledger);
        let mut failures = Vec::new();
        for stuck in &shutdown.abandoned {
            failures.push(format!("{} did not come back from {}", stuck.thread, stuck.subscription));
        }
        // What was handed back because somebody was in a hurry is not lost.
        let is_cut_short = interrupted() && !shutdown.undelivered.is_empty();
        // Several subscribers may share a thread.
        let (mut latency, mut switches) = (histogram(), HashMap::new());
        let mut readers = 0;
        for findings in found.try_iter() {
            readers += 1;
            if !is_cut_short {
                failures.extend(findings.failures(&sent));
            }
            if let Some((thread, count)) = findings.involuntary_switches {
                let most = switches.entry(thread).or_insert(0);
                *most = count.max(*most);
            }
            if let Some(times) = findings.latency {
                latency.add(times).expect("histograms of the same bounds");
            }
        }
        // A message that was sent and handed back has waited until now, for each that did not get
        // it.
        if schedules.get().is_some_and(|all| !all.is_empty()) {
            for undelivered in &shutdown.undelivered {
                let Undelivered { message, subscriptions, .. } = &**undelivered;
                let number = message.payload.as_slice().first_chunk::<8>().copied();
                let due =
                    number.map_or(message.published_at, |due| Timestamp::from_nanos(u64::from_le_bytes(due)));
                let waited = clock.now().since(due).as_nanos() as u64;
                latency.saturating_record_n(waited, subscriptions.len() as u64);
            }
        }
        if readers < plan.load.subscribers {
            failures.push(format!("{readers} of {} subscribers were heard of again", plan.load.subscribers));
        }
        if !ledger.balanced {
            failures.push("the ledger of an engine does not balance".to_owned());
        }
        let all = failures.len();
        if all > MAX_FAILURES {
            failures.truncate(MAX_FAILURES);
            failures.push(format!("and {} more", all - MAX_FAILURES));
        }
        drop((subscriptions, senders));
        let involuntary_switches = (!switches.is_empty()).then(|| switches.values().sum());
        Ended { ledger, latency, failures, involuntary_switches }
    }
}

/// The threads of all senders while they work together.
struct Crew<'s> {
    plan: &'s Plan,
    clock: &'s Clock,
    subscriptions: &'s [Subscription],
    together: Barrier,
    /// Messages that were published by all senders since the engine's start.
    published: AtomicU64,
    /// When the last of them was seen to be delivered.
    settled: AtomicU64,
}

impl<'s> Crew<'s> {
    fn new(plan: &'s Plan, clock: &'s Clock, subscriptions: &'s [Subscription], senders: &[Sender]) -> Self {
        let published = senders.iter().map(|sender| sender.sent).sum();
        Self {
            plan,
            clock,
            subscriptions,
            together: Barrier::new(senders.len()),
            published: AtomicU64::new(published),
            settled: AtomicU64::new(0),
        }
    }

    /// Has every sender work on a thread of its own, on its core, and the calling thread do
    /// something else meanwhile. Whatever happens to `work`, it must meet the others as often as
    /// they do.
    fn drive<R: Send>(
        &self,
        senders: &mut [Sender],
        work: impl Fn(usize, &mut Sender) -> Result<R, PublishFailure> + Sync,
        meanwhile: impl FnOnce(),
    ) -> Result<Vec<R>, Error> {
        let are_misplaced = AtomicBool::new(false);
        let (work, are_misplaced) = (&work, &are_misplaced);
        std::thread::scope(|scope| {
            let threads: Vec<_> = senders
                .iter_mut()
                .enumerate()
                .map(|(number, sender)| {
                    let publishing = move || {
                        let pinned = cores::pin(self.plan.placed[number]);
                        are_misplaced.fetch_or(pinned.is_err(), Ordering::Relaxed);
                        // The barrier orders the flag: past it all know whether all are where they
                        // should be.
                        self.meet();
                        pinned?;
                        if are_misplaced.load(Ordering::Relaxed) {
                            return Ok(None);
                        }
                        work(number, sender).map(Some).map_err(refused)
                    };
                    let builder = std::thread::Builder::new().name(PUBLISHER.to_owned());
                    builder.spawn_scoped(scope, publishing).expect("a thread starts")
                })
                .collect();
            meanwhile();
            let outcomes = threads.into_iter().map(|thread| thread.join().expect("a sender does not panic"));
            outcomes.filter_map(Result::transpose).collect()
        })
    }

    /// Waits for all other senders; `true` for one of them.
    fn meet(&self) -> bool {
        self.together.wait().is_leader()
    }

    /// Waits until all senders have come here and everything they have sent is delivered; when that
    /// was.
    fn settle(&self, sent: &Result<u64, PublishFailure>) -> Timestamp {
        self.published.fetch_add(sent.as_ref().copied().unwrap_or(0), Ordering::Relaxed);
        // The barriers order both words.
        if self.meet() {
            self.await_deliveries(self.published.load(Ordering::Relaxed));
            self.settled.store(self.clock.now().as_nanos(), Ordering::Relaxed);
        }
        self.meet();
        Timestamp::from_nanos(self.settled.load(Ordering::Relaxed))
    }

    /// Waits until every subscriber has had so many messages, the run is interrupted, or nothing
    /// moves any more: then the subscribers will say what they have not got.
    fn await_deliveries(&self, messages: u64) {
        let (mut last, mut moved) = (0, Instant::now());
        for look in 0_u64.. {
            let counts = || self.subscriptions.iter().map(Subscription::delivered);
            if counts().all(|delivered| delivered >= messages) || interrupted() {
                return;
            }
            if look % 256 == 255 {
                let delivered = counts().sum::<u64>();
                if delivered != last {
                    (last, moved) = (delivered, Instant::now());
                } else if moved.elapsed() > STANDSTILL {
                    return;
                }
                if self.plan.shares_cores() {
                    std::thread::sleep(Duration::from_micros(50));
                }
            }
            std::hint::spin_loop();
        }
    }
}

/// Publishes what comes due.
fn send_paced(sender: &mut Sender, pacer: &mut Pacer) -> Result<(), PublishFailure> {
    while let Some(intended) = pacer.wait_until_due() {
        sender.send(intended.as_nanos())?;
    }
    Ok(())
}

/// Publishes one message after the other until a moment; each is intended for when it is sent.
fn send_at_once(sender: &mut Sender, clock: &Clock, end: Timestamp) -> Result<(), PublishFailure> {
    let mut next = 0;
    loop {
        let now = clock.now();
        if now >= end || interrupted() {
            return Ok(());
        }
        // The clock may stand still for two messages; their numbers may not.
        let number = now.as_nanos().max(next);
        sender.send(number)?;
        next = number + 1;
    }
}

/// Messages that a sender publishes to make everything warm: the ring goes round twice, and all
/// topics are known.
fn lap(plan: &Plan) -> u64 {
    (2 * plan.load.capacity.max(plan.load.topics)).div_ceil(plan.load.publishers) as u64
}

/// A publisher for each topic.
fn bind(broker: &Broker, topics: &[String]) -> Result<Vec<Publisher>, Error> {
    let mut publishers = Vec::with_capacity(topics.len());
    for (number, topic) in topics.iter().enumerate() {
        if number % STRIDE == 0 {
            interrupt::check()?;
        }
        publishers.push(broker.publisher(topic).expect("a topic of three words"));
    }
    Ok(publishers)
}

/// Which publisher of the engine belongs to which sender.
fn introduce(senders: &[Sender], topics: Arc<[String]>) -> Senders {
    let mut ids = Vec::new();
    for (sender, number) in senders.iter().zip(0..) {
        match &sender.publishers {
            Publishers::Bound(publishers) => {
                ids.extend(
                    publishers
                        .iter()
                        .zip(0..)
                        .map(|(publisher, topic)| (publisher.id().get(), (number, topic))),
                );
            }
            Publishers::AtRunTime(publisher, _) => ids.push((publisher.id().get(), (number, 0))),
        }
    }
    let first = ids.iter().map(|(id, _)| *id).min().unwrap_or(0);
    let last = ids.iter().map(|(id, _)| *id).max().unwrap_or(0);
    let mut publishers = vec![None; (last - first) as usize + 1];
    for (id, of) in ids {
        publishers[(id - first) as usize] = Some(of);
    }
    let bound = senders.iter().all(|sender| matches!(sender.publishers, Publishers::Bound(_)));
    Senders { topics, first, publishers, bound, count: senders.len() }
}

/// From the first start to the last end.
pub(crate) fn longest(sections: impl Iterator<Item = (Timestamp, Timestamp)> + Clone) -> Duration {
    let started = sections.clone().map(|section| section.0).min().unwrap_or_default();
    sections.map(|section| section.1).max().unwrap_or_default().since(started)
}

fn refused(failure: PublishFailure) -> Error {
    Error::Usage(format!("the engine refused a message of this load: {failure}"))
}
