//! Dead letters that outlive their process: what is there after a restart, and after a crash.
//!
//! A crash is a copy of the file, taken while its broker goes on: what a process leaves that is killed at that moment.

mod broker_support;

use broker_support::{LIMIT, Random, eventually, shut_down};
use ringmain::broker::dead_letters::durable::{
    Codec, DurableDeadLetters, DurableState, FlushError, OpenError,
};
use ringmain::broker::dead_letters::{DeadLetter, DeadLetterOptions, DeadLetters, Replay, Selection};
use ringmain::broker::{
    Broker, BrokerBuildError, BrokerBuilder, Handled, Jitter, PublishOptions, Retry, Subscription, Term,
};
use ringmain::message::{CorrelationId, Payload};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("letters");
    (directory, path)
}

fn numbers() -> Codec<u64> {
    Codec::new(
        |number: &u64| Ok::<_, Infallible>(number.to_string().into_bytes()),
        |bytes| str::from_utf8(bytes).unwrap_or_default().parse::<u64>(),
    )
}

fn of_numbers(path: &Path) -> BrokerBuilder<u64> {
    Broker::of().durable_dead_letters(DurableDeadLetters::at_with(path, numbers()))
}

fn all() -> Selection {
    Selection::all()
}

fn dead<P: ringmain::message::MessagePayload>(broker: &Broker<P>) -> DeadLetters<P> {
    broker.dead_letters().expect("they are kept")
}

/// The payloads of the letters that are there.
fn held(broker: &Broker<u64>) -> Vec<u64> {
    dead(broker).query(&all()).iter().map(|letter| letter.message.payload).collect()
}

/// A subscription named `billing` that fails as long as it is sick.
fn billing(broker: &Broker<u64>, is_sick: &Arc<AtomicBool>) -> Subscription<u64> {
    let is_sick = is_sick.clone();
    let fails = move |_: &ringmain::message::Message<'_, u64>| {
        if is_sick.load(Ordering::Relaxed) { Err("it is sick") } else { Ok(()) }
    };
    broker.subscription().name("billing").pattern("a").subscribe(fails).expect("valid")
}

fn sick() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(true))
}

fn publish(broker: &Broker<u64>, numbers: impl IntoIterator<Item = u64>) {
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in numbers {
        let _ = publisher.publish(number).expect("room");
    }
    broker.drain(LIMIT).expect("it drains");
}

fn end(broker: Broker<u64>) {
    shut_down(&broker);
}

/// What a process would find that starts when this one has been killed now.
fn crash(path: &Path, directory: &TempDir) -> Broker<u64> {
    let copy = directory.path().join("copy");
    fs::copy(path, &copy).expect("a copy");
    of_numbers(&copy).build().expect("it opens")
}

#[test]
fn a_letter_is_there_after_a_restart_with_all_that_it_had() {
    let (_directory, path) = place();
    let build = || Broker::builder().durable_dead_letters(DurableDeadLetters::at(&path)).build();
    let json = |letters: &[Arc<DeadLetter<Payload>>]| -> Vec<String> {
        letters.iter().map(|letter| letter.to_json().expect("JSON")).collect()
    };

    let broker = build().expect("a new file");
    let retry = Retry::constant(Duration::from_millis(1)).jitter(Jitter::None).attempts(3);
    let count = AtomicU64::new(0);
    let fails = move |_: &ringmain::message::Message<'_, Payload>| {
        Err(format!("no: \"{}\" \u{0} é", count.fetch_add(1, Ordering::Relaxed)))
    };
    let subscription = broker.subscription().name("mail").pattern("#").retry(retry.clone()).subscribe(fails);
    let _mail = subscription.expect("valid");
    let options = PublishOptions::new().header("region", "eu").and_then(|it| it.header("raw", [0xff, 0]));
    let correlation = CorrelationId::new("order-17").expect("valid");
    let options = options.expect("valid").correlation(correlation).expires_after(Duration::from_secs(3_600));
    let mut publisher = broker.publisher("orders.eu").expect("a topic");
    let _ = publisher.publish_with(b"\xff\x00 bytes".as_slice(), &options).expect("room");
    let _ = publisher.publish("text").expect("room");
    broker.drain(LIMIT).expect("it drains");
    let before = dead(&broker).query(&all());
    let told = json(&before);
    assert_eq!(told.len(), 2);
    dead(&broker).flush(LIMIT).expect("they are durable");
    let died = before[1].dead_at_wall;
    shut_down(&broker);
    drop((_mail, publisher, broker));

    let broker = build().expect("a file that is there");
    let report = dead(&broker).opened().expect("it is durable").clone();
    assert_eq!((report.restored, report.damaged.len(), report.unread.len()), (2, 0, 0));
    let after = dead(&broker).query(&all());
    // An expiry goes by the broker's clock, which is not the last one's to the nanosecond.
    let rounded = |told: Vec<String>| -> Vec<String> {
        let cut = |line: String| match line.split_once("\"expires_at\":\"") {
            Some((before, at)) => format!("{before}{}", &at[.."2026-01-31T09:30".len()]),
            None => line,
        };
        told.into_iter().map(cut).collect()
    };
    assert_eq!(rounded(json(&after)), rounded(told));
    assert!(after.iter().zip(&before).all(|(one, other)| one.fingerprint() == other.fingerprint()));
    assert_eq!(dead(&broker).count(&all().newer_than(Duration::from_secs(3_600))), 2);
    assert_eq!(dead(&broker).count(&all().older_than(Duration::from_secs(3_600))), 0);

    // Their subscription is back and handles them as what they were.
    let (sender, seen) = mpsc::channel();
    let mail = broker.subscription().name("mail").pattern("#").subscribe(move |message| {
        let _ = sender.send((message.to_owned(), message.age()));
    });
    let _mail = mail.expect("valid");
    dead(&broker).replay(&all(), Replay::to_subscription()).expect("they are there");
    for letter in &before {
        let (message, age) = broker_support::next(&seen);
        let was = &letter.message;
        let was_published = letter.message.published_at_wall;
        assert!(
            age <= was_published.elapsed().expect("it was before now") + Duration::from_secs(5),
            "{age:?}"
        );
        assert!(age >= died.duration_since(was_published).expect("it was before that"), "{age:?}");
        assert_eq!((message.id, message.attempt, &message.topic), (was.id, 1, &was.topic));
        assert_eq!(
            (message.published_at_wall, message.correlation),
            (was.published_at_wall, was.correlation)
        );
        assert_eq!((&message.headers, &message.payload), (&was.headers, &was.payload));
    }
    broker.drain(LIMIT).expect("it drains");
    dead(&broker).flush(LIMIT).expect("it is durable");
    let counts = dead(&broker).counts();
    assert!(counts.is_balanced() && counts.restored == 2 && counts.replayed == 2, "{counts}");
    shut_down(&broker);
    drop((_mail, broker));
    let broker = build().expect("a file that is there");
    assert_eq!(dead(&broker).counts().held, 0);
}

#[test]
fn what_was_purged_or_evicted_or_replayed_does_not_come_back_and_numbers_go_on() {
    let (_directory, path) = place();
    let is_sick = sick();
    let broker =
        of_numbers(&path).dead_letters(DeadLetterOptions::new().entries(6)).build().expect("a new file");
    let _billing = billing(&broker, &is_sick);
    publish(&broker, 0..8); // two had to go
    dead(&broker).purge(&all().numbers(3..4));
    is_sick.store(false, Ordering::Relaxed);
    dead(&broker).replay(&all().numbers(5..6), Replay::to_subscription()).expect("it is there");
    broker.drain(LIMIT).expect("it drains");
    assert_eq!(held(&broker), [2, 4, 6, 7]);
    dead(&broker).purge(&all().numbers(7..8));
    end(broker);
    drop(_billing);

    let broker = of_numbers(&path).build().expect("it opens");
    assert_eq!(held(&broker), [2, 4, 6]);
    let _billing = billing(&broker, &sick());
    publish(&broker, [100]);
    let letters = dead(&broker).query(&all());
    assert_eq!(letters.iter().map(|letter| letter.number).collect::<Vec<_>>(), [2, 4, 6, 8]);
    dead(&broker).purge(&all());
    end(broker);
    drop(_billing);

    let broker = of_numbers(&path).build().expect("it opens");
    assert_eq!(held(&broker), [0; 0]);
    let _billing = billing(&broker, &sick());
    publish(&broker, [100]);
    assert_eq!(dead(&broker).query(&all())[0].number, 9, "no number is used again");
}

#[test]
fn a_replay_that_fails_is_one_letter_whose_history_goes_on_through_restarts() {
    let (_directory, path) = place();
    let mut first = None;
    for restart in 0..4_u32 {
        let broker = of_numbers(&path).build().expect("it opens");
        let _billing = billing(&broker, &sick());
        if restart == 0 {
            publish(&broker, [17]);
        } else {
            dead(&broker).replay(&all(), Replay::to_subscription()).expect("it is there");
            broker.drain(LIMIT).expect("it drains");
        }
        let letters = dead(&broker).query(&all());
        let [letter] = &letters[..] else { panic!("{letters:?}") };
        let (id, first_at) = *first.get_or_insert((letter.message.id, letter.first_at_wall));
        assert_eq!((letter.message.id, letter.first_at_wall), (id, first_at));
        assert_eq!((letter.number, letter.episodes), (u64::from(restart), restart + 1));
        let episodes: Vec<u32> = letter.attempts.iter().map(|attempt| attempt.episode).collect();
        assert_eq!(episodes, (1..=restart + 1).collect::<Vec<_>>());
        assert!(dead(&broker).counts().is_balanced(), "{}", dead(&broker).counts());
        end(broker);
    }
}

#[test]
fn a_letter_knows_how_old_it_is_after_a_restart() {
    let (_directory, path) = place();
    let broker = of_numbers(&path).build().expect("it opens");
    let _billing = billing(&broker, &sick());
    publish(&broker, [1]);
    let age = Duration::from_millis(100);
    eventually("it is that old", || dead(&broker).count(&all().older_than(age)) == 1);
    end(broker);
    // On a machine that is busy a broker may be as old when it is asked, which tells nothing.
    eventually("a broker is younger than its letter", || {
        let broker = of_numbers(&path).build().expect("it opens");
        assert_eq!(dead(&broker).count(&all().older_than(age)), 1);
        let is_young = broker.clock().now().as_nanos() < age.as_nanos() as u64;
        end(broker);
        is_young
    });
}

#[test]
fn what_had_expired_is_not_delivered_after_a_restart() {
    let (_directory, path) = place();
    let broker = of_numbers(&path).build().expect("it opens");
    let _billing = billing(&broker, &sick());
    let mut publisher = broker.publisher("a").expect("a topic");
    for (number, life) in [(1, 50), (2, 3_600_000)] {
        let options = PublishOptions::new().expires_after(Duration::from_millis(life));
        let _ = publisher.publish_with(number, &options).expect("room");
    }
    broker.drain(LIMIT).expect("it drains");
    let letters = dead(&broker).query(&all());
    assert_eq!(letters.len(), 2, "an expiry does not concern what is dead");
    let dies = letters[0].message.expires_at.expect("it expires");
    eventually("it expires", || broker.clock().now() > dies);
    end(broker);
    drop((_billing, publisher));

    let broker = of_numbers(&path).build().expect("it opens");
    let well = Arc::new(AtomicBool::new(false));
    let billing = billing(&broker, &well);
    dead(&broker).replay(&all(), Replay::to_subscription()).expect("they are there");
    broker.drain(LIMIT).expect("it drains");
    let total = broker.audit().total();
    assert_eq!((total.count(Term::Expired), billing.delivered()), (1, 1));
    assert_eq!(held(&broker), [0; 0]);
}

#[test]
fn a_letter_that_was_being_replayed_at_a_crash_is_there_and_free() {
    let (directory, path) = place();
    let broker = of_numbers(&path).build().expect("it opens");
    let _billing = billing(&broker, &sick());
    publish(&broker, [1]);
    dead(&broker).flush(LIMIT).expect("it is durable");
    drop(_billing);
    let (called, is_called) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let hangs = broker.subscription().name("billing").pattern("a").subscribe(move |_| {
        let _ = called.send(());
        let _ = released.recv();
    });
    let _hangs = hangs.expect("valid");
    dead(&broker).replay(&all(), Replay::to_subscription()).expect("it is there");
    broker_support::next(&is_called);
    dead(&broker).flush(LIMIT).expect("nothing has changed");
    let other = crash(&path, &directory);
    drop(release);
    let well = billing(&other, &Arc::new(AtomicBool::new(false)));
    let replaying = dead(&other).replay(&all(), Replay::to_subscription()).expect("it is there");
    assert_eq!((replaying.letters, replaying.already_replaying), (1, 0));
    other.drain(LIMIT).expect("it drains");
    assert_eq!(well.delivered(), 1);
}

/// Letters come, are replayed and fail, are replayed and handled, and are purged, while the process is killed again and
/// again: what was acknowledged is there, once, unless it was taken away since.
#[test]
fn whenever_it_crashes_what_was_acknowledged_is_there_once() {
    let mut random = Random::new();
    let (directory, path) = place();
    let broker = of_numbers(&path).build().expect("it opens");
    let is_sick = sick();
    let _billing = billing(&broker, &is_sick);
    let letters = dead(&broker);
    let mut publisher = broker.publisher("a").expect("a topic");
    // What is durable for sure, and has not been touched since.
    let mut acknowledged = BTreeMap::<u64, u32>::new();
    let mut next = 0;
    for round in 0..60 {
        for _ in 0..random.below(40) {
            let _ = publisher.publish(next).expect("room");
            next += 1;
        }
        broker.drain(LIMIT).expect("it drains");
        if random.below(2) == 0 {
            letters.flush(LIMIT).expect("they are durable");
            acknowledged = letters.query(&all()).iter().map(|it| (it.message.payload, it.episodes)).collect();
        }
        match random.below(4) {
            0 => {
                // Some are handled: they may or may not be there.
                is_sick.store(false, Ordering::Relaxed);
                let some = all().at_most(random.below(10) as usize);
                letters.query(&some).iter().for_each(|it| _ = acknowledged.remove(&it.message.payload));
                let _ = letters.replay(&some, Replay::to_subscription().rate(100_000));
                broker.drain(LIMIT).expect("it drains");
                is_sick.store(true, Ordering::Relaxed);
            }
            1 => {
                let some = all().at_most(random.below(10) as usize);
                letters.query(&some).iter().for_each(|it| _ = acknowledged.remove(&it.message.payload));
                letters.purge(&some);
            }
            _ => {
                // Some fail again: they stay, older or newer.
                let some = all().at_most(random.below(30) as usize);
                let _ = letters.replay(&some, Replay::to_subscription().rate(100_000));
                if random.below(2) == 0 {
                    broker.drain(LIMIT).expect("it drains");
                }
            }
        }
        let other = crash(&path, &directory);
        let report = dead(&other).opened().expect("it is durable").clone();
        let mut found = BTreeMap::<u64, u32>::new();
        for letter in dead(&other).query(&all()) {
            let twice = found.insert(letter.message.payload, letter.episodes);
            assert!(twice.is_none(), "round {round}: {} is there twice", letter.message.payload);
        }
        for (number, episodes) in &acknowledged {
            let is = found.get(number);
            assert!(is.is_some_and(|is| is >= episodes), "round {round}: {number} is {is:?}, was {episodes}");
        }
        // The copy may end in the middle of a write; nothing else is wrong.
        assert!(report.damaged.len() <= 1 && report.unread.is_empty(), "round {round}: {report:?}");
        drop(other);
        let gone = ["copy", "copy.lock", "copy.damaged"].map(|name| directory.path().join(name));
        eventually("the copy is closed", || {
            let lock = fs::File::open(&gone[1]).expect("it is there");
            lock.try_lock().is_ok()
        });
        gone.iter().for_each(|path| _ = fs::remove_file(path));
    }
    assert!(next > 100 && !letters.query(&all()).is_empty());
}

#[test]
fn a_shutdown_commits_what_is_there_and_closes_the_file() {
    let (_directory, path) = place();
    let broker = of_numbers(&path).build().expect("it opens");
    let _billing = billing(&broker, &sick());
    publish(&broker, 0..700);
    let letters = dead(&broker);
    let report = broker.shutdown(LIMIT).expect("not inside of a publish closure");
    let durable = report.dead_letters.expect("it is durable");
    assert_eq!((durable.behind, durable.not_durable, durable.state), (0, 0, DurableState::Closed));
    // All handles are there, and the file is free.
    let other = of_numbers(&path).build().expect("it is free");
    assert_eq!(held(&other), Vec::from_iter(0..700));
    // What changes then is in memory alone, and that is told.
    assert_eq!(letters.flush(LIMIT), Ok(()));
    assert_eq!(letters.purge(&all().at_most(2)), 2);
    assert_eq!(letters.flush(LIMIT), Err(FlushError::Closed { behind: 2 }));
}

#[test]
fn a_broker_that_is_dropped_commits_what_is_there() {
    let (_directory, path) = place();
    let broker = of_numbers(&path).build().expect("it opens");
    let billing = billing(&broker, &sick());
    publish(&broker, 0..300);
    drop((billing, broker));
    // It ends in its own time; an opening waits for it for a while.
    let other = of_numbers(&path).build().expect("it is free soon");
    assert_eq!(held(&other), Vec::from_iter(0..300));
}

#[test]
fn bounds_hold_for_what_is_read_back() {
    let (_directory, path) = place();
    let broker = of_numbers(&path).build().expect("it opens");
    let _billing = billing(&broker, &sick());
    publish(&broker, 0..10);
    end(broker);
    let few = DeadLetterOptions::new().entries(3).error_texts(false);
    let broker = of_numbers(&path).dead_letters(few).build().expect("it opens");
    let report = dead(&broker).opened().expect("it is durable").clone();
    assert_eq!((report.restored, report.evicted), (3, 7));
    assert_eq!(held(&broker), [7, 8, 9]);
    assert_eq!(dead(&broker).query(&all())[0].last_error(), None);
    assert!(dead(&broker).counts().is_balanced(), "{}", dead(&broker).counts());
    end(broker);
    // Those that had to go have gone from the file as well.
    let broker = of_numbers(&path).build().expect("it opens");
    assert_eq!(held(&broker), [7, 8, 9]);
    end(broker);
    // Where none may be held, none is destroyed.
    let broker =
        of_numbers(&path).dead_letters(DeadLetterOptions::new().entries(0)).build().expect("it opens");
    assert_eq!(dead(&broker).opened().map(|report| report.unread.len()), Some(3));
    end(broker);
    let broker = of_numbers(&path).build().expect("it opens");
    assert_eq!(held(&broker), [7, 8, 9]);
}

#[test]
fn a_store_that_is_full_loses_no_letter_by_a_restart() {
    let (_directory, path) = place();
    let bytes = DeadLetterOptions::new().bytes(50_000);
    let broker = of_numbers(&path).dead_letters(bytes.clone()).build().expect("it opens");
    let _billing = billing(&broker, &sick());
    let mut publisher = broker.publisher("a").expect("a topic");
    for number in 0..200 {
        let options = PublishOptions::new().header("region", "eu").expect("valid");
        let options = if number % 2 == 0 { options } else { PublishOptions::new() };
        let _ = publisher.publish_with(number, &options).expect("room");
    }
    broker.drain(LIMIT).expect("it drains");
    let before = held(&broker);
    assert!(before.len() < 100, "{}", before.len());
    end(broker);
    let broker = of_numbers(&path).dead_letters(bytes).build().expect("it opens");
    assert_eq!(held(&broker), before);
}

#[test]
fn a_record_that_cannot_be_decoded_is_named_and_stays() {
    let (_directory, path) = place();
    let broker = of_numbers(&path).build().expect("it opens");
    let _billing = billing(&broker, &sick());
    publish(&broker, 0..4);
    end(broker);
    let picky = |number: u64| {
        if number == 2 {
            broker_support::panic_quietly()
        }
        if number == 1 { Err(format!("{number} is out of range")) } else { Ok(number) }
    };
    let picky = Codec::new(
        |number: &u64| Ok::<_, Infallible>(number.to_string().into_bytes()),
        move |bytes| picky(str::from_utf8(bytes).unwrap_or_default().parse().unwrap_or(0)),
    );
    let durable = DurableDeadLetters::at_with(&path, picky);
    let broker = Broker::of().durable_dead_letters(durable).build().expect("it opens");
    assert_eq!(held(&broker), [0, 3]);
    let report = dead(&broker).opened().expect("it is durable").clone();
    let unread: Vec<_> = report.unread.iter().map(|one| (one.number, &*one.reason)).collect();
    assert_eq!(unread, [(1, "1 is out of range"), (2, "the codec has panicked")]);
    assert!(!format!("{report:?}").contains("out of range"), "it may quote the payload");
    dead(&broker).purge(&all());
    end(broker);
    let broker = of_numbers(&path).build().expect("it opens");
    assert_eq!(held(&broker), [1, 2]);
}

#[test]
fn a_damaged_byte_costs_one_letter_which_is_named() {
    let mut random = Random::new();
    let (_directory, path) = place();
    let broker = of_numbers(&path).build().expect("it opens");
    let _billing = billing(&broker, &sick());
    publish(&broker, 0..5);
    end(broker);
    let whole = fs::read(&path).expect("it is there");
    for _ in 0..40 {
        let mut bytes = whole.clone();
        let (at, flip) = (random.below(bytes.len() as u64) as usize, 1 << random.below(8));
        bytes[at] ^= flip;
        fs::write(&path, bytes).expect("it is written");
        let broker = of_numbers(&path).build().expect("something can be read");
        let report = dead(&broker).opened().expect("it is durable").clone();
        let held = held(&broker);
        assert!(held.len() >= 4 && held.iter().all(|number| *number < 5), "byte {at}: {held:?}");
        assert_eq!(report.damaged.len(), 1, "byte {at}: {report:?}");
        end(broker);
    }
}

#[test]
fn what_cannot_be_opened_is_an_error_that_says_what_to_do() {
    let (directory, path) = place();
    let broker = of_numbers(&path).build().expect("it opens");
    let problem = |builder: BrokerBuilder<u64>| match builder.build().map(drop) {
        Err(BrokerBuildError::DeadLetters(problem)) => problem,
        other => panic!("{other:?}"),
    };
    assert_eq!(problem(of_numbers(&path)), OpenError::Locked { path: path.clone() });
    let missing = directory.path().join("missing").join("letters");
    assert_eq!(problem(of_numbers(&missing)), OpenError::NoDirectory { path: missing });
    assert!(matches!(
        of_numbers(&path).simulate().map(drop),
        Err(BrokerBuildError::DeadLetters(OpenError::Simulated))
    ));
    let other = directory.path().join("other");
    fs::write(&other, "something else").expect("it is written");
    assert_eq!(problem(of_numbers(&other)), OpenError::Unreadable { path: other.clone() });
    let aside = DurableDeadLetters::at_with(&other, numbers()).move_aside_if_unreadable(true);
    let second = Broker::of().durable_dead_letters(aside).build().expect("it begins anew");
    let moved = dead(&second).opened().and_then(|report| report.moved_aside.clone()).expect("it was moved");
    assert_eq!(fs::read(moved).expect("it is there"), b"something else");
    drop(broker);
}

#[test]
fn a_broker_that_keeps_them_in_memory_says_so() {
    let broker = Broker::of::<u64>().dead_letters(DeadLetterOptions::new()).build().expect("valid");
    assert_eq!(dead(&broker).flush(LIMIT), Err(FlushError::Volatile));
    assert_eq!((dead(&broker).durable(), dead(&broker).opened()), (None, None));
    let report = broker.shutdown(LIMIT).expect("not inside of a publish closure");
    assert_eq!(report.dead_letters, None);
}

#[test]
fn a_handler_may_flush_and_its_own_letter_is_not_among_those_yet() {
    let (directory, path) = place();
    let broker = of_numbers(&path).build().expect("it opens");
    let letters = Arc::new(Mutex::new(None::<DeadLetters<u64>>));
    let flushing = letters.clone();
    let subscription = broker.subscription().name("billing").pattern("a").subscribe(move |message| {
        let guard = flushing.lock().expect("nobody panics");
        if **message == 2 {
            guard.as_ref().expect("it is there").flush(LIMIT).expect("it is durable");
        }
        Handled::Permanent("no".into())
    });
    let _subscription = subscription.expect("valid");
    *letters.lock().expect("nobody panics") = Some(dead(&broker));
    publish(&broker, [1, 2]);
    let other = crash(&path, &directory);
    assert!(held(&other).starts_with(&[1]));
    letters.lock().expect("nobody panics").take();
}
