//! A load as it is run: how many consumers, which thread on which core, how they wait.

use ringmain::affinity::Pinning;
use ringmain::wait::WaitStrategy;
use serde::Serialize;

use super::options::{Load, Wait};
use crate::machine::baseline::Baseline;
use crate::machine::cores;
use crate::report::Setup;

/// The slots of a dispatcher that was not told how many.
const DEFAULT_CAPACITY: usize = 4_096;
/// The most consumers of one dispatcher.
const MAX_CONSUMERS: usize = 256;

/// The options of a load, and what follows from them on this machine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    /// With the wait strategy that is used.
    #[serde(flatten)]
    pub(crate) load: Load,
    /// Threads that the subscriptions are spread over: one for each subscriber, as far as there are
    /// cores.
    pub(crate) consumers: usize,
    /// The core of each thread, publishers first; null for wherever the scheduler likes.
    pub(crate) placed: Vec<Option<usize>>,
    /// The broker is built without any option, as a newcomer does.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) by_default: bool,
}

impl Plan {
    /// Decides what the options leave open.
    pub(crate) fn of(load: &Load) -> Self {
        let mut load = load.clone();
        let named = load.cores.as_deref();
        let available = named.map_or_else(cores::allowed, <[usize]>::len);
        let consumers = load.subscribers.min(available).min(MAX_CONSUMERS);
        let placed = cores::place(named, load.publishers + consumers);
        let default = if shares_cores(&placed) { Wait::Adaptive } else { Wait::BusySpin };
        load.wait.get_or_insert(default);
        Self { load, consumers, placed, by_default: false }
    }

    /// A load like this on a broker with default options, of which no thread is pinned.
    pub(crate) fn on_default_broker(load: &Load) -> Self {
        let mut load = load.clone();
        (load.wait, load.capacity) = (Some(Wait::Adaptive), DEFAULT_CAPACITY);
        let placed = vec![None; load.publishers + 1];
        Self { load, consumers: 1, placed, by_default: true }
    }

    /// The same threads on the same cores with another number of topics, known only at run time or
    /// not.
    pub(crate) fn with_topics(&self, topics: usize, runtime_topics: bool) -> Self {
        let load = Load { topics, runtime_topics, ..self.load.clone() };
        Self { load, ..self.clone() }
    }

    /// Whether threads of this load must share a core, so that none of them may keep it while idle.
    pub(crate) fn shares_cores(&self) -> bool {
        if self.by_default {
            // The scheduler finds them cores of their own, where there are some.
            cores::allowed() < self.placed.len()
        } else {
            shares_cores(&self.placed)
        }
    }

    /// How the threads are set up, as reports have it.
    pub(crate) fn setup(&self) -> Setup {
        let (publishers, consumers) = self.placed.split_at(self.load.publishers);
        Setup {
            wait: self.wait().to_string(),
            publisher_cores: publishers.to_vec(),
            consumer_cores: consumers.to_vec(),
            capacity: self.load.capacity,
        }
    }

    /// How the engine is to wait.
    pub(crate) fn wait(&self) -> WaitStrategy {
        match self.load.wait {
            Some(Wait::BusySpin) => WaitStrategy::BusySpin,
            Some(Wait::Yielding) => WaitStrategy::Yielding,
            Some(Wait::Backoff) => WaitStrategy::Backoff,
            Some(Wait::Blocking) => WaitStrategy::Blocking,
            Some(Wait::Adaptive) | None => WaitStrategy::Adaptive,
        }
    }

    /// Whether a publisher may sleep until there is room.
    pub(crate) fn may_park(&self) -> bool {
        !matches!(self.wait(), WaitStrategy::BusySpin | WaitStrategy::Yielding)
    }

    /// Where the consumers run.
    pub(crate) fn pinning(&self) -> Pinning {
        let cores: Option<Vec<usize>> = self.placed[self.load.publishers..].iter().copied().collect();
        cores.map_or(Pinning::Unpinned, Pinning::Cores)
    }

    /// Floor and noise on the cores of this load.
    pub(crate) fn baseline(&self) -> Baseline {
        Baseline::new(&self.placed, self.load.publishers)
    }

    /// What the reader of the figures has to know of this plan.
    pub(crate) fn note(&self) -> Option<String> {
        let available = self.load.cores.as_ref().map_or_else(cores::allowed, Vec::len);
        self.shares_cores().then(|| {
            format!(
                "{} and {} share {}: what they wait for each other is the scheduler's time, not the engine's",
                several(self.load.publishers, "publisher"),
                several(self.consumers, "consumer thread"),
                several(available, "core")
            )
        })
    }
}

fn several(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn shares_cores(placed: &[Option<usize>]) -> bool {
    placed.iter().enumerate().any(|(thread, core)| core.is_none() || placed[..thread].contains(core))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::options::Rate;

    fn load(publishers: usize, subscribers: usize) -> Load {
        Load { publishers, subscribers, ..Load::new(Rate::Max, std::time::Duration::from_secs(1)) }
    }

    #[test]
    fn threads_spin_only_where_each_has_a_core_of_its_own() {
        let cores = cores::allowed();
        let crowded = Plan::of(&load(cores, 1));
        assert!(crowded.shares_cores() && crowded.placed.iter().all(Option::is_none), "{crowded:?}");
        assert_eq!((crowded.wait(), crowded.pinning()), (WaitStrategy::Adaptive, Pinning::Unpinned));
        assert!(crowded.note().is_some());
        if cores > 1 {
            let roomy = Plan::of(&load(cores - 1, 1));
            assert!(!roomy.shares_cores() && roomy.note().is_none(), "{roomy:?}");
            assert_eq!(roomy.wait(), WaitStrategy::BusySpin);
            assert_eq!(
                roomy.pinning(),
                Pinning::Cores(roomy.placed[cores - 1..].iter().flatten().copied().collect())
            );
        }
    }

    #[test]
    fn what_the_user_asked_for_is_done() {
        let asked = Load { wait: Some(Wait::Backoff), cores: Some(vec![0]), ..load(1, 1) };
        let plan = Plan::of(&asked);
        assert_eq!(plan.wait(), WaitStrategy::Backoff);
        assert_eq!(plan.placed, [Some(0), Some(0)]);
        assert!(plan.shares_cores());
    }

    #[test]
    fn there_are_no_more_consumers_than_cores() {
        let plan = Plan::of(&load(1, 1_024));
        assert_eq!(plan.consumers, cores::allowed().min(MAX_CONSUMERS));
    }
}
