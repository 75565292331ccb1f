//! What ours is held to: figures of one run beside those of rivals, of the floor, or of the handler
//! by itself.
//!
//! A figure is the median of quotients, or differences, taken within a round. A bound is left out
//! where those that it is compared with did not take part.

use super::channel::{SMALL, Width};
use super::contenders::{
    ALONE, ARRAY_QUEUE, CHURNING, CROSSBEAM_CHANNEL, CROSSFIRE_MPSC, DENSE, DISRUPTOR, DISRUPTOR_MULTI,
    FLOOR, MULTI, NO_LINGER, OURS, RTRB_CHUNKS, TOKIO,
};
use crate::report::{Bound, Side};
use crate::stats::{median, paired_quotients};

/// Those that ours is compared with.
#[derive(Clone, Copy, Debug)]
enum Others {
    /// All that are not ours, nor the floor or the handler alone.
    Rivals,
    These(&'static [&'static str]),
}

impl Others {
    fn has(self, name: &str) -> bool {
        match self {
            Self::Rivals => !name.starts_with(OURS) && ![FLOOR, ALONE].contains(&name),
            Self::These(names) => names.contains(&name),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// At least so many times as fast as the fastest of these.
    AsFast { times: f64, as_these: Others },
    /// Takes at most so many times as long as the fastest of these.
    Within { times: f64, of: Others },
    /// Adds at most this part, or so many nanoseconds if that is more.
    Adds { part: f64, nanoseconds: f64, to: &'static str },
    /// The sender that sent fewest had at least this part of its fair share.
    Shares { part: f64 },
}

/// What some contenders of ours, the best of which counts, are held to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    ours: &'static [&'static str],
    kind: Kind,
    /// The row that it is about; all where there is none.
    row: Option<usize>,
}

/// A contender's figures in a row.
pub(super) struct Figures<'f> {
    pub(super) contender: &'static str,
    /// One a round.
    pub(super) ns: &'f [Option<f64>],
    pub(super) shares: &'f [f64],
}

impl Figures<'_> {
    fn median(&self) -> Option<f64> {
        median(&self.ns.iter().copied().flatten().collect::<Vec<_>>())
    }
}

impl Claim {
    fn new(ours: &'static [&'static str], kind: Kind) -> Self {
        Self { ours, kind, row: None }
    }

    fn as_fast(ours: &'static [&'static str], times: f64, as_these: Others) -> Self {
        Self::new(ours, Kind::AsFast { times, as_these })
    }

    pub(super) fn is_about(&self, row: usize) -> bool {
        self.row.is_none_or(|its| its == row)
    }

    /// Whether it holds; `None` where there is nothing to compare.
    pub(super) fn judge(&self, row: &str, all: &[Figures<'_>]) -> Option<Bound> {
        let best = |is_one: &dyn Fn(&str) -> bool| {
            let some = all.iter().filter(|one| is_one(one.contender));
            let some = some.filter_map(|one| Some((one, one.median()?)));
            some.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(one, _)| one)
        };
        let ours = best(&|name| self.ours.contains(&name))?;
        let bound = |what: String, side, bound, value, unit| {
            let name = format!("{row}: {} {what}", ours.contender);
            Some(Bound::new(name, side, bound, value, unit))
        };
        match self.kind {
            Kind::AsFast { times, as_these } => {
                let other = best(&|name| as_these.has(name))?;
                let value = median(&paired_quotients(other.ns, ours.ns))?;
                let which = match as_these {
                    Others::Rivals => ", the fastest rival",
                    Others::These([_]) => "",
                    Others::These(_) => ", the faster of two",
                };
                bound(format!("against {}{which}", other.contender), Side::AtLeast, times, value, "x")
            }
            Kind::Within { times, of } => {
                let other = best(&|name| of.has(name))?;
                let value = median(&paired_quotients(ours.ns, other.ns))?;
                bound(format!("over {}", other.contender), Side::AtMost, times, value, "x")
            }
            Kind::Adds { part, nanoseconds, to } => {
                let other = best(&|name| name == to)?;
                let pairs = ours.ns.iter().zip(other.ns).filter_map(|(ours, other)| ours.zip(*other));
                let added: Vec<_> = pairs.map(|(ours, other)| ours - other).collect();
                let most = (part * other.median()?).max(nanoseconds);
                bound(format!("adds to {to}"), Side::AtMost, most, median(&added)?, "ns")
            }
            Kind::Shares { part } => {
                let value = median(ours.shares)?;
                bound("least lucky producer".to_owned(), Side::AtLeast, part, value, "of a fair share")
            }
        }
    }
}

const EITHER: &[&str] = &[OURS, DENSE];
const OF_MANY: &[&str] = &[MULTI];

pub(super) fn ping_pong() -> Vec<Claim> {
    vec![
        Claim::new(&[OURS], Kind::Within { times: 1.4, of: Others::These(&[FLOOR]) }),
        Claim::as_fast(&[OURS], 1.0, Others::Rivals),
    ]
}

/// One event at a time, handlers that only read.
pub(super) fn one_to_one(width: Width, capacity: usize) -> Vec<Claim> {
    let over_disruptor = match (width, capacity) {
        (Width::One, _) => 1.0,
        (Width::Eight, SMALL) => 1.2,
        (Width::Eight, _) => 1.5,
        (Width::Fifteen, _) => return Vec::new(),
    };
    vec![
        Claim::as_fast(EITHER, over_disruptor, Others::These(&[DISRUPTOR])),
        Claim::as_fast(EITHER, 0.95, Others::Rivals),
    ]
}

pub(super) fn batches() -> Vec<Claim> {
    vec![Claim::as_fast(EITHER, 0.95, Others::These(&[DISRUPTOR, RTRB_CHUNKS]))]
}

pub(super) fn multi_producer() -> Vec<Claim> {
    vec![
        Claim::as_fast(OF_MANY, 1.5, Others::These(&[DISRUPTOR_MULTI])),
        Claim::as_fast(OF_MANY, 0.95, Others::These(&[ARRAY_QUEUE, CROSSFIRE_MPSC])),
    ]
}

pub(super) fn full_ring() -> Vec<Claim> {
    vec![Claim::new(EITHER, Kind::Adds { part: 0.1, nanoseconds: 5.0, to: ALONE })]
}

/// At so many per cent of saturation, with the layout that is the faster one at full speed.
/// Lingering is for full speed: up to half of it, it is not to be noticed.
pub(super) fn latency(percent: u32) -> Vec<Claim> {
    let mut claims = vec![Claim::as_fast(&[DENSE], 1.0, Others::Rivals)];
    if percent <= 50 {
        claims.push(Claim::new(&[OURS], Kind::Within { times: 1.05, of: Others::These(&[NO_LINGER]) }));
    }
    claims
}

pub(super) fn broadcast() -> Vec<Claim> {
    vec![
        Claim::as_fast(EITHER, 2.0, Others::These(&[TOKIO])),
        Claim::as_fast(EITHER, 1.0, Others::These(&[DISRUPTOR])),
    ]
}

pub(super) fn fairness() -> Vec<Claim> {
    vec![Claim::new(OF_MANY, Kind::Shares { part: 0.5 })]
}

pub(super) fn pool() -> Vec<Claim> {
    vec![Claim::as_fast(&[OURS], 0.8, Others::These(&[CROSSBEAM_CHANNEL]))]
}

/// About p99.9, the second row.
pub(super) fn churn() -> Vec<Claim> {
    let kind = Kind::Within { times: 2.0, of: Others::These(&[OURS]) };
    vec![Claim { row: Some(1), ..Claim::new(&[CHURNING], kind) }]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(claim: Claim, all: &[(&'static str, &[f64])]) -> Option<Bound> {
        let rounds: Vec<Vec<_>> = all.iter().map(|(_, ns)| ns.iter().copied().map(Some).collect()).collect();
        let figures: Vec<_> = all
            .iter()
            .zip(&rounds)
            .map(|(&(contender, _), ns)| Figures { contender, ns, shares: &[0.4] })
            .collect();
        claim.judge("case", &figures)
    }

    #[test]
    fn the_best_of_ours_meets_the_best_of_the_others() {
        let all: [(_, &[f64]); 4] = [
            (OURS, &[30.0, 40.0]),
            (DENSE, &[10.0, 20.0]),
            (DISRUPTOR, &[15.0, 30.0]),
            ("rtrb", &[9.0, 18.0]),
        ];
        let [disruptor, fastest] = one_to_one(Width::Eight, SMALL)[..] else { panic!("two claims") };
        let bound = judge(disruptor, &all).expect("both were there");
        assert!(bound.met && (bound.value, bound.bound) == (1.5, 1.2), "{bound:?}");
        let bound = judge(fastest, &all).expect("both were there");
        assert!(!bound.met && bound.value == 0.9 && bound.name.contains("rtrb"), "{bound:?}");
        assert!(judge(fastest, &all[..2]).is_none(), "no rival, no bound");
        assert!(judge(fastest, &all[2..]).is_none());
    }

    #[test]
    fn a_full_ring_may_add_a_tenth_or_five_nanoseconds() {
        let [claim] = full_ring()[..] else { panic!("one claim") };
        for (ours, alone, met) in
            [(24.0, 20.0, true), (26.0, 20.0, false), (109.0, 100.0, true), (111.0, 100.0, false)]
        {
            let bound = judge(claim, &[(OURS, &[ours]), (ALONE, &[alone])]).expect("both were there");
            assert_eq!(bound.met, met, "{bound:?}");
        }
    }

    #[test]
    fn the_floor_and_the_shares_bound_too() {
        let all: [(_, &[f64]); 2] = [(OURS, &[150.0]), (FLOOR, &[100.0])];
        let [floor, rivals] = ping_pong()[..] else { panic!("two claims") };
        assert!(judge(floor, &all).is_some_and(|bound| !bound.met && bound.value == 1.5));
        assert!(judge(rivals, &all).is_none(), "the floor is no rival");
        let shares = judge(fairness()[0], &[(MULTI, &[1.0])]).expect("ours was there");
        assert!(!shares.met && shares.value == 0.4);
        let churn = churn()[0];
        assert!(churn.is_about(1) && !churn.is_about(0));
        assert!(judge(churn, &[(OURS, &[100.0]), (CHURNING, &[190.0])]).is_some_and(|bound| bound.met));
    }
}
