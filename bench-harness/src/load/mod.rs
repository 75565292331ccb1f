//! A load on an engine: its options, how it is run here, the pace of its publishers, and what its
//! subscribers check.

pub(crate) mod options;
pub(crate) mod pacer;
pub(crate) mod plan;
pub(crate) mod raw;
pub(crate) mod reader;
pub(crate) mod session;
