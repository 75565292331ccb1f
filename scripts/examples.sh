#!/usr/bin/env bash
# The examples, which assert their own outcome, as a user runs them.
source "$(dirname "$0")/common.sh"
for example in basic flights spin retries backlog; do
  cargo run --quiet --release -p ringmain-examples --bin "$example"
done
