//! A dead letter: a message, and the story of its failure.

use super::attempt::{Attempt, History};
use super::fingerprint::Fingerprint;
use crate::broker::account::term::FailureKind;
use crate::clock::{Ticks, Timestamp};
use crate::message::{MessageId, OwnedMessage};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A message that a subscription could not handle.
///
/// It never changes. What a query has found stays as it was, also when the store has gone on.
///
/// Its Debug output shows neither the payload nor what errors said.
#[non_exhaustive]
pub struct DeadLetter<P> {
    /// Its place in the store: the later one was taken, the higher it is. Never used again; a letter
    /// that comes back from a replay has a new one.
    pub number: u64,
    /// The message, as it was delivered last.
    pub message: OwnedMessage<P>,
    /// The name of the subscription that failed.
    pub subscription: Arc<str>,
    /// When it was published, as its broker keeps it.
    pub(crate) published_ticks: Ticks,
    /// What made it a dead letter.
    pub kind: FailureKind,
    /// The attempts at delivering it, from the oldest: at most 64, and fewer where they would make the
    /// letter larger than the store may be. None where no handler ever got the message.
    pub attempts: Vec<Attempt>,
    /// How many attempts came before those, and are not kept.
    pub forgotten_attempts: u64,
    /// When it became a dead letter first, by the broker's clock; the clock's beginning, if it was before that.
    pub first_at: Timestamp,
    /// When it became a dead letter first, by the wall clock.
    pub first_at_wall: SystemTime,
    /// When it became a dead letter last, by the broker's clock; the clock's beginning, if it was before that.
    pub dead_at: Timestamp,
    /// When it became a dead letter last, by the wall clock.
    pub dead_at_wall: SystemTime,
    /// By how much it is older than the broker's clock, where it is of an earlier process: `dead_at` is the clock's
    /// beginning then.
    pub(crate) older_by: Duration,
    /// The number that it had first, before it was replayed and failed again.
    pub(crate) record: u64,
    /// How many times it became a dead letter: 1, and one more for each replay that failed.
    pub episodes: u32,
    fingerprint: Fingerprint,
}

impl<P> DeadLetter<P> {
    /// Returns what it has in common with letters that failed alike: the fingerprint of its
    /// [kind](Self::kind) and its [last error](Self::last_error).
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns what the last attempt's error said, if it said something and that was kept.
    pub fn last_error(&self) -> Option<&str> {
        self.attempts.last()?.error.as_deref()
    }

    /// Returns for how long it has been a dead letter, counted from the last time that it became one.
    pub(super) fn age(&self, now: Timestamp) -> Duration {
        now.since(self.dead_at).saturating_add(self.older_by)
    }

    /// Forgets what errors said.
    #[cfg(feature = "durable-dead-letters")]
    pub(super) fn forget_texts(&mut self) {
        self.attempts.iter_mut().for_each(|attempt| attempt.error = None);
        self.fingerprint = Fingerprint::of(self.kind, None);
    }

    /// Forgets the oldest attempts until the rest takes no more than so many bytes.
    #[cfg(feature = "durable-dead-letters")]
    pub(super) fn shrink_to(&mut self, limit: usize) {
        let mut bytes: usize = self.attempts.iter().map(Attempt::bytes).sum();
        let too_many = self.attempts.iter().take_while(|attempt| {
            let is_one = bytes > limit;
            bytes -= if is_one { attempt.bytes() } else { 0 };
            is_one
        });
        let too_many = too_many.count();
        self.attempts.drain(..too_many);
        self.forgotten_attempts += too_many as u64;
    }

    /// Makes a letter of what was read of it.
    #[cfg(feature = "durable-dead-letters")]
    pub(super) fn read_back(
        record: u64,
        message: OwnedMessage<P>,
        subscription: Arc<str>,
        story: Story,
    ) -> Self {
        let Story { number, kind, attempts, forgotten_attempts, episodes, .. } = story;
        let Story { first_at, first_at_wall, dead_at, dead_at_wall, older_by, .. } = story;
        let last_error = attempts.last().and_then(|attempt| attempt.error.as_deref());
        Self {
            number,
            fingerprint: Fingerprint::of(kind, last_error),
            message,
            subscription,
            published_ticks: Ticks::default(),
            kind,
            attempts,
            forgotten_attempts,
            first_at,
            first_at_wall,
            dead_at,
            dead_at_wall,
            older_by,
            record,
            episodes,
        }
    }

    /// Returns what tells it from all others.
    pub(crate) fn key(&self) -> Key {
        Key { message: self.message.id, subscription: self.subscription.clone() }
    }
}

impl<P> fmt::Debug for DeadLetter<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("number", &self.number)
            .field("id", &self.message.id)
            .field("topic", &self.message.topic)
            .field("subscription", &self.subscription)
            .field("kind", &self.kind)
            .field("attempts", &self.attempts.len())
            .finish_non_exhaustive()
    }
}

/// What tells a dead letter from all others: a message, and the name of who failed on it. A name
/// outlives the subscription, so that who comes back under it is replayed what was its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) message: MessageId,
    pub(crate) subscription: Arc<str>,
}

/// What has become of a message, as it was read.
#[cfg(feature = "durable-dead-letters")]
pub(super) struct Story {
    pub(super) number: u64,
    pub(super) kind: FailureKind,
    pub(super) attempts: Vec<Attempt>,
    pub(super) forgotten_attempts: u64,
    pub(super) first_at: Timestamp,
    pub(super) first_at_wall: SystemTime,
    pub(super) dead_at: Timestamp,
    pub(super) dead_at_wall: SystemTime,
    pub(super) older_by: Duration,
    pub(super) episodes: u32,
}

/// What is known of a message beside what its users see of it.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    pub(crate) published_ticks: Ticks,
    /// The attempts since it was published, or since it was replayed.
    pub(crate) history: History,
}

/// A message on its way into the store. All of its memory was asked for before the store is locked.
pub(crate) struct NewLetter<P> {
    pub(crate) message: OwnedMessage<P>,
    /// How many bytes the message takes, in place and elsewhere. Only its broker knows what a payload
    /// takes.
    pub(crate) bytes: usize,
    pub(crate) subscription: Arc<str>,
    pub(crate) published_ticks: Ticks,
    pub(crate) kind: FailureKind,
    /// The attempts since it was published, or since it was replayed.
    pub(crate) history: History,
}

impl<P> NewLetter<P> {
    pub(crate) fn key(&self) -> Key {
        Key { message: self.message.id, subscription: self.subscription.clone() }
    }

    /// Makes the letter, which has failed before where there is one `before`.
    pub(super) fn into_letter(
        self,
        number: u64,
        before: Option<&DeadLetter<P>>,
        now: Timestamp,
        wall: SystemTime,
    ) -> DeadLetter<P> {
        let (attempts, forgotten_attempts) = self.history.into_parts();
        let last_error = attempts.last().and_then(|attempt| attempt.error.as_deref());
        DeadLetter {
            number,
            fingerprint: Fingerprint::of(self.kind, last_error),
            message: self.message,
            subscription: self.subscription,
            published_ticks: self.published_ticks,
            kind: self.kind,
            attempts,
            forgotten_attempts,
            first_at: before.map_or(now, |before| before.first_at),
            first_at_wall: before.map_or(wall, |before| before.first_at_wall),
            dead_at: now,
            dead_at_wall: wall,
            older_by: Duration::ZERO,
            record: before.map_or(number, |before| before.record),
            episodes: episodes_after(before),
        }
    }
}

/// Returns how many times a message has been a dead letter with this time.
pub(super) fn episodes_after<P>(before: Option<&DeadLetter<P>>) -> u32 {
    before.map_or(1, |before| before.episodes.saturating_add(1))
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::super::samples::{history, letter_of, seconds, wall};

    #[test]
    fn debug_output_shows_neither_payload_nor_errors() {
        let mut new = letter_of(1, "billing", "secret payload");
        new.history = history(&["secret error"]);
        let letter = new.into_letter(17, None, seconds(1), wall(seconds(1)));
        let shown = format!("{letter:?}");
        assert!(!shown.contains("secret"), "{shown}");
        let told = "number: 17, id: MessageId(000000000000feed-00000003-0000000000000001), \
                    topic: Topic(\"orders.eu\"), subscription: \"billing\", kind: Handler, attempts: 1";
        assert!(shown.contains(told), "{shown}");
    }
}
