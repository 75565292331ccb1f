//! Delivery: how often a message is handled, and what is lost.
//!
//! # The promise
//!
//! A dispatcher has *accepted* a message when it stands in its ring. Publishing returns without an error when all
//! dispatchers with a subscription to the topic have accepted it, save those that are declared
//! [`best_effort`](crate::broker::Dispatcher::best_effort): [`Published`](crate::broker::Published) tells of them.
//! Where some have accepted and others must not miss it and have no room, the error is
//! [`PartlyRefused`](crate::broker::PublishFailure::PartlyRefused).
//!
//! An accepted message is routed to each subscription of the dispatcher that matched its topic at that moment, once,
//! however many of its patterns match. Each of these deliveries ends, and is counted in exactly one [`Term`] of the
//! subscription's account ([`SubscriptionLedger`]). Nothing is lost without being counted.
//!
//! | the subscription has | its handler is called for a message | why |
//! |---|---|---|
//! | no [`Retry`], and nothing of it is replayed | at most once | a failed call is the last one |
//! | a [`Retry`] | at most as often as [`Retry::attempts`] says, until a call returns well | what a failed attempt did before it failed is done |
//! | letters that are [replayed](crate::broker::dead_letters::DeadLetters::replay) | once more for each replay, and again as the retry says | the same, and it may have been long ago |
//!
//! So a delivery is *at most once* as long as nothing is tried again. It is *at least once* where something is, as long
//! as attempts are left, the message has not expired, there is room for it to wait, and the process lives.
//! It is never *exactly once*: no engine can take back what a handler has done to the world.
//!
//! # What is not promised
//!
//! * **That a message is handled.** It may expire, be filtered, find a full backlog, or fail for good. The account says
//!   which.
//! * **That it survives the process.** All is in memory, save dead letters that have a file (feature
//!   `durable-dead-letters`).
//! * **That somebody wants it.** A message without a subscription is accepted, and counted as
//!   [`unrouted`](crate::broker::Ledger::unrouted).
//! * **That a later subscription sees it.** Only what is published after
//!   [`subscribe`](crate::Broker::subscribe) has returned is certain to come.
//! * **A time.** A handler is called when its consumer comes to it, and those before it take as long as they take.
//!
//! # Telling a repetition
//!
//! Each attempt bears the message's [`id`](crate::message::Message::id), and so does a replay. The
//! [`attempt`](crate::message::Message::attempt) counts from 1, and from 1 again in each replay. So a handler that
//! must not do a thing twice remembers ids. What a *sender* repeats has other ids: an
//! [idempotent](crate::broker::SubscriptionBuilder::idempotent) subscription tells it by a key, and handles it once, as
//! long as the key is remembered and the process lives.
//!
//! ```
//! use ringmain::Broker;
//! use ringmain::broker::{Jitter, Retry};
//! use std::collections::HashSet;
//! use std::sync::mpsc::channel;
//! use std::time::Duration;
//!
//! let mut simulation = Broker::of::<u32>().simulate()?;
//! let broker = simulation.broker();
//! let (sender, booked) = channel();
//! let mut seen = HashSet::new();
//! let retry = Retry::constant(Duration::from_millis(10)).jitter(Jitter::None).attempts(3);
//! let _payments = broker.subscription().pattern("payments").retry(retry).subscribe(move |amount| {
//!     if seen.insert(amount.id()) {
//!         let _ = sender.send(**amount); // done, whatever happens next
//!     }
//!     if amount.attempt() < 3 { Err("the receipt printer is out of paper") } else { Ok(()) }
//! })?;
//! broker.publisher("payments")?.publish(100)?;
//! simulation.advance(Duration::from_secs(1));
//! assert_eq!(booked.try_iter().collect::<Vec<_>>(), [100]); // three calls, one booking
//! assert_eq!(broker.audit().total().retries, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a crash loses
//!
//! When the process ends without a [`shutdown`](crate::Broker::shutdown), by a signal, an abort or the power, this
//! is gone:
//!
//! | where | what |
//! |---|---|
//! | rings | accepted messages that no handler has been called with |
//! | backlogs and retries | all that waits |
//! | the dead letters | all of them, unless they have a file: then what came in its last milliseconds |
//! | remembered keys | all of them: what is sent again after a restart is handled again |
//! | running calls | their outcome: nobody knows what they have done |
//!
//! A panic of a handler is no crash. It is caught and counted. That needs unwinding: with `panic = "abort"` in the
//! program's profile a panic ends the process.
//!
//! # What each feature does to it
//!
//! | feature | may lose, counted | may repeat |
//! |---|---|---|
//! | expiry | [`Term::Expired`]; or a [dead letter](crate::broker::SubscriptionBuilder::dead_letter_expired) | no |
//! | [idempotency](crate::broker::SubscriptionBuilder::idempotent) | [`Term::Duplicate`] | no, while the key is remembered |
//! | [conflation](crate::broker::SubscriptionBuilder::conflate) | [`Term::Conflated`]: values that a newer one has replaced | no |
//! | [tokens](crate::broker::SubscriptionBuilder::subscribe_with_tokens) | as a handler's failure, where one is dropped or late | with a [`Retry`]: also while who was late still works |
//! | filter | [`Term::Filtered`] | no |
//! | pause, catching up | what the [`Backlog`](crate::broker::Backlog) has no room for: [`Term::Overflow`], or [`Term::DeadLettered`] | no |
//! | [`Retry`] | what finds no room to wait: [`Term::Overflow`]; a dead letter where they are kept | yes |
//! | [`Breaker`](crate::broker::Breaker) that pauses | as a pause | no: waiting uses up no attempt |
//! | [`Breaker`](crate::broker::Breaker) that refuses | [`Term::Failed`], of kind [`Refused`](crate::broker::FailureKind::Refused) | no |
//! | dead letters | the oldest, when the store is full: [`evicted`](crate::broker::dead_letters::DeadLetterCounts::evicted) | no |
//! | replay | what has expired since: [`Term::Expired`] | yes |
//!
//! # What a shutdown does
//!
//! [`Broker::shutdown`](crate::Broker::shutdown) refuses what comes, delivers what may be delivered now, and
//! returns by its limit, give or take some milliseconds. Its report says where the rest is:
//!
//! | message | becomes |
//! |---|---|
//! | in a ring, its handler free | delivered, as far as the limit allows |
//! | waiting for a pause, a breaker, or a later attempt | handed back in [`undelivered`](crate::broker::ShutdownReport::undelivered): [`Term::Undelivered`]. No attempt is made early, and none is given up |
//! | waiting, and expired | [`Term::Expired`] |
//! | kept with a token | waited for, as long as the limit allows; then [`Term::InDoubt`], and [listed](crate::broker::ShutdownReport::in_doubt) |
//! | in a call that does not return | [`Term::InDoubt`]; the report [names it](crate::broker::ShutdownReport::abandoned), also if its consumer [was replaced](crate::broker::Dispatcher::rescuable) |
//! | behind a call that does not return | handed back |
//! | a dead letter, being replayed or not | in the store, which can still be asked |
//! | handed back, and dead letters [outlive the process](crate::broker::BrokerBuilder::durable_dead_letters) | kept there as well, of kind [`Undelivered`](crate::broker::FailureKind::Undelivered), if there is room beside the letters; [`kept`](crate::broker::ShutdownReport::kept) says how many. It can be replayed by another process |
//! | handed back, but its `Clone` panics or hangs | counted in [`withheld`](crate::broker::ShutdownReport::withheld) |
//!
//! What handlers publish for each other is refused once a shutdown has begun.
//! [`Broker::quiesce`](crate::Broker::quiesce) before it refuses all others first, and lets handlers come to their end.
//!
//! Dropping the last [`Broker`](crate::Broker) closes it in the same way but waits for nothing, and there is no report.
//!
//! [`Retry`]: crate::broker::Retry
//! [`Retry::attempts`]: crate::broker::Retry::attempts
//! [`SubscriptionLedger`]: crate::broker::SubscriptionLedger
//! [`Term`]: crate::broker::Term
//! [`Term::Conflated`]: crate::broker::Term::Conflated
//! [`Term::Duplicate`]: crate::broker::Term::Duplicate
//! [`Term::DeadLettered`]: crate::broker::Term::DeadLettered
//! [`Term::Expired`]: crate::broker::Term::Expired
//! [`Term::Failed`]: crate::broker::Term::Failed
//! [`Term::Filtered`]: crate::broker::Term::Filtered
//! [`Term::InDoubt`]: crate::broker::Term::InDoubt
//! [`Term::Overflow`]: crate::broker::Term::Overflow
//! [`Term::Undelivered`]: crate::broker::Term::Undelivered
