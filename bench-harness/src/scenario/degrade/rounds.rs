//! What all rounds have found.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use ringmain::broker::{FailureKind, Term};

use super::contract::Share;
use super::options::Place;
use super::section::Found;
use super::verdict::{MIN_RECORDED, Trio};
use crate::interrupt::interrupted;
use crate::load::pacer::Tally;
use crate::report::Ledger;
use crate::stats::histogram;

/// Failures that are told one by one.
const MAX_FAILURES: usize = 8;

/// The p99 of a control; `None` where too few messages were recorded, or the run was stopped.
pub(super) type Control = Option<f64>;

/// The sections of one share and one place, added up.
pub(super) struct Row {
    pub(super) share: Share,
    pub(super) place: Place,
    pub(super) sections: u64,
    pub(super) published: u64,
    /// Messages that came due and were sent, in one section.
    pub(super) paced: u64,
    pub(super) healthy_calls: u64,
    pub(super) healthy_delivered: u64,
    pub(super) latency: Histogram<u64>,
    pub(super) tally: Tally,
    pub(super) trios: Vec<Trio>,
    pub(super) sick: SickSums,
}

/// What has come of the sick one.
#[derive(Clone, Debug, Default)]
pub(super) struct SickSums {
    pub(super) calls: u64,
    pub(super) delivered: u64,
    pub(super) failures: u64,
    pub(super) retries: u64,
    pub(super) dead_lettered: u64,
    pub(super) dropped: u64,
    pub(super) backlogged: u64,
    pub(super) retrying: u64,
    pub(super) changes: u64,
    pub(super) expected_changes: u64,
    /// Sections in which it opened.
    pub(super) opened_in: u64,
    /// The states when failures ended, each with its number of sections; and those after the recovery.
    pub(super) while_failing: BTreeMap<String, u64>,
    pub(super) recovered: BTreeMap<String, u64>,
}

/// The sections of the healthy one without a sick one, added up.
pub(super) struct Others {
    pub(super) delivered: u64,
    pub(super) latency: Histogram<u64>,
    pub(super) tally: Tally,
    pub(super) p99s: Vec<f64>,
}

/// All rows, and what they are compared with.
pub(super) struct Rounds {
    pub(super) rows: Vec<Row>,
    pub(super) alone: Others,
    pub(super) control: Others,
    /// The p99 beside a well one on the same dispatcher, in this round.
    well_together: Control,
    pub(super) ledger: Ledger,
    pub(super) failures: Vec<String>,
}

impl Others {
    fn new() -> Self {
        Self { delivered: 0, latency: histogram(), tally: Tally::default(), p99s: Vec::new() }
    }

    fn add(&mut self, found: &Found) -> Control {
        let p99 = p99(found);
        self.p99s.extend(p99);
        self.latency.add(&found.latency).expect("histograms of the same bounds");
        self.delivered += found.account.healthy.delivered();
        self.tally.add(&found.tally);
        p99
    }
}

impl Rounds {
    pub(super) fn new(shares: &[Share]) -> Self {
        let row = |&share: &Share| [Place::Own, Place::Same].map(|place| Row::new(share, place));
        Self {
            rows: shares.iter().flat_map(row).collect(),
            alone: Others::new(),
            control: Others::new(),
            well_together: None,
            ledger: Ledger::empty(),
            failures: Vec::new(),
        }
    }

    /// Takes note of a section with nobody beside the healthy one.
    pub(super) fn alone(&mut self, found: &Found) {
        self.settle(found, "alone");
        self.alone.add(found);
    }

    /// Takes note of a control.
    pub(super) fn control(&mut self, found: &Found) -> Control {
        self.settle(found, "control");
        self.control.add(found)
    }

    /// Takes note of the sections of one share, with the controls before and after that with a dispatcher of
    /// its own. On the same dispatcher the control is that of the round's first share, which is none.
    pub(super) fn add(&mut self, share: usize, controls: [Control; 2], own: &Found, same: &Found) {
        if share == 0 {
            self.well_together = p99(same);
        }
        let together = if share == 0 { None } else { self.well_together };
        for (place, (found, controls)) in [(own, controls), (same, [together; 2])].into_iter().enumerate() {
            let number = 2 * share + place;
            let label = self.rows[number].label();
            self.settle(found, &label);
            self.rows[number].add(found, controls);
        }
    }

    /// Whether something was found that must not be.
    pub(super) fn has_failed(&self) -> bool {
        !self.failures.is_empty() || !self.ledger.balanced
    }

    fn settle(&mut self, found: &Found, label: &str) {
        self.ledger.add(&found.account.ledger);
        let room = MAX_FAILURES.saturating_sub(self.failures.len());
        self.failures.extend(found.failures.iter().take(room).map(|failure| format!("{label}: {failure}")));
    }
}

impl Row {
    fn new(share: Share, place: Place) -> Self {
        Self {
            share,
            place,
            sections: 0,
            published: 0,
            paced: 0,
            healthy_calls: 0,
            healthy_delivered: 0,
            latency: histogram(),
            tally: Tally::default(),
            trios: Vec::new(),
            sick: SickSums::default(),
        }
    }

    /// What it is called in texts.
    pub(super) fn label(&self) -> String {
        let place = match self.place {
            Place::Own => "",
            Place::Same => ", same dispatcher",
        };
        format!("{:.0} % fail{place}", self.share.ratio() * 100.0)
    }

    fn add(&mut self, found: &Found, controls: [Control; 2]) {
        let account = &found.account;
        self.sections += 1;
        self.published += account.sent;
        self.paced = account.paced;
        self.healthy_calls += account.healthy_calls;
        self.healthy_delivered += account.healthy.delivered();
        self.latency.add(&found.latency).expect("histograms of the same bounds");
        self.tally.add(&found.tally);
        if let (Some(p99), [Some(before), Some(after)]) = (p99(found), controls) {
            self.trios.push(Trio { p99, controls: [before, after] });
        }
        let (sums, ledger) = (&mut self.sick, account.sick.as_ref());
        let count = |read: fn(&ringmain::broker::SubscriptionLedger) -> u64| ledger.map_or(0, read);
        sums.calls += account.seen.calls;
        sums.delivered += count(ringmain::broker::SubscriptionLedger::delivered);
        sums.failures += count(|ledger| ledger.failures_of(FailureKind::Handler));
        sums.retries += count(|ledger| ledger.retries);
        sums.dead_lettered += count(|ledger| ledger.count(Term::DeadLettered));
        sums.dropped += count(ringmain::broker::SubscriptionLedger::dropped);
        sums.backlogged += account.at_the_end.backlogged;
        sums.retrying += account.at_the_end.retrying;
        sums.changes += account.recovered.breaker_changes;
        sums.expected_changes += account.seen.model.changes;
        sums.opened_in += u64::from(account.recovered.breaker_changes > 0);
        for (states, status) in
            [(&mut sums.while_failing, account.at_the_end), (&mut sums.recovered, account.recovered)]
        {
            if let Some(state) = status.breaker {
                *states.entry(state.to_string()).or_default() += 1;
            }
        }
    }
}

/// The p99 of a section that was not cut short and has enough messages for one.
fn p99(found: &Found) -> Option<f64> {
    let tells = found.latency.len() >= MIN_RECORDED && !interrupted();
    tells.then(|| found.latency.value_at_quantile(0.99) as f64)
}
