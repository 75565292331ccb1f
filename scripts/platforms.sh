#!/usr/bin/env bash
# Type-checks the engine and the bench harness for systems that nobody here runs: Windows, macOS, and Linux on Arm. Their
# standard library is checked from source, by the compiler that the sanitizers use; nothing is linked or run.
source "$(dirname "$0")/common.sh"
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
RUSTC=${TSAN_RUSTC:-$(scripts/tsan-toolchain.sh "$target/tsan-toolchain")}
export RUSTC RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$target/platforms
for triple in x86_64-pc-windows-msvc aarch64-apple-darwin aarch64-unknown-linux-gnu; do
  cargo check --quiet -p ringmain -p ringmain-bench -Zbuild-std --target "$triple"
  echo "$triple: compiles"
done
