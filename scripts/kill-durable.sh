#!/usr/bin/env bash
# Kills a process that keeps durable dead letters (kill -9), 100 times or as often as told, each time at another moment,
# and opens its file: no letter that it has acknowledged may be missing, and none be there twice. A line for each run.
#
#   scripts/kill-durable.sh [RUNS]
source "$(dirname "$0")/common.sh"
runs=${1:-100}
[[ $runs =~ ^[1-9][0-9]*$ ]] || { echo "usage: scripts/kill-durable.sh [RUNS]" >&2; exit 2; }
RINGMAIN_KILLS=$runs cargo test -q -p ringmain --test broker_durable_kill -- --nocapture whenever
