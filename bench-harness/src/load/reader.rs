//! A subscriber that reads every byte it gets, and checks that it gets everything, once and in
//! order.
//!
//! A message of 8 bytes or more starts with a number that its sender wrote: the sender's own count,
//! or the time for which it was intended. The rest is the same in all messages, so that a sum over
//! all words says whether any byte is wrong. Smaller messages are told apart by the engine's count,
//! which also tells when they were due.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::ThreadId;
use std::time::Duration;

use hdrhistogram::Histogram;
use ringmain::clock::{Clock, Timestamp};
use ringmain::message::{Message, Payload, PublisherId};

use crate::load::pacer::Schedule;
use crate::machine::usage::involuntary_switches;
use crate::stats::histogram;

/// Of so many messages of a sender, one has its topic's text compared.
const TOPIC_STRIDE: u64 = 64;

/// What the number at the start of a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// How many the sender has sent before.
    Count,
    /// When it was to be sent, in nanoseconds of the common clock.
    Intended,
}

/// The bytes of messages: what a sender writes, and what a reader expects.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    bytes: Vec<u8>,
    /// The sum over all but the number.
    sum: u64,
}

impl Body {
    pub(crate) fn new(length: usize) -> Self {
        let mut bytes: Vec<u8> = (0..length).map(|place| (place % 251) as u8 + 1).collect();
        if let Some(number) = bytes.first_chunk_mut::<8>() {
            *number = [0; 8];
        }
        let sum = sum(&bytes);
        Self { bytes, sum }
    }

    /// The message of this number.
    #[inline]
    pub(crate) fn numbered(&mut self, number: u64) -> &[u8] {
        if let Some(start) = self.bytes.first_chunk_mut::<8>() {
            *start = number.to_le_bytes();
        }
        &self.bytes
    }
}

/// The sum of all bytes, eight at a time.
#[inline]
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().fold(0_u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    rest.iter().fold(words, |sum, &byte| sum.wrapping_add(u64::from(byte)))
}

/// Which sender, and which of its topics, a publisher of the engine stands for.
#[derive(Debug)]
pub(crate) struct Senders {
    pub(crate) topics: Arc<[String]>,
    /// The number of the first publisher, and the sender and topic of it and those that follow.
    pub(crate) first: u32,
    pub(crate) publishers: Vec<Option<(u32, u32)>>,
    /// Whether each sender has a publisher for each topic.
    pub(crate) bound: bool,
    pub(crate) count: usize,
}

impl Senders {
    #[inline]
    fn find(&self, publisher: PublisherId) -> Option<(usize, usize)> {
        let index = publisher.get().wrapping_sub(self.first) as usize;
        let (sender, topic) = (*self.publishers.get(index)?)?;
        Some((sender as usize, topic as usize))
    }
}

/// What all readers of a load are made with.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) numbers: Numbers,
    pub(crate) body: Body,
    pub(crate) clock: Clock,
    /// Set once all publishers are there, before the first message.
    pub(crate) senders: Arc<OnceLock<Arc<Senders>>>,
    /// Messages that arrive earlier, in nanoseconds of the clock, are not in the histogram.
    pub(crate) record_from: Arc<AtomicU64>,
    /// When each sender's messages come due; empty where they are sent as fast as it goes. Set
    /// before the first message that is intended for a time.
    pub(crate) schedules: Arc<OnceLock<Vec<Schedule>>>,
    /// How long the handler is to stand still, once, at the first message that counts.
    pub(crate) stall: Option<Duration>,
}

/// What one subscriber has found.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) subscriber: usize,
    /// How many came of each sender.
    pub(crate) received: Vec<u64>,
    /// Messages that came late, early or again.
    pub(crate) out_of_order: u64,
    /// Messages with a wrong byte.
    pub(crate) corrupt: u64,
    /// Messages of a topic or a publisher that they are not of.
    pub(crate) misrouted: u64,
    pub(crate) latency: Option<Histogram<u64>>,
    /// Its thread, and how often that was taken off its core against its will from the first
    /// message on.
    pub(crate) involuntary_switches: Option<(ThreadId, u64)>,
}

/// A subscriber. Belongs to its handler, and hands over what it has found when that is dropped.
pub(crate) struct Reader {
    expected: Expected,
    senders: Option<Arc<Senders>>,
    /// The least number that may come next, of each sender.
    next: Vec<u64>,
    findings: Option<Findings>,
    found: mpsc::Sender<Findings>,
    /// The thread that calls the handler, and its switches before the first message.
    thread: Option<(ThreadId, u64)>,
}

impl Reader {
    /// Allocates all that it will ever need but a word a sender, which comes with the first
    /// message.
    pub(crate) fn new(subscriber: usize, expected: Expected, found: mpsc::Sender<Findings>) -> Self {
        let latency = (expected.numbers == Numbers::Intended).then(histogram);
        let findings = Findings {
            subscriber,
            received: Vec::new(),
            out_of_order: 0,
            corrupt: 0,
            misrouted: 0,
            latency,
            involuntary_switches: None,
        };
        let findings = Some(findings);
        Self { expected, senders: None, next: Vec::new(), findings, found, thread: None }
    }

    /// The handler.
    #[inline]
    pub(crate) fn read(&mut self, message: &Message<'_, Payload>) {
        let now = match self.expected.numbers {
            Numbers::Intended => self.expected.clock.now(),
            Numbers::Count => Timestamp::default(),
        };
        if self.senders.is_none() {
            self.meet_senders();
        }
        let (Some(senders), Some(findings)) = (&self.senders, &mut self.findings) else { return };
        let Some((sender, topic)) = senders.find(message.publisher()) else {
            findings.misrouted += 1;
            return;
        };
        let bytes = message.payload().as_slice();
        let (number, expected_sum) = match bytes.first_chunk::<8>() {
            Some(number) => {
                let number = u64::from_le_bytes(*number);
                (Some(number), self.expected.body.sum.wrapping_add(number))
            }
            None => (None, self.expected.body.sum),
        };
        let sum = black_box(sum(bytes));
        if sum != expected_sum || bytes.len() != self.expected.body.bytes.len() {
            findings.corrupt += 1;
        }
        let counted_by_engine = || {
            let count = message.sequence();
            if senders.bound { count * senders.topics.len() as u64 + topic as u64 } else { count }
        };
        let position = number.unwrap_or_else(counted_by_engine);
        let next = &mut self.next[sender];
        let may_skip = self.expected.numbers == Numbers::Intended && number.is_some();
        if position < *next || (position > *next && !may_skip) {
            findings.out_of_order += 1;
        }
        *next = (*next).max(position.wrapping_add(1));
        let received = &mut findings.received[sender];
        if received.is_multiple_of(TOPIC_STRIDE) {
            let expected = &senders.topics[(*received % senders.topics.len() as u64) as usize];
            findings.misrouted += u64::from(message.topic().as_str() != expected);
        }
        *received += 1;
        if let Some(latency) = &mut findings.latency {
            let intended = number.map_or_else(
                || match self.expected.schedules.get().and_then(|all| all.get(sender)) {
                    Some(schedule) => schedule.due(position),
                    None => message.published_at(),
                },
                Timestamp::from_nanos,
            );
            // Set before the first message is sent. It is the arrival that counts: under a load
            // that cannot be sustained, nothing that was intended for later might ever arrive.
            if now.as_nanos() >= self.expected.record_from.load(Ordering::Relaxed) {
                latency.saturating_record(now.since(intended).as_nanos() as u64);
                if let Some(stall) = self.expected.stall.take() {
                    std::thread::sleep(stall);
                }
            }
        }
    }

    #[cold]
    fn meet_senders(&mut self) {
        self.senders = self.expected.senders.get().cloned();
        self.thread = involuntary_switches().map(|count| (std::thread::current().id(), count));
        if let (Some(senders), Some(findings)) = (&self.senders, &mut self.findings) {
            self.next = vec![0; senders.count];
            findings.received = vec![0; senders.count];
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(mut findings) = self.findings.take() {
            // The engine may drop a handler on another thread than the one that called it.
            let of_this_thread = self.thread.filter(|(id, _)| *id == std::thread::current().id());
            findings.involuntary_switches =
                of_this_thread.zip(involuntary_switches()).map(|((id, then), now)| (id, now - then));
            // Nobody waits for it any more when the load was given up.
            let _ = self.found.send(findings);
        }
    }
}

impl Findings {
    /// What is wrong, in words: compared with what each sender has sent.
    pub(crate) fn failures(&self, sent: &[u64]) -> Vec<String> {
        let mut failures = Vec::new();
        let subscriber = self.subscriber;
        for (sender, &sent) in sent.iter().enumerate() {
            let received = self.received.get(sender).copied().unwrap_or(0);
            if received != sent {
                failures.push(format!(
                    "subscriber {subscriber} got {received} of the {sent} messages of publisher {sender}"
                ));
            }
        }
        let counts = [
            (self.out_of_order, "out of order, or twice"),
            (self.corrupt, "with wrong bytes"),
            (self.misrouted, "of a wrong topic or publisher"),
        ];
        for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
            failures.push(format!("subscriber {subscriber} got {count} messages {what}"));
        }
        failures
    }
}

#[cfg(test)]
mod tests {
    use ringmain::broker::{Broker, Publisher};

    use super::*;

    /// Has one reader see what `publish` does with two publishers of sender 0, to topics `t.0` and
    /// `t.1`, and one of nobody's; what it found.
    fn found(numbers: Numbers, length: usize, publish: impl FnOnce(&mut [Publisher; 3], Body)) -> Findings {
        let broker: Broker = Broker::builder().build().expect("a broker");
        let (found, findings) = mpsc::channel();
        let body = Body::new(length);
        let expected = Expected {
            numbers,
            body: body.clone(),
            clock: Clock::hardware(),
            senders: Arc::default(),
            record_from: Arc::default(),
            schedules: Arc::default(),
            stall: None,
        };
        let senders = expected.senders.clone();
        let mut reader = Reader::new(7, expected, found);
        let subscription = broker.subscribe("t.*", move |message| reader.read(message)).expect("a pattern");
        let mut publishers = ["t.0", "t.1", "t.2"].map(|topic| broker.publisher(topic).expect("a topic"));
        let all = Senders {
            topics: ["t.0".to_owned(), "t.1".to_owned()].into(),
            first: publishers[0].id().get(),
            publishers: vec![Some((0, 0)), Some((0, 1))],
            bound: true,
            count: 1,
        };
        senders.set(Arc::new(all)).expect("once");
        publish(&mut publishers, body);
        assert!(broker.shutdown(Duration::from_secs(10)).expect("no closure").ledger.is_balanced());
        drop(subscription);
        findings.recv().expect("handed over when the handler was dropped")
    }

    #[test]
    fn what_is_right_is_found_right() {
        for length in [0, 7, 8, 64, 1_001] {
            let findings = found(Numbers::Count, length, |[first, second, _], mut body| {
                for number in 0..200 {
                    let publisher = if number % 2 == 0 { &mut *first } else { &mut *second };
                    let _ = publisher.publish(body.numbered(number)).expect("room");
                }
            });
            assert_eq!(findings.failures(&[200]), [""; 0], "{length} bytes");
        }
    }

    #[test]
    fn a_message_that_is_missing_doubled_or_too_early_is_found() {
        for (numbers, out_of_order) in [([0, 1, 3], 1), ([0, 1, 1], 1), ([1, 0, 2], 2)] {
            let findings = found(Numbers::Count, 16, |[first, ..], mut body| {
                for number in numbers {
                    let _ = first.publish(body.numbered(number)).expect("room");
                }
            });
            assert_eq!(findings.out_of_order, out_of_order, "{numbers:?}");
            assert_eq!(findings.failures(&[4])[0], "subscriber 7 got 3 of the 4 messages of publisher 0");
        }
    }

    #[test]
    fn intended_times_may_skip_and_never_go_back() {
        let findings = found(Numbers::Intended, 8, |[first, ..], mut body| {
            for number in [5, 9, 9, 8, 20] {
                let _ = first.publish(body.numbered(number)).expect("room");
            }
        });
        assert_eq!(findings.out_of_order, 2);
        assert_eq!(findings.latency.map(|times| times.len()), Some(5));
    }

    #[test]
    fn wrong_bytes_are_found_at_every_place() {
        for (length, place) in [(64, 63), (64, 8), (13, 12), (5, 0)] {
            let findings = found(Numbers::Count, length, |[first, ..], mut body| {
                let mut bytes = body.numbered(0).to_vec();
                bytes[place] ^= 0x10;
                let _ = first.publish(&bytes).expect("room");
                let _ = first.publish(&bytes[..length - 1]).expect("room");
            });
            assert_eq!(findings.corrupt, 2, "byte {place} of {length}");
        }
    }

    #[test]
    fn messages_of_unknown_publishers_and_of_wrong_topics_are_found() {
        let findings = found(Numbers::Count, 16, |[_, second, unknown], mut body| {
            let _ = second.publish(body.numbered(0)).expect("room");
            let _ = unknown.publish(body.numbered(1)).expect("room");
        });
        assert_eq!(findings.misrouted, 2);
    }
}
