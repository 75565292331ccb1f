//! The routing table of this moment, shared by all publishers.
//!
//! A change never edits what a publisher may be reading: it makes a new [`Snapshot`] and swaps it
//! in whole. A publisher bound to a topic has resolved that topic in some snapshot and needs to
//! know one thing on each publish, whether there is a newer one; for that it reads the generation
//! word, a plain load from a cache line that is written only when the table changes, and leaves the
//! table alone.
//!
//! # Ordering
//!
//! Edge `swap-table` ([`SWAP_TABLE`]):
//!
//! 1. the writer, alone under the lock, builds a snapshot that already carries generation `g`;
//! 2. it swaps the snapshot in;
//! 3. it stores `g` to the generation word, with Release;
//! 4. a publisher loads the word with Acquire and reads `g`: now 2 happens before all that it does
//!    from here on;
//! 5. it loads the snapshot. The pointer's modification order is the order of the swaps, since
//!    there is one writer at a time, and coherence forbids to read a value older than one whose
//!    store happens before the load. So the snapshot's own generation is `g` or more.
//!
//! The word may lag behind the pointer, between 2 and 3, and never runs ahead of it. Therefore a
//! publisher must remember the generation *of the snapshot* in which it resolved, not that of the
//! word, and resolve again when the word is greater. A publisher that reads a word from before the
//! swap routes by the old table, which is right: its publish was concurrent with the change.
//!
//! # What an update leaves alone
//!
//! Between 2 and 3 above, each update leaves a note of the topics that it may concern (see
//! `changes`). A publisher that has read `g` and finds that no update since its own snapshot
//! concerns its topic need not look at the table: what the topic resolved to holds for `g` too
//! ([`RoutingTable::still_holds`]). By 4, every note up to `g` is there. But notes share [`KEPT`]
//! places, so a later note may stand where one is looked for: an overwritten place holds the note
//! of generation `g + k * KEPT`. Edge `change-log` ([`CHANGE_LOG`]) tells: a read of the note of
//! update `n` comes after the word has said `n - 1`. So a publisher that then finds the word less
//! than `KEPT` beyond its own snapshot has read each note that it meant to.
//!
//! # Reclamation
//!
//! `arc-swap` turns the borrow of each reader into a reference count of its own before `swap`
//! returns. So the last reader of a replaced snapshot would free it, and that could be a publisher
//! in the middle of a publish. To prevent this the table keeps a reference to each replaced
//! snapshot, in the retired list, until nobody else has one. A replaced snapshot cannot gain
//! readers, so a count of one stays one. [`RoutingTable::reclaim`], which the reclaimer calls,
//! frees those. A guard borrows from the table, so none is left when the table itself goes and
//! frees the rest.

use super::Trie;
use super::changes::{Changes, KEPT, Touched};
use crate::sync::arc_swap::{ArcSwap, Guard};
use crate::sync::atomic::{AtomicU64, Ordering};
#[cfg(doc)]
use crate::sync::edge::CHANGE_LOG;
use crate::sync::edge::{self, SWAP_TABLE};
use crate::sync::{CachePadded, Mutex};
use crate::topic::{Pattern, Topic};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

/// The most retired snapshots before [`RoutingTable::update`] reclaims by itself, so that the list
/// is bounded without a reclaimer too.
const MAX_RETIRED: usize = 64;

/// All patterns as they were at one moment. Immutable.
pub struct Snapshot<T> {
    /// How many updates came before.
    pub generation: u64,
    /// What matches topics.
    pub trie: Trie<T>,
}

/// A copy of the table that is being changed. Reads like the [`Trie`] that it will be.
pub struct Edit<'a, T> {
    // Borrowed, so that no change can swap its trie, and its notes, for another table's.
    trie: &'a mut Trie<T>,
    touched: &'a mut Touched,
}

/// A snapshot being read. Meant to live shortly: what somebody reads cannot be reclaimed.
pub struct SnapshotGuard<'a, T> {
    snapshot: Guard<Arc<Snapshot<T>>>,
    /// `arc-swap` would let a guard outlive its table, and then free the snapshot.
    table: PhantomData<&'a RoutingTable<T>>,
}

/// The routing table that all publishers share. See the module's header for its ordering and
/// reclamation.
///
/// | operation | class |
/// |---|---|
/// | `generation` | one load |
/// | `still_holds` | wait-free: 33 loads at most |
/// | `load` | wait-free; a thread's first load may allocate `arc-swap`'s record of the thread |
/// | `update` | locks, allocates, may free |
/// | `reclaim` | locks, frees |
///
/// ```
/// use ringmain::routing::RoutingTable;
/// use ringmain::topic::Pattern;
///
/// let table = RoutingTable::new();
/// let (orders, invoices) = (Pattern::new("orders.#")?, Pattern::new("invoices.#")?);
/// // Both in one swap: no publisher sees one without the other.
/// table.update(|edit| {
///     edit.insert(&orders, 1);
///     edit.insert(&invoices, 1);
/// });
///
/// let mut found = Vec::new();
/// table.load().trie.matches("orders.eu", &mut found);
/// assert_eq!(found, [1]);
/// # Ok::<(), ringmain::topic::TopicError>(())
/// ```
pub struct RoutingTable<T> {
    /// Written once an update, and read on each publish: on lines of their own.
    published: CachePadded<Published>,
    /// On another line: a swap goes on for a while after it has written here, and a publisher that
    /// only reads the word should not fetch its line twice.
    current: CachePadded<ArcSwap<Snapshot<T>>>,
    /// The lock of the writers, and the snapshots that were replaced and are not yet freed.
    retired: Mutex<Vec<Arc<Snapshot<T>>>>,
}

/// What tells publishers of an update.
struct Published {
    generation: AtomicU64,
    changes: Changes,
}

impl<T: Copy + Ord> RoutingTable<T> {
    /// Creates a table without patterns, of generation 0.
    pub fn new() -> Self {
        let empty = Snapshot { generation: 0, trie: Trie::new() };
        let published = Published { generation: AtomicU64::new(0), changes: Changes::new() };
        Self {
            published: CachePadded::new(published),
            current: CachePadded::new(ArcSwap::from_pointee(empty)),
            retired: Mutex::new(Vec::new()),
        }
    }

    /// Returns how many updates there have been. A snapshot loaded after this call is of this
    /// generation or of a later one.
    ///
    /// To find out whether what was resolved in a snapshot still holds, compare with that
    /// snapshot's own generation: it is out of date if this is greater.
    #[inline]
    pub fn generation(&self) -> u64 {
        // Edge `SWAP_TABLE`, with the store in `update`.
        self.published.generation.load(SWAP_TABLE.acquire())
    }

    /// Returns the generation up to which a topic's resolution in the snapshot of `generation`
    /// still holds; `None` where an update since may concern the topic. Cheap beside a match: each
    /// of the last 31 updates has left one word, which tells how all topics begin and end that it
    /// may concern. A caller that has missed more gets `None`.
    ///
    /// `generation` has to come from a [`Snapshot`] of this table, or from an earlier answer.
    ///
    /// ```
    /// use ringmain::routing::RoutingTable;
    /// use ringmain::topic::{Pattern, Topic};
    ///
    /// let table = RoutingTable::new();
    /// let created = Pattern::new("orders.*.created")?;
    /// table.update(|edit| edit.insert(&created, 1));
    /// assert_eq!(table.still_holds(0, &Topic::new("orders.eu.created")?), None);
    /// assert_eq!(table.still_holds(0, &Topic::new("orders.eu.deleted")?), Some(1));
    /// # Ok::<(), ringmain::topic::TopicError>(())
    /// ```
    pub fn still_holds(&self, generation: u64, topic: &Topic) -> Option<u64> {
        let now = self.generation();
        if now <= generation {
            // The snapshot was a moment ahead of the word.
            return Some(generation);
        }
        let Published { generation: word, changes } = &*self.published;
        let is_remembered = |now: u64| now - generation < KEPT;
        if !is_remembered(now) || (generation + 1..=now).any(|update| changes.may_concern(update, topic)) {
            return None;
        }
        // Relaxed: edge `CHANGE_LOG` has ordered it behind the updates whose notes were read.
        let is_whole =
            edge::left_out("change-log-without-second-look") || is_remembered(word.load(Ordering::Relaxed));
        is_whole.then_some(now)
    }

    /// Returns the snapshot of this moment. It stays as it is while the guard lives; an update does
    /// not wait for the guard.
    ///
    /// The guard cannot outlive the table:
    ///
    /// ```
    /// let table = ringmain::routing::RoutingTable::<u32>::new();
    /// let snapshot = table.load();
    /// assert_eq!(snapshot.generation, 0);
    /// drop(snapshot);
    /// drop(table);
    /// ```
    ///
    /// ```compile_fail,E0505
    /// let table = ringmain::routing::RoutingTable::<u32>::new();
    /// let snapshot = table.load();
    /// drop(table);
    /// assert_eq!(snapshot.generation, 0);
    /// ```
    pub fn load(&self) -> SnapshotGuard<'_, T> {
        SnapshotGuard { snapshot: self.current.load(), table: PhantomData }
    }

    /// Changes the table: `change` edits a copy, which then replaces the table whole.
    ///
    /// Updates take turns. Readers are not held up, and see either nothing of the change or all of
    /// it, however many patterns it touches. Every call counts as an update, even where `change`
    /// changed nothing. Once it returns, every publish that begins goes by the new table. If
    /// `change` panics the table is as before.
    ///
    /// `change` runs under the table's lock and must not call `update` or
    /// [`reclaim`](Self::reclaim) on it.
    pub fn update<R>(&self, change: impl FnOnce(&mut Edit<'_, T>) -> R) -> R {
        let mut retired = self.retired.lock();
        let current = self.current.load_full();
        let (mut trie, mut touched) = (current.trie.clone(), Touched::default());
        let answer = change(&mut Edit { trie: &mut trie, touched: &mut touched });
        let (generation, concern) = (current.generation + 1, touched.concern());
        let replaced = self.current.swap(Arc::new(Snapshot { generation, trie }));
        self.published.changes.note(generation, concern);
        // Edge `SWAP_TABLE`, with the load in `generation`.
        self.published.generation.store(generation, SWAP_TABLE.release());
        drop(current);
        retired.push(replaced);
        let unread = if retired.len() > MAX_RETIRED { take_unread(&mut retired) } else { Vec::new() };
        drop(retired);
        drop(unread);
        answer
    }

    /// Frees the replaced snapshots that nobody reads any more, and returns how many. The
    /// reclaimer's work.
    pub fn reclaim(&self) -> usize {
        // Freed after the lock is: a large table takes a while, and updates need not wait for it.
        let unread = take_unread(&mut self.retired.lock());
        unread.len()
    }

    /// Returns how many replaced snapshots are not yet freed: at most 64, and those that somebody
    /// reads.
    pub fn retired_count(&self) -> usize {
        self.retired.lock().len()
    }
}

/// Takes out those to which no other reference exists.
fn take_unread<T>(retired: &mut Vec<Arc<Snapshot<T>>>) -> Vec<Arc<Snapshot<T>>> {
    // The count needs no ordering here: the drop of the reference itself decides, and orders, which
    // thread frees.
    retired.extract_if(.., |snapshot| Arc::strong_count(snapshot) == 1).collect()
}

impl<T: Copy + Ord> Edit<'_, T> {
    /// Does what [`Trie::insert`] does.
    pub fn insert(&mut self, pattern: &Pattern, value: T) -> bool {
        let is_new = self.trie.insert(pattern, value);
        self.touch(pattern, is_new)
    }

    /// Does what [`Trie::remove`] does.
    pub fn remove(&mut self, pattern: &Pattern, value: &T) -> bool {
        let was_there = self.trie.remove(pattern, value);
        self.touch(pattern, was_there)
    }

    fn touch(&mut self, pattern: &Pattern, has_changed: bool) -> bool {
        if has_changed {
            self.touched.add(pattern);
        }
        has_changed
    }
}

impl<T> Deref for Edit<'_, T> {
    type Target = Trie<T>;

    fn deref(&self) -> &Trie<T> {
        self.trie
    }
}

impl<T> fmt::Debug for Edit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edit").field("trie", &self.trie).finish_non_exhaustive()
    }
}

impl<T> Deref for SnapshotGuard<'_, T> {
    type Target = Snapshot<T>;

    fn deref(&self) -> &Snapshot<T> {
        &self.snapshot
    }
}

impl<T> fmt::Debug for Snapshot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("generation", &self.generation)
            .field("trie", &self.trie)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SnapshotGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SnapshotGuard").field(&**self.snapshot).finish()
    }
}

impl<T: Copy + Ord> Default for RoutingTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for RoutingTable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutingTable").field("current", &**self.current.load()).finish_non_exhaustive()
    }
}
