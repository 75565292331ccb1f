#!/usr/bin/env bash
# The engine stays small: at most 50 crates in its normal dependency tree with default features, and at most 55 with all;
# the checksums of durable dead letters come with that feature alone.
source "$(dirname "$0")/common.sh"
most=50
count=$(cargo tree -p ringmain --edges normal --prefix none | cut -d' ' -f1,2 | sort -u | wc -l)
echo "the engine and its dependencies: $count crates, at most $most"
test "$count" -le "$most"
count=$(cargo tree -p ringmain --all-features --edges normal --prefix none | cut -d' ' -f1,2 | sort -u | wc -l)
echo "with all features: $count crates, at most 55"
test "$count" -le 55
! cargo tree -p ringmain --features serde --edges normal --prefix none | grep -q '^crc32fast '
