//! Values that TOML has no type for: durations, names with numbers in them, and how a handler fails.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::input::template::{BoundTemplate, Template};

/// The longest duration: ten years. The engine's clock counts 584.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);
/// The longest text with numbers in it, in bytes. No topic is nearly as long.
const LONGEST_TEMPLATE: usize = 4_096;

/// A duration, written as a whole number and its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time(pub(super) Duration);

impl Time {
    fn parse(text: &str) -> Result<Self, String> {
        let expected = || format!("expected a whole number and one of ns, us, ms, s, m, h, not '{text}'");
        let end = text.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let nanos: u64 = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(expected()),
        };
        if number.is_empty() {
            return Err(expected());
        }
        let time = number.parse::<u64>().ok().and_then(|number| number.checked_mul(nanos));
        match time.map(Duration::from_nanos) {
            Some(time) if time <= LONGEST => Ok(Self(time)),
            _ => Err(format!("'{text}' is longer than ten years, 87600h")),
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a duration as text, such as \"250ms\"";
        deserializer.deserialize_str(Text { expected, parse: Self::parse })
    }
}

/// Has a text parsed.
struct Text<T> {
    expected: &'static str,
    parse: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

/// What tells messages apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyForm {
    Id,
    Topic,
    Header(String),
}

impl KeyForm {
    fn parse(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("header:")) {
            ("id", _) => Ok(Self::Id),
            ("topic", _) => Ok(Self::Topic),
            (_, Some(name)) if !name.is_empty() => Ok(Self::Header(name.to_owned())),
            _ => Err(format!("expected \"id\", \"topic\" or \"header:NAME\", not '{text}'")),
        }
    }
}

impl<'de> Deserialize<'de> for KeyForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "\"id\", \"topic\" or \"header:NAME\"";
        deserializer.deserialize_str(Text { expected, parse: Self::parse })
    }
}

/// A text in which `{n}` is a message's number, and `{n%50}` its rest.
#[derive(Clone, Debug)]
pub(super) struct Numbered {
    template: BoundTemplate,
    /// What the number is divided by for each hole, if it is.
    divisors: Vec<Option<u64>>,
}

impl Numbered {
    fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST_TEMPLATE {
            return Err(format!("longer than {LONGEST_TEMPLATE} bytes"));
        }
        let template = Template::parse(text)?;
        let (mut names, mut divisors) = (Vec::new(), Vec::new());
        loop {
            match template.bind(&names) {
                Ok(template) => return Ok(Self { template, divisors }),
                Err(name) => {
                    divisors.push(Self::divisor(name)?);
                    names.push(name.to_owned());
                }
            }
        }
    }

    fn divisor(hole: &str) -> Result<Option<u64>, String> {
        let unknown = || format!("'{{{hole}}}' is neither '{{n}}' nor such as '{{n%50}}'");
        let rest = hole.strip_prefix('n').ok_or_else(unknown)?;
        let Some(divisor) = rest.strip_prefix('%') else {
            return if rest.is_empty() { Ok(None) } else { Err(unknown()) };
        };
        let divisor = Some(divisor).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
        match divisor.and_then(|digits| digits.parse().ok()) {
            Some(0) | None => Err(unknown()),
            divisor => Ok(divisor),
        }
    }

    /// The text of a message.
    pub(super) fn of(&self, n: u64) -> String {
        let numbers =
            self.divisors.iter().map(|divisor| divisor.map_or(n, |divisor| n % divisor).to_string());
        let numbers: Vec<String> = numbers.collect();
        self.template.fill(&numbers.iter().map(String::as_str).collect::<Vec<_>>()).text
    }
}

impl<'de> Deserialize<'de> for Numbered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_str(Text { expected: "a text, in which {n} is a number", parse: Self::parse })
    }
}

/// Which calls of a handler fail.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Fails {
    #[default]
    Never,
    Always,
    /// Each call with a message of an odd number.
    Odd,
    /// So many first attempts at each message.
    First(u16),
    /// So many first attempts at these messages.
    Numbers(BTreeSet<u64>, u16),
    /// This share of all calls.
    Rate(f64),
}

/// The forms of [`Fails`] that are tables.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
struct FailsTable {
    first: Option<u16>,
    numbers: Option<BTreeSet<u64>>,
    attempts: Option<u16>,
    rate: Option<f64>,
}

impl<'de> Deserialize<'de> for Fails {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FailsVisitor)
    }
}

struct FailsVisitor;

impl<'de> Visitor<'de> for FailsVisitor {
    type Value = Fails;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"never\", \"always\", \"odd\", or a table with first, numbers or rate")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Fails, E> {
        match text {
            "never" => Ok(Fails::Never),
            "always" => Ok(Fails::Always),
            "odd" => Ok(Fails::Odd),
            _ => Err(E::custom(format!("a handler fails \"never\", \"always\" or \"odd\", not \"{text}\""))),
        }
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Fails, M::Error> {
        let table = FailsTable::deserialize(MapAccessDeserializer::new(map))?;
        match table {
            FailsTable { first: Some(first), numbers: None, attempts: None, rate: None } => {
                Ok(Fails::First(first))
            }
            FailsTable { first: None, numbers: Some(numbers), attempts, rate: None } => {
                Ok(Fails::Numbers(numbers, attempts.unwrap_or(u16::MAX)))
            }
            FailsTable { first: None, numbers: None, attempts: None, rate: Some(rate) } => {
                if (0.0..=1.0).contains(&rate) {
                    Ok(Fails::Rate(rate))
                } else {
                    Err(M::Error::custom(format!("a rate of failures is from 0 to 1, not {rate}")))
                }
            }
            _ => Err(M::Error::custom("fails has one of first, rate, or numbers with or without attempts")),
        }
    }
}

/// What a handler does where it fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FailsAs {
    #[default]
    Error,
    Permanent,
    Panic,
    RetryAfter(Duration),
}

impl FailsAs {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "error" => Ok(Self::Error),
            "permanent" => Ok(Self::Permanent),
            "panic" => Ok(Self::Panic),
            _ => match text.strip_prefix("retry-after:") {
                Some(time) => Ok(Self::RetryAfter(Time::parse(time)?.0)),
                None => {
                    Err(format!("expected error, permanent, panic or such as retry-after:1s, not '{text}'"))
                }
            },
        }
    }
}

impl<'de> Deserialize<'de> for FailsAs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "\"error\", \"permanent\", \"panic\" or such as \"retry-after:1s\"";
        deserializer.deserialize_str(Text { expected, parse: Self::parse })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        let times = [("0s", 0), ("7ns", 7), ("100us", 100_000), ("100µs", 100_000), ("250ms", 250_000_000)];
        for (text, nanos) in times {
            assert_eq!(Time::parse(text), Ok(Time(Duration::from_nanos(nanos))), "{text}");
        }
        assert_eq!(Time::parse("2m"), Ok(Time(Duration::from_secs(120))));
        assert_eq!(Time::parse("87600h"), Ok(Time(LONGEST)));
        for text in ["", "5", "s", "1.5s", "-1s", "1 s", " 1s", "1sec", "١s", "1S"] {
            assert!(Time::parse(text).expect_err(text).contains("expected a whole number"), "{text}");
        }
        for text in ["87601h", "99999999999999999999s"] {
            assert!(Time::parse(text).expect_err(text).contains("longer than ten years"), "{text}");
        }
    }

    #[test]
    fn holes_are_a_number_and_its_rests() {
        let of = |text: &str, n| Numbered::parse(text).map(|numbered| numbered.of(n));
        assert_eq!(of("a.{n%10}.{n}.{n%3}.{n}", 25), Ok("a.5.25.1.25".to_owned()));
        assert_eq!(of("{{n}}", 25), Ok("{n}".to_owned()));
        for text in ["{m}", "{}", "{n%0}", "{n%}", "{n%x}", "{n+1}", "{n%+1}", "{n", "n}"] {
            assert!(of(text, 0).is_err(), "{text}");
        }
        assert!(of(&"x".repeat(4_097), 0).is_err());
    }
}
