//! Order: what arrives in which, and what changes it.
//!
//! # What holds
//!
//! * **One publisher, one subscription:** messages arrive in the order in which they were published. A
//!   [`Publisher`](crate::broker::Publisher) belongs to one thread at a time.
//! * **Several publishers, one dispatcher:** all its consumers see one order, that of the ring. Each publisher's
//!   own order is kept in it; how they are mixed is up to their race.
//! * **Several dispatchers:** no order between them. A subscription has one dispatcher, so this concerns different
//!   ones.
//! * **Stages of a dispatcher:** a stage sees a message when the one before has gone through it. A message that
//!   waits beside the ring (paused, to be tried again) is gone through: the next stage does not wait for it.
//! * **One message, several subscriptions of one consumer:** one after the other. Which one comes first is not
//!   promised.
//!
//! # What changes it
//!
//! Order is that of first calls. This is what becomes of it:
//!
//! | what happens | later messages of this subscription | order |
//! |---|---|---|
//! | a call fails, no retry | go on | kept |
//! | a call fails, a [`Retry`](crate::broker::Retry) | go on, and overtake it | first calls in order; the failed one comes again later |
//! | a call fails, a retry [in order](crate::broker::Retry::in_order) | wait behind it, in the backlog | kept |
//! | [conflation](crate::broker::SubscriptionBuilder::conflate) | a newer one takes the place of an older one with its key | that of the places, with gaps; a value that failed may be replaced before it is tried again |
//! | several [in flight](crate::broker::Acknowledgement::in_flight) | are begun before the earlier ones are settled | begun in order; settled in any |
//! | a pause | wait in the backlog | kept: what waited comes before what comes then |
//! | a breaker opens, and [pauses](crate::broker::WhileOpen::Pause) | wait in the backlog | kept; the oldest is the probe, a due retry and what waits taking turns |
//! | a breaker opens, and [refuses](crate::broker::WhileOpen::Refuse) or [makes letters](crate::broker::WhileOpen::DeadLetter) | end at once, while it is open | kept, with gaps |
//! | a backlog is full | the newest or the oldest give way | kept, with gaps |
//! | messages expire while they wait | go on | kept, with gaps |
//! | a replay | mix with what is replayed | letters among themselves from the oldest; none between them and the others |
//! | a shutdown | are handed back behind what waited | kept, for each consumer |
//!
//! One subscription that waits does not hold up the others of its consumer: its messages are copied, and the ring
//! goes on.
//!
//! ```
//! use ringmain::Broker;
//! use ringmain::broker::{Jitter, Retry};
//! use std::sync::mpsc::channel;
//! use std::time::Duration;
//!
//! let arrived = |retry: Retry| -> Result<Vec<u32>, Box<dyn std::error::Error>> {
//!     let mut simulation = Broker::of::<u32>().simulate()?;
//!     let broker = simulation.broker();
//!     let (sender, handled) = channel();
//!     let _orders = broker.subscription().pattern("orders").retry(retry).subscribe(move |order| {
//!         if **order == 2 && order.attempt() == 1 {
//!             return Err("not yet");
//!         }
//!         let _ = sender.send(**order);
//!         Ok(())
//!     })?;
//!     let mut publisher = broker.publisher("orders")?;
//!     for order in 1..=4 {
//!         let _ = publisher.publish(order)?;
//!     }
//!     simulation.advance(Duration::from_secs(1));
//!     Ok(handled.try_iter().collect())
//! };
//! let retry = Retry::constant(Duration::from_millis(10)).jitter(Jitter::None);
//! assert_eq!(arrived(retry.clone())?, [1, 3, 4, 2]);
//! assert_eq!(arrived(retry.in_order())?, [1, 2, 3, 4]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What order costs
//!
//! In order, one message that cannot be handled holds its whole subscription up until its attempts are used up, and the
//! backlog decides what becomes of the others: give such a subscription a [`Backlog`](crate::broker::Backlog) that is
//! large enough for the longest time of all attempts, or few attempts.
