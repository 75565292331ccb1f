//! The presets: points in the space {spin, yield, sleep, park}.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How a thread waits for events, or for room.
///
/// | preset | while idle | wakes within | processor time while idle |
/// |---|---|---|---|
/// | `BusySpin` | looks again at once, for ever | one cache-line transfer | a whole core |
/// | `Yielding` | spins a little, then offers its core | a line transfer, or a turn of the scheduler | a core nobody else wants |
/// | `Backoff` | spins, yields, then naps of 1 to 100 µs | its nap and the timer's slack (some 50 µs) | a few per cent |
/// | `Blocking` | spins a little, then parks | one futex wake-up (some 5 to 50 µs) | none |
///
/// Only `Blocking` makes those who publish look whether somebody sleeps, and whether a ring can ever park is fixed
/// when it is built. With more busy threads than cores use `Backoff` or `Blocking`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Spins without pause. The lowest latency, for a thread with a core of its own.
    BusySpin,
    /// Spins 100 times, then yields to the scheduler at each look.
    Yielding,
    /// Spins 200 times, yields 50 times, then sleeps, twice as long each time.
    Backoff,
    /// Spins 2,000 times (some 20 to 100 µs), then parks until it is woken. The default.
    #[default]
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

/// A point in the space of ways to wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ways {
    pub(super) spins: u32,
    /// Whether spinning tells the processor so, which costs some tens of nanoseconds a spin.
    pub(super) polite: bool,
    pub(super) yields: u32,
    pub(super) at_last: AtLast,
}

/// A model need not spin more than once to have seen what spinning does.
const fn spins(shipped: u32) -> u32 {
    if cfg!(ringmain_loom) { 1 } else { shipped }
}

impl WaitStrategy {
    pub(super) const fn ways(self) -> Ways {
        match self {
            Self::BusySpin => Ways { spins: 0, polite: false, yields: 0, at_last: AtLast::Spin },
            Self::Yielding => Ways { spins: spins(100), polite: true, yields: 0, at_last: AtLast::Yield },
            Self::Backoff => Ways {
                spins: spins(200),
                polite: true,
                yields: spins(50),
                at_last: AtLast::Sleep {
                    shortest: Duration::from_micros(1),
                    longest: Duration::from_micros(100),
                },
            },
            Self::Blocking => Ways { spins: spins(2_000), polite: true, yields: 0, at_last: AtLast::Park },
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
            Self::Blocking => "blocking",
        }
    }
}

impl fmt::Display for WaitStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no wait strategy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no wait strategy of that name; choose one of busy-spin, yielding, backoff, blocking")]
pub struct UnknownWaitStrategy;

impl FromStr for WaitStrategy {
    type Err = UnknownWaitStrategy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::BusySpin, Self::Yielding, Self::Backoff, Self::Blocking]
            .into_iter()
            .find(|strategy| strategy.name() == text)
            .ok_or(UnknownWaitStrategy)
    }
}
