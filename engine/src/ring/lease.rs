//! The lease: what lets a consumer that is stuck in a handler be replaced, safely.
//!
//! A consumer works under a lease on its position. Before each call of user code it stores what it
//! is about to handle, light fence (edge `LEASE`), and looks at its control word; after the call it
//! does the same with "nothing" (edge `LEASE_RETURN`). A supervisor that stops it sets the word,
//! heavy fence, and reads what is being handled. The fences are in one total order, which leaves
//! three cases:
//!
//! * The supervisor reads *nothing*. The consumer is in our own code, which is short; its next look
//!   finds the word set, no further call begins, and it hands over by itself.
//! * The supervisor reads *a call*. Both sides then want the verdict, a word that is written once
//!   by compare-and-swap: the consumer when its call has returned, the supervisor when it has
//!   waited for that as long as it cares to. Where the consumer is first, it settles what it did,
//!   and hands over by itself.
//! * The same, and the supervisor is first. The call's outcome is in doubt for ever, the supervisor
//!   owns the position, and the consumer finds out when its call returns.
//!
//! So a take-over has two steps: [`Supervisor::stop`], and, only against who was in a call then,
//! [`StoppedCall::take_over`]. However long the supervisor waits between them, the second step is
//! about the call that the first one read: a stopped consumer begins no other, and claims the
//! verdict before it is refused the next.
//!
//! A consumer whose call returns while a supervisor has read that call cannot miss the word: the
//! supervisor's fence came before the consumer's closing fence, or the supervisor would have read
//! *nothing* or something later.
//!
//! The verdict needs no ordering: it is one word, decided by a swap, and hands over nothing but
//! itself. What the supervisor goes on to read, the delivery and the consumer's sequence, was
//! written before the call that it read (edge `LEASE_CALL`), and stays so; each event comes with
//! its own stamp.
//!
//! A consumer in a *parked* call, which holds no event, can also be replaced by another that goes on
//! where it stands ([`Supervisor::replace`]). That is one step, and can fail without harm: the
//! supervisor says which call it wants, by its number, sets a bit of its own, heavy fence, and reads
//! the call. If it is the one that is wanted, both sides swap the word that says so: the supervisor
//! to take the call, the consumer to keep it when it has returned. Where the consumer is first it
//! goes on as if nothing had been; else it is lost, as above, and never touches the ring again. A call
//! that is about to begin is not wanted: it says that it was not refused, and only then can be taken. The
//! wish for one call says nothing about another, so this may be tried any number of times. Stops and
//! replacements exclude each other: a stopped consumer is not replaced, and one that was replaced has
//! nothing left to be stopped.
//!
//! There are three kinds of calls, and the call's word says which one runs. One handles an *event*:
//! who takes it over has that event in doubt, and reads from there on. One *clears* the slot of an
//! event that has been handled (`slot_policy.rs`), because that is user code too, and writes: whoever
//! takes it over reads from the next event on. One handles what was *parked* outside of the ring,
//! between two polls: who takes it over has no event in doubt, and reads all that was not released.
//! The poller makes such calls, which it cannot while it polls. A consumer that has been stopped may
//! be ahead of earlier stages; it begins no call, and so clears nothing.
//!
//! The ring's memory safety rests on this. Who has taken a position over reads slots that the
//! stopped consumer has not released, so the stopped consumer must never again move its sequence;
//! and nobody else may move it either, because the stuck call still holds a reference to its event.
//! A parked call holds none, and all that its consumer had handled has been released. So who takes
//! its place moves the sequence, and nobody else does: the one that was replaced is lost.
//!
//! A ring whose position was taken over is at its end: what it holds can be read out as [`Takeover`],
//! and it stays allocated until the stuck call has returned. It is this file and the poller that see
//! to that, and not their caller: handlers get the lease as a shared reference, because a mutable one
//! could be swapped with another poller's, and a sequence that a caller made up is never read below
//! what the consumer has released.

use super::barrier::{Barrier, finished};
use super::control::Core;
use super::gate::Stage;
use super::position::Position;
use super::sequence::Sequence;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::edge::{self, LEASE, LEASE_CALL, LEASE_RETURN, POST_MAIL};
use crate::sync::panics::discard_panic;
use crate::sync::{CachePadded, Mutex, fence, thread};
use crate::wait::Deadline;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Bits of the control word.
const MAIL: u32 = 1;
const STOP: u32 = 2;
const REPLACE: u32 = 4;

/// Values of the verdict.
const OPEN: u32 = 0;
const RETURNED: u32 = 1;
const TAKEN: u32 = 2;

/// What has become of a parked call that somebody wants: the lowest bits of that word, whose others have the call's
/// number.
const WANTED: u64 = 1;
const GIVEN: u64 = 2;
const KEPT: u64 = 3;

/// The call's word when no call runs. Otherwise its lowest bits say of which kind it is, and the
/// others have its number.
const NOTHING: u64 = 0;
const EVENT: u64 = 1;
const CLEARING: u64 = 2;
const PARKED: u64 = 3;
const KIND_BITS: u32 = 2;
const KINDS: u64 = (1 << KIND_BITS) - 1;

/// A call of user code under a [`Lease`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// It handles a delivery of an event.
    Event {
        /// The event's.
        sequence: Sequence,
        /// As it was given to [`Lease::call`].
        delivery: u64,
    },
    /// It clears the slot of an event that has been handled
    /// ([`SlotPolicy::Clear`](super::SlotPolicy::Clear)).
    Clearing {
        /// The event's.
        sequence: Sequence,
    },
    /// It handles a delivery of what was parked outside of the ring.
    Parked {
        /// The number that was given to [`Poller::call_parked`](super::Poller::call_parked).
        number: u64,
        /// As it was given there.
        delivery: u64,
    },
}

impl Call {
    /// Reads the call's word. The delivery is the one that was stored before it.
    fn from_word(word: u64, delivery: u64) -> Option<Self> {
        let number = word >> KIND_BITS;
        match word & KINDS {
            EVENT => Some(Self::Event { sequence: number, delivery }),
            CLEARING => Some(Self::Clearing { sequence: number }),
            PARKED => Some(Self::Parked { number, delivery }),
            _ => None,
        }
    }

    /// Returns the delivery that the call makes, whatever of. None where it makes none.
    pub fn delivery(&self) -> Option<u64> {
        match *self {
            Self::Event { delivery, .. } | Self::Parked { delivery, .. } => Some(delivery),
            Self::Clearing { .. } => None,
        }
    }
}

/// What a consumer and its supervisors share.
struct LeaseState {
    /// Written seldom, looked at before each call.
    control: CachePadded<AtomicU32>,
    /// Written by the consumer around each call: its kind and number, or `NOTHING`.
    call: CachePadded<AtomicU64>,
    /// Which delivery the call makes; written before `call`.
    delivery: AtomicU64,
    verdict: AtomicU32,
    /// The last parked call that was not refused: its word.
    begun: AtomicU64,
    /// The parked call that somebody has wanted last, to replace the consumer.
    wanted: AtomicU64,
    /// Where the consumer stands in a parked call; written before `call`.
    parked_at: AtomicU64,
    /// The tombstones that it has passed by then.
    tombstones: AtomicU64,
    /// What has become of the consumer. It takes this lock only where it stops itself: no call waits for it.
    fate: Mutex<Fate>,
    /// The consumer's sequence, which guards the slots that a supervisor reads.
    released: Position,
    /// All stages before this consumer.
    dependencies: Vec<Stage>,
    /// Those of them that may change events.
    writers: Vec<Stage>,
}

/// What supervisors have done with a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Nothing,
    Stopped,
    Replaced,
}

/// The consumer's side. See [`Poller::poll_leased`](super::Poller::poll_leased).
pub struct Lease {
    shared: Arc<LeaseState>,
    /// Whether a supervisor has taken the position over: the poller must not touch the ring again.
    lost: Cell<bool>,
    /// Whether it has put another consumer in this one's place.
    is_replaced: Cell<bool>,
}

impl LeaseState {
    /// Swaps the word of a call that is wanted, for one that it is then. Returns whether nobody was before.
    ///
    /// Relaxed: it decides one word, and hands over nothing but itself.
    fn decide(&self, number: u64, what: u64) -> bool {
        let (wanted, decided) = (number << KIND_BITS | WANTED, number << KIND_BITS | what);
        self.wanted.compare_exchange(wanted, decided, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Keeps a call that somebody may want. Returns whether it has been given away.
    fn is_given_away(&self, number: u64) -> bool {
        if edge::left_out("keep-or-give") {
            return false;
        }
        // Behind the fence of the call that is wanted, what is read here is the wish for it, or what came of that.
        !self.decide(number, KEPT) && self.wanted.load(Ordering::Relaxed) == number << KIND_BITS | GIVEN
    }
}

/// The other side: posts mail, stops, takes over, watches. Cheap to clone.
pub struct Supervisor<E> {
    core: Arc<Core<E>>,
    shared: Arc<LeaseState>,
}

/// Says whether a consumer has been stopped, to whoever runs in one of its calls. It keeps the consumer's words, and
/// not its ring. Cheap to clone.
#[derive(Clone)]
pub(crate) struct StopSign(Arc<LeaseState>);

/// How a call under the lease went.
#[derive(Debug)]
pub enum Called<R> {
    /// The call returned, or panicked, and its outcome counts.
    Returned(std::thread::Result<R>),
    /// The consumer has been stopped; there was no call.
    Refused,
    /// The call returned, but the position had been taken over: its outcome must not count.
    TakenOver,
}

/// What a consumer was doing when it was stopped.
#[derive(Debug)]
pub enum Stopped<E> {
    /// Not in a call, or stopped before: it will notice, and hand over by itself.
    BetweenCalls,
    /// In a call. It hands over by itself once that has returned; until then its position can be
    /// taken over.
    InCall(StoppedCall<E>),
}

/// The call that a consumer was in when it was stopped, the last that it makes.
#[must_use = "a call that does not return is to be taken over"]
pub struct StoppedCall<E> {
    core: Arc<Core<E>>,
    shared: Arc<LeaseState>,
    call: Call,
}

/// The position of a consumer that was stopped while it was in a call: that call, and all events
/// that it has not handled.
pub struct Takeover<E> {
    core: Arc<Core<E>>,
    shared: Arc<LeaseState>,
    call: Call,
    /// Where the stopped consumer's sequence stands for ever: no slot from there on is reused.
    guarded: Sequence,
}

/// The place of a consumer that was replaced in a parked call: all that another needs to go on there.
pub(super) struct Vacated<E> {
    pub(super) core: Arc<Core<E>>,
    pub(super) barrier: Barrier,
    pub(super) position: Position,
    pub(super) next: Sequence,
    pub(super) tombstones: u64,
}

impl Lease {
    pub(super) fn new(released: Position, barrier: &Barrier) -> Self {
        fence::register();
        let shared = LeaseState {
            control: CachePadded::new(AtomicU32::new(0)),
            call: CachePadded::new(AtomicU64::new(NOTHING)),
            delivery: AtomicU64::new(0),
            verdict: AtomicU32::new(OPEN),
            begun: AtomicU64::new(NOTHING),
            wanted: AtomicU64::new(0),
            parked_at: AtomicU64::new(0),
            tombstones: AtomicU64::new(0),
            fate: Mutex::new(Fate::Nothing),
            released,
            dependencies: barrier.dependencies().to_vec(),
            writers: barrier.writers().to_vec(),
        };
        Self { shared: Arc::new(shared), lost: Cell::new(false), is_replaced: Cell::new(false) }
    }

    pub(super) fn supervisor<E>(&self, core: &Arc<Core<E>>) -> Supervisor<E> {
        Supervisor { core: core.clone(), shared: self.shared.clone() }
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.get()
    }

    /// Whether another consumer is in this one's place, and goes on.
    pub(crate) fn is_replaced(&self) -> bool {
        self.is_replaced.get()
    }

    /// Calls `f`, which handles the given delivery of the given event, unless the consumer has been
    /// stopped. A panic of `f` is caught. `f` is not to make such calls itself: while it goes on
    /// after one, it cannot be taken over.
    #[inline(always)]
    pub fn call<R>(&self, sequence: Sequence, delivery: u64, f: impl FnOnce() -> R) -> Called<R> {
        self.call_marked::<R, false>(sequence << KIND_BITS | EVENT, delivery, f)
    }

    /// Calls `f`, which handles the given delivery of what is parked under the given number, as
    /// [`call`](Self::call) does. No event may be in hand: all below `next` has been released, and that many tombstones
    /// were among it.
    pub(super) fn call_parked<R>(
        &self,
        number: u64,
        delivery: u64,
        (next, tombstones): (Sequence, u64),
        f: impl FnOnce() -> R,
    ) -> Called<R> {
        // Edge `LEASE_CALL` hands them over with the call.
        self.shared.parked_at.store(next, Ordering::Relaxed);
        self.shared.tombstones.store(tombstones, Ordering::Relaxed);
        let call = number << KIND_BITS | PARKED;
        self.call_marked::<R, true>(call, delivery, || {
            // Relaxed: who does not see it yet does not take the call, which is no harm.
            self.shared.begun.store(call, Ordering::Relaxed);
            f()
        })
    }

    /// Calls `f`, which clears the slot of an event that has been handled, as [`call`](Self::call)
    /// does. Where it is taken over, that slot is out of bounds, and nothing is in doubt.
    pub(super) fn call_clearing<R>(&self, sequence: Sequence, f: impl FnOnce() -> R) -> Called<R> {
        self.call_marked::<R, false>(sequence << KIND_BITS | CLEARING, 0, f)
    }

    /// Makes a call. Only in a parked one the consumer may be replaced: all others do not ask for that.
    #[inline(always)]
    fn call_marked<R, const IS_PARKED: bool>(
        &self,
        call: u64,
        delivery: u64,
        f: impl FnOnce() -> R,
    ) -> Called<R> {
        let shared = &*self.shared;
        let watched = if IS_PARKED { STOP | REPLACE } else { STOP };
        shared.delivery.store(delivery, Ordering::Relaxed);
        // Edge `LEASE_CALL`, release side.
        shared.call.store(call, LEASE_CALL.release());
        fence::light(&LEASE);
        if shared.control.load(Ordering::Relaxed) & watched != 0 && (!IS_PARKED || self.may_not_call(call)) {
            return self.refuse();
        }
        let outcome = catch_unwind(AssertUnwindSafe(f));
        shared.call.store(NOTHING, Ordering::Relaxed);
        fence::light(&LEASE_RETURN);
        if shared.control.load(Ordering::Relaxed) & watched != 0
            && (if IS_PARKED { self.has_lost(call) } else { self.has_lost_the_verdict() })
        {
            // The outcome does not count any more, but dropping it is user code, and may panic.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(outcome))) {
                discard_panic(payload);
            }
            return Called::TakenOver;
        }
        Called::Returned(outcome)
    }

    /// Returns whether a parked call that is about to begin is refused: the consumer has been stopped, or replaced.
    #[cold]
    fn may_not_call(&self, call: u64) -> bool {
        let control = self.shared.control.load(Ordering::Relaxed);
        self.has_lost_the_call(call, control) || control & STOP != 0
    }

    /// The supervisor may have read the call that was about to begin: then the verdict tells
    /// whether it was believed.
    #[cold]
    fn refuse<R>(&self) -> Called<R> {
        self.shared.call.store(NOTHING, Ordering::Relaxed);
        if self.lost.get() || self.has_lost_the_verdict() { Called::TakenOver } else { Called::Refused }
    }

    /// Returns whether a parked call that has returned does not count, since the position is somebody else's.
    #[cold]
    fn has_lost(&self, call: u64) -> bool {
        let control = self.shared.control.load(Ordering::Relaxed);
        self.has_lost_the_call(call, control) || control & STOP != 0 && self.has_lost_the_verdict()
    }

    /// Returns whether the call has been given away, to put another in this consumer's place. What is known of that and
    /// of a stop is to be of one moment: who is replaced is also told to stop.
    fn has_lost_the_call(&self, call: u64, control: u32) -> bool {
        if control & REPLACE != 0 && self.shared.is_given_away(call >> KIND_BITS) {
            self.lost.set(true);
            self.is_replaced.set(true);
        }
        self.is_replaced.get()
    }

    #[cold]
    fn has_lost_the_verdict(&self) -> bool {
        let verdict = &self.shared.verdict;
        let previous = verdict.compare_exchange(OPEN, RETURNED, Ordering::Relaxed, Ordering::Relaxed);
        self.lost.set(previous == Err(TAKEN));
        self.lost.get()
    }

    /// Whether there is mail, or a stop: something to be seen to before the next event.
    #[inline(always)]
    pub fn has_commands(&self) -> bool {
        self.shared.control.load(Ordering::Relaxed) != 0
    }

    /// Whether the consumer has been stopped.
    pub fn is_stopped(&self) -> bool {
        self.shared.control.load(Ordering::Relaxed) & STOP != 0
    }

    /// Takes the mail flag down; the mail is to be fetched afterwards. Edge `POST_MAIL`, acquire
    /// side.
    pub fn take_mail(&self) -> bool {
        self.shared.control.fetch_and(!MAIL, POST_MAIL.acquire()) & MAIL != 0
    }
}

impl StopSign {
    /// Whether the consumer has been stopped. It stays so, and whoever takes a position over has stopped it first.
    pub(crate) fn is_set(&self) -> bool {
        // Relaxed: it says nothing but itself.
        self.0.control.load(Ordering::Relaxed) & STOP != 0
    }
}

impl<E> Supervisor<E> {
    /// What says to the consumer's calls that it has been stopped.
    pub(crate) fn stop_sign(&self) -> StopSign {
        StopSign(self.shared.clone())
    }

    /// Says that there is mail, after it has been put in its box. Edge `POST_MAIL`, release side.
    /// The consumer may be asleep and is woken.
    pub fn announce_mail(&self) {
        self.shared.control.fetch_or(MAIL, POST_MAIL.release());
        self.core.control.signals.wake_consumers("wake-after-mail");
    }

    /// Closes the ring, which has many producers: they are refused from now on.
    pub(crate) fn close_ring(&self) {
        self.core.control.close(true);
    }

    /// Stops the consumer: no further call begins. Where it is in a call, its position can be taken
    /// over until that call returns, by whoever stopped it first; a later stop is told
    /// `BetweenCalls`, and so is one of a consumer that has been [replaced](Self::replace). Makes a system call.
    pub fn stop(&self) -> Stopped<E> {
        let shared = &*self.shared;
        let mut fate = shared.fate.lock();
        let is_first = *fate == Fate::Nothing || edge::left_out("one-fate");
        if is_first {
            *fate = Fate::Stopped;
        }
        drop(fate);
        shared.control.fetch_or(STOP, Ordering::Relaxed);
        fence::heavy(&LEASE);
        self.core.control.signals.wake_consumers("wake-after-stop");
        let call = self.current_call();
        // A later stop may meet a call that is about to be refused, whose consumer was promised to
        // the first.
        let Some(call) = call.filter(|_| is_first) else { return Stopped::BetweenCalls };
        let (core, shared) = (self.core.clone(), self.shared.clone());
        Stopped::InCall(StoppedCall { core, shared, call })
    }

    /// Takes the consumer's place, if it is in the parked call of that number and has not been stopped. See
    /// [`replace`](Self::replace).
    pub(super) fn take_place(&self, number: u64) -> Option<Vacated<E>> {
        let shared = &*self.shared;
        let mut fate = shared.fate.lock();
        if *fate != Fate::Nothing && !edge::left_out("one-fate") {
            return None;
        }
        let call = number << KIND_BITS | PARKED;
        let number = call >> KIND_BITS;
        // Relaxed, as the bit: the fences decide who sees them.
        shared.wanted.store(number << KIND_BITS | WANTED, Ordering::Relaxed);
        shared.control.fetch_or(REPLACE, Ordering::Relaxed);
        fence::heavy(&LEASE);
        // Edge `LEASE_CALL`, acquire side.
        let is_in_it = shared.call.load(LEASE_CALL.acquire()) == call;
        // One that is about to begin would be refused, and in doubt although it was never made.
        let has_begun =
            shared.begun.load(Ordering::Relaxed) == call || edge::left_out("replace-what-has-begun");
        let is_in_it = is_in_it && has_begun;
        if !is_in_it || !shared.decide(number, GIVEN) {
            shared.control.fetch_and(!REPLACE, Ordering::Relaxed);
            return None;
        }
        *fate = Fate::Replaced;
        // For who is in the call, and looks whether anybody waits for it.
        shared.control.fetch_or(STOP, Ordering::Relaxed);
        Some(Vacated {
            core: self.core.clone(),
            barrier: Barrier::new(shared.dependencies.clone(), shared.writers.clone()),
            position: shared.released.clone(),
            // Edge `LEASE_CALL` has handed over both.
            next: shared.parked_at.load(Ordering::Relaxed),
            tombstones: shared.tombstones.load(Ordering::Relaxed),
        })
    }

    /// The call that is running at this moment. A watcher's look, old when it returns: the delivery
    /// may be that of the next call.
    pub fn current_call(&self) -> Option<Call> {
        // Edge `LEASE_CALL`, acquire side.
        let word = self.shared.call.load(LEASE_CALL.acquire());
        Call::from_word(word, self.shared.delivery.load(Ordering::Relaxed))
    }

    /// Whether the consumer is in that call still. Unlike a look at [`current_call`](Self::current_call), the answer is
    /// about one moment after that look: behind the fence all is seen that the consumer had done when a delivery was
    /// read that it has stored since. Makes a system call.
    pub(crate) fn is_still_in(&self, call: Call) -> bool {
        fence::heavy(&LEASE);
        self.current_call() == Some(call)
    }

    /// The sequence below which the consumer has released all.
    pub(crate) fn released(&self) -> Sequence {
        self.shared.released.released()
    }

    /// Whether somebody has taken the position over from the consumer.
    pub fn is_taken_over(&self) -> bool {
        self.shared.verdict.load(Ordering::Relaxed) == TAKEN || *self.shared.fate.lock() == Fate::Replaced
    }
}

impl<E> StoppedCall<E> {
    /// Takes the consumer's position over, unless the call has returned. The call is in doubt from
    /// then on, and the caller owns the position.
    #[must_use = "who has taken a position over accounts for what it holds"]
    pub fn take_over(self) -> Option<Takeover<E>> {
        let Self { core, shared, call } = self;
        shared.verdict.compare_exchange(OPEN, TAKEN, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        // The consumer has stored it last before the call that was read, and never stores it again.
        let guarded = shared.released.hold_for_good();
        Some(Takeover { core, shared, call, guarded })
    }
}

impl<E> Takeover<E> {
    /// The call that did not return. Its delivery, where it makes one, is in doubt.
    pub fn call(&self) -> Call {
        self.call
    }

    /// The event of the call in doubt; or the first that has not been handled, where no event is in
    /// doubt.
    pub fn sequence(&self) -> Sequence {
        match self.call {
            Call::Event { sequence, .. } => sequence,
            // The slot that is being cleared is the stuck call's.
            Call::Clearing { sequence } => sequence + 1,
            // Between polls all that was handled has been released.
            Call::Parked { .. } => self.guarded,
        }
    }

    /// Reads all events from the one in doubt on, in order, up to the last that has been claimed;
    /// to be called when the ring is closed, so that this is the last there will be. Waits, at most
    /// for `limit` in all, for producers that have claimed and not yet published, and for earlier
    /// stages that may change events, and passes over what they still have in hand then. Returns
    /// the sequences of that: [`read`](Self::read) reads it once it is no longer
    /// [in hand](Self::is_in_hand). Tombstones are passed over.
    pub fn for_each(&self, limit: Duration, mut f: impl FnMut(Sequence, &E)) -> Vec<Sequence> {
        let deadline = Deadline::after(limit);
        let mut in_hand = Vec::new();
        let mut sequence = self.first();
        while sequence < self.core.control.claimed() {
            while !self.is_readable(sequence) && !deadline.has_passed() {
                thread::yield_now();
            }
            if self.is_readable(sequence) {
                self.read(sequence, |event| f(sequence, event));
            } else {
                in_hand.push(sequence);
            }
            sequence += 1;
        }
        in_hand
    }

    /// Reads one event from the one in doubt on: one that [`for_each`](Self::for_each) has shown,
    /// once more, or one that it has passed over and that is there by now. Nothing where there is
    /// none, or a tombstone.
    pub fn read<R>(&self, sequence: Sequence, f: impl FnOnce(&E) -> R) -> Option<R> {
        let slots = &self.core.slots;
        if sequence < self.first() || !self.is_readable(sequence) || slots.is_tombstone(sequence) {
            return None;
        }
        // SAFETY: `sequence` is published, and no earlier stage changes it any more. Its slot is
        // not reused: the stopped consumer has not released any slot from `self.guarded` on, it
        // still holds producers up, and it never moves again (see above).
        Some(unsafe { slots.read(sequence, f) })
    }

    /// Returns whether a producer has claimed this sequence and not yet published it, or an earlier
    /// stage may still change its event.
    pub fn is_in_hand(&self, sequence: Sequence) -> bool {
        !self.is_readable(sequence)
    }

    /// The first event that may be read.
    fn first(&self) -> Sequence {
        self.sequence().max(self.guarded)
    }

    fn is_readable(&self, at: Sequence) -> bool {
        let writers = if edge::left_out("takeover-behind-writers") { &[] } else { &*self.shared.writers };
        finished(writers, at + 1) > at && self.core.slots.is_published(at)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("is_stopped", &self.is_stopped()).finish_non_exhaustive()
    }
}

impl<E> Clone for Supervisor<E> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), shared: self.shared.clone() }
    }
}

impl<E> fmt::Debug for Supervisor<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("current_call", &self.current_call()).finish_non_exhaustive()
    }
}

impl<E> fmt::Debug for StoppedCall<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoppedCall").finish_non_exhaustive()
    }
}

impl<E> fmt::Debug for Takeover<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Takeover").field("call", &self.call).finish_non_exhaustive()
    }
}
