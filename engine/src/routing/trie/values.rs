//! The values of one pattern.

use std::slice;
use std::sync::Arc;

/// A sorted set that costs no memory of its own while it has one element, which is the rule. More stand behind a
/// reference count, because the node that holds them is copied for the sake of its children too.
#[derive(Clone)]
pub(super) enum Values<T> {
    None,
    One(T),
    Many(Arc<Vec<T>>),
}

impl<T: Copy + Ord> Values<T> {
    pub(super) fn as_slice(&self) -> &[T] {
        match self {
            Self::None => &[],
            Self::One(value) => slice::from_ref(value),
            Self::Many(values) => values,
        }
    }

    /// Adds a value that is not there.
    pub(super) fn insert(&mut self, value: T) {
        match self {
            Self::None => *self = Self::One(value),
            Self::One(other) => {
                let (other, value) = (value.min(*other), value.max(*other));
                *self = Self::Many(Arc::new(vec![other, value]));
            }
            Self::Many(values) => {
                let at = values.partition_point(|other| *other < value);
                Arc::make_mut(values).insert(at, value);
            }
        }
    }

    /// Takes out the value at an index that exists.
    pub(super) fn remove(&mut self, at: usize) {
        match self {
            Self::None | Self::One(_) => *self = Self::None,
            Self::Many(values) if values.len() == 2 => *self = Self::One(values[1 - at]),
            Self::Many(values) => {
                Arc::make_mut(values).remove(at);
            }
        }
    }
}
