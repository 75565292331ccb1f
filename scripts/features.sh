#!/usr/bin/env bash
# The engine compiles with each set of its optional features, without its tests' help. (The tests have all of them.)
source "$(dirname "$0")/common.sh"
cargo check -p ringmain --lib --no-default-features
cargo check -p ringmain --lib --features serde
cargo check -p ringmain --lib --all-features
