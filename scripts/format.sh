#!/usr/bin/env bash
# Whether all code is formatted, that of the planted faults included.
source "$(dirname "$0")/common.sh"
cargo fmt --all --check
cargo fmt --manifest-path scripts/planted-faults/Cargo.toml --check
cargo fmt --manifest-path fuzz/Cargo.toml --check
