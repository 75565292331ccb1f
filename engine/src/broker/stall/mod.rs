//! The watchdog: says, with names and without being asked, which call does not return and what keeps a publisher
//! waiting.
//!
//! # How a call is known to be the same, without a clock
//!
//! A consumer says before each call of foreign code which one it is: the call's word, and its delivery
//! (`ring/lease.rs`). Nothing is added to that. The watchdog looks at both at intervals. A sequence is never used
//! again, and what is called outside of the ring has a number of its own; so who sees the same word and delivery
//! twice knows that nothing else was called in between, and that it has taken at least the time between the two
//! looks.
//!
//! What it cannot tell apart: the calls that one delivery is made of, one after the other. Those are the filter or
//! the key, the copy that is to wait, the handler with its error callbacks, and, after a failure, the policy; then,
//! marked otherwise, what tells of the failure and what drops the message. Their ages add up, and all of them are
//! code of the same subscription about the same message. No two deliveries are ever taken for one.
//!
//! What it does not see: foreign code outside of a call, such as the drop of a handler whose subscription ends, and
//! copies for a shutdown's report.
//!
//! # Limits
//!
//! What stands still is told at the broker's own limit; a handler's call at the time limit of its subscription, if it
//! has one, be that shorter or longer. How often is looked follows the shortest limit that there is at the moment
//! (`limits.rs`). A call's limit is looked up when it is met for the first time, and only while some subscription has
//! one. It is the age above that is compared with it, and not the time by which the call will be found late: the call
//! is told a little after its limit, and what was asked before it, such as a filter, is part of its age.
//!
//! # Late, and not wrong
//!
//! The age begins at the first look, which comes up to an interval after the call has. Of a time in which the
//! watchdog itself did not run, because the process was stopped or the machine had no core for it, no more counts
//! than twice an interval: the call did not run either. Before anything is said the call is looked at once more,
//! behind a fence, so that a word and a delivery that were read at two different moments are never taken for one
//! call.
//!
//! # Who may hang
//!
//! A look (`look.rs`) runs no foreign code, and holds a lock that none is held beside. The log and the callback are
//! foreign, and are called on the watchdog's own thread (`watchdog.rs`) without any lock: what hangs there stops
//! what is told, and nothing else. A shutdown does not wait for that thread. Whoever asks what is stalled makes a
//! look of its own. So does the rescuer, a thread that is there where consumers are to be replaced by themselves
//! (`lifecycle/rescue.rs`): it leaves what has come of that for the watchdog to tell.

mod limits;
pub(super) mod look;
pub(super) mod report;
mod signal;
pub(super) mod track;
pub(super) mod waiting;
pub(super) mod watch;
pub(super) mod watchdog;
