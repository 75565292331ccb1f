//! The presets: points in the space {spin, yield, sleep, park}.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How a thread waits for events, or for room.
///
/// | preset | while nothing comes | wakes within | processor time while idle | costs who publishes |
/// |---|---|---|---|---|
/// | `BusySpin` | looks again at once, for ever | one cache-line transfer | a whole core | nothing |
/// | `Yielding` | spins a little, then offers its core | a line transfer, or a turn of the scheduler | a core nobody else wants | nothing |
/// | `Backoff` | spins, yields, then naps of 1 to 100 µs | its nap and the timer's slack (some 50 µs) | a few per cent | nothing |
/// | `Adaptive` | spins up to 200 µs, then parks; sooner where others want the core | a line transfer; once parked one futex wake-up (some 5 to 50 µs) | none; up to 200 µs of each pause | a load; a system call if it wakes somebody |
/// | `Blocking` | spins a little, then parks | one futex wake-up (some 5 to 50 µs) | none | the same |
///
/// Only `Adaptive` and `Blocking` make those who publish look whether somebody sleeps, and whether a ring can ever park
/// is fixed when it is built. With more busy threads than cores use one of these two, or `Backoff`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Spins without pause. The lowest latency, for a thread with a core of its own.
    BusySpin,
    /// Spins 100 times, then yields to the scheduler at each look.
    Yielding,
    /// Spins 200 times, yields 50 times, then sleeps, twice as long each time.
    Backoff,
    /// Spins without pause for up to 50 µs, offers its core now and then for up to 200 µs in all, then
    /// parks until it is woken. Where another thread wants the core, it parks at once, and in the waits
    /// that follow it spins for as little as 12 µs before it parks, until the core has not been wanted
    /// for 40 ms; where it is wanted again and again, for up to 1.3 s. Interrupts do not count. The
    /// default.
    #[default]
    Adaptive,
    /// Spins 2,000 times (some 20 to 100 µs), then parks until it is woken.
    Blocking,
}

/// What a strategy does when it has spun and yielded enough.
#[derive(Clone, Copy, Debug)]
pub(super) enum AtLast {
    Spin,
    Yield,
    Sleep { shortest: Duration, longest: Duration },
    Park,
}

/// How a strategy spins and yields at first.
#[derive(Clone, Copy, Debug)]
pub(super) enum AtFirst {
    /// So many times each.
    Counted {
        spins: u32,
        /// Whether spinning tells the processor so, which costs some tens of nanoseconds a spin.
        polite: bool,
        yields: u32,
    },
    /// As long as the waiter's budget allows.
    Budgeted,
}

/// A point in the space of ways to wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ways {
    pub(super) at_first: AtFirst,
    pub(super) at_last: AtLast,
}

/// A model need not spin more than once to have seen what spinning does.
const fn spins(shipped: u32) -> u32 {
    if cfg!(ringmain_loom) { 1 } else { shipped }
}

const fn counted(spins: u32, polite: bool, yields: u32, at_last: AtLast) -> Ways {
    Ways { at_first: AtFirst::Counted { spins, polite, yields }, at_last }
}

impl WaitStrategy {
    /// All presets, from the one that takes the most of a core while idle to the one that takes the least.
    pub const ALL: &'static [Self] =
        &[Self::BusySpin, Self::Yielding, Self::Backoff, Self::Adaptive, Self::Blocking];

    pub(super) const fn ways(self) -> Ways {
        match self {
            Self::BusySpin => counted(0, false, 0, AtLast::Spin),
            Self::Yielding => counted(spins(100), true, 0, AtLast::Yield),
            Self::Backoff => {
                let (shortest, longest) = (Duration::from_micros(1), Duration::from_micros(100));
                counted(spins(200), true, spins(50), AtLast::Sleep { shortest, longest })
            }
            Self::Adaptive => Ways { at_first: AtFirst::Budgeted, at_last: AtLast::Park },
            Self::Blocking => counted(spins(2_000), true, 0, AtLast::Park),
        }
    }

    /// Whether a thread that waits so can ever be asleep until somebody wakes it.
    pub const fn can_park(self) -> bool {
        matches!(self.ways().at_last, AtLast::Park)
    }

    /// The nearest strategy that does not park.
    pub(crate) const fn without_parking(self) -> Self {
        if self.can_park() { Self::Backoff } else { self }
    }

    /// The name of the preset as the command line knows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BusySpin => "busy-spin",
            Self::Yielding => "yielding",
            Self::Backoff => "backoff",
            Self::Adaptive => "adaptive",
            Self::Blocking => "blocking",
        }
    }
}

impl fmt::Display for WaitStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text names no wait strategy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no wait strategy of that name; choose one of busy-spin, yielding, backoff, adaptive, blocking")]
pub struct UnknownWaitStrategy;

impl FromStr for WaitStrategy {
    type Err = UnknownWaitStrategy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|strategy| strategy.name() == text).ok_or(UnknownWaitStrategy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_found_by_its_name() {
        for &strategy in WaitStrategy::ALL {
            assert_eq!(strategy.to_string().parse(), Ok(strategy));
        }
    }

    #[test]
    fn names_are_padded_as_text_is() {
        assert_eq!(format!("{:>10}|", WaitStrategy::Backoff), "   backoff|");
    }

    #[test]
    fn a_name_that_is_none_is_refused_with_those_that_are() {
        for text in ["", "Blocking", "busy_spin", "spin "] {
            assert_eq!(text.parse::<WaitStrategy>(), Err(UnknownWaitStrategy), "{text:?}");
        }
        let refusal = UnknownWaitStrategy.to_string();
        for strategy in WaitStrategy::ALL {
            assert!(refusal.contains(strategy.name()), "{refusal} does not name {strategy}");
        }
    }

    #[test]
    fn only_adaptive_and_blocking_park() {
        for &strategy in WaitStrategy::ALL {
            let parks = matches!(strategy, WaitStrategy::Adaptive | WaitStrategy::Blocking);
            assert_eq!(strategy.can_park(), parks, "{strategy}");
            let instead = if parks { WaitStrategy::Backoff } else { strategy };
            assert_eq!(strategy.without_parking(), instead, "{strategy}");
        }
    }

    #[test]
    fn the_default_is_adaptive() {
        assert_eq!(WaitStrategy::default(), WaitStrategy::Adaptive);
    }
}
