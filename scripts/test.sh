#!/usr/bin/env bash
# All tests: the command that the README names.
source "$(dirname "$0")/common.sh"
cargo test --workspace
