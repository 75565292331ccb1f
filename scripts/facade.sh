#!/usr/bin/env bash
# Nothing in the engine names the standard library's atomics, cells or thread parking beside the façade in sync/, so
# that the code which ships is the code which the models check; `unsafe` stays in sync/ and ring/; and an ordering that
# synchronises is an edge's, which a mutant can weaken (scripts/mutants.sh), and not written by itself.
source "$(dirname "$0")/common.sh"
bad=$(grep -rnE '(std|core)::(sync::(atomic|Mutex|Condvar|RwLock)|cell::UnsafeCell)|std::thread::(park|yield_now|sleep|spawn)' \
  engine/src --include='*.rs' | grep -vE '^engine/src/(sync/|clock\.rs)' | grep -vE ':[0-9]+: *//' \
  | grep -vE '/tests?\.rs:|std::thread::spawn\(move' || true)
bad+=$(grep -rnE '\bunsafe\b' engine/src --include='*.rs' | grep -vE '^engine/src/(sync|ring)/' \
  | grep -vE 'forbid\(unsafe_code\)|:[0-9]+: *//' || true)
# Each file that writes one all the same, and why.
bare=(
  sync/edge.rs       # the edges themselves
  sync/fence.rs      # the asymmetric fence itself
  sync/arc_swap.rs   # what stands in a model for a crate that is trusted
  clock.rs           # virtual time, for tests
  broker/publish/wait_graph.rs # the check against circles: not an edge yet
)
# A module's tests stand at its end.
bad+=$(find engine/src -name '*.rs' | sort | xargs awk -v bare="${bare[*]}" '
  BEGIN { split(bare, files, " "); for (each in files) allowed["engine/src/" files[each]] }
  FNR == 1 { tests = 0 }
  /^#\[cfg\((all\()?test/ { tests = 1 }
  FILENAME in allowed || tests || /^ *\/\// { next }
  /Ordering::(Release|Acquire|AcqRel|SeqCst|[{*])/ { print FILENAME ":" FNR ":" $0 }')
if [ -n "$bad" ]; then
  printf 'these lines go past the façade:\n%s\n' "$bad"
  exit 1
fi
echo "nothing goes past the façade"
