#!/usr/bin/env bash
# clippy over everything, with and without optional features, over the build that the models check, and over the fuzz
# targets, whose libFuzzer takes a C++ compiler. The planted faults are left out: they are there to be wrong.
source "$(dirname "$0")/common.sh"
cargo clippy --workspace --all-targets -- -D warnings
cargo clippy --workspace --all-targets --all-features -- -D warnings
RUSTFLAGS="--cfg ringmain_loom" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom" \
  cargo clippy -p ringmain -p ringmain-loom-tests --lib --tests -- -D warnings
RUSTFLAGS="--cfg fuzzing" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/fuzz" \
  cargo clippy --manifest-path fuzz/Cargo.toml --bins -- -D warnings
