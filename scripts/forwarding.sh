#!/usr/bin/env bash
# Loads on the way of a publish that no store buffer can forward: of bytes that were stored a moment ago in narrower pieces. Such
# a load waits until all older stores have left the buffer, the lines of the previous slot included, which instructions do not
# show. Each load and store of the cases of benches/instructions that publish is traced by valgrind's lackey, and
# scripts/forwarding.rs looks for loads that overlap one of the last stores without lying inside it.
#
# Exits with 0: none, 1: some, named with their lines, 3: cannot tell, since a tool is missing.
#
# usage: forwarding.sh [CASE...]
source "$(dirname "$0")/common.sh"

unable=3
for tool in valgrind addr2line nm; do
  command -v "$tool" >/dev/null || {
    echo "forwarding.sh: $tool is not installed; nothing was traced" >&2
    exit "$unable"
  }
done
[ "$(uname -m)" = x86_64 ] || {
  echo "forwarding.sh: only x86-64 has been looked at" >&2
  exit "$unable"
}

# For the oldest processor of the kind, whatever the user's flags ask for.
export RUSTFLAGS=
unset CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS
program=$(cargo bench --quiet --package ringmain --bench instructions --no-run --message-format json \
  | sed -nE 's/.*"name":"instructions".*"executable":"([^"]+)".*/\1/p' | tail -n 1)
[ -x "$program" ] || {
  echo "forwarding.sh: cargo built no program" >&2
  exit 1
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
rustc --edition 2024 -O -o "$scratch/forwarding" scripts/forwarding.rs

# Where valgrind loads a program that can be loaded anywhere.
bias=0x108000
starts=$(nm --demangle "$program" | awk '$3 == "instructions::counted" { print $1 }')
[ -n "$starts" ]

if [ $# = 0 ]; then
  set -- publish-multi publish-bound publish-remembered publish-bytes-bound publish-bytes-remembered
fi
found=0
for name; do
  # shellcheck disable=SC2086 # each start is a word
  valgrind --tool=lackey --trace-mem=yes --log-fd=3 "$program" "$name" 3>&1 >/dev/null 2>&1 \
    | "$scratch/forwarding" "$bias" $starts >"$scratch/found"
  printf '%-26s %s\n' "$name" "$(head -n 1 "$scratch/found")"
  while read -r address times width; do
    found=1
    printf '  %s times, %s bytes at %s:\n' "$times" "$width" "$address"
    addr2line --demangle --functions --inlines --basenames --exe "$program" "$address" | paste - - | sed 's/^/    /'
  done < <(tail -n +2 "$scratch/found")
done
exit "$found"
