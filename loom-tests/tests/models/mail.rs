//! Edge `POST_MAIL`: the flag that tells a consumer of its mail.

use super::{parking, single};
use ringmain_loom_tests::sync::{Mutex, UnsafeCell, thread};
use ringmain_loom_tests::{Bound, explore};
use std::sync::Arc;

/// A box without a lock of its own, for one command.
struct Command(UnsafeCell<u64>);

// SAFETY: the flag orders the one write before the one read; that is what the model is about.
unsafe impl Sync for Command {}

#[test]
fn the_flag_hands_over_what_was_written_before() {
    explore("mail flag", Bound::Exhaustive, || {
        let (_producer, poller, _ring) = single(1);
        let supervisor = poller.supervisor();
        let command = Arc::new(Command(UnsafeCell::new(0)));
        let poster = {
            let command = command.clone();
            thread::spawn(move || {
                // SAFETY: nobody reads before the flag is up.
                command.0.with_mut(|text| unsafe { *text = 7 });
                supervisor.announce_mail();
            })
        };
        let was_early = poller.lease().take_mail();
        if !was_early {
            while !poller.has_commands() {
                thread::yield_now();
            }
            assert!(poller.lease().take_mail());
        }
        // SAFETY: the flag was up, and there is one command.
        assert_eq!(command.0.with(|text| unsafe { *text }), 7);
        assert!(!poller.lease().take_mail(), "the flag was not taken down");
        poster.join().expect("the poster panicked");
        was_early
    })
    .saw_exactly([false, true])
    .in_at_least(3);
}

/// The flag is taken down before the box is emptied, so a command that comes between raises it again.
#[test]
fn no_letter_stays_behind() {
    explore("mailbox", Bound::Preemptions(2), || {
        let mut graph = parking(1);
        let (_, poller) = graph.poller(&[]).expect("no dependency");
        let (_producer, _ring) = graph.build_single_producer().expect("no threads to start");
        let commands = Arc::new(Mutex::new(Vec::new()));
        let posters = [1, 2].map(|command| {
            let (supervisor, commands) = (poller.supervisor(), commands.clone());
            thread::spawn(move || {
                commands.lock().push(command);
                supervisor.announce_mail();
            })
        });
        let (mut read, mut fetches) = (Vec::new(), 0);
        while read.len() < 2 {
            if poller.lease().take_mail() {
                fetches += 1;
                read.append(&mut commands.lock());
            } else {
                thread::yield_now();
            }
        }
        for poster in posters {
            poster.join().expect("a poster panicked");
        }
        (read, fetches)
    })
    .saw_exactly([(vec![1, 2], 1), (vec![1, 2], 2), (vec![2, 1], 1), (vec![2, 1], 2)])
    .in_at_least(50);
}
