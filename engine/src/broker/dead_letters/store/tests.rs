//! Tests of the store of dead letters in memory.

use super::super::attempt::History;
use super::super::samples::{history, id, letter, letter_of, seconds, wall};
use super::*;
use crate::broker::account::term::FailureKind;
use proptest::prelude::*;
use std::cell::Cell;
use std::time::{Duration, Instant};

const NOW: Timestamp = Timestamp::from_nanos(0);

fn store_of(entries: usize) -> MemoryStore<()> {
    MemoryStore::new(DeadLetterOptions::new().entries(entries))
}

fn put<P>(store: &mut MemoryStore<P>, new: NewLetter<P>) -> Put<P> {
    store.put(new, NOW, SystemTime::UNIX_EPOCH)
}

fn key(sequence: u64, subscription: &str) -> Key {
    Key { message: id(sequence), subscription: subscription.into() }
}

fn numbers<P>(letters: &[Arc<DeadLetter<P>>]) -> Vec<u64> {
    letters.iter().map(|letter| letter.number).collect()
}

fn held<P>(store: &MemoryStore<P>) -> Vec<u64> {
    numbers(&store.query(&Selection::all(), NOW))
}

/// A store with letters of the messages 0, 1, 2 and so on, whose numbers are the same.
fn filled(count: u64, entries: usize) -> MemoryStore<()> {
    let mut store = store_of(entries);
    (0..count).for_each(|sequence| put(&mut store, letter(sequence, "billing")).discard());
    store
}

fn plan<P>(store: &mut MemoryStore<P>, numbers: impl std::ops::RangeBounds<u64>) -> ReplayPlan {
    store.lease_for_replay(&Selection::all().numbers(numbers), NOW)
}

fn hand_over<P>(store: &mut MemoryStore<P>, numbers: impl std::ops::RangeBounds<u64>) {
    for number in plan(store, numbers) {
        store.take(number).unwrap();
    }
}

#[test]
fn of_twelve_thousand_failures_the_last_ten_thousand_are_held_and_replayed_once() {
    let mut store = store_of(10_000);
    let mut evicted = 0;
    for sequence in 0..12_000 {
        let put = put(&mut store, letter(sequence, "billing"));
        assert_eq!(put.number, Some(sequence));
        evicted += put.evicted.len();
    }
    assert_eq!((evicted, store.len()), (2_000, 10_000));
    assert_eq!(store.query(&Selection::all().at_most(1), NOW)[0].number, 2_000);

    let first = plan(&mut store, ..);
    let second = plan(&mut store, ..);
    assert_eq!((first.len(), first.already_replaying.len()), (10_000, 0));
    assert_eq!((second.len(), second.already_replaying.len()), (0, 10_000));
    for number in first {
        let letter = store.take(number).unwrap();
        assert_eq!(store.settle_replayed(&letter.key()).unwrap().number, number);
    }
    let counts = store.counts();
    assert_eq!((counts.taken, counts.held, counts.evicted, counts.replayed), (12_000, 0, 2_000, 10_000));
    assert!(counts.is_balanced() && store.bytes() == 0, "{counts}");
}

#[test]
fn a_full_store_takes_each_message_once_and_none_comes_back() {
    let mut store = filled(5, 3);
    let put = put(&mut store, letter(5, "billing"));
    assert_eq!((put.number, numbers(&put.evicted), put.lost.is_some()), (Some(5), vec![2], false));
    assert_eq!(held(&store), [3, 4, 5]);
    assert_eq!(store.counts().to_string().split(" = ").next(), Some("6 taken"));
}

#[test]
fn a_letter_that_alone_is_too_large_is_lost_and_costs_no_other_its_place() {
    let mut store: MemoryStore<()> = MemoryStore::new(DeadLetterOptions::new().bytes(10_000));
    put(&mut store, letter(0, "billing")).discard();
    for bytes in [10_000, usize::MAX] {
        let mut large = letter(1, "billing");
        large.bytes = bytes;
        let put = put(&mut store, large);
        assert_eq!((put.number, put.evicted.len()), (None, 0));
        assert_eq!(put.lost.unwrap().message.id, id(1));
    }
    let counts = store.counts();
    assert_eq!((counts.taken, counts.held, counts.lost), (3, 1, 2));
    assert!(counts.is_balanced());
}

#[test]
fn a_store_for_no_letter_loses_each() {
    let mut store = filled(3, 0);
    assert!(put(&mut store, letter(3, "billing")).lost.is_some());
    assert_eq!((store.counts().lost, store.counts().is_balanced()), (4, true));
}

#[test]
fn a_failed_replay_that_is_too_large_leaves_the_letter_it_came_from() {
    let mut store = filled(1, 10);
    hand_over(&mut store, ..);
    let mut large = letter(0, "billing");
    large.bytes = usize::MAX;
    assert!(put(&mut store, large).lost.is_some());
    assert_eq!((plan(&mut store, ..).len(), store.counts().is_balanced()), (1, true));
}

#[test]
fn error_texts_cannot_push_a_letter_over_the_limit() {
    const LIMIT: usize = 4_000;
    let mut store: MemoryStore<()> = MemoryStore::new(DeadLetterOptions::new().bytes(LIMIT));
    let texts: Vec<String> = (0..60).map(|number| format!("{number} {}", "x".repeat(10_000))).collect();
    let mut new = letter(0, "billing");
    new.history = history(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(put(&mut store, new).number, Some(0));
    assert!(store.bytes() <= LIMIT && store.bytes() > LIMIT - 400, "{}", store.bytes());
    let letter = &store.query(&Selection::all(), NOW)[0];
    let kept = letter.attempts.len();
    assert!((5..15).contains(&kept), "{kept}");
    assert_eq!(letter.forgotten_attempts, 60 - kept as u64);
    assert_eq!(letter.last_error(), Some(&texts[59][..256]));
}

#[test]
fn replays_that_fail_again_and_again_do_not_grow_a_letter_for_ever() {
    let mut store = filled(1, 10);
    for episode in 2..200 {
        hand_over(&mut store, ..);
        put(&mut store, letter(0, "billing")).discard();
        let letter = &store.query(&Selection::all(), NOW)[0];
        assert_eq!(letter.episodes, episode);
        assert_eq!(letter.attempts.len() as u64 + letter.forgotten_attempts, u64::from(episode));
        assert_eq!(letter.attempts.last().unwrap().episode, episode);
    }
    assert_eq!(store.query(&Selection::all(), NOW)[0].attempts.len(), History::MAX_ATTEMPTS);
    assert!(store.counts().is_balanced());
}

#[test]
fn the_same_message_failing_for_two_subscriptions_is_two_letters() {
    let mut store = store_of(10);
    put(&mut store, letter(0, "billing")).discard();
    assert!(put(&mut store, letter(0, "mail")).replaced.is_none());
    hand_over(&mut store, ..);
    assert_eq!(store.settle_replayed(&key(0, "mail")).unwrap().number, 1);
    assert_eq!(held(&store), [0]);
}

#[test]
fn a_replay_asked_for_twice_hands_over_once() {
    let mut store = filled(3, 10);
    let first = plan(&mut store, ..2);
    let second = plan(&mut store, ..);
    assert_eq!(second.already_replaying, [0, 1]);
    assert_eq!(second.collect::<Vec<_>>(), [2]);
    for number in first {
        assert!(store.take(number).is_some());
        assert!(store.take(number).is_none());
    }
    // Handed over and not settled, they are still leased.
    assert_eq!(plan(&mut store, ..).already_replaying, [0, 1, 2]);
}

#[test]
fn a_failed_hand_over_leaves_no_lease() {
    let mut store = filled(1, 10);
    hand_over(&mut store, ..);
    store.release(&key(0, "billing"));
    assert_eq!((held(&store), store.counts().replayed), (vec![0], 0));
    assert_eq!(plan(&mut store, ..).len(), 1);
}

#[test]
fn only_what_was_handed_over_is_released() {
    let mut store = filled(1, 10);
    let plan_of_another = plan(&mut store, ..);
    store.release(&key(0, "billing"));
    assert_eq!(plan(&mut store, ..).already_replaying, [0]);
    assert_eq!(plan_of_another.map(|number| store.take(number).is_some()).collect::<Vec<_>>(), [true]);
}

#[test]
fn a_second_replay_after_a_failed_one_is_accepted_and_the_history_goes_on() {
    let mut store = store_of(10);
    store.put(letter(0, "billing"), seconds(1), wall(seconds(1))).discard();
    hand_over(&mut store, ..);
    let mut again = letter(0, "billing");
    again.history = history(&["again", "and again"]);
    again.kind = FailureKind::TimedOut;
    let put = store.put(again, seconds(2), wall(seconds(2)));
    assert_eq!((put.number, put.replaced.as_ref().unwrap().number), (Some(1), 0));

    let second = plan(&mut store, ..).collect::<Vec<_>>();
    assert_eq!(second, [1]);
    let letter = store.take(1).unwrap();
    let told: Vec<_> =
        letter.attempts.iter().map(|it| (it.episode, it.attempt, it.error.as_deref().unwrap())).collect();
    assert_eq!(told, [(1, 1, "no"), (2, 1, "again"), (2, 2, "and again")]);
    assert_eq!((letter.episodes, letter.kind), (2, FailureKind::TimedOut));
    assert_eq!((letter.first_at, letter.dead_at), (seconds(1), seconds(2)));
    assert_eq!((letter.first_at_wall, letter.dead_at_wall), (wall(seconds(1)), wall(seconds(2))));
    let counts = store.counts();
    assert_eq!((counts.taken, counts.held, counts.replayed), (2, 1, 1));
}

#[test]
fn a_group_replay_takes_what_was_there_when_it_was_asked_for() {
    let mut store = filled(3, 10);
    let asked_for = plan(&mut store, ..);
    put(&mut store, letter(3, "billing")).discard();
    let mut taken = Vec::new();
    for number in asked_for {
        let letter_taken = store.take(number).unwrap();
        taken.push(number);
        // It fails at once, and must not be thrown straight back.
        put(&mut store, letter(letter_taken.message.id.sequence(), "billing")).discard();
    }
    assert_eq!((taken, held(&store)), (vec![0, 1, 2], vec![3, 4, 5, 6]));
}

#[test]
fn a_message_that_no_handler_got_has_no_attempts() {
    let mut store = store_of(10);
    let mut refused = letter(0, "billing");
    (refused.kind, refused.history) = (FailureKind::Refused, history(&[]));
    put(&mut store, refused).discard();
    let letter = &store.query(&Selection::all(), NOW)[0];
    assert_eq!((letter.attempts.len(), letter.kind, letter.last_error()), (0, FailureKind::Refused, None));
}

#[test]
fn both_bounds_hold_for_what_comes_back_from_replays_too() {
    let one = filled(1, 10).bytes();
    let mut store: MemoryStore<()> = MemoryStore::new(DeadLetterOptions::new().bytes(4 * one));
    (0..4).for_each(|sequence| put(&mut store, letter(sequence, "billing")).discard());
    hand_over(&mut store, 3..);
    let put = put(&mut store, letter(3, "billing"));
    assert_eq!((numbers(&put.evicted), held(&store)), (vec![0], vec![1, 2, 4]));
    assert!(store.bytes() <= 4 * one);
    assert_eq!(store.counts().to_string(), "5 taken = 3 held + 1 replayed + 0 purged + 1 evicted + 0 lost");
}

#[test]
fn one_large_letter_evicts_as_many_small_ones_as_it_needs() {
    let one = filled(1, 10).bytes();
    let mut store: MemoryStore<()> = MemoryStore::new(DeadLetterOptions::new().bytes(10 * one));
    (0..10).for_each(|sequence| put(&mut store, letter(sequence, "billing")).discard());
    let mut large = letter(10, "billing");
    large.bytes += 3 * one;
    assert_eq!(numbers(&put(&mut store, large).evicted), [0, 1, 2, 3]);
    assert_eq!(store.bytes(), 10 * one);
}

#[test]
fn what_is_being_replayed_goes_last_and_what_is_only_planned_last_of_all() {
    let mut store = filled(5, 5);
    let planned = plan(&mut store, 0..2);
    hand_over(&mut store, 2..4);
    let mut gone = Vec::new();
    for sequence in 5..10 {
        gone.extend(numbers(&put(&mut store, letter(sequence, "billing")).evicted));
        hand_over(&mut store, sequence..);
    }
    assert_eq!(gone, [4, 2, 3, 5, 6]);
    assert_eq!(planned.map(|number| store.take(number).is_some()).collect::<Vec<_>>(), [true, true]);
    assert!(store.counts().is_balanced());
}

#[test]
fn where_all_are_planned_the_oldest_goes_and_its_plan_passes_it_over() {
    let mut store = filled(2, 2);
    let all = plan(&mut store, ..);
    assert_eq!(numbers(&put(&mut store, letter(2, "billing")).evicted), [0]);
    assert_eq!(all.filter_map(|number| store.take(number)).count(), 1);
}

#[test]
fn a_letter_that_had_to_go_while_it_was_replayed_settles_as_nothing() {
    let mut store = filled(1, 1);
    hand_over(&mut store, ..);
    put(&mut store, letter(1, "billing")).discard();
    assert!(store.settle_replayed(&key(0, "billing")).is_none());
    assert_eq!(store.counts().to_string(), "2 taken = 1 held + 0 replayed + 0 purged + 1 evicted + 0 lost");
    // And where it fails, it is a new one.
    assert!(put(&mut store, letter(0, "billing")).replaced.is_none());
}

#[test]
fn purging_leaves_what_is_being_replayed() {
    let mut store = filled(4, 10);
    let planned = plan(&mut store, 0..1);
    hand_over(&mut store, 1..2);
    assert_eq!(numbers(&store.purge(&Selection::all(), NOW)), [2, 3]);
    assert_eq!((held(&store), store.counts().purged), (vec![0, 1], 2));
    store.cancel(planned);
    assert_eq!(numbers(&store.purge(&Selection::all(), NOW)), [0]);
    assert!(store.counts().is_balanced());
}

#[test]
fn a_cancelled_plan_frees_what_it_has_not_come_to() {
    let mut store = filled(3, 10);
    let mut cancelled = plan(&mut store, ..);
    store.take(cancelled.next().unwrap()).unwrap();
    store.cancel(cancelled);
    let again = plan(&mut store, ..);
    assert_eq!((again.already_replaying.clone(), again.collect::<Vec<_>>()), (vec![0], vec![1, 2]));
}

#[test]
fn a_store_without_error_texts_keeps_none() {
    let mut store: MemoryStore<()> = MemoryStore::new(DeadLetterOptions::new().error_texts(false));
    assert!(!store.options().keeps_error_texts());
    put(&mut store, letter(0, "billing")).discard();
    let kept = &store.query(&Selection::all(), NOW)[0];
    assert_eq!((kept.attempts.len(), kept.last_error()), (1, None));
    assert_eq!(store.groups(&Selection::all(), NOW)[0].sample, None);
}

#[test]
fn letters_that_are_leased_are_not_searched_through_for_each_newcomer() {
    // A sanitizer makes it many times slower.
    const LEASED: u64 = if cfg!(ringmain_sanitized) { 3_000 } else { 30_000 };
    let started = Instant::now();
    let mut store = filled(LEASED, LEASED as usize + 1);
    let _plan = plan(&mut store, ..);
    (LEASED..2 * LEASED).for_each(|sequence| put(&mut store, letter(sequence, "billing")).discard());
    assert_eq!(store.counts().evicted, LEASED - 1);
    // Half a second as it is; going through them all takes minutes.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static TOUCHED: Cell<u32> = const { Cell::new(0) };
}

/// A payload that tells when its code runs inside the store.
struct Touchy;

impl Touchy {
    fn touch() {
        TOUCHED.set(TOUCHED.get() + u32::from(INSIDE.get()));
    }
}

impl Clone for Touchy {
    fn clone(&self) -> Self {
        Self::touch();
        Self
    }
}

impl std::fmt::Debug for Touchy {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Self::touch();
        Ok(())
    }
}

impl Drop for Touchy {
    fn drop(&mut self) {
        Self::touch();
    }
}

fn inside<R>(call: impl FnOnce() -> R) -> R {
    INSIDE.set(true);
    let result = call();
    INSIDE.set(false);
    result
}

#[test]
fn no_payload_is_cloned_shown_or_dropped_inside() {
    let mut store = MemoryStore::new(DeadLetterOptions::new().entries(5));
    let all = Selection::all();
    let put = |store: &mut MemoryStore<Touchy>, sequence| {
        let new = letter_of(sequence, "billing", Touchy);
        inside(|| store.put(new, NOW, SystemTime::UNIX_EPOCH))
    };
    for sequence in 0..8 {
        let put = put(&mut store, sequence);
        assert_eq!(put.evicted.len(), usize::from(sequence >= 5));
    }
    let found = inside(|| (store.query(&all, NOW), store.count(&all, NOW), store.groups(&all, NOW)));
    drop(found);
    let mut plan = inside(|| store.lease_for_replay(&all, NOW));
    for outcome in 0..3 {
        let number = plan.next().unwrap();
        let taken = inside(|| store.take(number)).unwrap();
        match outcome {
            0 => drop(inside(|| store.settle_replayed(&taken.key()))),
            1 => inside(|| store.release(&taken.key())),
            _ => assert!(put(&mut store, taken.message.id.sequence()).replaced.is_some()),
        }
    }
    inside(|| store.cancel(plan));
    let mut large = letter_of(99, "billing", Touchy);
    large.bytes = usize::MAX;
    let lost = inside(|| store.put(large, NOW, SystemTime::UNIX_EPOCH));
    assert!(lost.lost.is_some());
    let purged = inside(|| store.purge(&all, NOW));
    assert_eq!((purged.len(), store.len()), (4, 0));
    assert_eq!(TOUCHED.get(), 0);
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a payload that panics when it is dropped");
    }
}

#[test]
fn payloads_that_panic_when_dropped_leave_the_store_as_it_is() {
    let mut store = MemoryStore::new(DeadLetterOptions::new().entries(3));
    (0..6).for_each(|sequence| put(&mut store, letter_of(sequence, "billing", Bomb)).discard());
    let mut large = letter_of(6, "billing", Bomb);
    large.bytes = usize::MAX;
    put(&mut store, large).discard();
    discard(store.purge(&Selection::all().at_most(1), NOW));
    assert_eq!(held(&store), [4, 5]);
    assert_eq!(store.counts().to_string(), "7 taken = 2 held + 0 replayed + 1 purged + 3 evicted + 1 lost");
    // Two are left: the panic of the first must not meet that of the second.
    drop(store);
}

// A model that is slow and plain.

#[derive(Clone, Debug)]
struct Entry {
    number: u64,
    key: (u64, u8),
    bytes: usize,
    attempts: usize,
    lease: Lease,
}

#[derive(Debug, Default)]
struct Model {
    entries: Vec<Entry>,
    counts: DeadLetterCounts,
    next: u64,
}

const MOST: usize = 6;

impl Model {
    fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }

    fn put(&mut self, key: (u64, u8), bare: usize, attempt: usize, limit: usize) -> Vec<u64> {
        self.counts.taken += 1;
        if bare > limit {
            self.counts.lost += 1;
            self.free(key);
            return Vec::new();
        }
        let before = self.entries.iter().position(|entry| entry.key == key);
        let before = before.map(|index| self.entries.remove(index));
        self.counts.replayed += u64::from(before.is_some());
        // One more, unless there is no room for it.
        let attempts = before.map_or(1, |entry| entry.attempts + 1).min((limit - bare) / attempt);
        let bytes = bare + attempts * attempt;
        let mut evicted = Vec::new();
        while self.entries.len() >= MOST || self.bytes() + bytes > limit {
            let goes = self.entries.iter().min_by_key(|entry| (entry.lease, entry.number)).unwrap().number;
            self.entries.retain(|entry| entry.number != goes);
            self.counts.evicted += 1;
            evicted.push(goes);
        }
        self.entries.push(Entry { number: self.next, key, bytes, attempts, lease: Lease::Free });
        self.next += 1;
        evicted
    }

    fn free(&mut self, key: (u64, u8)) {
        let of_key = self.entries.iter_mut().filter(|it| it.key == key && it.lease == Lease::HandedOver);
        of_key.for_each(|entry| entry.lease = Lease::Free);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put { key: (u64, u8), extra: usize },
    Plan { from: u64, at_most: usize },
    Take,
    Cancel,
    Settle { key: (u64, u8) },
    Release { key: (u64, u8) },
    Purge { from: u64, at_most: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let key = || (0..10_u64, 0..2_u8);
    prop_oneof![
        8 => (key(), prop_oneof![0..50_usize, 0..9_000_usize]).prop_map(|(key, extra)| Step::Put { key, extra }),
        2 => (0..40_u64, 0..5_usize).prop_map(|(from, at_most)| Step::Plan { from, at_most }),
        4 => Just(Step::Take),
        1 => Just(Step::Cancel),
        4 => key().prop_map(|key| Step::Settle { key }),
        2 => key().prop_map(|key| Step::Release { key }),
        1 => (0..40_u64, 0..4_usize).prop_map(|(from, at_most)| Step::Purge { from, at_most }),
    ]
}

const NAMES: [&str; 2] = ["billing", "mail"];

proptest! {
    #[test]
    fn whatever_is_done_it_does_what_a_plain_model_does(steps in prop::collection::vec(step(), 1..120)) {
        let limit = 7_000;
        let mut store: MemoryStore<()> =
            MemoryStore::new(DeadLetterOptions::new().entries(MOST).bytes(limit));
        let mut model = Model::default();
        let mut plans: Vec<ReplayPlan> = Vec::new();
        for step in steps {
            match step {
                Step::Put { key, extra } => {
                    let mut new = letter(key.0, NAMES[usize::from(key.1)]);
                    new.bytes += extra;
                    let bare = MemoryStore::<()>::bytes_without_history(new.bytes, &new.subscription);
                    let attempt = history(&["no"]).bytes();
                    let expected = model.put(key, bare, attempt, limit);
                    let put = put(&mut store, new);
                    prop_assert_eq!(numbers(&put.evicted), expected);
                    prop_assert_eq!(put.number.is_none(), bare > limit);
                    prop_assert_eq!(put.lost.is_some(), bare > limit);
                }
                Step::Plan { from, at_most } => {
                    let selection = Selection::all().numbers(from..).at_most(at_most);
                    let plan = store.lease_for_replay(&selection, NOW);
                    let meant = model.entries.iter_mut().filter(|it| it.number >= from).take(at_most);
                    let (free, leased): (Vec<_>, Vec<_>) = meant.partition(|it| it.lease == Lease::Free);
                    let leased: Vec<u64> = leased.into_iter().map(|it| it.number).collect();
                    prop_assert_eq!(&plan.already_replaying, &leased);
                    let free: Vec<u64> = free
                        .into_iter()
                        .map(|it| {
                            it.lease = Lease::Planned;
                            it.number
                        })
                        .collect();
                    prop_assert_eq!(plan.left.as_slice(), &free[..]);
                    plans.push(plan);
                }
                Step::Take => {
                    let Some(number) = plans.iter_mut().find_map(Iterator::next) else { continue };
                    let taken = store.take(number).map(|letter| letter.number);
                    let entry = model.entries.iter_mut().find(|it| it.number == number);
                    prop_assert_eq!(taken, entry.as_ref().map(|it| it.number));
                    if let Some(entry) = entry {
                        prop_assert_eq!(entry.lease, Lease::Planned);
                        entry.lease = Lease::HandedOver;
                    }
                }
                Step::Cancel => {
                    let Some(plan) = plans.pop() else { continue };
                    let left: BTreeSet<u64> = plan.left.as_slice().iter().copied().collect();
                    store.cancel(plan);
                    let entries = model.entries.iter_mut().filter(|it| left.contains(&it.number));
                    entries.for_each(|it| it.lease = Lease::Free);
                }
                Step::Settle { key: of } => {
                    let settled = store.settle_replayed(&key(of.0, NAMES[usize::from(of.1)]));
                    let expected = model.entries.iter().position(|it| it.key == of);
                    let expected = expected.map(|index| model.entries.remove(index).number);
                    model.counts.replayed += u64::from(expected.is_some());
                    prop_assert_eq!(settled.map(|letter| letter.number), expected);
                }
                Step::Release { key: of } => {
                    store.release(&key(of.0, NAMES[usize::from(of.1)]));
                    model.free(of);
                }
                Step::Purge { from, at_most } => {
                    let purged = store.purge(&Selection::all().numbers(from..).at_most(at_most), NOW);
                    let meant = model.entries.iter().filter(|it| it.number >= from).take(at_most);
                    let expected: Vec<u64> =
                        meant.filter(|it| it.lease == Lease::Free).map(|it| it.number).collect();
                    model.entries.retain(|it| !expected.contains(&it.number));
                    model.counts.purged += expected.len() as u64;
                    prop_assert_eq!(numbers(&purged), expected);
                }
            }
            let counts = store.counts();
            prop_assert!(counts.is_balanced(), "{}", counts);
            prop_assert_eq!(
                counts,
                DeadLetterCounts { held: model.entries.len() as u64, ..model.counts }
            );
            prop_assert!(store.len() <= MOST && store.bytes() <= limit);
            prop_assert_eq!(store.bytes(), model.bytes());
            prop_assert_eq!(held(&store), model.entries.iter().map(|it| it.number).collect::<Vec<_>>());
            prop_assert_eq!(store.by_key.len(), store.len());
            prop_assert_eq!(store.leaving.len(), store.len());
        }
    }
}
