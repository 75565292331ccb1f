//! The ledger: where every accepted message has gone.

use super::tally::Tally;
use super::term::{DropReason, FailureKind, Term};
use crate::broker::id::SubscriptionId;
use std::fmt;

/// The account of one ring: `claimed = consumed + skipped + tombstones + depth`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingLedger {
    /// The dispatcher's name.
    pub dispatcher: String,
    /// Slots that publishers claimed.
    pub claimed: u64,
    /// Events that the slowest consumer has gone through and released.
    pub consumed: u64,
    /// Events that were overwritten before they were read. Reserved: no dispatcher's ring drops
    /// yet.
    pub skipped: u64,
    /// Slots whose publisher panicked.
    pub tombstones: u64,
    /// Slots claimed and not yet released.
    pub depth: u64,
    /// Beside the sum: messages that it did not take, having no room or a dead consumer. Of a batch that ends early,
    /// only the message at which it ends.
    pub refused: u64,
}

impl RingLedger {
    /// Whether the sum holds.
    pub fn is_balanced(&self) -> bool {
        self.claimed == self.consumed + self.skipped + self.tombstones + self.depth
    }
}

/// The account of one subscription. Every term is counted where it happens, and once nothing waits
/// in the ring any more their sum is what was routed and what was replayed:
///
/// `routed + replayed = delivered + filtered + expired + dropped + dead_lettered + undelivered + in_doubt +
/// retrying + backlogged + in_flight`
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionLedger {
    /// Its number.
    pub id: SubscriptionId,
    /// Its name.
    pub name: String,
    /// Its patterns.
    pub patterns: Vec<String>,
    /// Messages that its ring accepted, on all routes that led to it. Counted by publishers.
    pub routed: u64,
    /// Dead letters that were replayed to it.
    pub replayed: u64,
    /// Beside the sum: messages on those routes that its ring did not take. Counted by publishers.
    pub refused: u64,
    terms: [u64; Term::ALL.len()],
    /// Beside the sum: how often a failed delivery was put back to be tried again. It may have expired, or
    /// ended otherwise, before it was.
    pub retries: u64,
    /// Beside the sum: calls that have returned after their [time
    /// limit](crate::broker::SubscriptionBuilder::time_limit), and tokens that were given back after their message's
    /// time was up. The message stands in the sum under what became of it then. A call whose message is in doubt by
    /// then does not count.
    pub late: u64,
    /// Beside the sum: each failed delivery also stands in it under what became of the message.
    failures: [u64; FailureKind::ALL.len()],
}

impl SubscriptionLedger {
    /// Reads what a subscription's consumer has counted, and nothing else.
    pub(crate) fn settled(tally: &Tally) -> Self {
        let (terms, failures) = tally.read();
        Self { terms, failures, retries: tally.retries(), replayed: tally.replayed.get(), ..Self::default() }
    }

    /// Adds another account's numbers to this one.
    pub(crate) fn add(&mut self, other: &Self) {
        self.routed += other.routed;
        self.refused += other.refused;
        self.retries += other.retries;
        self.replayed += other.replayed;
        self.late += other.late;
        let sums = self.terms.iter_mut().chain(&mut self.failures);
        for (sum, number) in sums.zip(other.terms.iter().chain(&other.failures)) {
            *sum += number;
        }
    }

    /// States a size, which is read where it is and not counted.
    pub(crate) fn set(&mut self, term: Term, size: u64) {
        self.terms[term as usize] = size;
    }

    /// Returns how many messages stand under a term.
    pub fn count(&self, term: Term) -> u64 {
        self.terms[term as usize]
    }

    /// Returns each term with its number of messages.
    pub fn terms(&self) -> impl Iterator<Item = (Term, u64)> {
        Term::ALL.iter().map(|&term| (term, self.count(term)))
    }

    /// Returns how many calls returned without an error.
    pub fn delivered(&self) -> u64 {
        self.count(Term::Delivered)
    }

    /// Returns how many messages were dropped, for whatever reason.
    pub fn dropped(&self) -> u64 {
        DropReason::ALL.iter().map(|&reason| self.dropped_for(reason)).sum()
    }

    /// Returns how many messages were dropped for that reason.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.count(reason.term())
    }

    /// Returns how many deliveries failed, beside the sum: each attempt of a message that was tried several
    /// times, and each that an open breaker has refused. The message stands in the sum under what became of it.
    pub fn failures(&self) -> u64 {
        self.failures.iter().sum()
    }

    /// Returns how many deliveries failed in that way.
    pub fn failures_of(&self, kind: FailureKind) -> u64 {
        self.failures[kind as usize]
    }

    /// Returns how many messages are accounted for: the sum of all terms.
    pub fn accounted(&self) -> u64 {
        self.terms.iter().sum()
    }

    /// Returns whether every message that was routed or replayed here is accounted for.
    pub fn is_balanced(&self) -> bool {
        self.routed + self.replayed == self.accounted()
    }
}

impl fmt::Debug for SubscriptionLedger {
    /// Shows the numbers that are not 0.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SubscriptionLedger");
        shown.field("id", &self.id).field("name", &self.name).field("patterns", &self.patterns);
        shown.field("routed", &self.routed).field("refused", &self.refused);
        for (term, count) in self.terms().filter(|(_, count)| *count > 0) {
            shown.field(term.as_str(), &count);
        }
        for (name, count) in [("replayed", self.replayed), ("retries", self.retries), ("late", self.late)] {
            if count > 0 {
                shown.field(name, &count);
            }
        }
        let failures = FailureKind::ALL.iter().map(|&kind| (kind.as_str(), self.failures_of(kind)));
        let failures: Vec<_> = failures.filter(|(_, count)| *count > 0).collect();
        shown.field("failures", &failures).finish()
    }
}

/// The account of a whole broker.
///
/// While messages flow its terms are read one after the other, so it is exact only when nothing is
/// under way: with publishers at rest and rings drained, and always after a shutdown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ledger {
    /// Messages that were published: a ring has accepted them, or none had to.
    pub published: u64,
    /// Of these, the ones that matched no subscription.
    pub unrouted: u64,
    /// Refusals by all rings. A message that two rings refused stands here twice, and one that was tried again as
    /// often as it was refused.
    /// Counted by publishers: a publish that is refused at the moment of a shutdown may be counted behind its report.
    pub refused: u64,
    /// Each dispatcher's ring.
    pub rings: Vec<RingLedger>,
    /// Each subscription that exists, or to which messages may still be under way.
    pub subscriptions: Vec<SubscriptionLedger>,
    /// The sum of all subscriptions that are past. It has neither number nor name of its own.
    pub past: SubscriptionLedger,
}

impl Ledger {
    /// All subscriptions, present and past, in one account.
    pub fn total(&self) -> SubscriptionLedger {
        let mut total = self.past.clone();
        for subscription in &self.subscriptions {
            total.add(subscription);
        }
        total
    }

    /// Returns the account of the subscriptions with this name that exist, or to which messages may still be under
    /// way: their sum where there are several, and nothing where there is none.
    ///
    /// ```
    /// # use ringmain::Broker;
    /// # let broker = Broker::builder().build()?;
    /// let _billing = broker.subscription().name("billing").pattern("orders.#").subscribe(|_| ())?;
    /// let billing = broker.audit().named("billing").ok_or("it exists")?;
    /// assert_eq!(billing.routed, billing.accounted());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn named(&self, name: &str) -> Option<SubscriptionLedger> {
        let mut named = self.subscriptions.iter().filter(|account| account.name == name);
        let mut sum = named.next()?.clone();
        named.for_each(|other| sum.add(other));
        Some(sum)
    }

    /// Whether every sum holds: each ring's and each subscription's.
    pub fn is_balanced(&self) -> bool {
        self.rings.iter().all(RingLedger::is_balanced)
            && self.subscriptions.iter().all(SubscriptionLedger::is_balanced)
            && self.past.is_balanced()
    }
}
