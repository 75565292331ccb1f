#!/usr/bin/env bash
# Line coverage of the engine by the workspace's tests, file by file. Fails under 85 % of the engine's lines.
#
# Needs cargo-llvm-cov, which it installs if missing, and LLVM's tools: rustup's llvm-tools component, or LLVM_COV and
# LLVM_PROFDATA, or a system's llvm-cov and llvm-profdata no older than rustc's LLVM, by the number in their name.
#
# Exits with 0: enough, 1: too little, or a test failed, 3: cannot tell, since LLVM's tools are missing.
source "$(dirname "$0")/common.sh"
least=85

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
    echo "coverage.sh: nothing was measured: install llvm-$oldest, or rustup's llvm-tools component" >&2
    exit 3
  }
fi
command -v cargo-llvm-cov >/dev/null || cargo install cargo-llvm-cov --locked
cargo nextest --version >/dev/null 2>&1 || cargo install cargo-nextest --locked

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/coverage"
export PROPTEST_CASES="${PROPTEST_CASES:-32}"
cargo llvm-cov nextest --no-report --workspace --all-features --status-level fail --final-status-level fail
# What is not the engine's own source is left out of the table, and nothing else is.
report=(cargo llvm-cov report --ignore-filename-regex '(/(bench-harness|loom-tests|examples)/|/engine/(tests|benches)/)')
"${report[@]}" --summary-only --fail-under-lines "$least" || {
  echo "coverage.sh: the tests run less than $least % of the engine's lines (the line TOTAL above)" >&2
  exit 1
}
echo "the tests run at least $least % of the engine's lines"
