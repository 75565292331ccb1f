//! No consumer waits for itself.
//!
//! A handler that publishes into a full ring waits for that ring's consumers. If it runs on one of them, or if they wait, in
//! turn, for its own ring, that wait would never end. Each consumer writes down the dispatcher it is about to wait for,
//! and then looks whether the chain of those who wait leads back to it. The store and the look are sequentially
//! consistent, so of two consumers that close a circle at once at least one sees it.

use crate::routing::ConsumerAddr;
use crate::sync::atomic::{AtomicU32, Ordering};

/// Nobody is waited for.
const NOTHING: u32 = u32::MAX;

/// What each consumer of each dispatcher waits for.
pub(crate) struct WaitForGraph(Vec<Vec<AtomicU32>>);

/// A consumer is waiting, until this is dropped.
pub(crate) struct WaitGuard<'a>(&'a AtomicU32);

impl WaitForGraph {
    /// `consumers` is the number of consumers of each dispatcher.
    pub(crate) fn new(consumers: impl IntoIterator<Item = usize>) -> Self {
        let idle = |count| (0..count).map(|_| AtomicU32::new(NOTHING)).collect();
        Self(consumers.into_iter().map(idle).collect())
    }

    /// Says that a consumer is about to wait for a dispatcher's ring, or that it must not: it would wait for itself.
    pub(crate) fn begin(&self, me: ConsumerAddr, dispatcher: u16) -> Option<WaitGuard<'_>> {
        let mine = self.0.get(usize::from(me.dispatcher))?.get(usize::from(me.number))?;
        mine.store(u32::from(dispatcher), Ordering::SeqCst);
        let waiting = WaitGuard(mine);
        let mut reached = vec![false; self.0.len()];
        let mut to_visit = vec![usize::from(dispatcher)];
        while let Some(visited) = to_visit.pop() {
            if visited == usize::from(me.dispatcher) {
                return None;
            }
            if std::mem::replace(&mut reached[visited], true) {
                continue;
            }
            // A ring moves on only when all of its consumers do.
            for other in &self.0[visited] {
                let target = other.load(Ordering::SeqCst);
                if target != NOTHING {
                    to_visit.push(target as usize);
                }
            }
        }
        Some(waiting)
    }
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.0.store(NOTHING, Ordering::SeqCst);
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    fn consumer(dispatcher: u16, number: u16) -> ConsumerAddr {
        ConsumerAddr { dispatcher, number }
    }

    #[test]
    fn waiting_for_the_own_ring_is_refused() {
        let wait_graph = WaitForGraph::new([2, 1]);
        assert!(wait_graph.begin(consumer(0, 1), 0).is_none());
        assert!(wait_graph.begin(consumer(0, 1), 1).is_some());
    }

    #[test]
    fn a_circle_is_refused_to_whoever_closes_it_and_free_again_when_it_is_broken() {
        let wait_graph = WaitForGraph::new([1, 2, 1]);
        let first = wait_graph.begin(consumer(0, 0), 1).expect("nobody waits yet");
        let second = wait_graph.begin(consumer(1, 1), 2).expect("a chain is no circle");
        assert!(wait_graph.begin(consumer(2, 0), 0).is_none());
        drop(second);
        assert!(wait_graph.begin(consumer(2, 0), 0).is_some());
        drop(first);
    }
}
