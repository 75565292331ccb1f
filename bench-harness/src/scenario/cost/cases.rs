//! The features that cost something, each with what it is compared with.

use std::hint::black_box;
use std::time::Duration;

use ringmain::broker::dead_letters::DeadLetterOptions;
use ringmain::broker::filter::{header, payload};
use ringmain::broker::{Backlog, Breaker, Idempotency, PublishOptions, Retry, SubscriptionBuilder, key};
use ringmain::message::{CorrelationId, Message};

/// The words of a message: with its stamp, one cache line.
pub(super) type Event = [u64; 7];

/// What a subscription is told.
type Told = fn(SubscriptionBuilder<Event>) -> SubscriptionBuilder<Event>;
/// What a publish is told.
type Published = fn() -> PublishOptions;

/// One side of a case.
#[derive(Clone, Copy)]
pub(super) struct Arm {
    /// Subscriptions of one consumer, told the same, whose handlers do next to nothing.
    pub(super) subscriptions: usize,
    pub(super) told: Told,
    /// `None` where nothing is told: the shortest way.
    pub(super) published: Option<Published>,
    pub(super) dead_letters: Option<fn() -> DeadLetterOptions>,
    /// Whether their consumer may be replaced during a call.
    pub(super) rescuable: bool,
}

/// A feature, on and off.
#[derive(Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) off: Arm,
    pub(super) on: Arm,
}

impl Arm {
    /// One subscription with a pattern and a handler, and a publish with a payload.
    const PLAIN: Self =
        Self { subscriptions: 1, told: |plain| plain, published: None, dead_letters: None, rescuable: false };

    const fn told(self, told: Told) -> Self {
        Self { told, ..self }
    }

    const fn published(self, published: Published) -> Self {
        Self { published: Some(published), ..self }
    }
}

/// A feature that is compared with nothing at all.
const fn beside_plain(name: &'static str, on: Arm) -> Case {
    Case { name, off: Arm::PLAIN, on }
}

/// The case whose two sides are the same: what it finds is what the others are off by.
pub(super) const NOTHING: &str = "nothing: the same twice";

/// All cases. A new feature is one entry.
pub(super) fn all() -> Vec<Case> {
    const PLAIN: Arm = Arm::PLAIN;
    // Options are told in both arms where what differs is what becomes of them.
    const OPTIONS: Arm = PLAIN.published(PublishOptions::new);
    const REGION: Arm = PLAIN.published(region);
    const ALL: Backlog = Backlog::new(1 << 20).bytes(usize::MAX);
    vec![
        beside_plain(NOTHING, PLAIN),
        beside_plain("a filter of the payload", PLAIN.told(|told| told.filter(payload(is_small)))),
        Case {
            name: "a filter of a header",
            off: REGION,
            on: REGION.told(|told| told.filter(header("region").is("eu"))),
        },
        beside_plain("retry, armed", PLAIN.told(|told| told.retry(Retry::default()))),
        beside_plain("breaker, closed", PLAIN.told(|told| told.breaker(Breaker::default()))),
        beside_plain("time limit, kept", PLAIN.told(|told| told.time_limit(Duration::from_secs(1)))),
        beside_plain(
            "idempotency by id",
            PLAIN.told(|told| told.idempotent(Idempotency::by(key::id()).keys(1_000))),
        ),
        beside_plain(
            "idempotency by payload",
            PLAIN.told(|told| {
                let number = key::of(|event: &Message<'_, Event>| Some(event[0]));
                told.idempotent(Idempotency::by(number).keys(1_000))
            }),
        ),
        // Each message has a key of its own: all are delivered, through the backlog.
        beside_plain(
            "conflation, nothing to conflate",
            PLAIN.told(|told| told.conflate(key::id()).backlog(ALL)),
        ),
        beside_plain("backlog, armed", PLAIN.told(|told| told.backlog(Backlog::new(1_000)))),
        beside_plain("dead letters, on", Arm { dead_letters: Some(DeadLetterOptions::new), ..PLAIN }),
        beside_plain("rescuable, nothing stuck", Arm { rescuable: true, ..PLAIN }),
        beside_plain(
            "on_error, never called",
            PLAIN.told(|told| {
                told.on_error(|_, failed| {
                    black_box(failed);
                })
            }),
        ),
        beside_plain("a second subscription", Arm { subscriptions: 2, ..PLAIN }),
        beside_plain("publish_with, no options", OPTIONS),
        Case { name: "one header", off: OPTIONS, on: REGION },
        Case { name: "a correlation id", off: OPTIONS, on: PLAIN.published(correlated) },
        Case { name: "an expiry", off: OPTIONS, on: PLAIN.published(expiring) },
    ]
}

fn is_small(event: &Event) -> bool {
    event[0] < u64::MAX
}

fn region() -> PublishOptions {
    PublishOptions::new().header("region", "eu").expect("a short header")
}

fn correlated() -> PublishOptions {
    PublishOptions::new().correlation(CorrelationId::new("order-4711").expect("a short id"))
}

fn expiring() -> PublishOptions {
    PublishOptions::new().expires_after(Duration::from_secs(3_600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_first_case_tells_how_far_off_the_others_are() {
        let mut names: Vec<_> = all().iter().map(|case| case.name).collect();
        assert_eq!(names[0], NOTHING);
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
