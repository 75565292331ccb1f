//! Programs that show the engine at work; each asserts its own outcome.
