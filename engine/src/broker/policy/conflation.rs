//! Conflation: of messages with the same key that wait, only the newest is delivered.

use super::key::{Key, KeyBy};
use crate::message::Message;

/// For how many of its consumer's turns in a row a subscription lets what is in the ring come first.
const MOST_TURNS: u32 = 16;

/// How a subscription's messages are told apart, and whether it is its turn.
///
/// The consumer brings all that is in the ring into the backlog before it delivers the next message: so of many values
/// that came meanwhile it delivers the newest. While the ring is never empty it delivers one every so many turns.
#[derive(Debug)]
pub(crate) struct Conflation<P> {
    by: KeyBy<P>,
    turns_let_by: u32,
}

impl<P> Conflation<P> {
    pub(crate) fn by(key: KeyBy<P>) -> Self {
        Self { by: key, turns_let_by: 0 }
    }

    /// Returns a message's key, if it has one. May run foreign code.
    pub(crate) fn key(&mut self, message: &Message<'_, P>) -> Option<Key> {
        self.by.key(message)
    }

    /// Returns whether what is in the ring comes first.
    pub(crate) fn lets_by(&mut self, is_more_in_ring: bool) -> bool {
        let lets_by = is_more_in_ring && self.turns_let_by < MOST_TURNS;
        self.turns_let_by = if lets_by { self.turns_let_by + 1 } else { 0 };
        lets_by
    }

    /// Drops it, with its closure, which is foreign.
    pub(crate) fn dismantle(self) {
        self.by.dismantle();
    }
}
