//! Models of the lock-free protocols of ring, routing and broker: small programs on the code that ships, run in every
//! interleaving.
//!
//! Built with `--cfg ringmain_loom`, the engine's atomics, cells, locks and threads are loom's, and [`explore`] runs a
//! model in all interleavings and with all values that the memory model lets a load return. Without the flag the same
//! models run on real threads some hundreds of times, as stress tests. `scripts/loom.sh` does the former.
//!
//! A model returns what it saw. [`Explored`] compares the set of all that with what is possible, so that a model which
//! never gets to the interesting interleavings fails as surely as one that sees a forbidden outcome.
//!
//! # What each edge is worth
//!
//! Any end of any edge (`ringmain::sync::edge`), any wake-up, and some pieces of logic can be taken
//! away at run time by the
//! environment variable `RINGMAIN_MUTANT`. For every line below a test runs the model with that mutant and demands that
//! it fails: `mutants::every_mutant_is_killed_by_its_model` checks the table against the code.
//!
//! | mutant | what goes wrong | model that fails |
//! |---|---|---|
//! | `publish-slot.release` | a consumer reads an event that is being written | `publish::a_single_producers_event_is_seen_whole` |
//! | `publish-slot.acquire` | the same | `publish::one_of_many_producers_events_is_seen_whole` |
//! | `release-slot.release` | a producer overwrites an event that is being read | `gate::a_single_producer_waits_for_a_ring_of_one` |
//! | `release-slot.acquire` | the same | `gate::two_producers_share_a_ring_of_one` |
//! | `finish-stage.acquire` | a later stage misses what an earlier one did | `stages::a_later_stage_sees_what_an_earlier_one_did` |
//! | `clear-before-release` | a consumer clears an event that a producer is writing | `clearing::a_producer_finds_a_slot_cleared_when_it_reuses_it` |
//! | `announce-before-claim` | the last stage clears what a worker is reading | `clearing::what_a_worker_that_joins_is_reading_is_not_cleared` |
//! | `swap-list.release` | a producer overwrites what a consumer read before it left | `gate::a_consumer_that_leaves_has_stopped_reading` |
//! | `swap-list.acquire` | the same | `gate::a_consumer_that_leaves_has_stopped_reading` |
//! | `in-hand` | without consumers two producers write one slot | `gate::without_consumers_no_two_producers_hold_one_slot` |
//! | `halted-keeps-its-place` | a later stage passes one that was halted | `stages::nothing_passes_a_halted_stage` |
//! | `park.light` | a wake-up is lost | `parking::a_sleeping_consumer_is_woken_by_a_publication` |
//! | `park.light` | the same, of a producer | `parking::a_sleeping_producer_is_woken_by_a_release` |
//! | `park.heavy` | a wake-up is lost | `parking::a_sleeping_consumer_is_woken_by_a_publication` |
//! | `park.heavy` | the same, of a producer | `parking::a_sleeping_producer_is_woken_by_a_release` |
//! | `park.light` | the same, of an adaptive consumer | `parking::an_adaptive_consumer_is_woken_by_a_publication` |
//! | `park.heavy` | the same, of an adaptive consumer | `parking::an_adaptive_consumer_is_woken_by_a_publication` |
//! | `park.light` | the same, of two wakers | `parking::two_wakers_wake_a_sleeper_that_waits_for_both` |
//! | `park.heavy` | the same, of two wakers | `parking::two_wakers_wake_a_sleeper_that_waits_for_both` |
//! | `park.light` | a sleeper misses that its strategy was switched | `parking::a_sleeper_notices_that_its_strategy_was_switched` |
//! | `park.heavy` | the same | `parking::a_sleeper_notices_that_its_strategy_was_switched` |
//! | `switch-without-look` | the same | `parking::a_sleeper_notices_that_its_strategy_was_switched` |
//! | `leave-without-count` | a wake-up is lost | `parking::two_sleeping_consumers_are_both_woken` |
//! | `up-without-ringing` | who was called, and left to be woken by another sleeper, sleeps for ever | `parking::two_sleeping_consumers_are_both_woken` |
//! | `park-without-second-look` | a wake-up is lost | `parking::a_sleeping_consumer_is_woken_by_a_publication` |
//! | `close.light` | an accepted event is not consumed | `closing::a_ring_of_one_producer_loses_nothing_when_it_closes` |
//! | `close.heavy` | the same | `closing::a_ring_of_one_producer_loses_nothing_when_it_closes` |
//! | `close-ring.release` | the same | `closing::a_ring_of_one_producer_loses_nothing_when_it_closes` |
//! | `refuse.release` | who was refused by a closed broker's ring is accepted elsewhere | `routing::broker::who_was_refused_by_a_closed_broker_is_refused_everywhere` |
//! | `refuse.acquire` | the same | `routing::broker::who_was_refused_by_a_closed_broker_is_refused_everywhere` |
//! | `close-ring.acquire` | the same | `closing::a_ring_of_many_producers_loses_nothing_when_it_closes` |
//! | `close-without-closed-bit` | the same | `closing::a_ring_of_many_producers_loses_nothing_when_it_closes` |
//! | `tombstone` | consumers wait for ever behind a panic | `faults::a_panic_between_two_producers_is_skipped` |
//! | `publish-cursor.release` | a consumer of a dense ring reads an event that is being written | `dense::a_dense_batch_is_published_at_once_and_seen_whole` |
//! | `publish-cursor.acquire` | the same | `dense::a_dense_batch_is_published_at_once_and_seen_whole` |
//! | `publish-slot.release` | the same, before a far stamp | `dense::a_far_stamp_proves_the_events_before_it` |
//! | `publish-slot.acquire` | the same, before a far stamp | `dense::a_far_stamp_proves_the_events_before_it` |
//! | `far-stamp-of-one` | the same, of another producer | `dense::a_far_stamp_of_one_of_many_producers_proves_nothing` |
//! | `join.light` | what a joiner is to see is overwritten | `joining::nothing_is_overwritten_that_a_joiner_is_to_see` |
//! | `join.heavy` | the same | `joining::nothing_is_overwritten_that_a_joiner_is_to_see` |
//! | `join-without-second-look` | the same | `joining::nothing_is_overwritten_that_a_joiner_is_to_see` |
//! | `join-without-waiting` | two producers write one slot | `joining::a_joiner_starts_where_no_producer_has_anything_in_hand` |
//! | `skip-oldest.release` | the same, of an event that was dropped | `dropping::a_joiner_that_is_moved_on_starts_there` |
//! | `skip-oldest.acquire` | the same | `dropping::who_reuses_a_skipped_slot_comes_after_its_last_producer` |
//! | `skip-only-published` | the same, of an event in hand | `dropping::what_another_producer_has_in_hand_is_not_skipped` |
//! | `hold` | a consumer reads an event that a producer has taken away | `dropping::consumer_and_producer_never_both_get_the_oldest_event` |
//! | `hold-what-remains` | what remains is taken away and overwritten while it is read | `dropping::what_remains_is_not_taken_away` |
//! | `post-mail.release` | the mail is not in its box yet | `mail::the_flag_hands_over_what_was_written_before` |
//! | `post-mail.acquire` | the same | `mail::the_flag_hands_over_what_was_written_before` |
//! | `lease.light` | a call begins after the consumer was stopped | `lease::a_call_is_settled_or_in_doubt_and_never_both` |
//! | `lease.heavy` | the same, or a call is both settled and in doubt | `lease::a_call_is_settled_or_in_doubt_and_never_both` |
//! | `lease-return.light` | a call is both settled and in doubt | `lease::a_call_is_settled_or_in_doubt_and_never_both` |
//! | `lease-call.release` | another delivery is held in doubt | `lease::a_call_is_settled_or_in_doubt_and_never_both` |
//! | `lease-call.acquire` | the same | `lease::a_call_is_settled_or_in_doubt_and_never_both` |
//! | `lease.heavy` | a call is both settled and in doubt, and two consumers go on | `lease::a_consumer_that_was_not_replaced_can_be_in_its_next_call` |
//! | `lease-return.light` | the same | `lease::a_consumer_that_was_not_replaced_can_be_in_its_next_call` |
//! | `keep-or-give` | the same | `lease::a_consumer_goes_on_or_another_in_its_place_and_never_both` |
//! | `replace-what-has-begun` | a message is in doubt for which no handler was called | `rescue::each_message_is_handled_once_by_one_consumer_or_the_other` |
//! | `keep-or-give` | a message is delivered and in doubt, and two consumers go on | `rescue::each_message_is_handled_once_by_one_consumer_or_the_other` |
//! | `one-fate` | two have a position that a third wants to stop | `lease::a_position_is_taken_over_or_goes_on_and_never_both` |
//! | `release-after-loss` | what remains is overwritten while it is read | `lease::what_remains_is_not_overwritten` |
//! | `claim-in-group.release` | a producer overwrites an event that a worker is reading | `groups::a_producer_waits_for_what_a_worker_has_in_hand` |
//! | `claim-in-group.acquire` | the same | `groups::a_producer_waits_for_what_a_worker_has_in_hand` |
//! | `claim-before-words` | the same | `groups::a_producer_waits_for_what_a_worker_has_in_hand` |
//! | `announce-before-claim` | the same | `groups::a_producer_waits_for_what_a_worker_has_in_hand` |
//! | `release-slot.release` | the same | `groups::a_producer_waits_for_what_a_worker_has_in_hand` |
//! | `release-slot.release` | a producer overwrites an event that a worker of another lane is reading | `groups::a_producer_waits_for_all_lanes` |
//! | `finish-stage.acquire` | a later stage misses what a worker did | `groups::a_stage_behind_a_group_sees_what_each_worker_did` |
//! | `claim-only-published` | a worker reads an event that is being written | `groups::only_what_is_published_is_claimed` |
//! | `retract-announcement` | a worker with nothing in hand holds producers up | `groups::each_event_goes_to_one_of_two_workers_and_neither_holds_on` |
//! | `lease-lane.release` | two workers are at one lane's events, or handle one twice | `groups::a_lane_hands_over_where_it_stands_and_what_was_done_there` |
//! | `lease-lane.acquire` | the same | `groups::a_lane_hands_over_where_it_stands_and_what_was_done_there` |
//! | `swap-table.release` | a publisher remembers an old table as the new one | `routing::a_table_is_never_older_than_the_generation_that_was_read` |
//! | `swap-table.acquire` | the same | `routing::a_table_is_never_older_than_the_generation_that_was_read` |
//! | `swap-table.acquire` | a publisher misses a change that concerns its topic | `routing::no_change_is_missed_for_a_later_one_in_its_place` |
//! | `swap-table.release` | the same | `routing::no_change_is_missed_for_a_later_one_in_its_place` |
//! | `change-log.release` | the same | `routing::no_change_is_missed_for_a_later_one_in_its_place` |
//! | `change-log.acquire` | the same | `routing::no_change_is_missed_for_a_later_one_in_its_place` |
//! | `change-log-without-second-look` | the same | `routing::no_change_is_missed_for_a_later_one_in_its_place` |
//! | `mail-before-message` | a message comes before the handler that it was routed to | `routing::broker::a_handler_is_there_before_any_message_for_it` |
//! | `retire-when-released` | a message travels a route that was freed | `routing::broker::a_message_never_travels_a_route_that_is_freed` |
//! | `wait-for-release` | a call begins after `unsubscribe` has returned | `routing::broker::no_call_begins_after_unsubscribe_has_returned` |
//! | `wait-for-pause` | a call begins after `pause` has returned | `pausing::no_call_begins_after_pause_has_returned_and_what_comes_waits` |
//! | `settle-by-swap` | a message is settled by its token and by its time limit | `tokens::a_token_and_its_time_limit_agree_on_who_settles` |
//! | `settle-by-swap` | the same, by the end of its subscription | `tokens::a_token_and_the_end_of_its_subscription_agree_on_who_settles` |
//! | `settle-by-swap` | an extension is granted that does not hold | `tokens::a_limit_that_was_extended_does_not_pass` |
//! | `note-in-call` | a drain ends while a message that has waited is being handled | `queues::a_drain_does_not_end_before_what_has_waited_is_counted` |
//! | `note-in-call` | a drain ends before a message that has expired is counted | `queues::a_drain_does_not_end_before_what_has_expired_is_counted` |
//! | `put-back-at-once` | a drain ends while a message is on its way to be tried again | `queues::a_drain_does_not_end_while_a_message_is_on_its_way_to_be_tried_again` |
//! | `rings-before-rooms` | the same, on its way from its slot | `queues::a_drain_does_not_end_while_a_message_is_on_its_way_to_be_tried_again` |
//! | `note-settling` | a drain ends before a token that has come back is counted | `queues::a_drain_does_not_end_before_a_token_that_has_come_back_is_counted` |
//! | `note-settling` | the same, before what was not handed out is | `queues::a_drain_does_not_end_before_what_was_not_handed_out_is_counted` |
//! | `note-settling` | the same, before what a subscription has left is | `queues::a_drain_does_not_end_before_what_a_subscription_has_left_is_counted` |
//! | `note-settling` | the same, before what has given way is | `queues::a_drain_does_not_end_before_what_has_given_way_is_counted` |
//! | `note-settling` | all is said to be quiet before a letter is replayed | `queues::it_is_not_quiet_while_a_letter_is_on_its_way_to_be_replayed` |
//! | `doubt-what-is-open` | a message is delivered and in doubt | `takeover::what_has_waited_is_delivered_in_doubt_or_handed_back` |
//! | `leave-what-was-taken-over` | a consumer that was taken over hands back what waits, behind the report | `takeover::who_is_taken_over_in_a_turn_with_an_event_leaves_what_waits` |
//! | `forsake-the-room` | it has the report forget which message it was stuck in | `takeover::who_is_taken_over_leaves_what_waits_of_a_subscription_that_ends` |
//! | `join-without-waiting` | the same, where a joiner gives up | `joining::a_join_that_gives_up_holds_nobody_up` |
//! | `close-without-closed-bit` | a joiner ends before the ring does | `joining::a_join_falls_before_a_close_or_after_it` |
//! | `finish-stage.acquire` | a later stage reads what a mutating consumer is writing | `stages::what_a_mutating_consumer_makes_of_an_event_is_seen_by_all_who_come_after` |
//! | `release-slot.release` | a producer overwrites what a worker has left behind while another reads it | `groups::what_a_worker_leaves_behind_is_handled_once_and_not_overwritten` |
//! | `lease-lane.release` | who joins is at a lane's events together with who leaves | `groups::who_joins_keyed_lanes_goes_on_where_they_stand_or_is_refused` |
//! | `lease-lane.acquire` | the same | `groups::who_joins_keyed_lanes_goes_on_where_they_stand_or_is_refused` |
//! | `gate-bounded-by-cursor` | a stalled producer overwrites what a joiner is to read | `joining::a_stalled_producer_with_an_old_list_does_not_overrun_a_joiner` |
//! | `skip-without-second-look` | two producers write one slot, beside a joiner | `dropping::a_joiner_is_not_moved_on_past_what_a_producer_has_in_hand` |
//! | `takeover-behind-writers` | what was taken over is read while an earlier stage changes it | `lease::what_an_earlier_stage_is_changing_is_not_read` |
//! | `claim-without-second-look` | a worker takes nothing where there was something all the time | `groups::a_worker_that_is_outrun_still_finds_what_is_there` |
//! | `place-without-second-look` | a worker finds nothing where there was something all the time | `groups::a_worker_that_is_outrun_still_finds_what_is_there` |
//! | `second-left-behind` | what the second of two workers left behind is handled by nobody | `groups::what_two_workers_leave_behind_is_all_handled` |
//! | `look-for-circles` | two handlers that fill each other's rings wait for ever | `waiting::of_two_handlers_that_fill_each_others_rings_one_at_most_is_refused_and_neither_hangs` |
//! | `wake-after-publish.consumers` | a consumer sleeps for ever | `parking::a_sleeping_consumer_is_woken_by_a_publication` |
//! | `wake-after-batch.consumers` | the same, of a batch | `waking::a_consumer_is_woken_by_a_batch` |
//! | `wake-after-abandoning.consumers` | a consumer sleeps for ever over a claim that was taken back | `closing::a_claim_that_is_taken_back_leaves_no_consumer_asleep` |
//! | `wake-after-release.producers` | a producer sleeps for ever | `parking::a_sleeping_producer_is_woken_by_a_release` |
//! | `wake-after-release.consumers` | a later stage sleeps for ever | `parking::a_sleeping_later_stage_is_woken_by_the_earlier_one` |
//! | `wake-after-leaving.producers` | a producer sleeps for ever over a consumer that has left | `parking::a_sleeping_producer_is_woken_by_a_consumer_that_leaves` |
//! | `wake-after-leaving.consumers` | the same, of a later stage | `waking::a_later_stage_is_woken_by_an_earlier_one_that_leaves` |
//! | `wake-after-work.producers` | a producer sleeps for ever over what a worker has handled | `waking::a_producer_is_woken_by_a_worker` |
//! | `wake-after-work.consumers` | the same, of a later stage | `waking::a_later_stage_is_woken_by_a_worker` |
//! | `wake-after-announcement.producers` | a producer sleeps for ever over what a worker did not claim | `groups::a_producer_that_slept_over_an_announcement_is_woken` |
//! | `wake-after-announcement.consumers` | the same, of a later stage | `waking::a_later_stage_that_slept_over_an_announcement_is_woken` |
//! | `wake-after-lane.producers` | a producer sleeps for ever over a lane that has moved | `waking::a_producer_is_woken_by_a_lane_that_moves` |
//! | `wake-after-lane.consumers` | a worker sleeps for ever over a lane that was given back | `waking::a_worker_is_woken_by_a_lane_that_is_given_back` |
//! | `wake-for-lanes-left.consumers` | a worker sleeps over a lane whose worker does something else | `waking::a_worker_is_woken_for_a_lane_that_another_turns_away_from` |
//! | `wake-after-worker-left.producers` | a producer sleeps for ever over workers that have left | `waking::a_producer_is_woken_by_the_last_worker_that_leaves` |
//! | `wake-after-worker-left.consumers` | a worker sleeps for ever over what another has left behind | `waking::a_worker_is_woken_by_what_another_leaves_behind` |
//! | `wake-for-more-work.consumers` | an event waits for a busy worker while another sleeps | `waking::no_event_waits_for_a_busy_worker_while_another_sleeps` |
//! | `up-and-under-way` | the same: a worker that is up counts as under way for ever | `waking::no_event_waits_for_a_busy_worker_while_another_sleeps` |
//! | `wake-for-other-lanes.consumers` | the same, of another lane's event | `waking::no_lane_waits_for_a_busy_worker_while_another_sleeps` |
//! | `last-work-for-everybody` | a worker sleeps for ever over the end of the ring | `waking::a_crew_is_woken_by_the_end_of_its_last_work` |
//! | `wake-after-joining.producers` | a producer sleeps for ever over the place at which a joiner has come in | `joining::a_joiner_wakes_who_slept_over_its_first_place` |
//! | `wake-after-giving-up.producers` | the same, of a joiner who gave up | `joining::a_join_that_gives_up_wakes_who_slept_over_it` |
//! | `wake-after-mail.consumers` | a consumer sleeps for ever over its mail | `waking::a_consumer_is_woken_by_mail` |
//! | `wake-after-stop.consumers` | a consumer that was stopped sleeps for ever | `waking::a_consumer_is_woken_by_a_stop` |
//! | `wake-at-close.consumers` | a consumer of a closed ring sleeps for ever | `closing::a_claim_that_is_taken_back_leaves_no_consumer_asleep` |
//! | `wake-at-close.producers` | the same, of a producer | `parking::closing_wakes_a_producer_that_sleeps_over_a_full_ring` |
//! | `wake-at-halt.consumers` | a consumer of a halted ring sleeps for ever | `waking::a_consumer_is_woken_by_a_halt` |
//! | `wake-after-switch.consumers` | a consumer sleeps on after it was told to spin | `waking::all_are_woken_by_a_switch_of_the_strategy` |
//! | `wake-after-switch.producers` | the same, of a producer | `waking::all_are_woken_by_a_switch_of_the_strategy` |
//!
//! Two ends that one might look for are not there: `finish-stage.release` is the same store as
//! `release-slot.release`, and `lease-return.heavy` the same fence as `lease.heavy`.
//!
//! Which ends there are is read from the engine's sources: one that is not in the table fails the
//! tests. Each line is run by `scripts/loom.sh`; `scripts/mutants.sh` tries each mutant once more,
//! and one that is not there against all models.
//!
//! A wake-up has a name and one or two sides, whom it wakes: `wake-at-close.producers`. A wake-up
//! without a name fails the tests.
//!
//! A mutant with which no model fails stands in a table of its own, with the file that argues why
//! what it takes away is needed all the same, or has the test that fails without it:
//!
//! | survivor | what goes wrong | file |
//! |---|---|---|
//! | `wake-after-tombstone.consumers` | a consumer sleeps for ever behind a panic | `engine/tests/ring_faults.rs` |
//!
//! # What the models cannot see
//!
//! loom does not explore load buffering, treats every pair of sequentially consistent fences as
//! synchronising, and knows no time: deadlines never pass. The light fence of the shipped code is a
//! compiler fence, made whole by `membarrier(2)` on the other side; a model has a real fence in
//! both places, so the system call itself is trusted, and so that nothing leans on a fence which is
//! not there, the acquire sides that a single producer's or a parking thread's fence would stand in
//! for have models without either. Where none could be found, as for `skip-oldest.*` and a
//! producer's `park.heavy`, the mutant takes the fence away as well (`edge.rs` says which), and the
//! same model passes with the fence alone gone. Where it looks for another order that is worth
//! trying, it knows only the last access to each atomic: of a writer that loads a pointer and then
//! swaps it, a reader may be tried behind the swap alone. So models of the table begin with its
//! word. crossbeam-epoch's reclamation and arc-swap are trusted as well. Bounds on preemptions are
//! stated at each model that has one; the publications on cyclic buffers that are known to need the
//! most preemptions, two, are within all of them.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

/// What models build on: loom's primitives, or the standard library's under the same names.
#[cfg(ringmain_loom)]
pub mod sync {
    pub use loom::thread;
    pub use ringmain::sync::{Mutex, atomic, cell::UnsafeCell};
}

/// What models build on: loom's primitives, or the standard library's under the same names.
#[cfg(not(ringmain_loom))]
pub mod sync {
    pub use std::sync::atomic;
    pub use std::thread;

    /// A lock, poisoned or not.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        /// A free lock.
        pub fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        /// Waits for the lock.
        pub fn lock(&self) -> std::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
        }
    }

    /// A cell whose accesses loom would see.
    #[derive(Debug)]
    pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        /// Wraps a value.
        pub const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        /// Calls `f` with a pointer that may be read while nobody writes.
        pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        /// Calls `f` with a pointer that may be written while nobody else reads or writes.
        pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

/// How much of a model's space is explored.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// All of it.
    Exhaustive,
    /// Every interleaving in which threads are switched at most so often at places where they could have gone on.
    Preemptions(usize),
}

/// What the executions of a model came to.
#[derive(Debug)]
#[must_use = "a model whose outcomes nobody looks at may be vacuous"]
pub struct Explored<O> {
    name: &'static str,
    executions: usize,
    outcomes: BTreeSet<O>,
}

/// Whether one end of an edge has been taken away.
fn is_mutated() -> bool {
    std::env::var_os("RINGMAIN_MUTANT").is_some()
}

/// Runs a model in all its interleavings, or some hundreds of times on real threads.
pub fn explore<O, F>(name: &'static str, bound: Bound, model: F) -> Explored<O>
where
    O: Ord + Debug + Send + 'static,
    F: Fn() -> O + Send + Sync + 'static,
{
    // Outside of loom's sight: recording is no part of the model.
    let seen = Arc::new(Mutex::new((0, BTreeSet::new())));
    let recording = {
        let seen = seen.clone();
        move || {
            let outcome = model();
            let mut seen = seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            seen.0 += 1;
            seen.1.insert(outcome);
        }
    };
    run(name, bound, recording);
    let mut seen = seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let explored = Explored { name, executions: seen.0, outcomes: std::mem::take(&mut seen.1) };
    println!("{name}: {} executions ({bound:?}), outcomes {:?}", explored.executions, explored.outcomes);
    explored
}

#[cfg(ringmain_loom)]
fn run(_name: &'static str, bound: Bound, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    // Whatever the environment says: a model that is cut short must not pass.
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.max_branches = 5_000;
    builder.preemption_bound = match bound {
        Bound::Exhaustive => None,
        Bound::Preemptions(most) => Some(most),
    };
    if is_mutated() {
        // A mutant that has not been caught by then counts as a survivor.
        builder.max_duration = Some(std::time::Duration::from_secs(60));
        builder.checkpoint_interval = 1_000;
    }
    builder.check(model);
}

#[cfg(not(ringmain_loom))]
fn run(name: &'static str, _bound: Bound, model: impl Fn() + Send + Sync + 'static) {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::{Duration, Instant};

    const ITERATIONS: u32 = 300;
    const AT_MOST: Duration = Duration::from_secs(5);
    const HANGS_AFTER: Duration = Duration::from_secs(60);

    let (ended, has_ended) = channel();
    let runner = std::thread::spawn(move || {
        let started = Instant::now();
        for _ in 0..ITERATIONS {
            model();
            if started.elapsed() > AT_MOST {
                break;
            }
        }
        let _ = ended.send(());
    });
    let outcome = has_ended.recv_timeout(HANGS_AFTER);
    assert_ne!(outcome, Err(RecvTimeoutError::Timeout), "{name} hangs");
    if let Err(panic) = runner.join() {
        std::panic::resume_unwind(panic);
    }
}

impl<O: Ord + Debug> Explored<O> {
    /// Every outcome was one of these and, in a model, each of these was seen.
    ///
    /// # Panics
    /// Otherwise.
    pub fn saw_exactly(self, possible: impl IntoIterator<Item = O>) -> Self {
        let possible: BTreeSet<O> = possible.into_iter().collect();
        let forbidden: Vec<&O> = self.outcomes.difference(&possible).collect();
        assert!(forbidden.is_empty(), "{}: forbidden outcomes {forbidden:?}", self.name);
        if cfg!(ringmain_loom) && !is_mutated() {
            let unseen: Vec<&O> = possible.difference(&self.outcomes).collect();
            assert!(unseen.is_empty(), "{}: vacuous, it never came to {unseen:?}", self.name);
        }
        self
    }

    /// In a model, there were at least so many executions.
    ///
    /// # Panics
    /// Otherwise.
    pub fn in_at_least(self, executions: usize) {
        assert!(
            !cfg!(ringmain_loom) || is_mutated() || self.executions >= executions,
            "{}: vacuous, {} executions only",
            self.name,
            self.executions
        );
    }
}
