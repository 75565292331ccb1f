//! What may and what must come of the messages of one subscription.
//!
//! The model goes through the steps and takes the subscription's calls one by one, each of which must be one that may
//! come now: of a message that is there, in order, at its time, while nothing holds it. And before it lets time pass it
//! demands those that had to come. How a call ends is the handler's affair and is taken from its record, after a look
//! whether the handler was told so; all that follows from it is worked out here. At the end every message is somewhere,
//! and the program's account must say the same.

mod doubt;

use std::collections::VecDeque;

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
    now: Nanos,
    is_paused: bool,
    has_ended: bool,
    backlog: VecDeque<Waiting>,
    head: Option<Waiting>,
    retries: Vec<Waiting>,
    /// Letters to be replayed.
    replays: VecDeque<Waiting>,
    dead: Vec<Dead>,
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
            now: 0,
            is_paused: false,
            has_ended: false,
            backlog: VecDeque::new(),
            head: None,
            retries: Vec::new(),
            replays: VecDeque::new(),
            dead: Vec::new(),
            account: Account::default(),
            replays_over: 0,
            last_turn: None,
            uncertain: Vec::new(),
            is_lost: false,
        }
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
        };
        if message.has_expired(at) {
            self.account.expired += 1;
        } else if self.form.filter.is_some_and(|region| form.region != Some(region)) {
            self.account.filtered += 1;
        } else if self.is_queued() && !self.is_next(&message) {
            let is_held = self.is_paused || self.circuit.as_ref().is_some_and(Circuit::holds);
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
                    self.expired_may_be_gone();
                    self.end(message, &call)?;
                }
                other => return Err(format!("message {n} is to be called for now, and not {other:?}")),
            }
        }
        Ok(())
    }

    fn is_queued(&self) -> bool {
        let is_held = self.circuit.as_ref().is_some_and(Circuit::holds);
        self.is_paused || is_held || self.head.is_some() || !self.backlog.is_empty()
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

    /// A message comes into the backlog, as far as there is room.
    fn park(&mut self, message: Waiting) {
        let Backlog { messages, when_full } =
            self.form.backlog.clone().unwrap_or(Backlog { messages: 1_024, when_full: None });
        if messages > 0 && self.backlog.len() >= messages {
            self.is_lost |= self.backlog.iter().any(|waiting| waiting.may_be_gone);
            let before = self.backlog.len();
            self.backlog.retain(|waiting| !waiting.has_expired(self.now));
            self.account.expired += (before - self.backlog.len()) as u64;
        }
        if self.backlog.len() < messages {
            return self.backlog.push_back(message);
        }
        match when_full {
            Some(WhenFull::DropOldest) if messages > 0 => {
                self.backlog.pop_front();
                self.account.dropped_overflow += 1;
                self.backlog.push_back(message);
            }
            Some(WhenFull::DeadLetter) => self.bury(message, "overflow"),
            None if self.has_store => self.bury(message, "overflow"),
            _ => self.account.dropped_overflow += 1,
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
            let certain = self.certain_moment();
            let is_drawn = is_new && certain.is_none_or(|moment| moment > end) && !self.is_exact(end);
            let may_come = |call: &&Call| if is_drawn { call.at_ns < end } else { call.at_ns <= end };
            let next = self.calls.front().filter(may_come).cloned();
            if let Some(call) = next.filter(|call| certain.is_none_or(|moment| call.at_ns <= moment)) {
                if call.at_ns < self.now {
                    return Err(format!("nothing was to be called for at the time of {call:?}"));
                }
                match self.take(&call) {
                    Ok(message) => {
                        self.now = call.at_ns;
                        self.calls.pop_front();
                        self.expired_may_be_gone();
                        self.end(message, &call)?;
                        continue;
                    }
                    // It may yet be in order, after what else happens at this moment.
                    Err(_) if call.at_ns == end => {}
                    Err(reason) => return Err(format!("{call:?}: {reason}")),
                }
            }
            // Once more: in the look for that call, what has expired may have left.
            match self.certain_moment().filter(|moment| *moment <= end) {
                Some(moment) => self.expire_one(moment)?,
                None => break,
            }
        }
        self.now = end;
        Ok(())
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
        if self.is_paused || self.has_ended {
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

    /// Nothing was called for at that moment: so something has expired.
    fn expire_one(&mut self, at: Nanos) -> Result<(), String> {
        let has_come = |waiting: &Waiting| waiting.due.1 <= at && waiting.has_expired(at);
        let message = if let Some(head) = self.head.take_if(|head| has_come(head)) {
            Some(head)
        } else if self.head.is_some() {
            None
        } else if self.backlog.front().is_some_and(|waiting| waiting.has_expired(at)) {
            self.backlog.pop_front()
        } else if let Some(place) = self.retries.iter().position(has_come) {
            Some(self.retries.remove(place))
        } else {
            let place = self.replays.iter().position(has_come);
            place.and_then(|place| self.replays.remove(place)).inspect(|_| self.account.replayed += 1)
        };
        let Some(message) = message else {
            let waits = (&self.head, &self.backlog, &self.retries, &self.replays);
            return Err(format!("at {at} ns something was to be called for of {waits:?}"));
        };
        self.now = self.now.max(at);
        self.expire(message);
        Ok(())
    }

    fn expire(&mut self, message: Waiting) {
        self.last_turn = None;
        self.account.expired += 1;
        self.replay_is_over(&message);
    }

    /// Takes the message out that a call is for.
    fn take(&mut self, call: &Call) -> Result<Waiting, String> {
        let at = call.at_ns;
        if self.is_paused || self.has_ended {
            return Err("it is paused, or has ended".to_owned());
        }
        match self.circuit.as_ref().map(Circuit::opens) {
            Some(None) => return Err("its breaker is held open".to_owned()),
            Some(Some((earliest, _))) if at < earliest => {
                return Err(format!("its breaker is open until {earliest} ns"));
            }
            _ => {}
        }
        let is_it = |waiting: &Waiting| (waiting.n, waiting.attempt) == (call.n, call.attempt);
        let may_be = |waiting: &Waiting| is_it(waiting) && waiting.due.0 <= at && !waiting.has_expired(at);
        if let Some(head) = self.head.take_if(|head| may_be(head)) {
            return Ok(head);
        }
        if let Some(head) = self.head.take_if(|head| head.has_expired(at) && head.due.0 <= at) {
            self.expire(head);
        }
        if let Some(head) = &self.head {
            return Err(format!("all wait for {head:?}"));
        }
        let has_expired = |waiting: &Waiting| waiting.due.0 <= at && waiting.has_expired(at);
        // In the backlog they come in order, but for those that have expired.
        if let Some(place) = self.backlog.iter().position(|waiting| !has_expired(waiting))
            && may_be(&self.backlog[place])
        {
            self.is_turn_of(Turn::Backlog, at)?;
            self.account.expired += place as u64;
            self.backlog.drain(..place);
            return self.backlog.pop_front().ok_or_else(String::new);
        }
        if let Some(place) = self.retries.iter().position(may_be) {
            let due = self.retries[place].due.0;
            if let Some(before) = self.retries.iter().find(|it| it.due.1 < due && !it.has_expired(at)) {
                return Err(format!("{before:?} was due before"));
            }
            self.is_turn_of(Turn::Retry, at)?;
            return Ok(self.retries.remove(place));
        }
        // And so do replays.
        if self.replays.iter().find(|waiting| !has_expired(waiting)).is_some_and(may_be) {
            self.is_turn_of(Turn::Retry, at)?;
        }
        let place = self.replays.iter().position(|waiting| !has_expired(waiting));
        let message = place.filter(|place| may_be(&self.replays[*place])).and_then(|place| {
            for expired in self.replays.drain(..place).collect::<Vec<_>>() {
                self.account.replayed += 1;
                self.expire(expired);
            }
            self.replays.pop_front()
        });
        message.inspect(|_| self.account.replayed += 1).ok_or_else(|| {
            let waits = (&self.backlog, &self.retries, &self.replays);
            format!("the message is not one that may come now: {waits:?}")
        })
    }

    /// What is due and what waits behind it take turns, so that neither starves the other: this is judged of two calls
    /// of one moment, where nothing that has expired may have had a turn between them.
    fn is_turn_of(&mut self, turn: Turn, at: Nanos) -> Result<(), String> {
        let mut waiting = self.backlog.iter().chain(&self.retries).chain(&self.replays);
        let is_clear = !waiting.any(|waiting| waiting.has_expired(at));
        let is_other_there = match turn {
            Turn::Backlog => self.retries.iter().chain(&self.replays).any(|waiting| waiting.due.1 <= at),
            Turn::Retry => !self.backlog.is_empty(),
        };
        if is_clear && is_other_there && self.last_turn == Some((turn, at)) {
            return Err(format!("{turn:?} has had its turn just now"));
        }
        self.last_turn = Some((turn, at)).filter(|_| is_clear);
        Ok(())
    }

    /// A call has ended.
    fn end(&mut self, mut message: Waiting, call: &Call) -> Result<(), String> {
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
        if !has_failed {
            self.account.delivered += 1;
            self.replay_is_over(&message);
            return Ok(());
        }
        message.failed += 1;
        let first_failed = *message.first_failed.get_or_insert(call.at_ns);
        let delay = self.form.retry.as_ref().filter(|_| !is_of_the_message).and_then(|retry| {
            let delay = retry.delay_after(message.attempt, fails_as)?;
            (call.at_ns - first_failed + delay.1 <= retry.max_elapsed.unwrap_or(Nanos::MAX)).then_some(delay)
        });
        match delay {
            Some((least, most)) => {
                self.account.retries += 1;
                message.attempt += 1;
                message.due = (call.at_ns + least, call.at_ns + most);
                if self.form.retry.as_ref().is_some_and(|retry| retry.in_order) {
                    self.head = Some(message);
                } else {
                    self.retries.push(message);
                }
            }
            None if self.has_store => {
                self.bury(message, if call.outcome == "panicked" { "panic" } else { "handler" });
            }
            None => self.account.dropped_failed += 1,
        }
        Ok(())
    }

    /// A message becomes a dead letter, or becomes one again.
    fn bury(&mut self, message: Waiting, kind: &str) {
        self.account.dead_lettered += 1;
        let before = self.replay_is_over(&message);
        let (attempts, episodes) = before.map_or((0, 0), |dead| (dead.letter.attempts, dead.letter.episodes));
        let letter = Letter {
            n: message.n,
            subscription: self.name.clone(),
            kind: kind.to_owned(),
            attempts: attempts + message.failed,
            episodes: episodes + 1,
        };
        self.dead.push(Dead { letter, expires: message.expires, is_leased: false });
    }

    /// Where a message was being replayed, that is over.
    fn replay_is_over(&mut self, message: &Waiting) -> Option<Dead> {
        let place = self.dead.iter().position(|dead| message.is_replayed && dead.letter.n == message.n)?;
        self.replays_over += 1;
        Some(self.dead.remove(place))
    }

    /// A step that concerns the subscription. Returns why the program is to refuse it, if it is.
    pub(crate) fn step(&mut self, step: &Step) -> Option<&'static str> {
        self.look_for_expired();
        match step {
            Step::Pause(_) => self.is_paused = true,
            Step::Resume(_) => self.is_paused = false,
            Step::Unsubscribe(_) => {
                self.has_ended = true;
                self.account.dropped_unsubscribed += self.leave().len() as u64;
                self.dead.iter_mut().for_each(|dead| dead.is_leased = false);
            }
            Step::Breaker(_, force) => self.circuit.as_mut()?.force(*force),
            Step::Handler(_, fails, fails_as) => {
                (self.handler.fails, self.handler.fails_as) = (fails.clone(), *fails_as);
            }
            Step::Replay(_, rate) => return self.replay(*rate),
            Step::Shutdown => {
                for message in self.leave() {
                    // A letter that was being replayed stays in the store.
                    if message.has_expired(self.now) {
                        self.account.expired += 1;
                    } else {
                        self.account.undelivered += 1;
                    }
                }
            }
            Step::Publish(_) | Step::Advance(_) => {}
        }
        None
    }

    fn replay(&mut self, rate: u32) -> Option<&'static str> {
        let mut replayed = self.head.iter().chain(&self.retries).chain(&self.replays);
        // Their letters may be gone with them.
        self.is_lost |= replayed.any(|waiting| waiting.is_replayed && waiting.may_be_gone);
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
