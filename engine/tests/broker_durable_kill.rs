//! A process that keeps durable dead letters is killed (`kill -9`), again and again: no letter that it has acknowledged
//! is missing, and none is there twice.
//!
//! `RINGMAIN_KILLS` sets how often; `scripts/kill-durable.sh` runs it so.

#![cfg(unix)]

mod broker_support;

use broker_support::{LIMIT, Random};
use ringmain::broker::Broker;
use ringmain::broker::dead_letters::durable::{Codec, DurableDeadLetters};
use ringmain::broker::dead_letters::{DeadLetterOptions, Replay, Selection};
use std::collections::{BTreeSet, HashSet};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The environment's name for the child's file, and for the first number that it publishes.
const FILE: &str = "RINGMAIN_KILLED_FILE";
const FIRST: &str = "RINGMAIN_KILLED_FIRST";

/// The child purges what is more, and waits where it is twice as many.
const KEPT: usize = 2_000;

fn open(path: &Path) -> Broker<u64> {
    let codec = Codec::new(
        |number: &u64| Ok::<_, Infallible>(number.to_string().into_bytes()),
        |bytes| str::from_utf8(bytes).unwrap_or_default().parse::<u64>(),
    );
    Broker::of()
        .dead_letters(DeadLetterOptions::new().entries(1_000_000).bytes(1 << 30))
        .durable_dead_letters(DurableDeadLetters::at_with(path, codec))
        .build()
        .expect("it opens")
}

/// What is killed: it publishes without end what fails, says of each letter on its standard error stream that it is
/// durable when it is, and of those that it purges or replays that before it does.
#[test]
#[ignore = "it is run, and killed, by the other test"]
fn child() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let first: u64 = std::env::var(FIRST).ok().and_then(|text| text.parse().ok()).expect("a number");
    let mut random = Random::seeded(first + 1);
    let broker = open(Path::new(&path));
    let dead = broker.dead_letters().expect("they are kept");
    // Those that can be handled; all others fail, also if they are replayed.
    let cured = Arc::new(Mutex::new(HashSet::<u64>::new()));
    let looked = cured.clone();
    let billing = broker.subscription().name("billing").pattern("a").subscribe(move |message| {
        let is_cured = looked.lock().expect("nobody panics").contains(&**message);
        if is_cured { Ok(()) } else { Err("it is sick") }
    });
    let _billing = billing.expect("valid");
    // Letters come all the time, also while others are made durable.
    let (publishing, kept) = (broker.clone(), dead.clone());
    thread::spawn(move || {
        let mut publisher = publishing.publisher("a").expect("a topic");
        for number in first.. {
            let _ = publisher.publish(number).expect("room");
            while number % 64 == 0 && kept.counts().held > 2 * KEPT as u64 {
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let mut told = 0;
    loop {
        let new = dead.query(&Selection::all().numbers(told..));
        dead.flush(LIMIT).expect("they are durable");
        // Those that it has cured before it has said anything of them may be gone by now.
        let going = cured.lock().expect("nobody panics").clone();
        say(
            "durable",
            new.iter().map(|letter| letter.message.payload).filter(|number| !going.contains(number)),
        );
        told = new.last().map_or(told, |letter| letter.number + 1);
        let goes = dead.count(&Selection::all()).saturating_sub(KEPT).max(random.below(20) as usize);
        let some = dead.query(&Selection::all().at_most(20));
        match random.below(3) {
            0 => {
                let going = dead.query(&Selection::all().at_most(goes));
                say("goes", going.iter().map(|letter| letter.message.payload));
                // To the letter: others may be the oldest by then.
                for letter in &going {
                    dead.purge(&Selection::all().numbers(letter.number..=letter.number));
                }
            }
            1 => {
                say("goes", some.iter().map(|letter| letter.message.payload));
                let mut cured = cured.lock().expect("nobody panics");
                cured.extend(some.iter().map(|letter| letter.message.payload));
                drop(cured);
                let _ = dead.replay(&Selection::all().at_most(20), Replay::to_subscription().rate(1_000_000));
            }
            _ => {
                // These fail again: they stay.
                let _ = dead.replay(&Selection::all().at_most(20), Replay::to_subscription().rate(1_000_000));
            }
        }
    }
}

fn say(what: &str, numbers: impl Iterator<Item = u64>) {
    let mut text = String::new();
    numbers.for_each(|number| _ = writeln!(text, "{what} {number}"));
    std::io::stderr().write_all(text.as_bytes()).expect("somebody listens");
}

#[test]
fn whenever_it_is_killed_what_it_has_acknowledged_is_there_once() {
    let kills: u32 = std::env::var("RINGMAIN_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let mut random = Random::new();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("letters");
    // What must be there.
    let mut durable = BTreeSet::<u64>::new();
    let (mut acknowledged, mut unfinished, mut slowest) = (0, 0, Duration::ZERO);
    let begun = Instant::now();
    for run in 1..=kills {
        let mut child = Command::new(std::env::current_exe().expect("it has a path"))
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(FILE, &path)
            .env(FIRST, (u64::from(run) << 32).to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut line = String::new();
        let mut new = 0_u64;
        let mut says = |lines: &mut BufReader<_>, line: &mut String| {
            line.clear();
            if lines.read_line(line).expect("text") == 0 || !line.ends_with('\n') {
                return false;
            }
            match line.trim_end().split_once(' ') {
                Some(("durable", number)) => {
                    new += u64::from(durable.insert(number.parse().expect("a number")));
                }
                Some(("goes", number)) => _ = durable.remove(&number.parse().expect("a number")),
                _ => {
                    let mut rest = String::new();
                    let _ = lines.read_to_string(&mut rest);
                    panic!("the child says: {line}{rest}");
                }
            }
            true
        };
        assert!(says(&mut lines, &mut line), "it ended before anything was durable");
        let (life, born) = (Duration::from_millis(20 + random.below(300)), Instant::now());
        while born.elapsed() < life && says(&mut lines, &mut line) {}
        let lived = born.elapsed();
        child.kill().expect("it runs");
        child.wait().expect("it has ended");
        while says(&mut lines, &mut line) {}

        let opening = Instant::now();
        let broker = open(&path);
        let opened_in = opening.elapsed();
        let dead = broker.dead_letters().expect("they are kept");
        let report = dead.opened().expect("it is durable").clone();
        let letters = dead.query(&Selection::all());
        let found: HashSet<u64> = letters.iter().map(|letter| letter.message.payload).collect();
        let twice = letters.len() - found.len();
        let missing = durable.iter().filter(|number| !found.contains(number)).count();
        println!(
            "run {run}: killed after {} ms, {new} acknowledged ({:.0}/s), {} there, {} KiB, reopened in {:.1} ms, \
             {missing} missing, {twice} twice",
            lived.as_millis(),
            new as f64 / lived.as_secs_f64(),
            found.len(),
            std::fs::metadata(&path).map_or(0, |file| file.len() >> 10),
            opened_in.as_secs_f64() * 1_000.0,
        );
        assert_eq!((missing, twice), (0, 0), "run {run}");
        // A kill can cut the last write, which was not acknowledged then; nothing else can be wrong.
        assert!(report.damaged.len() <= 1 && report.unread.is_empty(), "run {run}: {report:?}");
        unfinished += report.damaged.len();
        acknowledged += new;
        slowest = slowest.max(opened_in);
        let _ = broker.shutdown(LIMIT).expect("not inside of a publish closure");
    }
    println!(
        "{kills} kills in {:.1} s: {acknowledged} letters acknowledged, none missing, none twice; {unfinished} commits \
         cut; slowest reopening {:.1} ms",
        begun.elapsed().as_secs_f64(),
        slowest.as_secs_f64() * 1_000.0
    );
}
