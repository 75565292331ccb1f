//! Receivers that are consumers with threads of the ring's own, as most users have them: the ring
//! polls, waits and lingers for them, and the driver has threads for senders alone.
//!
//! Whoever waits for such a receiver looks at the count that it keeps. What it has found it hands
//! over when its handler is dropped, at the end of its thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use ringmain::ring::{Batch, ConsumerOptions, EventHandler, Graph, Ring, Sequence};

use super::channel::{Setup, Shape};
use super::consumer_progress::ConsumerProgress;
use super::drive::{LAG_STRIDE, Outcome, PATIENCE, Received, Sending, Task, Track, have_ended, judge};
use super::event::{Checker, Handle, Reader, Stopwatch};
use crate::error::Error;
use crate::interrupt::interrupted;

/// A handler, with what the driver wants to know about it.
struct Counting<const W: usize, H: Handle<W>> {
    handler: H,
    received: Received,
    /// The events of the batch at hand.
    batch: u64,
    /// Whether the leg that counts has begun.
    is_timed: bool,
    next_lag: u64,
    progress: Arc<ConsumerProgress>,
    found: mpsc::Sender<Received>,
}

impl<const W: usize, H: Handle<W>> EventHandler<[u64; W]> for Counting<W, H> {
    #[inline(always)]
    fn on_event(&mut self, event: &[u64; W], _sequence: Sequence, _end_of_batch: bool) {
        self.handler.handle(event);
    }

    #[inline(always)]
    fn on_batch_start(&mut self, batch: Batch<'_>) {
        let count = self.received.count;
        if !self.is_timed && count == self.progress.warmed_after() {
            self.is_timed = true;
            self.received = Received { count, ..Received::default() };
            self.next_lag = LAG_STRIDE;
            self.handler.begin();
        }
        self.batch = batch.size();
        if self.received.timed >= self.next_lag {
            self.next_lag = self.received.timed + LAG_STRIDE;
            let (sum, count) = self.received.lags;
            self.received.lags = (sum + batch.depth(), count + 1);
        }
    }

    #[inline(always)]
    fn on_batch_end(&mut self) {
        self.received.polls += 1;
        self.received.timed += self.batch;
        self.received.count += self.batch;
        self.progress.has_handled(self.received.count);
    }
}

impl<const W: usize, H: Handle<W>> Drop for Counting<W, H> {
    fn drop(&mut self) {
        let mut received = std::mem::take(&mut self.received);
        received.found = self.handler.found();
        let _ = self.found.send(received);
    }
}

/// The consumers of a section.
pub(super) struct Consumers {
    progress: Vec<Arc<ConsumerProgress>>,
    found: mpsc::Receiver<Received>,
}

/// What is done to a ring while a section runs, until the flag is set.
pub(super) type Beside<'b, E> = &'b (dyn Fn(&Ring<E>, &AtomicBool) + Sync);

impl Consumers {
    /// Adds those of the setup's shape to a graph, with the handlers that the task asks for.
    pub(super) fn add<const W: usize>(
        graph: &mut Graph<[u64; W]>,
        setup: &Setup,
        task: &Task,
    ) -> Result<Self, Error> {
        let (finder, found) = mpsc::channel();
        let (mut ids, mut all) = (Vec::new(), Vec::new());
        for number in 0..setup.shape.receivers() {
            let after = match setup.shape {
                Shape::Beside(_) => &[],
                Shape::Pipeline(_) => &ids[number.saturating_sub(1)..number],
                Shape::Diamond if number < 2 => &[],
                Shape::Diamond => &ids[..2],
            };
            let name = format!("receiver-{number}");
            let options = ConsumerOptions::new(&name).after(after).max_batch(setup.most() as u64);
            let progress = Arc::new(ConsumerProgress::new());
            all.push(progress.clone());
            let with = (progress, finder.clone());
            let id = match task {
                Task::Check { .. } => {
                    let checker = Checker::new(setup.senders);
                    graph.consumer_with(options, move || counting(checker, with))
                }
                Task::Flood { .. } => {
                    let reader = Reader::new(setup.work);
                    graph.consumer_with(options, move || counting(reader, with))
                }
                Task::Paced { clock, .. } | Task::Saturate { clock, .. } => {
                    let clock = clock.clone();
                    graph.consumer_with(options, move || counting(Stopwatch::new(&clock), with))
                }
            };
            ids.push(id?);
        }
        Ok(Self { progress: all, found })
    }

    /// Runs a section, and ends the ring.
    pub(super) fn drive<E: Send + Sync + 'static>(
        self,
        setup: &Setup,
        task: &Task,
        senders: Vec<Sending>,
        mut ring: Ring<E>,
        beside: Option<Beside<'_, E>>,
    ) -> Result<Outcome, Error> {
        let track = &Track::new(setup, task, &self.progress);
        let sent = {
            let (ring, is_over) = (&ring, &AtomicBool::new(false));
            std::thread::scope(|scope| {
                let (ending, ended) = mpsc::channel::<()>();
                let senders = senders.into_iter().enumerate();
                let sending: Vec<_> = senders
                    .map(|(number, run)| {
                        let ending = ending.clone();
                        scope.spawn(move || {
                            let sent = run(track, number);
                            drop(ending);
                            sent
                        })
                    })
                    .collect();
                drop(ending);
                if let Some(beside) = beside {
                    scope.spawn(move || beside(ring, is_over));
                }
                // Nobody sends anything: the channel ends with the last sender.
                if !have_ended(&ended, task.limit() + PATIENCE) {
                    // One that waits for room would wait for ever for a consumer that is stuck.
                    ring.halt();
                }
                is_over.store(true, Ordering::Relaxed);
                let sent = sending.into_iter().map(|thread| thread.join().expect("a sender does not panic"));
                sent.filter_map(Result::transpose).collect::<Result<Vec<_>, Error>>()
            })
        };
        let end = ring.shutdown(PATIENCE);
        let sent = sent?;
        if interrupted() {
            return Ok(Outcome::default());
        }
        // Threads that have ended have dropped their handlers.
        let received: Vec<_> = self.found.try_iter().collect();
        let mut outcome = judge(&sent, &received);
        outcome.failures.extend(end.err().map(|error| error.to_string()));
        Ok(outcome)
    }
}

fn counting<const W: usize, H: Handle<W>>(
    handler: H,
    (progress, found): (Arc<ConsumerProgress>, mpsc::Sender<Received>),
) -> Counting<W, H> {
    let received = Received::default();
    Counting { handler, received, batch: 0, is_timed: false, next_lag: LAG_STRIDE, progress, found }
}
