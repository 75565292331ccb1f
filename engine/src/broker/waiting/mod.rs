//! What waits: the messages of a consumer's subscriptions that are neither in its ring nor in a call.
//!
//! Each consumer has a *waiting room* beside its mailbox, with a queue for each subscription that has
//! had something to wait for. Only the consumer puts messages in and takes them out. They lie behind a
//! lock all the same, so that others reach them when the consumer is stuck in a handler: an audit, which
//! counts them, and a shutdown, which hands them back. The lock is never held during a call of foreign
//! code, and a consumer with nothing that waits never takes it.
//!
//! What the consumer alone needs to know, which queues are to be looked at and when, is in its schedule,
//! without a lock.

pub(super) mod backlog;
pub(super) mod held;
pub(super) mod hold;
pub(super) mod line;
pub(super) mod parked;
pub(super) mod queue;
pub(super) mod room;
pub(super) mod schedule;
pub(super) mod side;
