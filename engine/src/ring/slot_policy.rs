//! What becomes of an event that all consumers have handled.

/// What a slot holds between the end of its event's handling and the next event that is published
/// there.
///
/// With `Clear`, the last consumer clears each slot right after it has handled the event, and before
/// it lets producers have the slot: on its own thread, and not on a producer's. So a value is dropped
/// soon after it was handled, and not a whole ring later.
///
/// **Who clears.** One consumer that comes after all others, or is the only one. A ring whose last
/// stage is several consumers, or workers, cannot be built: put one consumer behind them, whose
/// handler does nothing. Nobody can join such a ring as a consumer while that one is there, since it
/// would see events that are being cleared; workers can join a group before it.
///
/// **What is not cleared.** What was not handled, so that it can still be handed back or read: events
/// in a ring that is halted or dropped, or whose consumer was stopped or has left; these are dropped
/// with the ring. Under [`Overflow::DropOldest`](super::Overflow::DropOldest) an event that was
/// dropped for a newer one, which its producer writes over it. A tombstone, whose event was made anew
/// by its producer.
///
/// **User code.** Making the fresh event and dropping the old one may panic, which is caught: where
/// the factory panics, the old event stays until it is overwritten. They may also block, which holds
/// this consumer up as a handler would, and under
/// [`Poller::poll_leased`](super::Poller::poll_leased) can be taken over as a handler can. The event
/// of a handler that has panicked is cleared like any other.
///
/// **Secrets.** A value's bytes are overwritten by those of the fresh event, padding and unused parts
/// of enums aside. What a value has on the heap is its own `Drop`'s to wipe. No copy is made.
///
/// ```
/// use ringmain::ring::{RingBuilder, SlotPolicy};
/// use std::sync::Arc;
///
/// let builder = RingBuilder::new(8, || None::<Arc<str>>)?.slot_policy(SlotPolicy::Clear);
/// let mut graph = builder.graph()?;
/// let (_id, mut poller) = graph.poller(&[])?;
/// let (mut producer, _ring) = graph.build_single_producer()?;
///
/// let text: Arc<str> = "held by nobody but who handles it".into();
/// producer.publish(|event| *event = Some(text.clone()))?;
/// poller.poll(1, |event, _sequence, _end_of_batch| assert_eq!(event.as_ref(), Some(&text)));
/// assert_eq!(Arc::strong_count(&text), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SlotPolicy {
    /// The event stays until a producer overwrites it, and can use its buffers again. Costs nothing.
    #[default]
    Keep,
    /// The last consumer replaces the event by one from the ring's factory. Costs a call of the
    /// factory and a drop an event.
    Clear,
}

/// How a ring makes its events anew.
pub(super) enum Renewal<E> {
    /// By its factory.
    Anew,
    /// In place, by a function that clears what needs it.
    InPlace(fn(&mut E)),
}
