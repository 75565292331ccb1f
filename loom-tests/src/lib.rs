//! Models of the engine's protocols.
