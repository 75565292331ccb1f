//! Every synchronising pair of the engine, by name.
//!
//! An edge is a store (or fence) on one side and the load (or fence) that meets it on the other.
//! The code never writes `Release` or `Acquire` by itself: it names the edge, so that both ends can
//! be found by searching for one word, and so that a model build can weaken either end of any edge
//! at run time and see a model fail.
//!
//! | edge | the release side | the acquire side | what crosses |
//! |---|---|---|---|
//! | [`PUBLISH_SLOT`] | the producer stamps the slot | the barrier reads the stamp | the event's bytes |
//! | [`PUBLISH_CURSOR`] | the producer of a dense ring moves the cursor | the barrier reads the cursor | the events' bytes |
//! | [`RELEASE_SLOT`] | the consumer moves its sequence on | the gate reads the sequence | that the slot is no longer read |
//! | [`FINISH_STAGE`] | the same store: `release-slot.release` | the barrier of a later stage reads it | what the earlier stage did |
//! | [`CLOSE_RING`] | the closer seals the ring | the consumer sees it sealed | the last claim there will be |
//! | [`REFUSE`] | the closer sets the closed bit of the claim word | a producer that was refused looks at it again | what was done before the ring was closed |
//! | [`PARK`] | publication, then the light fence | `parked`, then the heavy fence | one of the two sees the other |
//! | [`CLOSE`] | a claim of a single producer, then the light fence | closing, then the heavy fence | one of the two sees the other |
//! | [`LEASE`] | what is being handled, then the light fence | the stop, then the heavy fence | one of the two sees the other |
//! | [`LEASE_RETURN`] | that nothing is, then the light fence | the same: `lease.heavy` | one of the two sees the other |
//! | [`LEASE_CALL`] | the consumer says that it calls | the supervisor reads the call | its delivery, and what was released |
//! | [`POST_MAIL`] | the control word after the mail is in its box | the consumer reads the control word | that there is mail |
//! | [`SWAP_LIST`] | a list is swapped for another | its reader loads the pointer | the list, and all done before it |
//! | [`JOIN`] | the cursor read, then the light fence, then the list | the list changed, then the heavy fence, then the cursor | one of the two sees the other |
//! | [`SKIP_OLDEST`] | a producer moves a consumer on | that consumer goes on from there; and the gate reads its word: `release-slot.acquire` | that what was skipped is written |
//! | [`CLAIM_IN_GROUP`] | a worker moves its group's claim word | the gate reads it, before the workers' words | the worker's announcement, and what was published |
//! | [`LEASE_LANE`] | a worker gives a lane back | the next one leases it | where the lane stands, and what was done there |
//! | [`SWAP_TABLE`] | the generation after the table is swapped | a publisher reads the generation | the new table, and what the change concerns |
//! | [`CHANGE_LOG`] | what a change concerns, in the place of an earlier one | a publisher reads it | that the generation has come so far |
//!
//! The last column of proof, which model covers which edge and which mutant it kills, is in the
//! `loom-tests` crate.

use super::atomic::Ordering;

/// One synchronising pair. See the module's table.
#[derive(Debug)]
pub struct Edge {
    #[cfg_attr(
        not(ringmain_loom),
        expect(dead_code, reason = "only a model build weakens edges by their label")
    )]
    label: &'static str,
}

/// A stamped slot is visible with its event.
pub const PUBLISH_SLOT: Edge = Edge { label: "publish-slot" };
/// All below the cursor of a dense ring is visible.
pub const PUBLISH_CURSOR: Edge = Edge { label: "publish-cursor" };
/// A released slot is no longer read by that consumer.
pub const RELEASE_SLOT: Edge = Edge { label: "release-slot" };
/// A later stage sees what an earlier one has finished.
pub const FINISH_STAGE: Edge = Edge { label: "finish-stage" };
/// A sealed ring has had its last claim.
pub const CLOSE_RING: Edge = Edge { label: "close-ring" };
/// Who is refused by a closed ring sees what was done before it was closed.
pub const REFUSE: Edge = Edge { label: "refuse" };
/// Either the publisher sees the sleeper or the sleeper sees the publication.
pub const PARK: Edge = Edge { label: "park" };
/// Either a single producer sees that the ring closes or the closer sees its claim.
pub const CLOSE: Edge = Edge { label: "close" };
/// Either the consumer sees that it is stopped or who stops it sees what it is handling.
pub const LEASE: Edge = Edge { label: "lease" };
/// Either the consumer sees that it was stopped during the call or who stopped it sees that it has
/// returned.
pub const LEASE_RETURN: Edge = Edge { label: "lease-return" };
/// Who reads that a call has begun reads which one.
pub const LEASE_CALL: Edge = Edge { label: "lease-call" };
/// The mail is in the box before the flag says so.
pub const POST_MAIL: Edge = Edge { label: "post-mail" };
/// Who reads a list that was swapped in sees it whole, and what was done before it was swapped.
pub const SWAP_LIST: Edge = Edge { label: "swap-list" };
/// Either a producer's list has the consumer that joins, or the consumer starts where that producer
/// already was.
pub const JOIN: Edge = Edge { label: "join" };
/// Who reuses a skipped slot comes after its last producer.
pub const SKIP_OLDEST: Edge = Edge { label: "skip-oldest" };
/// Who sees an event claimed by a worker sees that the worker has it in hand.
pub const CLAIM_IN_GROUP: Edge = Edge { label: "claim-in-group" };
/// Who leases a lane comes after whoever had it before.
pub const LEASE_LANE: Edge = Edge { label: "lease-lane" };
/// The table is swapped before the generation says so.
pub const SWAP_TABLE: Edge = Edge { label: "swap-table" };
/// Who reads what was written over the note of an earlier change sees that the generation has come
/// so far.
pub const CHANGE_LOG: Edge = Edge { label: "change-log" };

impl Edge {
    /// The ordering of the storing side.
    #[inline(always)]
    pub fn release(&self) -> Ordering {
        if self.weakened("release") { Ordering::Relaxed } else { Ordering::Release }
    }

    /// The ordering of the loading side.
    #[inline(always)]
    pub fn acquire(&self) -> Ordering {
        if self.weakened("acquire") { Ordering::Relaxed } else { Ordering::Acquire }
    }

    /// The ordering of a swap that both stores and loads; weakened with its storing side.
    #[inline(always)]
    pub fn acquire_and_release(&self) -> Ordering {
        if self.weakened("release") { Ordering::Acquire } else { Ordering::AcqRel }
    }

    /// Whether the light fence stands. Only a mutant says no.
    #[inline(always)]
    pub(super) fn light_fence_stands(&self) -> bool {
        !self.weakened("light")
    }

    /// Whether the heavy fence stands. Only a mutant says no.
    #[inline(always)]
    pub(super) fn heavy_fence_stands(&self) -> bool {
        !self.weakened("heavy")
    }

    #[cfg(not(ringmain_loom))]
    #[inline(always)]
    fn weakened(&self, _side: &str) -> bool {
        false
    }

    /// Whether the mutant named by `RINGMAIN_MUTANT` (`label.side`) is this end of this edge, or
    /// takes it away as well.
    #[cfg(ringmain_loom)]
    fn weakened(&self, side: &str) -> bool {
        // A light fence is a full one in a model only, and would stand in for what is taken away.
        const GO_TOGETHER: [(&str, &str, &str); 3] = [
            ("skip-oldest.release", "join", "light"),
            ("skip-oldest.acquire", "join", "light"),
            ("park.heavy", "join", "light"),
        ];
        mutant().is_some_and(|mutant| {
            mutant.split_once('.') == Some((self.label, side))
                || GO_TOGETHER.contains(&(mutant, self.label, side))
        })
    }
}

/// The mutant under test in a model build: `label.side` from the environment variable
/// `RINGMAIN_MUTANT`.
#[cfg(ringmain_loom)]
pub fn mutant() -> Option<&'static str> {
    static MUTANT: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    MUTANT.get_or_init(|| std::env::var("RINGMAIN_MUTANT").ok()).as_deref()
}

/// Whether a named wake-up wakes those of one side, `consumers` or `producers`. Only a mutant says
/// no.
#[inline(always)]
pub(crate) fn wakes(wake_up: &str, side: &str) -> bool {
    #[cfg(ringmain_loom)]
    let wakes = mutant().and_then(|mutant| mutant.split_once('.')) != Some((wake_up, side));
    #[cfg(not(ringmain_loom))]
    let (wakes, _) = (true, (wake_up, side));
    wakes
}

/// Whether a named piece of logic is to be left out: for mutants that are not a weakened ordering.
#[cfg(ringmain_loom)]
pub fn left_out(what: &str) -> bool {
    mutant() == Some(what)
}

/// Whether a named piece of logic is to be left out: never, in a build that ships.
#[cfg(not(ringmain_loom))]
#[inline(always)]
pub(crate) fn left_out(_what: &str) -> bool {
    false
}
