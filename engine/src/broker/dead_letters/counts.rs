//! The account of the dead letters.

use std::fmt;

/// Where every dead letter has gone: `taken + restored = held + replayed + purged + evicted + lost`.
///
/// A message that fails again in a replay is taken once more, and stands under `replayed` once. So
/// `taken` is what all subscriptions together count as dead-lettered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetterCounts {
    /// How often a message was dead-lettered.
    pub taken: u64,
    /// Letters that were read back when the broker was built, from where they have outlived an earlier process.
    pub restored: u64,
    /// Letters that are there. A size, not a count.
    pub held: u64,
    /// Letters whose replay is over, whatever came of it.
    pub replayed: u64,
    /// Letters that were purged.
    pub purged: u64,
    /// Letters that had to make room for newer ones.
    pub evicted: u64,
    /// Letters that were never kept: each alone was larger than the whole store may be.
    pub lost: u64,
}

impl DeadLetterCounts {
    /// Returns whether the sum holds.
    pub const fn is_balanced(&self) -> bool {
        self.taken + self.restored == self.held + self.replayed + self.purged + self.evicted + self.lost
    }
}

/// One line: the sum, with its numbers.
impl fmt::Display for DeadLetterCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { taken, restored, held, replayed, purged, evicted, lost } = self;
        let sign = if self.is_balanced() { "=" } else { "is not" };
        write!(f, "{taken} taken ")?;
        if *restored > 0 {
            write!(f, "+ {restored} restored ")?;
        }
        write!(
            f,
            "{sign} {held} held + {replayed} replayed + {purged} purged + \
             {evicted} evicted + {lost} lost"
        )
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_whether_the_sum_holds() {
        let mut counts =
            DeadLetterCounts { taken: 15, restored: 0, held: 1, replayed: 2, purged: 3, evicted: 4, lost: 5 };
        assert_eq!(counts.to_string(), "15 taken = 1 held + 2 replayed + 3 purged + 4 evicted + 5 lost");
        (counts.taken, counts.restored) = (8, 7);
        assert!(counts.to_string().starts_with("8 taken + 7 restored = 1 held"));
        counts = DeadLetterCounts { taken: 15, restored: 0, held: 0, ..counts };
        assert!(!counts.is_balanced());
        assert!(counts.to_string().starts_with("15 taken is not 0 held"));
    }
}
