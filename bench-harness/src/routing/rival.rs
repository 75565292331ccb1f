//! The rival: zenoh's tree of key expressions. `.` is written `/` there, `*` is `*`, and `#` is
//! `**`.

use ringmain::topic::{Pattern, Segment, Topic};
use zenoh_keyexpr::OwnedKeyExpr;
use zenoh_keyexpr::keyexpr_tree::{
    IKeyExprTree, IKeyExprTreeMut, IKeyExprTreeNode, IKeyExprTreeNodeMut, KeBoxTree,
};

use super::patterns::{Population, STRIDE};
use crate::error::Error;
use crate::interrupt;

/// All patterns, each with its subscriptions.
pub(super) struct Rival(KeBoxTree<Vec<u64>>);

impl Rival {
    pub(super) const NAME: &'static str = "zenoh-keyexpr KeBoxTree";

    pub(super) fn of(population: &Population) -> Result<Self, Error> {
        let mut tree = KeBoxTree::<Vec<u64>>::new();
        for (number, (pattern, to)) in population.subscriptions().enumerate() {
            if number % STRIDE == 0 {
                interrupt::check()?;
            }
            let node = tree.node_mut_or_create(&expression(pattern));
            match node.weight_mut() {
                Some(subscriptions) => subscriptions.push(to.subscription),
                None => drop(node.insert_weight(vec![to.subscription])),
            }
        }
        Ok(Self(tree))
    }

    /// What it is asked for to find the subscriptions of a topic.
    pub(super) fn key(topic: &Topic) -> OwnedKeyExpr {
        expression(&Pattern::from(topic.clone()))
    }

    /// Puts the subscriptions of a topic into `found`, in no particular order, and nothing else.
    pub(super) fn find(&self, key: &OwnedKeyExpr, found: &mut Vec<u64>) {
        found.clear();
        // Of the two lookups that answer this, `nodes_including` and this one, the faster one.
        let subscriptions = self.0.intersecting_nodes(key).filter_map(IKeyExprTreeNode::weight);
        subscriptions.for_each(|some| found.extend_from_slice(some));
    }
}

fn expression(pattern: &Pattern) -> OwnedKeyExpr {
    let chunks = pattern.segments().map(|segment| match segment {
        Segment::Word(word) => word,
        Segment::Star => "*",
        Segment::Hash => "**",
    });
    let text = chunks.collect::<Vec<_>>().join("/");
    OwnedKeyExpr::autocanonize(text).expect("our words are chunks of a key expression")
}
