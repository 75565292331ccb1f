//! The graph of a ring's consumers: who depends on whom, and who may stand beside whom.
//!
//! A consumer can only depend on consumers that were added before it, so every graph is acyclic by
//! construction.

use crate::ring::barrier::Barrier;
use crate::ring::error::BuildError;
use crate::ring::gate::Stage;
use crate::ring::options::ConsumerId;
use crate::ring::overflow::Overflow;
use std::fmt;

/// Node of the graph: a consumer.
pub(in crate::ring) struct Node {
    id: ConsumerId,
    pub(in crate::ring) name: String,
    pub(in crate::ring) stage: Stage,
    is_mut: bool,
    /// Whether it clears the slots: nobody may come beside it or behind it.
    clears: bool,
    /// All consumers before it.
    ancestors: Vec<ConsumerId>,
}

/// All consumers of a ring.
pub(in crate::ring) struct Plan {
    nodes: Vec<Node>,
}

/// Place in the graph for a new consumer.
pub(in crate::ring) struct Place {
    name: String,
    is_mut: bool,
    /// All stages before it, and whether each may change events.
    ancestors: Vec<(ConsumerId, Stage, bool)>,
}

impl Place {
    /// Returns what a consumer there waits for.
    pub(in crate::ring) fn barrier(&self) -> Barrier {
        let all = self.ancestors.iter().map(|(_, stage, _)| stage.clone()).collect();
        let writers = self.ancestors.iter().filter(|(_, _, is_mut)| *is_mut);
        Barrier::new(all, writers.map(|(_, stage, _)| stage.clone()).collect())
    }
}

impl Plan {
    pub(in crate::ring) fn new() -> Self {
        Self { nodes: Vec::new() }
    }

    /// All consumers, in the order in which they were added.
    pub(in crate::ring) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Finds a place for a consumer, or what stands against it.
    pub(in crate::ring) fn place(
        &self,
        name: &str,
        after: &[ConsumerId],
        is_mut: bool,
        overflow: Overflow,
    ) -> Result<Place, BuildError> {
        if name.contains('\0') {
            return Err(BuildError::Name { name: name.to_owned() });
        }
        if overflow == Overflow::DropOldest && !after.is_empty() {
            return Err(BuildError::StagesThatDrop { name: name.to_owned() });
        }
        if let Some(last) = self.nodes.iter().find(|node| node.clears && !node.stage.has_left()) {
            return Err(BuildError::BesideLast { name: name.to_owned(), last: last.name.clone() });
        }
        let mut before = Vec::new();
        for dependency in after {
            let Some(node) = self.nodes.iter().find(|node| node.id == *dependency) else {
                return Err(BuildError::ForeignConsumer { name: name.to_owned() });
            };
            before.push(*dependency);
            before.extend(&node.ancestors);
        }
        let (ancestors, beside): (Vec<_>, Vec<_>) =
            self.nodes.iter().partition(|node| before.contains(&node.id));
        if let Some(other) = beside.iter().find(|node| is_mut || node.is_mut) {
            return Err(BuildError::NotAlone { name: name.to_owned(), other: other.name.clone() });
        }
        let ancestors =
            ancestors.into_iter().map(|node| (node.id, node.stage.clone(), node.is_mut)).collect();
        Ok(Place { name: name.to_owned(), is_mut, ancestors })
    }

    /// Returns what those who join the workers of a stage need to know: its name, the stage, and
    /// what they wait for. `None` where it is not of this ring, or has left it.
    pub(in crate::ring) fn beside(&self, id: ConsumerId) -> Option<(String, Stage, Barrier)> {
        let node = self.nodes.iter().find(|node| node.id == id)?;
        let ancestors = self.nodes.iter().filter(|other| node.ancestors.contains(&other.id));
        let ancestors = ancestors.map(|node| (node.id, node.stage.clone(), node.is_mut)).collect();
        let place = Place { name: node.name.clone(), is_mut: node.is_mut, ancestors };
        Some((node.name.clone(), node.stage.clone(), place.barrier()))
    }

    /// Adds a consumer.
    pub(in crate::ring) fn add(&mut self, place: Place, stage: Stage) -> ConsumerId {
        let Place { name, is_mut, ancestors } = place;
        let id = ConsumerId::unique();
        let ancestors = ancestors.into_iter().map(|(id, _, _)| id).collect();
        self.nodes.push(Node { id, name, stage, is_mut, clears: false, ancestors });
        id
    }

    /// Has the one consumer that comes after all others clear the slots. Must be called before there
    /// is a producer, and nobody may be added behind it or beside it.
    pub(in crate::ring) fn appoint_clearer(&mut self) -> Result<(), BuildError> {
        let before: Vec<ConsumerId> = self.nodes.iter().flat_map(|node| node.ancestors.clone()).collect();
        let is_last = |node: &&mut Node| !before.contains(&node.id) && !node.stage.has_left();
        let mut last: Vec<&mut Node> = self.nodes.iter_mut().filter(is_last).collect();
        if let [only] = &mut *last
            && let Stage::Consumer(position) = &only.stage
        {
            position.appoint_clearer();
            only.clears = true;
            return Ok(());
        }
        Err(BuildError::NoSoleLast { last: last.iter().map(|node| node.name.clone()).collect() })
    }

    /// Forgets those that have left, lest the graph of a ring with much coming and going grow for
    /// ever.
    pub(in crate::ring) fn sweep(&mut self) {
        self.nodes.retain(|node| !node.stage.has_left());
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.nodes.iter().map(|node| &node.name)).finish()
    }
}
