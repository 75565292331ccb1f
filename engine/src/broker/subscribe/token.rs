//! Tokens: messages that a handler keeps beyond its call, and settles later, from any thread.

use super::handled::{HandlerError, RetryAfter};
use super::registry::SubscriptionState;
use crate::broker::waiting::held::{Held, Returned, Said, TakeBack};
use crate::broker::waiting::hold::Settled;
use crate::clock::{Clock, Timestamp};
use crate::message::{Message, Occasion, Origin};
use crate::sync::Process;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// For how long a handler may keep messages, and how many at once.
/// See [`SubscriptionBuilder::subscribe_with_tokens`](super::builder::SubscriptionBuilder::subscribe_with_tokens).
///
/// ```
/// use ringmain::broker::Acknowledgement;
/// use std::time::Duration;
///
/// let at_most_four = Acknowledgement::within(Duration::from_secs(60)).in_flight(4);
/// # let _ = at_most_four;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it does nothing until a subscription has it"]
pub struct Acknowledgement {
    pub(crate) limit: Duration,
    pub(crate) in_flight: usize,
}

impl Acknowledgement {
    /// Has each message settled within that time of the broker's clock, or it has failed. One message is in flight.
    ///
    /// It is the consumer who declares that, as soon as it looks. While it is in another call a token that is given
    /// back after its time still settles its message, as it says.
    pub const fn within(limit: Duration) -> Self {
        Self { limit, in_flight: 1 }
    }

    /// Has at most so many messages in flight: begun and not settled. Others wait in the
    /// [backlog](super::builder::SubscriptionBuilder::backlog). 0 is an error.
    pub const fn in_flight(mut self, most: usize) -> Self {
        self.in_flight = most;
        self
    }
}

impl Default for Acknowledgement {
    /// Within 30 seconds, and one in flight.
    fn default() -> Self {
        Self::within(Duration::from_secs(30))
    }
}

/// A message that its handler keeps, and the duty to settle it: with [`ack`](Self::ack) when it has been handled, with
/// [`fail`](Self::fail) or [`retry_after`](Self::retry_after) when it has not. Each takes the token, so that a message
/// is settled once. It can be moved to any thread.
///
/// One that is dropped has failed, with kind [`Cancelled`](crate::broker::FailureKind::Cancelled), or
/// [`Panic`](crate::broker::FailureKind::Panic) where a panic drops it: neither is lost. One that is leaked fails
/// when its time is up. Settling does not wait: the consumer counts it, and decides what follows, when it has read of
/// it. It allocates, locks briefly, and wakes the consumer if that sleeps.
///
/// A token keeps the memory of its ring, not its broker: that may be shut down meanwhile.
#[must_use = "dropped, the message has failed"]
pub struct Token<P> {
    /// Nothing once it was given back.
    held: Option<Arc<Held<P>>>,
    number: u64,
    limit: Duration,
    state: Arc<SubscriptionState>,
    home: Arc<dyn TakeBack<P>>,
    origin: Origin,
    occasion: Occasion,
    process: Process,
}

/// Why a token settles nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Its time was up: the message has failed, and may be being tried again. A token that is given back so is
    /// counted as [`late`](crate::broker::SubscriptionLedger::late).
    #[error(
        "the message was kept for longer than its limit, and has failed: settle sooner, or extend the limit"
    )]
    TooLate,
    /// The subscription, or the broker, has ended, and nobody waits for it. It is counted as
    /// [`in_doubt`](crate::broker::Term::InDoubt).
    #[error("the subscription has ended, and the message is counted as in doubt")]
    Ended,
    /// The broker belongs to the process that this one is a fork of, and so does the message.
    #[error("the broker's threads are in the process that this one is a fork of")]
    Forked,
}

/// Where tokens come back to, and what they are made of.
pub(crate) struct Issuer<P> {
    pub(crate) home: Arc<dyn TakeBack<P>>,
    pub(crate) origin: Origin,
    pub(crate) clock: Clock,
    pub(crate) process: Process,
}

impl<P> Token<P> {
    pub(crate) fn new(
        held: Arc<Held<P>>,
        number: u64,
        limit: Duration,
        state: Arc<SubscriptionState>,
        issuer: &Issuer<P>,
    ) -> Self {
        let Issuer { home, origin, clock, process } = issuer;
        let (home, origin, occasion, process) = (home.clone(), *origin, Occasion::apart(clock), *process);
        Self { held: Some(held), number, limit, state, home, origin, occasion, process }
    }

    /// Says that the message was handled.
    ///
    /// # Errors
    /// Its time was up, or its subscription or the broker have ended.
    pub fn ack(mut self) -> Result<(), TokenError> {
        self.settle(Settled::Well, Said::Done)
    }

    /// Says that handling the message has failed: it is tried again, or becomes a dead letter, as the subscription was
    /// told. A [`Permanent`](crate::broker::Permanent) error is not tried again.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn fail(mut self, error: impl Into<HandlerError>) -> Result<(), TokenError> {
        self.settle(Settled::Badly, Said::Failed(error.into()))
    }

    /// Says so, and after what time the message is to be tried again if the subscription's policy still tries.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn retry_after(mut self, delay: Duration, error: impl Into<HandlerError>) -> Result<(), TokenError> {
        self.settle(Settled::Badly, Said::Failed(Box::new(RetryAfter::new(delay, error))))
    }

    /// Has the limit begin anew, from now.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn extend(&self) -> Result<(), TokenError> {
        if self.process.is_forked() {
            return Err(TokenError::Forked);
        }
        let until = self.occasion.clock.now().after(self.limit);
        let Some(held) = &self.held else { return Ok(()) };
        held.hold.extend(until).map_err(error_of)
    }

    /// The moment, of the broker's clock, at which its time is up, unless it is [extended](Self::extend). None where it
    /// is up, or the subscription or the broker has ended.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.held.as_ref()?.hold.deadline()
    }

    /// Returns whether there is no use in going on: nobody waits for the message to be settled any more, since its time
    /// is up, or the subscription or the broker has ended. A look at one word, and at the clock; from any thread.
    ///
    /// ```
    /// # use ringmain::Broker;
    /// # use ringmain::broker::{Acknowledgement, Token};
    /// # use std::time::Duration;
    /// let mut simulation = Broker::of::<u32>().simulate()?;
    /// let broker = simulation.broker();
    /// let (sender, jobs) = std::sync::mpsc::channel::<Token<u32>>();
    /// let terms = Acknowledgement::within(Duration::from_secs(30));
    /// let _jobs = broker.subscription().pattern("jobs").subscribe_with_tokens(terms, move |token| {
    ///     let _ = sender.send(token);
    /// })?;
    /// let _ = broker.publisher("jobs")?.publish(1)?;
    /// simulation.run();
    /// let job = jobs.try_recv()?;
    /// assert_eq!(job.deadline().map(|at| at.as_nanos()), Some(30_000_000_000));
    /// assert!(!job.is_cancelled());
    /// simulation.advance(Duration::from_secs(30));
    /// assert!(job.is_cancelled() && job.deadline().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_cancelled(&self) -> bool {
        self.deadline().is_none_or(|at| self.occasion.clock.now() >= at)
    }

    fn settle(&mut self, how: Settled, said: Said) -> Result<(), TokenError> {
        if self.process.is_forked() {
            return Err(TokenError::Forked);
        }
        self.give_back(how, said).map_err(|settled| self.refused(settled))
    }

    fn give_back(&mut self, how: Settled, said: Said) -> Result<(), Settled> {
        let Some(held) = self.held.take() else { return Ok(()) };
        held.hold.settle(how)?;
        // Where the consumer has gone meanwhile, whoever has ended what was in flight has read the word.
        self.home.take_back(Returned { subscription: self.state.id, number: self.number, said, held });
        Ok(())
    }

    /// Counts it if it comes too late: once, since whoever gives it back has it no longer.
    fn refused(&self, settled: Settled) -> TokenError {
        let error = error_of(settled);
        if error == TokenError::TooLate {
            self.state.count_late();
        }
        error
    }

    /// Takes it back that has not been handed out.
    pub(crate) fn revoke(mut self) {
        self.held = None;
    }
}

fn error_of(settled: Settled) -> TokenError {
    match settled {
        Settled::TimedOut => TokenError::TooLate,
        Settled::Ended | Settled::Well | Settled::Badly => TokenError::Ended,
    }
}

impl<P: 'static> Token<P> {
    /// The message.
    pub fn message(&self) -> Message<'_, P> {
        let held = self.held.as_ref().unwrap_or_else(|| unreachable!("it is there until the token is taken"));
        held.parked.message(self.origin, &self.occasion)
    }
}

impl<P> Drop for Token<P> {
    fn drop(&mut self) {
        if self.held.is_some() && self.process.is_forked() {
            // In a child it is a copy, and takes none of its parent's locks.
            return std::mem::forget(self.held.take());
        }
        let in_panic = std::thread::panicking();
        // Whoever has settled it before has counted it.
        let _ = self.give_back(Settled::Badly, Said::Dropped { in_panic });
    }
}

impl<P: 'static> fmt::Debug for Token<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("subscription", &self.state.name).finish_non_exhaustive()
    }
}
