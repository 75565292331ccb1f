//! The arguments of `degrade`.

use clap::Args;

use super::cores::CoresArg;
use super::values;
use crate::scenario::{DegradeOptions, Fault};

#[derive(Debug, Args)]
pub(super) struct DegradeArgs {
    /// Steps from no failures to failures alone, from 1 to 100 [default: 10, or 4 with --quick]
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = values::count(1, 100, "steps"))]
    steps: Option<usize>,
    /// Messages at each share of failures, from 1 to 1000000000, in all rounds together; as many for
    /// either dispatcher [default: 20000, or 6000 with --quick]
    #[arg(long, value_name = "N", allow_hyphen_values = true,
          value_parser = values::count(1, 1_000_000_000, "messages"))]
    messages: Option<usize>,
    /// Rounds, from 1 to 1000, in each of which every share has a turn [default: 5, or 3 with --quick]
    #[arg(long, value_name = "N", allow_hyphen_values = true,
          value_parser = values::count(1, 1_000, "rounds"))]
    rounds: Option<usize>,
    /// Messages per second, from 0.001 to 1000000000 [default: 20000]
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = values::per_second)]
    rate: Option<f64>,
    /// Fewer steps, rounds and messages: done within 15 seconds instead of 60
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    cores: CoresArg,
    /// Plant a fault: shows that it is noticed
    #[arg(long, value_name = "FAULT", hide = true)]
    plant: Option<Fault>,
}

impl DegradeArgs {
    pub(super) fn into_options(self) -> DegradeOptions {
        DegradeOptions {
            steps: self.steps,
            messages: self.messages.map(|messages| messages as u64),
            rounds: self.rounds,
            rate: self.rate,
            quick: self.quick,
            cores: self.cores.into_list(),
            planted: self.plant,
        }
    }
}
