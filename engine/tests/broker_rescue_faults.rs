//! What happens beside a rescue: ends, stops, pauses and stalls; and what is said of it.

mod broker_support;

use broker_support::stuck::*;
use broker_support::{LIMIT, eventually, next, within};
use ringmain::broker::{Broker, Dispatcher, PauseError, RescueError, StallKind, Term, filter};
use ringmain::message::Message;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

fn away(broker: &Broker<u64>) -> f64 {
    broker.metrics().values["messaging.handlers.away"]
}

#[test]
fn a_thread_that_was_replaced_ends_although_nothing_more_comes() {
    for round in 0..20 {
        let (broker, door) = (broker(), Door::closed());
        let (stuck, late) = at(&broker, "stuck", &door);
        // It is delivered in a turn that finds nothing in the ring.
        stuck.pause_timeout(LIMIT).expect("its consumer is free");
        publish(&broker, [0]);
        eventually("it waits", || stuck.status().backlogged == 1);
        stuck.resume();
        wait_until_away(&stuck);
        door.open();
        assert_eq!(next(&late), 0);
        eventually("it is back", || !stuck.status().is_away);
        let until = Instant::now() + Duration::from_secs(2);
        while away(&broker) > 0.0 {
            assert!(Instant::now() < until, "round {round}: its thread is left: {:?}", broker.stalls());
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_shutdown_stops_a_consumer_that_only_waits_for_a_handler_to_come_back() {
    let (broker, door) = (broker(), Door::closed());
    let (stuck, _late) = at(&broker, "stuck", &door);
    publish(&broker, [0]);
    wait_until_away(&stuck);
    let report = broker.shutdown(Duration::from_millis(400)).expect("not in a closure");
    let abandoned: Vec<_> = report.abandoned.iter().map(|one| &*one.subscription).collect();
    assert_eq!(abandoned, ["stuck"], "nobody else was stuck");
    door.open();
}

#[test]
fn what_is_said_of_a_replaced_thread_is_of_its_call_whatever_stall_was_rescued() {
    let (broker, door) = (by_hand(), Door::closed());
    let (stuck, _late) = at(&broker, "stuck", &door);
    let publishing = {
        let broker = broker.clone();
        thread::spawn(move || publish(&broker, 0..20))
    };
    let stall = stall_of(&broker, StallKind::Publisher);
    broker.rescue(&stall).expect("it is in a handler's call");
    publishing.join().expect("there is room again");
    eventually("all wait", || stuck.status().backlogged == 19);
    let stalls = broker.stalls();
    let [stall] = &stalls[..] else { panic!("{stalls:?}") };
    assert!(stall.is_replaced);
    assert_eq!(
        (stall.kind, stall.waiting_publishers),
        (StallKind::Call, 0),
        "nobody waits for room: {stall}"
    );
    door.open();
}

/// Keeps what is logged of stalls and rescues, an event a line.
struct Log;
static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The fields of an event.
struct Fields(String);

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        ["ringmain::rescue", "ringmain::stall"].contains(&metadata.target())
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields(format!("{} {}", event.metadata().level(), event.metadata().target()));
        event.record(&mut fields);
        LOGGED.lock().expect("no panic").push(fields.0);
    }
}

/// What was logged of a dispatcher of that name by now. To be called before the first of it may be.
fn logged(dispatcher: &str) -> Vec<String> {
    // Others may have set it.
    let _ = tracing::subscriber::set_global_default(Log);
    let of_it = format!("dispatcher=\"{dispatcher}\"");
    LOGGED.lock().expect("no panic").iter().filter(|line| line.contains(&of_it)).cloned().collect()
}

#[test]
fn what_cannot_be_rescued_is_logged_at_each_doubling_of_its_age_and_not_at_every_look() {
    assert!(logged("flooded").is_empty());
    let dispatcher = Dispatcher::new("flooded").rescue_after(Duration::from_millis(4));
    let broker: Broker<u64> = Broker::of().dispatcher(dispatcher).build().expect("valid");
    let door = Door::closed();
    let at_door = door.clone();
    let hangs = filter::payload(move |_: &u64| {
        at_door.pass();
        true
    });
    let _stuck = broker.subscription().pattern("a").filter(hangs).subscribe(|_| ()).expect("valid");
    let begun = Instant::now();
    publish(&broker, [0]);
    let refusals =
        || logged("flooded").iter().filter(|line| line.starts_with("WARN ringmain::rescue")).count();
    eventually("it is told that it cannot be", || refusals() >= 6);
    // At 4, 8, 16, 32, 64 and 128 ms at the soonest.
    assert!(begun.elapsed() >= Duration::from_millis(128), "six times after {:?}", begun.elapsed());
    door.open();
    let line = &logged("flooded")[0];
    assert!(line.contains("none of a handler's") && line.contains("could not be replaced"), "{line}");
}

#[test]
fn a_rescue_is_logged_with_what_is_in_doubt_and_so_is_its_end() {
    assert!(logged("told").is_empty());
    let dispatcher = Dispatcher::new("told").rescue_after(AGE);
    let broker: Broker<u64> = Broker::of().dispatcher(dispatcher).build().expect("valid");
    let door = Door::closed();
    let (stuck, late) = at(&broker, "stuck", &door);
    let mut publisher = broker.publisher("a").expect("a topic");
    let id = publisher.publish(0).expect("room").id;
    wait_until_away(&stuck);
    eventually("it is told", || !logged("told").is_empty());
    let line = logged("told").remove(0);
    for part in [
        "WARN ringmain::rescue",
        "subscription=\"stuck\"",
        "topic=a",
        &format!("message_id={id}"),
        "in doubt",
    ] {
        assert!(line.contains(part), "no {part} in: {line}");
    }
    assert!(!line.contains("reason"), "{line}");
    door.open();
    assert_eq!(next(&late), 0);
    let is_over = |line: &String| line.starts_with("INFO ringmain::stall") && line.contains("is over");
    eventually("its end is told", || logged("told").iter().any(is_over));
}

#[test]
fn a_thread_whose_call_has_returned_is_not_abandoned() {
    for round in 0..300 {
        let dispatcher = Dispatcher::new("shared").rescue_after(Duration::from_millis(1));
        let broker: Broker<u64> = Broker::of().dispatcher(dispatcher).build().expect("valid");
        let door = Door::closed();
        let (stuck, _late) = at(&broker, "stuck", &door);
        publish(&broker, 0..2);
        wait_until_away(&stuck);
        let opens = door.clone();
        let opening = thread::spawn(move || opens.open());
        let report = broker.shutdown(LIMIT).expect("not in a closure");
        opening.join().expect("no panic");
        assert_eq!(report.ledger.total().delivered(), 1);
        assert!(report.abandoned.is_empty(), "round {round}: {:?}", report.abandoned);
    }
}

#[test]
fn a_quiesce_does_not_wait_for_what_waits_for_a_handler_that_is_away() {
    let (broker, door) = (broker(), Door::closed());
    let (stuck, _late) = at(&broker, "stuck", &door);
    publish(&broker, 0..3);
    wait_until_away(&stuck);
    eventually("the rest waits", || stuck.status().backlogged == 2);
    let quiet = broker.quiesce(Duration::from_secs(1));
    door.open();
    assert_eq!(quiet, Ok(()), "it could not be delivered now");
}

#[test]
fn a_publish_into_the_ring_of_a_replaced_thread_waits_for_nobody_who_waits_for_it() {
    let dispatcher = Dispatcher::new("shared").capacity(4).rescue_after(AGE);
    let broker: Broker<u64> = Broker::of().dispatcher(dispatcher).build().expect("valid");
    let door = Door::closed();
    let at_door = door.clone();
    let (sender, results) = channel();
    let mut publisher = broker.publisher("a").expect("a topic");
    let stuck = broker
        .subscription()
        .name("stuck")
        .pattern("a")
        .subscribe(move |message: &Message<'_, u64>| {
            at_door.pass();
            if **message < 2 {
                let refused = (0..20).filter(|_| publisher.publish(9).is_err()).count();
                let _ = sender.send(refused);
            }
        })
        .expect("valid");
    publish(&broker, [0]);
    wait_until_away(&stuck);
    publish(&broker, [1]);
    door.open();
    // On the old thread, then on the new one: it returns.
    let _ = next(&results);
    let _ = next(&results);
    eventually("all is over", || broker.drain(Duration::from_millis(200)).is_ok());
    let report = broker.shutdown(LIMIT).expect("not in a closure");
    assert!(report.ledger.is_balanced() && report.abandoned.is_empty(), "{report:#?}");
}

#[test]
fn a_broker_whose_last_handle_goes_while_a_handler_is_away_leaves_no_thread() {
    let (broker, door) = (broker(), Door::closed());
    let (stuck, late) = at(&broker, "stuck", &door);
    let (other, received) = at(&broker, "other", &Door::default());
    publish(&broker, 0..3);
    wait_until_away(&stuck);
    assert_eq!((next(&received), next(&received), next(&received)), (0, 1, 2));
    drop((stuck, other));
    drop(broker);
    within("the other handler is dropped", move || while received.recv().is_ok() {});
    door.open();
    within("and the stuck one too", move || while late.recv().is_ok() {});
}

#[test]
fn rescues_of_one_stall_by_many_replace_one() {
    let (broker, door) = (by_hand(), Door::closed());
    let (stuck, late) = at(&broker, "stuck", &door);
    publish(&broker, 0..3);
    let stall = stall_of(&broker, StallKind::Call);
    let rescuers: Vec<_> = (0..4)
        .map(|_| {
            let (broker, stall) = (broker.clone(), stall.clone());
            thread::spawn(move || broker.rescue(&stall))
        })
        .collect();
    let outcomes: Vec<_> = rescuers.into_iter().map(|rescuer| rescuer.join().expect("no panic")).collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(()) | Err(RescueError::Over { .. }))));
    door.open();
    assert_eq!((next(&late), next(&late), next(&late)), (0, 1, 2));
    assert!(!stuck.status().is_away);
}

#[test]
fn what_was_copied_for_a_subscription_that_ends_before_its_turn_is_accounted_for() {
    let dispatcher = Dispatcher::new("shared").rescuable();
    let broker: Broker<u64> = Broker::of().dispatcher(dispatcher).build().expect("valid");
    let door = Door::closed();
    let (_first, received) = at(&broker, "first", &door);
    let (second, none) = at(&broker, "second", &Door::default());
    publish(&broker, [0]);
    eventually("the first one is called, and the other's copy waits", || second.status().backlogged == 1);
    let _ = second.unsubscribe_timeout(Duration::ZERO);
    door.open();
    assert_eq!(next(&received), 0);
    eventually("it is over", || broker.drain(Duration::from_millis(100)).is_ok());
    let ledger = broker.audit();
    assert!(ledger.is_balanced() && none.try_recv().is_err(), "{ledger:#?}");
    assert_eq!((ledger.total().dropped(), ledger.total().count(Term::InFlight)), (1, 0), "{ledger:#?}");
}

#[test]
fn a_consumer_that_is_behind_hands_its_ring_back_although_a_handler_is_away() {
    let (broker, door) = (broker(), Door::closed());
    let (stuck, _late) = at(&broker, "stuck", &door);
    let (sender, seen) = channel();
    let slow = move |message: &Message<'_, u64>| {
        thread::sleep(Duration::from_millis(2));
        let _ = sender.send(**message);
    };
    let slow = broker.subscription().name("slow").pattern("a").subscribe(slow).expect("valid");
    slow.pause_timeout(LIMIT).expect("its consumer is free");
    publish(&broker, [0]);
    wait_until_away(&stuck);
    publish(&broker, 1..400);
    eventually("all wait", || slow.status().backlogged == 400);
    slow.resume();
    // More than a turn's deliveries: what comes now stays in the ring.
    eventually("it is behind", || seen.try_iter().any(|number| number > 130));
    publish(&broker, 400..450);
    // A sanitized program needs longer to hand all back.
    let limit = if cfg!(ringmain_sanitized) { 2_000 } else { 100 };
    let report = broker.shutdown(Duration::from_millis(limit)).expect("not in a closure");
    let abandoned: Vec<_> = report.abandoned.iter().map(|one| &*one.subscription).collect();
    let total = report.ledger.total();
    door.open();
    assert_eq!(abandoned, ["stuck"], "nobody else was");
    assert_eq!(total.count(Term::InFlight), 0, "{total:#?}");
}

#[test]
fn a_pause_waits_for_the_call_that_was_rescued() {
    let (broker, door) = (broker(), Door::closed());
    let (at_door, (called, is_called)) = (door.clone(), channel());
    let handler = move |_: &Message<'_, u64>| {
        let _ = called.send(());
        at_door.pass();
    };
    let stuck = broker.subscription().pattern("a").subscribe(handler).expect("valid");
    publish(&broker, [0]);
    next(&is_called);
    let (paused, is_paused) = channel();
    thread::scope(|scope| {
        // One that has begun before, and one that begins while its handler is away.
        scope.spawn(|| paused.send(stuck.pause_timeout(LIMIT)));
        wait_until_away(&stuck);
        let refused = stuck.pause_timeout(Duration::from_millis(50));
        assert!(matches!(refused, Err(PauseError::TimedOut { .. })), "its handler runs: {refused:?}");
        let before = is_paused.try_recv();
        door.open();
        assert!(before.is_err(), "its handler ran: {before:?}");
        assert_eq!(next(&is_paused), Ok(()));
    });
    stuck.pause_timeout(LIMIT).expect("it is back");
}
