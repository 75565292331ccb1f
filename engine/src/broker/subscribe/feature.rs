//! What a subscription can be told, and what goes with what.
//!
//! One function says it for every pair: the builder refuses by it, and the table in the documentation is made of it.

use std::fmt;

/// Something that a subscription can be told, or that can happen to its messages, as far as it concerns what else there
/// is. [`Feature::with`] says of each pair how it goes together, and this table is made of it: ✓ both work, ○ both work
/// and order is lost or weakened, ✗ the builder refuses it.
///
/// | | filter | expiry | idempotency | pause | breaker | retry | retry in order | conflation | tokens | several in flight | time limit |
/// |---|:-:|:-:|:-:|:-:|:-:|:-:|:-:|:-:|:-:|:-:|:-:|
/// | **filter** | | | | | | | | | | | |
/// | **expiry** | ✓ | | | | | | | | | | |
/// | **idempotency** | ✓ 1 | ✓ | | | | | | | | | |
/// | **pause** | ✓ | ✓ | ✓ | | | | | | | | |
/// | **breaker** | ✓ 2 | ✓ | ✓ | ✓ | | | | | | | |
/// | **retry** | ✓ | ✓ 3 | ✓ 4 | ✓ | ✓ 5 | | | | | | |
/// | **retry in order** | ✓ | ✓ 3 | ✓ 4 | ✓ | ✓ 5 | ✗ 6 | | | | | |
/// | **conflation** | ✓ | ✓ | ✗ 7 | ✓ | ✓ | ○ 8 | ✓ 9 | | | | |
/// | **tokens** | ✓ | ✓ | ✓ | ✓ | ✓ | ✓ | ✓ | ✓ | | | |
/// | **several in flight** | ✓ | ✓ | ✓ | ✓ 10 | ○ 11 | ✓ | ✗ 12 | ○ 13 | ✓ 14 | | |
/// | **time limit** | ✓ 15 | ✓ | ✓ 16 | ✓ | ✓ 17 | ✓ 18 | ✓ 18 | ✓ | ✓ 19 | ✓ 19 | |
///
/// 1. What the filter does not want is not remembered
/// 2. A filter that panics does not count
/// 3. What expires while it waits is expired, and no dead letter
/// 4. A message that waits for another attempt keeps its key
/// 5. An open breaker uses up no attempt, and the retry that is due is its probe
/// 6. A subscription has one of both
/// 7. Of messages with one key the one keeps the first, the other the last
/// 8. A newer message takes the place of one that waits to be tried again
/// 9. A newer message takes the place of the one that has failed; its attempts start anew
/// 10. What is in flight can be settled during the pause
/// 11. Several messages may have failed before it opens
/// 12. Order needs that one message is settled before the next is begun
/// 13. A newer message can be begun before an older one of its key is settled
/// 14. Without tokens one is in flight: a handler that returns has settled
/// 15. The time that the filter takes does not count
/// 16. The key of a late call is not remembered
/// 17. A late call is a failure
/// 18. The next attempt waits until the late call has returned
/// 19. Each message has until it is settled: the shorter of this limit and the token's own, which `extend` renews
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// [`filter`](super::builder::SubscriptionBuilder::filter).
    Filter,
    /// Messages that expire: [`PublishOptions::expires_after`](crate::broker::PublishOptions::expires_after).
    Expiry,
    /// [`idempotent`](super::builder::SubscriptionBuilder::idempotent).
    Idempotency,
    /// [`Subscription::pause`](crate::broker::Subscription::pause).
    Pause,
    /// [`breaker`](super::builder::SubscriptionBuilder::breaker).
    Breaker,
    /// [`retry`](super::builder::SubscriptionBuilder::retry), as it is by default.
    DeferredRetry,
    /// [`retry`](super::builder::SubscriptionBuilder::retry), [in order](crate::broker::Retry::in_order).
    OrderedRetry,
    /// [`conflate`](super::builder::SubscriptionBuilder::conflate).
    Conflation,
    /// [Tokens](super::builder::SubscriptionBuilder::subscribe_with_tokens).
    Tokens,
    /// More than one message [in flight](crate::broker::Acknowledgement::in_flight).
    InFlight,
    /// [`time_limit`](super::builder::SubscriptionBuilder::time_limit).
    TimeLimit,
}

/// How two features go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Together {
    /// Each does what it does alone.
    Work,
    /// Both work, and this is what is to be known.
    Note(&'static str),
    /// Both work, and the order of messages is lost.
    LoseOrder(&'static str),
    /// A subscription cannot have both: the builder refuses it, for this reason.
    Refused(&'static str),
}

impl Feature {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Filter,
        Self::Expiry,
        Self::Idempotency,
        Self::Pause,
        Self::Breaker,
        Self::DeferredRetry,
        Self::OrderedRetry,
        Self::Conflation,
        Self::Tokens,
        Self::InFlight,
        Self::TimeLimit,
    ];

    /// Returns its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Expiry => "expiry",
            Self::Idempotency => "idempotency",
            Self::Pause => "pause",
            Self::Breaker => "breaker",
            Self::DeferredRetry => "retry",
            Self::OrderedRetry => "retry in order",
            Self::Conflation => "conflation",
            Self::Tokens => "tokens",
            Self::InFlight => "several in flight",
            Self::TimeLimit => "time limit",
        }
    }

    /// Returns how it goes together with another feature of the same subscription.
    ///
    /// ```
    /// use ringmain::broker::{Feature, Together};
    ///
    /// let together = Feature::Conflation.with(Feature::Idempotency);
    /// assert!(matches!(together, Together::Refused(_)));
    /// assert_eq!(Feature::Filter.with(Feature::Pause), Together::Work);
    /// ```
    pub const fn with(self, other: Self) -> Together {
        // The order of both does not matter.
        let (one, other) = if self as u8 <= other as u8 { (self, other) } else { (other, self) };
        use Feature as F;
        match (one, other) {
            (F::Filter, F::Idempotency) => Together::Note("what the filter does not want is not remembered"),
            (F::Filter, F::Breaker) => Together::Note("a filter that panics does not count"),
            (F::Expiry, F::DeferredRetry | F::OrderedRetry) => {
                Together::Note("what expires while it waits is expired, and no dead letter")
            }
            (F::Idempotency, F::DeferredRetry | F::OrderedRetry) => {
                Together::Note("a message that waits for another attempt keeps its key")
            }
            (F::Idempotency, F::Conflation) => {
                Together::Refused("of messages with one key the one keeps the first, the other the last")
            }
            (F::Breaker, F::DeferredRetry | F::OrderedRetry) => {
                Together::Note("an open breaker uses up no attempt, and the retry that is due is its probe")
            }
            (F::Breaker, F::InFlight) => {
                Together::LoseOrder("several messages may have failed before it opens")
            }
            (F::DeferredRetry, F::OrderedRetry) => Together::Refused("a subscription has one of both"),
            (F::DeferredRetry, F::Conflation) => {
                Together::LoseOrder("a newer message takes the place of one that waits to be tried again")
            }
            (F::OrderedRetry, F::Conflation) => Together::Note(
                "a newer message takes the place of the one that has failed; its attempts start anew",
            ),
            (F::OrderedRetry, F::InFlight) => {
                Together::Refused("order needs that one message is settled before the next is begun")
            }
            (F::Conflation, F::InFlight) => {
                Together::LoseOrder("a newer message can be begun before an older one of its key is settled")
            }
            (F::Pause, F::InFlight) => Together::Note("what is in flight can be settled during the pause"),
            (F::Tokens, F::InFlight) => {
                Together::Note("without tokens one is in flight: a handler that returns has settled")
            }
            (F::Filter, F::TimeLimit) => Together::Note("the time that the filter takes does not count"),
            (F::Idempotency, F::TimeLimit) => Together::Note("the key of a late call is not remembered"),
            (F::Breaker, F::TimeLimit) => Together::Note("a late call is a failure"),
            (F::DeferredRetry | F::OrderedRetry, F::TimeLimit) => {
                Together::Note("the next attempt waits until the late call has returned")
            }
            (F::Tokens | F::InFlight, F::TimeLimit) => Together::Note(
                "each message has until it is settled: the shorter of this limit and the token's own, which `extend` \
                 renews",
            ),
            _ => Together::Work,
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Returns the first pair of features that a subscription cannot have, and why.
pub(super) fn conflict(features: &[Feature]) -> Option<(Feature, Feature, &'static str)> {
    let pairs = features
        .iter()
        .enumerate()
        .flat_map(|(at, one)| features[at + 1..].iter().map(move |other| (one, other)));
    pairs.into_iter().find_map(|(one, other)| match one.with(*other) {
        Together::Refused(reason) => Some((*one, *other, reason)),
        _ => None,
    })
}
