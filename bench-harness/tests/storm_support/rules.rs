//! What handlers, retries and patterns mean, as their documentation says it.

use super::answer::Call;
use super::circuit::Range;
use super::scenario::*;

impl Fails {
    /// Whether a call is to fail, unless that is up to chance.
    pub(crate) fn says(&self, call: &Call) -> Option<bool> {
        match self {
            Self::Never => Some(false),
            Self::Always => Some(true),
            Self::Odd => Some(call.n % 2 == 1),
            Self::First(attempts) => Some(call.attempt <= *attempts),
            Self::Numbers(numbers, attempts) => Some(call.attempt <= *attempts && numbers.contains(&call.n)),
            Self::Rate(0) => Some(false),
            Self::Rate(100) => Some(true),
            Self::Rate(_) => None,
        }
    }
}

impl Filter {
    pub(crate) fn wants(self, publish: &Publish) -> bool {
        match self {
            Self::Region(region) => publish.region == Some(region),
            Self::AtLeast(least) => publish.priority.unwrap_or_default() >= least,
        }
    }
}

impl KeyBy {
    /// What tells a message from others, unless it has nothing that does.
    pub(crate) fn key_of(self, publish: &Publish, n: u64) -> Option<String> {
        match self {
            Self::Id => Some(n.to_string()),
            Self::Topic => Some(filled(publish.topic, n)),
            Self::Header => publish.keys.map(|keys| (n % keys).to_string()),
        }
    }
}

impl Retry {
    /// How long a message waits whose attempt has failed, if it is tried again.
    pub(crate) fn delay_after(&self, attempt: u16, fails_as: FailsAs) -> Option<Range> {
        if attempt >= self.attempts {
            return None;
        }
        if let FailsAs::RetryAfter(delay) = fails_as {
            return Some((delay, delay));
        }
        let retry = u32::from(attempt) - 1;
        let scheduled = match self.schedule {
            Schedule::Constant => self.delay,
            Schedule::Linear => self.delay * u64::from(retry + 1),
            Schedule::Exponential(factor) => self.delay * u64::from(factor).pow(retry),
        };
        let cap = self.cap.unwrap_or(Nanos::MAX);
        Some(match self.jitter {
            Jitter::None => (scheduled.min(cap), scheduled.min(cap)),
            Jitter::Full => (0, scheduled.min(cap)),
            Jitter::Decorrelated => {
                let least = if self.delay < cap { self.delay } else { 0 };
                (least, (self.delay * 3_u64.pow(retry + 1)).min(cap))
            }
        })
    }
}

/// Whether one of the patterns matches a topic: `*` is a word, `#` any number of them.
pub(crate) fn is_match(patterns: &[&str], topic: &str) -> bool {
    fn matches(pattern: &[&str], topic: &[&str]) -> bool {
        match (pattern, topic) {
            ([], rest) => rest.is_empty(),
            (["#", pattern @ ..], _) => (0..=topic.len()).any(|words| matches(pattern, &topic[words..])),
            ([word, pattern @ ..], [first, rest @ ..]) => {
                (*word == "*" || word == first) && matches(pattern, rest)
            }
            _ => false,
        }
    }
    let topic: Vec<&str> = topic.split('.').collect();
    patterns.iter().any(|pattern| matches(&pattern.split('.').collect::<Vec<_>>(), &topic))
}
