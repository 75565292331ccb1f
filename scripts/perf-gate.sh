#!/usr/bin/env bash
# Whether this build is slower than a recorded baseline, bench-harness/baseline.json. What is compared is the time of a
# message over the floor of the same run, round by round, each round a run of `ringmain-bench throughput` of its own. Fails
# for a case that is slower by more than both spreads together: that of the baseline's rounds, and that of these. The
# baseline has an entry for each case and mode, near or far, since the ratios of one mode say nothing of the other.
#
# No part of the gate in .ci/run: it takes a machine on which nothing else runs.
#
# Exits with 0: not slower, 1: slower, 3: cannot tell, since the machine is too noisy or the baseline lacks its mode.
#
# usage: perf-gate.sh [--record | --self-test]
#   --record      writes the baseline of this machine's mode anew
#   --self-test   records a baseline of this build, then demands that this build passes and that one in which publishing
#                 is slowed down (planted-faults/slow-publish.sed) fails; the checked-in baseline is not used
# environment: ROUNDS (5), the rounds that count; SECONDS_A_ROUND (2)
source "$(dirname "$0")/common.sh"

rounds=${ROUNDS:-5}
seconds=${SECONDS_A_ROUND:-2}
baseline=bench-harness/baseline.json
unable=3
# A round in which the machine keeps a spinning thread waiting so long, in ns, for a twentieth of the time does not count.
quiet_p95=1000
# Differences smaller than this part of a ratio are never worth a word.
resolution=0.02
# Where the spreads together are a larger part than this, a case has hardly been judged.
coarse=0.25

usage() {
  sed -n '/^# usage/,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0" >&2
  exit 2
}

cannot_tell() {
  printf 'perf-gate.sh: %s\n' "$*" >&2
  exit "$unable"
}

[[ $rounds =~ ^[0-9]+$ ]] && [ "$rounds" -ge 5 ] || {
  echo "perf-gate.sh: it takes 5 rounds at least" >&2
  exit 2
}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT

build() { # folder, target folder -> the program's path
  (cd "$1" && CARGO_TARGET_DIR=$2 cargo build --quiet --release --package ringmain-bench)
  printf '%s/release/ringmain-bench\n' "$2"
}

# From a report as ringmain-bench writes it, one field a line: first `mode noise_p95`, then, tab-separated, each case, its
# contender, and its time over the floor.
ratios() { # report.json
  awk '
    function value() { sub(/^[^:]*: */, ""); sub(/,$/, ""); gsub(/^"|"$/, ""); return $0 }
    /^  "mode"/ { mode = value() }
    /^  "noise_ns"/ { in_noise = 1 }
    in_noise && /^    "p95"/ { noise = value(); in_noise = 0 }
    /^    "round_trip"/ { floor = value() }
    /^      "case"/ { name = value() }
    /^      "contender"/ { contender = value() }
    /^      "ns_per_message"/ {
      time = value()
      if (contender !~ /^floor/ && floor > 0) lines = lines sprintf("%s\t%s\t%.4f\n", name, contender, time / floor)
    }
    END {
      if (mode == "" || noise == "" || lines == "") exit 1
      printf "%s %s\n%s", mode, noise, lines
    }' "$1"
}

# Runs the rounds; into a file, for each case, `mode TAB case TAB contender TAB median TAB spread`.
measure() { # program, file
  local program=$1 figures=$2 counted=0 tried=0 status mode='' its noise
  local report=$temporary/report.json all=$temporary/all
  : >"$all"
  while [ "$counted" -lt "$rounds" ]; do
    [ "$tried" -lt $((3 * rounds)) ] || cannot_tell "too noisy: $counted quiet rounds of $tried"
    tried=$((tried + 1))
    status=0
    "$program" throughput --duration "$seconds" --json "$report" >/dev/null || status=$?
    [ "$status" != 3 ] || continue
    [ "$status" = 0 ] || {
      echo "perf-gate.sh: ringmain-bench ended with $status" >&2
      exit 1
    }
    ratios "$report" >"$temporary/round" || {
      echo "perf-gate.sh: the report has no mode, noise or results; is there a second core?" >&2
      exit "$unable"
    }
    read -r its noise <"$temporary/round"
    if [ "$noise" -gt "$quiet_p95" ] || [ "$its" = mixed ]; then
      printf 'a round that does not count: mode %s, noise p95 %s ns\n' "$its" "$noise" >&2
      continue
    fi
    mode=${mode:-$its}
    [ "$its" = "$mode" ] || cannot_tell "the machine went from $mode to $its"
    counted=$((counted + 1))
    awk -v mode="$mode" 'FNR > 1 { print mode "\t" $0 }' "$temporary/round" >>"$all"
  done
  sort -t "$(printf '\t')" -k1,3 -k4,4n "$all" | awk -F '\t' '
    function flush() {
      if (count) printf "%s\t%.4f\t%.4f\n", key, (of[int((count + 1) / 2)] + of[int(count / 2) + 1]) / 2, of[count] - of[1]
    }
    $1 FS $2 FS $3 != key { flush(); key = $1 FS $2 FS $3; count = 0 }
    { of[++count] = $4 }
    END { flush() }' >"$figures"
}

# Writes figures as the baseline's entries of their mode, and keeps those of the other.
record() { # figures, file
  local mode commit
  mode=$(head -n 1 "$1" | cut -f 1)
  commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
  {
    [ ! -f "$2" ] || grep '^ *{ "mode"' "$2" | grep -v "\"mode\": \"$mode\"" | sed 's/,$//' || true
    awk -F '\t' -v rounds="$rounds" -v commit="$commit" -v rustc="$(rustc -V | cut -d ' ' -f 2)" '{
      printf "    { \"mode\": \"%s\", \"case\": \"%s\", \"contender\": \"%s\", \"ratio\": %s, \"spread\": %s, ", $1, $2, $3, $4, $5
      printf "\"rounds\": %s, \"commit\": \"%s\", \"rustc\": \"%s\" }\n", rounds, commit, rustc
    }' "$1"
  } | sort >"$temporary/entries"
  {
    printf '{\n  "schema": 1,\n  "command": "scripts/perf-gate.sh --record",\n  "entries": [\n'
    sed '$!s/$/,/' "$temporary/entries"
    printf '  ]\n}\n'
  } >"$2"
}

# Compares figures with a baseline: 0, 1 or 3.
compare() { # figures, baseline
  [ -f "$2" ] || cannot_tell "there is no baseline, $2; see --record"
  awk -F '\t' -v resolution="$resolution" -v coarse="$coarse" -v unable="$unable" '
    function field(name,  rest) {
      rest = $0
      if (!sub(".*\"" name "\": \"?", "", rest)) return ""
      if ($0 ~ "\"" name "\": \"") sub(/".*/, "", rest); else sub(/[ ,}].*/, "", rest)
      return rest
    }
    FNR == NR {
      if ($0 ~ /^ *\{ "mode"/) {
        key = field("mode") FS field("case") FS field("contender")
        ratio[key] = field("ratio"); spread[key] = field("spread")
        modes[field("mode")] = 1
      }
      next
    }
    FNR == 1 {
      mode = $1
      if (!(mode in modes)) { printf "the baseline has no entry for mode %s; see --record\n", mode; lacks = 1; exit }
      printf "mode %s; times over the floor\n%-32s %-8s %8s %8s %8s %8s\n", \
        mode, "case", "", "now", "spread", "baseline", "spread"
    }
    {
      key = $1 FS $2 FS $3
      verdict = ""
      if (!(key in ratio)) { verdict = "  not in the baseline"; ratio[key] = "-"; spread[key] = "-" }
      else {
        noise = $5 + spread[key]
        if (noise < resolution * ratio[key]) noise = resolution * ratio[key]
        difference = $4 - ratio[key]
        if (difference > noise) { verdict = sprintf("  SLOWER by %.0f %%", 100 * difference / ratio[key]); slower = 1 }
        else if (noise > coarse * ratio[key]) verdict = "  too coarse to tell much"
        else if (-difference > noise) verdict = sprintf("  faster by %.0f %%: record it anew", -100 * difference / ratio[key])
      }
      printf "%-32s %-8s %8.3f %8.3f %8s %8s%s\n", $2, $3, $4, $5, ratio[key], spread[key], verdict
      seen[key] = 1
    }
    END {
      if (lacks) exit unable
      for (key in ratio) if (index(key, mode FS) == 1 && !(key in seen)) {
        split(key, part, FS); printf "%-32s %-8s was not measured\n", part[2], part[3]; slower = 1
      }
      exit slower
    }' "$2" "$1"
}

self_test() {
  local program slow status=0 copy=$target/perf-gate/tree
  program=$(build . "$target")
  rm -rf "$copy"
  mkdir -p "$copy"
  # The working tree as it is; what is deleted in it is listed all the same.
  git ls-files -z --cached --others --exclude-standard \
    | while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done \
    | tar --create --null --files-from - | tar --extract --directory "$copy"
  sed -E -i -f scripts/planted-faults/slow-publish.sed "$copy"/engine/src/ring/producer/*.rs
  ! diff -q {"$copy/",}engine/src/ring/producer >/dev/null || {
    echo "perf-gate.sh: slow-publish.sed finds nothing to slow down" >&2
    exit 1
  }
  slow=$(build "$copy" "$target/perf-gate")
  measure "$program" "$temporary/figures"
  record "$temporary/figures" "$temporary/baseline.json"
  measure "$program" "$temporary/figures"
  compare "$temporary/figures" "$temporary/baseline.json" || status=$?
  [ "$status" != "$unable" ] || exit "$unable"
  [ "$status" = 0 ] || cannot_tell "the same build differs from itself: too noisy"
  measure "$slow" "$temporary/figures"
  compare "$temporary/figures" "$temporary/baseline.json" || status=$?
  case $status in
    0)
      echo "perf-gate.sh: silence about the planted slowdown" >&2
      exit 1
      ;;
    1) echo "the planted slowdown: reported" ;;
    *) exit "$status" ;;
  esac
}

[ $# -le 1 ] || usage
case ${1:-} in
  '')
    program=$(build . "$target")
    measure "$program" "$temporary/figures"
    compare "$temporary/figures" "$baseline"
    ;;
  --record)
    program=$(build . "$target")
    measure "$program" "$temporary/figures"
    record "$temporary/figures" "$baseline"
    cat "$baseline"
    ;;
  --self-test) self_test ;;
  *) usage ;;
esac
