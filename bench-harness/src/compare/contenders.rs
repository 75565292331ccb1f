//! Who takes part in which discipline. Ours comes first: it is the one that all others are compared
//! with.

use std::time::Duration;

use super::channel::{Setup, Width};
use super::drive::{Outcome, Task, through};
#[cfg(feature = "rivals")]
use super::rivals::{channels, disruptor, pools, queues, round_trip, rtrb, tokio};
use super::{churn, ours, ping_pong, pool};
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

fn section(name: &'static str, play: fn(&Setup, &Task) -> Result<Outcome, Error>) -> Contender {
    Contender { name, play: Play::Section(play) }
}

#[cfg(feature = "rivals")]
macro_rules! channels {
    ($($name:literal => $channel:ty),* $(,)?) => {
        [$(section($name, through::<$channel>)),*]
    };
}

#[cfg(feature = "rivals")]
macro_rules! round_trips {
    ($($name:literal => $channel:ty),* $(,)?) => {
        [$(Contender { name: $name, play: Play::RoundTrip(round_trip::round_trip::<$channel>) }),*]
    };
}

/// Names that bounds look at.
pub(super) const OURS: &str = "ringmain";
pub(super) const DENSE: &str = "ringmain dense";
pub(super) const NO_LINGER: &str = "ringmain no linger";
pub(super) const CHURNING: &str = "ringmain with 1000 joins/s";
pub(super) const FLOOR: &str = "floor (two atomics)";
pub(super) const ALONE: &str = "handler alone";
pub(super) const MULTI: &str = "ringmain multi";
pub(super) const DISRUPTOR: &str = "disruptor";
pub(super) const DISRUPTOR_MULTI: &str = "disruptor multi";
pub(super) const RTRB_CHUNKS: &str = "rtrb chunks";
pub(super) const ARRAY_QUEUE: &str = "crossbeam ArrayQueue";
pub(super) const CROSSFIRE_MPSC: &str = "crossfire mpsc";
pub(super) const CROSSBEAM_CHANNEL: &str = "crossbeam-channel";
pub(super) const TOKIO: &str = "tokio broadcast";

/// There and back through two of them.
pub(super) fn ping_pong() -> Vec<Contender> {
    let mut all = vec![Contender { name: OURS, play: Play::RoundTrip(ping_pong::ours) }];
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
    all.push(Contender { name: FLOOR, play: Play::Floor });
    all
}

/// The same, paced. First the layout that is the faster one at full speed, whose saturation the
/// rates are parts of.
pub(super) fn paced() -> Vec<Contender> {
    let mut all = one_to_one(Width::Eight);
    all.swap(0, 1);
    all
}

/// Four senders of the same: who gets how much. The others say what is usual.
pub(super) fn fairness() -> Vec<Contender> {
    let mut all = multi_producer();
    all.retain(|contender| [MULTI, CROSSBEAM_CHANNEL].contains(&contender.name));
    all
}

/// One sender, one receiver. Ours without lingering stands beside the others where events have 64
/// bytes, to show what lingering does.
pub(super) fn one_to_one(width: Width) -> Vec<Contender> {
    let mut all = vec![section(OURS, ours::single), section(DENSE, ours::dense)];
    if width == Width::Eight {
        all.push(section(NO_LINGER, ours::no_linger));
    }
    #[cfg(feature = "rivals")]
    all.extend(channels![
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
    let mut all = vec![section(OURS, ours::single), section(DENSE, through::<ours::Slices>)];
    #[cfg(feature = "rivals")]
    all.extend(channels!["disruptor" => disruptor::Single, "rtrb chunks" => rtrb::Chunks]);
    all
}

/// Those that several threads can send to.
pub(super) fn multi_producer() -> Vec<Contender> {
    #[allow(unused_mut, reason = "without rivals there are none to add")]
    let mut all = vec![section(MULTI, ours::multi)];
    #[cfg(feature = "rivals")]
    all.extend(channels![
        "disruptor multi" => disruptor::Multi,
        "crossbeam ArrayQueue" => queues::CrossbeamQueue,
        "crossfire mpsc" => channels::CrossfireMpsc,
        "crossbeam-channel" => channels::CrossbeamChannel,
    ]);
    all
}

/// Those whose cost beside a busy handler is worth a look, and the handler by itself.
pub(super) fn full_ring() -> Vec<Contender> {
    let mut all = vec![section(OURS, ours::single), section(DENSE, ours::dense)];
    #[cfg(feature = "rivals")]
    all.extend(channels!["disruptor" => disruptor::Single, "rtrb" => rtrb::Items]);
    all.push(Contender { name: ALONE, play: Play::HandlerAlone });
    all
}

/// Those in which several receivers get every event.
pub(super) fn broadcast() -> Vec<Contender> {
    let mut all = graphs();
    all.insert(1, section(DENSE, ours::dense));
    #[cfg(feature = "rivals")]
    all.push(section(TOKIO, tokio::broadcast));
    all
}

/// Those with graphs of receivers.
pub(super) fn graphs() -> Vec<Contender> {
    vec![
        section(OURS, ours::of_any_number),
        #[cfg(feature = "rivals")]
        section(DISRUPTOR, disruptor::through_graph),
    ]
}

/// Those in which each event goes to one of several receivers, and all threads sleep when there is
/// nothing to do.
pub(super) fn pools() -> Vec<Contender> {
    vec![
        section(OURS, pool::through::<pool::Workers>),
        #[cfg(feature = "rivals")]
        section(CROSSBEAM_CHANNEL, pool::through::<pools::Threads<pools::CrossbeamSender>>),
        #[cfg(feature = "rivals")]
        section("crossfire mpmc", pool::through::<pools::Threads<pools::CrossfireSender>>),
        #[cfg(feature = "rivals")]
        section("kanal", pool::through::<pools::Threads<pools::KanalSender>>),
    ]
}

/// Our ring in peace, and while consumers come and go.
pub(super) fn churn() -> Vec<Contender> {
    vec![section(OURS, churn::alone), section(CHURNING, churn::churning)]
}

#[cfg(test)]
mod tests {
    use super::super::channel::Shape;
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
            passes(one_to_one(width), &Setup::new(width, 128, None));
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

    #[test]
    fn every_pool_hands_every_event_to_one_worker() {
        passes(pools(), &Setup::of(Width::Eight, 64, 4, Shape::Beside(3), None));
        passes(pools(), &Setup::of(Width::Eight, 2, 1, Shape::Beside(1), None));
    }

    #[test]
    fn consumers_that_come_and_go_take_nothing_from_those_that_stay() {
        passes(churn(), &Setup::new(Width::Eight, 128, None));
    }
}
