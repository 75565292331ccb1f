//! What waits beside a ring whose consumer is stopped in the call of a message that has waited, or between two. With a
//! whole broker, which only models can have without threads.

use ringmain::broker::unstarted::UnstartedConsumers;
use ringmain::broker::{Broker, Dispatcher, ShutdownReport, Subscription, Term};
use ringmain::clock::Clock;
use ringmain::message::MessageId;
use ringmain::wait::WaitStrategy;
use ringmain_loom_tests::sync::Mutex;
use ringmain_loom_tests::sync::thread;
use ringmain_loom_tests::{Bound, explore};
use std::sync::Arc;
use std::time::Duration;

/// A subscription that messages wait for, and may go on from the consumer's next turn on.
struct Waiting {
    broker: Broker<u64>,
    consumers: UnstartedConsumers<u64>,
    subscription: Subscription<u64>,
    /// What its handler has been called with.
    calls: Arc<Mutex<Vec<u64>>>,
    /// The messages that were published, which say how many came before them.
    published: Vec<MessageId>,
}

impl Waiting {
    fn new(messages: u64) -> Self {
        let dispatcher = Dispatcher::new("only").capacity(4).wait(WaitStrategy::BusySpin);
        let (clock, _time) = Clock::manual();
        let broker = Broker::of().dispatcher(dispatcher).clock(clock);
        let (broker, consumers) = broker.build_unstarted().expect("valid options");
        let calls: Arc<Mutex<Vec<u64>>> = Arc::default();
        let noted = calls.clone();
        let subscription = broker.subscribe("a", move |message| noted.lock().push(**message));
        let subscription = subscription.expect("a pattern");
        let _ = subscription.pause_timeout(Duration::ZERO);
        let mut waiting = Self { broker, consumers, subscription, calls, published: Vec::new() };
        for _ in 0..messages {
            waiting.publish();
            waiting.consumers.turn(1);
        }
        assert_eq!(waiting.subscription.status().backlogged, messages);
        waiting.subscription.resume();
        waiting
    }

    fn publish(&mut self) {
        let mut publisher = self.broker.publisher("a").expect("a topic");
        let published = publisher.publish(self.published.len() as u64).expect("room");
        self.published.push(published.id);
    }

    /// Stops the consumer while it takes its turns. Each message was delivered, is in doubt, or is handed back, and
    /// nothing else, and the first report says so of all of them. Returns how many were.
    fn cut_short(self) -> [u64; 3] {
        let Self { broker, mut consumers, subscription, calls, published } = self;
        let consumer = thread::spawn(move || {
            for _ in 0..4 {
                consumers.turn(4);
            }
            consumers
        });
        // Who was taken over is waited for no longer.
        let first = broker.cut_short().then(|| broker.report());
        let consumers = consumer.join().expect("the consumer panicked");
        let report = broker.report();
        let fates = fates(&report);
        if let Some(first) = &first {
            assert_eq!(self::fates(first), fates, "the first report did not say all");
        }
        let [delivered, in_doubt, _] = fates;
        let calls = calls.lock();
        // The call in doubt was made, or was about to be.
        assert!((delivered..=delivered + in_doubt).contains(&(calls.len() as u64)), "{fates:?}: {calls:?}");
        let delivered = calls[..delivered as usize].iter().map(|&message| published[message as usize]);
        let stuck = report.abandoned.iter().filter(|_| in_doubt > 0).filter_map(|stuck| {
            assert_eq!(stuck.subscription, subscription.name());
            stuck.message
        });
        let back: Vec<_> = report.undelivered.iter().map(|undelivered| undelivered.message.id).collect();
        assert!(back.is_sorted(), "what was handed back is not in order");
        let mut all: Vec<_> = delivered.chain(stuck).chain(back).collect();
        all.sort_unstable();
        assert_eq!(all, published, "a message was lost, or is in two places: {report:?}");
        subscription.detach();
        drop(consumers);
        fates
    }
}

/// How many messages were delivered, are in doubt, and were handed back.
fn fates(report: &ShutdownReport<u64>) -> [u64; 3] {
    assert!(report.ledger.is_balanced(), "{}", report.ledger);
    let total = report.ledger.total();
    assert_eq!(total.count(Term::Undelivered), report.undelivered.len() as u64, "{report:?}");
    [total.delivered(), total.count(Term::InDoubt), total.count(Term::Undelivered)]
}

#[test]
fn what_has_waited_is_delivered_in_doubt_or_handed_back() {
    explore("a take-over beside a backlog", Bound::Preemptions(3), || Waiting::new(2).cut_short())
        .saw_exactly([[0, 0, 2], [0, 1, 1], [1, 0, 1], [1, 1, 0], [2, 0, 0]])
        .in_at_least(1_000);
}

/// In one turn a consumer comes from an event to what waits. Taken over there it must leave what else waits to who has
/// taken it over: what it handed back by itself would come behind the report, and be counted by two.
#[test]
fn who_is_taken_over_in_a_turn_with_an_event_leaves_what_waits() {
    explore("a take-over in a turn with an event", Bound::Preemptions(3), || {
        let mut waiting = Waiting::new(1);
        waiting.publish();
        waiting.cut_short()
    })
    .saw_exactly([[0, 0, 2], [0, 1, 1], [1, 0, 1], [1, 1, 0], [2, 0, 0]])
    .in_at_least(1_000);
}

/// The consumer that was taken over reads its mail once more, and may be told there that the subscription has ended.
#[test]
fn who_is_taken_over_leaves_what_waits_of_a_subscription_that_ends() {
    explore("a take-over beside an end", Bound::Preemptions(3), || {
        let Waiting { broker, mut consumers, subscription, calls, published } = Waiting::new(1);
        let consumer = thread::spawn(move || {
            for _ in 0..3 {
                consumers.turn(4);
            }
            consumers
        });
        let name = subscription.name().to_owned();
        drop(subscription);
        let first = broker.cut_short().then(|| broker.report());
        let mut consumers = consumer.join().expect("the consumer panicked");
        // What it may not have read of yet.
        consumers.turn(4);
        let report = broker.report();
        assert!(report.ledger.is_balanced(), "{}", report.ledger);
        assert!(first.is_none_or(|first| first.ledger == report.ledger), "the first report did not say all");
        let total = report.ledger.total();
        let fates = [Term::Delivered, Term::InDoubt, Term::Unsubscribed, Term::Undelivered];
        let fates = fates.map(|term| total.count(term));
        assert_eq!(fates.iter().sum::<u64>(), 1, "{report:?}");
        if fates[1] > 0 {
            let stuck = report.abandoned.first().map(|stuck| (&stuck.subscription, stuck.message));
            assert_eq!(stuck, Some((&name, published.first().copied())), "{calls:?}");
        }
        drop(consumers);
        fates
    })
    .saw_exactly([[0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]])
    .in_at_least(1_000);
}
