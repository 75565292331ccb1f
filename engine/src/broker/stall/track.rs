//! One thing that may stand still, as the watchdog remembers it from look to look.

use super::report::Stall;
use std::time::Duration;

/// What is known of a consumer's call, or of a ring's claims. Times are those of the watchdog's own clock.
pub(super) struct Track<K> {
    seen: Option<Seen<K>>,
    /// When what was seen last changed.
    changed: Duration,
}

/// What was seen, since when, and until when.
struct Seen<K> {
    key: K,
    since: Duration,
    until: Duration,
    /// The age at which it is a stall.
    limit: Duration,
    /// What was said of it last, if it was.
    told: Option<Stall>,
    /// The age at which it is told next.
    next: Duration,
    /// The age at which a rescue may be tried again.
    next_try: Duration,
}

impl<K: PartialEq + Copy> Track<K> {
    pub(super) fn new() -> Self {
        Self { seen: None, changed: Duration::ZERO }
    }

    /// Notes what is seen now. Of what was not seen before `limit` says at which age it is a stall. Returns what had
    /// been told of what is over, with the age that it has reached at least.
    pub(super) fn look(
        &mut self,
        key: Option<K>,
        now: Duration,
        limit: impl FnOnce(K) -> Duration,
    ) -> Option<Stall> {
        if let Some(seen) = &mut self.seen
            && Some(seen.key) == key
        {
            seen.until = now;
            return None;
        }
        if self.seen.is_some() || key.is_some() {
            self.changed = now;
        }
        let over = self.seen.take();
        self.seen = key.map(|key| {
            let limit = limit(key);
            Seen { key, since: now, until: now, limit, told: None, next: limit, next_try: Duration::ZERO }
        });
        over.and_then(|Seen { since, until, told, .. }| Some(Stall { age: until - since, ..told? }))
    }

    /// Forgets what was seen, of which nothing more is told.
    pub(super) fn forget(&mut self) {
        self.seen = None;
    }

    pub(super) fn key(&self) -> Option<K> {
        self.seen.as_ref().map(|seen| seen.key)
    }

    /// Returns how long what is seen has been seen.
    pub(super) fn age(&self) -> Duration {
        self.seen.as_ref().map_or(Duration::ZERO, |seen| seen.until - seen.since)
    }

    /// Returns whether it has been seen for long enough to be a stall.
    pub(super) fn is_stall(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.until - seen.since >= seen.limit)
    }

    /// Returns when what was seen last changed.
    pub(super) fn changed(&self) -> Duration {
        self.changed
    }

    /// Returns since when it has been seen.
    pub(super) fn since(&self) -> Option<Duration> {
        self.seen.as_ref().map(|seen| seen.since)
    }

    /// Returns whether it is to be told now.
    pub(super) fn is_due(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.until - seen.since >= seen.next)
    }

    /// Returns whether it is as old as that, and a rescue is to be tried.
    pub(super) fn is_overdue(&self, most: Duration) -> bool {
        self.seen.as_ref().is_some_and(|seen| self.age() >= most.max(seen.next_try))
    }

    /// Says that a rescue is tried: next, should nothing have come of it, at twice its age.
    pub(super) fn note_tried(&mut self) {
        if let Some(seen) = &mut self.seen {
            seen.next_try = (seen.until - seen.since).saturating_mul(2);
        }
    }

    /// Says that it has been told: next at twice its age, or the first power of two of it that is still to come.
    pub(super) fn note_told(&mut self, stall: Stall) {
        if let Some(seen) = &mut self.seen {
            let age = seen.until - seen.since;
            let mut next = seen.limit;
            while next <= age {
                next = next.saturating_mul(2);
            }
            (seen.told, seen.next) = (Some(stall), next);
        }
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(100);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn stall(age: Duration) -> Stall {
        Stall::of_a_call("d".into(), "t", age)
    }

    #[test]
    fn an_age_is_that_between_looks_at_the_same() {
        let mut track = Track::new();
        for (now, key, age) in [(0, 1, 0), (90, 1, 90), (180, 2, 0), (270, 2, 90), (280, 2, 100)] {
            assert!(track.look(Some(key), at(now), |_| LIMIT).is_none(), "nothing was told");
            assert_eq!((track.age(), track.is_due()), (at(age), at(age) >= LIMIT), "at {now}");
        }
    }

    #[test]
    fn what_is_not_told_is_due_until_it_is() {
        let mut track = Track::new();
        let mut told = Vec::new();
        for now in (0..1_000).step_by(25) {
            track.look(Some(1), at(now), |_| LIMIT);
            if track.is_due() {
                told.push(now);
                track.note_told(stall(track.age()));
            }
        }
        assert_eq!(told, [100, 200, 400, 800]);
    }

    #[test]
    fn a_look_that_comes_late_is_told_once() {
        let mut track = Track::new();
        track.look(Some(1), at(0), |_| LIMIT);
        track.look(Some(1), at(750), |_| LIMIT);
        assert!(track.is_due());
        track.note_told(stall(track.age()));
        assert!(!track.is_due());
        track.look(Some(1), at(799), |_| LIMIT);
        assert!(!track.is_due());
        track.look(Some(1), at(800), |_| LIMIT);
        assert!(track.is_due());
    }

    #[test]
    fn an_end_is_returned_of_what_was_told_alone_with_the_age_that_was_seen() {
        let mut track = Track::new();
        track.look(Some(1), at(0), |_| LIMIT);
        track.look(Some(1), at(150), |_| LIMIT);
        assert!(track.look(Some(2), at(200), |_| LIMIT).is_none());
        track.look(Some(2), at(350), |_| LIMIT);
        track.note_told(stall(track.age()));
        track.look(Some(2), at(370), |_| LIMIT);
        let over = track.look(None, at(400), |_| LIMIT);
        assert_eq!(over.map(|stall| stall.age), Some(at(170)));
        assert!(track.look(None, at(500), |_| LIMIT).is_none());
        assert_eq!(track.changed(), at(400), "nothing has changed since");
    }
}
