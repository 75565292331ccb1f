//! The driver: threads, legs and clocks of one section, the same for every contender.
//!
//! A section has a leg to warm up, twice round the ring, and a leg that counts. Between them the
//! receivers have caught up, so that what is timed begins with an empty ring and ends when the last
//! receiver has handled the last event. Whoever fails to get on ends the section for everybody;
//! what is missing then is a failure.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ringmain::clock::Clock;

use super::channel::{Channel, Idle, Receiver, Sender, Setup, Width};
use super::consumer_progress::{ConsumerProgress, UNKNOWN};
use super::event::{Checker, Found, Handle, Reader, Stopwatch, event, sum_of, value};
use crate::error::Error;
use crate::interrupt::interrupted;
use crate::load::pacer::{Manners, Pacer, Schedule, Span, Tally};
use crate::machine::cores;
use crate::stats::histogram;

/// Events between two looks at the clock.
const STRIDE: usize = 1_024;
/// Events between two looks at how many wait.
pub(super) const LAG_STRIDE: u64 = 4_096;
/// The longest warm-up.
const WARM_UP: Duration = Duration::from_millis(50);
/// How much longer than it should last a section may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// A rate that no ring reaches: every event is due at once.
const BEYOND: f64 = 1e9;

/// What a section is for.
#[derive(Clone, Debug)]
pub(super) enum Task {
    /// Whether every event arrives, once, whole and in order; so many of each sender.
    Check { events: u64 },
    /// How long an event takes when nothing but back-pressure holds senders up.
    Flood { lasting: Duration },
    /// How long after it was due an event is handled, at so many a second of all senders together.
    Paced { rate: f64, lasting: Duration, clock: Clock },
    /// How long an event takes when all are due at once: what a paced section manages at most.
    Saturate { lasting: Duration, clock: Clock },
}

impl Task {
    fn lasting(&self) -> Duration {
        match self {
            Self::Check { .. } => Duration::ZERO,
            Self::Flood { lasting } | Self::Paced { lasting, .. } | Self::Saturate { lasting, .. } => {
                *lasting
            }
        }
    }

    /// How long a section may take.
    pub(super) fn limit(&self) -> Duration {
        self.lasting() + WARM_UP + PATIENCE
    }
}

/// What a section found.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Nanoseconds an event, of the leg that counts.
    pub(super) ns: Option<f64>,
    /// Events that a poll found, where it found any.
    pub(super) mean_batch: Option<f64>,
    /// Events that waited, where receivers can tell.
    pub(super) mean_lag: Option<f64>,
    /// The events of the sender that sent fewest, over those of the mean sender.
    pub(super) least_share: Option<f64>,
    pub(super) latency: Option<Histogram<u64>>,
    /// What became of the events that came due, where they come due at a rate.
    pub(super) tally: Option<Tally>,
    /// What was lost, doubled, torn or out of order, in words.
    pub(super) failures: Vec<String>,
}

/// One of the two legs of a section.
struct Leg {
    sent: AtomicU64,
    /// Senders that have ended it.
    ended: AtomicUsize,
    /// How many events each receiver is to get in it, once all senders have ended.
    goal: AtomicU64,
    /// Receivers that have got them.
    settled: AtomicUsize,
}

impl Leg {
    fn new() -> Self {
        Self {
            sent: AtomicU64::new(0),
            ended: AtomicUsize::new(0),
            goal: AtomicU64::new(UNKNOWN),
            settled: AtomicUsize::new(0),
        }
    }
}

/// What the threads of a section share.
pub(super) struct Track<'t> {
    setup: &'t Setup,
    task: &'t Task,
    /// How far consumers with threads of the ring's are; without such, the driver has threads that
    /// receive.
    managed: &'t [Arc<ConsumerProgress>],
    /// One to warm up, and one that counts.
    legs: [Leg; 2],
    timer: AwakeTimer,
    together: Barrier,
    are_misplaced: AtomicBool,
    is_over: AtomicBool,
}

impl<'t> Track<'t> {
    pub(super) fn new(setup: &'t Setup, task: &'t Task, managed: &'t [Arc<ConsumerProgress>]) -> Self {
        let receivers = if managed.is_empty() { setup.shape.receivers() } else { 0 };
        Self {
            setup,
            task,
            managed,
            legs: [Leg::new(), Leg::new()],
            timer: AwakeTimer::new(),
            together: Barrier::new(setup.senders + receivers),
            are_misplaced: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        }
    }

    /// Pins the calling thread and waits for all others; false where one of them could not be
    /// pinned.
    fn start(&self, thread: usize) -> Result<bool, Error> {
        let pinned = cores::pin(self.setup.places[thread]);
        self.are_misplaced.fetch_or(pinned.is_err(), Ordering::Relaxed);
        // The barrier orders the flag.
        self.together.wait();
        pinned.map(|()| !self.are_misplaced.load(Ordering::Relaxed))
    }

    /// Whether the section cannot go on. Whoever sees it leaves, and tells the others.
    #[cold]
    fn must_end(&self) -> bool {
        let is_over =
            self.is_over.load(Ordering::Relaxed) || interrupted() || self.timer.elapsed() > self.task.limit();
        if is_over {
            self.is_over.store(true, Ordering::Relaxed);
        }
        is_over
    }

    /// A sender has ended a leg; the last of them says how many events there were.
    fn end_sending(&self, leg: usize, sent: u64) {
        let Leg { sent: of_all, ended, goal, .. } = &self.legs[leg];
        of_all.fetch_add(sent, Ordering::Relaxed);
        // The read-modify-writes order all counts before the last one's look.
        if ended.fetch_add(1, Ordering::AcqRel) + 1 == self.setup.senders {
            let of_all = of_all.load(Ordering::Relaxed);
            if leg == 0 {
                // Seen by whoever sees the goal, and so by whoever gets an event of the next leg.
                self.managed.iter().for_each(|progress| progress.warm_up_ends_with(of_all));
            }
            goal.store(of_all, Ordering::Release);
        }
    }

    /// Waits until every receiver has ended a leg; the moment at which that was seen.
    fn wait_until_settled(&self, leg: usize) -> Instant {
        let mut looks = 0;
        while !self.has_settled(leg) {
            looks += 1;
            if self.setup.idle.wait(looks) && self.must_end() {
                break;
            }
        }
        Instant::now()
    }

    fn has_settled(&self, leg: usize) -> bool {
        if self.managed.is_empty() {
            return self.legs[leg].settled.load(Ordering::Acquire) == self.setup.shape.receivers();
        }
        let goals = self.legs[..=leg].iter().map(|leg| leg.goal.load(Ordering::Acquire));
        let goal = goals.fold(0_u64, u64::saturating_add);
        goal != UNKNOWN && self.managed.iter().all(|progress| progress.handled() >= goal)
    }
}

/// The time in which somebody looked at it often: a process that was stopped for a minute has not
/// waited for that minute, and what it waits for has had no time to come.
struct AwakeTimer(Mutex<(Instant, Duration)>);

impl AwakeTimer {
    /// The longest time between two looks that counts.
    const MAX_PAUSE: Duration = Duration::from_millis(200);

    fn new() -> Self {
        Self(Mutex::new((Instant::now(), Duration::ZERO)))
    }

    fn elapsed(&self) -> Duration {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (then, now) = (last.0, Instant::now());
        last.0 = now;
        last.1 += now.saturating_duration_since(then).min(Self::MAX_PAUSE);
        last.1
    }
}

/// Waits until all senders of a channel are gone, for so long at most as this process is awake;
/// whether that came to pass.
pub(super) fn have_ended(senders: &mpsc::Receiver<()>, limit: Duration) -> bool {
    const STEP: Duration = Duration::from_secs(1);
    let steps = limit.as_secs() + 1;
    (0..steps).any(|_| senders.recv_timeout(STEP) == Err(mpsc::RecvTimeoutError::Disconnected))
}

/// What one sender did.
pub(super) struct Sent {
    /// Of both legs.
    count: u64,
    timed: u64,
    started: Instant,
    /// When it saw that all it sent was handled.
    settled: Instant,
    /// The sum over all words of its events.
    sum: u64,
    /// What became of the events that came due, and the least latency of those that were not sent.
    open_loop: Option<(Tally, Histogram<u64>)>,
}

/// What one receiver got.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) count: u64,
    /// Of the leg that counts.
    pub(super) timed: u64,
    pub(super) polls: u64,
    /// The sum of lags, and how many they are.
    pub(super) lags: (u64, u64),
    /// Where it can tell when it got the last one.
    pub(super) ended: Option<Instant>,
    pub(super) found: Found,
}

/// The work of a thread of a section, whatever the types of its contender.
pub(super) type Sending = Box<dyn for<'t> FnOnce(&Track<'t>, usize) -> Result<Option<Sent>, Error> + Send>;
pub(super) type Receiving =
    Box<dyn for<'t> FnOnce(&Track<'t>, usize) -> Result<Option<Received>, Error> + Send>;

/// A thread that sends.
pub(super) fn sending<const W: usize>(sender: impl Sender<W> + 'static) -> Sending {
    Box::new(move |track, number| {
        Ok(if track.start(number)? { Some(send(sender, track, number)) } else { None })
    })
}

/// A thread that receives.
pub(super) fn receiving<const W: usize>(receiver: impl Receiver<W> + 'static) -> Receiving {
    Box::new(move |track, thread| {
        let is_placed = track.start(thread)?;
        Ok(is_placed.then(|| match track.task {
            Task::Check { .. } => receive(receiver, Checker::new(track.setup.senders), track),
            Task::Flood { .. } => receive(receiver, Reader::new(track.setup.work), track),
            Task::Paced { clock, .. } | Task::Saturate { clock, .. } => {
                receive(receiver, Stopwatch::new(clock), track)
            }
        }))
    })
}

/// Runs a section through a channel.
pub(super) fn through<D: Channel>(setup: &Setup, task: &Task) -> Result<Outcome, Error> {
    fn of_width<D: Channel, const W: usize>(setup: &Setup, task: &Task) -> Result<Outcome, Error> {
        let (senders, receiver) = D::make::<W>(setup)?;
        drive(setup, task, senders.into_iter().map(sending).collect(), vec![receiving(receiver)])
    }
    match setup.width {
        Width::One => of_width::<D, 1>(setup, task),
        Width::Eight => of_width::<D, 8>(setup, task),
        Width::Fifteen => of_width::<D, 15>(setup, task),
    }
}

/// Runs a section.
pub(super) fn drive(
    setup: &Setup,
    task: &Task,
    senders: Vec<Sending>,
    receivers: Vec<Receiving>,
) -> Result<Outcome, Error> {
    debug_assert_eq!((senders.len(), receivers.len()), (setup.senders, setup.shape.receivers()));
    let track = &Track::new(setup, task, &[]);
    let (sent, received) = std::thread::scope(|scope| {
        let senders = senders.into_iter().enumerate();
        let sending: Vec<_> = senders.map(|(number, run)| scope.spawn(move || run(track, number))).collect();
        let receivers = receivers.into_iter().enumerate();
        let receiving: Vec<_> =
            receivers.map(|(number, run)| scope.spawn(move || run(track, setup.senders + number))).collect();
        let sent: Result<Vec<_>, Error> = sending
            .into_iter()
            .map(|thread| thread.join().expect("a sender does not panic"))
            .filter_map(Result::transpose)
            .collect();
        let received: Result<Vec<_>, Error> = receiving
            .into_iter()
            .map(|thread| thread.join().expect("a receiver does not panic"))
            .filter_map(Result::transpose)
            .collect();
        (sent, received)
    });
    let (sent, received) = (sent?, received?);
    Ok(if interrupted() { Outcome::default() } else { judge(&sent, &received) })
}

fn send<const W: usize>(mut sender: impl Sender<W>, track: &Track<'_>, number: usize) -> Sent {
    let mut count = 0;
    if !matches!(track.task, Task::Check { .. }) {
        let lap = (2 * track.setup.capacity).div_ceil(track.setup.senders) as u64;
        let by = Instant::now() + WARM_UP;
        flood(&mut sender, track, number, &mut count, |count| count < lap && Instant::now() < by);
    }
    track.end_sending(0, count);
    track.wait_until_settled(0);
    let (warmed, started) = (count, Instant::now());
    let mut pacer = None;
    match track.task {
        Task::Check { events } => {
            flood(&mut sender, track, number, &mut count, |count| count < *events);
        }
        Task::Flood { lasting } => {
            flood(&mut sender, track, number, &mut count, |_| started.elapsed() < *lasting);
        }
        Task::Paced { rate, lasting, clock } => {
            let start = clock.now();
            pacer = Some((clock, pace(track, number, (*rate, Span::new(start, *lasting)), clock)));
        }
        Task::Saturate { lasting, clock } => {
            let span = Span::without_patience(clock.now(), *lasting);
            pacer = Some((clock, pace(track, number, (BEYOND, span), clock)));
        }
    }
    if let Some((_, pacer)) = &mut pacer {
        send_paced(&mut sender, track, number, &mut count, pacer);
    }
    track.end_sending(1, count - warmed);
    // Some contenders have nothing more to give once their sender is gone.
    let settled = track.wait_until_settled(1);
    let open_loop = pacer.filter(|_| matches!(track.task, Task::Paced { .. })).map(|(clock, pacer)| {
        let mut omitted = histogram();
        (pacer.finish(clock.now(), &mut omitted), omitted)
    });
    let sum = sum_of::<W>(number, count);
    Sent { count, timed: count - warmed, started, settled, sum, open_loop }
}

/// Sends as fast as back-pressure allows, while `goes_on`.
fn flood<const W: usize>(
    sender: &mut impl Sender<W>,
    track: &Track<'_>,
    number: usize,
    count: &mut u64,
    goes_on: impl Fn(u64) -> bool,
) {
    let batch = track.setup.batch;
    while goes_on(*count) && !interrupted() {
        if batch == 1 {
            for _ in 0..STRIDE {
                let value = value(number, *count);
                if !sender.try_send_value(value) && !insist(track, || sender.try_send_value(value)) {
                    return;
                }
                *count += 1;
            }
        } else {
            for _ in 0..STRIDE / batch {
                let (mut left, mut attempts) = (batch, 0);
                while left > 0 {
                    let sent = sender.try_send_batch(value(number, *count), left);
                    *count += sent as u64;
                    left -= sent;
                    if sent == 0 {
                        attempts += 1;
                        if track.setup.idle.wait(attempts) && track.must_end() {
                            return;
                        }
                    }
                }
            }
        }
    }
}

/// Sends one event that could not be sent at once, however long it takes; false when the section is
/// over.
///
/// Out of line: around a first attempt in the same loop the compiler makes the event's words before
/// the loop, and keeps them on the stack. Stores that are not the contender's then take up the
/// store buffer, in which its own wait for lines.
#[cold]
#[inline(never)]
fn insist(track: &Track<'_>, mut try_send: impl FnMut() -> bool) -> bool {
    let mut attempts = 0;
    loop {
        attempts += 1;
        if track.setup.idle.wait(attempts) && track.must_end() {
            return false;
        }
        if try_send() {
            return true;
        }
    }
}

/// Paces one of the senders, none of which ever sleeps for room.
fn pace(track: &Track<'_>, number: usize, (rate, span): (f64, Span), clock: &Clock) -> Pacer {
    let schedule = Schedule::new(rate, span.start(), (number, track.setup.senders));
    let manners = Manners { shares_core: track.setup.idle == Idle::Yield, may_park: false };
    Pacer::new(schedule, clock.clone(), span, manners)
}

/// Sends events as they come due; the last word of each is the moment at which it was.
fn send_paced<const W: usize>(
    sender: &mut impl Sender<W>,
    track: &Track<'_>,
    number: usize,
    count: &mut u64,
    pacer: &mut Pacer,
) {
    while let Some(due) = pacer.wait_until_due() {
        let mut event = event::<W>(value(number, *count));
        event[W - 1] = due.as_nanos();
        if !sender.try_send(event) && !insist(track, || sender.try_send(event)) {
            return;
        }
        *count += 1;
    }
}

fn receive<const W: usize>(
    mut receiver: impl Receiver<W>,
    mut handler: impl Handle<W>,
    track: &Track<'_>,
) -> Received {
    let most = track.setup.most();
    let mut received = Received::default();
    for leg in &track.legs {
        (received.timed, received.polls, received.lags) = (0, 0, (0, 0));
        handler.begin();
        let (mut looks, mut next_lag) = (0, LAG_STRIDE);
        loop {
            if received.timed >= next_lag {
                next_lag = received.timed + LAG_STRIDE;
                if let Some(lag) = receiver.lag() {
                    received.lags = (received.lags.0 + lag, received.lags.1 + 1);
                }
            }
            let handled = receiver.poll(most, &mut handler) as u64;
            if handled > 0 {
                looks = 0;
                received.timed += handled;
                received.polls += 1;
                continue;
            }
            if received.timed >= leg.goal.load(Ordering::Acquire) {
                break;
            }
            looks += 1;
            if track.setup.idle.wait(looks) && track.must_end() {
                break;
            }
        }
        received.ended = Some(Instant::now());
        received.count += received.timed;
        leg.settled.fetch_add(1, Ordering::Release);
    }
    // Lets go of senders that may still be waiting for room.
    drop(receiver);
    received.found = handler.found();
    received
}

/// What came of it all.
pub(super) fn judge(sent: &[Sent], received: &[Received]) -> Outcome {
    let count: u64 = sent.iter().map(|sent| sent.count).sum();
    let timed: u64 = sent.iter().map(|sent| sent.timed).sum();
    let sum = sent.iter().fold(0_u64, |sum, sent| sum.wrapping_add(sent.sum));
    let mut outcome = Outcome::default();
    for got in received {
        if got.count != count || got.found.wrong > 0 {
            outcome.failures.push(format!(
                "a receiver got {} of {count} events, {} of them doubled, torn or out of order",
                got.count, got.found.wrong
            ));
        } else if got.found.sum.is_some_and(|found| found != sum) {
            outcome.failures.push(format!("a receiver got {count} events with wrong words"));
        }
    }
    let started = sent.iter().map(|sent| sent.started).min();
    let ended = received.iter().filter_map(|received| received.ended).max();
    let ended = ended.or_else(|| sent.iter().map(|sent| sent.settled).max());
    if let (Some(started), Some(ended), true) = (started, ended, timed > 0 && outcome.failures.is_empty()) {
        outcome.ns = Some(ended.saturating_duration_since(started).as_nanos() as f64 / timed as f64);
    }
    let total = |part: fn(&Received) -> u64| received.iter().map(part).sum::<u64>();
    outcome.mean_batch = mean(total(|received| received.timed), total(|received| received.polls));
    outcome.mean_lag = mean(total(|received| received.lags.0), total(|received| received.lags.1));
    if let (Some(least), true) = (sent.iter().map(|sent| sent.timed).min(), timed > 0) {
        outcome.least_share = Some(least as f64 * sent.len() as f64 / timed as f64);
    }
    let mut latency = histogram();
    for got in received {
        if let Some(times) = &got.found.latency {
            latency.add(times).expect("histograms of the same bounds");
        }
        // It did not get what was not sent.
        for (_, omitted) in sent.iter().filter_map(|sent| sent.open_loop.as_ref()) {
            latency.add(omitted).expect("histograms of the same bounds");
        }
    }
    for (its, _) in sent.iter().filter_map(|sent| sent.open_loop.as_ref()) {
        outcome.tally.get_or_insert_with(Tally::default).add(its);
    }
    outcome.latency = (!latency.is_empty()).then_some(latency);
    outcome
}

fn mean(sum: u64, count: u64) -> Option<f64> {
    (count > 0).then(|| sum as f64 / count as f64)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::super::channel::{Shape, Width};
    use super::*;

    /// A queue that can be told to do wrong.
    #[derive(Clone, Default)]
    struct Faulty {
        queue: Arc<Mutex<VecDeque<[u64; 8]>>>,
        fault: Option<fn(&mut Vec<[u64; 8]>)>,
    }

    impl Sender<8> for Faulty {
        fn try_send(&mut self, event: [u64; 8]) -> bool {
            let mut queue = self.queue.lock().expect("no panic under the lock");
            let has_room = queue.len() < 64;
            if has_room {
                let mut events = vec![event];
                if let (Some(fault), 700) = (self.fault, event[0]) {
                    fault(&mut events);
                }
                queue.extend(events);
            }
            has_room
        }
    }

    impl Receiver<8> for Faulty {
        fn poll(&mut self, most: usize, handler: &mut impl Handle<8>) -> usize {
            let mut queue = self.queue.lock().expect("no panic under the lock");
            let found = queue.len().min(most);
            queue.drain(..found).for_each(|event| handler.handle(&event));
            found
        }
    }

    fn run(task: Task, fault: Option<fn(&mut Vec<[u64; 8]>)>) -> Outcome {
        let setup = Setup::of(Width::Eight, 64, 1, Shape::Beside(1), None);
        let faulty = Faulty { fault, ..Faulty::default() };
        drive(&setup, &task, vec![sending(faulty.clone())], vec![receiving(faulty)]).expect("two threads")
    }

    #[test]
    fn a_contender_that_does_right_has_a_figure_and_no_failure() {
        let checked = run(Task::Check { events: 5_000 }, None);
        assert_eq!(checked.failures, [""; 0]);
        let timed = run(Task::Flood { lasting: Duration::from_millis(10) }, None);
        assert_eq!(timed.failures, [""; 0]);
        assert!(timed.ns.is_some_and(|ns| ns > 0.0) && timed.mean_batch.is_some_and(|mean| mean >= 1.0));
        assert_eq!(timed.least_share, Some(1.0));
        let clock = Clock::hardware();
        let paced = run(Task::Paced { rate: 10_000.0, lasting: Duration::from_millis(20), clock }, None);
        let tally = paced.tally.expect("it was paced");
        assert_eq!(tally.sent + tally.omitted, 200, "every event that came due");
        assert_eq!(paced.latency.map(|times| times.len()), Some(200), "with its latency");
    }

    #[test]
    fn a_contender_that_doubles_or_tears_an_event_fails_its_check_and_its_timed_section() {
        let faults: [fn(&mut Vec<[u64; 8]>); 2] =
            [|events| events.push(events[0]), |events| events[0][7] ^= 1 << 40];
        for fault in faults {
            for task in [Task::Check { events: 2_000 }, Task::Flood { lasting: Duration::from_millis(10) }] {
                let outcome = run(task, Some(fault));
                assert_eq!(outcome.failures.len(), 1, "{outcome:?}");
                assert!(outcome.ns.is_none());
            }
        }
    }
}
