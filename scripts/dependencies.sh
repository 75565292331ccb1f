#!/usr/bin/env bash
# The engine stays small: at most 50 crates in its normal dependency tree with default features.
source "$(dirname "$0")/common.sh"
most=50
count=$(cargo tree -p ringmain --edges normal --prefix none | cut -d' ' -f1,2 | sort -u | wc -l)
echo "the engine and its dependencies: $count crates, at most $most"
test "$count" -le "$most"
