#!/usr/bin/env bash
# clippy over everything, with and without optional features, and over the build that the models check.
source "$(dirname "$0")/common.sh"
cargo clippy --workspace --all-targets -- -D warnings
cargo clippy --workspace --all-targets --all-features -- -D warnings
RUSTFLAGS="--cfg ringmain_loom" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom" \
  cargo clippy -p ringmain -p ringmain-loom-tests --lib --tests -- -D warnings
