//! Where the messages of a section have gone: as the handlers counted it, as the ledger says, and what of
//! it cannot be.

use ringmain::broker::dead_letters::DeadLetterCounts;
use ringmain::broker::{BreakerState, FailureKind, SubscriptionLedger, SubscriptionStatus, Term};

use super::contract::{CONTRACT, Share};
use super::expected::Forecast;
use super::sick::Sick;
use crate::report::Ledger;

/// What was counted in a section, by everybody.
pub(super) struct Account {
    /// Messages that were published: those that came due, and those of the recovery.
    pub(super) sent: u64,
    /// Messages that came due and were sent.
    pub(super) paced: u64,
    pub(super) healthy_calls: u64,
    pub(super) misplaced: u64,
    pub(super) healthy: SubscriptionLedger,
    /// `None` in the control.
    pub(super) sick: Option<SubscriptionLedger>,
    pub(super) seen: Sick,
    pub(super) share: Option<Share>,
    pub(super) letters: DeadLetterCounts,
    /// The sick one when all that came due was handled or put aside.
    pub(super) at_the_end: SubscriptionStatus,
    /// The same when it was given the time to recover.
    pub(super) recovered: SubscriptionStatus,
    pub(super) is_drained: bool,
    pub(super) ledger: Ledger,
}

impl Account {
    /// What cannot be, in words; nothing where all is well.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Faults::default();
        faults.unless(self.ledger.balanced, || "the ledger of an engine does not balance".to_owned());
        faults.same("published, by the ledger and by the publisher", self.ledger.published, self.sent);
        faults.same("calls of the healthy one and messages published", self.healthy_calls, self.sent);
        faults.same(
            "delivered to the healthy one and its calls",
            self.healthy.delivered(),
            self.healthy_calls,
        );
        faults.unless(self.misplaced == 0, || {
            format!("{} messages of the healthy one were lost, doubled or out of order", self.misplaced)
        });
        if let (Some(sick), Some(share)) = (&self.sick, self.share) {
            self.look_at_ledger(sick, &mut faults);
            self.look_at_breaker(share, &mut faults);
        }
        faults.0
    }

    fn look_at_ledger(&self, sick: &SubscriptionLedger, faults: &mut Faults) {
        let (seen, handler) = (&self.seen, sick.failures_of(FailureKind::Handler));
        faults.same("routed to the sick one and published", sick.routed, self.sent);
        faults.same(
            "calls of the sick one, and delivered and failed",
            seen.calls,
            sick.delivered() + handler,
        );
        faults.same("failures of the sick one, by the ledger and by itself", handler, seen.failures);
        faults.same("retries of the sick one, by the ledger and by itself", sick.retries, seen.repeated);
        faults.same(
            "dead letters, by the ledger and by the store",
            sick.count(Term::DeadLettered),
            self.letters.taken,
        );
        faults.unless(self.letters.is_balanced(), || {
            format!("the account of the dead letters does not balance: {}", self.letters)
        });
        // Its backlog makes dead letters of what it has no room for, so that nothing is dropped or kept.
        let gone = sick.delivered() + sick.count(Term::DeadLettered);
        faults.same("delivered to the sick one or dead letters, and published", gone, self.sent);
        faults.unless(self.is_drained, || {
            let waiting = self.recovered.backlogged + self.recovered.retrying;
            format!("{waiting} messages of the sick one waited when it had had the time to recover")
        });
    }

    fn look_at_breaker(&self, share: Share, faults: &mut Faults) {
        let (model, percent) = (&self.seen.model, share.ratio() * 100.0);
        let about = format!("the breaker at {percent:.0} % of failures");
        match Forecast::of(&CONTRACT, share, self.paced) {
            Forecast::Never => {
                faults.unless(self.recovered.breaker_changes == 0, || format!("{about} opened"));
            }
            Forecast::Opens => {
                faults.unless(self.recovered.breaker_changes > 0, || format!("{about} did not open"));
            }
            Forecast::ByCalls => {}
        }
        let is_judged_at_the_end =
            share.is_all() && Forecast::of(&CONTRACT, share, self.paced) == Forecast::Opens;
        faults.unless(!is_judged_at_the_end || self.at_the_end.breaker != Some(BreakerState::Closed), || {
            format!("{about} was closed while everything failed")
        });
        faults.unless(self.recovered.breaker_changes == model.changes, || {
            let (said, follow) = (self.recovered.breaker_changes, model.changes);
            format!("{about} changed {said} times, and {follow} changes follow from its calls")
        });
        let state = self.recovered.breaker.map(|state| state.to_string()).unwrap_or_default();
        faults.unless(state == model.state(), || {
            format!("{about} is {state}, and {} follows from its calls", model.state())
        });
        faults
            .unless(state == "closed", || format!("{about} is {state} when failures have ended, not closed"));
        faults.unless(model.too_early == 0, || {
            format!("{about} let {} calls through before its time", model.too_early)
        });
    }
}

/// What was found to be wrong.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn unless(&mut self, is_well: bool, fault: impl FnOnce() -> String) {
        if !is_well {
            self.0.push(fault());
        }
    }

    fn same(&mut self, what: &str, one: u64, other: u64) {
        self.unless(one == other, || format!("{what}: {one} and {other}"));
    }
}
