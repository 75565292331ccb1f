//! Subscribing: options, handles, handlers, and the registry of all subscriptions.

pub(super) mod builder;
pub(super) mod callbacks;
pub(super) mod contract;
pub(super) mod feature;
pub mod filter;
pub(super) mod handled;
pub(super) mod handler;
pub(super) mod limit;
pub(super) mod pause;
pub(super) mod registry;
pub(super) mod start;
pub(super) mod subscription;
pub(super) mod token;
