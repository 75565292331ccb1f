//! The cases of `compare` and `topology`: what is measured under which name, and who takes part.
//!
//! A case is a name, a setup and a list of contenders; a new one is a line here. Names are what
//! `--only` looks at, so they are made of words that one would type, without commas, which stand
//! between the words of a list.

use std::time::Duration;

use super::bounds::{self, Claim};
use super::channel::{LARGE, SMALL, Setup, Shape, Width};
use super::contenders::{self, Contender};
use super::event::Work;

/// What is measured for each event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Measure {
    /// Its time when nothing but back-pressure holds senders up.
    Time,
    /// How long after it was due it is handled, at this part of what ours manages.
    Latency { part: f64 },
    /// How long the call takes that publishes it.
    Call,
}

impl Measure {
    /// The percentiles that are taken of it.
    pub(super) fn quantiles(self) -> &'static [(&'static str, f64)] {
        match self {
            Self::Time => &[],
            Self::Latency { .. } => &[("p50", 0.5), ("p99", 0.99)],
            Self::Call => &[("p50", 0.5), ("p99.9", 0.999)],
        }
    }
}

/// Contenders that are compared with each other.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) setup: Setup,
    pub(super) measure: Measure,
    /// The first is the one that the others are compared with.
    pub(super) contenders: Vec<Contender>,
    /// What ours is held to.
    pub(super) claims: Vec<Claim>,
    /// How many times longer its sections last than others'.
    pub(super) stretch: u32,
}

impl Case {
    fn new(name: impl Into<String>, setup: Setup, contenders: Vec<Contender>) -> Self {
        Self { name: name.into(), setup, measure: Measure::Time, contenders, claims: Vec::new(), stretch: 1 }
    }

    fn held_to(self, claims: impl Into<Vec<Claim>>) -> Self {
        Self { claims: claims.into(), ..self }
    }

    fn stretched(self, stretch: u32) -> Self {
        Self { stretch, ..self }
    }

    fn measuring(self, measure: Measure) -> Self {
        Self { measure, ..self }
    }

    /// The names of its rows.
    pub(super) fn rows(&self) -> Vec<String> {
        match self.measure.quantiles() {
            [] => vec![self.name.clone()],
            quantiles => quantiles.iter().map(|(what, _)| format!("{} {what}", self.name)).collect(),
        }
    }
}

/// The cases of `compare`; with `full`, every handler with every size.
pub(super) fn compare(full: bool, named: Option<&[usize]>) -> Vec<Case> {
    let setup = Setup::new(Width::Eight, SMALL, named);
    let ping_pong = Case::new("ping-pong 56 B 1024", setup, contenders::ping_pong());
    let mut cases = vec![ping_pong.held_to(bounds::ping_pong())];
    one_at_a_time(&mut cases, full, named);
    for width in [Width::One, Width::Eight] {
        for capacity in [SMALL, LARGE] {
            let setup = Setup { batch: 64, ..Setup::new(width, capacity, named) };
            let name = format!("one-to-one {} B {capacity} batches of 64", width.bytes());
            cases.push(Case::new(name, setup, contenders::batches()).held_to(bounds::batches()));
        }
    }
    for senders in [1, 2] {
        let setup = Setup::of(Width::Eight, LARGE, senders, Shape::Beside(1), named);
        let name = format!("multi-producer {senders} to 1 64 B 65536");
        cases.push(Case::new(name, setup, contenders::multi_producer()).held_to(bounds::multi_producer()));
    }
    for handler in [20, 100, 1_000] {
        let setup = Setup { work: work(handler), ..Setup::new(Width::Eight, SMALL, named) };
        let name = format!("full ring 64 B 1024 handler {handler} ns");
        cases.push(Case::new(name, setup, contenders::full_ring()).held_to(bounds::full_ring()));
    }
    for percent in [10, 50, 80] {
        let setup = Setup::new(Width::Eight, SMALL, named);
        let name = format!("latency at {percent} % of saturation 64 B 1024");
        let measure = Measure::Latency { part: f64::from(percent) / 100.0 };
        let case = Case::new(name, setup, contenders::paced()).measuring(measure);
        cases.push(case.held_to(bounds::latency(percent)));
    }
    for (receivers, name) in [(2, "one-to-two"), (3, "one-to-three")] {
        let setup = Setup::of(Width::Eight, SMALL, 1, Shape::Beside(receivers), named);
        let case = Case::new(format!("broadcast {name} 64 B 1024"), setup, contenders::broadcast());
        cases.push(case.held_to(bounds::broadcast()));
    }
    let setup = Setup::of(Width::Eight, LARGE, 4, Shape::Beside(1), named);
    let fairness = Case::new("four producers fairness 64 B 65536", setup, contenders::fairness());
    // Two seconds: four threads take turns of some milliseconds on a core that they share, and
    // shares are to even out.
    cases.push(fairness.stretched(10).held_to(bounds::fairness()));
    let setup = Setup::of(Width::Eight, SMALL, 4, Shape::Beside(3), named);
    let pool = Case::new("pool: four producers to three workers 64 B 1024", setup, contenders::pools());
    cases.push(pool.held_to(bounds::pool()));
    let setup = Setup::new(Width::Eight, SMALL, named);
    let churn = Case::new("churn: a publish call 64 B 1024", setup, contenders::churn());
    cases.push(churn.measuring(Measure::Call).held_to(bounds::churn()));
    cases
}

fn one_at_a_time(cases: &mut Vec<Case>, full: bool, named: Option<&[usize]>) {
    for width in [Width::One, Width::Eight, Width::Fifteen] {
        for capacity in [SMALL, LARGE] {
            for handler in [0, 20, 100] {
                if handler == 0 || full || width == Width::Eight {
                    let setup = Setup { work: work(handler), ..Setup::new(width, capacity, named) };
                    let bytes = width.bytes();
                    let name = format!("one-to-one {bytes} B {capacity} one at a time handler {handler} ns");
                    let claims = if handler == 0 { bounds::one_to_one(width, capacity) } else { Vec::new() };
                    cases.push(Case::new(name, setup, contenders::one_to_one(width)).held_to(claims));
                }
            }
        }
    }
}

/// The cases of `topology`: the shapes in which the disruptor's authors measure theirs.
pub(super) fn topology(named: Option<&[usize]>) -> Vec<Case> {
    let shapes = [
        ("unicast 1P-1C", 1, Shape::Beside(1)),
        ("pipeline 1P-1C-1C-1C", 1, Shape::Pipeline(3)),
        ("sequencer 3P-1C", 3, Shape::Beside(1)),
        ("multicast 1P-3C", 1, Shape::Beside(3)),
        ("diamond 1P-2C-1C", 1, Shape::Diamond),
    ];
    let case = |(name, senders, shape)| {
        let setup = Setup::of(Width::Eight, LARGE, senders, shape, named);
        Case::new(name, setup, contenders::graphs())
    };
    shapes.map(case).into()
}

fn work(nanoseconds: u64) -> Work {
    Work::lasting(Duration::from_nanos(nanoseconds))
}

/// Leaves what a list of words asks for: cases with a word in their name, whole; of other cases the
/// contenders with a word in theirs, beside the one that they are compared with. A word that
/// nothing has is handed back.
pub(super) fn select(cases: Vec<Case>, words: &[String]) -> Result<Vec<Case>, String> {
    let has = |name: &str, word: &String| name.to_lowercase().contains(&word.to_lowercase());
    let is_known = |word: &String| {
        cases.iter().any(|case| {
            has(&case.name, word) || case.contenders.iter().any(|contender| has(contender.name, word))
        })
    };
    if let Some(unknown) = words.iter().find(|word| !is_known(word)) {
        return Err(unknown.clone());
    }
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| has(name, word));
    let select = |mut case: Case| {
        if !wanted(&case.name) {
            if !case.contenders.iter().any(|contender| wanted(contender.name)) {
                return None;
            }
            let first = case.contenders[0].name;
            case.contenders.retain(|contender| contender.name == first || wanted(contender.name));
        }
        Some(case)
    };
    Ok(cases.into_iter().filter_map(select).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn names_are_unique_and_ours_comes_first() {
        for cases in [compare(true, None), topology(None)] {
            let mut names: Vec<_> = cases.iter().map(|case| case.name.clone()).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), cases.len());
            assert!(names.iter().all(|name| !name.contains(',')), "{names:?}");
            assert!(cases.iter().all(|case| case.contenders[0].name.starts_with("ringmain")));
        }
        assert!(compare(true, None).len() > compare(false, None).len());
    }

    #[test]
    fn a_word_selects_cases_or_contenders() {
        let chosen = select(compare(false, None), &words(&["Ping-Pong", "handler alone"])).expect("known");
        assert_eq!(chosen.len(), 4);
        assert_eq!(chosen[0].contenders.len(), contenders::ping_pong().len());
        let names: Vec<_> = chosen[1].contenders.iter().map(|contender| contender.name).collect();
        assert_eq!(names, [contenders::OURS, contenders::ALONE]);
        let unknown = select(compare(false, None), &words(&["ping", "nobody"])).map(|cases| cases.len());
        assert_eq!(unknown, Err("nobody".to_owned()));
        let all = select(topology(None), &[]).expect("no word at all");
        assert_eq!(all.len(), 5);
    }
}
