//! What holds producers up, and how a consumer joins it or is moved on.

mod gating;
mod join;
mod skip;

pub(super) use gating::{Gating, Stage};
pub(super) use join::join;
pub(super) use skip::make_room;
