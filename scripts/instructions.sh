#!/usr/bin/env bash
# Instructions an event: the ring's publish and consume, with one producer's or many producers' sequencer, one at a time and in
# batches, events of 56 bytes; and a broker's publish of such an event, to a bound topic and to a remembered one. Counted by
# valgrind's callgrind, whose counts depend on the code and the compiler and not on the machine or its mood. Fails when a case
# takes more than its budget in scripts/instructions.budgets. The budgets hold for the compiler that they were recorded with;
# with another one the counts are shown and nothing is judged.
#
# Exits with 0: within all budgets, 1: above one, 3: cannot tell, since valgrind is missing or the compiler is another.
#
# usage: instructions.sh [--record]
#   --record   writes the budgets anew
source "$(dirname "$0")/common.sh"

budgets=scripts/instructions.budgets
# So far below its budget that the budget should be recorded anew, in instructions.
well_below=1.00
# So far above it that it is more than how a process happens to start.
well_above=0.10
unable=3

case ${1:-} in
  '') is_recording= counter=count ;;
  --record) is_recording=yes counter=most ;;
  *)
    echo "usage: instructions.sh [--record]" >&2
    exit 2
    ;;
esac
if ! command -v valgrind >/dev/null; then
  echo "instructions.sh: valgrind is not installed; nothing was counted" >&2
  exit "$unable"
fi

# For the oldest processor of the kind, whatever the user's flags ask for.
export RUSTFLAGS=
unset CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS
program=$(cargo bench --quiet --package ringmain --bench instructions --no-run --message-format json \
  | sed -nE 's/.*"name":"instructions".*"executable":"([^"]+)".*/\1/p' | tail -n 1)
[ -x "$program" ] || {
  echo "instructions.sh: cargo built no program" >&2
  exit 1
}
compiler=$(rustc -V)

count() { # case events -> instructions an event
  local said options=(--callgrind-out-file=/dev/null --toggle-collect='*counted*')
  if [[ $1 = deliver-* ]]; then
    # What one thread does from one function to another.
    rm -f "$dumps"/*
    options=(--callgrind-out-file="$dumps/out" --separate-threads=yes --zero-before='*count_from*' --dump-before='*count_to*')
  fi
  said=$(valgrind --tool=callgrind "${options[@]}" "$program" "$1" 2>&1) || {
    printf '%s\n' "$said" >&2
    return 1
  }
  if [[ $1 = deliver-* ]]; then
    said=$(sed -n 's/^totals: /Collected : /p' "$dumps"/out.1-*)
  fi
  awk -v events="$2" '/Collected *:/ && $NF > events { printf "%.2f\n", $NF / events; found = 1 } END { exit !found }' \
    <<<"$said" || {
    printf '%s\ninstructions.sh: nothing was counted for %s\n' "$said" "$1" >&2
    return 1
  }
}

# Hashes are seeded anew in each process, so that a case which looks a topic up differs by some instructions from run to run: a
# budget is the most of several counts.
most() { # case events -> instructions an event
  local counted=
  for _ in 1 2 3 4 5; do
    counted+=$(count "$@")$'\n' || return 1
  done
  sort -n <<<"$counted" | tail -n 1
}

counts=$(mktemp)
dumps=$(mktemp -d)
trap 'rm -rf "$counts" "$dumps"' EXIT
while read -r name events; do
  printf '%s %s\n' "$name" "$("$counter" "$name" "$events")" >>"$counts"
done < <("$program")
[ -s "$counts" ]

if [ -n "$is_recording" ]; then
  {
    echo "# Instructions an event, at most. Written by scripts/instructions.sh --record."
    echo "# compiler: $compiler"
    cat "$counts"
  } >"$budgets"
  cat "$budgets"
  exit
fi

recorded=$(sed -n 's/^# compiler: //p' "$budgets")
printf '%-26s %10s %10s\n' case counted budget
awk -v well_below="$well_below" -v well_above="$well_above" '
  FNR == NR { if ($0 !~ /^#/) budget[$1] = $2; next }
  {
    verdict = ""
    if (!($1 in budget)) { verdict = "  has no budget"; failed = 1 }
    else if ($2 > budget[$1] + well_above) { verdict = sprintf("  ABOVE by %.2f", $2 - budget[$1]); failed = 1 }
    else if ($2 <= budget[$1] - well_below) verdict = sprintf("  %.2f below: record it anew", budget[$1] - $2)
    printf "%-26s %10.2f %10s%s\n", $1, $2, budget[$1], verdict
    delete budget[$1]
  }
  END { for (name in budget) { printf "%-26s is budgeted and was not counted\n", name; failed = 1 } exit failed }
' "$budgets" "$counts" && status=0 || status=$?
if [ "$compiler" != "$recorded" ]; then
  printf 'not judged: the budgets are those of %s, and this is %s\n' "$recorded" "$compiler"
  exit "$unable"
fi
if [ "$status" != 0 ]; then
  echo "instructions.sh: above budget; where that is meant, run it with --record and say why in the commit" >&2
fi
exit "$status"
