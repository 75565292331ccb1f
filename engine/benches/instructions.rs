//! What one event costs in instructions, for `scripts/instructions.sh`, which counts them with
//! callgrind: as many on every machine, however busy.
//!
//! One thread publishes and polls in turns, and what is counted is `counted` alone. Only a broker's
//! consumer has a thread of its own: in the cases `deliver-…` that thread alone is counted, from
//! `count_from` to `count_to`. Nobody who is counted sleeps and no ring runs full, so that each case
//! is the way which events take as long as all goes well.
//!
//! `instructions CASE` does a case's work, and without a case the program prints the cases and the events of each.

use ringmain::broker::filter::header;
use ringmain::broker::{
    AnyTopicPublisher, Breaker, Broker, Dispatcher, Idempotency, PublishOptions, Publisher, Retry,
    SubscriptionBuilder, key,
};
use ringmain::clock::Clock;
use ringmain::message::Message;
use ringmain::ring::{Polled, Poller, Producer, RingBuilder, Sequencer};
use ringmain::wait::WaitStrategy;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::time::Duration;

/// The words of an event: with its stamp, one cache line.
const EVENT: usize = 7;
/// The words of what a broker makes of an event.
const ENVELOPE: usize = 12;
/// The bytes of a message's payload.
const BYTES: usize = 56;

const CAPACITY: usize = 1_024;
/// So many times round the ring: what happens once a lap is counted too.
const LAPS: usize = 16;
/// The size of a publisher's batch, and of what a poll may take.
const BATCH: usize = 64;

/// What callgrind counts: on the thread that is here, and on no other.
#[inline(never)]
fn counted<R>(work: impl FnOnce() -> R) -> R {
    black_box(work())
}

/// Where the counting of a thread begins that calls nothing of ours but this.
#[inline(never)]
fn count_from() {
    black_box(1);
}

/// Where it ends.
#[inline(never)]
fn count_to() {
    black_box(2);
}

fn publish_one_by_one<const WORDS: usize, S: Sequencer>(producer: &mut Producer<[u64; WORDS], S>) {
    for number in 0..CAPACITY as u64 {
        producer.publish(|event| *event = [black_box(number); WORDS]).expect("there is room");
    }
}

fn publish_batches<const WORDS: usize, S: Sequencer>(producer: &mut Producer<[u64; WORDS], S>) {
    for _ in 0..CAPACITY / BATCH {
        producer
            .publish_batch(BATCH, |place, event| *event = [black_box(place as u64); WORDS])
            .expect("there is room");
    }
}

fn poll<const WORDS: usize>(poller: &mut Poller<[u64; WORDS]>, most: usize) {
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

fn laps<const WORDS: usize, S: Sequencer>(
    counting: Counted,
    producer: &mut Producer<[u64; WORDS], S>,
    poller: &mut Poller<[u64; WORDS]>,
) {
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

fn ring_laps<const WORDS: usize>(has_many_producers: bool, counting: Counted) {
    let ring = RingBuilder::new(CAPACITY, || [0; WORDS]).expect("a power of two");
    let mut graph = ring.wait(WaitStrategy::BusySpin).graph().expect("memory");
    let (_, mut poller) = graph.poller(&[]).expect("a first consumer");
    if has_many_producers {
        let (mut producer, _ring) = graph.build_multi_producer().expect("no threads to start");
        laps(counting, &mut producer, &mut poller);
    } else {
        let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
        laps(counting, &mut producer, &mut poller);
    }
}

const TOPIC: &str = "prices.eurusd.spot";

/// Publishes to a broker's one subscription. The ring is drained before each lap: how far the
/// consumer gets meanwhile makes no difference.
fn broker_laps(is_bound: bool) {
    // Publishers have nobody to wake, as in the other cases, and who waits leaves them the processor.
    let dispatcher = Dispatcher::new("counted").capacity(CAPACITY).wait(WaitStrategy::Backoff);
    // How the hardware's is read depends on the machine.
    let (clock, _) = Clock::manual();
    let builder = Broker::of::<[u64; EVENT]>().dispatcher(dispatcher).clock(clock);
    let broker = builder.build().expect("a small broker");
    broker.subscription().pattern(TOPIC).subscribe(|_| ()).expect("a pattern").detach();
    let mut bound = broker.publisher(TOPIC).expect("a topic");
    let mut remembering = broker.any_topic_publisher();
    let _ = remembering.publish(TOPIC, [0; EVENT]).expect("there is room");
    for _ in 0..LAPS {
        broker.drain(Duration::from_secs(60)).expect("the consumer goes on");
        if is_bound {
            counted(|| {
                for number in 0..CAPACITY as u64 {
                    let _ = bound
                        .publish_in_place(|event| *event = [black_box(number); EVENT])
                        .expect("there is room");
                }
            });
        } else {
            counted(|| {
                for number in 0..CAPACITY as u64 {
                    let topic = black_box(TOPIC);
                    let _ = remembering
                        .publish_in_place(topic, |event| *event = [black_box(number); EVENT])
                        .expect("there is room");
                }
            });
        }
    }
}

/// A publisher of either kind. Both publish in one function, so that what they have in common is
/// called from two places: the compiler inlines there only what it has been told to.
enum Either {
    Bound(Publisher),
    Remembering(AnyTopicPublisher),
}

impl Either {
    #[inline(never)]
    fn publish(&mut self, bytes: &[u8; BYTES]) -> bool {
        match self {
            Self::Bound(publisher) => publisher.publish(bytes).is_ok(),
            Self::Remembering(publisher) => publisher.publish(black_box(TOPIC), bytes).is_ok(),
        }
    }
}

/// Publishes bytes to a broker's one subscription, as `broker_laps` does.
fn bytes_laps(is_bound: bool) {
    let dispatcher = Dispatcher::new("counted").capacity(CAPACITY).wait(WaitStrategy::Backoff);
    let (clock, _) = Clock::manual();
    let broker = Broker::builder().dispatcher(dispatcher).clock(clock).build().expect("a small broker");
    broker.subscription().pattern(TOPIC).subscribe(|_| ()).expect("a pattern").detach();
    let mut publisher = if is_bound {
        Either::Bound(broker.publisher(TOPIC).expect("a topic"))
    } else {
        Either::Remembering(broker.any_topic_publisher())
    };
    let bytes = [7; BYTES];
    // Each slot has held as many bytes before.
    for _ in 0..CAPACITY {
        assert!(publisher.publish(&bytes), "the ring is full");
    }
    for _ in 0..LAPS {
        broker.drain(Duration::from_secs(60)).expect("the consumer hangs");
        counted(|| {
            for _ in 0..CAPACITY {
                assert!(publisher.publish(black_box(&bytes)), "the ring is full");
            }
        });
    }
}

fn region() -> PublishOptions {
    PublishOptions::new().header("region", "eu").expect("a header")
}

/// What subscribers are told.
type Told = fn(SubscriptionBuilder<[u64; EVENT]>) -> SubscriptionBuilder<[u64; EVENT]>;

/// Has a broker's consumer deliver to so many subscriptions, which are told something, whose handlers do
/// nothing. Everything is published while the consumer waits in a handler.
fn deliver(subscriptions: usize, told: Told, options: Option<PublishOptions>) {
    // The first event waits, and some are delivered before those that are counted.
    const FIRST: u64 = 64;
    const LAST: u64 = FIRST + (LAPS * CAPACITY) as u64;
    let dispatcher = Dispatcher::new("counted").capacity(4 * LAPS * CAPACITY);
    let (clock, _) = Clock::manual();
    let builder = Broker::of::<[u64; EVENT]>().dispatcher(dispatcher).clock(clock);
    let broker = builder.build().expect("a small broker");
    let (door, opened) = channel::<()>();
    let (sender, is_done) = channel();
    let handler = move |message: &Message<'_, [u64; EVENT]>| match message[0] {
        0 => {
            let _ = opened.recv();
        }
        FIRST => count_from(),
        LAST => {
            count_to();
            let _ = sender.send(());
        }
        _ => {}
    };
    let subscription = || told(broker.subscription().pattern(TOPIC));
    subscription().subscribe(handler).expect("a pattern").detach();
    for _ in 1..subscriptions {
        subscription().subscribe(|_| ()).expect("a pattern").detach();
    }
    let mut publisher = broker.publisher(TOPIC).expect("a topic");
    for number in 0..=LAST {
        let payload = [number; EVENT];
        let published = match &options {
            Some(options) => publisher.publish_with(payload, options),
            None => publisher.publish(payload),
        };
        let _ = published.expect("there is room");
    }
    drop(door);
    is_done.recv_timeout(Duration::from_secs(60)).expect("the consumer goes on");
}

const CASES: [(&str, fn()); 21] = [
    ("publish-single", || ring_laps::<EVENT>(false, Counted::Publish)),
    ("publish-single-batch", || ring_laps::<EVENT>(false, Counted::PublishBatch)),
    ("publish-multi", || ring_laps::<EVENT>(true, Counted::Publish)),
    ("publish-multi-batch", || ring_laps::<EVENT>(true, Counted::PublishBatch)),
    ("publish-multi-envelope", || ring_laps::<ENVELOPE>(true, Counted::Publish)),
    ("publish-bound", || broker_laps(true)),
    ("publish-remembered", || broker_laps(false)),
    ("publish-bytes-bound", || bytes_laps(true)),
    ("publish-bytes-remembered", || bytes_laps(false)),
    ("consume-single", || ring_laps::<EVENT>(false, Counted::Poll)),
    ("consume-single-batch", || ring_laps::<EVENT>(false, Counted::PollBatch)),
    ("consume-multi", || ring_laps::<EVENT>(true, Counted::Poll)),
    ("consume-multi-batch", || ring_laps::<EVENT>(true, Counted::PollBatch)),
    ("deliver-to-1", || deliver(1, |plain| plain, None)),
    ("deliver-to-8", || deliver(8, |plain| plain, None)),
    ("deliver-with-retry", || deliver(1, |told| told.retry(Retry::default()), None)),
    ("deliver-with-breaker", || deliver(1, |told| told.breaker(Breaker::default()), None)),
    ("deliver-with-idempotency", || {
        deliver(1, |told| told.idempotent(Idempotency::by(key::id()).keys(1_000)), None);
    }),
    ("deliver-with-time-limit", || deliver(1, |told| told.time_limit(Duration::from_secs(1)), None)),
    ("deliver-header", || deliver(1, |plain| plain, Some(region()))),
    ("deliver-header-with-filter", || {
        deliver(1, |told| told.filter(header("region").is("eu")), Some(region()));
    }),
];

fn main() -> ExitCode {
    // A test runner that takes all targets asks each for its tests. There are none.
    if std::env::args().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    // `cargo bench` adds a word of its own.
    let Some(wanted) = std::env::args().skip(1).find(|word| word != "--bench") else {
        for (name, _) in CASES {
            println!("{name} {}", LAPS * CAPACITY);
        }
        return ExitCode::SUCCESS;
    };
    let Some((_, work)) = CASES.iter().find(|(name, _)| *name == wanted) else {
        eprintln!("instructions: there is no case '{wanted}'");
        return ExitCode::FAILURE;
    };
    work();
    ExitCode::SUCCESS
}
