//! The flag that says where threads run.

use clap::Args;

use crate::machine::cores;

#[derive(Debug, Args)]
pub(super) struct CoresArg {
    /// Pin to these cores in this order: publishers first, then consumers [default: cores of the
    /// process's mask]
    #[arg(long, value_name = "LIST", allow_hyphen_values = true, value_parser = CoreList::parse)]
    cores: Option<CoreList>,
}

/// A list of cores in one value; a type of its own, because clap takes a bare `Vec` for several
/// values.
#[derive(Clone, Debug)]
struct CoreList(Vec<usize>);

impl CoreList {
    fn parse(text: &str) -> Result<Self, String> {
        cores::parse_list(text).map(Self)
    }
}

impl CoresArg {
    pub(super) fn into_list(self) -> Option<Vec<usize>> {
        self.cores.map(|list| list.0)
    }
}
