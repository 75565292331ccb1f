//! A group of workers that share one stage: each event goes to exactly one of them. The words that
//! they share.
//!
//! The idea is that of the LMAX disruptor's `WorkerPool`: one word counts what the group has
//! claimed, and each worker has a word of its own for the gate to look at. The protocol differs
//! where theirs loses a message: a worker there takes the next sequence before it is published and
//! waits with it in hand, and a pool that is halted forgets it. Here only what is published is
//! claimed, so that nobody waits with a claim, and a claim is always handled, or handed back.
//!
//! # The protocol
//!
//! ```text
//! worker                                          gate, and the barriers of later stages
//!   at = the claim word                             bound = the claim word          (edge CLAIM_IN_GROUP)
//!   look what is published from `at` on             for each worker's word          (edges RELEASE_SLOT, FINISH_STAGE)
//!   its word = at                                     bound = min(bound, word)
//!   swap the claim word, at -> end  (edge CLAIM_IN_GROUP)
//!   handle [at, end)
//!   its word = idle                 (edge RELEASE_SLOT)
//! ```
//!
//! A worker's word is a lower bound of what it has in hand; idle is higher than every sequence.
//! What the gate computes is right if no sequence below it is in a worker's hands, or in nobody's
//! and not handled. Take a sequence `s` below the bound, so below what the gate read of the claim
//! word. The worker that claimed `s` announced a bound not above `s` before its swap, and its swap
//! is what the gate read, or came before that in an unbroken row of swaps; so (edge
//! `CLAIM_IN_GROUP`) the gate then reads of that worker's word the announcement or something later.
//! It did not read the announcement, because that would have bounded it. What comes later is not
//! stored before `s` is handled, and is stored with release (an announcement too: it may be what
//! tells of the release before it). So `s` is handled, and the gate knows. Were the words read
//! before the claim word, a worker could be read as idle that has claimed when the claim word is
//! read.
//!
//! **Stale announcements.** The claim word may have moved since it was read. Then the swap fails,
//! and what was announced is a bound lower than need be, which holds producers up for no reason:
//! the worker announces its next look's place, or takes the announcement back when that look finds
//! nothing. Whoever read it meanwhile may have gone to sleep over it and is woken. The bound that
//! the gate computes can thus fall; nobody takes it for more than it is.
//!
//! **What crosses with the claim word.** All below it is published, and each worker has seen that,
//! and that the stages before have finished, before its swap. That is what producers rely on who
//! reuse a slot, and why the swap releases. Workers read the word without acquire: what they go on
//! to read they have looked up themselves.
//!
//! **Who is there.** The list of words is swapped whole when a worker comes or goes. A worker is in
//! the list before its first swap, so a gate that has read that swap finds it there. One that
//! leaves does so idle; what it had claimed and not handled, which is so only after a panic, it
//! leaves behind with its word, and the next worker to look adopts both. When the last worker
//! leaves, the claim word says so, and the stage is off the gate, like a consumer that has left:
//! events that nobody has claimed, or that were left behind, are nobody's. A group that is empty
//! stays so.
//!
//! **The end.** Workers have finished when the ring is sealed and the *bound* has come to its claim
//! word: not before all of them have handled all that they claimed, and what one leaves behind
//! another finds.
//!
//! How much is claimed at once is a matter of balance: a share of what is there, so that no worker
//! sits on events that others have the time for, and several while there are many, so that the
//! claim word is not fought over.

use crate::ring::position::{LEFT, Position};
use crate::ring::sequence::Sequence;
use crate::ring::signals::Signals;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::edge::{self, CLAIM_IN_GROUP};
use crate::sync::swapped::Swapped;
use crate::sync::{CachePadded, Mutex};
use std::ops::Range;

/// The word of a worker that has nothing in hand.
pub(in crate::ring) const IDLE: Sequence = LEFT;

/// What the workers of one group share.
#[derive(Debug)]
pub(in crate::ring) struct Group {
    /// All below it are claimed by a worker; `LEFT` when all workers have left.
    claim: CachePadded<AtomicU64>,
    /// One word a worker, and one for each run that was left behind.
    words: Swapped<Vec<Position>>,
    /// How many workers there are, for balance.
    size: AtomicU64,
    /// Whether something was left behind. A hint: the list is under the lock.
    has_left_behind: AtomicBool,
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    /// The list of words, for those who change it.
    words: Vec<Position>,
    workers: u64,
    /// How many workers there have ever been.
    ever: usize,
    left_behind: Vec<WorkerRun>,
}

/// What a worker has claimed, with the word that guards it.
#[derive(Debug)]
pub(in crate::ring) struct WorkerRun {
    word: Position,
    /// Claimed and not handled.
    pub(in crate::ring) run: Range<Sequence>,
}

impl WorkerRun {
    /// Lets producers, and later stages, have all that lies before the run, and all if the run is
    /// empty.
    pub(in crate::ring) fn release(&self) {
        self.word.release(if self.run.is_empty() { IDLE } else { self.run.start });
    }
}

impl Group {
    /// A group without workers that starts at `first`; the first worker is to come before the group
    /// is at a gate.
    pub(in crate::ring) fn new(first: Sequence) -> Self {
        Self {
            claim: CachePadded::new(AtomicU64::new(first)),
            words: Swapped::new(Vec::new()),
            size: AtomicU64::new(0),
            has_left_behind: AtomicBool::new(false),
            members: Mutex::default(),
        }
    }

    /// Returns the sequence below which no worker reads any more. Edges `CLAIM_IN_GROUP` and
    /// `RELEASE_SLOT`, acquire sides.
    pub(in crate::ring) fn released(&self) -> Sequence {
        self.bound(Position::released)
    }

    /// Returns the sequence below which the workers have finished. Edges `CLAIM_IN_GROUP` and
    /// `FINISH_STAGE`, acquire sides.
    pub(in crate::ring) fn finished(&self) -> Sequence {
        self.bound(Position::finished)
    }

    fn bound(&self, look: impl Fn(&Position) -> Sequence) -> Sequence {
        let lowest = || self.words.read(|words| words.iter().map(&look).min().unwrap_or(IDLE));
        if edge::left_out("claim-before-words") {
            let lowest = lowest();
            return lowest.min(self.claim.load(CLAIM_IN_GROUP.acquire()));
        }
        // First the claim word, then the workers' words.
        let claimed = self.claim.load(CLAIM_IN_GROUP.acquire());
        claimed.min(lowest())
    }

    /// Returns whether all workers have left.
    pub(in crate::ring) fn has_left(&self) -> bool {
        self.claim.load(Ordering::Relaxed) == LEFT
    }

    /// Returns how many workers there are. Old when it is read.
    #[inline(always)]
    pub(in crate::ring) fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// A new worker, which has nothing in hand yet, and its number; `None` where all have left.
    pub(in crate::ring) fn join(&self) -> Option<(WorkerRun, usize)> {
        let mut members = self.members.lock();
        if self.has_left() {
            return None;
        }
        let word = Position::new(IDLE);
        members.words.push(word.clone());
        self.words.replace(members.words.clone());
        members.workers += 1;
        self.size.store(members.workers, Ordering::Relaxed);
        members.ever += 1;
        Some((WorkerRun { word, run: 0..0 }, members.ever - 1))
    }

    /// A worker leaves. Returns whether it was the last, so that the caller takes the stage off the
    /// gate. A group whose ring was halted keeps its place all the same, since later stages must
    /// not pass it.
    pub(in crate::ring) fn leave(&self, in_hand: &mut WorkerRun, is_halted: bool) -> bool {
        let mut members = self.members.lock();
        members.workers -= 1;
        self.size.store(members.workers, Ordering::Relaxed);
        if in_hand.run.is_empty() {
            self.forget(&mut members, &in_hand.word);
        } else {
            let run = std::mem::take(&mut in_hand.run);
            members.left_behind.push(WorkerRun { word: in_hand.word.clone(), run });
            self.has_left_behind.store(true, Ordering::Relaxed);
        }
        if members.workers > 0 || is_halted {
            return false;
        }
        members.left_behind.clear();
        members.words.clear();
        self.words.replace(Vec::new());
        // Release: all that the workers did comes before, theirs by way of the lock.
        self.claim.store(LEFT, CLAIM_IN_GROUP.release());
        true
    }

    /// Takes an idle worker's word off the list. Edge `SWAP_LIST`: who reads the new list comes
    /// after what it did.
    fn forget(&self, members: &mut Members, word: &Position) {
        word.leave();
        members.words.retain(|other| !other.is(word));
        self.words.replace(members.words.clone());
    }

    /// Returns whether there is something that a worker has left behind.
    #[inline(always)]
    pub(in crate::ring) fn has_left_behind(&self) -> bool {
        self.has_left_behind.load(Ordering::Relaxed)
    }

    /// An idle worker adopts what another has left behind, if anything. Whether it did.
    #[cold]
    pub(in crate::ring) fn adopt(&self, in_hand: &mut WorkerRun) -> bool {
        let mut members = self.members.lock();
        let Some(left_behind) = members.left_behind.pop() else { return false };
        self.has_left_behind.store(!members.left_behind.is_empty(), Ordering::Relaxed);
        self.forget(&mut members, &in_hand.word);
        *in_hand = left_behind;
        true
    }

    /// Returns whether there is something to claim, or to adopt. `is_available` is asked for a
    /// place where a claim could begin.
    pub(in crate::ring) fn is_ready(&self, is_available: impl Fn(Sequence) -> bool) -> bool {
        self.has_left_behind() || has_any(|| self.claim.load(Ordering::Relaxed), is_available)
    }

    /// An idle worker claims what `available` finds from a place on: published, finished by the
    /// stages before, and as much as is its fair share. Whether there was any.
    #[inline(always)]
    pub(in crate::ring) fn claim(
        &self,
        in_hand: &mut WorkerRun,
        signals: &Signals,
        mut available: impl FnMut(Sequence) -> Sequence,
    ) -> bool {
        let word = &in_hand.word;
        let mut at = self.claim.load(Ordering::Relaxed);
        let mut has_announced = false;
        let has_claimed = loop {
            let end = available(at);
            if end == at {
                let moved = self.claim.load(Ordering::Relaxed);
                if moved == at {
                    break false;
                }
                at = moved;
                continue;
            }
            if !edge::left_out("announce-before-claim") {
                word.release(at);
            }
            // Edge `CLAIM_IN_GROUP`, release side.
            match self.claim.compare_exchange(at, end, CLAIM_IN_GROUP.release(), Ordering::Relaxed) {
                Ok(_) => {
                    if edge::left_out("announce-before-claim") {
                        word.release(at);
                    }
                    in_hand.run = at..end;
                    break true;
                }
                Err(moved) => at = moved,
            }
            has_announced = true;
        };
        if has_announced {
            self.outdated(in_hand, has_claimed, signals);
        }
        has_claimed
    }

    /// A worker that has announced a place which was not where it claimed tells those who may be
    /// asleep over it.
    #[cold]
    fn outdated(&self, in_hand: &WorkerRun, has_claimed: bool, signals: &Signals) {
        if !has_claimed && !edge::left_out("retract-announcement") {
            in_hand.word.release(IDLE);
        }
        if !edge::left_out("wake-after-announcement") {
            signals.consumer_moved();
        }
    }
}

/// Returns whether there is anything at a place that others move on at the same time. A place that
/// was read too early can look empty because its slot has been used again; then who used it has
/// seen the place move, and so does the next look.
pub(in crate::ring) fn has_any(
    place: impl Fn() -> Sequence,
    is_available: impl Fn(Sequence) -> bool,
) -> bool {
    let mut at = place();
    loop {
        if is_available(at) {
            return true;
        }
        let moved = place();
        if moved == at {
            return false;
        }
        at = moved;
    }
}
