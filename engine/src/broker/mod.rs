//! The broker: publishers, subscriptions, and the dispatchers that carry messages from the ones to the others.
//!
//! ```
//! use ringmain::broker::Broker;
//! use std::sync::mpsc;
//! use std::time::Duration;
//!
//! let broker = Broker::builder().build()?;
//! let (sender, receiver) = mpsc::channel();
//! let subscription = broker.subscribe("orders.*.created", move |message| {
//!     sender.send(message.payload().to_vec())
//! })?;
//!
//! let mut publisher = broker.publisher("orders.eu.created")?;
//! let sent = publisher.publish(b"order 4711")?;
//! assert_eq!(sent.accepted, 1);
//! assert_eq!(receiver.recv_timeout(Duration::from_secs(5))?, b"order 4711");
//!
//! let report = broker.shutdown(Duration::from_secs(5))?;
//! assert!(report.ledger.is_balanced());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The way of a message
//!
//! ```text
//! Publisher ── route ──► ring producer ──► slot ──► barrier ──► consumer ──► handler ──► settle
//!    │  bound to a topic, or with a           │        the consumer's thread reads it in place,
//!    │  cache of topics; looks only at        │        looks the route's id up among the handlers
//!    │  the table's generation word           │        that it owns, and calls them one by one
//!    └─ resolves anew when it has moved       └─ one claim, one clock read, no allocation
//! ```
//!
//! Handlers are owned, called and dropped by their consumer's thread. What others want of it goes through its mailbox:
//! subscribing puts the handler there *before* the routing table is swapped, so that a message that was routed to a
//! subscription always finds its handler there. Every delivery ends in one place, `settle`, which counts it. A handler
//! that its consumer, busy with another, has not come to read of when its subscription ends is taken out of the mailbox
//! and dropped by who ends it: nothing piles up beside a consumer that is stuck.
//!
//! # What it costs, and what may wait
//!
//! | call | allocates | locks | system call | waits |
//! |---|---|---|---|---|
//! | publish to a topic that no change since concerns | no | no | only to wake a parked consumer | only on a full ring that blocks |
//! | publish to a topic that a change may concern, or that is not in the cache | yes | briefly | also to wake the reclaimer | as above |
//! | subscribe | yes | briefly | to wake a parked consumer and the reclaimer | no |
//! | unsubscribe | yes | briefly | yes | until the consumer has dropped the handler |
//! | `match_count`, `has_subscribers` | yes | no | no | no |
//! | `subscriptions`, `explain` | yes | briefly | no | no |
//! | pause | yes | briefly | to wake a parked consumer | until the consumer has read of it |
//! | resume | yes | briefly | to wake a parked consumer | no |
//! | a handler's call | no | no | no | no |
//! | a message that has to wait | yes | briefly | no | no |
//! | `metrics`, `audit` | yes | briefly | no | no |
//! | `stalls` | yes | briefly | for each stall | no |
//! | `rescue` | yes | briefly | to start a thread | until it runs on its core, where it is pinned to one |
//! | `shutdown` | yes | yes | yes | at most for its limit |

#![forbid(unsafe_code)]

mod account;
mod builder;
mod core;
pub mod dead_letters;
mod deliver;
mod dispatcher;
mod error;
mod explain;
mod handle;
mod id;
mod lifecycle;
mod metrics;
mod name;
mod policy;
mod publish;
pub mod simulation;
mod stall;
mod subscribe;
#[cfg(ringmain_loom)]
pub mod unstarted;
mod waiting;

pub use account::ledger::{Ledger, RingLedger, SubscriptionLedger};
pub use account::term::{DropReason, FailureKind, Term};
pub use builder::BrokerBuilder;
pub use dispatcher::Dispatcher;
pub use error::{
    BrokerBuildError, DrainError, PauseError, RescueError, ShutdownError, SubscribeError, UnsubscribeError,
};
pub use explain::{Explanation, Match, NearMiss, SubscriptionInfo};
pub use handle::{Broker, WeakBroker};
pub use id::SubscriptionId;
pub use lifecycle::report::{Abandoned, InDoubt, ShutdownReport, Undelivered};
pub use name::DispatcherName;
pub use policy::breaker::{Breaker, BreakerError, BreakerState, WhileOpen};
pub use policy::idempotency::Idempotency;
pub use policy::key;
pub use policy::retry::{Jitter, Retry, RetryError};
pub use publish::batch::Batch;
pub use publish::configured::ConfiguredPublisher;
pub use publish::error::{BatchError, BatchRefusal, PublishError, PublishFailure, Refusal, RefusalReason};
pub use publish::options::{PublishOptions, Published, PublishedBatch, Wait};
pub use publish::publisher::Publisher;
pub use publish::topic_publisher::{AnyTopicPublisher, CacheCounts};
pub use stall::report::{Stall, StallCause, StallKind};
pub use subscribe::builder::SubscriptionBuilder;
pub use subscribe::callbacks::FailedDelivery;
pub use subscribe::feature::{Feature, Together};
pub use subscribe::filter;
pub use subscribe::handled::{Handled, HandlerError, IntoHandled, Permanent, RetryAfter};
pub use subscribe::pause::SubscriptionStatus;
pub use subscribe::start::Prepared;
pub use subscribe::subscription::Subscription;
pub use subscribe::token::{Acknowledgement, Token, TokenError};
pub use waiting::backlog::{Backlog, WhenFull};
