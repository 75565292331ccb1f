//! What nothing tells: whether something that leaves without a call has left before it was asked for.
//!
//! A letter that has expired and is to be replayed leaves when its turn comes; so does a message whose key was handled
//! with another while it waited. It shows in the account alone, and there only in the end. Where something is called
//! for at a moment, or may be, what was due may have had its turn before it. Messages that wait and expire do so at
//! their moments, which leaves no doubt.

use super::{Circuit, Keys, Model, Nanos, Waiting};

impl Model<'_> {
    /// Whether a message's next turn is its end.
    pub(super) fn is_over(keys: Option<&Keys<'_>>, waiting: &Waiting, now: Nanos) -> bool {
        let was_handled = |key: &String| keys.is_some_and(|keys| keys.was_handled(key));
        waiting.has_expired(now) || waiting.key.as_ref().is_some_and(was_handled)
    }

    /// Something that waits may be delivered now, or might have been before: what is over may have left.
    pub(super) fn over_may_be_gone(&mut self) {
        let (now, keys) = (self.now, self.keys.as_ref());
        let waiting = self.head.iter_mut().chain(&mut self.backlog).chain(&mut self.retries);
        for waiting in waiting.chain(&mut self.replays) {
            waiting.may_be_gone |= waiting.due.0 <= now && Self::is_over(keys, waiting, now);
        }
    }

    /// What is over may have left, if something may be delivered by now.
    pub(super) fn look_for_over(&mut self) {
        let opens = self.circuit.as_ref().map_or(Some((0, 0)), Circuit::opens);
        if !self.is_held() && opens.is_some_and(|(earliest, _)| earliest <= self.now) {
            self.over_may_be_gone();
        }
    }

    /// What is over may have left, where nothing tells from when on it may be delivered.
    pub(super) fn note_uncertain(&mut self) {
        self.look_for_over();
        let waiting = self.head.iter().chain(&self.backlog).chain(&self.retries).chain(&self.replays);
        let may_be_gone = waiting.filter(|waiting| waiting.may_be_gone);
        self.uncertain.extend(may_be_gone.map(|waiting| waiting.n));
    }

    /// Nothing was called for at that moment: so it was the turn of something that is over.
    pub(super) fn let_one_go(&mut self, at: Nanos) -> Result<(), String> {
        let keys = self.keys.as_ref();
        let is_over = |it: &Waiting| it.due.1 <= at && (it.may_be_gone || Self::is_over(keys, it, at));
        let message = if self.head.is_some() {
            self.head.take_if(|head| is_over(head))
        } else if self.backlog.front().is_some_and(is_over) {
            self.backlog.pop_front()
        } else if let Some(place) = self.retries.iter().position(is_over) {
            Some(self.retries.remove(place))
        } else {
            let place = self.replays.iter().position(is_over).filter(|_| self.backlog.is_empty());
            place.and_then(|place| self.replays.remove(place)).inspect(|_| self.account.replayed += 1)
        };
        let Some(message) = message else {
            let waits = (&self.head, &self.backlog, &self.retries, &self.replays);
            return Err(format!("at {at} ns something was to be called for of {waits:?}"));
        };
        self.now = self.now.max(at);
        self.leaves(message);
        Ok(())
    }

    /// A message has its turn, and is over.
    pub(super) fn leaves(&mut self, message: Waiting) {
        if message.has_expired(self.now) {
            return self.expire(message);
        }
        self.account.dropped_duplicate += 1;
        self.release(&message);
    }
}
