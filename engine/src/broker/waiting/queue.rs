//! What waits of one subscription.

use super::backlog::{Backlog, WhenFull};
use super::parked::Parked;
use crate::broker::subscribe::registry::SubscriptionState;
use crate::clock::Timestamp;
use std::collections::VecDeque;
use std::sync::Arc;

/// The messages of one subscription that wait, in the order in which they came.
pub(crate) struct Queue<P> {
    pub(super) state: Arc<SubscriptionState>,
    backlog: VecDeque<Parked<P>>,
    bytes: usize,
    /// No message expires before. The earliest that did may have left since.
    first_expiry: Option<Timestamp>,
}

/// How much of a subscription's messages waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) backlogged: usize,
}

/// What a queue has given up, in order, to make room for a message.
pub(crate) struct GivenUp<P> {
    pub(crate) expired: Vec<Parked<P>>,
    pub(crate) dropped: Vec<Parked<P>>,
    /// Whether there is room now. If not, it is the newest message that is given up.
    pub(crate) has_room: bool,
}

impl<P: 'static> Queue<P> {
    pub(super) fn new(state: Arc<SubscriptionState>) -> Self {
        Self { state, backlog: VecDeque::new(), bytes: 0, first_expiry: None }
    }

    /// Makes room for a message of that size, as far as the backlog's bounds let it.
    pub(super) fn make_room(&mut self, size: usize, bounds: Backlog, now: Timestamp) -> GivenUp<P> {
        let mut given_up = GivenUp { expired: Vec::new(), dropped: Vec::new(), has_room: false };
        // One that never fits shall not cost the others.
        if bounds.messages == 0 || size > bounds.bytes {
            return given_up;
        }
        let has_room =
            |queue: &Self| queue.backlog.len() < bounds.messages && queue.bytes + size <= bounds.bytes;
        if !has_room(self) && self.first_expiry.is_some_and(|at| at <= now) {
            given_up.expired = self.sweep(now);
        }
        while !has_room(self) && bounds.when_full == WhenFull::DropOldest {
            given_up.dropped.extend(self.pop());
        }
        given_up.has_room = has_room(self);
        given_up
    }

    /// Takes out what has expired.
    fn sweep(&mut self, now: Timestamp) -> Vec<Parked<P>> {
        let (mut expired, mut kept) = (Vec::new(), VecDeque::with_capacity(self.backlog.len()));
        self.first_expiry = None;
        for parked in self.backlog.drain(..) {
            match parked.expires_at() {
                Some(at) if at <= now => {
                    self.bytes -= parked.size();
                    expired.push(parked);
                    continue;
                }
                Some(at) => self.first_expiry = Some(self.first_expiry.map_or(at, |first| first.min(at))),
                None => {}
            }
            kept.push_back(parked);
        }
        self.backlog = kept;
        expired
    }

    pub(super) fn push(&mut self, parked: Parked<P>) {
        self.bytes += parked.size();
        if let Some(at) = parked.expires_at() {
            self.first_expiry = Some(self.first_expiry.map_or(at, |first| first.min(at)));
        }
        self.backlog.push_back(parked);
    }

    /// Takes the next message out.
    pub(super) fn pop(&mut self) -> Option<Parked<P>> {
        let parked = self.backlog.pop_front()?;
        self.bytes -= parked.size();
        Some(parked)
    }

    /// Takes all out, in order.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Parked<P>> {
        self.bytes = 0;
        std::mem::take(&mut self.backlog).into_iter()
    }

    pub(super) fn sizes(&self) -> Sizes {
        Sizes { backlogged: self.backlog.len() }
    }
}
