//! A node of the trie and how it keeps its children.
//!
//! Literal children are a sorted slice, copied with the node, until there are many; then they are a persistent map, of
//! which a change copies a path.

use crate::topic::Segment;
use imbl::OrdMap;
use smallvec::SmallVec;
use std::sync::Arc;

/// A node with more literal children than this keeps them in a persistent map.
const MAX_SLICE: usize = 32;

/// A node that comes down to this many literal children keeps them in a slice again. It is well below [`MAX_SLICE`]
/// so that a child that comes and goes does not convert them each time.
const MIN_MAP: usize = 16;

#[derive(Clone)]
pub(super) struct Node<T> {
    words: Words<T>,
    pub(super) star: Option<Arc<Node<T>>>,
    pub(super) hash: Option<Arc<Node<T>>>,
    /// Sorted, each once.
    pub(super) values: SmallVec<[T; 2]>,
}

/// The literal children of a node.
#[derive(Clone)]
enum Words<T> {
    /// Sorted by word.
    Slice(Vec<(Arc<str>, Arc<Node<T>>)>),
    Map(OrdMap<Arc<str>, Arc<Node<T>>>),
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { words: Words::Slice(Vec::new()), star: None, hash: None, values: SmallVec::new() }
    }
}

impl<T: Copy + Ord> Node<T> {
    /// The literal child of a word.
    pub(super) fn word(&self, word: &str) -> Option<&Arc<Self>> {
        self.words.get(word)
    }

    pub(super) fn child(&self, segment: Segment<'_>) -> Option<&Arc<Self>> {
        match segment {
            Segment::Word(word) => self.words.get(word),
            Segment::Star => self.star.as_ref(),
            Segment::Hash => self.hash.as_ref(),
        }
    }

    pub(super) fn child_or_new(&mut self, segment: Segment<'_>) -> &mut Arc<Self> {
        match segment {
            Segment::Word(word) => self.words.get_or_new(word),
            Segment::Star => self.star.get_or_insert_default(),
            Segment::Hash => self.hash.get_or_insert_default(),
        }
    }

    pub(super) fn remove_child(&mut self, segment: Segment<'_>) {
        match segment {
            Segment::Word(word) => self.words.remove(word),
            Segment::Star => self.star = None,
            Segment::Hash => self.hash = None,
        }
    }

    /// Adds all children to `found`.
    pub(super) fn children<'a>(&'a self, found: &mut Vec<&'a Self>) {
        found.extend(self.star.as_deref());
        found.extend(self.hash.as_deref());
        match &self.words {
            Words::Slice(children) => found.extend(children.iter().map(|(_, child)| &**child)),
            Words::Map(children) => found.extend(children.values().map(|child| &**child)),
        }
    }

    pub(super) fn child_count(&self) -> usize {
        let words = match &self.words {
            Words::Slice(children) => children.len(),
            Words::Map(children) => children.len(),
        };
        words + usize::from(self.star.is_some()) + usize::from(self.hash.is_some())
    }
}

impl<T: Copy + Ord> Words<T> {
    fn get(&self, word: &str) -> Option<&Arc<Node<T>>> {
        match self {
            Self::Slice(children) => find(children, word).ok().map(|at| &children[at].1),
            Self::Map(children) => children.get(word),
        }
    }

    fn get_or_new(&mut self, word: &str) -> &mut Arc<Node<T>> {
        if let Self::Slice(children) = self
            && children.len() >= MAX_SLICE
            && find(children, word).is_err()
        {
            *self = Self::Map(children.drain(..).collect());
        }
        match self {
            Self::Slice(children) => {
                let at = find(children, word).unwrap_or_else(|at| {
                    children.insert(at, (word.into(), Arc::default()));
                    at
                });
                &mut children[at].1
            }
            Self::Map(children) => children.entry(word.into()).or_default(),
        }
    }

    fn remove(&mut self, word: &str) {
        match self {
            Self::Slice(children) => {
                if let Ok(at) = find(children, word) {
                    children.remove(at);
                }
            }
            Self::Map(children) => {
                children.remove(word);
                if children.len() <= MIN_MAP {
                    let children = children.iter().map(|(word, child)| (Arc::clone(word), Arc::clone(child)));
                    *self = Self::Slice(children.collect());
                }
            }
        }
    }
}

/// Where the word stands, or where it would.
fn find<C>(children: &[(Arc<str>, C)], word: &str) -> Result<usize, usize> {
    children.binary_search_by(|(other, _)| (**other).cmp(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_a_map_only_while_it_has_many_children() {
        let names: Vec<String> = (0..=MAX_SLICE).map(|n| format!("w{n}")).collect();
        let mut node = Node::<u8>::default();
        let is_map = |node: &Node<u8>| matches!(node.words, Words::Map(_));
        for name in &names {
            assert!(!is_map(&node));
            node.child_or_new(Segment::Word(name));
        }
        assert!(is_map(&node));
        for name in &names[MIN_MAP..] {
            assert!(is_map(&node));
            node.remove_child(Segment::Word(name));
        }
        assert!(!is_map(&node));
        assert_eq!(node.child_count(), MIN_MAP);
        assert!(names.iter().map(|name| node.word(name).is_some()).eq((0..=MAX_SLICE).map(|n| n < MIN_MAP)));
    }
}
