#!/usr/bin/env bash
# The bench harness's main job, routing, a subscriber that fails beside a healthy one, and what features cost, in their short
# forms. Whether the healthy one was hurt cannot be told on a busy machine, which is no failure.
source "$(dirname "$0")/common.sh"
cargo run --release -p ringmain-bench -- run --quick
cargo run --release -p ringmain-bench -- routing --quick
status=0
cargo run --release -p ringmain-bench -- degrade --quick || status=$?
[ "$status" = 0 ] || [ "$status" = 3 ]
cargo run --release -p ringmain-bench -- cost --quick
