//! Readers that are slower than what they read, each slow in its own way: a display that needs the latest price alone,
//! a plotter that does without the oldest, an operator who goes to lunch and wants everything, and workers who take a
//! while for each job. The ticker waits for none of them longer than a full ring makes it.
//!
//! In the end every price and every job is accounted for.

use ringmain::Broker;
use ringmain::broker::dead_letters::{DeadLetterOptions, Selection};
use ringmain::broker::{
    Acknowledgement, Backlog, Dispatcher, FailureKind, Jitter, Retry, Subscription, Term, Token, TokenError,
    WhenFull, key,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// An error that may pass from thread to thread.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const LIMIT: Duration = Duration::from_secs(30);
const INSTRUMENTS: u64 = 50;
/// Prices of each instrument before lunch, and as many during it.
const ROUNDS: u64 = 200;
const WORKERS: usize = 4;
const JOBS: u64 = 40;
/// How long a worker may keep a job without a sign of life.
const JOB_LIMIT: Duration = Duration::from_secs(1);
/// Jobs that do not go as planned.
const LONG: u64 = 7;
const FATAL: u64 = 13;
const FORGOTTEN: u64 = 21;

fn main() -> Outcome<()> {
    // Slow handlers have a dispatcher of their own, which is a ring and a thread: those of others do not wait for them.
    let broker = Broker::of::<u64>()
        .dispatcher(Dispatcher::new("desk"))
        .dispatcher(Dispatcher::new("screen").capacity(1_024))
        .dead_letters(DeadLetterOptions::new())
        .build()?;

    let (sender, drawn) = mpsc::channel();
    let _display = broker
        .subscription()
        .name("display")
        .pattern("prices.*")
        .dispatcher("screen")
        .conflate(key::topic())
        .subscribe(move |price| {
            thread::sleep(Duration::from_millis(1)); // drawing
            sender.send((price.topic().to_string(), **price))
        })?;

    let (plotter, plotting) = subscribe_plotter(&broker)?;

    let (sender, read) = mpsc::channel();
    let operator = broker
        .subscription()
        .name("operator")
        .pattern(&topic_of(0))
        .backlog(Backlog::new(2 * ROUNDS as usize)) // a day has no more
        .subscribe(move |price| sender.send(**price))?;

    println!("Before lunch: {INSTRUMENTS} instruments tick.");
    start_ticker(&broker, 0..ROUNDS).join().map_err(|_| "the ticker has panicked")??;

    println!("The operator goes to lunch, and the market does not.");
    operator.pause()?;
    start_ticker(&broker, ROUNDS..2 * ROUNDS).join().map_err(|_| "the ticker has panicked")??;
    // What was published has to come out of the ring before all of it is seen in the backlog. What was there before
    // the pause, and was not delivered, waits as well.
    wait_until("the lunch's prices wait", || {
        operator.delivered() + operator.status().backlogged == 2 * ROUNDS
    })?;
    println!("  Back again: {} prices have waited.", operator.status().backlogged);
    operator.resume();
    plotter.begin()?;

    println!("Meanwhile {WORKERS} workers do {JOBS} jobs.");
    let (jobs, workers) = subscribe_workers(&broker)?;
    let mut publisher = broker.publisher("jobs")?;
    for job in 0..JOBS {
        let _ = publisher.publish(job)?;
    }
    broker.drain(LIMIT)?; // waits for backlogs, retries and tokens too

    // Jobs.
    assert_eq!(jobs.delivered(), JOBS - 1);
    let dead = broker.dead_letters().ok_or("this broker keeps dead letters")?;
    let letters = dead.query(&Selection::all());
    for letter in &letters {
        println!("  Job {} is a dead letter: {:?}.", letter.message.payload, letter.kind);
    }
    let explained: Vec<_> = letters.iter().map(|letter| (letter.message.payload, letter.kind)).collect();
    assert_eq!(explained, [(FATAL, FailureKind::Cancelled)], "its worker has died with it");

    // An orderly end leaves nothing behind. It drops the handlers, and with them the channels that threads listen to.
    let report = broker.shutdown(LIMIT)?;
    assert!(report.undelivered.is_empty() && report.in_doubt.is_empty(), "{report:?}");
    assert!(report.abandoned.is_empty() && report.dead.is_empty(), "{report:?}");
    assert_eq!((report.withheld, report.in_hand), (0, 0));
    assert!(report.ledger.is_balanced(), "{:?}", report.ledger);
    let account = |name| {
        let mut accounts = report.ledger.subscriptions.iter();
        accounts.find(|account| account.name == name).ok_or(format!("there is no account of {name}"))
    };
    let prices = 2 * ROUNDS * INSTRUMENTS;
    assert_eq!((report.ledger.published, report.ledger.unrouted), (prices + JOBS, 0));

    // The display has drawn the last price of each instrument, none after a newer one, and not all.
    let mut last = BTreeMap::new();
    let mut draws = 0;
    for (topic, price) in drawn.try_iter() {
        draws += 1;
        assert!(last.insert(topic, price).is_none_or(|before| before < price), "prices come in order");
    }
    let expected =
        (0..INSTRUMENTS).map(|instrument| (topic_of(instrument), price_of(2 * ROUNDS - 1, instrument)));
    assert_eq!(last, expected.collect());
    let display = account("display")?;
    let conflated = display.count(Term::Conflated);
    assert_eq!((display.routed, display.delivered(), draws + conflated), (prices, draws, prices));
    assert!(conflated > 0, "drawing takes longer than ticking");
    println!(
        "The display has drawn {draws} of {prices} prices, {conflated} had a newer one; the last of each is there."
    );

    // The plotter has missed the oldest, and the newest are there.
    let plotted = plotting.join().map_err(|_| "the plotter has panicked")??;
    assert!(plotted.is_sorted());
    assert_eq!(plotted.last(), Some(&price_of(2 * ROUNDS - 1, INSTRUMENTS - 1)));
    let plotter = account("plotter")?;
    let dropped = plotter.count(Term::Overflow);
    assert_eq!(plotter.delivered(), plotted.len() as u64);
    assert_eq!((plotter.routed, plotter.delivered() + dropped), (prices, prices));
    assert!(dropped > 0);
    println!("The plotter has plotted {}, and done without {dropped}.", plotted.len());

    // The operator has missed nothing.
    assert!(read.try_iter().eq((0..2 * ROUNDS).map(|round| price_of(round, 0))));
    assert_eq!(account("operator")?.delivered(), 2 * ROUNDS);
    println!("The operator has read all {} prices, in order.", 2 * ROUNDS);

    // Each job was done once, but the one that is a dead letter.
    let mut done = Vec::new();
    let mut too_late = 0;
    for worker in workers {
        let work = worker.join().map_err(|_| "a worker has panicked")?;
        done.extend(work.done);
        too_late += work.too_late;
    }
    done.sort_unstable();
    assert!(done.into_iter().eq((0..JOBS).filter(|job| *job != FATAL)));
    let jobs = account("jobs")?;
    assert_eq!((jobs.routed, jobs.delivered(), jobs.count(Term::DeadLettered)), (JOBS, JOBS - 1, 1));
    assert_eq!((jobs.failures_of(FailureKind::Cancelled), jobs.late), (1, too_late));
    assert_eq!(jobs.failures_of(FailureKind::TimedOut), jobs.retries);
    assert!(too_late > 0, "the forgotten job came back too late");
    assert_eq!(dead.counts().held, 1);
    println!(
        "{} jobs are done, each once; {} of them not by the first who tried.",
        jobs.delivered(),
        jobs.retries
    );
    Ok(())
}

fn topic_of(instrument: u64) -> String {
    format!("prices.{instrument:02}")
}

/// A price that is higher than each before it, so that the order can be checked.
const fn price_of(round: u64, instrument: u64) -> u64 {
    round * INSTRUMENTS + instrument
}

/// Publishes a price of each instrument, round after round, as fast as it can.
fn start_ticker(broker: &Broker<u64>, rounds: std::ops::Range<u64>) -> JoinHandle<Outcome<()>> {
    let mut publisher = broker.any_topic_publisher();
    let topics: Vec<_> = (0..INSTRUMENTS).map(topic_of).collect();
    thread::spawn(move || {
        for round in rounds {
            for (instrument, topic) in (0..).zip(&topics) {
                let _ = publisher.publish(topic, price_of(round, instrument))?;
            }
        }
        Ok(())
    })
}

/// Lets the plotter begin.
struct Plotter {
    _subscription: Subscription<u64>,
    begin: mpsc::Sender<()>,
}

impl Plotter {
    fn begin(&self) -> Outcome<()> {
        Ok(self.begin.send(())?)
    }
}

/// Subscribes a plotter that has a thread of its own and takes one price at a time. The next ones wait in the backlog:
/// only what waits can give way. A handler that is called in place has no backlog while it is slow, but a ring that
/// fills up.
fn subscribe_plotter(broker: &Broker<u64>) -> Outcome<(Plotter, JoinHandle<Outcome<Vec<u64>>>)> {
    let (sender, tokens) = mpsc::channel::<Token<u64>>();
    let subscription = broker
        .subscription()
        .name("plotter")
        .pattern("prices.*")
        .backlog(Backlog::new(100).when_full(WhenFull::DropOldest))
        .subscribe_with_tokens(Acknowledgement::within(LIMIT).in_flight(1), move |token| {
            let _ = sender.send(token); // a token that nobody takes is dropped, and has failed
        })?;
    let (begin, begun) = mpsc::channel();
    let plotting = thread::spawn(move || {
        let mut plotted = Vec::new();
        for token in tokens {
            if plotted.is_empty() {
                begun.recv_timeout(LIMIT)?; // it takes its time to find some paper
            }
            plotted.push(*token.message().payload());
            token.ack()?;
        }
        Ok(plotted)
    });
    Ok((Plotter { _subscription: subscription, begin }, plotting))
}

/// What a worker has done.
#[derive(Default)]
struct Work {
    done: Vec<u64>,
    /// Jobs that it was too late with, and whose results it has thrown away.
    too_late: u64,
}

/// Subscribes workers, who share a queue of jobs. It is closed when the handler is dropped.
fn subscribe_workers(broker: &Broker<u64>) -> Outcome<(Subscription<u64>, Vec<JoinHandle<Work>>)> {
    let (sender, tokens) = mpsc::channel::<Token<u64>>();
    let subscription = broker
        .subscription()
        .name("jobs")
        .pattern("jobs")
        .retry(Retry::constant(Duration::from_millis(1)).jitter(Jitter::None).attempts(10))
        .subscribe_with_tokens(Acknowledgement::within(JOB_LIMIT).in_flight(WORKERS), move |token| {
            let _ = sender.send(token);
        })?;
    let tokens = Arc::new(Mutex::new(tokens));
    let is_forgotten_done = Arc::new(AtomicBool::new(false));
    let workers = (0..WORKERS).map(|_| {
        let (tokens, is_forgotten_done) = (Arc::clone(&tokens), Arc::clone(&is_forgotten_done));
        thread::spawn(move || work(&tokens, &is_forgotten_done))
    });
    Ok((subscription, workers.collect()))
}

/// The life of a worker.
fn work(tokens: &Mutex<mpsc::Receiver<Token<u64>>>, is_forgotten_done: &AtomicBool) -> Work {
    let mut work = Work::default();
    loop {
        let next = tokens.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(token) = next else { return work }; // the handler is gone: there are no more jobs
        let (job, attempt) = (*token.message().payload(), token.message().attempt());
        let outcome = match job {
            // Who ends with a token in the hand drops it. The job has failed, and is not tried again: who knows what
            // it would do to the next worker.
            FATAL => return work,
            LONG => do_long_job(token),
            // The first worker forgets it until its time is up and another has done it.
            FORGOTTEN if attempt == 1 => {
                let is_done = || is_forgotten_done.load(Ordering::Relaxed);
                let _ = wait_until("another worker has done the job", is_done);
                token.ack()
            }
            _ => token.ack(),
        };
        match outcome {
            // Only who is told so has done the job. The result of another has to be thrown away.
            Ok(()) => {
                work.done.push(job);
                if job == FORGOTTEN {
                    is_forgotten_done.store(true, Ordering::Relaxed);
                }
            }
            Err(TokenError::TooLate) => work.too_late += 1,
            Err(_) => {}
        }
    }
}

/// Works for longer than a job may take, and says now and then that it is alive.
fn do_long_job(token: Token<u64>) -> Result<(), TokenError> {
    let start = Instant::now();
    while start.elapsed() < JOB_LIMIT + JOB_LIMIT / 4 {
        thread::sleep(JOB_LIMIT / 20); // a part of the job
        token.extend()?; // or stop: it is too late
    }
    token.ack()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) -> Result<(), String> {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > LIMIT {
            return Err(format!("waited in vain until {what}"));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
