//! `compare` and `topology`: our ring beside its rivals, interleaved in one run.
//!
//! Figures of two runs cannot be compared, and not those of two programs either: the machine's
//! mode, the handler, the way to wait and the place of each thread decide more than the ring does.
//! So all contenders run here, in turns, with the same of all these; each is checked for lost,
//! doubled, torn and reordered events before it is timed, and adds up every byte while it is; and a
//! ratio is the median of quotients taken within a round.
//!
//! `mean_batch` and `mean_lag` stand beside each time, because they tell the regime: a receiver on
//! its sender's heels fights it for every cache line, one that trails finds whole lines at leisure,
//! and the same code does either.
//!
//! A contender is a [`channel::Channel`], or a function that runs a section by itself as ours do; a
//! discipline is a list in [`contenders`], a case a line in [`cases`], and what ours is held to
//! stands in [`bounds`].

mod bounds;
mod cases;
mod channel;
mod churn;
mod command;
mod consumer_progress;
mod contenders;
mod drive;
mod event;
mod managed;
mod ours;
mod ping_pong;
mod pool;
#[cfg(feature = "rivals")]
mod rivals;
mod tournament;

pub(crate) use command::{CompareOptions, compare, topology};
pub(crate) use ping_pong::between as round_trip;
