//! The parts of the storm: scenarios and how chance makes them, the answer, the model, the judge, and the shrinking.
//!
//! A new policy needs a form in `scenario` and its text, a function and an entry in `generate`, its reading in
//! `read`, a line in `shrink` that leaves it out, and in `model` what follows from it. What no model can follow is left
//! to what holds whatever happens: the checks of the judge, and `promises`.

pub(crate) mod answer;
mod circuit;
pub(crate) mod generate;
pub(crate) mod judge;
mod model;
mod promises;
pub(crate) mod read;
mod rules;
pub(crate) mod scenario;
pub(crate) mod shrink;
mod waiting;
