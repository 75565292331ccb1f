//! Tests of the registry of subscriptions.

use super::*;
use crate::routing::{RingId, Trie};
use crate::topic::Topic;
use proptest::prelude::*;
use proptest::sample::Index;
use std::sync::mpsc::channel;

fn enter(registry: &Registry, many: u64) -> Vec<Arc<SubscriptionState>> {
    let pattern = || vec![Pattern::new("a").unwrap()];
    (0..many)
        .map(|_| registry.enter(None, pattern(), ConsumerAddr::default(), Nature::default()).unwrap())
        .collect()
}

/// A route that has carried so many messages to each of the destinations that exist.
fn link(registry: &Registry, routes: &Routes, to: &Destinations, carried: u64) -> Option<Arc<Route>> {
    let mut destinations = to.clone();
    registry.attach(&mut destinations);
    if destinations.is_empty() {
        return None;
    }
    let route = routes.link(&Topic::new("a").unwrap(), &destinations, RingId::new).unwrap();
    route.targets.iter().for_each(|target| target.tally.accepted.add(carried));
    Some(route)
}

fn routed(ledgers: &[SubscriptionLedger]) -> u64 {
    ledgers.iter().map(|ledger| ledger.routed).sum()
}

/// Links so many routes, each to `count` subscriptions. Of these the first half end after it.
fn link_and_end(
    registry: &Registry,
    routes: &Routes,
    count: usize,
    how_many: usize,
) -> (Vec<Arc<Route>>, Vec<SubscriptionLedger>) {
    let states = enter(registry, 2 * count as u64);
    let all: Vec<_> = states.iter().map(|state| state.destination).collect();
    let different: Vec<_> = (0..5).map(|n| Destinations::new(&all[n * count / 4..][..count])).collect();
    let linked: Vec<_> =
        (0..how_many).map(|n| link(registry, routes, &different[n % 5], 1 + n as u64).unwrap()).collect();
    let (expected, _) = registry.audit(routes, |_| ());
    assert_eq!(routed(&expected), (1..=how_many as u64).sum::<u64>() * count as u64);
    // The account is past as soon as the last route is freed.
    states[..count].iter().for_each(|state| registry.end(state.id));
    (linked, expected)
}

#[track_caller]
fn assert_all_is_counted_once(registry: &Registry, routes: &Routes, expected: &[SubscriptionLedger]) {
    let (present, past) = registry.audit(routes, |_| ());
    assert_eq!(routed(&present) + past.routed, routed(expected));
    for ledger in present {
        assert_eq!(ledger.routed, expected[ledger.id.0 as usize].routed, "{}", ledger.name);
    }
}

#[test]
fn an_audit_counts_all_once_while_routes_are_freed() {
    for _ in 0..20 {
        let (registry, routes) = (Registry::default(), Routes::default());
        let (linked, expected) = link_and_end(&registry, &routes, 2, 1_000);
        std::thread::scope(|scope| {
            let freeing = scope.spawn(|| {
                for some in linked.chunks(10) {
                    registry.free(&routes, some);
                }
            });
            while !freeing.is_finished() {
                assert_all_is_counted_once(&registry, &routes, &expected);
            }
        });
        let (present, _) = registry.audit(&routes, |_| ());
        assert_eq!(present, expected[2..]);
    }
}

#[test]
fn an_audit_counts_all_once_whichever_part_of_routes_to_many_has_been_handed_on() {
    let (registry, routes) = (Registry::default(), Routes::default());
    // One hold of the lock is enough for a part of each.
    let count = MAX_CHUNK * (MAX_PER_LOCK + 8);
    let (linked, expected) = link_and_end(&registry, &routes, count, 10);
    let mut left = HandOn::of(&linked);
    let mut parts = 0;
    while !left.routes.is_empty() {
        registry.0.lock().now.hand_on(&mut left);
        parts += 1;
        if parts < 20 || parts % 10 == 0 {
            assert_all_is_counted_once(&registry, &routes, &expected);
        }
    }
    routes.free(&linked);
    let (present, _) = registry.audit(&routes, |_| ());
    assert_eq!(present, expected[count..]);
    let now = registry.snapshot();
    assert!(now.shares.is_empty() && now.partly_freed.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Subscribe(u16, bool),
    End(Index),
    /// A topic is resolved, by a table that is some changes old, and has so many messages.
    Link(usize, u64),
    Free(Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u16, any::<bool>()).prop_map(|(dispatcher, twice)| Step::Subscribe(dispatcher, twice)),
        2 => any::<Index>().prop_map(Step::End),
        2 => (0..3_usize, 0..9_u64).prop_map(|(age, carried)| Step::Link(age, carried)),
        2 => any::<Index>().prop_map(Step::Free),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_and_goes_each_account_is_right(
        at_first in 0..1_000_u16,
        steps in prop::collection::vec(step(), 1..100),
    ) {
        let (registry, routes) = (Registry::default(), Routes::default());
        let patterns = ["a", "*"].map(|pattern| Pattern::new(pattern).unwrap());
        let mut tables = vec![Trie::new()];
        let mut states: Vec<Arc<SubscriptionState>> = Vec::new();
        let mut linked: Vec<Arc<Route>> = Vec::new();
        let mut expected: HashMap<u64, u64> = HashMap::new();
        let firsts = (0..at_first).map(|n| Step::Subscribe(n % 3, n % 10 == 0));
        for step in firsts.chain(steps) {
            match step {
                Step::Subscribe(dispatcher, twice) => {
                    let consumer = ConsumerAddr { dispatcher, number: 0 };
                    let state = registry.enter(None, patterns.to_vec(), consumer, Nature::default()).unwrap();
                    let mut table = tables[tables.len() - 1].clone();
                    for pattern in &patterns[..1 + usize::from(twice)] {
                        table.insert(pattern, state.destination);
                    }
                    tables.push(table);
                    states.push(state);
                }
                Step::End(_) if states.is_empty() => {}
                Step::End(which) => {
                    let state = states.swap_remove(which.index(states.len()));
                    let mut table = tables[tables.len() - 1].clone();
                    patterns.iter().for_each(|pattern| _ = table.remove(pattern, &state.destination));
                    tables.push(table);
                    registry.end(state.id);
                }
                Step::Link(age, carried) => {
                    let table = &tables[(tables.len() - 1).saturating_sub(age)];
                    let mut to = Destinations::find(table, "a", &mut Vec::new());
                    if let Some(before) = linked.last() {
                        to.share(&before.destinations);
                    }
                    if let Some(route) = link(&registry, &routes, &to, carried) {
                        for to in route.destinations.slices().flatten() {
                            *expected.entry(to.subscription).or_default() += carried;
                        }
                        linked.push(route);
                    }
                }
                Step::Free(_) if linked.is_empty() => {}
                Step::Free(which) => {
                    let route = linked.swap_remove(which.index(linked.len()));
                    registry.free(&routes, &[route]);
                }
            }
            tables.drain(..tables.len().saturating_sub(3));
        }
        let check = |registry: &Registry| {
            let (present, past) = registry.audit(&routes, |_| ());
            for ledger in &present {
                prop_assert_eq!(ledger.routed, expected.get(&ledger.id.0).copied().unwrap_or(0));
            }
            prop_assert_eq!(routed(&present) + past.routed, expected.values().sum::<u64>());
            Ok(present.len())
        };
        check(&registry)?;
        registry.free(&routes, &linked);
        prop_assert_eq!(check(&registry)?, states.len());
        prop_assert!(registry.snapshot().shares.is_empty());
    }
}

#[test]
fn nobody_who_reads_many_entries_holds_the_lock_meanwhile() {
    let (sender, done) = channel();
    std::thread::spawn(move || {
        let (registry, routes) = (Registry::default(), Routes::default());
        let states = enter(&registry, 3);
        let _route = link(&registry, &routes, &Destinations::new(&[states[0].destination]), 1);
        // Each look takes the lock.
        let look = |id| registry.find(id).map_or(0, |state| state.id);
        let (ledgers, _) = registry.audit(&routes, |account| _ = look(account.id.0));
        let live = registry.snapshot().live().map(|state| look(state.id)).sum::<u64>();
        sender.send((ledgers.len(), live))
    });
    assert_eq!(done.recv_timeout(Duration::from_secs(30)), Ok((3, 3)));
}

#[test]
fn a_name_is_free_again_once_its_subscription_has_ended() {
    let registry = Registry::default();
    let enter = |name| {
        registry
            .enter(Some(name), Vec::new(), ConsumerAddr::default(), Nature::default())
            .map(|state| state.id)
    };
    let first = enter("subscription-1").unwrap();
    assert!(matches!(enter("subscription-1"), Err(SubscribeError::NameTaken { .. })));
    let unnamed = registry.enter(None, Vec::new(), ConsumerAddr::default(), Nature::default()).unwrap();
    assert_eq!((&*unnamed.name, registry.live_count()), ("subscription-2", 2));
    registry.end(first);
    assert_eq!((enter("subscription-1").is_ok(), registry.live_count()), (true, 2));
}
