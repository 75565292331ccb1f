//! What the pieces of the hot path cost on one thread, with warm caches and nobody contending: for
//! finding out where time goes, not for what a message costs between two cores (that is what
//! `ringmain-bench` measures).
//!
//! `cargo bench -p ringmain`

#![allow(missing_docs)] // criterion's macros make undocumented items

use criterion::{Criterion, criterion_group, criterion_main};
use ringmain::clock::Clock;
use ringmain::message::Payload;
use ringmain::ring::RingBuilder;
use ringmain::routing::{TopicCache, Trie};
use ringmain::topic::{Pattern, Topic};
use std::hint::black_box;

const TOPICS: usize = 1_000;

fn ring(c: &mut Criterion) {
    let mut graph = RingBuilder::new(1_024, || [0_u64; 15]).expect("a power of two").graph().expect("memory");
    let (_, mut poller) = graph.poller(&[]).expect("a first consumer");
    let (mut producer, _ring) = graph.build_single_producer().expect("no threads to start");
    c.bench_function("ring: publish and poll, single producer, 120 bytes", |b| {
        b.iter(|| {
            producer.publish(|event| *event = black_box([7; 15])).expect("there is room");
            poller.poll(1, |event, _, _| {
                black_box(event.iter().sum::<u64>());
            })
        });
    });

    let mut graph = RingBuilder::new(1_024, || [0_u64; 15]).expect("a power of two").graph().expect("memory");
    let (_, mut poller) = graph.poller(&[]).expect("a first consumer");
    let (mut producer, _ring) = graph.build_multi_producer().expect("no threads to start");
    c.bench_function("ring: publish and poll, many producers, 120 bytes", |b| {
        b.iter(|| {
            producer.publish(|event| *event = black_box([7; 15])).expect("there is room");
            poller.poll(1, |event, _, _| {
                black_box(event.iter().sum::<u64>());
            })
        });
    });
}

fn routing(c: &mut Criterion) {
    let mut trie = Trie::new();
    for number in 0..10_000_u32 {
        let pattern = match number % 20 {
            0 => format!("orders.*.{number}"),
            1 => format!("orders.{number}.#"),
            _ => format!("orders.{}.{number}", number % 50),
        };
        trie.insert(&Pattern::new(&pattern).expect("a pattern"), number);
    }
    let mut found = Vec::new();
    c.bench_function("routing: match a topic against 10,000 patterns", |b| {
        b.iter(|| {
            trie.matches(black_box("orders.7.4007"), &mut found);
            found.len()
        });
    });

    let topics: Vec<String> = (0..TOPICS).map(|number| format!("bench.{number}.tick")).collect();
    let mut cache = TopicCache::new(4_096);
    for topic in &topics {
        cache.insert(Topic::new(topic).expect("a topic"), 0_u64);
    }
    let mut next = 0;
    c.bench_function("routing: find one of 1,000 topics in the cache", |b| {
        b.iter(|| {
            next = (next + 1) % TOPICS;
            cache.get(&topics[next]).copied()
        });
    });
}

fn message(c: &mut Criterion) {
    let mut payload = Payload::default();
    let content = [7_u8; 64];
    c.bench_function("message: set a payload of 64 bytes", |b| {
        b.iter(|| payload.set(black_box(&content)));
    });
    let clock = Clock::hardware();
    c.bench_function("clock: now", |b| b.iter(|| clock.now()));
}

criterion_group!(benches, ring, routing, message);
criterion_main!(benches);
