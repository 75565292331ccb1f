//! The parts of the storm: scenarios and how chance makes them, the answer, the model, the judge, and the shrinking.

pub(crate) mod answer;
mod circuit;
pub(crate) mod generate;
pub(crate) mod judge;
mod model;
pub(crate) mod read;
mod rules;
pub(crate) mod scenario;
pub(crate) mod shrink;
mod waiting;
