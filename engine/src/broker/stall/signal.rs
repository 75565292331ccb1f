//! The signal by which the watchdog sleeps: it stops it, and says how often it is to look.

use crate::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// What stops the watchdog, and sets its pace.
pub(super) struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    is_stopped: bool,
    /// The time between two looks.
    interval: Duration,
}

impl Signal {
    pub(super) fn new(interval: Duration) -> Self {
        Self { state: Mutex::new(State { is_stopped: false, interval }), changed: Condvar::new() }
    }

    pub(super) fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.changed.notify_all();
    }

    pub(super) fn interval(&self) -> Duration {
        self.state.lock().interval
    }

    /// Sets the time between two looks, that to the next one included.
    pub(super) fn set_interval(&self, interval: Duration) {
        let before = std::mem::replace(&mut self.state.lock().interval, interval);
        if interval < before {
            self.changed.notify_all();
        }
    }

    /// Waits until it is time to look. Returns whether to go on.
    pub(super) fn wait(&self) -> bool {
        let begun = Instant::now();
        let mut state = self.state.lock();
        loop {
            let deadline = begun + state.interval;
            if state.is_stopped || Instant::now() >= deadline {
                return !state.is_stopped;
            }
            state = self.changed.wait_until(state, Some(deadline));
        }
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    const LONG: Duration = Duration::from_secs(3_600);
    const SHORT: Duration = Duration::from_millis(1);
    const LIMIT: Duration = Duration::from_secs(30);

    #[test]
    fn who_sleeps_is_woken_to_look_more_often_and_to_stop() {
        let signal = Arc::new(Signal::new(LONG));
        let (sender, woken) = channel();
        let sleeping = signal.clone();
        let sleeper = std::thread::spawn(move || {
            while sleeping.wait() {
                let _ = sender.send(());
            }
        });
        for _ in 0..5 {
            // So that it sleeps, as a rule: where it does not yet, there is nobody to wake.
            crate::sync::thread::sleep(SHORT * 5);
            woken.try_iter().for_each(drop);
            signal.set_interval(SHORT);
            woken.recv_timeout(LIMIT).expect("it looks");
            signal.set_interval(LONG);
        }
        assert_eq!(signal.interval(), LONG);
        signal.stop();
        sleeper.join().expect("no panic");
    }
}
