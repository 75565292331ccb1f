//! Numbers as people read them: times with a unit, thousands apart.

/// A unit of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Unit {
    pub(crate) name: &'static str,
    nanoseconds: f64,
}

const UNITS: [Unit; 4] = [
    Unit { name: "ns", nanoseconds: 1.0 },
    Unit { name: "µs", nanoseconds: 1e3 },
    Unit { name: "ms", nanoseconds: 1e6 },
    Unit { name: "s", nanoseconds: 1e9 },
];

impl Unit {
    /// Returns the largest unit in which all of these times, in nanoseconds, are one or more; those
    /// that are zero are so in any.
    pub(crate) fn common(times: impl Iterator<Item = f64>) -> Self {
        let least = times.filter(|time| *time > 0.0).fold(f64::INFINITY, f64::min);
        let fits = |unit: &&Unit| least.is_finite() && least >= unit.nanoseconds;
        *UNITS.iter().rev().find(fits).unwrap_or(&UNITS[0])
    }

    /// Writes a time in this unit, to three digits or as a whole number.
    pub(crate) fn show(self, ns: f64) -> String {
        match ns / self.nanoseconds {
            0.0 => "0".to_owned(),
            value if value >= 99.95 => grouped(value.round() as u64),
            value if value >= 9.995 => format!("{value:.1}"),
            value => format!("{value:.2}"),
        }
    }
}

/// Nanoseconds with a unit, to three digits.
pub(crate) fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 999.5 => (ns, "ns"),
        ns if ns < 999_500.0 => (ns / 1e3, "µs"),
        ns if ns < 999_500_000.0 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let decimals = match value {
        value if value == 0.0 || value >= 99.95 => 0,
        value if value >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {unit}")
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// So many times, in words.
pub(crate) fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{} times", grouped(count)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        let expected = [
            (0.0, "0 ns"),
            (1.234, "1.23 ns"),
            (99.96, "100 ns"),
            (999.4, "999 ns"),
            (999.6, "1.00 µs"),
            (12_345.0, "12.3 µs"),
            (1_500_000.0, "1.50 ms"),
            (2.5e9, "2.50 s"),
            (1e12, "1000 s"),
        ];
        for (ns, text) in expected {
            assert_eq!(time(ns), text);
        }
    }

    #[test]
    fn times_of_a_column_have_the_largest_unit_that_keeps_all_of_them_legible() {
        let column = |times: [f64; 3]| {
            let unit = Unit::common(times.into_iter());
            (unit.name, times.map(|time| unit.show(time)))
        };
        let shown = |cells: [&str; 3]| cells.map(str::to_owned);
        assert_eq!(column([29.0, 118.4, 2e6]), ("ns", shown(["29.0", "118", "2,000,000"])));
        assert_eq!(column([1_230.0, 0.0, 7.1e6]), ("µs", shown(["1.23", "0", "7,100"])));
        assert_eq!(column([0.0; 3]), ("ns", shown(["0"; 3])));
        assert_eq!(column([1e9, 2e9, 3e9]).0, "s");
    }

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
