//! Messages that come to wait, and those that give way to them.

use super::{Backlog, KeyBy, Model, Waiting, WhenFull};

impl Model<'_> {
    fn backlog_form(&self) -> Backlog {
        self.form.backlog.clone().unwrap_or(Backlog { messages: 1_024, when_full: None, conflate_by: None })
    }

    /// What tells its messages apart, if anything does: either for idempotency, or for conflation.
    pub(super) fn key_by(&self) -> Option<KeyBy> {
        let of_backlog = self.form.backlog.as_ref().and_then(|backlog| backlog.conflate_by);
        self.form.idempotent.as_ref().map(|form| form.by).or(of_backlog)
    }

    /// Whether a newer message takes the place of an older one. Then all pass through the backlog.
    pub(super) fn conflates(&self) -> bool {
        self.form.backlog.as_ref().is_some_and(|backlog| backlog.conflate_by.is_some())
    }

    /// Whether a newer one waits than a message that was kept and has failed.
    pub(super) fn is_outdated(&self, message: &Waiting) -> bool {
        let is_newer = |newer: &Waiting| newer.key.is_some() && newer.key == message.key;
        self.conflates() && self.backlog.iter().any(is_newer)
    }

    /// A message comes into the backlog, as far as there is room.
    pub(super) fn park(&mut self, mut message: Waiting) {
        let Backlog { messages, when_full, .. } = self.backlog_form();
        let is_older = |older: &Waiting| older.key.is_some() && older.key == message.key;
        let mut older = None;
        if self.conflates() {
            if let Some(head) = self.head.as_mut().filter(|head| is_older(head)) {
                message.due = head.due;
                *head = message;
                self.account.dropped_conflated += 1;
                return;
            }
            older = self.backlog.iter().position(is_older);
        }
        if self.backlog.len() - usize::from(older.is_some()) < messages {
            return self.put_in(message, older);
        }
        self.is_lost |= self.backlog.iter().any(|waiting| waiting.may_be_gone);
        match when_full {
            Some(WhenFull::DropOldest) if messages > 0 => {
                if let Some(oldest) = self.backlog.pop_front() {
                    self.release(&oldest);
                }
                self.account.dropped_overflow += 1;
                self.put_in(message, None);
            }
            Some(WhenFull::DeadLetter) => self.bury(message, "overflow"),
            None if self.has_store => self.bury(message, "overflow"),
            _ => self.account.dropped_overflow += 1,
        }
    }

    /// A message takes the place of an older one, or stands behind all others. Then older ones that wait for another
    /// attempt go.
    fn put_in(&mut self, message: Waiting, older: Option<usize>) {
        self.reserve(&message);
        let is_older = |older: &Waiting| older.key.is_some() && older.key == message.key;
        if let Some(place) = older {
            self.backlog[place] = message;
            self.account.dropped_conflated += 1;
            return;
        }
        if self.conflates() {
            let before = self.retries.len();
            self.retries.retain(|waiting| !is_older(waiting));
            self.account.dropped_conflated += (before - self.retries.len()) as u64;
        }
        self.backlog.push_back(message);
    }
}
