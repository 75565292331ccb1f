//! Quiet before an end: of one subscription, which leaves after what is queued, and of the whole broker, whose handlers
//! come to the end of what they publish for each other.

use super::drain::why_not;
use crate::broker::core::Core;
use crate::broker::deliver::context;
use crate::broker::error::DrainError;
use crate::broker::handle::Broker;
use crate::broker::subscribe::registry::SubscriptionState;
use crate::message::MessagePayload;
use crate::wait::{Deadline, Parking, WaitStrategy, wait_until};
use std::time::Duration;

impl<P: MessagePayload> Core<P> {
    /// Waits until nothing waits for a subscription to which nothing is routed any more.
    pub(crate) fn drain_one(
        &self,
        state: &SubscriptionState,
        deadline: Deadline,
        limit: Duration,
    ) -> Result<(), DrainError> {
        let addr = state.destination.consumer;
        let (ring, waiting) = (&self.ring(self.ring_of(addr.dispatcher)), &self.consumer(addr).waiting);
        let claimed = ring.claimed();
        let is_over = || {
            if let Some(thread) = self.threads.lost() {
                return Some(Err(DrainError::ConsumerLost { thread }));
            }
            // In this order, as `drain` looks.
            (ring.released() >= claimed && waiting.is_empty_for(state.id)).then_some(Ok(()))
        };
        wait_until(WaitStrategy::Backoff, &Parking::new(false), deadline, is_over).unwrap_or_else(|| {
            let sizes = waiting.sizes_of(state.id);
            match (sizes.waiting() + sizes.in_flight) as u64 {
                0 => Err(DrainError::TimedOut { limit }),
                messages => {
                    Err(DrainError::Waiting { subscriptions: vec![state.name.to_string()], messages, limit })
                }
            }
        })
    }
}

/// Refuses publishes that handlers do not make, and waits until there is nothing left for handlers to do.
fn quiesce<P: MessagePayload>(core: &Core<P>, limit: Duration) -> Result<(), DrainError> {
    if core.is_forked() {
        return Err(DrainError::Forked);
    }
    if core.is_simulated || context::is_filling() || context::consuming(core.id).is_some() {
        return Err(DrainError::WouldDeadlock);
    }
    core.refuse_outsiders();
    let claimed = || core.rings.iter().map(|state| state.ring.claimed()).sum::<u64>();
    let are_quiet = || {
        let now = core.clock.now();
        core.consumers().all(|consumer| consumer.waiting.is_quiet(now))
    };
    let have_drained = || core.rings.iter().all(|state| state.ring.released() >= state.ring.claimed());
    let is_over = || {
        if let Some(thread) = core.threads.lost() {
            return Some(Err(DrainError::ConsumerLost { thread }));
        }
        // What is handled while we look publishes, and the count tells.
        let before = claimed();
        (are_quiet() && have_drained() && are_quiet() && claimed() == before).then_some(Ok(()))
    };
    wait_until(WaitStrategy::Backoff, &Parking::new(false), Deadline::after(limit), is_over)
        .unwrap_or_else(|| Err(why_not(core, have_drained(), limit)))
}

impl<P: MessagePayload> Broker<P> {
    /// Begins an orderly shutdown: from now on publishes are refused, as after a
    /// [`shutdown`](Self::shutdown), but those that handlers make on their consumers' threads. Waits until all is
    /// quiet: no message is in a ring, is being handled or kept with a token, and none that waits could be delivered
    /// now. So a chain of handlers, each of which publishes for the next, comes to its end, however long it is; what
    /// waits for a pause, an open breaker or a later attempt is not waited for; nor is a call whose consumer
    /// [was replaced](crate::broker::Dispatcher::rescuable), and whose message is in doubt. A `shutdown` afterwards
    /// finds nothing but that.
    ///
    /// It holds for good. What a handler has other threads publish is refused. A publish that is under way when it
    /// begins goes on.
    ///
    /// ```
    /// # use ringmain::Broker;
    /// # use std::time::Duration;
    /// let broker = Broker::of::<u32>().build()?;
    /// let mut next = broker.publisher("invoices")?;
    /// let _orders = broker.subscribe("orders", move |order| next.publish(**order).map(drop))?;
    /// let (sender, invoices) = std::sync::mpsc::channel();
    /// let _invoices = broker.subscribe("invoices", move |invoice| sender.send(**invoice))?;
    /// let mut orders = broker.publisher("orders")?;
    /// let _ = orders.publish(4711)?;
    /// broker.quiesce(Duration::from_secs(5))?;
    /// assert!(orders.publish(4712).is_err());
    /// assert_eq!(invoices.try_iter().collect::<Vec<_>>(), [4711]);
    /// let report = broker.shutdown(Duration::from_secs(5))?;
    /// assert!(report.undelivered.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`drain`](Self::drain); handlers that always publish more are never quiet. Outsiders are refused all the
    /// same, unless this thread would wait for itself.
    pub fn quiesce(&self, limit: Duration) -> Result<(), DrainError> {
        quiesce(self.core(), limit)
    }
}
