#!/usr/bin/env bash
# The bench harness's main job, in its short form.
source "$(dirname "$0")/common.sh"
cargo run --release -p ringmain-bench -- run --quick
