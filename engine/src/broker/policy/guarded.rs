//! A breaker in its subscription's contract.

use super::breaker::Breaker;
use super::breaker::circuit::Circuit;

/// A circuit, and how many of the messages that wait it lets through in a turn.
pub(crate) struct Guarded {
    pub(crate) circuit: Circuit,
    turn: u64,
    left_in_turn: usize,
}

impl Guarded {
    pub(crate) fn new(breaker: Breaker) -> Self {
        Self { circuit: Circuit::new(breaker), turn: 0, left_in_turn: 0 }
    }

    /// Returns whether one more message that has waited may be delivered in that turn.
    pub(crate) fn has_room_in(&mut self, turn: u64) -> bool {
        if self.turn != turn {
            self.turn = turn;
            self.left_in_turn = self.circuit.ramp();
        }
        self.left_in_turn > 0
    }

    /// Says that a message that has waited is delivered.
    pub(crate) fn take_room(&mut self) {
        self.left_in_turn = self.left_in_turn.saturating_sub(1);
    }
}

/// What a breaker can be made to do by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Force {
    Open,
    Closed,
    /// What the outcomes say, from the start.
    Reset,
}

impl Guarded {
    /// Does what was told by hand.
    pub(crate) fn force(&mut self, force: Force) {
        let _ = match force {
            Force::Open => self.circuit.force_open(),
            Force::Closed => self.circuit.force_closed(),
            Force::Reset => self.circuit.reset(),
        };
    }
}
