//! What a shutdown hands back is kept with the dead letters, where these outlive the process.
//!
//! Handing back comes first and does not depend on it: the report has every message, whatever the store says. A letter
//! takes a copy of the payload, which is foreign code, so it is made aside, as those of a take-over are; the shutdown
//! waits for it as it waits for these. No letter that is there makes room for one of these.

use super::report::Undelivered;
use super::takeover::Pending;
use super::threads::Threads;
use crate::broker::core::Core;
use crate::broker::lifecycle::aside::run_aside;
use crate::message::MessagePayload;
use crate::sync::panics::guard;
use std::sync::Arc;
use std::time::Instant;

impl<P> Threads<P> {
    /// Takes what was handed back and the store was not offered yet. Whoever takes something has to
    /// [offer](offer) it.
    pub(super) fn take_unoffered(&mut self) -> Vec<Arc<Undelivered<P>>> {
        let unoffered = self.handed_back.get(self.offered..).unwrap_or_default().to_vec();
        self.offered += unoffered.len();
        self.pending += usize::from(!unoffered.is_empty());
        unoffered
    }

    /// Returns whether the store was offered all that will ever be handed back, and has said what it takes.
    pub(super) fn is_all_offered(&self) -> bool {
        let may_come = self.pending > 0 || !self.in_hand.is_empty();
        let is_running = self.consumers.iter().any(|thread| thread.is_on_its_way());
        !may_come && !is_running && self.offered == self.handed_back.len()
    }
}

/// Has the store take copies, aside. Does not wait for it: the shutdown does, beside other things.
pub(super) fn offer<P: MessagePayload>(core: &Arc<Core<P>>, undelivered: Vec<Arc<Undelivered<P>>>) {
    let keeping = core.clone();
    run_aside(Instant::now(), move || {
        let pending = Pending::of(&keeping);
        let Some(store) = &keeping.dead_letters else { return };
        for undelivered in undelivered {
            for subscription in &undelivered.subscriptions {
                let Some(letter) = guard(|| undelivered.to_letter(subscription)) else { continue };
                match store.put_beside(letter, &keeping.clock) {
                    Ok(put) => {
                        keeping.threads.lock().kept += 1;
                        put.discard();
                    }
                    Err(letter) => _ = guard(|| drop(letter)),
                }
            }
            guard(|| drop(undelivered));
        }
        drop(pending);
    });
}
