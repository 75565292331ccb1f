//! What a message carries beside topic and payload: what its publisher was told, and what it inherits.

use super::backpressure::WaitMode;
use super::options::{PublishOptions, Wait};
use crate::broker::deliver::context::{self, Handling};
use crate::clock::{Clock, Timestamp};
use crate::message::{Extras, Priority};
use crate::wait::Deadline;

/// What a publish was told beside how to wait, all durations made moments.
pub(crate) struct SendOptions<'a> {
    extras: &'a Extras,
    /// Instead of the one in `extras`.
    expires_at: Option<Timestamp>,
    pub(super) priority: Priority,
}

impl<'a> SendOptions<'a> {
    /// What the options of one message, or of a batch, say at this moment; and how long they wait.
    pub(super) fn of(options: &'a PublishOptions, clock: &Clock) -> (Self, WaitMode<'static>) {
        let told = Self {
            extras: &options.extras,
            expires_at: options.expires_after.map(|life| clock.now().after(life)),
            priority: options.priority,
        };
        let wait = match options.wait {
            Wait::Policy => WaitMode::Policy,
            Wait::Never => WaitMode::None,
            Wait::AtMost(limit) => WaitMode::Until(Deadline::after(limit)),
        };
        (told, wait)
    }
}

/// Returns the extras of a message: those of its options, and what it inherits from the message in whose handler it is
/// published. `inherited` is the place to put them together.
#[inline(always)]
pub(super) fn extras<'a>(inherited: &'a mut Extras, options: Option<&SendOptions<'a>>) -> Option<&'a Extras> {
    match (context::handling(), options) {
        (None, None) => None,
        (None, Some(SendOptions { extras, expires_at: None, .. })) => Some(extras),
        (handling, options) => Some(put_together(inherited, options, handling)),
    }
}

#[inline(always)]
fn put_together<'a>(
    inherited: &'a mut Extras,
    options: Option<&SendOptions<'_>>,
    handling: Option<Handling>,
) -> &'a Extras {
    match options {
        Some(SendOptions { extras, expires_at, .. }) => {
            inherited.copy_from(extras);
            inherited.expires_at = expires_at.or(inherited.expires_at);
        }
        None => inherited.clear(),
    }
    if let Some(handling) = handling {
        inherited.parent = Some(handling.id);
        inherited.correlation = inherited.correlation.or(handling.correlation);
    }
    inherited
}
