//! A consumer: its position in its ring, its handler table, and its turn, in which it reads its mail
//! and does up to so many events' work.
//!
//! Who takes the turns is the only difference between a pinned thread and any other way of consuming.
//! Here it is a thread, which runs the loop of all managed consumers.

use super::context::{self, Consuming};
use super::handlers::HandlerTable;
use super::lending::LentCall;
use super::sampler::Sampler;
use crate::broker::account::consumer_tally::ConsumerTally;
use crate::broker::lifecycle::threads::ThreadRegistry;
use crate::clock::Timestamp;
use crate::message::{Envelope, MessagePayload};
use crate::ring::managed::drive::{Turn, drive};
use crate::ring::{Lease, Polled, Poller, inside};
use crate::routing::ConsumerAddr;
use crate::sync::edge;
use crate::sync::panics::guard;
use crate::sync::thread;
use crate::wait::{Deadline, Sleeper};
use std::sync::Arc;
use std::time::Duration;

/// The most events of one turn.
const EVENTS_PER_TURN: u64 = 64;

/// Turns that may panic one after the other, of a consumer that has died.
const MAX_PANICS: u32 = 100;

/// A consumer of one ring.
pub(crate) struct Consumer<P> {
    poller: Poller<Envelope<P>>,
    handlers: HandlerTable<P>,
    tally: Arc<ConsumerTally>,
    sampler: Sampler,
    /// Whether its ring is at its end, and it waits for what handlers keep.
    has_finished: bool,
    /// Whether a panic has left a turn: a fault of this crate.
    has_panicked: bool,
}

impl<P: MessagePayload> Consumer<P> {
    pub(crate) fn new(
        poller: Poller<Envelope<P>>,
        handlers: HandlerTable<P>,
        tally: Arc<ConsumerTally>,
    ) -> Self {
        let ConsumerAddr { dispatcher, number } = handlers.consumer;
        let sampler = Sampler::new(u64::from(dispatcher) << 32 | u64::from(number) << 1);
        Self { poller, handlers, tally, sampler, has_finished: false, has_panicked: false }
    }

    /// Makes a consumer that goes on in the place of one that was replaced during the call of that number. Returns also
    /// what is known of the call.
    pub(crate) fn going_on(
        poller: Poller<Envelope<P>>,
        mut handlers: HandlerTable<P>,
        tally: Arc<ConsumerTally>,
        number: u64,
    ) -> (Self, Option<LentCall<P>>) {
        let call = handlers.take_up(number);
        // What has come to the mailbox was announced to the other.
        poller.supervisor().announce_mail();
        (Self::new(poller, handlers, tally), call)
    }

    pub(crate) fn addr(&self) -> ConsumerAddr {
        self.handlers.consumer
    }

    /// The threads of the broker, where this one's is to sign off.
    pub(crate) fn threads(&self) -> &Arc<ThreadRegistry<P>> {
        &self.handlers.common.threads
    }

    /// Sees to what waits outside of the ring, after the ring's events of a turn. Returns what the turn has found.
    #[cold]
    #[inline(never)]
    fn see_to_waiting(&mut self, polled: Polled, max: u64) -> Polled {
        let Self { poller, handlers, tally, .. } = self;
        if poller.lease().is_lost() {
            return polled;
        }
        let done = if poller.lease().is_stopped() { 0 } else { handlers.deliver_waiting(poller, tally, max) };
        if poller.lease().is_lost() && !edge::left_out("leave-what-was-taken-over") {
            // It may have been in a call of what has waited: what else waits is somebody else's to count.
            return polled;
        }
        match polled {
            Polled::Finished | Polled::Empty if done > 0 => Polled::Events(done),
            Polled::Finished if handlers.wait_for_others(poller.lease()) => {
                self.has_finished = true;
                Polled::Empty
            }
            Polled::Finished => {
                // What waits now would wait for what does not come any more.
                handlers.hand_back();
                polled
            }
            _ => {
                if poller.lease().is_stopped() {
                    handlers.hand_back();
                }
                polled
            }
        }
    }

    /// Reads the mail, and handles up to `max` events.
    #[inline]
    fn poll(&mut self, max: u64) -> Polled {
        let Self { poller, handlers, tally, sampler, .. } = self;
        if poller.has_commands() {
            handlers.read_mail(poller.lease());
        }
        #[cfg(all(test, not(ringmain_loom)))]
        assert!(!std::mem::take(&mut handlers.panics_in_turn), "planted");
        let handle = |envelope: &Envelope<P>, sequence, _, lease: &Lease| {
            if sampler.takes(sequence) {
                let clock = &handlers.common.clock;
                let latency = clock.now().since(clock.moment(envelope.published_at));
                tally.latency.record(latency.as_nanos() as u64);
            }
            handlers.handle(envelope, sequence, lease, tally);
        };
        // Counted before it is released: what others see released has been counted.
        poller.poll_counted(max, handle, |next, tombstones| tally.pass(next, tombstones))
    }

    /// Takes a turn, of whichever kind the consumer's are.
    pub(crate) fn turn_of_its_kind(&mut self, max: u64) -> Polled {
        if self.handlers.lending.is_some() { self.turn_by_copies() } else { self.turn(max) }
    }

    /// A turn of a consumer that may be replaced: one event, whose copies are delivered before the next. So nothing
    /// waits in its queues that would not wait without them, and they do not grow: it delivers more than it copies.
    #[cold]
    #[inline(never)]
    fn turn_by_copies(&mut self) -> Polled {
        if self.poller.lease().is_replaced() {
            // All is somebody else's: also the mail.
            return Polled::Finished;
        }
        self.handlers.left.copies = 0;
        let polled = self.poll(1);
        let left = &self.handlers.left;
        if left.waiting.is_empty() && left.away.is_empty() {
            return polled;
        }
        let max = left.copies + EVENTS_PER_TURN;
        self.see_to_waiting(polled, max)
    }

    /// Counts what a panic has kept from being counted before it was released.
    fn count(&self) {
        let Self { poller, tally, .. } = self;
        if !poller.lease().is_lost() {
            tally.pass(poller.next_sequence(), poller.tombstones());
        }
    }

    /// Does what is left to do after a panic: hands back what is there. Panics may come again;
    /// whatever panics so often in a row is given up.
    #[cold]
    fn end_after_panic(&mut self) {
        self.count();
        self.handlers.die();
        let mut panics = 0;
        while panics < MAX_PANICS {
            match guard(|| self.turn_of_its_kind(EVENTS_PER_TURN)) {
                Some(Polled::Finished) => return,
                // A publisher has a slot in hand. Not as `drive` waits: that may be what panicked.
                Some(Polled::Empty) => thread::sleep(Duration::from_millis(1)),
                Some(_) => panics = 0,
                None => {
                    panics += 1;
                    self.count();
                }
            }
        }
    }

    /// Returns the next moment at which something that waits may be delivered.
    pub(crate) fn next_moment(&self) -> Option<Timestamp> {
        self.handlers.left.waiting.next_moment()
    }

    /// Takes a turn for whoever drives the consumer by hand, as its thread would. Returns whether it has found
    /// something to do.
    pub(crate) fn take_turn(&mut self) -> bool {
        let part = self.poller.part().clone();
        inside(&part, || {
            context::enter_consumer(Consuming { broker: self.handlers.common.id, consumer: self.addr() });
            let polled = guard(|| self.turn_of_its_kind(EVENTS_PER_TURN));
            context::leave_consumer();
            matches!(polled, Some(Polled::Events(_)))
        })
    }

    /// Drops the handlers of a consumer that is driven by hand.
    pub(crate) fn end(&mut self) {
        guard(|| self.handlers.hand_back());
        guard(|| self.handlers.clear(self.poller.lease()));
    }

    /// The life of a consumer's thread.
    ///
    /// All that is foreign is called where a panic of it is caught. What panics all the same is a
    /// fault of this crate; the consumer then dies, and everybody learns of it.
    pub(crate) fn run(self) {
        // Between polls too: what a command drops may publish.
        let part = self.poller.part().clone();
        inside(&part, || self.run_inside());
    }

    fn run_inside(mut self) {
        let (threads, addr) = (self.threads().clone(), self.addr());
        // Dropped last, whatever happens.
        let exit_guard = threads.exit_guard(addr);
        context::enter_consumer(Consuming { broker: self.handlers.common.id, consumer: addr });
        let ring = self.poller.core().clone();
        let has_ended = match self.handlers.lending {
            None => guard(|| drive(&mut self, EVENTS_PER_TURN, &ring)),
            Some(_) => guard(|| drive(&mut ByCopies(&mut self), EVENTS_PER_TURN, &ring)),
        };
        let has_ended = has_ended.is_some();
        if self.poller.lease().is_replaced() {
            exit_guard.note_replaced(self.handlers.last_lent);
            context::leave_consumer();
            guard(|| drop(self));
            return;
        }
        if !has_ended || self.has_panicked {
            self.end_after_panic();
        }
        threads.leave(addr);
        // Handlers and what they captured are dropped here, on their own thread, while it still
        // counts as a consumer: a captured publisher may publish when it is dropped.
        guard(|| self.handlers.clear(self.poller.lease()));
        context::leave_consumer();
        guard(|| drop(self));
    }
}

impl<P: MessagePayload> Turn for Consumer<P> {
    /// Reads the mail and handles up to `max` events: no more than an eighth of the ring, which is what
    /// the poller releases at once.
    #[inline]
    fn turn(&mut self, max: u64) -> Polled {
        let max = max.min((self.poller.capacity() / 8).clamp(1, EVENTS_PER_TURN));
        let polled = self.poll(max);
        // Twice as many, so that a backlog shrinks beside a ring that is never empty.
        if self.handlers.left.waiting.is_empty() { polled } else { self.see_to_waiting(polled, 2 * max) }
    }

    fn is_ready(&self) -> bool {
        let Self { poller, handlers, .. } = self;
        // A stop stays set, and what it waits for may be long in the hands of a publisher.
        let has_mail =
            || poller.has_commands() && !(poller.lease().is_stopped() && handlers.mailbox.is_empty());
        let waiting = &handlers.left.waiting;
        let is_due = || {
            waiting.is_due(|| handlers.common.clock.now())
                || !waiting.is_empty() && poller.lease().is_stopped()
        };
        // It waits for others no longer when it is stopped, or left alone.
        let has_ring = if self.has_finished {
            !handlers.wait_for_others(poller.lease())
        } else {
            poller.is_ready_leased()
        };
        has_ring || has_mail() || is_due()
    }

    fn is_stopping(&self) -> bool {
        self.has_panicked
    }

    fn next_due(&self) -> Deadline {
        let HandlerTable { common, left, .. } = &self.handlers;
        left.waiting.next_moment().map_or(Deadline::NEVER, |moment| common.clock.deadline(moment))
    }

    fn sleeper(&self) -> Sleeper {
        self.poller.place().sleeper
    }

    fn panicked(&mut self) {
        self.has_panicked = true;
    }
}

/// A consumer that may be replaced. A type of its own, so that no other asks for that at each turn.
struct ByCopies<'c, P>(&'c mut Consumer<P>);

impl<P: MessagePayload> Turn for ByCopies<'_, P> {
    fn turn(&mut self, _max: u64) -> Polled {
        self.0.turn_by_copies()
    }

    fn is_ready(&self) -> bool {
        self.0.is_ready()
    }

    fn is_stopping(&self) -> bool {
        self.0.is_stopping()
    }

    fn next_due(&self) -> Deadline {
        self.0.next_due()
    }

    fn sleeper(&self) -> Sleeper {
        self.0.sleeper()
    }

    fn panicked(&mut self) {
        self.0.panicked();
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use crate::broker::deliver::mailbox::Command;
    use crate::broker::{Broker, Dispatcher, DrainError, PublishFailure, SubscribeError, Subscription, Term};
    use crate::routing::ConsumerAddr;
    use crate::sync::{Condvar, Mutex};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    const LIMIT: Duration = Duration::from_secs(30);

    /// A door that a handler waits at.
    struct Door(Mutex<(bool, bool)>, Condvar);

    impl Door {
        fn new() -> Arc<Self> {
            Arc::new(Self(Mutex::new((false, false)), Condvar::new()))
        }

        fn wait(&self, until: impl Fn(&(bool, bool)) -> bool) {
            let deadline = Instant::now() + LIMIT;
            let mut state = self.0.lock();
            while !until(&state) {
                assert!(Instant::now() < deadline, "nobody came to the door, or opened it");
                state = self.1.wait_until(state, Some(deadline));
            }
        }

        fn pass(&self) {
            self.0.lock().0 = true;
            self.1.notify_all();
            self.wait(|(_, is_open)| *is_open);
        }

        fn open(&self) {
            self.0.lock().1 = true;
            self.1.notify_all();
        }
    }

    /// A broker whose first dispatcher has died, with messages in its ring.
    struct Dead {
        broker: Broker<u64>,
        subscriptions: Vec<Subscription<u64>>,
        witness: Arc<()>,
    }

    /// The messages that are published, of which the first is handled before the consumer dies.
    const MESSAGES: u64 = 20;

    fn dead(command: fn() -> Command<u64>) -> Dead {
        let broker: Broker<u64> = Broker::of()
            .dispatcher(Dispatcher::new("dies").capacity(32).stages(&[1, 1]))
            .dispatcher(Dispatcher::new("lives"))
            .build()
            .expect("valid options");
        let (door, witness) = (Door::new(), Arc::new(()));
        let (held, owned) = (door.clone(), witness.clone());
        let on = |name: &str, dispatcher: &str, stage| {
            broker.subscription().name(name).pattern("a").dispatcher(dispatcher).stage(stage)
        };
        let subscriptions = vec![
            on("first", "dies", 0)
                .subscribe(move |_| {
                    let _owned = &owned;
                    held.pass();
                })
                .expect("valid"),
            on("behind", "dies", 1).subscribe(|_| ()).expect("valid"),
            on("beside", "lives", 0).subscribe(|_| ()).expect("valid"),
        ];
        let mut publisher = broker.publisher("a").expect("a topic");
        for number in 0..MESSAGES {
            let _ = publisher.publish(number).expect("room");
        }
        door.wait(|(has_come, _)| *has_come);
        let addr = ConsumerAddr { dispatcher: 0, number: 0 };
        let posted = broker.core().consumer(addr).mailbox.post(command());
        assert!(posted.is_ok(), "it has not died yet");
        door.open();
        let deadline = Instant::now() + LIMIT;
        while Arc::strong_count(&witness) > 1 {
            assert!(Instant::now() < deadline, "its handlers are not dropped");
            crate::sync::thread::sleep(Duration::from_millis(1));
        }
        Dead { broker, subscriptions, witness }
    }

    fn for_each_panic(claim: impl Fn(Dead)) {
        for command in [|| Command::Panic, || Command::PanicInTurn] {
            claim(dead(command));
        }
    }

    #[test]
    fn publishers_are_told_that_a_consumer_has_died_and_others_go_on() {
        for_each_panic(|Dead { broker, .. }| {
            let only = broker.subscription().pattern("only").dispatcher("lives").subscribe(|_| ());
            let only = only.expect("that dispatcher lives");
            // Into both rings, of which one takes it.
            let outcome = broker.publisher("a").expect("a topic").publish(7);
            assert!(matches!(
                outcome.expect_err("not all took it").kind(),
                PublishFailure::PartlyRefused { accepted: 1, refusals, .. }
                    if *refusals[0].dispatcher == *"dies"
            ));
            let _ = broker.publisher("only").expect("a topic").publish(7).expect("that dispatcher lives");
            let report = broker.shutdown(LIMIT).expect("not inside of a closure");
            assert_eq!(report.dead, ["rm-dies-0"]);
            assert_eq!(only.delivered(), 1);
        });
    }

    #[test]
    fn who_publishes_to_a_dead_consumer_alone_is_refused() {
        for_each_panic(|Dead { broker, subscriptions, .. }| {
            let mut publisher = broker.publisher("a").expect("a topic");
            let [first, behind, beside] = <[_; 3]>::try_from(subscriptions).expect("three");
            beside.unsubscribe();
            let died = PublishFailure::ConsumerDied { dispatcher: "dies".into() };
            for _ in 0..100 {
                assert_eq!(publisher.publish(7).expect_err("it takes nothing").kind(), &died);
            }
            // Afterwards it is the broker that is closed.
            let _report = broker.shutdown(LIMIT).expect("not inside of a closure");
            assert_eq!(publisher.publish(7).expect_err("closed").kind(), &PublishFailure::Closed);
            drop((first, behind));
        });
    }

    #[test]
    fn a_publisher_that_waits_for_room_is_told_that_the_consumer_has_died() {
        let broker: Broker<u64> =
            Broker::of().dispatcher(Dispatcher::new("dies").capacity(1)).build().expect("valid options");
        let door = Door::new();
        let held = door.clone();
        broker.subscribe("a", move |_| held.pass()).expect("a pattern").detach();
        let mut publisher = broker.publisher("a").expect("a topic");
        let _ = publisher.publish(1).expect("room");
        door.wait(|(has_come, _)| *has_come);
        let waiting = std::thread::spawn(move || {
            // One may still get the slot that the handler leaves.
            (0..2).find_map(|number| publisher.publish(number).err()).map(|error| error.kind().clone())
        });
        let mailbox = &broker.core().consumer(ConsumerAddr::default()).mailbox;
        assert!(mailbox.post(Command::Panic).is_ok());
        door.open();
        let died = PublishFailure::ConsumerDied { dispatcher: "dies".into() };
        assert_eq!(waiting.join().expect("no panic"), Some(died));
        let report = broker.shutdown(LIMIT).expect("not inside of a closure");
        assert!(report.ledger.is_balanced(), "{:#?}", report.ledger);
    }

    #[test]
    fn all_who_wait_for_a_dead_consumer_return() {
        for_each_panic(|Dead { broker, mut subscriptions, witness }| {
            let thread = "rm-dies-0".to_owned();
            assert_eq!(broker.drain(LIMIT), Err(DrainError::ConsumerLost { thread }));
            let died = Err(SubscribeError::ConsumerDied { dispatcher: "dies".into() });
            for stage in [0, 1] {
                let subscription = broker.subscription().pattern("b").stage(stage);
                assert_eq!(subscription.subscribe(|_| ()).map(drop), died, "stage {stage}");
            }
            let started = Instant::now();
            subscriptions.remove(0).unsubscribe();
            assert!(started.elapsed() < LIMIT / 2);
            assert_eq!(Arc::strong_count(&witness), 1);
        });
    }

    #[test]
    fn what_a_dead_consumer_had_in_its_ring_is_handed_back_and_delivered_behind_it() {
        for_each_panic(|Dead { broker, subscriptions, .. }| {
            let report = broker.shutdown(LIMIT).expect("not inside of a closure");
            assert_eq!(report.dead, ["rm-dies-0"]);
            assert!(report.abandoned.is_empty(), "{:?}", report.abandoned);
            assert!(report.ledger.is_balanced(), "{:#?}", report.ledger);
            let first = &report.ledger.subscriptions[0];
            assert_eq!(first.count(Term::Delivered) + report.undelivered.len() as u64, MESSAGES);
            assert!(report.undelivered.iter().all(|one| *one.subscriptions == [Box::from("first")]));
            let delivered: Vec<_> = subscriptions.iter().map(Subscription::delivered).collect();
            assert_eq!(delivered[1..], [MESSAGES, MESSAGES], "behind and beside it");
        });
    }

    #[test]
    fn a_broker_with_a_dead_consumer_can_be_dropped() {
        for_each_panic(|Dead { broker, subscriptions, .. }| {
            let core = Arc::downgrade(broker.core());
            drop((broker, subscriptions));
            let deadline = Instant::now() + LIMIT;
            while core.strong_count() > 0 {
                assert!(Instant::now() < deadline, "it is not freed");
                crate::sync::thread::sleep(Duration::from_millis(1));
            }
        });
    }
}
