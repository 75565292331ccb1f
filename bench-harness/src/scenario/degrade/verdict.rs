//! Whether the healthy one was hurt: its p99 beside a sick one over that of the controls before and after,
//! round by round.

use crate::stats::Spread;
use crate::units::time;

/// The healthy one's p99 may be so many times that of the control; and two controls may be so far apart.
pub(super) const LIMIT: f64 = 1.5;
/// Fewer messages have no p99 to speak of.
pub(super) const MIN_RECORDED: u64 = 500;

/// The p99 of a section, and of the controls before and after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trio {
    pub(super) p99: f64,
    pub(super) controls: [f64; 2],
}

impl Trio {
    /// The control: between the two, so that a machine that changes on the way is met half-way.
    pub(super) fn control(&self) -> f64 {
        (self.controls[0] * self.controls[1]).sqrt()
    }

    /// How many times the control's it is.
    pub(super) fn ratio(&self) -> f64 {
        self.p99 / self.control()
    }

    /// How many times the lower control the higher one is.
    pub(super) fn apart(&self) -> f64 {
        let [one, other] = self.controls;
        one.max(other) / one.min(other)
    }
}

/// What follows from the rounds of one share.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Judgement {
    Within,
    /// Most rounds exceed the limit, and nothing but the sick one explains it.
    Hurt(String),
    /// Most rounds exceed it, and the machine explains it as well.
    CannotTell(String),
}

/// Judges one share. `noise` is how long the machine stalled a spinning thread in the same rounds, at p99.
pub(super) fn judge(trios: &[Trio], noise: Option<u64>) -> Judgement {
    let above = trios.iter().filter(|trio| trio.ratio() > LIMIT).count();
    if !is_most(above, trios.len()) {
        return Judgement::Within;
    }
    let ratios: Vec<f64> = trios.iter().map(Trio::ratio).collect();
    let median = Spread::of(&ratios).map_or(f64::NAN, |spread| spread.median);
    let rounds = trios.len();
    let what = format!("p99 is {median:.2} times the control's, above {LIMIT} in {above} of {rounds} rounds");
    if disagree(trios) {
        return Judgement::CannotTell(format!("{what}, where the controls are as far apart"));
    }
    let controls: Vec<f64> = trios.iter().map(Trio::control).collect();
    let limit = Spread::of(&controls).map_or(f64::NAN, |spread| LIMIT * spread.median);
    match noise {
        Some(noise) if noise as f64 >= limit => {
            let [noise, limit] = [noise as f64, limit].map(time);
            let why = format!("this machine stalls any thread for {noise} (p99), where the limit is {limit}");
            Judgement::CannotTell(format!("{what}, and {why}"))
        }
        _ => Judgement::Hurt(what),
    }
}

/// Whether the controls of most rounds are further apart than what is judged may be.
pub(super) fn disagree(trios: &[Trio]) -> bool {
    is_most(trios.iter().filter(|trio| trio.apart() > LIMIT).count(), trios.len())
}

fn is_most(some: usize, all: usize) -> bool {
    2 * some > all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trio(p99: f64, before: f64, after: f64) -> Trio {
        Trio { p99, controls: [before, after] }
    }

    #[test]
    fn most_rounds_above_the_limit_are_a_harm_done() {
        let quiet = Some(50);
        let harm = [trio(160.0, 100.0, 100.0), trio(1_000.0, 100.0, 110.0), trio(90.0, 100.0, 100.0)];
        let Judgement::Hurt(why) = judge(&harm, quiet) else { panic!("it was hurt") };
        assert!(why.contains("1.60 times the control's, above 1.5 in 2 of 3 rounds"), "{why}");
        let chance = [trio(160.0, 100.0, 100.0), trio(140.0, 100.0, 100.0), trio(90.0, 100.0, 100.0)];
        assert_eq!(judge(&chance, quiet), Judgement::Within);
        assert_eq!(judge(&chance[..2], quiet), Judgement::Within, "half of the rounds are not most");
        assert_eq!(judge(&[], quiet), Judgement::Within);
    }

    #[test]
    fn where_the_machine_explains_it_nothing_follows() {
        let apart = [trio(400.0, 100.0, 160.0), trio(400.0, 200.0, 100.0), trio(400.0, 100.0, 100.0)];
        assert!(disagree(&apart));
        assert!(matches!(judge(&apart, None), Judgement::CannotTell(why) if why.contains("controls")));
        let harm = [trio(400.0, 100.0, 100.0)];
        assert!(matches!(judge(&harm, Some(149)), Judgement::Hurt(_)));
        assert!(matches!(judge(&harm, Some(150)), Judgement::CannotTell(why) if why.contains("stalls")));
    }

    #[test]
    fn two_controls_are_met_half_way() {
        assert!((trio(200.0, 100.0, 400.0).ratio() - 1.0).abs() < 1e-9);
        assert!((trio(1.0, 100.0, 400.0).apart() - 4.0).abs() < 1e-9);
    }
}
