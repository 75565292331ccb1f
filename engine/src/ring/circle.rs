//! Waiting for room from inside of a ring, where threads can wait for each other in a circle.
//!
//! A thread that runs a handler of a ring, or fills one of its slots, may be what keeps that ring
//! full. If it waits for room in a ring that is kept full by a thread that waits in turn, and so on
//! back to itself, none of these waits ever ends. That can happen between rings of any kind: a
//! handler publishes into its own ring, two dispatchers of a broker into each other's, three
//! brokers round in a circle.
//!
//! # The protocol
//!
//! There is one list in the process of those who wait inside of a ring. A thread that finds the
//! ring that it wants full enters itself, with the parts that it plays (`reentrancy.rs`), and then
//! looks whether the way leads back to it: from the ring that it wants, if that is *blocked*, to all
//! on the list whose part keeps it so (`part.rs`), to the rings that they want, and on. If it does,
//! the thread does not wait, and the others go on. Both steps happen under one lock. So of several
//! threads that close a circle at the same time the last to enter finds the others there, and sees
//! at least what these saw when they found their rings full.
//!
//! # Why nobody is refused who could go on
//!
//! Whatever the way leads over holds until one of those waits ends. A thread on the list does not
//! move its part, and has entered it under the lock: where it stands is read as it is. Claims and
//! other consumers only advance, so an old value of theirs makes a ring seem to have room, or to be
//! held up by them, but never by the thread on the list. A ring that has room, or is closed, leads
//! nowhere: whoever waits for it has only not been run yet. A wait with a limit counts as any other.
//!
//! Some cases are judged by less than that, where more than one thread could be meant, and may refuse
//! a wait that another thread would end. All of them are those of raw rings:
//!
//! * of several that fill slots of one ring at this moment, the one that waits counts as the one whose
//!   slot is wanted;
//! * a worker of a keyed stage counts as holding up all lanes of the stage;
//! * a worker of a raced group counts as holding up what another one has left behind in a panic;
//! * while a managed worker's handler is made or dropped, the worker counts as its whole group.
//!
//! # Why nobody waits in a circle for ever
//!
//! A circle may also close without a new wait: a ring that was held up by somebody who then moves on
//! is filled again, up to where a thread on the list stands. So who waits does it in slices and looks
//! again after each. The first slice passes before a thread enters: most waits are over by then, and
//! cost no lock.
//!
//! Not seen is what no ring knows of: a handler that waits by other means for a thread that
//! publishes, or a thread that polls several rings in turn and waits in a handler of one of them,
//! which holds up the others.
//!
//! # Fork
//!
//! In a child that was made by `fork` the threads of the list are not there, and the lock may be
//! held for ever. So the list belongs to a process, and nobody waits for the lock in order to enter
//! or to look: who does not get it looks after the next slice.

use super::control::Core;
use super::part::Blocked;
use super::reentrancy::Parts;
use crate::sync::{Mutex, Process, edge, process_wide};
use crate::wait::Deadline;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;
use std::time::Duration;

/// The shortest slice of a wait, from which on slices double.
const SHORTEST: Duration = Duration::from_micros(200);
/// The longest slice of a wait.
const LONGEST: Duration = Duration::from_millis(20);

/// Whether a thread enters before its first slice. A model, in which no time passes, knows of one slice
/// without end.
const ENTERS_FIRST: bool = cfg!(ringmain_loom);

process_wide! {
    static WAITS: Mutex<Waits> = Mutex::new(Waits { process: None, first: ptr::null() });
}

/// The wait would never end: it is one of a circle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Circle;

/// All who wait for room inside of a ring, in one process.
struct Waits {
    process: Option<Process>,
    first: *const Wait<'static>,
}

// SAFETY: what the pointers lead to may be looked at by whoever has the list, which is under a lock:
// see `Waits::enter`.
unsafe impl Send for Waits {}

/// One thread's wait for room in a ring, on its stack.
struct Wait<'r> {
    wanted: Wanted<'r>,
    parts: Parts,
    /// Whether it is on the list. Only its own thread looks.
    is_on_list: Cell<bool>,
    /// The next on the list. As `mark`, only for who has the lock.
    next: Cell<*const Wait<'static>>,
    mark: Cell<Mark>,
}

/// How far a search has come with a wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Unseen,
    /// The way leads to it.
    Reached,
    /// And on from it.
    Followed,
}

/// Ring that a thread waits for, whatever its events are.
#[derive(Clone, Copy)]
struct Wanted<'r> {
    core: *const (),
    blocked: unsafe fn(*const ()) -> Option<Blocked>,
    _core: PhantomData<&'r ()>,
}

impl<'r> Wanted<'r> {
    fn new<E>(core: &'r Core<E>) -> Self {
        /// # Safety
        /// The pointer is to a `Core<E>` that is there.
        unsafe fn blocked<E>(core: *const ()) -> Option<Blocked> {
            // SAFETY: as the caller promises. No event is touched, whose type may belong to one
            // thread; all else in a core may be looked at by any.
            unsafe { &*core.cast::<Core<E>>() }.blocked()
        }
        Self { core: ptr::from_ref(core).cast(), blocked: blocked::<E>, _core: PhantomData }
    }

    fn blocked(&self) -> Option<Blocked> {
        // SAFETY: `new` has put together the two, and the core is borrowed.
        unsafe { (self.blocked)(self.core) }
    }
}

impl Waits {
    /// Adds a wait.
    ///
    /// # Safety
    /// It stays where it is, and its thread inside of all the rings that it is inside of now, until
    /// it is taken off the list.
    unsafe fn enter(&mut self, wait: &Wait<'_>) {
        wait.next.set(self.first);
        wait.is_on_list.set(true);
        self.first = ptr::from_ref(wait).cast();
    }

    /// Takes a wait off, which is on the list.
    fn leave(&mut self, left: &Wait<'_>) {
        let (wait, next) = (ptr::from_ref(left).cast(), left.next.get());
        let before = self.iter().find(|other| other.next.get() == wait);
        match before {
            Some(before) => before.next.set(next),
            None => self.first = next,
        }
        left.is_on_list.set(false);
    }

    fn iter(&self) -> impl Iterator<Item = &Wait<'static>> {
        // SAFETY: what is on the list is there, and may be looked at while the list is borrowed: it
        // is taken off under the same lock.
        let get = |wait: *const Wait<'static>| unsafe { wait.as_ref() };
        std::iter::successors(get(self.first), move |wait| get(wait.next.get()))
    }

    /// Returns whether the way leads from a wait on the list back to it. Takes a time in the square
    /// of how many wait.
    fn lead_back_to(&self, me: &Wait<'_>) -> bool {
        self.iter().for_each(|wait| wait.mark.set(Mark::Unseen));
        me.mark.set(Mark::Reached);
        while let Some(reached) = self.iter().find(|wait| wait.mark.get() == Mark::Reached) {
            reached.mark.set(Mark::Followed);
            let Some(blocked) = reached.wanted.blocked() else { continue };
            if me.blocks(&blocked) {
                return true;
            }
            let unseen = self.iter().filter(|wait| wait.mark.get() == Mark::Unseen);
            unseen.filter(|wait| wait.blocks(&blocked)).for_each(|wait| wait.mark.set(Mark::Reached));
        }
        false
    }
}

impl Wait<'_> {
    fn blocks(&self, blocked: &Blocked) -> bool {
        // SAFETY: the parts are those of the wait's thread, which leaves none before the wait ends.
        unsafe { self.parts.block(blocked) }
    }

    /// Returns whether it waits for itself, without regard to others.
    fn is_for_itself(&self) -> bool {
        self.wanted.blocked().is_some_and(|blocked| self.blocks(&blocked))
    }

    /// Enters it, unless it is on the list, and returns whether it closes a circle.
    ///
    /// # Safety
    /// As for [`Waits::enter`].
    unsafe fn closes_a_circle(&self) -> bool {
        let Some(mut waits) = WAITS.lock_unless_taken() else { return false };
        let process = Some(Process::current());
        if waits.process != process {
            // Those on the list are threads of the process that this one is a fork of.
            *waits = Waits { process, first: ptr::null() };
        }
        if !self.is_on_list.get() {
            // SAFETY: as the caller promises.
            unsafe { waits.enter(self) };
        }
        let is_one = !edge::left_out("look-for-circles") && waits.lead_back_to(self);
        if is_one {
            // At once: nobody else is to find a circle that this thread is about to leave.
            waits.leave(self);
        }
        is_one
    }
}

/// Waits for room in a ring on a thread that plays parts in rings: by `wait`, which does so until the
/// moment that it is given, and at most until the deadline. Returns what `wait` did, or nothing at the
/// deadline.
///
/// # Errors
/// The wait would never end.
pub(super) fn wait_inside<E, T>(
    core: &Core<E>,
    parts: Parts,
    deadline: Deadline,
    mut wait: impl FnMut(Deadline) -> Option<T>,
) -> Result<Option<T>, Circle> {
    /// Takes a wait off the list, panic or not.
    struct Leaving<'w, 'r>(&'w Wait<'r>);
    impl Drop for Leaving<'_, '_> {
        fn drop(&mut self) {
            if self.0.is_on_list.get() {
                // Its thread has had the lock, so it is not one that nobody gives back.
                WAITS.lock().leave(self.0);
            }
        }
    }
    let me = Wait {
        wanted: Wanted::new(core),
        parts,
        is_on_list: Cell::new(false),
        next: Cell::new(ptr::null()),
        mark: Cell::new(Mark::Unseen),
    };
    if me.is_for_itself() {
        return Err(Circle);
    }
    let leaving = Leaving(&me);
    for slice in 0_u32.. {
        // SAFETY: `me` stays here, and this thread in this function, until `leaving` is dropped.
        if (slice > 0 || ENTERS_FIRST) && unsafe { leaving.0.closes_a_circle() } {
            return Err(Circle);
        }
        if let Some(outcome) = wait(end_of_slice(slice, deadline)) {
            return Ok(Some(outcome));
        }
        if deadline.has_passed() {
            break;
        }
    }
    Ok(None)
}

/// Returns until when to wait in a slice that begins now.
fn end_of_slice(slice: u32, deadline: Deadline) -> Deadline {
    if cfg!(ringmain_loom) {
        return deadline;
    }
    deadline.or_after(LONGEST.min(SHORTEST.saturating_mul(1 << slice.min(10))))
}
