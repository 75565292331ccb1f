//! Whose turn it is: which of the messages that wait may be called for.

use super::{Call, Circuit, Model, Nanos, Turn, Waiting};

impl Model<'_> {
    /// Takes the message out that a call is for.
    pub(super) fn take(&mut self, call: &Call) -> Result<Waiting, String> {
        let at = call.at_ns;
        if self.is_held() {
            return Err("it is paused, or has ended".to_owned());
        }
        match self.circuit.as_ref().map(Circuit::opens) {
            Some(None) => return Err("its breaker is held open".to_owned()),
            Some(Some((earliest, _))) if at < earliest => {
                return Err(format!("its breaker is open until {earliest} ns"));
            }
            _ => {}
        }
        let keys = self.keys.as_ref();
        let is_over = |waiting: &Waiting| waiting.due.0 <= at && Self::is_over(keys, waiting, at);
        let is_it = |waiting: &Waiting| (waiting.n, waiting.attempt) == (call.n, call.attempt);
        let may_be = |waiting: &Waiting| is_it(waiting) && waiting.due.0 <= at && !is_over(waiting);
        let may_have_left = |waiting: &Waiting| waiting.may_be_gone || is_over(waiting);
        if let Some(head) = self.head.take_if(|head| may_be(head)) {
            return Ok(head);
        }
        if let Some(head) = self.head.as_ref().filter(|head| !may_have_left(head)) {
            return Err(format!("all wait for {head:?}"));
        }
        // In the backlog they come in order.
        if let Some(place) = self.backlog.iter().position(may_be)
            && self.backlog.range(..place).all(may_have_left)
        {
            self.is_turn_of(Turn::Backlog, at)?;
            self.now = at;
            let left = self.head.take().into_iter().chain(self.backlog.drain(..place)).collect::<Vec<_>>();
            left.into_iter().for_each(|message| self.leaves(message));
            return self.backlog.pop_front().ok_or_else(String::new);
        }
        if let Some(place) = self.retries.iter().position(may_be) {
            let due = self.retries[place].due.0;
            if let Some(before) = self.retries.iter().find(|it| it.due.1 < due && !may_have_left(it)) {
                return Err(format!("{before:?} was due before"));
            }
            self.is_turn_of(Turn::Retry, at)?;
            return Ok(self.retries.remove(place));
        }
        // And so do replays, but for letters that have expired.
        let place = self.replays.iter().position(|waiting| !is_over(waiting));
        let Some(place) = place.filter(|place| may_be(&self.replays[*place])) else {
            let waits = (&self.backlog, &self.retries, &self.replays);
            return Err(format!("the message is not one that may come now: {waits:?}"));
        };
        self.is_turn_of(Turn::Retry, at)?;
        self.now = at;
        for expired in self.replays.drain(..place).collect::<Vec<_>>() {
            self.account.replayed += 1;
            self.expire(expired);
        }
        self.account.replayed += 1;
        self.replays.pop_front().ok_or_else(String::new)
    }

    /// What is due and what waits behind it take turns, so that neither starves the other: this is judged of two calls
    /// of one moment, where nothing that has expired may have had a turn between them.
    fn is_turn_of(&mut self, turn: Turn, at: Nanos) -> Result<(), String> {
        let (keys, mut waiting) = (self.keys.as_ref(), self.backlog.iter().chain(&self.retries));
        let is_clear = !waiting.any(|waiting| waiting.may_be_gone || Self::is_over(keys, waiting, at))
            && !self.replays.iter().any(|waiting| waiting.has_expired(at));
        let is_other_there = match turn {
            Turn::Backlog => self.retries.iter().chain(&self.replays).any(|waiting| waiting.due.1 <= at),
            Turn::Retry => !self.backlog.is_empty(),
        };
        if is_clear && is_other_there && self.last_turn == Some((turn, at)) {
            return Err(format!("{turn:?} has had its turn just now"));
        }
        self.last_turn = Some((turn, at)).filter(|_| is_clear);
        Ok(())
    }
}
