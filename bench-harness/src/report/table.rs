//! Tables for people: aligned columns, the times of each in one unit.

use std::fmt::Write;

use crate::units::{Unit, grouped, time};

/// A cell of a table.
pub(crate) enum Cell {
    Text(String),
    /// In nanoseconds; the column decides on the unit.
    Time(f64),
}

impl Cell {
    pub(crate) fn empty() -> Self {
        Self::Text(String::new())
    }

    /// A time; a dash where there is none.
    pub(crate) fn time(ns: Option<f64>) -> Self {
        ns.map_or_else(|| Self::Text("-".to_owned()), Self::Time)
    }

    /// A text; a dash where there is none.
    pub(crate) fn text(text: Option<String>) -> Self {
        Self::Text(text.unwrap_or_else(|| "-".to_owned()))
    }

    /// A count; a dash where there is none.
    pub(crate) fn count(count: Option<u64>) -> Self {
        Self::text(count.map(grouped))
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

/// Rows of cells; the first column is aligned to the left, the others to the right. All times of a
/// column have the same unit, which stands in its header.
#[derive(Default)]
pub(crate) struct Table {
    header: Option<Vec<String>>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn with_header<const N: usize>(header: [&str; N]) -> Self {
        Self { header: Some(header.map(str::to_owned).to_vec()), rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }

    /// The unit of a column's times, if it has some.
    fn unit(&self, column: usize) -> Option<Unit> {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        let times: Vec<f64> = cells
            .filter_map(|cell| match cell {
                Cell::Time(ns) => Some(*ns),
                Cell::Text(_) => None,
            })
            .collect();
        (!times.is_empty()).then(|| Unit::common(times.into_iter()))
    }

    /// The lines, header first, as texts of cells.
    fn lines(&self) -> Vec<Vec<String>> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let units: Vec<_> = (0..columns).map(|column| self.unit(column)).collect();
        let header = self.header.as_ref().map(|header| {
            let with_unit = |(name, unit): (&String, &Option<Unit>)| match unit {
                Some(unit) => format!("{name} {}", unit.name).trim_start().to_owned(),
                None => name.clone(),
            };
            header.iter().zip(&units).map(with_unit).collect()
        });
        let show = |(cell, unit): (&Cell, &Option<Unit>)| match (cell, unit) {
            (Cell::Text(text), _) => text.clone(),
            (Cell::Time(ns), Some(unit)) => unit.show(*ns),
            (Cell::Time(ns), None) => time(*ns),
        };
        let rows = self.rows.iter().map(|row| row.iter().zip(&units).map(show).collect());
        header.into_iter().chain(rows).collect()
    }

    /// Writes the table with an empty line before it, unless it has no rows.
    pub(crate) fn write(&self, out: &mut String) {
        if self.rows.is_empty() {
            return;
        }
        let lines = self.lines();
        let width = |column: usize| {
            lines.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        out.push('\n');
        for row in &lines {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = width(column);
                let _ = match column {
                    0 => write!(line, "{cell:<width$}"),
                    _ => write!(line, "  {cell:>width$}"),
                };
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
}
