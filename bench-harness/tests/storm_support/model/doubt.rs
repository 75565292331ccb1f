//! What nothing tells: whether a message that has expired was found so before it was asked for.
//!
//! It shows in the account alone, and there only in the end. Where something is called for at a moment, or may be, what
//! had expired by then may have had its turn before it.

use super::{Circuit, Model, Waiting};

impl Model<'_> {
    /// Something that waits may be delivered now, or might have been before: what has expired by now may have been
    /// found so.
    pub(super) fn expired_may_be_gone(&mut self) {
        let now = self.now;
        let waiting = self.head.iter_mut().chain(&mut self.backlog).chain(&mut self.retries);
        for waiting in waiting.chain(&mut self.replays) {
            waiting.may_be_gone |= waiting.due.0 <= now && waiting.has_expired(now);
        }
    }

    /// What has expired may have been found so, if something may be delivered by now.
    pub(super) fn look_for_expired(&mut self) {
        let opens = self.circuit.as_ref().map_or(Some((0, 0)), Circuit::opens);
        if !self.is_paused && opens.is_some_and(|(earliest, _)| earliest <= self.now) {
            self.expired_may_be_gone();
        }
    }

    /// What has expired may have been found so, where chance decides from when on it may be delivered.
    pub(super) fn note_uncertain(&mut self) {
        self.look_for_expired();
        let waiting = self.head.iter().chain(&self.backlog).chain(&self.retries).chain(&self.replays);
        let may_be_gone = waiting.filter(|waiting| waiting.may_be_gone);
        self.uncertain.extend(may_be_gone.map(|waiting| waiting.n));
    }

    /// Whether all that a message would have to wait for has expired, and its call shows that this was seen.
    pub(super) fn is_next(&mut self, message: &Waiting) -> bool {
        let now = self.now;
        let is_called = self
            .calls
            .front()
            .is_some_and(|call| (call.n, call.attempt, call.at_ns) == (message.n, message.attempt, now));
        let is_held = self.is_paused || self.circuit.as_ref().is_some_and(Circuit::holds);
        let mut before = self.head.iter().chain(&self.backlog);
        if is_held || !is_called || !before.all(|waiting| waiting.due.0 <= now && waiting.has_expired(now)) {
            return false;
        }
        let expired = self.head.take().into_iter().chain(self.backlog.drain(..));
        expired.collect::<Vec<_>>().into_iter().for_each(|waiting| self.expire(waiting));
        true
    }
}
