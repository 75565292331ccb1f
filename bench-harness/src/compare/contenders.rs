//! Who takes part in which discipline. Ours comes first: it is the one that all others are compared with.

use std::time::Duration;

use super::drive::{Outcome, Task, through};
use super::duct::Setup;
use super::ours::{self, Stamped};
use super::ping_pong::round_trip;
#[cfg(feature = "rivals")]
use super::rivals::{channels, disruptor, queues, rtrb, tokio};
use crate::error::Error;

/// A contender.
#[derive(Clone, Copy)]
pub(super) struct Contender {
    pub(super) name: &'static str,
    pub(super) play: Play,
}

/// How a contender takes its turn.
#[derive(Clone, Copy)]
pub(super) enum Play {
    /// A section of the driver's.
    Section(fn(&Setup, &Task) -> Result<Outcome, Error>),
    /// Round trips, which check themselves.
    RoundTrip(fn(&Setup, Duration) -> Result<Outcome, Error>),
    /// The floor of the round.
    Floor,
    /// No ring at all: the handler's own time.
    HandlerAlone,
}

macro_rules! sections {
    ($($name:literal => $duct:ty),* $(,)?) => {
        vec![$(Contender { name: $name, play: Play::Section(through::<$duct>) }),*]
    };
}

macro_rules! round_trips {
    ($($name:literal => $duct:ty),* $(,)?) => {
        vec![$(Contender { name: $name, play: Play::RoundTrip(round_trip::<$duct>) }),*]
    };
}

/// There and back through two of them.
pub(super) fn ping_pong() -> Vec<Contender> {
    let mut all = round_trips!["ringmain" => ours::Exclusive<Stamped>];
    #[cfg(feature = "rivals")]
    all.extend(round_trips![
        "disruptor" => disruptor::Single,
        "rtrb" => rtrb::Items,
        "crossbeam ArrayQueue" => queues::CrossbeamQueue,
        "thingbuf" => queues::Things,
        "crossbeam-channel" => channels::CrossbeamChannel,
        "crossfire" => channels::CrossfireSpsc,
        "kanal" => channels::Kanal,
        "flume" => channels::Flume,
        "std sync_channel" => channels::Std,
    ]);
    all.push(Contender { name: "floor (two atomics)", play: Play::Floor });
    all
}

/// One sender, one receiver. A further layout of our ring goes behind the first line.
pub(super) fn one_to_one() -> Vec<Contender> {
    #[allow(unused_mut, reason = "without rivals there are none to add")]
    let mut all = sections!["ringmain" => ours::Exclusive<Stamped>];
    #[cfg(feature = "rivals")]
    all.extend(sections![
        "disruptor" => disruptor::Single,
        "rtrb" => rtrb::Items,
        "crossbeam ArrayQueue" => queues::CrossbeamQueue,
        "thingbuf" => queues::Things,
        "crossbeam-channel" => channels::CrossbeamChannel,
        "crossfire" => channels::CrossfireSpsc,
        "kanal" => channels::Kanal,
        "flume" => channels::Flume,
        "std sync_channel" => channels::Std,
    ]);
    all
}

/// Those that can send and take several at once.
pub(super) fn batches() -> Vec<Contender> {
    #[allow(unused_mut, reason = "without rivals there are none to add")]
    let mut all = sections!["ringmain" => ours::Exclusive<Stamped>];
    #[cfg(feature = "rivals")]
    all.extend(sections!["disruptor" => disruptor::Single, "rtrb chunks" => rtrb::Chunks]);
    all
}

/// Those that several threads can send to.
pub(super) fn multi_producer() -> Vec<Contender> {
    #[allow(unused_mut, reason = "without rivals there are none to add")]
    let mut all = sections!["ringmain multi" => ours::Multi<Stamped>];
    #[cfg(feature = "rivals")]
    all.extend(sections![
        "disruptor multi" => disruptor::Multi,
        "crossbeam ArrayQueue" => queues::CrossbeamQueue,
        "crossfire mpsc" => channels::CrossfireMpsc,
        "crossbeam-channel" => channels::CrossbeamChannel,
    ]);
    all
}

/// Those whose cost beside a busy handler is worth a look, and the handler by itself.
pub(super) fn full_ring() -> Vec<Contender> {
    let mut all = sections!["ringmain" => ours::Exclusive<Stamped>];
    #[cfg(feature = "rivals")]
    all.extend(sections!["disruptor" => disruptor::Single, "rtrb" => rtrb::Items]);
    all.push(Contender { name: "handler alone", play: Play::HandlerAlone });
    all
}

/// Those in which several receivers get every event.
pub(super) fn broadcast() -> Vec<Contender> {
    #[allow(unused_mut, reason = "without rivals there are none to add")]
    let mut all = graphs();
    #[cfg(feature = "rivals")]
    all.push(Contender { name: "tokio broadcast", play: Play::Section(tokio::broadcast) });
    all
}

/// Those with graphs of receivers.
pub(super) fn graphs() -> Vec<Contender> {
    vec![
        Contender { name: "ringmain", play: Play::Section(ours::through_graph) },
        #[cfg(feature = "rivals")]
        Contender { name: "disruptor", play: Play::Section(disruptor::through_graph) },
    ]
}

#[cfg(test)]
mod tests {
    use super::super::duct::{Shape, Width};
    use super::*;

    /// Sanitizers are for our code: they do not understand all that rivals do.
    fn is_for_here(contender: &Contender) -> bool {
        std::env::var_os("RINGMAIN_SLOWDOWN").is_none() || contender.name.starts_with("ringmain")
    }

    fn passes(contenders: Vec<Contender>, setup: &Setup) {
        for contender in contenders.into_iter().filter(is_for_here) {
            if let Play::Section(play) = contender.play {
                let outcome = play(setup, &Task::Check { events: 3_000 }).expect("threads and memory");
                assert_eq!(outcome.failures, [""; 0], "{} {setup:?}", contender.name);
            }
        }
    }

    #[test]
    fn every_contender_delivers_every_event_once_whole_and_in_order() {
        for width in [Width::One, Width::Eight, Width::Fifteen] {
            passes(one_to_one(), &Setup::new(width, 128, None));
            passes(batches(), &Setup { batch: 64, ..Setup::new(width, 128, None) });
        }
        passes(full_ring(), &Setup::new(Width::Eight, 64, None));
        for senders in [1, 2, 4] {
            passes(multi_producer(), &Setup::of(Width::Eight, 128, senders, Shape::Beside(1), None));
        }
    }

    #[test]
    fn every_graph_delivers_every_event_to_every_receiver() {
        for receivers in [2, 3] {
            passes(broadcast(), &Setup::of(Width::Eight, 128, 1, Shape::Beside(receivers), None));
        }
        for shape in [Shape::Beside(1), Shape::Pipeline(3), Shape::Diamond] {
            passes(graphs(), &Setup::of(Width::Eight, 128, 1, shape, None));
        }
        passes(graphs(), &Setup::of(Width::Eight, 128, 3, Shape::Beside(1), None));
    }
}
