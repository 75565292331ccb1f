//! Parsers of flag values. Each refusal says what is accepted; clap puts the flag and the value in
//! front of it.

use std::time::Duration;

use crate::load::options::Rate;

/// The slowest and the fastest rate that can be paced, in messages per second.
const RATES: (f64, f64) = (0.001, 1e9);
/// The shortest and the longest time a run can be asked to last, in seconds.
const SECONDS: (f64, f64) = (0.001, 604_800.0);
/// The largest ring.
pub(crate) const MAX_CAPACITY: usize = 1 << 24;

/// A whole number within a range.
pub(crate) fn count(
    least: usize,
    most: usize,
    of: &'static str,
) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| match digits(text).parse::<usize>() {
        Ok(count) if (least..=most).contains(&count) => Ok(count),
        _ => Err(format!("expected a whole number of {of} from {least} to {most}")),
    }
}

/// The size of a ring.
pub(crate) fn capacity(text: &str) -> Result<usize, String> {
    let capacity = count(1, MAX_CAPACITY, "slots, a power of two")(text)?;
    if capacity.is_power_of_two() {
        return Ok(capacity);
    }
    Err(format!(
        "expected a power of two from 1 to {MAX_CAPACITY}; the next one is {}",
        capacity.next_power_of_two()
    ))
}

/// A rate of messages, or `max`.
pub(crate) fn rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate::Max);
    }
    per_second(text).map(Rate::PerSecond).map_err(|refusal| refusal + ", or 'max'")
}

/// A rate of messages.
pub(crate) fn per_second(text: &str) -> Result<f64, String> {
    let (least, most) = RATES;
    match digits(text).parse::<f64>() {
        Ok(rate) if (least..=most).contains(&rate) => Ok(rate),
        _ => Err(format!("expected messages per second from {least} to {most}")),
    }
}

/// A time in seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (least, most) = SECONDS;
    match digits(text).parse::<f64>() {
        Ok(seconds) if (least..=most).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("expected seconds from {least} to {most}")),
    }
}

/// A number without the underscores that make it readable: `1_000_000`.
fn digits(text: &str) -> String {
    let well_placed = !text.starts_with('_') && !text.ends_with('_') && !text.contains("__");
    if well_placed { text.replace('_', "") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_finite_positive_number_or_max() {
        assert_eq!(rate("max"), Ok(Rate::Max));
        assert_eq!(rate("2.5"), Ok(Rate::PerSecond(2.5)));
        assert_eq!(rate("1_000_000"), Ok(Rate::PerSecond(1e6)));
        for text in ["0", "-0", "NaN", "-1", "inf", "-inf", "infinity", "1e400", "", " 1", "1 ", "Max", "1_"]
        {
            assert!(rate(text).expect_err(text).contains("from 0.001 to 1000000000"), "{text}");
        }
    }

    #[test]
    fn a_duration_is_neither_nothing_nor_for_ever() {
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "NaN", "inf", "604801", "1e300", "5s", ""] {
            assert!(duration(text).expect_err(text).contains("seconds from 0.001 to 604800"), "{text}");
        }
    }

    #[test]
    fn a_capacity_that_is_no_power_of_two_is_told_the_next() {
        assert_eq!(capacity("1"), Ok(1));
        assert_eq!(capacity("16777216"), Ok(1 << 24));
        assert!(capacity("1000").expect_err("1000").contains("the next one is 1024"));
        for text in ["0", "33554432", "-8", "8.0", "18446744073709551616"] {
            assert!(capacity(text).expect_err(text).contains("from 1 to 16777216"), "{text}");
        }
    }

    #[test]
    fn a_count_stays_within_its_range() {
        let payload = count(0, 65_536, "bytes");
        assert_eq!(payload("0"), Ok(0));
        assert_eq!(payload("65536"), Ok(65_536));
        for text in ["65537", "-1", "1.5", "x", "", "_1", "1__0"] {
            assert!(payload(text).expect_err(text).contains("bytes from 0 to 65536"), "{text}");
        }
    }
}
