//! `waiting`: what it costs to wait. Processor time while nothing comes, how long a sleeper takes
//! to wake up beside a bare futex, and what a pinned neighbour notices of a thread that goes to
//! sleep a thousand times a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use ringmain::affinity::Pinning;
use ringmain::ring::{BuildError, Ring, RingBuilder, SingleProducer};
use ringmain::wait::WaitStrategy;
use serde::Serialize;

use crate::error::Error;
use crate::interrupt::{check, interrupted};
use crate::machine::cores;
use crate::machine::futex::Bell;
use crate::machine::noise;
use crate::machine::usage::Usage;
use crate::progress::Progress;
use crate::report::{Bound, Comparison, Report, Side};
use crate::stats::{LatencyNs, histogram, median};

/// Slots of every ring here: nothing ever fills them.
const CAPACITY: usize = 64;
/// How long a wake-up or the end of a ring may take before something is wrong.
const PATIENCE: Duration = Duration::from_secs(5);
/// Nobody stays deaf to an interrupt for longer.
const NAP: Duration = Duration::from_millis(100);
/// The pauses after which threads are woken.
const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(1);
/// Wake-ups of one contender in a row, after a short pause each.
const BLOCK: u32 = 20;
/// How often the neighbour goes to sleep, in a second.
const NEIGHBOURS_PAUSE: Duration = Duration::from_millis(1);

/// The bounds: percentages of a core, and times over the time they are compared with.
const MAX_IDLE_DEFAULT: f64 = 5.0;
const MAX_IDLE_BLOCKING: f64 = 1.0;
const MAX_WAKE_UP: f64 = 2.0;
const MAX_DISTURBANCE: f64 = 1.5;

/// The options of `waiting`.
#[derive(Clone, Copy, Debug, Args, Serialize)]
pub(crate) struct WaitingOptions {
    /// Fewer and shorter rounds: done within 15 seconds instead of 60
    #[arg(long)]
    quick: bool,
    /// Hold the figures to their bounds, and show them: a missed one is a failed check, exit code
    /// 1, or 3 where the machine was too noisy to tell
    #[arg(long)]
    check: bool,
}

/// How much is measured.
struct Extent {
    /// How long the processor time of an idle ring is watched.
    idle: Duration,
    /// Rounds of blocks of wake-ups after a short pause.
    short_rounds: u32,
    /// Threads of each kind that are woken in turn after a long pause, and how often each.
    long_threads: u32,
    long_rounds: u32,
    /// Rounds of the neighbour, and how long each half of a round lasts.
    neighbour_rounds: u32,
    neighbour: Duration,
}

const FULL: Extent = Extent {
    idle: Duration::from_secs(10),
    short_rounds: 50,
    long_threads: 30,
    long_rounds: 10,
    neighbour_rounds: 10,
    neighbour: Duration::from_millis(600),
};
const QUICK: Extent = Extent {
    idle: Duration::from_secs(2),
    short_rounds: 10,
    long_threads: 30,
    long_rounds: 3,
    neighbour_rounds: 4,
    neighbour: Duration::from_millis(250),
};

/// Measures all three.
pub(crate) fn waiting(options: &WaitingOptions) -> Result<Report, Error> {
    let extent = if options.quick { QUICK } else { FULL };
    let mut report = Report::of_measurement("waiting", options);
    let started = Instant::now();
    let mut progress = Progress::expecting("waiting", extent.expected());
    idle(&extent, &mut report, &mut progress)?;
    wake_ups(&extent, &mut report, &mut progress)?;
    neighbour(&extent, &mut report, &mut progress)?;
    report.judge_bounds(options.check);
    report.notes.push(
        "a wake-up counts from before the publish, or the ring of the futex, to the woken thread's \
         first instruction; p99.9 of a neighbour is its lateness for a message imagined every \
         microsecond, the median of its rounds"
            .to_owned(),
    );
    report.elapsed_s = Some(started.elapsed().as_secs_f64());
    report.finish();
    Ok(report)
}

impl Extent {
    fn expected(&self) -> Duration {
        let short = (SHORT * BLOCK) * self.short_rounds * 3;
        LONG + self.idle * 2 + short + LONG * self.long_rounds + self.neighbour * self.neighbour_rounds * 2
    }
}

fn bound(report: &mut Report, name: String, figure: f64, most: f64, unit: &'static str) {
    report.bounds.push(Bound::new(name, Side::AtMost, most, figure, unit));
}

/// Sleeps, and leaves when the run is stopped.
fn pause(lasting: Duration, progress: &mut Progress) -> Result<(), Error> {
    let started = Instant::now();
    loop {
        check()?;
        progress.tick();
        let left = lasting.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(NAP));
    }
}

/// A ring with one consumer, and its only producer.
struct Waited {
    producer: SingleProducer<u64>,
    ring: Ring<u64>,
}

impl Waited {
    fn start(
        wait: WaitStrategy,
        core: Option<usize>,
        mut handler: impl FnMut(u64) + Send + 'static,
    ) -> Result<Self, Error> {
        let pinning = core.map_or(Pinning::Unpinned, |core| Pinning::Cores(vec![core]));
        let ring = RingBuilder::new(CAPACITY, u64::default).map_err(unbuilt)?;
        let mut graph = ring.wait(wait).pinning(pinning).graph().map_err(unbuilt)?;
        graph.consumer("waiting", &[], move |event, _sequence, _end| handler(*event)).map_err(unbuilt)?;
        let (producer, ring) = graph.build_single_producer().map_err(unbuilt)?;
        Ok(Self { producer, ring })
    }

    fn publish(&mut self, value: u64) {
        self.producer.publish(|event| *event = value).expect("an open ring with room");
    }

    fn end(mut self, report: &mut Report) {
        if self.ring.shutdown(PATIENCE).is_err() {
            report.failed_checks.push("a ring's consumer did not end".to_owned());
        }
    }
}

fn unbuilt(error: BuildError) -> Error {
    Error::Usage(error.to_string())
}

/// The part of a core that an idle ring takes, in per cent: one that waits by default, after a
/// second, and one that blocks, from the start.
fn idle(extent: &Extent, report: &mut Report, progress: &mut Progress) -> Result<(), Error> {
    let cases = [
        (WaitStrategy::default(), LONG, MAX_IDLE_DEFAULT, "the default, idle for 1 s"),
        (WaitStrategy::Blocking, Duration::ZERO, MAX_IDLE_BLOCKING, "blocking"),
    ];
    for (strategy, before, most, name) in cases {
        let ring = Waited::start(strategy, None, |_| {})?;
        pause(before, progress)?;
        let (Some(began), started) = (Usage::of_process(), Instant::now()) else {
            report.notes.push("this system does not tell a process's processor time".to_owned());
            return Ok(());
        };
        pause(extent.idle, progress)?;
        if let Some(ended) = Usage::of_process() {
            let used = ended.cpu_s.since(began.cpu_s);
            let share = 100.0 * (used.user + used.system) / started.elapsed().as_secs_f64();
            bound(report, format!("idle {strategy} consumer ({name})"), share, most, "% of a core");
        }
        ring.end(report);
    }
    Ok(())
}

/// Somebody who sleeps, and says how long it took to wake up.
struct Sleeper {
    waker: Waker,
    origin: Instant,
    /// The nanoseconds of the last wake-up; zero until there is one.
    took: Arc<AtomicU64>,
}

enum Waker {
    Futex { bell: Arc<(Bell, AtomicU64)>, thread: JoinHandle<()> },
    Ring(Box<Waited>),
}

/// Tells a thread on a futex to end.
const STOP: u64 = u64::MAX;

impl Sleeper {
    /// One who waits by a strategy; on a bare futex where there is none.
    fn start(strategy: Option<WaitStrategy>) -> Result<Self, Error> {
        let (origin, took) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let answer = {
            let took = took.clone();
            move |rung: u64| {
                let now = origin.elapsed().as_nanos() as u64;
                took.store((now - rung).max(1), Ordering::Release);
            }
        };
        let waker = match strategy {
            Some(strategy) => Waker::Ring(Box::new(Waited::start(strategy, None, answer)?)),
            None => {
                let bell = Arc::new((Bell::default(), AtomicU64::new(0)));
                let thread = {
                    let bell = bell.clone();
                    std::thread::spawn(move || {
                        let mut heard = 0;
                        loop {
                            heard = bell.0.wait(heard);
                            match bell.1.load(Ordering::Relaxed) {
                                STOP => return,
                                rung => answer(rung),
                            }
                        }
                    })
                };
                Waker::Futex { bell, thread }
            }
        };
        Ok(Self { waker, origin, took })
    }

    /// Wakes it.
    fn wake(&mut self) {
        self.took.store(0, Ordering::Relaxed);
        let now = self.origin.elapsed().as_nanos() as u64;
        match &mut self.waker {
            Waker::Ring(ring) => ring.publish(now),
            Waker::Futex { bell, .. } => {
                bell.1.store(now, Ordering::Relaxed);
                bell.0.ring();
            }
        }
    }

    /// How long it took, once it is awake.
    fn took(&self) -> Result<u64, Error> {
        let started = Instant::now();
        loop {
            match self.took.load(Ordering::Acquire) {
                0 if started.elapsed() > PATIENCE => return Ok(PATIENCE.as_nanos() as u64),
                0 => {
                    check()?;
                    std::thread::sleep(SHORT);
                }
                took => return Ok(took),
            }
        }
    }

    fn end(self, report: &mut Report) {
        match self.waker {
            Waker::Ring(ring) => ring.end(report),
            Waker::Futex { bell, thread } => {
                bell.1.store(STOP, Ordering::Relaxed);
                bell.0.ring();
                thread.join().expect("a thread that sleeps does not panic");
            }
        }
    }
}

/// Those that are woken, the one that the others are compared with first.
const CONTENDERS: [Option<WaitStrategy>; 3] =
    [None, Some(WaitStrategy::Blocking), Some(WaitStrategy::Adaptive)];

/// Wake-ups after a short and after a long pause, in turns.
fn wake_ups(extent: &Extent, report: &mut Report, progress: &mut Progress) -> Result<(), Error> {
    let mut times = CONTENDERS.map(|_| histogram());
    let mut sleepers = CONTENDERS.iter().map(|kind| Sleeper::start(*kind)).collect::<Result<Vec<_>, _>>()?;
    for _ in 0..extent.short_rounds {
        for (sleeper, times) in sleepers.iter_mut().zip(&mut times) {
            for number in 0..BLOCK {
                pause(SHORT, progress)?;
                sleeper.wake();
                std::thread::sleep(SHORT / 2);
                let took = sleeper.took()?;
                // The first of a block comes after the pause in which the others had their turn.
                if number > 0 {
                    times.saturating_record(took);
                }
            }
        }
    }
    sleepers.into_iter().for_each(|sleeper| sleeper.end(report));
    describe_wake_ups("1 ms", &times, report);

    let mut times = CONTENDERS.map(|_| histogram());
    let kinds = (0..extent.long_threads).flat_map(|_| CONTENDERS);
    let mut sleepers = kinds.map(Sleeper::start).collect::<Result<Vec<_>, _>>()?;
    // One after the other, so that each has slept for the whole time when its turn comes again.
    let turn = LONG / sleepers.len() as u32;
    for round in 0..=extent.long_rounds {
        for (place, sleeper) in sleepers.iter_mut().enumerate() {
            pause(turn, progress)?;
            sleeper.wake();
            std::thread::sleep(SHORT / 2);
            let took = sleeper.took()?;
            if round > 0 {
                times[place % CONTENDERS.len()].saturating_record(took);
            }
        }
    }
    sleepers.into_iter().for_each(|sleeper| sleeper.end(report));
    describe_wake_ups("1 s", &times, report);
    Ok(())
}

fn describe_wake_ups(after: &str, times: &[Histogram<u64>], report: &mut Report) {
    let latencies: Vec<_> = times.iter().map(LatencyNs::of).collect();
    for (kind, latency) in CONTENDERS.iter().zip(&latencies) {
        let contender = kind.map_or_else(|| "bare futex".to_owned(), |strategy| strategy.to_string());
        report.results.push(Comparison {
            case: format!("wake-up after {after}"),
            contender,
            latency_ns: *latency,
            ..Comparison::default()
        });
    }
    if let [Some(bare), rest @ ..] = &latencies[..] {
        for (kind, latency) in CONTENDERS[1..].iter().zip(rest) {
            if let (Some(strategy), Some(latency)) = (kind, latency) {
                let name = format!("wake-up after {after}, p99: {strategy}");
                let times = latency.p99 as f64 / bare.p99 as f64;
                bound(report, name, times, MAX_WAKE_UP, "of a bare futex's");
            }
        }
    }
}

/// What a pinned thread that spins notices of another one that goes to sleep a thousand times a
/// second on another core.
fn neighbour(extent: &Extent, report: &mut Report, progress: &mut Progress) -> Result<(), Error> {
    let places = cores::place(None, 2);
    let [Some(spinning), Some(sleeping)] = places[..] else {
        report.notes.push("a neighbour needs two cores: nothing was measured".to_owned());
        return Ok(());
    };
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    let (mut all_alone, mut all_beside) = (histogram(), histogram());
    for _ in 0..extent.neighbour_rounds {
        progress.tick();
        let quiet = noise::measure(&[Some(spinning)], extent.neighbour)?;
        let disturbed =
            beside_a_sleeper(sleeping, report, || noise::measure(&[Some(spinning)], extent.neighbour))?;
        check()?;
        alone.push(quiet.value_at_quantile(0.999) as f64);
        beside.push(disturbed.value_at_quantile(0.999) as f64);
        all_alone += quiet;
        all_beside += disturbed;
    }
    for (contender, times) in [("alone", &all_alone), ("neighbour parks 1,000/s", &all_beside)] {
        report.results.push(Comparison {
            case: "pinned spinner".to_owned(),
            contender: contender.to_owned(),
            latency_ns: LatencyNs::of(times),
            ..Comparison::default()
        });
    }
    if let (Some(alone), Some(beside)) = (median(&alone), median(&beside)) {
        let name = "p99.9 of a pinned spinner, neighbour parks 1,000/s".to_owned();
        bound(report, name, beside / alone, MAX_DISTURBANCE, "of alone");
    }
    Ok(())
}

/// Does something while a ring's blocking consumer on that core is woken, and goes to sleep again,
/// a thousand times a second.
fn beside_a_sleeper<T>(
    core: usize,
    report: &mut Report,
    measure: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let handled = Arc::new(AtomicU64::new(0));
    let mut ring = {
        let handled = handled.clone();
        Waited::start(WaitStrategy::Blocking, Some(core), move |_| {
            handled.fetch_add(1, Ordering::Relaxed);
        })?
    };
    let done = AtomicBool::new(false);
    let (outcome, published) = std::thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            let mut published = 0;
            cores::pin(Some(core))?;
            while !done.load(Ordering::Relaxed) && !interrupted() {
                ring.publish(published);
                published += 1;
                std::thread::sleep(NEIGHBOURS_PAUSE);
            }
            Ok::<_, Error>(published)
        });
        let outcome = measure();
        done.store(true, Ordering::Relaxed);
        (outcome, publishing.join().expect("a publisher does not panic"))
    });
    let published = published?;
    ring.end(report);
    if handled.load(Ordering::Relaxed) != published {
        report.failed_checks.push("the neighbour did not get all its events".to_owned());
    }
    outcome
}
