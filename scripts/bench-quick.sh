#!/usr/bin/env bash
# The bench harness's main job, and routing, in their short forms.
source "$(dirname "$0")/common.sh"
cargo run --release -p ringmain-bench -- run --quick
cargo run --release -p ringmain-bench -- routing --quick
