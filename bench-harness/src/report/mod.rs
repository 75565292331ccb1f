//! What a run found: its form, what follows from it, and how it is written.

mod output;
mod schema;
mod table;
mod text;
mod verdict;

pub(crate) use output::{Answer, Destination, complain, print, write_json};
pub(crate) use schema::{
    Bound, Comparison, Figure, Ledger, OpenLoop, Report, RoundReport, Setup, Side, SubscriptionReport,
    Switches, Tries,
};
pub(crate) use table::{Cell, Table};
pub(crate) use text::render;
pub(crate) use verdict::latency_sentence;
