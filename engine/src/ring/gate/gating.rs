//! The gate: the slowest stage's sequence, which producers may not lap.
//!
//! The list of stages is swapped whole when one comes or goes, and is read only by a producer whose
//! cached minimum is used up. What that producer computes is bounded by the cursor *as it stood
//! before the list was loaded* (edge `JOIN`): a consumer that joins registers, fences, and then
//! reads the cursor from which it starts. Either the producer's list has the joiner, or the joiner
//! starts at or after that bound, and the producer's minimum is right for it as well.

use crate::ring::group::Group;
use crate::ring::group::Lanes;
use crate::ring::position::{LEFT, Position};
use crate::ring::sequence::Sequence;
use crate::sync::Mutex;
use crate::sync::edge::JOIN;
use crate::sync::fence;
use crate::sync::swapped::Swapped;
use std::sync::Arc;

/// What can hold producers, and later stages, up.
#[derive(Clone, Debug)]
pub(in crate::ring) enum Stage {
    /// One consumer.
    Consumer(Position),
    /// Workers that claim events from each other. Its sequence can fall again for a moment: see
    /// `group`.
    Group(Arc<Group>),
    /// Workers that share keyed lanes.
    Lanes(Arc<Lanes>),
}

impl Stage {
    /// All below this no consumer of the stage reads any more. Edge `RELEASE_SLOT`, acquire side.
    #[inline(always)]
    pub(in crate::ring) fn released(&self) -> Sequence {
        match self {
            Self::Consumer(position) => position.released(),
            Self::Group(group) => group.released(),
            Self::Lanes(lanes) => lanes.released(),
        }
    }

    /// All below this the stage has finished. Edge `FINISH_STAGE`, acquire side.
    #[inline(always)]
    pub(in crate::ring) fn finished(&self) -> Sequence {
        match self {
            Self::Consumer(position) => position.finished(),
            Self::Group(group) => group.finished(),
            Self::Lanes(lanes) => lanes.finished(),
        }
    }

    /// Whether all of the stage has left.
    pub(in crate::ring) fn has_left(&self) -> bool {
        match self {
            Self::Consumer(position) => position.has_left(),
            Self::Group(group) => group.has_left(),
            Self::Lanes(lanes) => lanes.has_left(),
        }
    }

    /// Sequences that producers have taken away from the stage, as far as it has noticed.
    pub(in crate::ring) fn missed(&self) -> u64 {
        match self {
            Self::Consumer(position) => position.missed(),
            Self::Group(_) | Self::Lanes(_) => 0,
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Consumer(one), Self::Consumer(other)) => one.is(other),
            (Self::Group(one), Self::Group(other)) => Arc::ptr_eq(one, other),
            (Self::Lanes(one), Self::Lanes(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// All stages.
pub(in crate::ring) struct Gating {
    stages: Swapped<Vec<Stage>>,
    /// The same list for those who change it, one at a time.
    latest: Mutex<Vec<Stage>>,
}

impl Gating {
    pub(in crate::ring) fn new() -> Self {
        Self { stages: Swapped::new(Vec::new()), latest: Mutex::new(Vec::new()) }
    }

    /// The lowest sequence of all stages that are there, `None` where there is none. What it is
    /// used for must be bounded by a cursor that was read before the call.
    pub(in crate::ring) fn lowest(&self) -> Option<Sequence> {
        fence::light(&JOIN);
        self.stages.read(|stages| {
            let all = stages.iter().map(Stage::released);
            all.filter(|&sequence| sequence != LEFT).min()
        })
    }

    /// Looks at each stage until one look fails.
    pub(in crate::ring) fn try_for_each<X>(
        &self,
        look: impl FnMut(&Stage) -> Result<(), X>,
    ) -> Result<(), X> {
        fence::light(&JOIN);
        self.stages.read(|stages| stages.iter().try_for_each(look))
    }

    /// Lets a stage hold producers up from now on. To be followed by a fence where producers are at
    /// work.
    pub(in crate::ring) fn add(&self, stage: Stage) {
        let mut latest = self.latest.lock();
        latest.push(stage);
        self.stages.replace(latest.clone());
    }

    /// Lets a stage hold nobody up any more.
    pub(in crate::ring) fn remove(&self, stage: &Stage) {
        let mut latest = self.latest.lock();
        latest.retain(|other| !other.is(stage));
        self.stages.replace(latest.clone());
    }
}
