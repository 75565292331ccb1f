//! What has come of the messages routed to one subscription.

use crate::broker::error::{DropReason, ErrorKind};
use crate::observe::Counter;

/// What has come of the messages routed to one subscription. Written by its consumer, or by who has taken it over.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) delivered: Counter,
    pub(crate) filtered: Counter,
    pub(crate) expired: Counter,
    pub(crate) dropped: [Counter; DropReason::ALL.len()],
    pub(crate) dead_lettered: Counter,
    pub(crate) undelivered: Counter,
    pub(crate) in_doubt: Counter,
    pub(crate) errors: [Counter; ErrorKind::ALL.len()],
}
