//! Messages that their handler keeps, and the tokens that settle them.
//!
//! The handler keeps the tokens of all, from the oldest, also of those whose time is up or whose subscription has
//! ended.

use super::{Call, FailsAs, Model, Nanos, SettledAs, Waiting};

/// A message in its handler's hands.
pub(super) struct Kept {
    pub(super) message: Waiting,
    /// Its token's number, counted over all.
    token: u64,
    until: Nanos,
}

impl Model<'_> {
    /// Whether as many are in flight as may be.
    pub(super) fn is_full(&self) -> bool {
        self.form.manual.is_some_and(|manual| self.in_flight.len() >= manual.in_flight)
    }

    /// Its handler was called, and keeps it.
    pub(super) fn keep(&mut self, message: Waiting, call: &Call, limit: Nanos) -> Result<(), String> {
        if call.outcome != "pending" {
            return Err(format!("{call:?} is to have its token kept"));
        }
        self.reserve(&message);
        self.tokens.push_back(self.handed_out);
        self.in_flight.push(Kept { message, token: self.handed_out, until: call.at_ns + limit });
        self.handed_out += 1;
        Ok(())
    }

    /// When the time of the next one is up.
    pub(super) fn next_time_out(&self) -> Option<Nanos> {
        self.in_flight.iter().map(|kept| kept.until).min()
    }

    /// The time of those is up whose moment has come, from the oldest.
    pub(super) fn time_out(&mut self, at: Nanos) {
        self.now = self.now.max(at);
        while let Some(place) = self.in_flight.iter().position(|kept| kept.until <= at) {
            let message = self.in_flight.remove(place).message;
            self.fail(message, at, "timed_out", FailsAs::Error);
        }
    }

    /// Tokens are given back or dropped, from the oldest. Returns what is refused.
    pub(super) fn settle(&mut self, count: usize, settled_as: SettledAs) -> Vec<&'static str> {
        let mut refused = Vec::new();
        for _ in 0..count {
            let Some(token) = self.tokens.pop_front() else { break };
            let Some(place) = self.in_flight.iter().position(|kept| kept.token == token) else {
                if settled_as != SettledAs::Forget {
                    let has_ended = self.ended_tokens.contains(&token);
                    // The account of a subscription is closed with it.
                    self.account.late += u64::from(!self.has_ended);
                    refused.push(if has_ended { "ended" } else { "too-late" });
                }
                continue;
            };
            let message = self.in_flight.remove(place).message;
            match settled_as {
                SettledAs::Ack => self.deliver(&message, self.now),
                SettledAs::Fail => self.fail(message, self.now, "handler", FailsAs::Error),
                // It is not tried again.
                SettledAs::Forget => self.fail(message, self.now, "cancelled", FailsAs::Permanent),
            }
        }
        refused
    }

    /// Nobody waits for what is in flight any more.
    pub(super) fn end_in_flight(&mut self) {
        self.account.in_doubt += self.in_flight.len() as u64;
        self.ended_tokens.extend(self.in_flight.drain(..).map(|kept| kept.token));
    }
}
