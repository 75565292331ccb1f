//! Failure: what becomes of a message, which policy to choose, and what each fault does.
//!
//! # From the outcome to the end
//!
//! Before a call these are asked, in this order: has the subscription ended, has the message expired, does the
//! filter want it, is it a duplicate, does it have to wait, does the breaker let it through.
//!
//! | outcome | counted | what follows |
//! |---|---|---|
//! | the subscription has ended | [`Term::Unsubscribed`] | nothing |
//! | the message has expired, be it before its first attempt or a later one | [`Term::Expired`] | nothing; or a dead letter, where that [is wanted](crate::broker::SubscriptionBuilder::dead_letter_expired) |
//! | the filter does not want it | [`Term::Filtered`] | nothing |
//! | one with its key was handled, or waits and [cannot be lost](crate::broker::Idempotency::may_lose) | [`Term::Duplicate`] | nothing |
//! | it waits, and a newer one with its key comes, where the subscription conflates | [`Term::Conflated`] | the newer one has its place |
//! | it has to wait, and there is room | [`Term::Backlogged`] | its turn comes |
//! | it has to wait, and there is none | as [`WhenFull`] says: [`Term::Overflow`], or [`Term::DeadLettered`] of kind [`Overflow`](crate::broker::FailureKind::Overflow) | nothing |
//! | the breaker is open, and refuses | [`FailureKind::Refused`], [`Term::Failed`] | nothing, not even a dead letter |
//! | the breaker is open, and there is a [fallback](crate::broker::SubscriptionBuilder::fallback) | as of a call: [`Term::Delivered`], or as a failure that is not tried again | |
//! | the breaker is open, and makes letters | [`FailureKind::Refused`], [`Term::DeadLettered`] | it can be replayed |
//! | the call returns well | [`Term::Delivered`] | nothing |
//! | it returns an error | [`FailureKind::Handler`] | *it has failed*, below |
//! | it returns [`RetryAfter`] | [`FailureKind::Handler`] | as an error, after this delay: neither schedule nor cap apply, attempts and `max_elapsed` do |
//! | it returns [`Permanent`] | [`FailureKind::Handler`] | as an error that is not tried again; the breaker does not count it |
//! | it panics | [`FailureKind::Panic`] | *it has failed*, below |
//! | it returns after its [time limit](crate::broker::SubscriptionBuilder::time_limit), well or not | [`FailureKind::TimedOut`](crate::broker::FailureKind::TimedOut), and [`late`](crate::broker::SubscriptionLedger::late) | *it has failed*, below; what it returned is discarded, `Permanent` and `RetryAfter` too |
//! | its token is given back well | [`Term::Delivered`] | nothing |
//! | its token is given back as failed | [`FailureKind::Handler`] | *it has failed*, below |
//! | its token is dropped | [`FailureKind::Cancelled`](crate::broker::FailureKind::Cancelled), or [`FailureKind::Panic`] in a panic | *it has failed*, below; a dropped one is not tried again |
//! | its token does not come back within its limit | [`FailureKind::TimedOut`](crate::broker::FailureKind::TimedOut) | *it has failed*, below; the token is told that it is [too late](crate::broker::TokenError::TooLate), and counted as [`late`](crate::broker::SubscriptionLedger::late) |
//! | it does not return before the shutdown gives it up | [`Term::InDoubt`] | [`Abandoned`] names it |
//!
//! *It has failed*:
//!
//! | retry | the message |
//! |---|---|
//! | there is one, for this error, with attempts, time, budget and room left | waits: [`Term::Retrying`], and [`retries`](crate::broker::SubscriptionLedger::retries) goes up |
//! | none, or it gives up; the broker keeps dead letters | is one: [`Term::DeadLettered`], with what each attempt failed with |
//! | it gives up for want of room, and no letters are kept | [`Term::Overflow`] |
//! | none, or it gives up otherwise, and no letters are kept | [`Term::Failed`] |
//!
//! ```
//! use ringmain::Broker;
//! use ringmain::broker::dead_letters::{DeadLetterOptions, Selection};
//! use ringmain::broker::{FailureKind, Handled, Retry, Term};
//! use std::time::Duration;
//!
//! let mut simulation = Broker::of::<u32>().dead_letters(DeadLetterOptions::new()).simulate()?;
//! let broker = simulation.broker();
//! let retry = Retry::constant(Duration::from_millis(10)).attempts(3);
//! let _payments = broker.subscription().pattern("payments").retry(retry).subscribe(|amount| match **amount {
//!     0 => Handled::Permanent("nothing to pay".into()),
//!     1 => Handled::Failed("the bank does not answer".into()),
//!     _ => Handled::Done,
//! })?;
//! let mut publisher = broker.publisher("payments")?;
//! for amount in [0, 1, 2] {
//!     let _ = publisher.publish(amount)?;
//! }
//! simulation.advance(Duration::from_secs(1));
//!
//! let account = broker.audit().total();
//! assert_eq!((account.delivered(), account.count(Term::DeadLettered), account.retries), (1, 2, 2));
//! assert_eq!(account.failures_of(FailureKind::Handler), 4); // one for 0, three for 1
//! assert_eq!(broker.dead_letters().map(|dead| dead.count(&Selection::all())), Some(2));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which policy when
//!
//! | your case | choose |
//! |---|---|
//! | a failure that passes by itself: a busy peer, a lock, a network | [`Retry::default`](crate::broker::Retry), whose jitter keeps many from coming back at once |
//! | a message that is itself wrong | return [`Permanent`]; do not try again |
//! | the peer says when to come back | return [`RetryAfter`] |
//! | order matters more than speed | [`Retry::in_order`](crate::broker::Retry::in_order), few attempts, a large backlog |
//! | a peer that is down for minutes | a [`Breaker`](crate::broker::Breaker) beside the retry: nobody calls it, and no attempts are used up |
//! | old values are worth nothing while it is down | [`WhileOpen::Refuse`](crate::broker::WhileOpen::Refuse), or a time to live: of a message ([`expires_after`]), or of all messages of a topic ([`expire_after`](crate::broker::BrokerBuilder::expire_after)) |
//! | only the latest values count after a pause | [`WhenFull::DropOldest`] and a small [`Backlog`](crate::broker::Backlog) |
//! | only the latest value of each key counts, and the handler is slow | [`conflate`](crate::broker::SubscriptionBuilder::conflate) |
//! | senders repeat themselves | [`idempotent`](crate::broker::SubscriptionBuilder::idempotent) |
//! | the work is done elsewhere, by threads of your own | [`subscribe_with_tokens`](crate::broker::SubscriptionBuilder::subscribe_with_tokens) |
//! | nothing may be given up unseen | [`dead_letters`](crate::broker::BrokerBuilder::dead_letters), and look at them |
//! | retries must not become a load of their own | [`Retry::budget`](crate::broker::Retry::budget) |
//! | a handler that may be slow | a [`Dispatcher`](crate::broker::Dispatcher) of its own |
//! | what comes too late is of no use, or a slow call is to be known at once | a [`time_limit`](crate::broker::SubscriptionBuilder::time_limit), and [`is_cancelled`](crate::message::Message::is_cancelled) in the handler |
//! | a handler that may hang | the same, and a limit for all that waits for it: [`pause_timeout`], [`unsubscribe_timeout`], `shutdown` |
//! | the same, and others share its dispatcher | [`rescue_after`](crate::broker::Dispatcher::rescue_after): they go on on another thread |
//!
//! # Faults
//!
//! Foreign code is what you give to the engine: handlers, filters, callbacks, publish closures, and the `Clone`, `Drop`
//! and `Display` of your types. It costs its own delivery and nobody else's. The tests are in `engine/tests`, as
//! `file::test`.
//!
//! | fault | what happens | counted | test |
//! |---|---|---|---|
//! | a handler returns an error | the message has failed; the others go on | [`FailureKind::Handler`] | `broker_faults::failing_handlers_are_counted_by_kind_and_concern_nobody_else` |
//! | a handler panics | caught; the same | [`FailureKind::Panic`] | `broker_faults::failing_handlers_are_counted_by_kind_and_concern_nobody_else` |
//! | a handler panics with what has waited | that message alone has failed | [`FailureKind::Panic`] | `broker_pause::a_handler_that_panics_with_what_has_waited_costs_that_message_alone` |
//! | an error or a panic's value panics when dropped | caught; it has failed already | as before | `broker_faults::an_error_or_a_panic_whose_value_panics_when_dropped_does_not_end_the_consumer` |
//! | an error's `Display` panics | its text is missing in the dead letter | as before | `broker_dead_letters::panics_and_errors_that_panic_are_told_as_far_as_they_can_be` |
//! | what a handler captured panics when dropped | caught, on its consumer's thread | nowhere: no delivery is concerned | `broker_faults::captured_state_that_panics_when_dropped_hurts_nobody` |
//! | a payload panics when dropped | caught | nowhere: its deliveries are over | `broker_clearing::a_payload_whose_drop_panics_stops_nobody` |
//! | a payload's `Clone` panics when its message has to wait | that delivery has failed, and is not tried again | [`FailureKind::Panic`], [`Term::Failed`] | `broker_pause::a_message_whose_copy_panics_is_counted_as_failed_and_the_others_wait` |
//! | a filter panics | no match: that delivery has failed and is not tried again; the breaker does not count it | [`FailureKind::Panic`] | `broker_filters::a_filter_that_panics_is_a_failed_delivery_and_no_match`, `broker_breakers::a_filter_that_panics_counts_for_no_breaker` |
//! | a key's closure panics | that delivery has failed and is not tried again; the breaker does not count it | [`FailureKind::Panic`] | `broker_keys::a_key_that_panics_fails_its_own_delivery_and_says_nothing_of_the_handler` |
//! | a handler panics with its token | that message has failed; one whose token is elsewhere is settled there | [`FailureKind::Panic`] | `broker_tokens::a_handler_that_panics_with_its_token_has_failed_and_without_it_has_settled_nothing` |
//! | a token is leaked, or its worker hangs | the message has failed at its limit, and is tried again as a copy | [`FailureKind::TimedOut`](crate::broker::FailureKind::TimedOut) | `broker_tokens::a_token_that_is_leaked_fails_at_its_limit_and_the_message_is_kept` |
//! | a handler never returns with its token | in doubt, once | [`Term::InDoubt`] | `broker_tokens::a_handler_that_never_returns_with_its_token_is_in_doubt_once` |
//! | an `on_expired` callback panics | caught | as before | `broker_expiry::a_callback_that_panics_costs_nobody_anything` |
//! | an `on_error` callback panics | caught; the failure is counted all the same | as before | `broker_foreign_code::callbacks_are_told_of_each_failure_and_may_panic` |
//! | a log subscriber panics or hangs | no message is lost by it | as before | `broker_foreign_code::a_log_that_panics_costs_no_delivery`, `broker_foreign_code::a_log_that_hangs_costs_no_message` |
//! | a publish closure panics | nothing is published, and the panic goes on to whoever published | [`tombstones`](crate::broker::RingLedger::tombstones) | `broker_faults::a_publish_closure_that_panics_publishes_nothing_and_leaves_the_ledger_balanced` |
//! | a handler is slow | those that share its dispatcher wait for it, publishers too once its ring is full; other dispatchers go on | [`depth`](crate::broker::RingLedger::depth), and the latencies of the [metrics](crate::observe::Metrics) | `broker_fault_table::a_slow_handler_holds_up_its_own_dispatcher_alone` |
//! | a handler is slow, and its breaker watches [slow calls](crate::broker::Breaker::slow_calls) | the breaker opens | [`breaker_changes`](crate::broker::SubscriptionStatus::breaker_changes) | `broker_breakers::slow_calls_open_it_by_the_brokers_clock` |
//! | a handler is slow, and its subscription has a [time limit](crate::broker::SubscriptionBuilder::time_limit) | the watchdog names the call at that limit, the call is told, and what it returns is discarded | [`late`](crate::broker::SubscriptionLedger::late), [`FailureKind::TimedOut`](crate::broker::FailureKind::TimedOut) | `broker_time_limits_watched::a_stuck_call_is_named_at_its_own_limit_is_told_and_what_it_returns_is_late` |
//! | a late call panics | it has panicked | [`FailureKind::Panic`] | `broker_time_limits::a_late_call_that_panics_has_panicked` |
//! | what a late call returned panics when it is discarded | caught; the call is late | as before | `broker_time_limits::an_error_that_panics_when_it_is_discarded_changes_nothing` |
//! | a handler never returns | a shutdown returns in time, names it, and hands back what came behind | [`Term::InDoubt`] for the call, [`Term::Undelivered`] behind it | `broker_faults::shutdown_with_a_stuck_handler_returns_in_time_names_it_and_hands_the_rest_back` |
//! | the same, on a [rescuable](crate::broker::Dispatcher::rescuable) dispatcher | another thread goes on with all that shares its own; what comes for it waits until it is back | [`Term::InDoubt`] for the call, [`Term::Backlogged`] meanwhile | `broker_rescue::the_others_of_a_stuck_consumer_go_on_and_it_does_when_its_call_returns` |
//! | a filter, or what comes after a handler's call, never returns there | it is not rescued, and who asks for it is told so | as a handler | `broker_rescue::a_call_that_has_returned_or_is_no_handlers_is_not_rescued`, `broker_rescue::what_comes_after_a_handlers_call_is_not_rescued` |
//! | a handler never returns, and its subscription ends | [`unsubscribe_timeout`] gives up at its limit; it ends when the call does | [`Term::Unsubscribed`] for what was behind | `broker_faults::unsubscribing_from_a_stuck_handler_gives_up_at_its_limit_and_takes_effect_later` |
//! | a filter never returns | as a handler | as a handler | `broker_filters::a_filter_that_hangs_is_taken_over_like_a_handler` |
//! | a ring is full, and rejects | the publisher gets an error and its payload back | [`refused`](crate::broker::SubscriptionLedger::refused) | `broker::a_full_ring_that_rejects_hands_the_payload_back`, `broker_refused::refusals_of_an_only_ring_are_counted_and_outlive_the_route` |
//! | a ring is full, and has the publisher wait | it waits, as long as it was told to | [`refused`](crate::broker::SubscriptionLedger::refused), when the time is up | `broker::a_publish_waits_for_room_and_a_limited_wait_ends` |
//! | handlers wait for room in a circle | who closes the circle gets an error | [`refused`](crate::broker::SubscriptionLedger::refused) | `broker_waits::a_circle_of_two_dispatchers_is_refused_to_who_closes_it` |
//! | a backlog is full | as [`WhenFull`] says | [`Term::Overflow`] or [`Term::DeadLettered`] | `broker_pause::a_full_backlog_drops_the_newest_or_the_oldest_as_it_was_told`, `broker_dead_letters::a_full_backlog_makes_letters_of_the_newest_and_the_others_are_delivered` |
//! | messages of 64 KiB meet a limit in bytes | as many are kept as fit; one that alone is too large costs no other | [`Term::Overflow`], or the store's `evicted` and `lost` | `broker_fault_table::of_messages_of_64_kib_as_many_wait_as_the_bytes_of_a_backlog_allow`, `broker_fault_table::of_letters_of_64_kib_as_many_are_held_as_the_bytes_of_the_store_allow` |
//! | too many wait to be tried again | the next that fails is given up | [`Term::Overflow`], or [`Term::DeadLettered`] | `broker_retries::more_than_may_wait_for_another_attempt_are_dropped_and_counted` |
//! | the store of dead letters is full | the oldest letter goes | [`evicted`](crate::broker::dead_letters::DeadLetterCounts::evicted) | `broker_dead_letters::twelve_thousand_failures_leave_ten_thousand_letters_which_are_replayed_once_at_their_rate` |
//! | the durable store's disk is full | letters stay in memory; all is made up for when it is well again | `not_durable` in its status | `broker_durable_disk::a_full_disk_holds_nobody_up_and_is_told_and_all_is_made_up_for` |
//! | it is slow, or stuck | consumers go on, and a shutdown returns in time | the same | `broker_durable_disk::consumers_go_on_at_full_speed_beside_a_slow_disk`, `broker_durable_disk::a_stuck_disk_holds_up_neither_consumers_nor_a_shutdown` |
//! | a byte of its file is damaged | that record is named, and the others are read | `damaged`, when the broker is built | `broker_durable::a_damaged_byte_costs_one_letter_which_is_named` |
//! | its codec fails or panics | that letter stays in memory alone | `unwritable` in its status | `broker_durable_disk::a_codec_that_fails_or_panics_costs_its_own_letter` |
//! | everything is full at once | each bound gives way as it was told to, and the ledger balances | all of these | `broker_fault_table::with_everything_full_at_once_each_message_is_counted_once` |
//! | the clock jumps forward | what is due by then is done, once each; what has expired by then is not | [`retries`](crate::broker::SubscriptionLedger::retries), [`Term::Expired`] | `broker_fault_table::a_clock_that_jumps_ahead_has_each_attempt_made_once` |
//! | the wall clock is set | nothing: moments are told by a clock that never runs backwards | nowhere | `broker_fault_table::no_moment_comes_before_an_earlier_one` |
//!
//! [`Abandoned`]: crate::broker::Abandoned
//! [`FailureKind::Handler`]: crate::broker::FailureKind::Handler
//! [`FailureKind::Panic`]: crate::broker::FailureKind::Panic
//! [`FailureKind::Refused`]: crate::broker::FailureKind::Refused
//! [`Permanent`]: crate::broker::Permanent
//! [`RetryAfter`]: crate::broker::RetryAfter
//! [`Term::Backlogged`]: crate::broker::Term::Backlogged
//! [`Term::Conflated`]: crate::broker::Term::Conflated
//! [`Term::Duplicate`]: crate::broker::Term::Duplicate
//! [`Term::DeadLettered`]: crate::broker::Term::DeadLettered
//! [`Term::Delivered`]: crate::broker::Term::Delivered
//! [`Term::Expired`]: crate::broker::Term::Expired
//! [`Term::Failed`]: crate::broker::Term::Failed
//! [`Term::Filtered`]: crate::broker::Term::Filtered
//! [`Term::InDoubt`]: crate::broker::Term::InDoubt
//! [`Term::Overflow`]: crate::broker::Term::Overflow
//! [`Term::Retrying`]: crate::broker::Term::Retrying
//! [`Term::Undelivered`]: crate::broker::Term::Undelivered
//! [`Term::Unsubscribed`]: crate::broker::Term::Unsubscribed
//! [`WhenFull`]: crate::broker::WhenFull
//! [`WhenFull::DropOldest`]: crate::broker::WhenFull::DropOldest
//! [`expires_after`]: crate::broker::PublishOptions::expires_after
//! [`pause_timeout`]: crate::broker::Subscription::pause_timeout
//! [`unsubscribe_timeout`]: crate::broker::Subscription::unsubscribe_timeout
