//! The closed sets that accounts are kept by: the terms of a ledger, the reasons for dropping a
//! message, and the kinds of failed deliveries.
//!
//! Each member is spelled once, here: counters, sums and labels go through [`Term::ALL`] and its
//! like.

use std::fmt;

/// Defines a set of members, each with its label; `ALL` lists them in the order of their numbers.
macro_rules! closed_set {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $member:ident = $label:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* $member,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$member,)+];

            /// Returns the label by which metrics know it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$member => $label,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

closed_set! {
    /// A term of a subscription's account: what has come of a message that was routed to it.
    ///
    /// The terms' sum is what was routed, and what was replayed.
    Term {
        /// The handler returned without an error.
        Delivered = "delivered",
        /// The subscription's filter did not want the message.
        Filtered = "filtered",
        /// The message had expired.
        Expired = "expired",
        /// Dropped: the subscription was gone when the message's turn came.
        Unsubscribed = "dropped_unsubscribed",
        /// Dropped: the handler failed, with no attempt left and no dead letters kept; or a breaker was open,
        /// and [refuses](crate::broker::WhileOpen::Refuse) meanwhile.
        Failed = "dropped_failed",
        /// Dropped: its backlog was full, or too many waited for another attempt.
        Overflow = "dropped_overflow",
        /// Dropped: a newer message with the same key has taken its place.
        Conflated = "dropped_conflated",
        /// Dropped: a message with the same key has been handled, or waits to be.
        Duplicate = "dropped_duplicate",
        /// The message has become a dead letter.
        DeadLettered = "dead_lettered",
        /// The shutdown handed the message back.
        Undelivered = "undelivered",
        /// The call had not returned, or the token had not come back, when the broker stopped waiting for it: at a
        /// shutdown, when its consumer [was replaced](crate::broker::Dispatcher::rescuable), or when the subscription
        /// ended.
        InDoubt = "in_doubt",
        /// The message waits for another attempt. A size, not a count.
        Retrying = "retrying",
        /// The message waits in the subscription's backlog. A size, not a count.
        Backlogged = "backlogged",
        /// The call is running, or the handler keeps the message with a token. A size that is read, neither a count
        /// nor a remainder.
        InFlight = "in_flight",
    }
}

closed_set! {
    /// Why a message that was routed to a subscription was dropped. Each reason is a [`Term`] of
    /// the account.
    DropReason {
        /// The subscription was gone when its turn came.
        Unsubscribed = "unsubscribed",
        /// The handler failed, with no attempt left and no dead letters kept.
        Failed = "failed",
        /// Its backlog was full, or too many waited for another attempt.
        Overflow = "overflow",
        /// A newer message with the same key took its place.
        Conflated = "conflated",
        /// A message with the same key has been handled, or waited to be.
        Duplicate = "duplicate",
    }
}

closed_set! {
    /// The kind of a failed delivery, or why a message has become a dead letter without one.
    FailureKind {
        /// The handler returned an error.
        Handler = "handler",
        /// The handler panicked.
        Panic = "panic",
        /// The handler's call has returned after its time limit, or it has kept the message for longer than its token
        /// may be.
        TimedOut = "timed_out",
        /// A circuit breaker was open, and refuses meanwhile.
        Refused = "refused",
        /// The message had expired, and its subscription has such become
        /// [dead letters](crate::broker::SubscriptionBuilder::dead_letter_expired).
        Expired = "expired",
        /// A backlog was full, and what finds no room becomes a dead letter.
        Overflow = "overflow",
        /// The payload could not be encoded or decoded. Reserved.
        Codec = "codec",
        /// The message's token was dropped.
        Cancelled = "cancelled",
        /// The broker was shut down before the message's turn came, and its dead letters outlive it. Such letters are
        /// counted as [undelivered](Term::Undelivered), not as failures.
        Undelivered = "undelivered",
    }
}

impl DropReason {
    /// Returns the term under which messages dropped for this reason are counted.
    pub const fn term(self) -> Term {
        match self {
            Self::Unsubscribed => Term::Unsubscribed,
            Self::Failed => Term::Failed,
            Self::Overflow => Term::Overflow,
            Self::Conflated => Term::Conflated,
            Self::Duplicate => Term::Duplicate,
        }
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn members_are_numbered_as_they_are_listed() {
        assert!(Term::ALL.iter().enumerate().all(|(number, &term)| term as usize == number));
        assert!(DropReason::ALL.iter().enumerate().all(|(number, &reason)| reason as usize == number));
        assert!(FailureKind::ALL.iter().enumerate().all(|(number, &kind)| kind as usize == number));
    }

    #[test]
    fn each_reason_for_dropping_is_a_term_of_its_own() {
        let terms: BTreeSet<_> = DropReason::ALL.iter().map(|reason| reason.term().as_str()).collect();
        let dropped =
            Term::ALL.iter().map(|term| term.as_str()).filter(|label| label.starts_with("dropped_"));
        assert_eq!(terms, dropped.collect());
        assert!(DropReason::ALL.iter().all(|reason| reason.term().as_str().ends_with(reason.as_str())));
    }
}
