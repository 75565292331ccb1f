#!/usr/bin/env bash
# The documentation builds without a warning: no missing page, no broken link.
source "$(dirname "$0")/common.sh"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features
# The bench is a program, whose pages are for those who change it.
RUSTDOCFLAGS="-D warnings" cargo doc -p ringmain-bench --lib --no-deps --all-features --document-private-items
