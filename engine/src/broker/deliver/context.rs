//! What the running thread is doing for which broker: consuming, handling a message, filling a
//! slot.
//!
//! Publishing looks here, so that what is published in a handler names its parent, and so that no
//! thread waits for room while it fills a slot. Which rings a thread is inside of, the rings know.

use crate::broker::id::BrokerId;
use crate::message::{CorrelationId, MessageId};
use crate::routing::ConsumerAddr;
use crate::sync::constant_per_thread;
use std::cell::Cell;

/// A consumer of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Consuming {
    pub(crate) broker: BrokerId,
    pub(crate) consumer: ConsumerAddr,
}

/// The message whose handler is running.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handling {
    pub(crate) id: MessageId,
    pub(crate) correlation: Option<CorrelationId>,
}

constant_per_thread! {
    static CONSUMING: Cell<Option<Consuming>> = Cell::new(None);
}
constant_per_thread! {
    static FILLING: Cell<bool> = Cell::new(false);
}
constant_per_thread! {
    static IS_HANDLING: Cell<bool> = Cell::new(false);
}
constant_per_thread! {
    static HANDLING: Cell<Option<Handling>> = Cell::new(None);
}

/// Says that this thread is a consumer, until it ends.
pub(crate) fn enter_consumer(consuming: Consuming) {
    CONSUMING.with(|cell| cell.set(Some(consuming)));
}

/// Says that this thread is a consumer no longer.
pub(crate) fn leave_consumer() {
    CONSUMING.with(|cell| cell.set(None));
}

/// The consumer that this thread is, if it is one of the broker's.
pub(crate) fn consuming(broker: BrokerId) -> Option<ConsumerAddr> {
    CONSUMING
        .with(Cell::get)
        .filter(|consuming| consuming.broker == broker)
        .map(|consuming| consuming.consumer)
}

/// Whether this thread is a consumer, of whatever broker.
pub(crate) fn is_consuming() -> bool {
    CONSUMING.with(Cell::get).is_some()
}

/// Says which message is being handled, so that what is published meanwhile can name it.
#[inline(always)]
pub(crate) fn begin_handling(id: MessageId, correlation: Option<CorrelationId>) {
    HANDLING.with(|cell| cell.set(Some(Handling { id, correlation })));
    IS_HANDLING.with(|cell| cell.set(true));
}

/// Says that the call has returned.
#[inline(always)]
pub(crate) fn end_handling() {
    IS_HANDLING.with(|cell| cell.set(false));
}

/// The message that is being handled on this thread.
#[inline(always)]
pub(crate) fn handling() -> Option<Handling> {
    if IS_HANDLING.with(Cell::get) { HANDLING.with(Cell::get) } else { None }
}

/// Whether this thread is inside a publish closure.
pub(crate) fn is_filling() -> bool {
    FILLING.with(Cell::get)
}

/// This thread fills a slot, until this is dropped.
#[must_use = "dropped, it ends the filling"]
pub(crate) struct Filling {
    was_filling: bool,
}

/// Says that this thread fills a slot: from here on it waits for no room.
#[inline(always)]
pub(crate) fn begin_filling() -> Filling {
    Filling { was_filling: FILLING.with(|cell| cell.replace(true)) }
}

impl Drop for Filling {
    #[inline(always)]
    fn drop(&mut self) {
        FILLING.with(|cell| cell.set(self.was_filling));
    }
}
