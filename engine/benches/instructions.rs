//! What one event costs in instructions, for `scripts/instructions.sh`, which counts those of `counted` alone with
//! callgrind: as many on every machine, however busy.
//!
//! One thread publishes and polls in turns. Nobody sleeps and no ring runs full, so that each case is the way which events
//! take as long as all goes well.
//!
//! `instructions CASE` does a case's work, and without a case the program prints the cases and the events of each.

use ringmain::ring::{Polled, Poller, Producer, RingBuilder, Sequencer};
use ringmain::wait::WaitStrategy;
use std::hint::black_box;
use std::process::ExitCode;

/// With its stamp, one cache line.
type Event = [u64; 7];

const CAPACITY: usize = 1_024;
/// So many times round the ring: what happens once a lap is counted too.
const LAPS: usize = 16;
/// The size of a publisher's batch, and of what a poll may take.
const BATCH: usize = 64;

/// What callgrind counts.
#[inline(never)]
fn counted<R>(work: impl FnOnce() -> R) -> R {
    black_box(work())
}

fn publish_one_by_one<S: Sequencer>(producer: &mut Producer<Event, S>) {
    for number in 0..CAPACITY as u64 {
        producer.publish(|event| *event = [black_box(number); 7]).expect("there is room");
    }
}

fn publish_batches<S: Sequencer>(producer: &mut Producer<Event, S>) {
    for _ in 0..CAPACITY / BATCH {
        producer
            .publish_batch(BATCH, |place, event| *event = [black_box(place as u64); 7])
            .expect("there is room");
    }
}

fn poll(poller: &mut Poller<Event>, most: usize) {
    for _ in 0..CAPACITY / most {
        let polled = poller.poll(most as u64, |event, _sequence, _is_last| {
            black_box(event.iter().fold(0, |sum: u64, word| sum.wrapping_add(*word)));
        });
        assert_eq!(polled, Polled::Events(most as u64));
    }
}

/// What is counted of a lap.
#[derive(Clone, Copy)]
enum Counted {
    Publish,
    PublishBatch,
    Poll,
    PollBatch,
}

fn laps<S: Sequencer>(counting: Counted, producer: &mut Producer<Event, S>, poller: &mut Poller<Event>) {
    for _ in 0..LAPS {
        match counting {
            Counted::Publish => counted(|| publish_one_by_one(producer)),
            Counted::PublishBatch => counted(|| publish_batches(producer)),
            Counted::Poll | Counted::PollBatch => publish_one_by_one(producer),
        }
        match counting {
            Counted::Poll => counted(|| poll(poller, 1)),
            Counted::PollBatch => counted(|| poll(poller, BATCH)),
            Counted::Publish | Counted::PublishBatch => poll(poller, BATCH),
        }
    }
}

const CASES: [(&str, Counted, bool); 8] = [
    ("publish-exclusive", Counted::Publish, false),
    ("publish-exclusive-batch", Counted::PublishBatch, false),
    ("publish-multi", Counted::Publish, true),
    ("publish-multi-batch", Counted::PublishBatch, true),
    ("consume-exclusive", Counted::Poll, false),
    ("consume-exclusive-batch", Counted::PollBatch, false),
    ("consume-multi", Counted::Poll, true),
    ("consume-multi-batch", Counted::PollBatch, true),
];

fn main() -> ExitCode {
    // `cargo bench` adds a word of its own.
    let Some(wanted) = std::env::args().skip(1).find(|word| word != "--bench") else {
        for (name, ..) in CASES {
            println!("{name} {}", LAPS * CAPACITY);
        }
        return ExitCode::SUCCESS;
    };
    let Some(&(_, counting, has_many_producers)) = CASES.iter().find(|(name, ..)| *name == wanted) else {
        eprintln!("instructions: there is no case '{wanted}'");
        return ExitCode::FAILURE;
    };
    let ring = RingBuilder::new(CAPACITY, Event::default).expect("a power of two");
    let mut graph = ring.wait(WaitStrategy::BusySpin).graph();
    let (_, mut poller) = graph.poller(&[]).expect("a first consumer");
    if has_many_producers {
        let (mut producer, _ring) = graph.multi().expect("no threads to start");
        laps(counting, &mut producer, &mut poller);
    } else {
        let (mut producer, _ring) = graph.exclusive().expect("no threads to start");
        laps(counting, &mut producer, &mut poller);
    }
    ExitCode::SUCCESS
}
