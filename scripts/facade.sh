#!/usr/bin/env bash
# Nothing in the engine names the standard library's atomics, cells or thread parking beside the façade in sync/, so
# that the code which ships is the code which the models check; and `unsafe` stays in sync/ and ring/.
source "$(dirname "$0")/common.sh"
bad=$(grep -rnE '(std|core)::(sync::(atomic|Mutex|Condvar|RwLock)|cell::UnsafeCell)|std::thread::(park|yield_now|sleep|spawn)' \
  engine/src --include='*.rs' | grep -vE '^engine/src/(sync/|clock\.rs)' | grep -vE ':[0-9]+: *//' \
  | grep -vE '/tests?\.rs:|std::thread::spawn\(move' || true)
bad+=$(grep -rnE '\bunsafe\b' engine/src --include='*.rs' | grep -vE '^engine/src/(sync|ring)/' \
  | grep -vE 'forbid\(unsafe_code\)|:[0-9]+: *//' || true)
if [ -n "$bad" ]; then
  printf 'these lines go past the façade:\n%s\n' "$bad"
  exit 1
fi
echo "nothing goes past the façade"
