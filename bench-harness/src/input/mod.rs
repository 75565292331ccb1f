//! What commands read: lines, tables, and templates that make topics of their rows.

pub(crate) mod csv;
pub(crate) mod lines;
pub(crate) mod template;
