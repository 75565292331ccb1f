//! What a message carries beside topic and payload: what its publisher was told, and what it inherits.

use super::backpressure::WaitMode;
use super::options::{PublishOptions, Wait};
use crate::broker::deliver::context::{self, Handling};
use crate::clock::{Clock, Timestamp};
use crate::message::Extras;
use crate::wait::Deadline;
use std::time::Instant;

/// What a publish was told, all durations made moments.
#[derive(Clone, Copy)]
pub(crate) struct SendOptions<'a> {
    extras: Option<&'a Extras>,
    /// Instead of the one in `extras`.
    expires_at: Option<Timestamp>,
    pub(super) wait: WaitMode,
}

impl SendOptions<'_> {
    /// Nothing but how long to wait.
    #[inline(always)]
    pub(super) const fn plain(wait: WaitMode) -> Self {
        Self { extras: None, expires_at: None, wait }
    }
}

impl<'a> SendOptions<'a> {
    /// What the options of one message, or of a batch, say at this moment.
    pub(super) fn of(options: &'a PublishOptions, clock: &Clock) -> Self {
        Self {
            extras: Some(&options.extras),
            expires_at: options.expires_after.map(|life| clock.now().after(life)),
            wait: match options.wait {
                Wait::Policy => WaitMode::Policy,
                Wait::Never => WaitMode::None,
                Wait::AtMost(limit) => WaitMode::Until(Deadline::after(limit)),
            },
        }
    }

    /// The same for a batch that begins now: it waits no longer than one message may.
    pub(super) fn for_batch(mut self) -> Self {
        if let WaitMode::Policy = self.wait {
            self.wait = WaitMode::PolicySince(Instant::now());
        }
        self
    }
}

/// Returns the extras of a message: those of its options, and what it inherits from the message in whose handler it is
/// published. `inherited` is the place to put them together.
#[inline(always)]
pub(super) fn extras<'a>(inherited: &'a mut Extras, options: &SendOptions<'a>) -> Option<&'a Extras> {
    match context::handling() {
        None if options.expires_at.is_none() => options.extras,
        handling => Some(put_together(inherited, options, handling)),
    }
}

fn put_together<'a>(
    inherited: &'a mut Extras,
    options: &SendOptions<'_>,
    handling: Option<Handling>,
) -> &'a Extras {
    match options.extras {
        Some(extras) => inherited.copy_from(extras),
        None => inherited.clear(),
    }
    inherited.expires_at = options.expires_at.or(inherited.expires_at);
    if let Some(handling) = handling {
        inherited.parent = Some(handling.id);
        inherited.correlation = inherited.correlation.or(handling.correlation);
    }
    inherited
}
