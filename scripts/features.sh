#!/usr/bin/env bash
# The engine's tests with all of its optional features.
source "$(dirname "$0")/common.sh"
cargo test -p ringmain --all-features
