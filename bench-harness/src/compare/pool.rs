//! A pool: several senders, several workers, each event to one of them, and all of them wait as
//! they do unasked: whoever finds nothing, or no room, sleeps in the end.
//!
//! The time counts from the first send to the last handler. The untimed check marks each event
//! where it is handled, so that one that is lost or handled twice is found, in whatever order
//! workers come by them.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Instant;

use ringmain::ring::{ConsumerOptions, MultiProducer, Ring, RingBuilder, Sequence};

use super::channel::Setup;
use super::drive::{Outcome, PATIENCE, Task, have_ended};
use super::event::{Found, Handle, Reader, count_of, event, sum_of, value};
use super::ours::{self, Event};
use crate::error::Error;
use crate::interrupt::interrupted;
use crate::machine::cores;

/// The words of an event.
pub(super) const W: usize = 8;
/// Events between two looks at the clock.
const STRIDE: u64 = 64;

/// The way in of a pool; waits for room.
pub(super) trait Input: Send {
    /// Sends an event; false where nobody takes any more.
    fn send(&mut self, event: Event<W>) -> bool;
}

/// A running pool.
pub(super) trait Pool: Sized {
    type Input: Input;

    /// Starts as many workers as the setup has receivers, each with a handler of its own.
    fn start(setup: &Setup, handlers: &WorkerHandlers) -> Result<(Self, Vec<Self::Input>), Error>;

    /// Makes senders stop that wait for workers which are stuck.
    fn halt(&self);

    /// Waits until the workers have handled all, once the senders are gone; what went wrong, in
    /// words.
    fn end(self) -> Option<String>;
}

/// Where workers get their handlers, and hand over what they found.
#[derive(Clone)]
pub(super) struct WorkerHandlers {
    reader: Reader,
    /// A mark for each event, where they are checked: so many a sender.
    marks: Option<(Arc<[AtomicU8]>, u64)>,
    found: mpsc::Sender<Worked>,
}

/// What a worker has done.
struct Worked {
    count: u64,
    sum: u64,
    wrong: u64,
    ended: Instant,
}

/// A worker's handler; dropped when there is nothing left to do.
pub(super) struct WorkerHandler {
    handlers: WorkerHandlers,
    count: u64,
    wrong: u64,
}

impl WorkerHandlers {
    /// Makes the handler of a worker.
    pub(super) fn make(&self) -> WorkerHandler {
        WorkerHandler { handlers: self.clone(), count: 0, wrong: 0 }
    }
}

impl WorkerHandler {
    #[inline(always)]
    pub(super) fn handle(&mut self, found: &Event<W>) {
        self.count += 1;
        self.handlers.reader.handle(found);
        if let Some((marks, events)) = &self.handlers.marks {
            let (sender, count) = count_of(found[0]);
            let mark = (count < *events).then(|| marks.get((sender * events + count) as usize)).flatten();
            let is_first = mark.is_some_and(|mark| mark.fetch_add(1, Ordering::Relaxed) == 0);
            self.wrong += u64::from(!is_first || *found != event(found[0]));
        }
    }
}

impl Drop for WorkerHandler {
    fn drop(&mut self) {
        let Found { sum, .. } = Handle::<W>::found(&mut self.handlers.reader);
        let (count, wrong, ended) = (self.count, self.wrong, Instant::now());
        let _ = self.handlers.found.send(Worked { count, sum: sum.unwrap_or(0), wrong, ended });
    }
}

/// Runs a section through a pool.
pub(super) fn through<P: Pool + Sync>(setup: &Setup, task: &Task) -> Result<Outcome, Error> {
    let (finder, found) = mpsc::channel();
    let (marks, lasting) = match task {
        Task::Check { events } => {
            let marks = (0..setup.senders as u64 * events).map(|_| AtomicU8::new(0)).collect();
            (Some((marks, *events)), None)
        }
        Task::Flood { lasting } | Task::Paced { lasting, .. } | Task::Saturate { lasting, .. } => {
            (None, Some(*lasting))
        }
    };
    let handlers = WorkerHandlers { reader: Reader::new(setup.work), marks, found: finder };
    let (pool, senders) = P::start(setup, &handlers)?;
    let events = handlers.marks.as_ref().map(|marks| marks.1);
    drop(handlers);
    let (together, timed) = (&Barrier::new(senders.len()), &AtomicU64::new(0));
    let sent: Result<Vec<_>, Error> = std::thread::scope(|scope| {
        let (ending, ended) = mpsc::channel::<()>();
        let threads: Vec<_> = senders
            .into_iter()
            .enumerate()
            .map(|(number, mut sender)| {
                let ending = ending.clone();
                scope.spawn(move || {
                    let pinned = cores::pin(setup.places[number]);
                    together.wait();
                    pinned?;
                    let (started, mut count) = (Instant::now(), 0);
                    while !interrupted()
                        && lasting.is_none_or(|lasting| started.elapsed() < lasting)
                        && events.is_none_or(|events| count < events)
                    {
                        let until = events.map_or(count + STRIDE, |events| events.min(count + STRIDE));
                        while count < until && sender.send(event(value(number, count))) {
                            count += 1;
                        }
                        if count < until {
                            break;
                        }
                    }
                    timed.fetch_add(count, Ordering::Relaxed);
                    drop((sender, ending));
                    Ok((started, count, sum_of::<W>(number, count)))
                })
            })
            .collect();
        drop(ending);
        // Nobody sends anything: the channel ends with the last sender.
        if !have_ended(&ended, task.limit()) {
            pool.halt();
        }
        threads.into_iter().map(|thread| thread.join().expect("a sender does not panic")).collect()
    });
    let end = pool.end();
    let sent = sent?;
    if interrupted() {
        return Ok(Outcome::default());
    }
    let worked: Vec<_> = found.try_iter().collect();
    let (events, got) =
        (timed.load(Ordering::Relaxed), worked.iter().map(|worked| worked.count).sum::<u64>());
    let mut failures: Vec<_> = end.into_iter().collect();
    let wrong = worked.iter().map(|worked| worked.wrong).sum::<u64>();
    if got != events || wrong > 0 {
        failures.push(format!("the workers got {got} of {events} events, {wrong} of them doubled or torn"));
    } else if worked.iter().fold(0_u64, |sum, worked| sum.wrapping_add(worked.sum))
        != sent.iter().fold(0_u64, |sum, sent| sum.wrapping_add(sent.2))
    {
        failures.push(format!("the workers got {events} events with wrong words"));
    }
    let started = sent.iter().map(|sent| sent.0).min();
    let ended = worked.iter().map(|worked| worked.ended).max();
    let elapsed = started.zip(ended).map(|(started, ended)| ended.saturating_duration_since(started));
    let ns = elapsed.filter(|_| events > 0 && failures.is_empty());
    let ns = ns.map(|elapsed| elapsed.as_nanos() as f64 / events as f64);
    let least = sent.iter().map(|sent| sent.1).min().filter(|_| events > 0);
    let least_share = least.map(|least| least as f64 * sent.len() as f64 / events as f64);
    Ok(Outcome { ns, least_share, failures, ..Outcome::default() })
}

/// A group of workers of our ring.
pub(super) struct Workers(Ring<Event<W>>);

impl Input for MultiProducer<Event<W>> {
    #[inline(always)]
    fn send(&mut self, event: Event<W>) -> bool {
        self.publish(|slot| *slot = event).is_ok()
    }
}

impl Pool for Workers {
    type Input = MultiProducer<Event<W>>;

    fn start(setup: &Setup, handlers: &WorkerHandlers) -> Result<(Self, Vec<Self::Input>), Error> {
        let pinning = ours::pinning(&setup.places[setup.senders..]);
        let mut graph = RingBuilder::new(setup.capacity, || [0; W])?.pinning(pinning).graph()?;
        let handlers = handlers.clone();
        let make = move |_number| {
            let mut handler = handlers.make();
            move |event: &Event<W>, _sequence: Sequence, _end_of_batch| handler.handle(event)
        };
        graph.workers(ConsumerOptions::new("worker"), setup.shape.receivers(), make)?;
        let (producer, ring) = graph.build_multi_producer()?;
        Ok((Self(ring), vec![producer; setup.senders]))
    }

    fn halt(&self) {
        self.0.halt();
    }

    fn end(mut self) -> Option<String> {
        self.0.shutdown(PATIENCE).err().map(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::thread::JoinHandle;
    use std::time::Duration;

    use super::super::channel::{Shape, Width};
    use super::*;

    /// A pool of one worker, which does a certain event wrong: 1 loses it, 2 doubles it, 3 tears
    /// it.
    struct Faulty<const FAULT: u8>(JoinHandle<()>);

    impl Input for mpsc::SyncSender<Event<W>> {
        fn send(&mut self, event: Event<W>) -> bool {
            Self::send(self, event).is_ok()
        }
    }

    impl<const FAULT: u8> Pool for Faulty<FAULT> {
        type Input = mpsc::SyncSender<Event<W>>;

        fn start(setup: &Setup, handlers: &WorkerHandlers) -> Result<(Self, Vec<Self::Input>), Error> {
            let (sender, receiver) = mpsc::sync_channel::<Event<W>>(setup.capacity);
            let mut handler = handlers.make();
            let work = move || {
                for mut event in receiver {
                    let is_it = event[0] == value(0, 7);
                    event[7] ^= u64::from(is_it && FAULT == 3) << 40;
                    let times = if is_it { [1, 0, 2, 1][usize::from(FAULT)] } else { 1 };
                    (0..times).for_each(|_| handler.handle(&event));
                }
            };
            Ok((Self(std::thread::spawn(work)), vec![sender; setup.senders]))
        }

        fn halt(&self) {}

        fn end(self) -> Option<String> {
            self.0.join().is_err().then(|| "a worker panicked".to_owned())
        }
    }

    #[test]
    fn an_event_that_is_lost_doubled_or_torn_fails_the_check_and_the_timed_section() {
        let setup = Setup::of(Width::Eight, 64, 2, Shape::Beside(1), None);
        for task in [Task::Check { events: 200 }, Task::Flood { lasting: Duration::from_millis(10) }] {
            let right = through::<Faulty<0>>(&setup, &task).expect("threads");
            assert!(right.failures.is_empty() && right.ns.is_some_and(|ns| ns > 0.0), "{right:?}");
            for faulty in [through::<Faulty<1>>, through::<Faulty<2>>, through::<Faulty<3>>] {
                let outcome = faulty(&setup, &task).expect("threads");
                assert!(outcome.failures.len() == 1 && outcome.ns.is_none(), "{task:?}: {outcome:?}");
            }
        }
    }
}
