//! Scenarios: what the commands do that are neither a comparison nor about routing's cost.

mod contest;
mod cost;
mod degrade;
mod floor;
mod latency;
mod replay;
mod route;
mod run;
mod throughput;
mod waiting;

pub(crate) use cost::{CostOptions, HELP as COST_HELP, cost};
pub(crate) use degrade::{DegradeOptions, Fault, HELP as DEGRADE_HELP, degrade};
pub(crate) use floor::{FloorOptions, floor};
pub(crate) use latency::latency;
pub(crate) use replay::{ReplayOptions, replay};
pub(crate) use route::{RouteFiles, route};
pub(crate) use run::{RunOptions, run};
pub(crate) use throughput::throughput;
pub(crate) use waiting::{WaitingOptions, waiting};
