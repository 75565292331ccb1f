#!/usr/bin/env bash
# Weakens each Release and Acquire, takes away each fence of each edge in engine/src/sync/edge.rs, and leaves out each piece
# of logic that can be, one at a time, and says which models fail with it. Which mutants there are is read from the engine's
# sources. A mutant is tried against the models that the table in loom-tests/src/lib.rs names for it, and where it names none
# against all of them, each for a limited time. Fails when a mutant survives, unless a table of survivors there says where it
# is argued that this is right; today there is no survivor and no such table.
#
# usage: mutants.sh [--all] [MUTANT...]
#   --all     every model against every mutant, to see all that fail
#   MUTANT    only these, such as `park.heavy` or `tombstone`
source "$(dirname "$0")/common.sh"

unset RINGMAIN_MUTANTS RINGMAIN_MUTANTS_AGAINST_ALL
if [ "${1:-}" = --all ]; then
  export RINGMAIN_MUTANTS_AGAINST_ALL=1
  shift
fi
case ${1:-} in
  -*)
    sed -n '/^# usage/,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
    ;;
esac
if [ $# -gt 0 ]; then
  export RINGMAIN_MUTANTS="$*"
fi
exec scripts/loom.sh mutants::no_mutant_survives_without_an_argument --exact --ignored --nocapture
