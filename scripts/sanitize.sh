#!/usr/bin/env bash
# All tests of the workspace under ThreadSanitizer and under AddressSanitizer with leak detection, without the rivals of
# `compare`, which are not ours. x86-64 Linux.
#
# Each sanitizer must first report the faults in `planted-faults/`, and must not report their twins. It runs through cargo
# nextest, which gives each test a process of its own and fails it by its exit code: libtest would print "ok" for a test
# that raced. Reports are collected in files, so that one in a program that a test starts counts too. There is no list of
# suppressions.
#
# ThreadSanitizer does not know fences. The engine needs none but to decide store-then-load handshakes (see
# `engine/src/sync/fence.rs`): no plain data is handed over by a fence, so nothing is reported for that.
#
# usage: sanitize.sh [thread|address [arguments of nextest]]; both without arguments
source "$(dirname "$0")/common.sh"

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
triple=x86_64-unknown-linux-gnu
unset CARGO_TARGET_DIR

# Takes the flags that rustc calls unstable on a stable toolchain.
export RUSTC_BOOTSTRAP=1
export CARGO_PROFILE_DEV_DEBUG=line-tables-only
export CARGO_INCREMENTAL=0
export PROPTEST_CASES=${PROPTEST_CASES:-16}
export RINGMAIN_STORM_SEEDS=${RINGMAIN_STORM_SEEDS:-300}
# Many tests panic on purpose, and to find the names of a backtrace takes an instrumented program many seconds.
export RUST_BACKTRACE=0
# What the tests promise within so many seconds may take longer here.
export RINGMAIN_SLOWDOWN=10

fail() {
  printf 'sanitize.sh: %s\n' "$*" >&2
  exit 1
}

nextest() { # arguments of nextest
  rm -rf "$reports"
  mkdir -p "$reports"
  cargo nextest run "${flags[@]}" --target "$triple" "$@"
}

quiet() { # arguments of nextest: whose tests pass, without a report
  local status=0
  nextest "$@" || status=$?
  if [ -n "$(ls -A "$reports")" ]; then
    cat "$reports"/*
    fail "the reports above"
  fi
  [ "$status" = 0 ] || fail "tests failed, without a report"
}

planted() { # pairs of a fault's name and what its report says
  # A target directory of its own: two workspaces that share one rebuild each other's standard library.
  local own=(--manifest-path scripts/planted-faults/Cargo.toml --target-dir "$built/planted")
  local log=$built/planted.log
  mkdir -p "$built"
  while [ $# -gt 0 ]; do
    if nextest "${own[@]}" -E "test(=$1)" >"$log" 2>&1; then
      fail "silence about the planted $1"
    fi
    if ! grep -qrF "$2" "$reports"; then
      cat "$log"
      fail "the planted $1 failed without a report of '$2'"
    fi
    printf 'planted %s: reported\n' "$1"
    shift 2
  done
  quiet "${own[@]}" -E 'test(/_twin$/)'
}

thread() {
  built=$target/tsan
  reports=$built/reports
  flags=(-Zbuild-std)
  RUSTC=${TSAN_RUSTC:-$(scripts/tsan-toolchain.sh "$target/tsan-toolchain")}
  export RUSTC
  export RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer --cfg ringmain_sanitized"
  export TSAN_OPTIONS="log_path='$reports/report'"
  planted race "ThreadSanitizer: data race"
  quiet --target-dir "$built" --profile sanitize-thread --workspace "$@"
}

address() {
  built=$target/asan
  reports=$built/reports
  flags=()
  export RUSTFLAGS="-Zsanitizer=address --cfg ringmain_sanitized"
  export ASAN_OPTIONS="detect_leaks=1:log_path='$reports/report'"
  planted use_after_free "AddressSanitizer: heap-use-after-free" leak "LeakSanitizer: detected memory leaks"
  quiet --target-dir "$built" --profile sanitize --workspace "$@"
}

[ "$(uname -sm)" = "Linux x86_64" ] || fail "this needs x86-64 Linux"
cargo nextest --version >/dev/null 2>&1 || cargo install cargo-nextest --locked
case ${1:-both} in
  both)
    (thread)
    (address)
    ;;
  thread | address) "$@" ;;
  *) fail "there is no sanitizer '$1'; choose thread or address" ;;
esac
