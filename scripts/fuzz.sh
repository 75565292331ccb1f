#!/usr/bin/env bash
# Fuzzing: for some seconds, 30 by default and shared among the targets in `fuzz/fuzz_targets/`, libFuzzer looks for
# inputs that break what they assert, starting from those in `fuzz/corpus/`. Fails at the first, keeps that input and
# says how to have it again. The flags are those of cargo-fuzz, which runs the same targets, but needs nothing
# installed: a C++ compiler and any Rust compiler. x86-64 Linux.
#
# usage: fuzz.sh [--keep] [SECONDS]
#   --keep   adds to the corpus what was found that reaches code which nothing in it reaches
source "$(dirname "$0")/common.sh"

keep=
if [ "${1:-}" = --keep ]; then
  keep=yes
  shift
fi
seconds=${1:-30}
[[ $# -le 1 && $seconds =~ ^[1-9][0-9]*$ ]] || {
  echo "usage: fuzz.sh [--keep] [SECONDS]" >&2
  exit 2
}

triple=x86_64-unknown-linux-gnu
built=$(realpath -m "${CARGO_TARGET_DIR:-target}")/fuzz
coverage=(level=4 inline-8bit-counters pc-table trace-compares)
flags=(--cfg fuzzing -Cpasses=sancov-module -Cforce-frame-pointers "${coverage[@]/#/-Cllvm-args=-sanitizer-coverage-}")
unset CARGO_ENCODED_RUSTFLAGS
RUSTFLAGS="${flags[*]}" cargo build --quiet --release --manifest-path fuzz/Cargo.toml \
  --target "$triple" --target-dir "$built"

mapfile -t targets < <(cd fuzz/fuzz_targets && printf '%s\n' *.rs | sed 's/\.rs$//')
each=$(((seconds + ${#targets[@]} - 1) / ${#targets[@]}))
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for target in "${targets[@]}"; do
  program=$built/$triple/release/$target
  corpus=fuzz/corpus/$target
  artifacts=fuzz/artifacts/$target
  found=$scratch/$target
  mkdir -p "$corpus" "$artifacts" "$found"
  # Scenarios and letters need some length before anything in them means something.
  case $target in
    scenario | letters) longest=3000 ;;
    *) longest=600 ;;
  esac
  # The first folder is the one that is written to.
  "$program" -max_total_time="$each" -max_len="$longest" -timeout=10 -verbosity=1 -print_final_stats=1 \
    -artifact_prefix="$artifacts/" "$found" "$corpus" 2>"$scratch/log" || {
    cat "$scratch/log"
    printf 'fuzz.sh: %s fails; its input lies in %s. Again: %s INPUT\n' "$target" "$artifacts" "$program" >&2
    exit 1
  }
  printf '%s: %s inputs in %s s, %s of %s are new\n' "$target" \
    "$(sed -n 's/^stat::number_of_executed_units: *//p' "$scratch/log")" "$each" \
    "$(find "$found" -type f | wc -l)" "$(find "$found" "$corpus" -type f | wc -l)"
  if [ -n "$keep" ]; then
    mkdir "$scratch/merged"
    "$program" -merge=1 -use_counters=0 "$scratch/merged" "$corpus" "$found" 2>/dev/null
    rm -rf "$corpus"
    mv "$scratch/merged" "$corpus"
  fi
done
