#!/usr/bin/env bash
# The documentation builds without a warning: no missing page, no broken link.
source "$(dirname "$0")/common.sh"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features
