//! Looking at dead letters, and doing something about them.

use super::counts::DeadLetterCounts;
use super::entry::DeadLetter;
use super::group::Group;
use super::query::Selection;
use super::shared::SharedStore;
use super::store::discard;
use crate::broker::core::Core;
use crate::broker::deliver::mailbox::Command;
use crate::broker::handle::Broker;
use crate::broker::subscribe::registry::SubscriptionState;
use crate::clock::Timestamp;
use crate::message::MessagePayload;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The dead letters of a broker. See [`BrokerBuilder::dead_letters`](crate::broker::BrokerBuilder::dead_letters).
///
/// It does not keep the broker open, and goes on telling what is there when that has been shut down.
///
/// All of it locks the store for as long as it looks at it, in proportion to the letters that it looks at: a consumer
/// that has a new one waits for that. Nothing foreign is called meanwhile.
pub struct DeadLetters<P: MessagePayload> {
    pub(super) core: Arc<Core<P>>,
    pub(super) store: Arc<SharedStore<P>>,
}

/// How dead letters are replayed.
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    rate: u32,
}

impl Replay {
    /// To the subscriptions that failed on them, at most 1,000 in a second of the broker's clock.
    pub const fn to_subscription() -> Self {
        Self { rate: 1_000 }
    }

    /// To the topics that they were published to, at most 1,000 in a second:
    /// [`DeadLetters::republish`].
    pub const fn to_topic() -> Self {
        Self { rate: 1_000 }
    }

    /// At most so many in a second; 0 is 1.
    #[must_use]
    pub const fn rate(mut self, in_a_second: u32) -> Self {
        self.rate = in_a_second;
        self
    }

    /// Returns when that many letters have been handed over before.
    fn due(&self, begun: Timestamp, before: u64) -> Timestamp {
        begun.after(self.delay(before))
    }

    /// Returns how long that takes.
    pub(super) fn delay(&self, before: u64) -> Duration {
        let nanos = u128::from(before) * 1_000_000_000 / u128::from(self.rate.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Letters of one subscription, by their numbers, and when each is handed over.
type Letters = Vec<(Timestamp, u64)>;

/// A replay that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replaying {
    /// Letters that are being replayed.
    pub letters: usize,
    /// Letters that were meant and that another replay has.
    pub already_replaying: usize,
    /// Letters that were meant and whose subscription there is not.
    pub without_subscription: usize,
}

/// Why nothing is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// All that are meant are being replayed.
    #[error("all {letters} dead letters that are meant are being replayed")]
    AlreadyReplaying {
        /// How many are meant.
        letters: usize,
    },
    /// The subscriptions of all that are meant are gone, or their consumers have.
    #[error(
        "the subscriptions of all {letters} dead letters that are meant are gone; subscribe by the same names"
    )]
    NoSubscription {
        /// How many are meant.
        letters: usize,
    },
    /// The broker has been shut down.
    #[error("the broker has been shut down")]
    Closed,
    /// The broker belongs to the process that this one is a fork of.
    #[error("the broker's threads are in the process that this one is a fork of")]
    Forked,
}

impl<P: MessagePayload> DeadLetters<P> {
    /// Returns the letters that are meant, from the oldest. They are shared: it costs no copy.
    pub fn query(&self, selection: &Selection) -> Vec<Arc<DeadLetter<P>>> {
        self.store.lock().query(selection, self.core.clock.now())
    }

    /// Returns how many letters are meant.
    pub fn count(&self, selection: &Selection) -> usize {
        self.store.lock().count(selection, self.core.clock.now())
    }

    /// Returns the letters that are meant in groups of those that failed alike, the largest first.
    pub fn groups(&self, selection: &Selection) -> Vec<Group> {
        self.store.lock().groups(selection, self.core.clock.now())
    }

    /// Removes the letters that are meant, save those that are being replayed. Returns how many those were. Drops them
    /// on this thread.
    pub fn purge(&self, selection: &Selection) -> usize {
        let purged = self.store.lock().purge(selection, self.core.clock.now());
        let count = purged.len();
        discard(purged);
        count
    }

    /// Returns where every one of them has gone.
    pub fn counts(&self) -> DeadLetterCounts {
        self.store.counts()
    }

    /// Has the letters that are meant delivered once more, each to the subscription that failed on it;
    /// if that has ended since, to the one that has its name now. Does not wait.
    ///
    /// What is replayed are the letters that are there now. Each is delivered with the id that it had,
    /// as attempt 1, and with all that the subscription was told: it waits for a pause, a breaker, or in
    /// order, and is retried. It is not asked for its
    /// [key](crate::broker::SubscriptionBuilder::idempotent): it is delivered also where a message with the same key
    /// has been handled meanwhile. When it has been handled, or has expired, the letter is gone. One that
    /// fails for good is a dead letter again, in one history with what came before. Until then it is
    /// held, and no other replay takes it. A subscription that ends, or a shutdown, leaves in the store
    /// what was not delivered: what had been handed over and waits for another attempt is counted as dropped
    /// there, and here as undelivered, and is not handed back beside.
    /// [`Broker::drain`](crate::Broker::drain) waits until a replay is over.
    ///
    /// Subscriptions count what is replayed to them
    /// ([`SubscriptionLedger::replayed`](crate::broker::SubscriptionLedger::replayed)).
    ///
    /// # Errors
    /// Nothing of what is meant can be replayed. That nothing is meant is no error.
    pub fn replay(&self, selection: &Selection, replay: Replay) -> Result<Replaying, ReplayError> {
        if self.core.is_forked() {
            return Err(ReplayError::Forked);
        }
        if self.core.is_closed() {
            return Err(ReplayError::Closed);
        }
        let now = self.core.clock.now();
        let (planned, already_replaying) = {
            let mut store = self.store.lock();
            let plan = store.lease_for_replay(selection, now);
            let already_replaying = plan.already_replaying.len();
            let planned: Vec<_> = plan.filter_map(|number| Some((number, store.name_of(number)?))).collect();
            (planned, already_replaying)
        };
        let (total, mut letters) = (planned.len(), 0);
        let live = self.live(planned.iter().map(|(_, name)| name));
        let mut lists: BTreeMap<u64, (Arc<SubscriptionState>, Letters)> = BTreeMap::new();
        for (number, name) in planned {
            let Some(state) = live.get(&*name) else {
                self.store.cancel([number]);
                continue;
            };
            let list = &mut lists.entry(state.id).or_insert_with(|| (state.clone(), Vec::new())).1;
            list.push((replay.due(now, letters as u64), number));
            letters += 1;
        }
        for (state, list) in lists.into_values() {
            let mailbox = &self.core.consumer(state.destination.consumer).mailbox;
            if let Err(Command::Replay { letters: refused, .. }) =
                mailbox.post(Command::Replay { state, letters: list })
            {
                // The consumer has gone.
                letters -= refused.len();
                self.store.cancel(refused.into_iter().map(|(_, number)| number));
            }
        }
        match (letters, total, already_replaying) {
            (0, 0, letters) if letters > 0 => Err(ReplayError::AlreadyReplaying { letters }),
            (0, letters, _) if letters > 0 => Err(ReplayError::NoSubscription { letters }),
            _ => Ok(Replaying { letters, already_replaying, without_subscription: total - letters }),
        }
    }

    #[cfg(feature = "durable-dead-letters")]
    pub(super) fn core(&self) -> &Core<P> {
        &self.core
    }

    #[cfg(feature = "durable-dead-letters")]
    pub(super) fn store(&self) -> &SharedStore<P> {
        &self.store
    }

    /// Finds the subscriptions of these names.
    fn live<'n>(
        &self,
        names: impl Iterator<Item = &'n Arc<str>>,
    ) -> HashMap<Arc<str>, Arc<SubscriptionState>> {
        let mut names: HashMap<Arc<str>, Option<Arc<SubscriptionState>>> =
            names.map(|name| (name.clone(), None)).collect();
        for state in self.core.registry.snapshot().live() {
            if let Some(found) = names.get_mut(&*state.name) {
                *found = Some(state.clone());
            }
        }
        names.into_iter().filter_map(|(name, state)| Some((name, state?))).collect()
    }
}

impl<P: MessagePayload> Clone for DeadLetters<P> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), store: self.store.clone() }
    }
}

impl<P: MessagePayload> fmt::Debug for DeadLetters<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters").field("counts", &self.counts()).finish()
    }
}

impl<P: MessagePayload> Broker<P> {
    /// Returns the dead letters, if the broker was told to
    /// [keep](crate::broker::BrokerBuilder::dead_letters) them.
    pub fn dead_letters(&self) -> Option<DeadLetters<P>> {
        let core = self.core().clone();
        let store = core.dead_letters.clone()?;
        Some(DeadLetters { core, store })
    }
}
