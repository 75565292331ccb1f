//! How a ring is put together: stages that wait for each other, capacities, and cores for its threads.

mod ring_support;

use ring_support::{graph, shut_down, take, within_limit};
use ringmain::affinity::{AffinityError, Pinning};
use ringmain::ring::{BuildError, ConsumerOptions, Polled, RingBuilder};
use ringmain::wait::WaitStrategy;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

// Stages.

/// An event with the number of stages that have seen it.
#[derive(Default)]
struct Staged {
    stages: AtomicUsize,
}

#[test]
fn a_later_stage_never_sees_an_event_before_the_earlier_has_finished() {
    for wait in [WaitStrategy::Blocking, WaitStrategy::Backoff] {
        within_limit("pipeline", move || {
            let builder = RingBuilder::new(8, Staged::default).expect("a power of two").wait(wait);
            let mut graph = builder.graph().expect("memory");
            let mut after = Vec::new();
            for stage in 0..3 {
                let handler = move |event: &Staged, _, _| {
                    assert_eq!(
                        event.stages.load(Ordering::Relaxed),
                        stage,
                        "stage {stage} came too early or late"
                    );
                    event.stages.store(stage + 1, Ordering::Relaxed);
                };
                let id = graph.consumer(&format!("stage-{stage}"), &after, handler).expect("its own ring");
                after = vec![id];
            }
            let (mut producer, mut ring) = graph.build_single_producer().expect("threads");
            for _ in 0..5_000 {
                producer
                    .publish(|event| {
                        assert!(
                            [0, 3].contains(event.stages.get_mut()),
                            "a slot was reused before the last stage"
                        );
                        *event.stages.get_mut() = 0;
                    })
                    .expect("an open ring");
            }
            let reports = shut_down(&mut ring);
            assert!(reports.iter().all(|report| report.panics == 0), "{reports:?}");
        });
    }
}

#[test]
fn the_join_of_a_diamond_waits_for_both_sides() {
    within_limit("diamond", || {
        let builder = RingBuilder::new(4, || [const { AtomicU64::new(0) }; 2]).expect("a power of two");
        let mut graph = builder.graph().expect("memory");
        let source = graph.consumer("source", &[], |_, _, _| {}).expect("no dependency");
        let sides = [0, 1].map(|side| {
            let handler = move |event: &[AtomicU64; 2], sequence, _| {
                event[side].store(sequence + 1, Ordering::Relaxed);
            };
            graph.consumer(&format!("side-{side}"), &[source], handler).expect("its own ring")
        });
        let joined = Arc::new(AtomicU64::new(0));
        let count = joined.clone();
        let join = move |event: &[AtomicU64; 2], sequence, _| {
            assert!(
                event.iter().all(|side| side.load(Ordering::Relaxed) == sequence + 1),
                "a side was not waited for"
            );
            count.fetch_add(1, Ordering::Relaxed);
        };
        graph.consumer("join", &sides, join).expect("its own ring");
        let (mut producer, mut ring) = graph.build_multi_producer().expect("threads");
        for _ in 0..3_000 {
            producer.publish(|_| {}).expect("an open ring");
        }
        let reports = shut_down(&mut ring);
        assert!(reports.iter().all(|report| report.panics == 0), "{reports:?}");
        assert_eq!(joined.load(Ordering::Relaxed), 3_000);
    });
}

#[test]
fn a_consumer_of_another_ring_is_no_dependency() {
    let mut other = graph(2);
    let (foreign, _poller) = other.poller(&[]).expect("no dependency");
    let mut graph = graph(2);
    let (own, _own_poller) = graph.poller(&[]).expect("no dependency");
    assert!(matches!(graph.poller(&[foreign]), Err(BuildError::ForeignConsumer { .. })));
    let error = graph.consumer("late", &[own, foreign], |_, _, _| {}).expect_err("a foreign consumer");
    assert_eq!(error, BuildError::ForeignConsumer { name: "late".to_owned() });
}

#[test]
fn a_consumer_of_a_ring_that_is_gone_is_no_dependency() {
    for _ in 0..64 {
        // The next graph may well lie where this one lay.
        let stale = graph(2).poller(&[]).expect("no dependency").0;
        assert!(matches!(graph(2).poller(&[stale]), Err(BuildError::ForeignConsumer { .. })));
    }
}

#[test]
fn a_middle_stage_that_leaves_does_not_open_the_way_past_the_first() {
    let mut graph = graph(8);
    let (first, mut earliest) = graph.poller(&[]).expect("no dependency");
    let (second, middle) = graph.poller(&[first]).expect("its own ring");
    let (_, mut last) = graph.poller(&[second]).expect("its own ring");
    let (mut producer, _ring) = graph.build_single_producer().expect("no threads");
    producer.publish_batch(3, |place, event| *event = place as u64).expect("room for three");
    drop(middle);
    assert_eq!(last.poll(8, |_, _, _| panic!("the first stage has seen nothing yet")), Polled::Empty);
    assert_eq!(take(&mut earliest, 2), [0, 1]);
    assert_eq!(take(&mut last, 2), [0, 1]);
    assert_eq!(last.poll(8, |_, _, _| panic!("the first stage has seen two")), Polled::Empty);
}

// Capacity and cores.

#[test]
fn a_capacity_that_is_no_power_of_two_names_the_next_that_is() {
    for (capacity, next) in [(0, 1), (3, 4), (1000, 1024), ((1 << 30) + 1, 1 << 30), (usize::MAX, 1 << 30)] {
        let error = RingBuilder::new(capacity, || ()).expect_err("not a power of two in range");
        assert_eq!(error, BuildError::Capacity { capacity, next });
        assert!(error.to_string().contains(&next.to_string()), "{error}");
    }
}

/// The threads of this process whose names start so.
#[cfg(target_os = "linux")]
fn threads_named(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the threads of this process");
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with(prefix)).count()
}

#[test]
#[cfg(target_os = "linux")]
fn a_core_that_does_not_exist_is_an_error_and_leaves_no_thread_running() {
    let builder = RingBuilder::new(4, || 0_u64).expect("a power of two");
    let mut graph = builder.pinning(Pinning::Cores(vec![0, 999])).graph().expect("memory");
    let witness = Arc::new(());
    for place in 0..2 {
        let witness = witness.clone();
        let handler = move |_: &u64, _, _| {
            let _ = &witness;
        };
        graph.consumer(&format!("nocore-{place}"), &[], handler).expect("no dependency");
    }
    let error = graph.build_single_producer().expect_err("there is no core 999");
    assert!(
        matches!(&error, BuildError::Affinity { reason: AffinityError::NoSuchCore { core: 999, .. }, .. }),
        "{error}"
    );
    assert_eq!(threads_named("nocore-"), 0);
    assert_eq!(Arc::strong_count(&witness), 1, "a handler was left behind");
}

#[test]
fn an_empty_list_of_cores_is_an_error() {
    let mut graph = RingBuilder::new(4, || 0_u64)
        .expect("a power of two")
        .pinning(Pinning::Cores(vec![]))
        .graph()
        .expect("memory");
    graph.consumer("nowhere", &[], |_, _, _| {}).expect("no dependency");
    assert!(matches!(
        graph.build_multi_producer(),
        Err(BuildError::Affinity { reason: AffinityError::NoCores, .. })
    ));
}

#[test]
fn a_name_that_no_thread_can_bear_is_an_error() {
    let name = "with\0nul";
    let refused = |outcome: Result<_, BuildError>| match outcome {
        Err(error) => {
            assert_eq!(error, BuildError::Name { name: name.to_owned() });
            assert!(!error.to_string().contains('\0'), "{error}");
        }
        Ok(()) => panic!("it was accepted"),
    };
    let mut graph = RingBuilder::new(4, || 0_u64).expect("a power of two").graph().expect("memory");
    let options = || ConsumerOptions::new(name);
    let handler = || |_: &u64, _, _| {};
    refused(graph.consumer(name, &[], handler()).map(drop));
    refused(graph.workers(options(), 2, move |_| handler()).map(drop));
    let (_producer, mut ring) = graph.build_multi_producer().expect("no threads to start");
    refused(ring.join_consumer(options(), Duration::from_secs(1), handler).map(drop));
}
