//! A scenario as the storm makes and judges it: its own form, beside that of the program, and its text.

use std::fmt;

/// Nanoseconds.
pub(crate) type Nanos = u64;
pub(crate) const MILLI: Nanos = 1_000_000;

/// The topics of all scenarios.
pub(crate) const TOPICS: [&str; 5] = ["a.b", "a.c", "a.b.c", "d", "d.{n%3}"];

#[derive(Clone, Debug, Default)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    /// How many letters the store holds, if there is one.
    pub(crate) store: Option<usize>,
    /// Whether handlers are called with copies, which is to change nothing.
    pub(crate) is_rescuable: bool,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Subscription {
    pub(crate) patterns: Vec<&'static str>,
    pub(crate) filter: Option<Filter>,
    pub(crate) idempotent: Option<Idempotent>,
    pub(crate) retry: Option<Retry>,
    pub(crate) breaker: Option<Breaker>,
    pub(crate) backlog: Option<Backlog>,
    /// Where its handler keeps messages: it does nothing else then.
    pub(crate) manual: Option<Manual>,
    /// Of each call.
    pub(crate) time_limit: Option<Nanos>,
    pub(crate) handler: Handler,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Filter {
    /// What the header `region` has to be.
    Region(&'static str),
    AtLeast(Priority),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub(crate) enum Priority {
    Low,
    #[default]
    Normal,
    High,
}

/// What tells messages apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum KeyBy {
    Id,
    Topic,
    /// The header `key`.
    Header,
}

#[derive(Clone, Debug)]
pub(crate) struct Idempotent {
    pub(crate) by: KeyBy,
    pub(crate) keys: usize,
    /// For how long a key is remembered.
    pub(crate) lasts: Nanos,
    pub(crate) may_lose: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Manual {
    pub(crate) in_flight: usize,
    pub(crate) limit: Nanos,
}

#[derive(Clone, Debug)]
pub(crate) struct Retry {
    pub(crate) attempts: u16,
    pub(crate) delay: Nanos,
    pub(crate) schedule: Schedule,
    pub(crate) cap: Option<Nanos>,
    pub(crate) jitter: Jitter,
    pub(crate) in_order: bool,
    pub(crate) max_elapsed: Option<Nanos>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Schedule {
    Constant,
    Linear,
    /// By this factor.
    Exponential(u32),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Jitter {
    None,
    Full,
    Decorrelated,
}

#[derive(Clone, Debug)]
pub(crate) struct Breaker {
    pub(crate) consecutive: Option<u32>,
    /// Per cent of a window of calls, from a least number of them on.
    pub(crate) rate: Option<(u32, u32, u32)>,
    pub(crate) open: Nanos,
    pub(crate) cap: Nanos,
    pub(crate) is_exact: bool,
    pub(crate) probes: u32,
    pub(crate) while_open: WhileOpen,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum WhileOpen {
    Pause,
    DeadLetter,
    Refuse,
}

impl Subscription {
    /// Whether what waits gives way to what comes.
    pub(crate) fn gives_way(&self) -> bool {
        self.backlog.as_ref().is_some_and(|backlog| backlog.when_full == Some(WhenFull::DropOldest))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Backlog {
    pub(crate) messages: usize,
    pub(crate) when_full: Option<WhenFull>,
    pub(crate) conflate_by: Option<KeyBy>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum WhenFull {
    DeadLetter,
    DropOldest,
    DropNewest,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Handler {
    pub(crate) takes: Nanos,
    pub(crate) fails: Fails,
    pub(crate) fails_as: FailsAs,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Fails {
    #[default]
    Never,
    Always,
    Odd,
    First(u16),
    Numbers(Vec<u64>, u16),
    /// So many per cent of all calls.
    Rate(u32),
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum FailsAs {
    #[default]
    Error,
    Permanent,
    Panic,
    RetryAfter(Nanos),
}

/// A step. Subscriptions are meant by their place.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Publish(Publish),
    Advance(Nanos),
    Pause(usize),
    Resume(usize),
    Unsubscribe(usize),
    Breaker(usize, Force),
    Handler(usize, Fails, FailsAs),
    /// At so many a second.
    Replay(usize, u32),
    /// So many tokens, from the oldest.
    Settle(usize, usize, SettledAs),
    Shutdown,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum SettledAs {
    Ack,
    Fail,
    Forget,
}

#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub(crate) topic: &'static str,
    pub(crate) count: u64,
    pub(crate) every: Option<Nanos>,
    pub(crate) ttl: Option<Nanos>,
    pub(crate) region: Option<&'static str>,
    /// The header `key` counts up to this.
    pub(crate) keys: Option<u64>,
    pub(crate) priority: Option<Priority>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Force {
    Open,
    Closed,
    Reset,
}

impl Scenario {
    /// Whether each call can be told to have come before a step or after it: where chance draws the moments, some time
    /// passes before each step that changes what may come.
    pub(crate) fn is_clear(&self) -> bool {
        let is_drawn = |subscription: &Subscription| {
            subscription.retry.as_ref().is_some_and(|retry| retry.jitter != Jitter::None)
                || subscription.breaker.as_ref().is_some_and(|breaker| !breaker.is_exact)
        };
        let follows_time = |pair: &[Step]| {
            matches!(pair[1], Step::Publish(_) | Step::Advance(_)) || matches!(pair[0], Step::Advance(_))
        };
        !self.subscriptions.iter().any(is_drawn) || self.steps.windows(2).all(follows_time)
    }
}

impl Step {
    /// The subscription that it is about, if it is about one.
    pub(crate) fn of(&mut self) -> Option<&mut usize> {
        match self {
            Self::Pause(of)
            | Self::Resume(of)
            | Self::Unsubscribe(of)
            | Self::Breaker(of, _)
            | Self::Handler(of, ..)
            | Self::Settle(of, ..)
            | Self::Replay(of, _) => Some(of),
            Self::Publish(_) | Self::Advance(_) | Self::Shutdown => None,
        }
    }
}

/// What `{n%3}` and the like stand for.
pub(crate) fn filled(template: &str, n: u64) -> String {
    match template.split_once("{n%") {
        None => template.to_owned(),
        Some((before, rest)) => {
            let (divisor, after) = rest.split_once('}').expect("a hole ends");
            format!("{before}{}{after}", n % divisor.parse::<u64>().expect("a number"))
        }
    }
}

/// The name of a subscription.
pub(crate) fn name(of: usize) -> String {
    format!("s{of}")
}

/// A duration in the unit that takes the fewest digits.
struct Time(Nanos);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_000_000_000, "s"), (MILLI, "ms"), (1_000, "us"), (1, "ns")];
        let fits = units.into_iter().find(|(unit, _)| self.0.is_multiple_of(*unit));
        let (unit, name) = fits.expect("each is a multiple of 1");
        write!(f, "\"{}{name}\"", self.0 / unit)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed = {}", self.seed)?;
        if let Some(messages) = self.store {
            writeln!(f, "dead_letters = {{ messages = {messages} }}")?;
        }
        if self.is_rescuable {
            writeln!(f, "rescuable = true")?;
        }
        for (place, subscription) in self.subscriptions.iter().enumerate() {
            writeln!(f, "\n[[subscription]]\nname = \"{}\"\n{subscription}", name(place))?;
        }
        self.steps.iter().try_for_each(|step| writeln!(f, "[[step]]\n{step}"))
    }
}

impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "patterns = {:?}", self.patterns)?;
        match self.filter {
            Some(Filter::Region(region)) => {
                writeln!(f, "filter = {{ header = \"region\", is = \"{region}\" }}")?;
            }
            Some(Filter::AtLeast(least)) => writeln!(f, "filter = {{ priority_at_least = {least} }}")?,
            None => {}
        }
        if let Some(Idempotent { by, keys, lasts, may_lose }) = &self.idempotent {
            let lasts = Time(*lasts);
            writeln!(f, "idempotent = {{ by = {by}, keys = {keys}, for = {lasts}, may_lose = {may_lose} }}")?;
        }
        if let Some(retry) = &self.retry {
            writeln!(f, "retry = {{ {} }}", fields(&retry.fields()))?;
        }
        if let Some(breaker) = &self.breaker {
            writeln!(f, "breaker = {{ {} }}", fields(&breaker.fields()))?;
        }
        if let Some(Backlog { messages, when_full, conflate_by }) = &self.backlog {
            let policy = when_full.map(|policy| match policy {
                WhenFull::DeadLetter => "\"dead-letter\"".to_owned(),
                WhenFull::DropOldest => "\"drop-oldest\"".to_owned(),
                WhenFull::DropNewest => "\"drop-newest\"".to_owned(),
            });
            let key = conflate_by.map(|key| key.to_string());
            let backlog =
                [("messages", Some(messages.to_string())), ("when_full", policy), ("conflate_by", key)];
            writeln!(f, "backlog = {{ {} }}", fields(&backlog))?;
        }
        if let Some(Manual { in_flight, limit }) = self.manual {
            return writeln!(f, "manual = {{ in_flight = {in_flight}, limit = {} }}", Time(limit));
        }
        if let Some(limit) = self.time_limit {
            writeln!(f, "time_limit = {}", Time(limit))?;
        }
        let Handler { takes, fails, fails_as } = &self.handler;
        let takes = (*takes > 0).then(|| Time(*takes).to_string());
        let handler =
            [("takes", takes), ("fails", Some(fails.to_string())), ("as", Some(fails_as.to_string()))];
        writeln!(f, "handler = {{ {} }}", fields(&handler))
    }
}

/// A field's name, and its value if it is there.
type Field = (&'static str, Option<String>);

/// The fields of a table that are there.
fn fields(fields: &[Field]) -> String {
    let given = fields.iter().filter_map(|(name, value)| Some(format!("{name} = {}", value.as_ref()?)));
    given.collect::<Vec<_>>().join(", ")
}

fn time(time: Option<Nanos>) -> Option<String> {
    time.map(|time| Time(time).to_string())
}

impl Retry {
    fn fields(&self) -> [Field; 8] {
        let (schedule, factor) = match self.schedule {
            Schedule::Constant => ("\"constant\"", None),
            Schedule::Linear => ("\"linear\"", None),
            Schedule::Exponential(factor) => ("\"exponential\"", Some(format!("{factor}.0"))),
        };
        let jitter = match self.jitter {
            Jitter::None => "\"none\"",
            Jitter::Full => "\"full\"",
            Jitter::Decorrelated => "\"decorrelated\"",
        };
        [
            ("attempts", Some(self.attempts.to_string())),
            ("delay", time(Some(self.delay))),
            ("schedule", Some(schedule.to_owned())),
            ("factor", factor),
            ("cap", time(self.cap)),
            ("jitter", Some(jitter.to_owned())),
            ("in_order", Some(self.in_order.to_string())),
            ("max_elapsed", time(self.max_elapsed)),
        ]
    }
}

impl Breaker {
    fn fields(&self) -> [Field; 9] {
        let while_open = match self.while_open {
            WhileOpen::Pause => "\"pause\"",
            WhileOpen::DeadLetter => "\"dead-letter\"",
            WhileOpen::Refuse => "\"refuse\"",
        };
        [
            ("consecutive", self.consecutive.map(|failures| failures.to_string())),
            ("rate", self.rate.map(|(share, ..)| format!("{:?}", f64::from(share) / 100.0))),
            ("window", self.rate.map(|(_, window, _)| window.to_string())),
            ("minimum", self.rate.map(|(.., minimum)| minimum.to_string())),
            ("open", time(Some(self.open))),
            ("cap", time(Some(self.cap))),
            ("jitter", Some(if self.is_exact { "0.0" } else { "0.1" }.to_owned())),
            ("probes", Some(self.probes.to_string())),
            ("while_open", Some(while_open.to_owned())),
        ]
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "\"low\"",
            Self::Normal => "\"normal\"",
            Self::High => "\"high\"",
        })
    }
}

impl fmt::Display for KeyBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Id => "\"id\"",
            Self::Topic => "\"topic\"",
            Self::Header => "\"header:key\"",
        })
    }
}

impl fmt::Display for Fails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("\"never\""),
            Self::Always => f.write_str("\"always\""),
            Self::Odd => f.write_str("\"odd\""),
            Self::First(attempts) => write!(f, "{{ first = {attempts} }}"),
            Self::Numbers(numbers, attempts) => {
                write!(f, "{{ numbers = {numbers:?}, attempts = {attempts} }}")
            }
            Self::Rate(share) => write!(f, "{{ rate = {:?} }}", f64::from(*share) / 100.0),
        }
    }
}

impl fmt::Display for FailsAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error => f.write_str("\"error\""),
            Self::Permanent => f.write_str("\"permanent\""),
            Self::Panic => f.write_str("\"panic\""),
            Self::RetryAfter(delay) => {
                let delay = Time(*delay).to_string();
                write!(f, "\"retry-after:{}\"", delay.trim_matches('"'))
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish(Publish { topic, count, every, ttl, region, keys, priority }) => {
                let region = region.map(|region| format!("region = \"{region}\""));
                let key = keys.map(|keys| format!("key = \"{{n%{keys}}}\""));
                let headers: Vec<_> = region.into_iter().chain(key).collect();
                let publish = [
                    ("topic", Some(format!("\"{topic}\""))),
                    ("count", Some(count.to_string())),
                    ("every", time(*every)),
                    ("ttl", time(*ttl)),
                    ("priority", priority.map(|priority| priority.to_string())),
                    ("headers", (!headers.is_empty()).then(|| format!("{{ {} }}", headers.join(", ")))),
                ];
                write!(f, "publish = {{ {} }}", fields(&publish))
            }
            Self::Advance(by) => write!(f, "advance = {}", Time(*by)),
            Self::Pause(of) => write!(f, "pause = \"{}\"", name(*of)),
            Self::Resume(of) => write!(f, "resume = \"{}\"", name(*of)),
            Self::Unsubscribe(of) => write!(f, "unsubscribe = \"{}\"", name(*of)),
            Self::Breaker(of, force) => {
                let to = match force {
                    Force::Open => "open",
                    Force::Closed => "closed",
                    Force::Reset => "reset",
                };
                write!(f, "breaker = {{ of = \"{}\", to = \"{to}\" }}", name(*of))
            }
            Self::Handler(of, fails, fails_as) => {
                write!(f, "handler = {{ of = \"{}\", fails = {fails}, as = {fails_as} }}", name(*of))
            }
            Self::Replay(of, rate) => write!(f, "replay = {{ of = \"{}\", rate = {rate} }}", name(*of)),
            Self::Settle(of, count, settled_as) => {
                let settled_as = match settled_as {
                    SettledAs::Ack => "ack",
                    SettledAs::Fail => "fail",
                    SettledAs::Forget => "forget",
                };
                let of = name(*of);
                write!(f, "settle = {{ of = \"{of}\", count = {count}, as = \"{settled_as}\" }}")
            }
            Self::Shutdown => f.write_str("shutdown = \"1s\""),
        }
    }
}
