//! What a message carries beside topic and payload: what its publisher was told, and what it inherits.

use super::backpressure::WaitMode;
use super::options::{PublishOptions, Wait};
use crate::broker::deliver::context::{self, Handling};
use crate::clock::{Clock, Timestamp};
use crate::message::{Extras, Priority};
use crate::wait::Deadline;
use std::time::Duration;

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

    /// What a message is told that is published at this moment and lives for so long, unless its options say when it
    /// expires. `nothing` is what it is told beside, without any.
    pub(super) fn living(options: Option<&Self>, life: Duration, nothing: &'a Extras, clock: &Clock) -> Self {
        let (extras, expires_at, priority) = options.map_or((nothing, None, Priority::Normal), |options| {
            (options.extras, options.expires_at.or(options.extras.expires_at), options.priority)
        });
        let expires_at = expires_at.unwrap_or_else(|| clock.now().after(life));
        Self { extras, expires_at: Some(expires_at), priority }
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
