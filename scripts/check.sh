#!/usr/bin/env bash
# Quick feedback while working: format, façade, structure, a type check of everything, and the engine's unit tests.
source "$(dirname "$0")/common.sh"
scripts/format.sh
scripts/facade.sh
scripts/structure.sh
cargo check --quiet --workspace --all-targets
cargo test --quiet -p ringmain --lib
