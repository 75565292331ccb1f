//! What holds and what does not, for those who build on it.
//!
//! | page | answers |
//! |---|---|
//! | [`delivery`] | How often is a message handled? What is lost, and when? What does a shutdown do? |
//! | [`ordering`] | In which order? What keeps it, and what gives it up? |
//! | [`failure`] | What becomes of a message whose handler fails? Which policy when? What does each fault do, and who counts it? |
//!
//! The pages hold no code. Their examples are run as tests, and the tests that they name exist.

pub mod delivery;
pub mod failure;
pub mod ordering;
