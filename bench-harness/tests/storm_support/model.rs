//! What may and what must come of the messages of one subscription.
//!
//! The model goes through the steps and takes the subscription's calls one by one, each of which must be one that may
//! come now: of a message that is there, in order, at its time, while nothing holds it. And before it lets time pass it
//! demands those that had to come. How a call ends is the handler's affair and is taken from its record, after a look
//! whether the handler was told so; all that follows from it is worked out here. At the end every message is somewhere,
//! and the program's account must say the same.

mod backlog;
mod doubt;
mod keys;
mod tokens;
mod turns;

use std::collections::{BTreeSet, VecDeque};

use keys::Keys;
use tokens::Kept;

use super::answer::{Account, Call, Letter};
use super::circuit::Circuit;
use super::rules::is_match;
use super::scenario::*;
use super::waiting::{Dead, Turn, Waiting};

/// A publish of the scenario: its number, and what is known of it.
#[derive(Clone, Copy)]
pub(crate) struct Published<'s> {
    pub(crate) n: u64,
    pub(crate) at: Nanos,
    pub(crate) form: &'s Publish,
}

pub(crate) struct Model<'s> {
    name: String,
    form: &'s Subscription,
    has_store: bool,
    handler: Handler,
    calls: VecDeque<Call>,
    circuit: Option<Circuit<'s>>,
    keys: Option<Keys<'s>>,
    now: Nanos,
    is_paused: bool,
    has_ended: bool,
    backlog: VecDeque<Waiting>,
    head: Option<Waiting>,
    retries: Vec<Waiting>,
    /// Letters to be replayed.
    replays: VecDeque<Waiting>,
    dead: Vec<Dead>,
    /// Messages that the handler keeps, and the tokens that it has, from the oldest.
    in_flight: Vec<Kept>,
    tokens: VecDeque<u64>,
    handed_out: u64,
    ended_tokens: BTreeSet<u64>,
    pub(crate) account: Account,
    /// Replays that are over.
    pub(crate) replays_over: u64,
    /// What was taken out last to be called for, and when.
    last_turn: Option<(Turn, Nanos)>,
    /// Messages whose moment, drawn by chance, may have come after their end, or not.
    pub(crate) uncertain: Vec<u64>,
    /// What may have been found expired or not decides whether a message had to wait or had room, and nothing tells
    /// which. Then there is nothing more to say of the subscription.
    pub(crate) is_lost: bool,
}

impl<'s> Model<'s> {
    pub(crate) fn new(of: usize, scenario: &'s Scenario, calls: impl Iterator<Item = Call>) -> Self {
        let form = &scenario.subscriptions[of];
        Self {
            name: name(of),
            form,
            has_store: scenario.store.is_some(),
            handler: form.handler.clone(),
            calls: calls.collect(),
            circuit: form.breaker.as_ref().map(Circuit::new),
            keys: form
                .idempotent
                .as_ref()
                .map(|keys| Keys::new(keys, scenario.store.is_some() && !form.gives_way())),
            now: 0,
            is_paused: false,
            has_ended: false,
            backlog: VecDeque::new(),
            head: None,
            retries: Vec::new(),
            replays: VecDeque::new(),
            dead: Vec::new(),
            in_flight: Vec::new(),
            tokens: VecDeque::new(),
            handed_out: 0,
            ended_tokens: BTreeSet::new(),
            account: Account::default(),
            replays_over: 0,
            last_turn: None,
            uncertain: Vec::new(),
            is_lost: Self::is_not_followed(form),
        }
    }

    /// What no model follows: the judge's own checks are left. When a breaker counts a call that goes on; which
    /// arrivals an open breaker refuses of a subscription that conflates; which of several kept values of a key is
    /// the newest when they fail.
    fn is_not_followed(form: &Subscription) -> bool {
        let conflates = form.backlog.as_ref().is_some_and(|backlog| backlog.conflate_by.is_some());
        let refuses = form.breaker.as_ref().is_some_and(|breaker| breaker.while_open != WhileOpen::Pause);
        let keeps_several = form.manual.as_ref().is_some_and(|manual| manual.in_flight > 1);
        form.manual.is_some() && form.breaker.is_some()
            || conflates && refuses
            || conflates && keeps_several && form.retry.is_some()
    }

    /// A message is published.
    pub(crate) fn arrive(&mut self, published: Published<'_>) -> Result<(), String> {
        let Published { n, at, form } = published;
        if self.has_ended || !is_match(&self.form.patterns, &filled(form.topic, n)) {
            return Ok(());
        }
        self.account.routed += 1;
        let expires = form.ttl.map(|ttl| at + ttl);
        let (due, is_replayed) = ((at, at), false);
        let message = Waiting {
            n,
            attempt: 1,
            due,
            first_failed: None,
            expires,
            is_replayed,
            failed: 0,
            may_be_gone: false,
            key: self.key_by().and_then(|by| by.key_of(published.form, n)),
            remembered_as: None,
        };
        let is_duplicate = |key: &String| self.keys.as_ref().is_some_and(|keys| keys.is_duplicate(key, at));
        if message.has_expired(at) {
            self.account.expired += 1;
        } else if self.form.filter.is_some_and(|filter| !filter.wants(form)) {
            self.account.filtered += 1;
        } else if message.key.as_ref().is_some_and(is_duplicate) {
            self.account.dropped_duplicate += 1;
        } else if self.is_queued() {
            let is_held =
                self.is_held() || self.conflates() || self.circuit.as_ref().is_some_and(Circuit::holds);
            let mut before = self.head.iter().chain(&self.backlog);
            self.is_lost |= !is_held && before.all(|waiting| waiting.may_be_gone);
            self.park(message);
        } else if self.is_refused(&message) {
            if self.form.breaker.as_ref().is_some_and(|form| form.while_open == WhileOpen::DeadLetter) {
                self.bury(message, "refused");
            } else {
                self.account.dropped_failed += 1;
            }
        } else {
            match self.calls.pop_front() {
                Some(call) if (call.n, call.attempt, call.at_ns) == (n, 1, at) => {
                    self.over_may_be_gone();
                    self.end(message, &call)?;
                }
                other => return Err(format!("message {n} is to be called for now, and not {other:?}")),
            }
        }
        Ok(())
    }

    /// Whether nothing is delivered, whatever its breaker says.
    fn is_held(&self) -> bool {
        self.is_paused || self.has_ended || self.is_full()
    }

    fn is_queued(&self) -> bool {
        let is_held = self.is_held() || self.circuit.as_ref().is_some_and(Circuit::holds);
        is_held || self.conflates() || self.head.is_some() || !self.backlog.is_empty()
    }

    /// Whether a breaker that has nothing wait is open to a message that comes now. Chance may have a say.
    fn is_refused(&self, message: &Waiting) -> bool {
        match self.circuit.as_ref().map(Circuit::opens) {
            None => false,
            Some(None) => true,
            Some(Some((earliest, _))) if self.now < earliest => true,
            Some(Some((_, latest))) if self.now >= latest => false,
            Some(Some(_)) => {
                self.calls.front().is_none_or(|call| (call.n, call.attempt) != (message.n, message.attempt))
            }
        }
    }

    /// Time passes up to that moment. What comes at a moment that chance has drawn comes before the last one: of
    /// millions of nanoseconds it is not the very last that is drawn.
    pub(crate) fn advance(&mut self, end: Nanos) -> Result<(), String> {
        self.pass(end, true)
    }

    /// What is due now is done.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        self.pass(self.now, false)
    }

    fn pass(&mut self, end: Nanos, is_new: bool) -> Result<(), String> {
        loop {
            let (certain, expiry) = (self.certain_moment(), self.first_expiry());
            let time_out = self.next_time_out();
            let is_drawn = is_new && certain.is_none_or(|moment| moment > end) && !self.is_exact(end);
            let may_come = |call: &&Call| if is_drawn { call.at_ns < end } else { call.at_ns <= end };
            // What expires at a moment is gone before anything is called for at that moment, and what is kept for too
            // long has failed before that.
            let is_after = |moment: Option<Nanos>, at| moment.is_none_or(|moment| at < moment);
            let is_first = |call: &Call| is_after(expiry, call.at_ns) && is_after(time_out, call.at_ns);
            let next = self.calls.front().filter(may_come).filter(|call| is_first(call)).cloned();
            if let Some(call) = next.filter(|call| certain.is_none_or(|moment| call.at_ns <= moment)) {
                if call.at_ns < self.now {
                    return Err(format!("nothing was to be called for at the time of {call:?}"));
                }
                match self.take(&call) {
                    Ok(message) => {
                        self.now = call.at_ns;
                        self.calls.pop_front();
                        self.over_may_be_gone();
                        self.end(message, &call)?;
                        continue;
                    }
                    // It may yet be in order, after what else happens at this moment.
                    Err(_) if call.at_ns == end => {}
                    Err(reason) => return Err(format!("{call:?}: {reason}")),
                }
            }
            // Once more: in the look for that call, what has expired may have left.
            let certain = self.certain_moment().filter(|moment| *moment <= end);
            if let Some(moment) = time_out.filter(|moment| *moment <= end)
                && expiry.is_none_or(|expiry| moment <= expiry)
                && certain.is_none_or(|certain| moment <= certain)
            {
                self.time_out(moment);
                continue;
            }
            match expiry.filter(|moment| *moment <= end) {
                Some(moment) if certain.is_none_or(|certain| moment <= certain) => self.expire_at(moment),
                _ => match certain {
                    Some(moment) => self.let_one_go(moment)?,
                    None => break,
                },
            }
        }
        self.now = end;
        Ok(())
    }

    /// When the next message expires that waits, whatever it waits for. A letter that is to be replayed is the store's
    /// until its turn.
    fn first_expiry(&self) -> Option<Nanos> {
        let waiting = self.head.iter().chain(&self.backlog).chain(&self.retries);
        waiting.filter_map(|waiting| waiting.expires).min().map(|moment| moment.max(self.now))
    }

    /// All that waits and expires by that moment does.
    fn expire_at(&mut self, at: Nanos) {
        self.now = self.now.max(at);
        let head = self.head.take_if(|head| head.has_expired(at));
        let (gone, stay) = self.backlog.drain(..).partition(|waiting: &Waiting| waiting.has_expired(at));
        self.backlog = stay;
        let retries = self.retries.extract_if(.., |waiting| waiting.has_expired(at));
        let gone: Vec<Waiting> = head.into_iter().chain(gone).chain(retries).collect();
        gone.into_iter().for_each(|waiting| self.expire(waiting));
    }

    /// Whether something that waits is due at that very moment, or a breaker opens to it then.
    fn is_exact(&self, moment: Nanos) -> bool {
        let exact = (moment, moment);
        let mut waiting = self.head.iter().chain(&self.retries).chain(&self.replays);
        let opens = self.circuit.as_ref().and_then(Circuit::opens);
        opens == Some(exact) || waiting.any(|waiting| waiting.due == exact)
    }

    /// By which moment something that waits is delivered or found to have expired, whatever chance says.
    fn certain_moment(&self) -> Option<Nanos> {
        if self.is_held() {
            return None;
        }
        let opens = self.circuit.as_ref().map_or(Some((0, 0)), Circuit::opens)?;
        let due = match &self.head {
            Some(head) => Some(head.due.1),
            None if !self.backlog.is_empty() => Some(0),
            None => self.retries.iter().chain(&self.replays).map(|waiting| waiting.due.1).min(),
        };
        due.map(|due| due.max(opens.1).max(self.now))
    }

    fn release(&mut self, message: &Waiting) {
        if let (Some(keys), Some(key)) = (&mut self.keys, message.key_while_it_waits()) {
            keys.release(key, message.n);
        }
    }

    fn reserve(&mut self, message: &Waiting) {
        if let (Some(keys), Some(key)) = (&mut self.keys, message.key_while_it_waits()) {
            keys.reserve(key, message.n, self.now);
        }
    }

    fn expire(&mut self, message: Waiting) {
        self.account.expired += 1;
        self.release(&message);
        self.replay_is_over(&message);
    }

    /// A call has ended.
    fn end(&mut self, message: Waiting, call: &Call) -> Result<(), String> {
        if let Some(manual) = self.form.manual {
            return self.keep(message, call, manual.limit);
        }
        let fails_as = self.handler.fails_as;
        let expected = match self.handler.fails.says(call) {
            Some(false) => "delivered",
            Some(true) if fails_as == FailsAs::Panic => "panicked",
            Some(true) => "failed",
            None => &call.outcome,
        };
        if call.outcome != expected {
            return Err(format!("{call:?} is to have {expected}"));
        }
        let has_failed = call.outcome != "delivered";
        let is_of_the_message = has_failed && fails_as == FailsAs::Permanent;
        if let Some(circuit) = &mut self.circuit {
            circuit.record((!is_of_the_message).then_some(has_failed), call.at_ns);
        }
        if has_failed {
            let kind = if call.outcome == "panicked" { "panic" } else { "handler" };
            self.fail(message, call.at_ns, kind, fails_as);
        } else {
            self.deliver(&message, call.at_ns);
        }
        Ok(())
    }

    /// A message was handled.
    fn deliver(&mut self, message: &Waiting, at: Nanos) {
        self.account.delivered += 1;
        if let (Some(keys), Some(key)) = (&mut self.keys, message.key_while_it_waits()) {
            keys.confirm(key, at);
        }
        self.replay_is_over(message);
    }

    /// An attempt has failed.
    fn fail(&mut self, mut message: Waiting, at: Nanos, kind: &str, fails_as: FailsAs) {
        message.failed += 1;
        let first_failed = *message.first_failed.get_or_insert(at);
        let retry = self.form.retry.as_ref().filter(|_| fails_as != FailsAs::Permanent);
        let delay = retry.and_then(|retry| {
            let delay = retry.delay_after(message.attempt, fails_as)?;
            (at - first_failed + delay.1 <= retry.max_elapsed.unwrap_or(Nanos::MAX)).then_some(delay)
        });
        match delay {
            Some((least, most)) => {
                self.account.retries += 1;
                message.attempt += 1;
                message.due = (at + least, at + most);
                if self.is_outdated(&message) {
                    self.account.dropped_conflated += 1;
                    return;
                }
                self.reserve(&message);
                if retry.is_some_and(|retry| retry.in_order) {
                    self.head = Some(message);
                } else {
                    self.retries.push(message);
                }
            }
            None if self.has_store => self.bury(message, kind),
            None => {
                self.account.dropped_failed += 1;
                self.release(&message);
            }
        }
    }

    /// A message becomes a dead letter, or becomes one again.
    fn bury(&mut self, message: Waiting, kind: &str) {
        self.account.dead_lettered += 1;
        self.release(&message);
        let before = self.replay_is_over(&message);
        let (attempts, episodes) = before.map_or((0, 0), |dead| (dead.letter.attempts, dead.letter.episodes));
        let letter = Letter {
            n: message.n,
            subscription: self.name.clone(),
            kind: kind.to_owned(),
            attempts: attempts + message.failed,
            episodes: episodes + 1,
        };
        self.dead.push(Dead {
            letter,
            expires: message.expires,
            is_leased: false,
            key: message.key.or(message.remembered_as),
        });
    }

    /// Where a message was being replayed, that is over.
    fn replay_is_over(&mut self, message: &Waiting) -> Option<Dead> {
        let place = self.dead.iter().position(|dead| message.is_replayed && dead.letter.n == message.n)?;
        self.replays_over += 1;
        Some(self.dead.remove(place))
    }

    /// A step that concerns the subscription. Returns why the program is to refuse it, if it is.
    pub(crate) fn step(&mut self, step: &Step) -> Vec<&'static str> {
        self.look_for_over();
        match step {
            Step::Pause(_) => self.is_paused = true,
            Step::Resume(_) => self.is_paused = false,
            Step::Unsubscribe(_) => {
                self.has_ended = true;
                self.end_in_flight();
                self.account.dropped_unsubscribed += self.leave().len() as u64;
                self.dead.iter_mut().for_each(|dead| dead.is_leased = false);
            }
            Step::Breaker(_, force) => self.circuit.iter_mut().for_each(|circuit| circuit.force(*force)),
            Step::Handler(_, fails, fails_as) => {
                (self.handler.fails, self.handler.fails_as) = (fails.clone(), *fails_as);
            }
            Step::Replay(_, rate) => return self.replay(*rate).into_iter().collect(),
            Step::Settle(_, count, settled_as) => return self.settle(*count, *settled_as),
            Step::Shutdown => {
                // A letter that was being replayed stays in the store.
                self.account.undelivered += self.leave().len() as u64;
                self.end_in_flight();
            }
            Step::Publish(_) | Step::Advance(_) => {}
        }
        Vec::new()
    }

    fn replay(&mut self, rate: u32) -> Option<&'static str> {
        // Their letters may be gone with them.
        self.is_lost |= self.replays.iter().any(|waiting| waiting.may_be_gone);
        let free = self.dead.iter().filter(|dead| !dead.is_leased).count();
        if free == 0 || self.has_ended {
            let refusal = if free == 0 { "already-replaying" } else { "no-subscription" };
            return (!self.dead.is_empty()).then_some(refusal);
        }
        for (before, dead) in self.dead.iter_mut().filter(|dead| !dead.is_leased).enumerate() {
            dead.is_leased = true;
            let due = self.now + before as u64 * 1_000_000_000 / u64::from(rate);
            self.replays.push_back(Waiting {
                n: dead.letter.n,
                attempt: 1,
                due: (due, due),
                first_failed: None,
                expires: dead.expires,
                is_replayed: true,
                failed: 0,
                may_be_gone: false,
                // A replay is not asked for its key; others are.
                key: None,
                remembered_as: dead.key.clone(),
            });
        }
        self.replays.make_contiguous().sort_by_key(|waiting| waiting.due);
        None
    }

    /// All that waits leaves. Returns it, replays that have not begun left out.
    fn leave(&mut self) -> Vec<Waiting> {
        self.note_uncertain();
        self.replays.clear();
        let retries = self.head.take().into_iter().chain(self.retries.drain(..));
        retries.chain(self.backlog.drain(..)).collect()
    }

    /// The scenario is over.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        if let Some(call) = self.calls.front() {
            return Err(format!("no reason for {call:?}"));
        }
        self.note_uncertain();
        self.account.retrying = (self.retries.len() + usize::from(self.head.is_some())) as u64;
        self.account.backlogged = self.backlog.len() as u64;
        self.account.in_flight = self.in_flight.len() as u64;
        Ok(())
    }

    /// Whether what is held of its letters is what it has left in the store.
    pub(crate) fn letters(&self) -> impl Iterator<Item = &Letter> {
        self.dead.iter().map(|dead| &dead.letter)
    }

    pub(crate) fn state(&self) -> &'static str {
        match (self.has_ended, self.is_paused) {
            (true, _) => "unsubscribed",
            (_, true) => "paused",
            _ => "active",
        }
    }

    pub(crate) fn breaker_may_be(&self, state: &str) -> bool {
        self.circuit.as_ref().is_some_and(|circuit| circuit.may_be(state))
    }
}
