//! Replaying dead letters to their topics: as new messages, for whoever wants them now.

use super::entry::DeadLetter;
use super::handle::{DeadLetters, Replay, ReplayError};
use super::query::Selection;
use crate::broker::publish::error::PublishFailure;
use crate::broker::publish::options::PublishOptions;
use crate::broker::publish::topic_publisher::AnyTopicPublisher;
use crate::message::MessagePayload;
use crate::sync::panics::guard;
use crate::sync::thread;
use crate::wait::Deadline;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many topics are remembered while letters are published.
const CACHED_TOPICS: usize = 256;

/// What a replay to topics has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it says what was not published"]
#[non_exhaustive]
pub struct Republished {
    /// Letters that were published again, and are gone from the store.
    pub letters: usize,
    /// Letters that stay, since the time was up.
    pub left: usize,
    /// Letters that were meant and that another replay has.
    pub already_replaying: usize,
    /// Letters that stay, since no subscription wanted them: their messages are counted as
    /// [`unrouted`](crate::broker::Ledger::unrouted).
    pub unwanted: usize,
    /// Letters that stay, since their payload's `Clone` has panicked.
    pub uncopied: usize,
    /// What the last one was refused for that stays for that reason, with all behind it.
    pub refusal: Option<PublishFailure>,
}

impl<P: MessagePayload> DeadLetters<P> {
    /// Publishes the letters that are meant once more, each to the topic that it was published to, for all
    /// subscriptions that want it now. Each is a new message, with a new id and attempt 1; its
    /// [parent](crate::message::Message::parent) is the one that failed. Headers, correlation and priority are as
    /// they were, and so is a moment of expiry that has not passed. A letter is gone from the store when its message
    /// is published: one that fails again makes a new letter.
    ///
    /// Publishes on this thread, at most so many in a second as `replay` says, and returns when all are published, or
    /// `limit` has passed, or one was refused. In a [simulation](crate::broker::simulation) it does not wait: all are
    /// published at once.
    ///
    /// ```
    /// # use ringmain::Broker;
    /// # use ringmain::broker::dead_letters::{DeadLetterOptions, Replay, Selection};
    /// # use std::time::Duration;
    /// let mut simulation = Broker::of::<u32>().dead_letters(DeadLetterOptions::new()).simulate()?;
    /// let broker = simulation.broker();
    /// let old = broker.subscribe("orders", |_| Err::<(), _>("no such customer"))?;
    /// let _ = broker.publisher("orders")?.publish(4711)?;
    /// simulation.run();
    /// drop(old);
    /// let (sender, orders) = std::sync::mpsc::channel();
    /// let _new = broker.subscribe("orders", move |order| sender.send(**order))?;
    /// let letters = broker.dead_letters().ok_or("it keeps them")?;
    /// let replay = Replay::to_topic().rate(100);
    /// let republished = letters.republish(&Selection::all(), replay, Duration::from_secs(10))?;
    /// simulation.run();
    /// assert_eq!((republished.letters, orders.try_recv()?), (1, 4711));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// All that are meant are being replayed; or the broker is closed, or this is a child made by `fork`.
    pub fn republish(
        &self,
        selection: &Selection,
        replay: Replay,
        limit: Duration,
    ) -> Result<Republished, ReplayError> {
        if self.core.is_forked() {
            return Err(ReplayError::Forked);
        }
        if self.core.is_closed() {
            return Err(ReplayError::Closed);
        }
        let (begun, deadline) = (Instant::now(), Deadline::after(limit));
        let plan = self.store.lock().lease_for_replay(selection, self.core.clock.now());
        let already_replaying = plan.already_replaying.len();
        let numbers: Vec<u64> = plan.collect();
        if numbers.is_empty() && already_replaying > 0 {
            return Err(ReplayError::AlreadyReplaying { letters: already_replaying });
        }
        let mut publisher = AnyTopicPublisher::new(self.core.clone(), CACHED_TOPICS);
        let mut republished = Republished { already_replaying, ..Republished::default() };
        let mut numbers = numbers.into_iter();
        for (place, number) in numbers.by_ref().enumerate() {
            let waited = self.core.is_simulated || wait_until(begun + replay.delay(place as u64), deadline);
            let letter = if waited { self.store.take(number) } else { None };
            let Some(letter) = letter else {
                self.store.cancel([number]);
                if waited {
                    // It has had to make room meanwhile.
                    continue;
                }
                republished.left += 1;
                break;
            };
            let Some(payload) = guard(|| letter.message.payload.clone()) else {
                self.store.release(&letter.key());
                republished.uncopied += 1;
                continue;
            };
            let options = options_of(&letter, self.core.clock.now());
            let published = publisher.publish_in_place_with(
                letter.message.topic.as_str(),
                |slot| *slot = payload,
                &options,
            );
            match published {
                Ok(published) if published.accepted == 0 => {
                    self.store.release(&letter.key());
                    republished.unwanted += 1;
                }
                Ok(_) => {
                    let gone = self.store.settle_replayed(&letter.key());
                    guard(|| drop((gone, letter)));
                    republished.letters += 1;
                }
                Err(error) => {
                    self.store.release(&letter.key());
                    republished.refusal = Some(error.kind().clone());
                    republished.left += 1;
                    break;
                }
            }
        }
        republished.left += numbers.len();
        self.store.cancel(numbers);
        Ok(republished)
    }
}

/// Waits until then. Returns whether the deadline lets it.
fn wait_until(moment: Instant, deadline: Deadline) -> bool {
    let now = Instant::now();
    if deadline.at().is_some_and(|at| moment.max(now) >= at) {
        return false;
    }
    if moment > now {
        thread::sleep(moment - now);
    }
    true
}

/// What a letter's message was told when it was published.
fn options_of<P>(letter: &Arc<DeadLetter<P>>, now: crate::clock::Timestamp) -> PublishOptions {
    let message = &letter.message;
    PublishOptions::again(
        &message.headers,
        message.correlation,
        message.id,
        message.expires_at.filter(|at| *at > now),
        message.priority,
    )
}
