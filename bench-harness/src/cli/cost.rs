//! The arguments of `cost`.

use clap::Args;

use super::values;
use crate::scenario::CostOptions;

#[derive(Debug, Args)]
pub(super) struct CostArgs {
    /// Pairs of batches, one with the feature and one without, for each feature, from 1 to 1000000
    /// [default: 10000, or 2000 with --quick]
    #[arg(long, value_name = "N", allow_hyphen_values = true,
          value_parser = values::count(1, 1_000_000, "pairs"))]
    pairs: Option<usize>,
    /// Fewer pairs: done within 15 seconds
    #[arg(long)]
    quick: bool,
}

impl CostArgs {
    pub(super) fn into_options(self) -> CostOptions {
        CostOptions { pairs: self.pairs, quick: self.quick }
    }
}
