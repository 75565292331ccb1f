//! A word that is looked at all the time behind a light fence, and is zero nearly always.
//!
//! Where light fences are not free (see [`fence`]), whether they are would be one more thing to look at before each
//! look. So the word carries it, in a bit of its own that is set for good: one look that finds nothing at all says that
//! nothing is up, and that a fence for the compiler was all that was due.

use super::atomic::{AtomicU32, Ordering};
use super::edge::Edge;
use super::fence;

/// Set for good in a word whose readers owe a full fence.
const FENCED: u32 = 1 << 31;

/// A word below 2^31 that many look at and few change.
#[derive(Debug)]
pub(crate) struct Watched {
    word: AtomicU32,
    /// The bit that is set for good, if any.
    fenced: u32,
}

impl Watched {
    /// Zero, for the time being. Makes a system call the first time.
    pub(crate) fn new() -> Self {
        fence::register();
        let fenced = if fence::is_light_free() { 0 } else { FENCED };
        Self { word: AtomicU32::new(fenced), fenced }
    }

    /// Zero for good: looks at it owe no fence.
    pub(crate) fn never() -> Self {
        Self { word: AtomicU32::new(0), fenced: 0 }
    }

    /// Light fence, then a look: whether the word is zero.
    #[inline(always)]
    pub(crate) fn is_zero_after_light(&self, edge: &Edge) -> bool {
        fence::of_compiler();
        // In a model no fence is free, and a look before it would tell nothing.
        (!cfg!(ringmain_loom) && self.word.load(Ordering::Relaxed) == 0) || self.is_zero_after(edge)
    }

    #[cold]
    fn is_zero_after(&self, edge: &Edge) -> bool {
        if self.fenced != 0 {
            fence::light(edge);
        }
        self.get(Ordering::Relaxed) == 0
    }

    /// The heavy fence behind a change of the word. Sleeps where the system call that it is made of is
    /// refused after it was granted.
    pub(crate) fn heavy(&self, edge: &Edge) {
        fence::heavy_after_watching(edge, self.fenced != 0);
    }

    /// The same where no thread may sleep. Returns whether the fence holds.
    #[must_use]
    pub(crate) fn try_heavy(&self, edge: &Edge) -> bool {
        fence::try_heavy_after_watching(edge, self.fenced != 0)
    }

    #[inline(always)]
    pub(crate) fn get(&self, ordering: Ordering) -> u32 {
        self.word.load(ordering) & !FENCED
    }

    pub(crate) fn set(&self, value: u32, ordering: Ordering) {
        self.word.store(value | self.fenced, ordering);
    }

    /// Sets it to `value` unless it is greater already.
    pub(crate) fn raise(&self, value: u32, ordering: Ordering) {
        self.word.fetch_max(value | self.fenced, ordering);
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;
    use crate::sync::edge::PARK;

    #[test]
    fn a_word_is_what_it_was_set_to_whatever_its_readers_owe() {
        for fenced in [0, FENCED] {
            let watched = Watched { word: AtomicU32::new(fenced), fenced };
            assert!(watched.is_zero_after_light(&PARK));
            watched.set(2, Ordering::Relaxed);
            watched.raise(1, Ordering::Relaxed);
            assert_eq!(watched.get(Ordering::Relaxed), 2);
            watched.raise(3, Ordering::Relaxed);
            assert_eq!(watched.get(Ordering::Relaxed), 3);
            assert!(!watched.is_zero_after_light(&PARK));
            watched.set(0, Ordering::Relaxed);
            assert!(watched.is_zero_after_light(&PARK));
        }
    }
}
