//! The gate: the slowest stage's sequence, which producers may not lap.
//!
//! The list of stages is replaced whole when a stage comes or goes. A producer reads it only when
//! its cached minimum is used up. It bounds what it computes by the cursor *as it stood before the
//! list was loaded* (edge `JOIN`). A consumer that joins registers, fences, and then reads the
//! cursor at which it starts. Either the producer's list has the joiner, or the joiner starts at or
//! after that bound, and the producer's minimum is right for the joiner as well.

use crate::ring::group::Group;
use crate::ring::group::Lanes;
use crate::ring::position::{LEFT, Position};
use crate::ring::sequence::Sequence;
use crate::sync::Mutex;
use crate::sync::edge::JOIN;
use crate::sync::fence;
use crate::sync::swapped::Swapped;
use std::sync::Arc;

/// Consumer or group of workers that holds producers and later stages up.
#[derive(Clone, Debug)]
pub(in crate::ring) enum Stage {
    /// One consumer.
    Consumer(Position),
    /// Workers that race for events. The sequence can fall again for a moment: see
    /// `group/raced.rs`.
    Group(Arc<Group>),
    /// Workers that share keyed lanes.
    Lanes(Arc<Lanes>),
}

impl Stage {
    /// Returns the sequence below which no consumer of the stage reads any more. Edge
    /// `RELEASE_SLOT`, acquire side.
    #[inline(always)]
    pub(in crate::ring) fn released(&self) -> Sequence {
        match self {
            Self::Consumer(position) => position.released(),
            Self::Group(group) => group.released(),
            Self::Lanes(lanes) => lanes.released(),
        }
    }

    /// Returns the sequence below which the stage has finished. Edge `FINISH_STAGE`, acquire side.
    #[inline(always)]
    pub(in crate::ring) fn finished(&self) -> Sequence {
        match self {
            Self::Consumer(position) => position.finished(),
            Self::Group(group) => group.finished(),
            Self::Lanes(lanes) => lanes.finished(),
        }
    }

    /// Returns whether all of the stage has left.
    pub(in crate::ring) fn has_left(&self) -> bool {
        match self {
            Self::Consumer(position) => position.has_left(),
            Self::Group(group) => group.has_left(),
            Self::Lanes(lanes) => lanes.has_left(),
        }
    }

    /// Returns how many sequences producers have taken away from the stage, as far as it has
    /// noticed.
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

/// The gate: all stages.
pub(in crate::ring) struct Gating {
    stages: Swapped<Vec<Stage>>,
    /// The same list, for whoever changes it: one at a time.
    latest: Mutex<Vec<Stage>>,
}

impl Gating {
    pub(in crate::ring) fn new() -> Self {
        Self { stages: Swapped::new(Vec::new()), latest: Mutex::new(Vec::new()) }
    }

    /// Returns the lowest sequence of all stages, or `None` when there are none. The caller must
    /// bound it by a cursor that it read before the call.
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

    /// Adds a stage, which holds producers up from now on. Where producers are at work, a fence
    /// must follow.
    pub(in crate::ring) fn add(&self, stage: Stage) {
        let mut latest = self.latest.lock();
        latest.push(stage);
        self.stages.replace(latest.clone());
    }

    /// Removes a stage, which holds nobody up any more.
    pub(in crate::ring) fn remove(&self, stage: &Stage) {
        let mut latest = self.latest.lock();
        latest.retain(|other| !other.is(stage));
        self.stages.replace(latest.clone());
    }
}
