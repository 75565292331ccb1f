#!/usr/bin/env bash
# Line coverage of the engine by the workspace's tests, file by file. Fails under 85 % of the engine's lines.
#
# Needs cargo-llvm-cov, which it installs if missing, and LLVM's tools: rustup's llvm-tools component, or LLVM_COV and
# LLVM_PROFDATA, or a system's llvm-cov and llvm-profdata no older than rustc's LLVM, by the number in their name.
source "$(dirname "$0")/common.sh"
least=85

command -v cargo-llvm-cov >/dev/null || cargo install cargo-llvm-cov --locked
cargo nextest --version >/dev/null 2>&1 || cargo install cargo-nextest --locked
if [ -z "${LLVM_COV:-}" ] && [ -z "$(find "$(rustc --print sysroot)/lib/rustlib" -name llvm-cov)" ]; then
  oldest=$(rustc -vV | sed -nE 's/^LLVM version: ([0-9]+).*/\1/p')
  for version in $(seq "$oldest" "$((oldest + 3))"); do
    if command -v "llvm-cov-$version" >/dev/null && command -v "llvm-profdata-$version" >/dev/null; then
      LLVM_COV=$(command -v "llvm-cov-$version")
      LLVM_PROFDATA=$(command -v "llvm-profdata-$version")
      export LLVM_COV LLVM_PROFDATA
      break
    fi
  done
  [ -n "${LLVM_COV:-}" ] || {
    echo "coverage.sh: install llvm-$oldest, or rustup's llvm-tools component" >&2
    exit 1
  }
fi

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/coverage"
export PROPTEST_CASES="${PROPTEST_CASES:-32}"
# What is not the engine's own source is left out of the table, and nothing else is.
cargo llvm-cov nextest --workspace --all-features --status-level fail --final-status-level fail \
  --ignore-filename-regex '(/(bench-harness|loom-tests|examples)/|/engine/(tests|benches)/)' \
  --summary-only --fail-under-lines "$least"
