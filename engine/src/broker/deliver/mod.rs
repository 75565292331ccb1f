//! Delivering: a consumer, its mailbox, the handlers that it owns, and the end of each delivery.

mod arrival;
mod catch_up;
pub(super) mod common;
pub(super) mod consumer;
pub(super) mod context;
pub(super) mod delivery;
mod failed;
pub(super) mod hand_back;
pub(super) mod handlers;
mod keeping;
mod left;
pub(super) mod lending;
pub(super) mod mailbox;
pub(super) mod outcome;
mod owned;
mod parking;
mod route_cache;
mod sampler;
pub(super) mod settle;
mod source;
mod waited;
