#!/usr/bin/env bash
# Counts system calls while messages flow between busy-spinning threads: ten times the messages must not make more of them
# than the odd one. Linux only; installs strace where it has to.
source "$(dirname "$0")/common.sh"
if ! command -v strace >/dev/null; then
  apt-get update -qq && apt-get install -y -qq strace >/dev/null
fi
cargo build --quiet --release -p ringmain-examples --bin spin
program=${CARGO_TARGET_DIR:-target}/release/spin
log=$(mktemp)
trap 'rm -f "$log"' EXIT
calls() { # messages -> system calls of all threads
  strace -f -qq -o "$log" "$program" "$1" >/dev/null
  wc -l <"$log"
}
few=$(calls 100000)
many=$(calls 1000000)
echo "system calls: $few for 100,000 messages, $many for 1,000,000"
test "$((many - few))" -lt 100
