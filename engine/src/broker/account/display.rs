//! Accounts as text for people: what is not 0, a line for each ring and subscription.

use super::ledger::{Ledger, RingLedger, SubscriptionLedger};
use super::term::FailureKind;
use std::fmt::{self, Write};

/// Writes `count label` for each number that is not 0, with `between` in between.
fn numbers<'a>(
    f: &mut fmt::Formatter<'_>,
    numbers: impl IntoIterator<Item = (u64, &'a str)>,
    between: &str,
) -> fmt::Result {
    let mut is_first = true;
    for (count, label) in numbers.into_iter().filter(|(count, _)| *count > 0) {
        if !is_first {
            f.write_str(between)?;
        }
        is_first = false;
        write!(f, "{count} {label}")?;
    }
    if is_first { f.write_str("nothing") } else { Ok(()) }
}

/// Writes what stands beside the sum, if it is not 0.
fn refused(f: &mut fmt::Formatter<'_>, count: u64) -> fmt::Result {
    if count > 0 { write!(f, "; {count} refused") } else { Ok(()) }
}

impl fmt::Display for RingLedger {
    /// Shows the ring's terms that are not 0, and says so where the sum does not hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = [
            (self.consumed, "consumed"),
            (self.skipped, "skipped"),
            (self.tombstones, "tombstones"),
            (self.depth, "waiting"),
        ];
        write!(f, "ring {}: {} claimed = ", self.dispatcher, self.claimed)?;
        numbers(f, terms, " + ")?;
        refused(f, self.refused)?;
        f.write_str(if self.is_balanced() { "" } else { " (UNBALANCED)" })
    }
}

impl fmt::Display for SubscriptionLedger {
    /// Shows the subscription's terms that are not 0, and says so where the sum does not hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { "past subscriptions" } else { &self.name };
        write!(f, "{name}: {} routed ", self.routed)?;
        if self.replayed > 0 {
            write!(f, "+ {} replayed ", self.replayed)?;
        }
        f.write_str("= ")?;
        numbers(f, self.terms().map(|(term, count)| (count, term.as_str())), " + ")?;
        if self.failures() > 0 {
            f.write_str("; failures: ")?;
            let kinds = FailureKind::ALL.iter().map(|&kind| (self.failures_of(kind), kind.as_str()));
            numbers(f, kinds, ", ")?;
        }
        if self.retries > 0 {
            write!(f, "; {} retries", self.retries)?;
        }
        refused(f, self.refused)?;
        f.write_str(if self.is_balanced() { "" } else { " (UNBALANCED)" })
    }
}

impl fmt::Display for Ledger {
    /// Shows a line for the broker, one for each ring, and one for each subscription that a message
    /// was routed to or kept from.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [(self.published, "published"), (self.unrouted, "unrouted"), (self.refused, "refused")];
        numbers(f, all, ", ")?;
        f.write_str(if self.is_balanced() { ", balanced" } else { ", UNBALANCED" })?;
        for ring in &self.rings {
            write!(f, "\n{ring}")?;
        }
        let accounts = self.subscriptions.iter().chain([&self.past]);
        for account in
            accounts.filter(|account| account.routed + account.refused > 0 || !account.is_balanced())
        {
            f.write_char('\n')?;
            account.fmt(f)?;
        }
        Ok(())
    }
}
