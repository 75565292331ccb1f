//! One section: a broker of its own, the healthy one, the sick one or nobody beside it, and messages that
//! come due at a fixed rate. At its end failures end, and the sick one is given the time to recover.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ringmain::affinity::Pinning;
use ringmain::broker::dead_letters::{DeadLetterCounts, DeadLetterOptions};
use ringmain::broker::{
    BreakerState, Broker, Dispatcher, PublishFailure, Publisher, Subscription, SubscriptionStatus,
};
use ringmain::clock::Clock;
use serde::Serialize;

use super::account::Account;
use super::contract::{CONTRACT, Contract, Share};
use super::options::{Extent, Fault, Place};
use super::sick::{Healthy, Job, Recorded, Shared, Sick, locked};
use crate::error::Error;
use crate::interrupt::interrupted;
use crate::load::options::{Load, Rate, Wait};
use crate::load::pacer::{Manners, Pacer, Schedule, Span, Tally};
use crate::load::plan::Plan;
use crate::machine::cores;
use crate::stats::histogram;

const TOPIC: &str = "orders.eu.created";
const HEALTHY: &str = "healthy";
const SICK: &str = "sick";
/// Slots of each ring: what comes due in 200 ms.
const CAPACITY: usize = 4_096;
/// Room for every message of a section of any usual size.
const LETTERS: usize = 100_000;
/// The part of a section that warms up.
const WARM_UP_DIVISOR: u64 = 10;
/// From the section's start to its first message.
const LEAD: Duration = Duration::from_millis(1);
/// Between two looks at what has become of it, and between two messages that a recovery needs.
const PAUSE: Duration = Duration::from_millis(1);
/// How long rings may take to drain, and a breaker to close once failures have ended.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a look at a broker may take that has next to nothing to do.
const DRAIN: Duration = Duration::from_millis(20);
const SHUTDOWN: Duration = Duration::from_secs(10);
const HASTY_SHUTDOWN: Duration = Duration::from_millis(800);

/// Who stands beside the healthy one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Beside {
    Nobody,
    /// One with the same contract that fails so large a share, none perhaps.
    One(Place, Share),
}

/// What all sections have in common.
pub(super) struct Stage {
    pub(super) plan: Plan,
    extent: Extent,
    clock: Clock,
}

/// The options, and what follows from them.
#[derive(Serialize)]
pub(super) struct Config<'s> {
    #[serde(flatten)]
    extent: &'s Extent,
    section_messages: u64,
    contract: Contract,
    placed: &'s [Option<usize>],
}

/// What a section found.
pub(super) struct Found {
    pub(super) account: Account,
    /// From when messages were due to the healthy one's handler.
    pub(super) latency: Histogram<u64>,
    pub(super) tally: Tally,
    pub(super) failures: Vec<String>,
}

/// What the publisher's thread comes back with.
struct Published {
    sent: u64,
    tally: Tally,
    omitted: Histogram<u64>,
    /// The sick one when all that came due had been handled or put aside.
    at_the_end: SubscriptionStatus,
    /// The same when it has recovered, if it has.
    recovered: SubscriptionStatus,
    refusal: Option<PublishFailure>,
    is_drained: bool,
}

/// What runs in a section.
struct Cast {
    broker: Broker<Job>,
    healthy: Shared<Healthy>,
    healthy_subscription: Subscription<Job>,
    sick: Shared<Sick>,
    sick_subscription: Option<Subscription<Job>>,
    is_failing: Arc<AtomicBool>,
}

impl Stage {
    pub(super) fn new(extent: Extent, clock: Clock) -> Self {
        let load = Load {
            subscribers: 2,
            capacity: CAPACITY,
            cores: extent.cores.clone(),
            ..Load::new(Rate::PerSecond(extent.rate), extent.lasting())
        };
        let mut plan = Plan::of(&load);
        if let ([first, second], None) = (&*cores::place(None, cores::allowed().min(2)), &extent.cores)
            && plan.placed.iter().all(Option::is_none)
        {
            // Two cores for three threads: the publisher has one for itself, so that it is in time.
            (plan.placed, plan.consumers) = (vec![*first, *second, *second], 2);
        }
        if plan.shares_cores() {
            // Who spins for long before it parks would keep the other from their core, sick or not: until the
            // next tick of the scheduler, which is milliseconds. Naps are short and leave it free.
            plan.load.wait = Some(Wait::Backoff);
        }
        Self { plan, extent, clock }
    }

    /// Whether others need the publisher's core.
    fn shares_publishers_core(&self) -> bool {
        let (publisher, consumers) = (self.plan.placed[0], &self.plan.placed[1..]);
        publisher.is_none() || consumers.iter().any(|core| core.is_none() || *core == publisher)
    }

    pub(super) fn config(&self) -> Config<'_> {
        let (extent, placed) = (&self.extent, &*self.plan.placed);
        Config { extent, section_messages: extent.section(), contract: CONTRACT, placed }
    }

    /// Runs a section.
    pub(super) fn run(&self, beside: Beside) -> Result<Found, Error> {
        let sick = match beside {
            Beside::Nobody => None,
            Beside::One(place, share) => Some((place, share)),
        };
        let cast = self.set_up(sick)?;
        let published = std::thread::scope(|scope| {
            let publishing = std::thread::Builder::new().name("publisher".to_owned());
            let publishing = publishing.spawn_scoped(scope, || self.publish(&cast));
            let publishing = publishing.map_err(|source| Error::io("start a publisher", source))?;
            publishing.join().expect("a publisher does not panic")
        })?;
        self.take_down(cast, published, sick)
    }

    fn dispatcher(&self, name: &str, number: usize) -> Dispatcher {
        // On a single core all threads are in one place.
        let placed = &self.plan.placed;
        let core = placed.get(1 + number).or(placed.last()).copied().flatten();
        let pinning = core.map_or(Pinning::Unpinned, |core| Pinning::Cores(vec![core]));
        Dispatcher::new(name).capacity(CAPACITY).wait(self.plan.wait()).pinning(pinning)
    }

    fn set_up(&self, sick: Option<(Place, Share)>) -> Result<Cast, Error> {
        let builder = Broker::of::<Job>().clock(self.clock.clone());
        // Both dispatchers are there in each section, so that as many threads are.
        let builder = builder.dispatcher(self.dispatcher(HEALTHY, 0)).dispatcher(self.dispatcher(SICK, 1));
        let letters = DeadLetterOptions::new().entries(LETTERS);
        let broker = builder.dead_letters(letters).build()?;
        let refused = |error| Error::Usage(format!("the engine refused a subscription: {error}"));
        let planted = self.extent.planted;
        let messages = self.extent.section();
        let recorded = Recorded { from: messages / WARM_UP_DIVISOR, to: messages };
        let (healthy, ill) = (Healthy::new(), Sick::new());
        let (healthy, ill) = (Arc::new(Mutex::new(healthy)), Arc::new(Mutex::new(ill)));
        let of_healthy = planted.filter(|_| sick.is_some_and(|(_, share)| !share.is_none()));
        let handler = Healthy::handler(healthy.clone(), self.clock.clone(), recorded, of_healthy);
        let builder = broker.subscription().name(HEALTHY).pattern("orders.#").dispatcher(HEALTHY);
        let healthy_subscription = builder.subscribe(handler).map_err(refused)?;
        let is_failing = Arc::new(AtomicBool::new(true));
        let sick_subscription = sick.map(|(place, share)| {
            let handler = Sick::handler(ill.clone(), self.clock.clone(), share, is_failing.clone(), planted);
            let dispatcher = if place == Place::Own { SICK } else { HEALTHY };
            let builder = broker.subscription().name(SICK).pattern("orders.*.created").dispatcher(dispatcher);
            let builder = builder.retry(CONTRACT.retry()).breaker(CONTRACT.breaker());
            builder.backlog(CONTRACT.backlog()).subscribe(handler).map_err(refused)
        });
        let sick_subscription = sick_subscription.transpose()?;
        Ok(Cast { broker, healthy, healthy_subscription, sick: ill, sick_subscription, is_failing })
    }

    /// Publishes what comes due, has failures end, and waits until the sick one has recovered.
    fn publish(&self, cast: &Cast) -> Result<Published, Error> {
        cores::pin(self.plan.placed[0])?;
        let clock = &self.clock;
        let mut publisher = cast.broker.publisher(TOPIC).expect("a topic of three words");
        let start = clock.now().after(LEAD);
        let span = Span::new(start, self.extent.lasting());
        let schedule = Schedule::new(self.extent.rate, start, (0, 1));
        let manners = Manners { shares_core: self.shares_publishers_core(), may_park: self.plan.may_park() };
        let mut pacer = Pacer::new(schedule, clock.clone(), span, manners);
        let (mut sent, mut refusal) = (0, None);
        while let Some(due) = pacer.wait_until_due() {
            match send(&mut publisher, Job { number: sent, due: due.as_nanos() }) {
                Ok(()) => sent += 1,
                Err(failure) => {
                    refusal = Some(failure);
                    break;
                }
            }
        }
        let is_handled = || {
            // Each ring, and not what waits beside it.
            let rings = cast.broker.audit().rings;
            rings.iter().all(|ring| ring.depth == 0)
        };
        wait_for(is_handled, || ());
        let mut omitted = histogram();
        let tally = pacer.finish(clock.now(), &mut omitted);
        let status = || cast.sick_subscription.as_ref().map(Subscription::status).unwrap_or_default();
        let at_the_end = status();
        cast.is_failing.store(self.extent.planted == Some(Fault::Unhealed), Ordering::Relaxed);
        let has_recovered = || {
            let status = status();
            status.breaker.is_none_or(|state| state == BreakerState::Closed)
                && status.backlogged + status.retrying == 0
        };
        let wake = || {
            // A breaker that is open looks at the time when a message comes.
            if status().backlogged + status().retrying == 0 && refusal.is_none() {
                match send(&mut publisher, Job { number: sent, due: clock.now().as_nanos() }) {
                    Ok(()) => sent += 1,
                    Err(failure) => refusal = Some(failure),
                }
            }
        };
        // A call that failed may be under way still: it counts before anything is final.
        let is_settled = || has_recovered() && cast.broker.drain(DRAIN).is_ok() && has_recovered();
        let is_drained = wait_for(is_settled, wake);
        let recovered = status();
        Ok(Published { sent, tally, omitted, at_the_end, recovered, refusal, is_drained })
    }

    /// Shuts everything down, and compares what was seen with what the engine says.
    fn take_down(
        &self,
        cast: Cast,
        published: Published,
        sick: Option<(Place, Share)>,
    ) -> Result<Found, Error> {
        let limit = if interrupted() { HASTY_SHUTDOWN } else { SHUTDOWN };
        let Cast { broker, healthy, healthy_subscription, sick: ill, sick_subscription, .. } = cast;
        let shutdown = broker.shutdown(limit).expect("no thread that fills a slot shuts down");
        let letters = broker.dead_letters().map(|letters| letters.counts());
        let of = |subscription: &Subscription<Job>| {
            let all = shutdown.ledger.subscriptions.iter();
            all.clone().find(|account| account.id == subscription.id()).cloned().unwrap_or_default()
        };
        let Published { sent, tally, omitted, at_the_end, recovered, refusal, is_drained } = published;
        let mut failures: Vec<String> = Vec::new();
        for stuck in &shutdown.abandoned {
            failures.push(format!("{} did not come back from {}", stuck.thread, stuck.subscription));
        }
        failures.extend(refusal.map(|failure| format!("the engine refused a message: {failure}")));
        let healthy = locked(&healthy);
        let mut latency = healthy.latency.clone();
        latency.add(omitted).expect("histograms of the same bounds");
        let account = Account {
            sent,
            paced: tally.sent,
            healthy_calls: healthy.calls,
            misplaced: healthy.misplaced,
            healthy: of(&healthy_subscription),
            sick: sick_subscription.as_ref().map(of),
            seen: locked(&ill).clone(),
            share: sick.map(|(_, share)| share),
            letters: letters.unwrap_or(DeadLetterCounts::default()),
            at_the_end,
            recovered,
            is_drained,
            ledger: crate::report::Ledger::of(&shutdown.ledger),
        };
        // A section that was cut short has lost nothing, and proves nothing.
        if !interrupted() {
            failures.extend(account.faults());
        }
        Ok(Found { account, latency, tally, failures })
    }
}

fn send(publisher: &mut Publisher<Job>, job: Job) -> Result<(), PublishFailure> {
    publisher.publish(job).map(drop).map_err(|error| error.kind().clone())
}

/// Waits until something holds, doing something else after each look at which it does not; not for ever,
/// and not once the run is interrupted. Whether it holds.
fn wait_for(holds: impl Fn() -> bool, mut meanwhile: impl FnMut()) -> bool {
    let started = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if interrupted() || started.elapsed() > PATIENCE {
            return false;
        }
        meanwhile();
        std::thread::sleep(PAUSE);
    }
}
