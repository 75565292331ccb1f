#!/usr/bin/env bash
# Whether all code is formatted.
source "$(dirname "$0")/common.sh"
cargo fmt --all --check
