//! The options of a load.

use std::time::Duration;

use clap::ValueEnum;
use serde::{Serialize, Serializer};

use crate::json;

/// How fast messages are published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rate {
    /// This many a second of all publishers together: open loop.
    PerSecond(f64),
    /// As fast as back-pressure allows.
    Max,
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::PerSecond(rate) => serializer.serialize_f64(*rate),
            Self::Max => serializer.serialize_str("max"),
        }
    }
}

/// How consumers wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Wait {
    /// Look again at once, for ever
    BusySpin,
    /// Spin a little, then offer the core
    Yielding,
    /// Spin, yield, then nap
    Backoff,
    /// Spin, then park; sooner where others want the core
    Adaptive,
    /// Spin a little, then park until woken
    Blocking,
}

/// The load of `latency` and `throughput`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Load {
    pub(crate) rate: Rate,
    #[serde(serialize_with = "json::seconds")]
    pub(crate) duration: Duration,
    /// Bytes of each message.
    pub(crate) payload: usize,
    pub(crate) publishers: usize,
    /// Each gets every message.
    pub(crate) subscribers: usize,
    pub(crate) topics: usize,
    /// `None` leaves it to the number of cores.
    pub(crate) wait: Option<Wait>,
    /// The cores that the user named: checked, each once, at least one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cores: Option<Vec<usize>>,
    /// A power of two.
    pub(crate) capacity: usize,
    /// Publish to topics given as text, instead of topics that publishers are bound to.
    pub(crate) runtime_topics: bool,
    /// A handler is to stand still for so long, once in the run.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "json::optional_seconds")]
    pub(crate) planted_stall: Option<Duration>,
}

impl Load {
    /// One publisher, one subscriber, one topic, messages of 64 bytes.
    pub(crate) fn new(rate: Rate, duration: Duration) -> Self {
        Self {
            rate,
            duration,
            payload: 64,
            publishers: 1,
            subscribers: 1,
            topics: 1,
            wait: None,
            cores: None,
            capacity: 1_024,
            runtime_topics: false,
            planted_stall: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_appear_in_the_json_as_on_the_command_line() {
        let load = Load {
            rate: Rate::Max,
            duration: Duration::from_millis(1_500),
            payload: 64,
            publishers: 1,
            subscribers: 2,
            topics: 3,
            wait: Some(Wait::BusySpin),
            cores: Some(vec![1, 0]),
            capacity: 1_024,
            runtime_topics: false,
            planted_stall: None,
        };
        let expected = serde_json::json!({
            "rate": "max", "duration": 1.5, "payload": 64, "publishers": 1, "subscribers": 2, "topics": 3,
            "wait": "busy-spin", "cores": [1, 0], "capacity": 1024, "runtime_topics": false,
        });
        assert_eq!(serde_json::to_value(&load).expect("JSON"), expected);
        let fast = serde_json::to_value(Rate::PerSecond(2.5)).expect("JSON");
        assert_eq!(fast, serde_json::json!(2.5));
    }
}
