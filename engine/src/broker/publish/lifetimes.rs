//! How long messages live by default, by topic.
//!
//! It is asked when a topic is resolved, not when a message is published: topics that it says nothing of know nothing
//! of it.

use crate::topic::{Pattern, Topic, TopicError};
use std::time::Duration;

/// How long messages live by default. Built with the broker, and not changed any more.
#[derive(Debug, Default)]
pub(crate) struct Lifetimes(Vec<(Pattern, Duration)>);

impl Lifetimes {
    /// # Errors
    /// A malformed pattern, and what is wrong with it.
    pub(crate) fn new(told: Vec<(String, Duration)>) -> Result<Self, (String, TopicError)> {
        let checked = told.into_iter().map(|(text, life)| match Pattern::new(&text) {
            Ok(pattern) => Ok((pattern, life)),
            Err(error) => Err((text, error)),
        });
        checked.collect::<Result<_, _>>().map(Self)
    }

    /// Returns the shortest of those whose patterns match that topic.
    pub(super) fn of(&self, topic: &Topic) -> Option<Duration> {
        let matching = self.0.iter().filter(|(pattern, _)| pattern.matches(topic));
        matching.map(|(_, life)| *life).min()
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_of_those_that_match_counts() {
        let told = [("quotes.#", 5), ("quotes.eu.*", 2), ("#.slow", 9), ("quotes.eu.slow", 7)];
        let told = told.map(|(pattern, seconds)| (pattern.to_owned(), Duration::from_secs(seconds)));
        let lifetimes = Lifetimes::new(told.into()).expect("valid");
        let of = |topic| lifetimes.of(&Topic::new(topic).expect("valid")).map(|life| life.as_secs());
        assert_eq!(of("quotes.eu.slow"), Some(2));
        assert_eq!(of("quotes.us"), Some(5));
        assert_eq!(of("orders.slow"), Some(9));
        assert_eq!(of("orders"), None);
    }
}
