//! Reads a scenario back from the text that the storm has written of it, perhaps changed by hand since.
//!
//! The program itself has looked at the text before: what it takes, and the storm never writes, is a panic here.

use std::collections::BTreeSet;
use std::sync::Mutex;

use toml::{Table, Value};

use super::scenario::*;

/// The scenario of a text.
pub(crate) fn read(text: &str) -> Scenario {
    let table: Table = toml::from_str(text).expect("TOML");
    let subscriptions = tables(&table, "subscription");
    let place = |name: &str| {
        let place = subscriptions.iter().position(|table| word(&table["name"]) == name);
        place.expect("a subscription of that name")
    };
    Scenario {
        seed: table.get("seed").map_or(1, number),
        store: table.get("dead_letters").map(|store| number(&store["messages"]) as usize),
        is_rescuable: table.get("rescuable").is_some_and(|told| told.as_bool() == Some(true)),
        subscriptions: subscriptions.iter().map(|table| subscription(table)).collect(),
        steps: tables(&table, "step").into_iter().map(|table| step(table, &place)).collect(),
    }
}

fn tables<'t>(table: &'t Table, name: &str) -> Vec<&'t Table> {
    let tables = table.get(name).and_then(Value::as_array).into_iter().flatten();
    tables.map(|table| table.as_table().expect("a table")).collect()
}

fn number(value: &Value) -> u64 {
    value.as_integer().and_then(|number| u64::try_from(number).ok()).expect("a whole number")
}

fn word(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// A text that lives as long as the program, as those of the generator do. Kept where a leak detector finds it.
fn kept(value: &Value) -> &'static str {
    static KEPT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut kept = KEPT.lock().expect("nobody panics");
    if let Some(text) = kept.get(word(value)) {
        return text;
    }
    let text: &'static str = Box::leak(word(value).to_owned().into_boxed_str());
    kept.insert(text);
    text
}

fn per_cent(value: &Value) -> u32 {
    (value.as_float().expect("a share") * 100.0).round() as u32
}

fn time(value: &Value) -> Nanos {
    duration(word(value))
}

fn duration(text: &str) -> Nanos {
    let end = text.find(|digit: char| !digit.is_ascii_digit()).expect("a unit");
    let units = [("s", 1_000_000_000), ("ms", MILLI), ("us", 1_000), ("ns", 1)];
    let unit = units.into_iter().find(|(name, _)| *name == &text[end..]).expect("a unit").1;
    text[..end].parse::<u64>().expect("a whole number") * unit
}

fn subscription(table: &Table) -> Subscription {
    let patterns = table["patterns"].as_array().expect("patterns").iter().map(kept).collect();
    Subscription {
        patterns,
        filter: table.get("filter").map(|filter| match filter.get("priority_at_least") {
            Some(least) => Filter::AtLeast(priority(least)),
            None => Filter::Region(kept(&filter["is"])),
        }),
        idempotent: table.get("idempotent").map(|form| Idempotent {
            by: key_by(&form["by"]),
            keys: form.get("keys").map_or(10_000, number) as usize,
            lasts: form.get("for").map_or(120_000 * MILLI, time),
            may_lose: form.get("may_lose").and_then(Value::as_bool).unwrap_or_default(),
        }),
        retry: table.get("retry").and_then(Value::as_table).map(retry),
        breaker: table.get("breaker").and_then(Value::as_table).map(breaker),
        backlog: table.get("backlog").and_then(Value::as_table).map(|backlog| Backlog {
            messages: number(&backlog["messages"]) as usize,
            when_full: backlog.get("when_full").map(|policy| match word(policy) {
                "dead-letter" => WhenFull::DeadLetter,
                "drop-oldest" => WhenFull::DropOldest,
                _ => WhenFull::DropNewest,
            }),
            conflate_by: backlog.get("conflate_by").map(key_by),
        }),
        manual: table.get("manual").map(|manual| Manual {
            in_flight: manual.get("in_flight").map_or(1, number) as usize,
            limit: manual.get("limit").map_or(30_000 * MILLI, time),
        }),
        time_limit: table.get("time_limit").map(time),
        handler: table.get("handler").and_then(Value::as_table).map(handler).unwrap_or_default(),
    }
}

fn priority(value: &Value) -> Priority {
    match word(value) {
        "low" => Priority::Low,
        "high" => Priority::High,
        _ => Priority::Normal,
    }
}

fn key_by(value: &Value) -> KeyBy {
    match word(value) {
        "id" => KeyBy::Id,
        "topic" => KeyBy::Topic,
        _ => KeyBy::Header,
    }
}

fn retry(table: &Table) -> Retry {
    let factor = table.get("factor").and_then(Value::as_float);
    Retry {
        attempts: table.get("attempts").map_or(5, number) as u16,
        delay: table.get("delay").map_or(50 * MILLI, time),
        schedule: match (table.get("schedule").map(word), factor) {
            (Some("linear"), _) => Schedule::Linear,
            (Some("exponential"), factor) => Schedule::Exponential(factor.unwrap_or(2.0) as u32),
            (None, Some(factor)) => Schedule::Exponential(factor as u32),
            _ => Schedule::Constant,
        },
        cap: table.get("cap").map(time),
        jitter: match table.get("jitter").map(word) {
            Some("full") => Jitter::Full,
            Some("decorrelated") => Jitter::Decorrelated,
            _ => Jitter::None,
        },
        in_order: table.get("in_order").and_then(Value::as_bool).unwrap_or_default(),
        max_elapsed: table.get("max_elapsed").map(time),
    }
}

fn breaker(table: &Table) -> Breaker {
    let rate = table.get("rate").map(|rate| {
        let or = |name, default| table.get(name).map_or(default, |value| number(value) as u32);
        (per_cent(rate), or("window", 100), or("minimum", 20))
    });
    let open = table.get("open").map_or(1_000 * MILLI, time);
    Breaker {
        consecutive: table.get("consecutive").map(|failures| number(failures) as u32),
        rate,
        open,
        cap: table.get("cap").map_or(open.max(60_000 * MILLI), time),
        is_exact: table.get("jitter").and_then(Value::as_float) == Some(0.0),
        probes: table.get("probes").map_or(3, |probes| number(probes) as u32),
        while_open: match table.get("while_open").map(word) {
            Some("dead-letter") => WhileOpen::DeadLetter,
            Some("refuse") => WhileOpen::Refuse,
            _ => WhileOpen::Pause,
        },
    }
}

fn handler(table: &Table) -> Handler {
    Handler {
        takes: table.get("takes").map_or(0, time),
        fails: table.get("fails").map(fails).unwrap_or_default(),
        fails_as: table.get("as").map(|form| fails_as(word(form))).unwrap_or_default(),
    }
}

fn fails(value: &Value) -> Fails {
    match value {
        Value::String(form) if form == "always" => Fails::Always,
        Value::String(form) if form == "odd" => Fails::Odd,
        Value::Table(table) => match (table.get("first"), table.get("rate"), table.get("numbers")) {
            (Some(first), ..) => Fails::First(number(first) as u16),
            (_, Some(rate), _) => Fails::Rate(per_cent(rate)),
            (.., numbers) => {
                let numbers = numbers.and_then(Value::as_array).into_iter().flatten().map(number).collect();
                Fails::Numbers(numbers, table.get("attempts").map_or(u64::from(u16::MAX), number) as u16)
            }
        },
        _ => Fails::Never,
    }
}

fn fails_as(form: &str) -> FailsAs {
    match form {
        "permanent" => FailsAs::Permanent,
        "panic" => FailsAs::Panic,
        form => match form.strip_prefix("retry-after:") {
            Some(delay) => FailsAs::RetryAfter(duration(delay)),
            None => FailsAs::Error,
        },
    }
}

fn step(table: &Table, place: &dyn Fn(&str) -> usize) -> Step {
    let (kind, value) = table.iter().next().expect("a step does something");
    let field = |name: &str| value.get(name);
    let of = || place(field("of").map_or_else(|| word(value), word));
    match kind.as_str() {
        "publish" => Step::Publish(Publish {
            topic: kept(&value["topic"]),
            count: field("count").map_or(1, number),
            every: field("every").map(time),
            ttl: field("ttl").map(time),
            region: field("headers").and_then(|headers| headers.get("region")).map(kept),
            keys: field("headers").and_then(|headers| headers.get("key")).map(|key| {
                let most = word(key).strip_prefix("{n%").and_then(|key| key.strip_suffix('}'));
                most.and_then(|most| most.parse().ok()).expect("a key like {n%3}")
            }),
            priority: field("priority").map(priority),
        }),
        "advance" => Step::Advance(time(value)),
        "pause" => Step::Pause(of()),
        "resume" => Step::Resume(of()),
        "unsubscribe" => Step::Unsubscribe(of()),
        "breaker" => match word(&value["to"]) {
            "open" => Step::Breaker(of(), Force::Open),
            "closed" => Step::Breaker(of(), Force::Closed),
            _ => Step::Breaker(of(), Force::Reset),
        },
        "handler" => {
            let Handler { fails, fails_as, .. } = handler(value.as_table().expect("a table"));
            Step::Handler(of(), fails, fails_as)
        }
        "replay" => Step::Replay(of(), field("rate").map_or(1_000, |rate| number(rate) as u32)),
        "settle" => Step::Settle(
            of(),
            field("count").map_or(1, number) as usize,
            match word(&value["as"]) {
                "ack" => SettledAs::Ack,
                "fail" => SettledAs::Fail,
                _ => SettledAs::Forget,
            },
        ),
        "shutdown" => Step::Shutdown,
        other => panic!("the storm knows no step {other}"),
    }
}
