# A slowdown for `perf-gate.sh` to report: whoever publishes an event of a ring spins for 50 ns first. For
# the files of engine/src/ring/producer, in a copy of the tree.
/fn (publish_next|fill_one)\(.*\{$/ a\
        let started = std::time::Instant::now();\
        while started.elapsed() < std::time::Duration::from_nanos(50) {}
