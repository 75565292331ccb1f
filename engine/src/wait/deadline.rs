//! The moment at which a wait gives up.

use std::time::{Duration, Instant};

/// The moment at which a wait gives up, if any.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// A wait that does not give up.
    pub const NEVER: Self = Self(None);

    /// A wait that gives up once `limit` has passed. A limit too long for the clock to hold never passes.
    pub fn after(limit: Duration) -> Self {
        Self::since(Instant::now(), limit)
    }

    /// A wait that gives up once `limit` has passed since `start`.
    pub(crate) fn since(start: Instant, limit: Duration) -> Self {
        Self(start.checked_add(limit))
    }

    /// Whether the moment has come. Reads the clock unless there is no deadline.
    pub fn has_passed(self) -> bool {
        self.0.is_some_and(|at| Instant::now() >= at)
    }

    /// The moment itself.
    pub fn at(self) -> Option<Instant> {
        self.0
    }

    /// The earlier of this deadline and `limit` from now.
    pub fn or_after(self, limit: Duration) -> Self {
        let other = Self::after(limit);
        match (self.0, other.0) {
            (Some(a), Some(b)) => Self(Some(a.min(b))),
            (a, b) => Self(a.or(b)),
        }
    }

    /// As much of `longest` as is left until the moment.
    pub(super) fn at_most(self, longest: Duration) -> Duration {
        self.0.map_or(longest, |at| longest.min(at.saturating_duration_since(Instant::now())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn the_earlier_of_two_moments_counts() {
        let soon = Deadline::after(Duration::ZERO);
        assert!(soon.has_passed() && soon.or_after(HOUR).has_passed());
        assert!(Deadline::after(HOUR).or_after(Duration::ZERO).has_passed());
        assert!(Deadline::NEVER.or_after(Duration::ZERO).has_passed());
        assert!(!Deadline::NEVER.or_after(HOUR).has_passed());
        assert_eq!(Deadline::NEVER.or_after(Duration::MAX).at(), None);
    }

    #[test]
    fn a_nap_does_not_outlast_the_deadline() {
        assert_eq!(Deadline::NEVER.at_most(HOUR), HOUR);
        assert_eq!(Deadline::after(Duration::ZERO).at_most(HOUR), Duration::ZERO);
        assert_eq!(Deadline::after(HOUR).at_most(Duration::from_secs(1)), Duration::from_secs(1));
    }
}
