//! How the ring works, and why it is right. Documentation only: there is no code in this module.
//!
//! The design is the LMAX disruptor's (Thompson, Farley, Barker, Gee, Stewart: "Disruptor: High
//! performance alternative to bounded queues", 2011). The per-slot stamps of D. Vyukov's bounded
//! MPMC queue replace its published cursor. A ring of small events with one producer can have the
//! cursor instead ([`Layout`](super::Layout)).
//!
//! # Words
//!
//! *Sequence* `s` lives in slot `s & (capacity - 1)` and is never reused. 62 bits last for 14,000
//! years at ten million a second, and a ring that has used them up says so. These words are shared:
//!
//! | word | written by | read by |
//! |---|---|---|
//! | a slot's stamp, `(s + 1) << 1 \| tombstone` | the producer that claimed `s` | every barrier |
//! | a dense ring's cursor: all below it are published | its producer | every barrier |
//! | a consumer's sequence: all below it are done with | that consumer | gates; barriers of later stages |
//! | the claim word: all below it are claimed, and for many producers a bit that says closed | producers | closers, statistics |
//! | the phase: open, closing, sealed, halted | closers | everybody |
//!
//! # Publishing: edges `PUBLISH_SLOT`, `PUBLISH_CURSOR`
//!
//! The producer writes the event with plain stores, between the claim and the stamp's release
//! store. A barrier that reads the stamp of `s` with acquire sees the event of `s`. It cannot see a
//! later event: the slot's next use, `s + capacity`, is not claimed before this very consumer has
//! moved past `s`.
//!
//! A dense ring's cursor does the same for a whole run. A single producer stamps in order, so a far
//! stamp proves all stamps before it. `barrier.rs` says how consumers use that to stay away from
//! the line that is being written.
//!
//! # Claims
//!
//! The claim word is the next sequence. A single producer advances it with a plain store. Several
//! producers use compare-and-swap, one read-modify-write for each publish. Neither needs an
//! ordering: the claim word hands over a number, and the gate makes the slot safe.
//!
//! # Gate: edge `RELEASE_SLOT`
//!
//! A producer claims `s` only when `s - capacity` is below the minimum of all consumers' sequences,
//! read with acquire. A consumer stores its sequence with release, after its last read of the slots
//! below. So the producer's writes come after those reads. Each producer caches the minimum.
//! Sequences only grow, so an old minimum is merely too careful.
//!
//! No producer holds a claim while it waits for room, so a producer that gives up leaves no hole.
//!
//! What a consumer has released is published, so no producer is still writing it. A ring that all
//! consumers have left lacks that proof. There, one of many producers takes a slot only after it
//! has seen the stamp of the slot's last use; otherwise two producers could write the slot at once.
//!
//! A consumer that leaves is removed from the gate's list (edge `SWAP_LIST`). A consumer that
//! leaves a halted ring keeps its place, because later stages must not pass it.
//!
//! # Stages: edge `FINISH_STAGE`
//!
//! A consumer that depends on others handles what all of them have finished. It looks at their
//! sequences and then at the stamps all the same: a dependency that has left bounds nobody, and
//! then the other dependencies and publication are the bound.
//!
//! # Clearing
//!
//! With [`SlotPolicy::Clear`](super::SlotPolicy::Clear) the one consumer that is behind all others
//! writes each event after it has handled it, and before it releases the slot. It may, as a mutating
//! consumer may: all stages before it have finished with the event, nobody is beside it or behind it
//! (the graph is checked when the ring is built, and nobody joins there), and no producer claims the
//! slot before the release. What is written comes before the producer's next event by edge
//! `RELEASE_SLOT`. A consumer that was stopped may have passed stages before it; it writes nothing
//! (`lease.rs`). See `consumer/clearing.rs`.
//!
//! # Workers: edges `CLAIM_IN_GROUP`, `LEASE_LANE`
//!
//! Several workers can share one stage. Each event goes to one of them: to the first that claims it
//! (`group/raced.rs`), or to the one that has leased its key's lane (`group/keyed.rs`).
//!
//! # Joining: edge `JOIN`
//!
//! A consumer joins a running ring at the cursor. It registers, fences (heavy) and reads the claim
//! word. It starts there, once all below is published. A producer reads the claim word, fences
//! (light) and reads the list, and takes no minimum above the claim word that it read. So either
//! its list has the joiner, or the joiner starts where that minimum is right for it. See
//! `gate/join.rs`.
//!
//! # Dropping the oldest: edge `SKIP_OLDEST`
//!
//! Under [`Overflow::DropOldest`](super::Overflow::DropOldest) a consumer takes hold of a run, and
//! a producer takes the oldest events away from a consumer. Both compare-and-swap the same word:
//! the consumer's sequence, with a bit that says whether the consumer holds what follows. So each
//! event goes to exactly one of the two. See `position.rs`.
//!
//! # Closing: edges `CLOSE`, `CLOSE_RING`
//!
//! With many producers the closed bit sits in the claim word. Each claim comes before it and will
//! be consumed, or is refused.
//!
//! A single producer has no read-modify-write to spend. It announces its claim in the claim word,
//! fences (light) and looks at the phase. The closer sets the phase to closing, fences (heavy) and
//! sets it to sealed. If the closer's fence comes later, whoever sees the ring sealed sees the
//! claim. Otherwise the producer sees the ring closing and takes its claim back.
//!
//! A consumer has finished when the ring is sealed and its own sequence equals the claim word. It
//! reads the claim word anew at each look.
//!
//! # Faults
//!
//! A fill closure that panics leaves a tombstone where several producers claim: the sequence is
//! taken, and others follow. Every consumer skips it. A single producer leaves nothing. In both
//! cases the event is made anew.
//!
//! A handler that panics is past its event: the poller moves on and holds nobody up. A publish that would wait for its
//! own thread (from a handler of the full ring, or from inside a fill closure) is an error at once, and one that
//! closes a circle of such waits soon (`circle.rs`). A consumer that does not return can be replaced (edge `LEASE`,
//! `lease.rs`).
//!
//! Threads sleep and wake under edge `PARK`; see [`Parking`](crate::wait::Parking).
//!
//! # Two regimes
//!
//! A consumer close behind its producer fights it for every line. A consumer that trails finds
//! whole batches, and both run several times faster. Three things steer a loaded ring into the
//! second regime and leave any other ring alone:
//!
//! * a consumer that has caught up lingers for a moment, as long as that makes events come faster
//!   (`pace/linger.rs`, [`RingBuilder::linger`](super::RingBuilder::linger));
//! * a producer that has found the ring full resumes when a good part of it is free
//!   (`pace/hysteresis.rs`);
//! * a consumer looks at a far stamp first (`barrier.rs`).
//!
//! A loop of your own around [`Poller::poll`](super::Poller::poll) gets the last two.
//!
//! # Trade-offs
//!
//! A stamp costs eight bytes in each slot, and one line transfer brings both the news and the
//! event. A reader close behind a producer fights it for that line. A cursor is one more line for a
//! lone event, and less for a batch of small ones. For throughput of small events from one producer
//! choose [`Layout::Dense`](super::Layout::Dense), batches, and slices
//! ([`Poller::poll_slices`](super::Poller::poll_slices)). A stamped event of 64 bytes takes two
//! lines; one of 56 takes one.
