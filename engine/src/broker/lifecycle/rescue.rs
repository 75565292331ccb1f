//! The rescue: a consumer whose handler does not return is replaced by another, which goes on in its place.
//!
//! What makes it possible is decided before: consumers of a dispatcher that is to be
//! [rescuable](crate::broker::Dispatcher::rescuable) copy each message before its handler is called, so that no slot is
//! held by the call, and lend all that they have meanwhile, but for the one handler (`deliver/lending.rs`). So the
//! position in the ring can be handed on, which a take-over at a shutdown cannot do.
//!
//! The steps, in this order:
//!
//! 1. A thread is started that waits. All that can fail for want of something has been done then.
//! 2. Under the lock of the threads, beside no shutdown, the consumer is replaced (`ring/lease.rs`), unless the call
//!    has returned. From here on it is certain: the call is in doubt, and its thread touches nothing any more.
//! 3. Mail goes to the new consumer. It takes up what the call has lent. The delivery is counted as in doubt, and its
//!    subscription is noted as away: what comes for it waits.
//! 4. The new consumer goes to the thread that waits.
//!
//! When the call returns, its thread sends the handler to the consumer's mailbox, and ends. The subscription goes on
//! with what has waited. So a subscription has one handler, which is called once at a time, on whatever thread.

use super::report::InDoubt;
use super::threads::ReplacedThread;
use crate::broker::core::Core;
use crate::broker::deliver::consumer::Consumer;
use crate::broker::deliver::handlers::HandlerTable;
use crate::broker::deliver::lending::LentCall;
use crate::broker::deliver::outcome::Outcome;
use crate::broker::deliver::settle::settle_uncalled;
use crate::broker::dispatcher::{ConsumerState, Standby};
use crate::broker::error::RescueError;
use crate::broker::handle::Broker;
use crate::broker::stall::report::{Stall, StalledCall};
use crate::broker::subscribe::registry::Reason;
use crate::broker::waiting::room::InCall;
use crate::message::MessagePayload;
use crate::ring::{BuildError, Call, spawn_pinned};
use crate::routing::ConsumerAddr;
use crate::sync::panics::guard;
use std::io;
use std::sync::mpsc::channel;
use std::time::Instant;

impl<P: MessagePayload> Core<P> {
    /// Replaces the consumer that a stall tells of. Runs no foreign code.
    pub(crate) fn rescue(&self, stall: &Stall) -> Result<(), RescueError> {
        if stall.is_replaced {
            return Err(RescueError::AlreadyReplaced { thread: stall.thread.to_string() });
        }
        let stalled = stall.call.as_ref().filter(|stalled| stalled.origin == self.origin);
        let Some(StalledCall { addr, call, .. }) = stalled.cloned() else { return Err(RescueError::NoCall) };
        let consumer = self.consumer(addr);
        let thread = || consumer.thread.clone();
        let Some(Standby { lending, placement, .. }) = &consumer.standby else {
            let dispatcher = self.dispatcher(addr.dispatcher).name.to_string();
            return Err(RescueError::NotRescuable { dispatcher });
        };
        let number = match call {
            Call::Parked { number, .. } if lending.is_lent(number) => number,
            _ if consumer.mailbox.supervisor().is_still_in(call) => {
                return Err(RescueError::NotAHandler { thread: thread() });
            }
            _ => return Err(RescueError::Over { thread: thread() }),
        };
        // Before anything is done that cannot be taken back.
        let (hand_over, handed_over) = channel::<Consumer<P>>();
        // It waits as long as this call lasts at most: without a consumer, the other end is gone then.
        let wait = move || handed_over.recv().into_iter().for_each(Consumer::run);
        spawn_pinned(&consumer.thread, *placement, wait).map(drop).map_err(|reason| RescueError::Thread {
            thread: thread(),
            kind: match reason {
                BuildError::Thread { kind, .. } => kind,
                _ => io::ErrorKind::Other,
            },
        })?;
        let fresh = self.replace(addr, number, stall)?;
        // The thread has been started, and waits for nothing else.
        let sent = hand_over.send(fresh);
        debug_assert!(sent.is_ok(), "a thread that waits is there");
        Ok(())
    }

    /// Puts another consumer in the place of one that is in the lending call of that number. It is to be run.
    pub(crate) fn replace(
        &self,
        addr: ConsumerAddr,
        number: u64,
        stall: &Stall,
    ) -> Result<Consumer<P>, RescueError> {
        let consumer = self.consumer(addr);
        let ConsumerState { mailbox, waiting, tally, .. } = consumer;
        let over = || RescueError::Over { thread: consumer.thread.clone() };
        let Some(Standby { common, lending, .. }) = &consumer.standby else { return Err(over()) };
        let poller = {
            let mut threads = self.threads.lock();
            if self.is_closed() {
                return Err(RescueError::Closed);
            }
            let running = threads.consumer(addr).filter(|running| running.is_at_work()).ok_or_else(over)?;
            let poller = running.supervisor.replace(number).ok_or_else(over)?;
            running.supervisor = poller.supervisor();
            threads.replaced.push(ReplacedThread {
                addr,
                number,
                stall: stall.clone(),
                since: Instant::now(),
                next: stall.age.saturating_mul(2),
                has_returned: false,
            });
            threads.replaced_so_far += 1;
            poller
        };
        // Before the other consumer is there to be looked at: the call is not over, as one is that another follows.
        if let Some(watch) = &self.watch {
            watch.forget_call(self.consumers_before(addr));
        }
        mailbox.hand_to(poller.supervisor());
        let mut handlers =
            HandlerTable::new(addr, common.clone(), mailbox.clone(), waiting.clone(), tally.clone());
        handlers.lend_to(lending.clone());
        let (fresh, call) = Consumer::going_on(poller, handlers, tally.clone(), number);
        let Some(LentCall { subscription, is_settled, replayed, .. }) = call else { return Ok(fresh) };
        let state = self.registry.find(subscription);
        if let Some(state) = state.as_ref().filter(|_| !is_settled) {
            settle_uncalled(&state.tally, &Outcome::InDoubt);
            let in_doubt = waiting.in_call().map(|InCall { message, topic, .. }| InDoubt {
                subscription: state.name.clone(),
                message,
                topic,
            });
            in_doubt.into_iter().for_each(|it| self.threads.lock().list_replaced(it));
        }
        if let (Some(store), Some(letter)) = (&self.dead_letters, replayed) {
            store.release(&letter);
        }
        // After the count, as whoever looks there believes.
        waiting.settled();
        // Last: who finds it away finds all of this done.
        state.into_iter().for_each(|state| state.set(Reason::Away, true));
        Ok(fresh)
    }

    /// Returns how many consumers come before that one.
    fn consumers_before(&self, addr: ConsumerAddr) -> usize {
        let before = self.dispatchers.iter().take(usize::from(addr.dispatcher));
        before.map(|dispatcher| dispatcher.consumers.len()).sum::<usize>() + usize::from(addr.number)
    }
}

/// Logs what has come of a rescue.
pub(crate) fn log_rescue(stall: &Stall, refused: Option<&RescueError>) {
    let (dispatcher, thread, subscription) =
        (&*stall.dispatcher, &*stall.thread, stall.subscription.as_deref());
    let message_id = stall.message.map(tracing::field::display);
    let topic = stall.topic.as_ref().map(tracing::field::display);
    let what = match refused {
        None => {
            "a handler does not return: another thread goes on with all else, and the message is in doubt"
        }
        Some(_) => "a consumer could not be replaced",
    };
    tracing::warn!(
        target: "ringmain::rescue",
        dispatcher,
        thread,
        subscription,
        topic,
        message_id,
        at_least = ?stall.age,
        reason = refused.map(tracing::field::display),
        "{what}"
    );
}

impl<P: MessagePayload> Broker<P> {
    /// Replaces the consumer that a [stall](Self::stalls) tells of, so that all that shares its thread with the stuck
    /// handler goes on, on a fresh one: see [`Dispatcher::rescuable`](crate::broker::Dispatcher::rescuable). It is for
    /// programs that decide themselves; with [`rescue_after`](crate::broker::Dispatcher::rescue_after) the broker does.
    ///
    /// From any thread, that of [`on_stall`](crate::broker::BrokerBuilder::on_stall) too. Starts a thread, locks
    /// briefly, and waits for no consumer. That it was done is logged, as a warning with target `ringmain::rescue`.
    ///
    /// ```
    /// use ringmain::Broker;
    /// use ringmain::broker::Dispatcher;
    /// use std::sync::mpsc::channel;
    /// use std::time::Duration;
    ///
    /// let broker = Broker::of::<u32>()
    ///     .dispatcher(Dispatcher::new("shared").rescuable())
    ///     .stall_after(Duration::from_millis(10))
    ///     .build()?;
    /// let (go_on, until_then) = channel::<()>();
    /// let (sender, received) = channel();
    /// broker.subscribe("a", move |_| _ = until_then.recv())?.detach();
    /// broker.subscribe("a", move |number| _ = sender.send(**number))?.detach();
    /// let _ = broker.publisher("a")?.publish(1)?;
    ///
    /// let stall = loop {
    ///     if let Some(stall) = broker.stalls().pop() {
    ///         break stall;
    ///     }
    /// };
    /// broker.rescue(&stall)?;
    /// assert_eq!(received.recv_timeout(Duration::from_secs(5))?, 1);
    /// drop(go_on);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The callback of stalls can decide too. It is there before its broker is, and so is told of it later:
    ///
    /// ```
    /// use ringmain::Broker;
    /// use ringmain::broker::{Dispatcher, StallKind, WeakBroker};
    /// use std::sync::mpsc::channel;
    /// use std::sync::{Arc, OnceLock};
    /// use std::time::Duration;
    ///
    /// let weak: Arc<OnceLock<WeakBroker<u32>>> = Arc::default();
    /// let told = weak.clone();
    /// let broker = Broker::of::<u32>()
    ///     .dispatcher(Dispatcher::new("shared").rescuable())
    ///     .stall_after(Duration::from_millis(10))
    ///     .on_stall(move |stall| {
    ///         let is_meant = stall.kind == StallKind::Call && stall.subscription.as_deref() == Some("payments");
    ///         if let Some(broker) = told.get().and_then(WeakBroker::upgrade).filter(|_| is_meant)
    ///             && let Err(reason) = broker.rescue(stall)
    ///         {
    ///             eprintln!("{stall}, and {reason}"); // told again at the double age
    ///         }
    ///     })
    ///     .build()?;
    /// let _ = weak.set(broker.downgrade());
    ///
    /// let (answer, bank) = channel::<()>();
    /// let payments = broker.subscription().name("payments").pattern("a").subscribe(move |_| _ = bank.recv())?;
    /// let (sender, received) = channel();
    /// let _audit = broker.subscribe("a", move |number| sender.send(**number))?;
    /// for number in [1, 2] {
    ///     let _ = broker.publisher("a")?.publish(number)?;
    /// }
    /// assert_eq!(received.recv_timeout(Duration::from_secs(5))?, 1);
    /// assert_eq!(received.recv_timeout(Duration::from_secs(5))?, 2);
    /// assert!(payments.status().is_away);
    /// drop(answer);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The dispatcher was not told to be rescuable; the call is none of a handler's, or has returned, or another thread
    /// is in its consumer's place already; the stall tells of no call, or is another broker's; the broker shuts down;
    /// the system refuses a thread; or this is a child made by `fork`. Nothing has changed then.
    pub fn rescue(&self, stall: &Stall) -> Result<(), RescueError> {
        let core = self.core();
        if core.is_forked() {
            return Err(RescueError::Forked);
        }
        core.rescue(stall)?;
        guard(|| log_rescue(stall, None));
        Ok(())
    }
}
