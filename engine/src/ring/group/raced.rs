//! A group of workers that share one stage: each event goes to exactly one of them. The words that
//! they share.
//!
//! The idea is that of the LMAX disruptor's `WorkerPool`. One word counts what the group has
//! claimed, and each worker has a word of its own for the gate to read. The protocol differs where
//! theirs loses a message: their worker takes the next sequence before it is published and waits
//! with it, and a pool that is halted forgets it. Here workers claim only what is published. So no
//! worker waits with a claim, and each claim is handled or handed back.
//!
//! # The protocol
//!
//! ```text
//! worker                                   gate, and barriers of later stages
//!   at = the claim word                      bound = the claim word       CLAIM_IN_GROUP
//!   look what is published from `at` on      for each worker's word       RELEASE_SLOT, FINISH_STAGE
//!   its word = at                              bound = min(bound, word)
//!   swap the claim word, at -> end  CLAIM_IN_GROUP
//!   handle [at, end)
//!   its word = idle                 RELEASE_SLOT
//! ```
//!
//! A worker's word is a lower bound of what it has claimed and not handled. Idle is higher than
//! every sequence. The gate's bound is right if all sequences below it are handled. Take a sequence
//! `s` below the bound, so below the claim word as the gate read it:
//!
//! 1. The worker that claimed `s` announced a bound not above `s` before its swap. The gate read
//!    that swap, or a later one in an unbroken row of swaps. So (edge `CLAIM_IN_GROUP`) the gate
//!    then reads that worker's announcement or something later.
//! 2. The gate did not read the announcement, because that would have bounded it.
//! 3. The worker stores nothing later before `s` is handled, and stores it with release. (This is
//!    so for a later announcement too: it may be what tells of the release before it.)
//!
//! So `s` is handled, and the gate knows. If the gate read the words before the claim word, it
//! could see a worker as idle that has claimed when the gate reads the claim word.
//!
//! **Stale announcements.** The claim word may have moved since it was read. Then the swap fails,
//! and the announced bound is too low and holds producers up for no reason. The worker announces
//! the place of its next look, or takes the announcement back if that look finds nothing. Whoever
//! read it meanwhile may have gone to sleep because of it, and is woken. So the gate's bound can
//! fall. Nobody takes it for more than it is.
//!
//! **What crosses with the claim word.** All below it is published and finished by the stages
//! before; each worker has seen that before its swap. Producers that reuse a slot rely on it, so
//! the swap releases. Workers read the word without acquire: they look up for themselves what they
//! go on to read.
//!
//! **Who is there.** The list of words is replaced whole when a worker comes or goes. A worker is
//! in the list before its first swap, so a gate that has read that swap finds it there. A worker
//! leaves when it is idle. What it has claimed and not handled (only after a panic) it leaves
//! behind with its word, and the next worker that looks adopts both. When the last worker leaves,
//! the claim word says so, and the stage is off the gate like a consumer that has left. Then nobody
//! handles events that are unclaimed or were left behind. An empty group stays empty.
//!
//! **Sleep.** Workers that have threads are a crew (`wait/sleepers.rs`): a publication wakes one of
//! those who sleep. Before it takes its turn, it wakes others for what it will not take. So there are
//! at most as many awake as there are events, and no event waits for a worker that is busy while
//! another one sleeps. A worker that its user polls is woken by everything, because its user may leave
//! the work to others. A worker that has handled what it claimed wakes its own crew only on a closed
//! ring, whose end that may be.
//!
//! **The end.** Workers have finished when the ring is sealed and the *bound* has reached its claim
//! word. That is not before all of them have handled all that they claimed, and another worker
//! finds what one leaves behind.
//!
//! How much a worker claims at once is a matter of balance. It claims a share of what is there, so
//! that it does not sit on events for which others have time, and several events while there are
//! many, so that workers do not fight over the claim word.

use crate::ring::position::{LEFT, Position};
use crate::ring::sequence::Sequence;
use crate::ring::signals::Signals;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::edge::{self, CLAIM_IN_GROUP};
use crate::sync::swapped::Swapped;
use crate::sync::{CachePadded, Mutex};
use crate::wait::{Crew, News};
use std::ops::Range;

/// Word of a worker that has claimed nothing.
pub(in crate::ring) const IDLE: Sequence = LEFT;

/// Shared words of the workers of one group.
#[derive(Debug)]
pub(in crate::ring) struct Group {
    /// All below it are claimed by a worker; `LEFT` when all workers have left.
    claim: CachePadded<AtomicU64>,
    /// One word a worker, and one for each run that was left behind.
    words: Swapped<Vec<Position>>,
    /// Number of workers, for balance.
    size: AtomicU64,
    /// Whether something was left behind. A hint: the list is under the lock.
    has_left_behind: AtomicBool,
    members: Mutex<Members>,
    /// What those of the workers are who go on to look for work when they are woken.
    crew: Crew,
}

#[derive(Debug, Default)]
struct Members {
    /// The list of words, for those who change it.
    words: Vec<Position>,
    workers: u64,
    /// Number of workers that there have ever been.
    ever: usize,
    left_behind: Vec<WorkerRun>,
}

/// Run that a worker has claimed, with the word that guards it.
#[derive(Debug)]
pub(in crate::ring) struct WorkerRun {
    word: Position,
    /// Claimed and not handled.
    pub(in crate::ring) run: Range<Sequence>,
}

impl WorkerRun {
    /// Returns the word of whoever has the run in hand.
    pub(in crate::ring) fn word(&self) -> Position {
        self.word.clone()
    }

    /// Releases what lies before the run to producers and later stages: everything if the run is
    /// empty.
    pub(in crate::ring) fn release(&self) {
        self.word.release(if self.run.is_empty() { IDLE } else { self.run.start });
    }
}

impl Group {
    /// Makes a group without workers that starts at `first`. The first worker must join before the
    /// group is at a gate.
    pub(in crate::ring) fn new(first: Sequence) -> Self {
        Self {
            claim: CachePadded::new(AtomicU64::new(first)),
            words: Swapped::new(Vec::new()),
            size: AtomicU64::new(0),
            has_left_behind: AtomicBool::new(false),
            members: Mutex::default(),
            crew: Crew::new(),
        }
    }

    pub(in crate::ring) fn crew(&self) -> Crew {
        self.crew
    }

    /// Returns the sequence below which no worker reads any more. Edges `CLAIM_IN_GROUP` and
    /// `RELEASE_SLOT`, acquire sides.
    pub(in crate::ring) fn released(&self) -> Sequence {
        self.bound(Position::released)
    }

    /// Returns the sequence below which the workers have finished everything. Edges
    /// `CLAIM_IN_GROUP` and `FINISH_STAGE`, acquire sides.
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

    /// Returns how many workers there are. May be outdated when it returns.
    #[inline(always)]
    pub(in crate::ring) fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Adds a worker, which has claimed nothing yet. Returns its run and its number, or `None` when
    /// all workers have left.
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

    /// Removes a worker. Returns whether it was the last, so that the caller takes the stage off
    /// the gate. A group whose ring was halted keeps its place, because later stages must not pass
    /// it.
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
        // Release: all that the workers did comes before. The other workers' work comes before by
        // way of the lock.
        self.claim.store(LEFT, CLAIM_IN_GROUP.release());
        true
    }

    /// Takes an idle worker's word off the list. Edge `SWAP_LIST`: whoever reads the new list comes
    /// after what that worker did.
    fn forget(&self, members: &mut Members, word: &Position) {
        word.leave();
        members.words.retain(|other| !other.is(word));
        self.words.replace(members.words.clone());
    }

    /// Returns whether a worker has left something behind.
    #[inline(always)]
    pub(in crate::ring) fn has_left_behind(&self) -> bool {
        self.has_left_behind.load(Ordering::Relaxed)
    }

    /// Lets an idle worker adopt what another has left behind. Returns whether there was anything.
    #[cold]
    pub(in crate::ring) fn adopt(&self, in_hand: &mut WorkerRun) -> bool {
        let mut members = self.members.lock();
        let Some(left_behind) = members.left_behind.pop() else { return false };
        let is_last = members.left_behind.is_empty() || edge::left_out("second-left-behind");
        self.has_left_behind.store(!is_last, Ordering::Relaxed);
        self.forget(&mut members, &in_hand.word);
        *in_hand = left_behind;
        true
    }

    /// Returns whether there is something to claim, or to adopt. `is_available` is asked for a
    /// place where a claim could begin.
    pub(in crate::ring) fn is_ready(&self, is_available: impl Fn(Sequence) -> bool) -> bool {
        self.has_left_behind() || has_any(|| self.claim.load(Ordering::Relaxed), is_available)
    }

    /// Returns whether there is something to claim, or to adopt, beside what so many other workers
    /// take who take one each.
    pub(in crate::ring) fn has_more(&self, others: u64, is_available: impl Fn(Sequence) -> bool) -> bool {
        let ahead = others - u64::from(self.has_left_behind()).min(others);
        has_any(|| self.claim.load(Ordering::Relaxed) + ahead, is_available)
    }

    /// Claims for an idle worker what `available` finds from a place on: what is published,
    /// finished by the stages before, and its fair share. Returns whether there was any.
    #[inline(always)]
    pub(in crate::ring) fn claim(
        &self,
        in_hand: &mut WorkerRun,
        signals: &Signals,
        news: impl FnOnce() -> News,
        mut available: impl FnMut(Sequence) -> Sequence,
    ) -> bool {
        let word = &in_hand.word;
        let mut at = self.claim.load(Ordering::Relaxed);
        let mut has_announced = false;
        let has_claimed = loop {
            let end = available(at);
            if end == at {
                let moved = self.claim.load(Ordering::Relaxed);
                if moved == at || edge::left_out("claim-without-second-look") {
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
            self.outdated(in_hand, has_claimed, signals, news);
        }
        has_claimed
    }

    /// Wakes those who may be asleep because of an announcement that was not where the worker
    /// claimed.
    #[cold]
    fn outdated(
        &self,
        in_hand: &WorkerRun,
        has_claimed: bool,
        signals: &Signals,
        news: impl FnOnce() -> News,
    ) {
        if !has_claimed && !edge::left_out("retract-announcement") {
            in_hand.word.release(IDLE);
        }
        signals.consumer_moved("wake-after-announcement", news);
    }
}

/// Returns whether there is anything at a place that others advance at the same time. A place that
/// was read too early can look empty because its slot has been used again. Whoever used it has seen
/// the place advance, and so does the next look.
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
        if moved == at || edge::left_out("place-without-second-look") {
            return false;
        }
        at = moved;
    }
}
