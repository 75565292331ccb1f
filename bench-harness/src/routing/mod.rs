//! `routing`: what it costs to find the subscriptions of a topic among a million patterns, to
//! change the table, and to publish while it changes.
//!
//! The patterns and topics are those of [`patterns`], from a fixed seed. Everything that is
//! compared is measured in turns, round by round, and a comparison is the median of what was found
//! within rounds; a row without a comparison is the median of its rounds. Whatever takes a broker
//! runs on two cores: the publisher alone on the first, and the broker's threads, its reclaimer
//! among them, with whoever changes the table on the second.
//!
//! | section | what it shows |
//! |---|---|
//! | [`publishing`] | a publish to a bound topic and to a cached run-time topic, beside the ring alone |
//! | [`matching`] | matching a topic that no publisher knows; beside a linear scan, and beside a rival |
//! | [`changing`] | subscribing and unsubscribing, one change a swap, and the memory of a pattern |
//! | [`churn`] | publishing at a steady rate while others subscribe and unsubscribe |
//! | [`unique_topics`] | a publisher to hot topics beside one that makes up new topics without end |

mod changing;
mod churn;
mod command;
mod context;
mod extent;
mod matching;
mod patterns;
mod publishing;
#[cfg(feature = "rivals")]
mod rival;
mod unique_topics;

pub(crate) use command::{MAX_PATTERNS, RoutingOptions, routing};
