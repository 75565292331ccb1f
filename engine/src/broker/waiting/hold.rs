//! Who settles a message that its handler keeps: one word, written once.
//!
//! Three may want to. The handler's side has a token, and gives the message back; the consumer finds that its time is
//! up; who ends the subscription or the broker waits for it no longer. The word has the moment until which the message
//! may be kept, as long as nobody has. Each changes it by compare-and-swap, from the moment that it has seen: so
//! exactly one of them is first, and an extension is never granted for a message whose time the consumer has declared
//! to be up.
//!
//! The word needs no ordering: it is one word, and hands over nothing but itself. What the token has to say goes
//! through the consumer's mailbox.

use crate::clock::Timestamp;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::edge;

/// The first value that is not a moment.
const LAST_MOMENT: u64 = u64::MAX - 8;

/// How a message has left its handler's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Its token was given back, and it has been handled.
    Well,
    /// Its token was given back, or dropped, and it has failed.
    Badly,
    /// Its time was up.
    TimedOut,
    /// The subscription or the broker has ended.
    Ended,
}

impl Settled {
    const ALL: [Self; 4] = [Self::Well, Self::Badly, Self::TimedOut, Self::Ended];

    fn word(self) -> u64 {
        LAST_MOMENT + 1 + self as u64
    }

    fn of(word: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|settled| settled.word() == word)
    }
}

/// Whether a message is still in its handler's hands, and until when.
pub(crate) struct Hold(AtomicU64);

impl Hold {
    /// It is, until then.
    pub(crate) fn until(moment: Timestamp) -> Self {
        Self(AtomicU64::new(moment.as_nanos().min(LAST_MOMENT)))
    }

    /// Settles it, unless somebody has, and says how then.
    pub(crate) fn settle(&self, how: Settled) -> Result<(), Settled> {
        self.change(|_| Some(how.word())).map(|_| ())
    }

    /// Returns whether somebody has settled it.
    pub(crate) fn is_settled(&self) -> bool {
        Settled::of(self.0.load(Ordering::Relaxed)).is_some()
    }

    /// Returns until when it may be kept, if nobody has settled it.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        let word = self.0.load(Ordering::Relaxed);
        Settled::of(word).is_none().then(|| Timestamp::from_nanos(word))
    }

    /// Keeps it until then, or longer if it may be kept longer.
    pub(crate) fn extend(&self, moment: Timestamp) -> Result<(), Settled> {
        let moment = moment.as_nanos().min(LAST_MOMENT);
        self.change(|until| Some(moment.max(until))).map(|_| ())
    }

    /// Settles it if its time is up by now. Returns until when it may be kept, if it is not; or who has settled it.
    pub(crate) fn time_out(&self, now: Timestamp) -> Result<Option<Timestamp>, Settled> {
        let is_up = |until| until <= now.as_nanos();
        let until = self.change(|until| is_up(until).then(|| Settled::TimedOut.word()))?;
        Ok((!is_up(until)).then(|| Timestamp::from_nanos(until)))
    }

    /// Changes the moment to what is wanted, if anything is. Returns the moment before; or who has settled it.
    fn change(&self, mut to: impl FnMut(u64) -> Option<u64>) -> Result<u64, Settled> {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            if let Some(settled) = Settled::of(seen) {
                return Err(settled);
            }
            let Some(wanted) = to(seen) else { return Ok(seen) };
            if edge::left_out("settle-by-swap") {
                self.0.store(wanted, Ordering::Relaxed);
                return Ok(seen);
            }
            match self.0.compare_exchange_weak(seen, wanted, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(seen),
                Err(other) => seen = other,
            }
        }
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    #[test]
    fn who_is_first_settles() {
        for first in Settled::ALL {
            for second in Settled::ALL {
                let hold = Hold::until(at(5));
                assert_eq!(hold.settle(first), Ok(()));
                assert_eq!(hold.settle(second), Err(first));
                assert_eq!(hold.extend(at(9)), Err(first));
                assert_eq!(hold.time_out(at(9)), Err(first));
            }
        }
    }

    #[test]
    fn its_time_is_up_at_its_moment_and_can_be_put_off() {
        let hold = Hold::until(at(5));
        assert_eq!(hold.time_out(at(4)), Ok(Some(at(5))));
        assert_eq!(hold.extend(at(8)), Ok(()));
        assert_eq!(hold.extend(at(7)), Ok(()), "it is not shortened");
        assert_eq!(hold.time_out(at(7)), Ok(Some(at(8))));
        assert_eq!(hold.time_out(at(8)), Ok(None));
        assert_eq!(hold.settle(Settled::Well), Err(Settled::TimedOut));
    }

    #[test]
    fn the_last_moment_is_still_one() {
        let hold = Hold::until(at(u64::MAX));
        assert_eq!(hold.time_out(at(u64::MAX - 9)), Ok(Some(at(LAST_MOMENT))));
        assert_eq!(hold.settle(Settled::Badly), Ok(()));
    }
}
