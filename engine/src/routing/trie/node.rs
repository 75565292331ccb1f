//! A node of the trie and its children.
//!
//! With a million patterns a node costs the memory that it takes and that matching touches. Most
//! nodes are leaves with one value: such a node stands in its parent and nowhere else. A node with
//! few children is one block of memory, a slice of edges, which is searched from end to end: its
//! lines are fetched all at once, where the steps of a binary search would each wait for the one
//! before. A node with many children keeps those in a persistent map, of which a change copies a
//! path.

use super::key::{Key, KeyRef, WordHasher};
use super::values::Values;
use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;
use std::iter;
use std::sync::Arc;

/// A node with more edges than this is wide.
const MAX_NARROW: usize = 32;

/// A wide node that comes down to this many words is narrow again. It is well below [`MAX_NARROW`]
/// so that a child that comes and goes does not convert them each time.
const MIN_WIDE: usize = 16;

#[derive(Clone)]
pub(super) enum Node<T> {
    /// A node without children. Only the root of an empty trie has no values either.
    Leaf(Values<T>),
    /// A node with few children. Its edges are sorted by key.
    Narrow(Arc<[Edge<T>]>),
    Wide(Arc<Wide<T>>),
}

/// A child, and what leads to it. The values of a node that has children are the leaf behind
/// [`Key::End`].
#[derive(Clone)]
pub(super) struct Edge<T> {
    key: Key,
    node: Node<T>,
}

#[derive(Clone)]
pub(super) struct Wide<T> {
    /// Those behind the keys that are no words.
    special: [Option<Node<T>>; KeyRef::SPECIAL],
    words: GenericHashMap<Key, Node<T>, WordHasher, DefaultSharedPtr>,
}

impl<T: Copy + Ord> Node<T> {
    pub(super) fn new() -> Self {
        Self::Leaf(Values::None)
    }

    #[inline]
    pub(super) fn is_leaf(&self) -> bool {
        matches!(self, Self::Leaf(_))
    }

    pub(super) fn values(&self) -> &Values<T> {
        match self {
            Self::Leaf(values) => values,
            Self::Narrow(_) | Self::Wide(_) => match self.child(KeyRef::End) {
                Some(Self::Leaf(values)) => values,
                _ => const { &Values::None },
            },
        }
    }

    /// Adds a value that is not there.
    pub(super) fn insert_value(&mut self, value: T) {
        match self {
            Self::Leaf(values) => values.insert(value),
            Self::Narrow(_) | Self::Wide(_) => self.child_or_new(KeyRef::End).insert_value(value),
        }
    }

    /// Takes out a value that is there.
    pub(super) fn remove_value(&mut self, value: &T) {
        match self {
            Self::Leaf(values) => values.remove(value),
            Self::Narrow(_) | Self::Wide(_) if self.values().len() == 1 => self.remove_child(KeyRef::End),
            Self::Narrow(_) | Self::Wide(_) => self.child_or_new(KeyRef::End).remove_value(value),
        }
    }

    #[inline(always)]
    pub(super) fn child(&self, key: KeyRef<'_>) -> Option<&Self> {
        match self {
            Self::Leaf(_) => None,
            Self::Narrow(edges) => find(edges, key).map(|at| &edges[at].node),
            Self::Wide(wide) => match key.special() {
                Some(at) => wide.special[at].as_ref(),
                None => wide.words.get(&key),
            },
        }
    }

    pub(super) fn child_or_new(&mut self, key: KeyRef<'_>) -> &mut Self {
        self.make_room(key);
        match self {
            Self::Leaf(_) => unreachable!("room was made"),
            Self::Narrow(edges) => {
                let at = find(edges, key).unwrap_or(0);
                &mut Arc::make_mut(edges)[at].node
            }
            Self::Wide(wide) => {
                let wide = Arc::make_mut(wide);
                match key.special() {
                    Some(at) => wide.special[at].get_or_insert_with(Self::new),
                    None => wide.words.entry(key.to_key()).or_insert_with(Self::new),
                }
            }
        }
    }

    /// Makes sure that there is an edge for a key, or that the node is wide.
    fn make_room(&mut self, key: KeyRef<'_>) {
        let edge = |key: KeyRef<'_>, node| Edge { key: key.to_key(), node };
        match self {
            Self::Leaf(Values::None) => *self = Self::Narrow([edge(key, Self::new())].into()),
            Self::Leaf(_) => {
                *self = Self::Narrow([edge(KeyRef::End, self.clone()), edge(key, Self::new())].into())
            }
            Self::Narrow(edges) if find(edges, key).is_some() => {}
            Self::Narrow(edges) if edges.len() < MAX_NARROW => {
                let (before, after) = edges.split_at(edges.partition_point(|edge| edge.key.as_ref() < key));
                let new = iter::once(edge(key, Self::new()));
                *self =
                    Self::Narrow(before.iter().cloned().chain(new).chain(after.iter().cloned()).collect());
            }
            Self::Narrow(edges) => {
                let mut wide =
                    Wide { special: [const { None }; KeyRef::SPECIAL], words: GenericHashMap::default() };
                for edge in edges.iter().cloned() {
                    match edge.key.as_ref().special() {
                        Some(at) => wide.special[at] = Some(edge.node),
                        None => _ = wide.words.insert(edge.key, edge.node),
                    }
                }
                *self = Self::Wide(Arc::new(wide));
            }
            Self::Wide(_) => {}
        }
    }

    /// Removes a child, if it is there, and all below it.
    pub(super) fn remove_child(&mut self, key: KeyRef<'_>) {
        match self {
            Self::Leaf(_) => {}
            Self::Narrow(edges) => {
                let Some(at) = find(edges, key) else { return };
                let left: Arc<[Edge<T>]> = edges[..at].iter().chain(&edges[at + 1..]).cloned().collect();
                *self = match &*left {
                    [] => Self::new(),
                    [Edge { key: Key::End, node }] => node.clone(),
                    _ => Self::Narrow(left),
                };
            }
            Self::Wide(wide) => {
                let wide = Arc::make_mut(wide);
                match key.special() {
                    Some(at) => wide.special[at] = None,
                    None => _ = wide.words.remove(&key),
                }
                if wide.words.len() <= MIN_WIDE {
                    let special = iter::zip([Key::End, Key::Hash, Key::Star], &wide.special)
                        .filter_map(|(key, node)| Some((key, node.clone()?)));
                    let words = wide.words.iter().map(|(key, node)| (key.clone(), node.clone()));
                    *self =
                        Self::Narrow(special.chain(words).map(|(key, node)| Edge { key, node }).collect());
                }
            }
        }
    }

    /// Counts the children. What is behind [`Key::End`] is none.
    pub(super) fn child_count(&self) -> usize {
        let edges = match self {
            Self::Leaf(_) => 0,
            Self::Narrow(edges) => edges.len(),
            Self::Wide(wide) => wide.words.len() + wide.special.iter().flatten().count(),
        };
        edges - usize::from(self.child(KeyRef::End).is_some())
    }

    /// Adds all children to `found`.
    pub(super) fn children<'a>(&'a self, found: &mut Vec<&'a Self>) {
        match self {
            Self::Leaf(_) => {}
            Self::Narrow(edges) => {
                let is_child = |edge: &&Edge<T>| !matches!(edge.key, Key::End);
                found.extend(edges.iter().filter(is_child).map(|edge| &edge.node));
            }
            Self::Wide(wide) => {
                found.extend([KeyRef::Hash, KeyRef::Star].into_iter().filter_map(|key| self.child(key)));
                found.extend(wide.words.values());
            }
        }
    }
}

/// Returns where the edge of a key is.
#[inline]
fn find<T>(edges: &[Edge<T>], key: KeyRef<'_>) -> Option<usize> {
    match key {
        // Nearly all, and worth a loop that asks nothing else.
        KeyRef::Short(word) => {
            edges.iter().position(|edge| matches!(&edge.key, Key::Short(other) if *other == word))
        }
        KeyRef::Long(..) => edges.iter().position(|edge| edge.key.is(key)),
        // What is no word comes first.
        KeyRef::End | KeyRef::Hash | KeyRef::Star => {
            edges.iter().take(KeyRef::SPECIAL).position(|edge| edge.key.is(key))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_wide_only_while_it_has_many_children() {
        let names: Vec<String> = (0..=MAX_NARROW).map(|n| format!("w{n}")).collect();
        let mut node = Node::<u8>::new();
        let is_wide = |node: &Node<u8>| matches!(node, Node::Wide(_));
        for name in &names {
            assert!(!is_wide(&node));
            node.child_or_new(KeyRef::word(name));
        }
        assert!(is_wide(&node));
        for name in &names[MIN_WIDE..] {
            assert!(is_wide(&node));
            node.remove_child(KeyRef::word(name));
        }
        assert!(!is_wide(&node));
        assert_eq!(node.child_count(), MIN_WIDE);
        let is_there = |name: &String| node.child(KeyRef::word(name)).is_some();
        assert!(names.iter().map(is_there).eq((0..=MAX_NARROW).map(|n| n < MIN_WIDE)));
    }

    #[test]
    fn a_node_takes_24_bytes_and_an_edge_40() {
        type Value = crate::routing::Destination;
        assert_eq!((size_of::<Node<Value>>(), size_of::<Edge<Value>>()), (24, 40));
    }
}
