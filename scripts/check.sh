#!/usr/bin/env bash
# Quick feedback while working: format, façade, structure, the places of planted faults, a type check of everything, and the engine's unit tests.
source "$(dirname "$0")/common.sh"
scripts/format.sh
scripts/facade.sh
scripts/structure.sh
scripts/mutation.sh --check
cargo check --quiet --workspace --all-targets
cargo test --quiet -p ringmain --lib
