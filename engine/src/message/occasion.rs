//! The occasion on which a message is seen: by which clock its times are told, until when the call may take that it was
//! handed to, and whether anybody still waits for what comes of that.
//!
//! A message is a few references, put together for each event. What is the same for all calls of a consumer lies here,
//! behind one of them, which leads to the clock anyway: so a deadline that nobody has asked for costs a delivery
//! nothing. Each consumer has an occasion without a deadline. A handler with a time limit has one of its own, in which
//! it notes the deadline of each call (`broker/subscribe/limit.rs`).
//!
//! None of this needs an ordering: the deadline is written before the call by the thread that makes it, and whether the
//! consumer has been stopped is one word that says nothing but itself.

use crate::clock::{Clock, Timestamp};
use crate::ring::StopSign;

/// On what occasion a message is seen.
pub(crate) struct Occasion {
    pub(crate) clock: Clock,
    /// By when the call is to have returned.
    deadline: Option<Timestamp>,
    /// Whether the consumer has been stopped that makes the call. Nothing where it is seen outside of a call.
    stop: Option<StopSign>,
}

impl Occasion {
    /// Outside of a call: for a report, a letter, a token.
    pub(crate) fn apart(clock: &Clock) -> Self {
        Self { clock: clock.clone(), deadline: None, stop: None }
    }

    /// The calls of a consumer.
    pub(crate) fn of_calls(clock: &Clock, stop: StopSign) -> Self {
        Self { clock: clock.clone(), deadline: None, stop: Some(stop) }
    }

    /// Learns from another consumer's occasion whether that has been stopped, and no more from the one before.
    pub(crate) fn follow(&mut self, calls: &Self) {
        self.stop.clone_from(&calls.stop);
    }

    /// Notes by when the next call is to have returned.
    pub(crate) fn set_deadline(&mut self, deadline: Timestamp) {
        self.deadline = Some(deadline);
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// Returns whether nobody waits for the call any more. Reads the clock where there is a deadline.
    pub(super) fn is_cancelled(&self) -> bool {
        self.stop.as_ref().is_some_and(StopSign::is_set)
            || self.deadline.is_some_and(|at| self.clock.now() > at)
    }
}
