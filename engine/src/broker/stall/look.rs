//! A look at all consumers and rings. Runs no foreign code, and allocates only where something stands still.

use super::report::{Stall, StallCause, StallKind, StalledCall};
use super::watch::{MOST_RESCUES, Seen, Watch};
use super::watchdog::Telling;
use crate::broker::core::Core;
use crate::broker::deliver::outcome::CallMark;
use crate::broker::dispatcher::{ConsumerState, Rescue};
use crate::broker::error::RescueError;
use crate::broker::handle::Broker;
use crate::broker::subscribe::registry::SubscriptionState;
use crate::message::{MessageId, MessagePayload};
use crate::ring::Call;
use crate::routing::ConsumerAddr;
use crate::topic::Topic;
use std::sync::Arc;
use std::time::Duration;

/// The most routes that are looked at to find a message's topic.
const MAX_ROUTES: usize = 4_096;

/// Where a consumer is found: the number of its dispatcher, its number there, and among all.
#[derive(Clone, Copy)]
struct Place {
    dispatcher: usize,
    number: usize,
    index: usize,
}

impl<P: MessagePayload> Core<P> {
    /// Looks, and returns what there is to tell.
    pub(super) fn find_what_to_tell(&self, watch: &Watch) -> Vec<Telling> {
        let mut seen = watch.seen.lock();
        self.look(watch, &mut seen);
        let mut to_tell: Vec<_> = seen.over.drain(..).map(Telling::Over).collect();
        to_tell.extend(seen.rescues.drain(..).map(|(stall, refused)| match refused {
            None => Telling::Rescued(stall),
            Some(reason) => Telling::NotRescued(stall, reason),
        }));
        let replaced = self.threads.replaced_to_tell(watch.limit);
        to_tell.extend(replaced.stuck.into_iter().map(Telling::Stalled));
        to_tell.extend(replaced.back.into_iter().map(Telling::Over));
        for place in self.places() {
            if seen.calls[place.index].is_due()
                && let Some(stall) = self.call_stall(&seen, place)
            {
                seen.calls[place.index].note_told(stall.clone());
                to_tell.push(Telling::Stalled(stall));
            }
        }
        for ring in 0..seen.rings.len() {
            if seen.rings[ring].track.is_due()
                && let Some(stall) = self.ring_stall(watch, &seen, ring)
            {
                seen.rings[ring].track.note_told(stall.clone());
                to_tell.push(Telling::Stalled(stall));
            }
        }
        to_tell
    }

    /// Looks, and returns what stands still at this moment.
    fn find_stalls(&self, watch: &Watch) -> Vec<Stall> {
        let mut seen = watch.seen.lock();
        self.look(watch, &mut seen);
        let calls = self.places().filter(|place| seen.calls[place.index].is_stall());
        let mut stalls: Vec<_> = calls.filter_map(|place| self.call_stall(&seen, place)).collect();
        let rings = (0..seen.rings.len()).filter(|&ring| seen.rings[ring].track.is_stall());
        stalls.extend(rings.filter_map(|ring| self.ring_stall(watch, &seen, ring)));
        stalls
    }

    /// Notes what each consumer is in, and how far each ring is claimed in which publishers wait.
    fn look(&self, watch: &Watch, seen: &mut Seen) {
        let now = seen.read_clock(watch.signal.interval());
        let has_limits = !watch.limits.is_empty();
        let limit_of = |call| if has_limits { self.time_limit_of(call) } else { None };
        let limit = |call| limit_of(call).unwrap_or(watch.limit);
        let Seen { calls, rings, over, .. } = seen;
        for (consumer, track) in self.consumers().zip(calls) {
            let supervisor = consumer.mailbox.supervisor();
            // What a shutdown has abandoned its report tells, and it is not over.
            if supervisor.is_taken_over() {
                track.forget();
                continue;
            }
            over.extend(track.look(supervisor.current_call(), now, limit));
        }
        for (state, seen) in self.rings.iter().zip(rings) {
            let waiting = &self.dispatcher(state.dispatcher).waiting;
            // Those who wait for a short time, again and again, may not be met by a look.
            let begun = waiting.begun();
            let has_waiting = std::mem::replace(&mut seen.begun, begun) != begun || waiting.now() > 0;
            over.extend(seen.track.look(has_waiting.then(|| state.ring.claimed()), now, |_| watch.limit));
        }
    }

    /// Returns the time limit of a call: its subscription's, if it is one that is limited.
    fn time_limit_of(&self, call: Call) -> Option<Duration> {
        let mark = call.delivery().map(CallMark::from_lease)?;
        let state = self.registry.find(mark.subscription)?;
        state.time_limit.filter(|_| mark.is_limited())
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        let numbers = self.dispatchers.iter().enumerate();
        let places =
            numbers.flat_map(|(dispatcher, state)| (0..state.consumers.len()).map(move |n| (dispatcher, n)));
        places.enumerate().map(|(index, (dispatcher, number))| Place { dispatcher, number, index })
    }

    /// Describes the call that a consumer is in, if it still is.
    fn call_stall(&self, seen: &Seen, place: Place) -> Option<Stall> {
        let track = &seen.calls[place.index];
        let call = track.key()?;
        let consumer = self.consumer_at(place)?;
        let described = self.describe(consumer, call);
        // Last: all that was read belongs to that call, if it is still the same one. Nothing of it was read from the
        // event, whose slot is used again as soon as the call returns, whoever is reading there.
        if !consumer.mailbox.supervisor().is_still_in(call) {
            return None;
        }
        Some(Stall {
            kind: StallKind::Call,
            cause: StallCause::Call,
            age: track.age(),
            call_age: Some(track.age()),
            call: self.stalled_call(place, call),
            ..self.stall_of(place, consumer, described)
        })
    }

    /// Says what keeps a ring from having room: the consumer that is furthest behind.
    fn ring_stall(&self, watch: &Watch, seen: &Seen, ring: usize) -> Option<Stall> {
        let state = self.rings.get(ring)?;
        let track = &seen.rings[ring].track;
        let (since, age) = (track.since()?, track.age());
        let stage_of = |number: usize| {
            let stages = &self.dispatcher(state.dispatcher).stages;
            stages.iter().position(|stage| stage.contains(&number))
        };
        // Of those that are equally far the first stage's, for whose consumers the others wait, and of these one that
        // is in a call.
        let place = self
            .places()
            .filter(|place| place.dispatcher == usize::from(state.dispatcher))
            .min_by_key(|place| {
                let released =
                    self.consumer_at(*place).map(|consumer| consumer.mailbox.supervisor().released());
                (released, stage_of(place.number), seen.calls[place.index].key().is_none())
            })?;
        let consumer = self.consumer_at(place)?;
        let supervisor = consumer.mailbox.supervisor();
        let (calls, released) = (&seen.calls[place.index], supervisor.released());
        let call = calls.key().filter(|call| supervisor.is_still_in(*call));
        // As above: described first, and then looked up once more.
        let described = call.map(|call| (self.describe(consumer, call), call));
        let described = described.filter(|(_, call)| supervisor.is_still_in(*call));
        let described = described.map(|(described, _)| described).unwrap_or_default();
        let cause = match call {
            Some(_) if calls.age() >= watch.limit => StallCause::Call,
            Some(_) => StallCause::SlowCalls,
            None if calls.changed() > since => StallCause::SlowCalls,
            None if released < state.ring.claimed() && !state.ring.was_published(released) => {
                StallCause::Publish
            }
            None => StallCause::NotRunning,
        };
        let stall = self.stall_of(place, consumer, described);
        let stalled = call.and_then(|call| self.stalled_call(place, call));
        let sequence = stall.sequence.or(Some(released));
        let call_age = call.map(|_| calls.age());
        Some(Stall { kind: StallKind::Publisher, cause, age, call_age, sequence, call: stalled, ..stall })
    }

    fn stalled_call(&self, place: Place, call: Call) -> Option<StalledCall> {
        let (dispatcher, number) = (place.dispatcher.try_into().ok()?, place.number.try_into().ok()?);
        Some(StalledCall { origin: self.origin, addr: ConsumerAddr { dispatcher, number }, call })
    }

    /// Returns whether consumers of a dispatcher are to be replaced by themselves.
    pub(super) fn has_rescues(&self) -> bool {
        self.dispatchers.iter().any(|dispatcher| matches!(dispatcher.rescue, Rescue::After(_)))
    }

    /// Looks, and returns the calls that are over the age at which their consumers are to be replaced. Each anew only
    /// at twice its age: what cannot be rescued is not tried, and logged, at every look.
    pub(super) fn find_overdue(&self, watch: &Watch) -> Vec<Stall> {
        let mut seen = watch.seen.lock();
        self.look(watch, &mut seen);
        let is_overdue = |seen: &Seen, place: Place| match self.dispatchers[place.dispatcher].rescue {
            Rescue::After(most) => seen.calls[place.index].is_overdue(most),
            Rescue::Never | Rescue::ByHand => false,
        };
        let mut overdue = Vec::new();
        for place in self.places() {
            if is_overdue(&seen, place) {
                overdue.extend(self.call_stall(&seen, place));
                seen.calls[place.index].note_tried();
            }
        }
        overdue
    }

    /// Notes what has come of a rescue, for the watchdog to tell.
    pub(super) fn note_rescue(&self, watch: &Watch, stall: Stall, refused: Option<RescueError>) {
        // It has returned meanwhile, or all ends.
        if matches!(refused, Some(RescueError::Over { .. } | RescueError::Closed)) {
            return;
        }
        let is_replaced = refused.is_none();
        let mut seen = watch.seen.lock();
        if seen.rescues.len() < MOST_RESCUES {
            seen.rescues.push((Stall { is_replaced, ..stall }, refused));
        }
    }

    fn consumer_at(&self, place: Place) -> Option<&ConsumerState<P>> {
        self.dispatchers.get(place.dispatcher)?.consumers.get(place.number)
    }

    fn stall_of(&self, place: Place, consumer: &ConsumerState<P>, described: Described) -> Stall {
        let dispatcher = &self.dispatchers[place.dispatcher];
        let Described { subscription, message, topic, sequence, time_limit } = described;
        let behind =
            self.ring(dispatcher.ring).claimed().saturating_sub(consumer.mailbox.supervisor().released());
        Stall {
            kind: StallKind::Call,
            cause: StallCause::Call,
            dispatcher: dispatcher.name.clone(),
            thread: consumer.thread.as_str().into(),
            subscription,
            message,
            topic,
            sequence,
            age: Duration::ZERO,
            call_age: None,
            time_limit,
            behind,
            waiting_publishers: dispatcher.waiting.now(),
            is_replaced: false,
            call: None,
        }
    }

    /// Says what a call is about, as far as it can be read beside it.
    fn describe(&self, consumer: &ConsumerState<P>, call: Call) -> Described {
        let sequence = match call {
            Call::Event { sequence, .. } | Call::Clearing { sequence } => Some(sequence),
            Call::Parked { .. } => None,
        };
        let mark = call.delivery().map(CallMark::from_lease);
        let state = mark.and_then(|mark| self.registry.find(mark.subscription));
        let copied = match (mark, call) {
            // Copied before the call, and listed until its consumer, which is in it, takes it out.
            (Some(mark), _) if mark.is_handed_out => {
                consumer.waiting.last_handed_out(mark.subscription, self.origin)
            }
            // Likewise; what waits is copied, and lies beside the ring.
            (_, Call::Parked { .. }) => {
                consumer.waiting.in_call().map(|in_call| (in_call.message, in_call.topic))
            }
            _ => None,
        };
        let (message, topic): (Option<MessageId>, _) = match copied {
            Some((message, topic)) => (Some(message), Some(topic)),
            None if sequence.is_some() => {
                (None, state.as_deref().and_then(|state| self.only_topic_of(state)))
            }
            None => (None, None),
        };
        let is_limited = mark.is_some_and(|mark| mark.is_limited());
        let time_limit = state.as_deref().and_then(|state| state.time_limit).filter(|_| is_limited);
        let subscription = state.map(|state| (&*state.name).into());
        Described { subscription, message, topic, sequence, time_limit }
    }

    /// Returns the topic of all that comes to a subscription, if there is only one: a route is listed as long as a
    /// message travels it that its consumers have not released.
    fn only_topic_of(&self, state: &SubscriptionState) -> Option<Topic> {
        if let [pattern] = &*state.patterns
            && pattern.is_literal()
        {
            return Topic::new(pattern.as_str()).ok();
        }
        let mut only: Option<Topic> = None;
        for (number, route) in self.routes.all().enumerate() {
            if number == MAX_ROUTES {
                return None;
            }
            if !state.patterns.iter().any(|pattern| pattern.matches(&route.topic)) {
                continue;
            }
            match &only {
                Some(topic) if *topic != route.topic => return None,
                Some(_) => {}
                None => only = Some(route.topic.clone()),
            }
        }
        only
    }
}

/// What a call is about.
#[derive(Default)]
struct Described {
    subscription: Option<Arc<str>>,
    message: Option<MessageId>,
    topic: Option<Topic>,
    sequence: Option<u64>,
    time_limit: Option<Duration>,
}

impl<P: MessagePayload> Broker<P> {
    /// Returns what stands still at this moment: calls that have not returned, and rings that have no room, for as
    /// long as [`BrokerBuilder::stall_after`](crate::broker::BrokerBuilder::stall_after) says, or a call for longer
    /// than its subscription's [time limit](crate::broker::SubscriptionBuilder::time_limit). For a health check.
    ///
    /// From any thread, also one that is in a handler; waits for nobody. Disturbs no publisher and no consumer. Locks
    /// briefly; allocates, and makes a system call, for each stall. Empty where the watchdog is switched off, of a
    /// simulated broker, and in a child made by `fork`. What a shutdown has abandoned is not listed: its report is. A
    /// call whose consumer goes on on another thread [is listed](Stall::is_replaced) from then until it returns,
    /// however old it is, also when a shutdown has reported it.
    ///
    /// ```
    /// # use ringmain::Broker;
    /// let broker = Broker::builder().build()?;
    /// let is_healthy = broker.stalls().is_empty();
    /// for stall in broker.stalls() {
    ///     eprintln!("{stall}");
    /// }
    /// # assert!(is_healthy);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stalls(&self) -> Vec<Stall> {
        let core = self.core();
        match &core.watch {
            Some(watch) if !core.is_forked() => {
                let mut stalls = core.find_stalls(watch);
                stalls.extend(core.threads.stalls());
                stalls
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_looks_more_often_as_long_as_a_subscription_has_a_short_limit() {
        let broker = Broker::of::<u64>().build().expect("valid");
        let millis = Duration::from_millis;
        let interval = || broker.core().watch.as_ref().expect("it is switched on").signal.interval();
        let subscribe = |limit| broker.subscription().pattern("a").time_limit(limit).subscribe(|_| ());
        let before = interval();
        assert_eq!(before, millis(250));
        let short = subscribe(millis(40)).expect("valid");
        let _long = subscribe(millis(4_000)).expect("valid");
        assert_eq!(interval(), millis(10));
        // One that is refused leaves nothing behind.
        let taken = broker.subscription().pattern("a").name(short.name()).time_limit(millis(4));
        assert!(taken.subscribe(|_| ()).is_err());
        let other = Broker::of::<u64>().build().expect("valid").subscription().pattern("b").prepare(|_| ());
        let ours = broker.subscription().pattern("a").time_limit(millis(4)).prepare(|_| ());
        assert!(broker.subscribe_all([ours, other]).is_err());
        assert_eq!(interval(), millis(10));
        drop(short);
        assert_eq!(interval(), before);
    }
}
