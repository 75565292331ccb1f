#!/usr/bin/env bash
# Runs the models of the lock-free protocols, those of ring, routing and broker, in every interleaving, and the mutants that
# they must kill. Arguments are handed to the test binary: a part of a model's name, --nocapture and so on.
source "$(dirname "$0")/common.sh"

# Optimised for speed, with overflow checks and debug assertions: a model should see those too.
export CARGO_PROFILE_DEV_OPT_LEVEL=2
export CARGO_PROFILE_DEV_DEBUG=line-tables-only
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target/loom}"
export RUSTFLAGS="${RUSTFLAGS:-} --cfg ringmain_loom"
unset RINGMAIN_MUTANT LOOM_MAX_DURATION LOOM_MAX_PERMUTATIONS LOOM_MAX_PREEMPTIONS LOOM_CHECKPOINT_FILE

exec cargo test --package ringmain-loom-tests --test models -- "$@"
