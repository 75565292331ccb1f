//! All subscriptions: their names, their tallies, and what is left of those that have gone.
//!
//! # Snapshots
//!
//! There may be a million subscriptions. Listing or auditing them must hold up neither subscribers
//! nor the publishers and consumers that look subscriptions up. So the entries are a persistent
//! map. A reader copies a pointer under the lock, and reads the snapshot without it. A writer
//! copies the few nodes that it changes while a snapshot shares them.
//!
//! # The audit
//!
//! A linked route holds the count of what it has carried; once it is freed, its subscriptions do.
//! The count is handed on in one step under the registry's lock, before the route's id can be used
//! again. An audit lists the routes first, a few at a time, and then takes a snapshot of the
//! registry. A route that it did not find was handed on before the snapshot; one that it found may
//! have been. The snapshot has a number, and so has the step in which a route was handed on: an
//! audit that compares them counts everything once, whatever is freed meanwhile.
//!
//! # Shares
//!
//! Routes to many subscriptions have most of their destinations in common, in chunks. The registry
//! counts the routes to a chunk in the chunk's *share*, and adds up there what freed routes have
//! carried. Only the first route to a chunk and the last concern the entries of its subscriptions.
//! So a route to 20,000 subscriptions that differs from others by one of them costs some 160
//! shares and one chunk's entries, not 20,000 entries. The lock is let go in between. A route that
//! is being freed is handed on chunk by chunk, and each snapshot says how far.

use crate::broker::account::ledger::SubscriptionLedger;
use crate::broker::account::tally::Tally;
use crate::broker::error::SubscribeError;
use crate::broker::id::SubscriptionId;
use crate::broker::policy::breaker::BreakerState;
use crate::routing::{
    Chunk, ConsumerAddr, Destination, Destinations, MAX_CHUNK, Route, Routes, TargetCounts,
};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::{CachePadded, Mutex};
use crate::topic::Pattern;
use imbl::OrdMap;
use smallvec::SmallVec;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// The most subscriptions a broker has at once.
pub(crate) const MAX_SUBSCRIPTIONS: usize = 1 << 20;

/// The most destinations of freed routes under one hold of the lock, so that nobody waits long for
/// it.
const MAX_PER_LOCK: usize = 64;

/// A subscription as all but its consumer know it.
#[derive(Debug)]
pub(crate) struct SubscriptionState {
    pub(crate) id: u64,
    pub(crate) name: Box<str>,
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) destination: Destination,
    /// Written by the subscription's consumer.
    pub(crate) tally: CachePadded<Tally>,
    /// Whether it has a breaker.
    has_breaker: bool,
    /// The time limit of its handler's calls.
    pub(crate) time_limit: Option<Duration>,
    /// Why its messages are not delivered as they come.
    flags: AtomicU32,
    /// Tokens that were given back too late, by whatever thread, and calls that have returned too late; and those of
    /// all subscriptions, since they may come when this one is past.
    late: AtomicU64,
    late_of_all: Arc<AtomicU64>,
}

/// The subscription has ended.
const ENDED: u32 = 1;
/// Its handler keeps messages: they are handed out, and not delivered.
const HAS_TOKENS: u32 = 2;

/// Why messages of a subscription wait before its handler gets them. Several may hold at once; only when none does
/// a message is delivered as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Its user has paused it.
    Paused = 1 << 2,
    /// Others wait that came before.
    CatchingUp = 1 << 3,
    /// One that has failed is to be tried again first.
    RetryHead = 1 << 4,
    /// Its breaker is not closed.
    Breaker = 1 << 5,
    /// Newer ones take the places of older ones: it always holds.
    Conflating = 1 << 6,
    /// As many are in flight as may be.
    InFlight = 1 << 7,
    /// Its consumer may be replaced during a call, which then has to have a copy: it always holds.
    Copied = 1 << 10,
    /// Its handler is in a call on a thread that was replaced.
    Away = 1 << 11,
}

/// The states of a breaker: two bits, which are 0 where there is none or it is closed.
const BREAKER_SHIFT: u32 = 8;
const BREAKER_STATES: [BreakerState; 3] = [BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen];
const BREAKER_MASK: u32 = 3 << BREAKER_SHIFT;

impl Reason {
    const ANY: u32 = Self::Paused as u32
        | Self::CatchingUp as u32
        | Self::RetryHead as u32
        | Self::Breaker as u32
        | Self::Conflating as u32
        | Self::InFlight as u32
        | Self::Copied as u32
        | Self::Away as u32;
}

impl SubscriptionState {
    /// Returns whether its messages are delivered as they come: one look for all that might prevent it.
    #[inline(always)]
    pub(crate) fn is_plain(&self) -> bool {
        self.flags.load(Ordering::Relaxed) == 0
    }

    /// Returns whether the subscription has ended. A hint that saves calls: the consumer's mailbox
    /// decides.
    #[inline(always)]
    pub(crate) fn has_ended(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & ENDED != 0
    }

    fn end(&self) {
        self.flags.fetch_or(ENDED, Ordering::Relaxed);
    }

    /// Returns whether a message that comes now has to wait. The consumer's own look: whoever else asks learns what
    /// was so a moment ago.
    pub(crate) fn is_queued(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & Reason::ANY != 0
    }

    /// Returns whether a message that comes now goes through the queue although it has nothing to wait for but its
    /// turn: as a copy beside which nothing waits, or so that newer ones can take its place.
    pub(crate) fn only_takes_its_turn(&self) -> bool {
        let reasons = self.flags.load(Ordering::Relaxed) & Reason::ANY;
        let conflates =
            reasons & !(Reason::CatchingUp as u32 | Reason::Copied as u32) == Reason::Conflating as u32;
        conflates || reasons == Reason::Copied as u32
    }

    /// Returns whether a message that comes now is delivered at once, as a copy: nothing else waits.
    pub(crate) fn is_only_copied(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & Reason::ANY == Reason::Copied as u32
    }

    /// Returns whether messages wait for that reason.
    pub(crate) fn waits_for(&self, reason: Reason) -> bool {
        self.flags.load(Ordering::Relaxed) & reason as u32 != 0
    }

    /// Counts a token that was given back too late, or a call that has returned after its limit.
    #[cold]
    pub(crate) fn count_late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
        self.late_of_all.fetch_add(1, Ordering::Relaxed);
    }

    /// Says in which state its breaker is, and how often that has changed. Only its consumer does.
    pub(crate) fn set_breaker(&self, state: BreakerState, changes: u64) {
        let number = BREAKER_STATES.iter().position(|&other| other == state).unwrap_or(0) as u32;
        // In one step: nobody is to see another one.
        let change = |flags| Some(flags & !BREAKER_MASK | number << BREAKER_SHIFT);
        let _ = self.flags.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
        self.tally.breaker_changes.add(changes - self.tally.breaker_changes.get());
    }

    /// Returns in which state its breaker is, if it has one.
    pub(crate) fn breaker(&self) -> Option<BreakerState> {
        let number = (self.flags.load(Ordering::Relaxed) & BREAKER_MASK) >> BREAKER_SHIFT;
        self.has_breaker.then(|| BREAKER_STATES[number as usize % BREAKER_STATES.len()])
    }

    /// Returns what its consumer has counted, and what came too late.
    fn settled(&self) -> SubscriptionLedger {
        let mut account = SubscriptionLedger::settled(&self.tally);
        account.late = self.late.load(Ordering::Relaxed);
        account
    }

    /// Says that messages wait for that reason from now on, or no longer. Only the consumer does, save that everybody
    /// may have them wait because it is paused.
    pub(crate) fn set(&self, reason: Reason, holds: bool) {
        if holds {
            self.flags.fetch_or(reason as u32, Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!(reason as u32), Ordering::Relaxed);
        }
    }
}

/// What all need to know of what a subscription was told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Nature {
    pub(crate) has_breaker: bool,
    /// Whether newer messages take the places of older ones.
    pub(crate) conflates: bool,
    /// Whether its consumer may be replaced during a call.
    pub(crate) is_rescuable: bool,
    /// Whether its handler keeps messages.
    pub(crate) has_tokens: bool,
    /// The time limit of its handler's calls.
    pub(crate) time_limit: Option<Duration>,
}

impl Nature {
    fn flags(self) -> u32 {
        let conflates = if self.conflates { Reason::Conflating as u32 } else { 0 };
        let copied = if self.is_rescuable { Reason::Copied as u32 } else { 0 };
        let has_tokens = if self.has_tokens { HAS_TOKENS } else { 0 };
        conflates | copied | has_tokens
    }
}

#[derive(Clone)]
struct Entry {
    state: Arc<SubscriptionState>,
    /// Routes that lead here and have not been freed, shares of routes, and a hold while messages wait.
    routes: usize,
    /// What came, or was refused, by routes that have been freed since.
    before: TargetCounts,
}

/// What routes have carried, and what they have not for want of room, by dispatcher.
#[derive(Clone, Default)]
struct Carried(SmallVec<[(u16, TargetCounts); 1]>);

impl Carried {
    fn of(route: &Route) -> Self {
        Self(route.targets.iter().map(|target| (target.dispatcher, target.tally.read())).collect())
    }

    fn add(&mut self, more: &Self) {
        for &(dispatcher, counts) in &more.0 {
            match self.0.iter_mut().find(|(other, _)| *other == dispatcher) {
                Some((_, sum)) => *sum += counts,
                None => self.0.push((dispatcher, counts)),
            }
        }
    }

    fn to(&self, destination: &Destination) -> TargetCounts {
        let dispatcher = destination.consumer.dispatcher;
        self.0
            .iter()
            .find(|(other, _)| *other == dispatcher)
            .map_or_else(TargetCounts::default, |(_, counts)| *counts)
    }
}

/// The routes to a chunk of destinations.
#[derive(Clone)]
struct Share {
    chunk: Chunk<Destination>,
    /// Those that have not been freed.
    routes: usize,
    /// What those have carried that were freed while others were left.
    carried: Carried,
}

/// All subscriptions at one moment.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    /// By their numbers, which ascend with time.
    entries: OrdMap<u64, Entry>,
    /// By the addresses of the chunks.
    shares: OrdMap<usize, Share>,
    /// How many chunks have been handed on of routes that are being freed, by the routes' indices.
    partly_freed: OrdMap<u32, usize>,
    /// The sum of those that have ended and to which no route leads any more.
    past: SubscriptionLedger,
    /// How many times routes have been freed.
    step: u64,
}

impl Snapshot {
    /// Lists the subscriptions that exist, by number.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Arc<SubscriptionState>> {
        self.entries.values().map(|entry| &entry.state).filter(|state| !state.has_ended())
    }

    /// Counts a route, or a share of routes, to a subscription. Returns whether it exists.
    fn attach(&mut self, to: &Destination) -> bool {
        match self.entries.get_mut(&to.subscription) {
            Some(entry) if !entry.state.has_ended() => {
                entry.routes += 1;
                true
            }
            _ => false,
        }
    }

    /// Counts a route to a chunk. Strikes those off that have ended, unless other routes lead there
    /// too: then nobody is lost, since their entries are there. Returns how many entries and shares
    /// have been looked at.
    fn attach_chunk(&mut self, chunk: &mut Chunk<Destination>) -> usize {
        if let Some(share) = self.shares.get_mut(&address_of(chunk)) {
            share.routes += 1;
            return 1;
        }
        let work = chunk.len();
        let is_there: SmallVec<[bool; MAX_CHUNK]> = chunk.iter().map(|to| self.attach(to)).collect();
        if is_there.contains(&false) {
            let those = chunk.iter().zip(is_there).filter(|(_, is_there)| *is_there);
            *chunk = those.map(|(to, _)| *to).collect();
        }
        if !chunk.is_empty() {
            let share = Share { chunk: chunk.clone(), routes: 1, carried: Carried::default() };
            self.shares.insert(address_of(chunk), share);
        }
        work
    }

    /// Takes a route to a chunk away. Returns how many entries and shares have been looked at.
    fn detach_chunk(&mut self, chunk: &Chunk<Destination>, carried: &Carried) -> usize {
        let address = address_of(chunk);
        let Some(share) = self.shares.get_mut(&address) else { return 1 };
        share.routes -= 1;
        share.carried.add(carried);
        if share.routes > 0 {
            return 1;
        }
        let carried = std::mem::take(&mut share.carried);
        self.shares.remove(&address);
        for to in chunk.iter() {
            self.detach(to.subscription, carried.to(to));
        }
        chunk.len()
    }

    /// Takes a route to the first of some chunks away, until enough work has been done. Returns
    /// the others.
    fn detach_chunks<'a>(
        &mut self,
        mut chunks: &'a [Chunk<Destination>],
        carried: &Carried,
        work: &mut usize,
    ) -> &'a [Chunk<Destination>] {
        while *work < MAX_PER_LOCK
            && let Some((chunk, others)) = chunks.split_first()
        {
            *work += self.detach_chunk(chunk, carried);
            chunks = others;
        }
        chunks
    }

    /// Hands on what some routes have carried, as much as is done under one hold of the lock.
    fn hand_on(&mut self, left: &mut HandOn<'_>) {
        self.step += 1;
        let mut work = 0;
        while work < MAX_PER_LOCK
            && let Some((route, others)) = left.routes.split_first()
        {
            match &route.destinations {
                Destinations::Few(few) => {
                    for to in few {
                        self.detach(to.subscription, route.counts(to.consumer.dispatcher));
                    }
                    work += few.len();
                }
                Destinations::Many(chunks) => {
                    let some = left.chunks.take().unwrap_or(chunks);
                    let some = self.detach_chunks(some, &Carried::of(route), &mut work);
                    if !some.is_empty() {
                        self.partly_freed.insert(route.id.index, chunks.len() - some.len());
                        left.chunks = Some(some);
                        return;
                    }
                    self.partly_freed.remove(&route.id.index);
                }
            }
            route.hand_on(self.step);
            left.routes = others;
        }
    }

    fn detach(&mut self, id: u64, carried: TargetCounts) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.routes -= 1;
            entry.before += carried;
        }
        self.discard_if_past(id);
    }

    fn discard_if_past(&mut self, id: u64) {
        if let Some(Entry { state, routes: 0, before }) = self.entries.get(&id)
            && state.has_ended()
        {
            let mut account = state.settled();
            account.routed = before.accepted;
            account.refused = before.refused;
            self.past.add(&account);
            self.entries.remove(&id);
        }
    }
}

/// Routes whose accounts are yet to be handed on.
struct HandOn<'a> {
    routes: &'a [Arc<Route>],
    /// Of the first, if some of its chunks have been.
    chunks: Option<&'a [Chunk<Destination>]>,
}

impl<'a> HandOn<'a> {
    fn of(routes: &'a [Arc<Route>]) -> Self {
        Self { routes, chunks: None }
    }
}

#[derive(Default)]
struct Inner {
    now: Snapshot,
    /// Of those that exist. A tree, since it grows without a pause.
    names: BTreeSet<Box<str>>,
    next_id: u64,
    /// Tokens that were given back too late, and calls that have returned too late.
    late: Arc<AtomicU64>,
}

/// All subscriptions of a broker.
#[derive(Default)]
pub(crate) struct Registry(Mutex<Inner>);

impl Registry {
    /// Enters a subscription. Without a name it is called after its number.
    pub(crate) fn enter(
        &self,
        name: Option<&str>,
        patterns: Vec<Pattern>,
        consumer: ConsumerAddr,
        nature: Nature,
    ) -> Result<Arc<SubscriptionState>, SubscribeError> {
        let mut inner = self.0.lock();
        if inner.now.entries.len() >= MAX_SUBSCRIPTIONS {
            return Err(SubscribeError::TooMany { limit: MAX_SUBSCRIPTIONS });
        }
        let name: Box<str> = match name {
            Some(name) if inner.names.contains(name) => {
                return Err(SubscribeError::NameTaken { name: name.into() });
            }
            Some(name) => name.into(),
            None => loop {
                let name = format!("subscription-{}", inner.next_id).into_boxed_str();
                if !inner.names.contains(&name) {
                    break name;
                }
                // Somebody has chosen that very name.
                inner.next_id += 1;
            },
        };
        let id = inner.next_id;
        inner.next_id += 1;
        inner.names.insert(name.clone());
        let state = Arc::new(SubscriptionState {
            id,
            name,
            patterns,
            destination: Destination { consumer, subscription: id },
            tally: CachePadded::default(),
            has_breaker: nature.has_breaker,
            time_limit: nature.time_limit,
            flags: AtomicU32::new(nature.flags()),
            late: AtomicU64::new(0),
            late_of_all: inner.late.clone(),
        });
        inner
            .now
            .entries
            .insert(id, Entry { state: state.clone(), routes: 0, before: TargetCounts::default() });
        Ok(state)
    }

    /// Says that a subscription has ended: no further route will lead to it, and its name is free.
    pub(crate) fn end(&self, id: u64) {
        let mut inner = self.0.lock();
        let Inner { now, names, .. } = &mut *inner;
        if let Some(Entry { state, .. }) = now.entries.get(&id) {
            state.end();
            names.remove(&state.name);
        }
        now.discard_if_past(id);
    }

    /// Strikes those that have ended off a list of destinations, and counts a route for each that
    /// stays.
    pub(crate) fn attach(&self, destinations: &mut Destinations) {
        match destinations {
            Destinations::Few(few) => {
                let mut inner = self.0.lock();
                few.retain(|to| inner.now.attach(to));
            }
            Destinations::Many(chunks) => {
                let mut left = &mut chunks[..];
                while !left.is_empty() {
                    let mut inner = self.0.lock();
                    let mut work = 0;
                    while work < MAX_PER_LOCK
                        && let Some((chunk, others)) = std::mem::take(&mut left).split_first_mut()
                    {
                        work += inner.now.attach_chunk(chunk);
                        left = others;
                    }
                }
                chunks.retain(|chunk| !chunk.is_empty());
            }
        }
    }

    /// Takes an [`attach`](Self::attach) back that came to nothing.
    pub(crate) fn detach(&self, destinations: &Destinations) {
        match destinations {
            Destinations::Few(few) => {
                let mut inner = self.0.lock();
                few.iter().for_each(|to| inner.now.detach(to.subscription, TargetCounts::default()));
            }
            Destinations::Many(chunks) => {
                let mut left = &chunks[..];
                while !left.is_empty() {
                    left = self.0.lock().now.detach_chunks(left, &Carried::default(), &mut 0);
                }
            }
        }
    }

    /// Keeps a subscription's record although it should end and no route lead to it: some of its messages wait. To be
    /// called while a message is in hand that a route has brought.
    pub(crate) fn hold(&self, id: u64) {
        if let Some(entry) = self.0.lock().now.entries.get_mut(&id) {
            entry.routes += 1;
        }
    }

    /// Takes a [`hold`](Self::hold) back.
    pub(crate) fn let_go(&self, id: u64) {
        self.0.lock().now.detach(id, TargetCounts::default());
    }

    pub(crate) fn find(&self, id: u64) -> Option<Arc<SubscriptionState>> {
        self.0.lock().now.entries.get(&id).map(|entry| entry.state.clone())
    }

    /// Returns all subscriptions as they are now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.0.lock().now.clone()
    }

    /// Returns how many subscriptions exist.
    pub(crate) fn live_count(&self) -> usize {
        self.0.lock().names.len()
    }

    /// Frees routes that no message can travel any more; what they carried stays counted.
    pub(crate) fn free(&self, routes: &Routes, past: &[Arc<Route>]) {
        let mut left = HandOn::of(past);
        while !left.routes.is_empty() {
            self.0.lock().now.hand_on(&mut left);
        }
        routes.free(past);
    }

    /// Returns each subscription's account, and the sum of those that are past. What is a size and not a count is
    /// added to each account by the caller.
    pub(crate) fn audit(
        &self,
        routes: &Routes,
        add_sizes: impl Fn(&mut SubscriptionLedger),
    ) -> (Vec<SubscriptionLedger>, SubscriptionLedger) {
        let routes: Vec<_> = routes.all().collect();
        let Snapshot { entries, shares, partly_freed, mut past, step } = self.snapshot();
        let mut since: HashMap<u64, TargetCounts> = HashMap::new();
        let mut by_chunk: HashMap<usize, (&Chunk<Destination>, Carried)> = HashMap::new();
        for Share { chunk, carried, .. } in shares.values() {
            by_chunk.insert(address_of(chunk), (chunk, carried.clone()));
        }
        for route in routes.iter().filter(|route| !route.was_handed_on(step)) {
            let carried = Carried::of(route);
            match &route.destinations {
                Destinations::Few(few) => {
                    for to in few {
                        *since.entry(to.subscription).or_default() += carried.to(to);
                    }
                }
                Destinations::Many(chunks) => {
                    let handed_on = partly_freed.get(&route.id.index).copied().unwrap_or(0);
                    for chunk in &chunks[handed_on..] {
                        let others = || (chunk, Carried::default());
                        by_chunk.entry(address_of(chunk)).or_insert_with(others).1.add(&carried);
                    }
                }
            }
        }
        for (chunk, carried) in by_chunk.values() {
            for to in chunk.iter() {
                *since.entry(to.subscription).or_default() += carried.to(to);
            }
        }
        let account = |Entry { state, before, .. }: &Entry| {
            let mut counts = *before;
            counts += since.get(&state.id).copied().unwrap_or_default();
            let mut account = state.settled();
            account.id = SubscriptionId(state.id);
            account.name = state.name.to_string();
            account.patterns = state.patterns.iter().map(ToString::to_string).collect();
            account.routed = counts.accepted;
            account.refused = counts.refused;
            add_sizes(&mut account);
            account
        };
        let accounts: Vec<_> = entries.values().map(account).collect();
        let late = self.0.lock().late.load(Ordering::Relaxed);
        past.late = late.saturating_sub(accounts.iter().map(|account| account.late).sum());
        (accounts, past)
    }
}

fn address_of(chunk: &Chunk<Destination>) -> usize {
    chunk.as_ptr().addr()
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests;
