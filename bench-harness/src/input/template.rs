//! A topic with holes: `flight.{origin}.{dest}`, filled in from a row of a table.

use std::ops::Range;

/// A template as the user wrote it: text and names of columns. `{{` and `}}` stand for braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pieces: Vec<Piece<String>>,
}

/// A template whose columns are known by their number.
#[derive(Clone, Debug)]
pub(crate) struct BoundTemplate {
    pieces: Vec<Piece<usize>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece<C> {
    Text(String),
    Column(C),
}

/// A template that was filled in, and which of its bytes came from which column.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filled {
    pub(crate) text: String,
    columns: Vec<(Range<usize>, usize)>,
}

impl Template {
    /// Parses a template; the refusal says what is wrong with it.
    pub(crate) fn parse(template: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some(brace) = rest.find(['{', '}']) {
            let at = template.len() - rest.len() + brace;
            text.push_str(&rest[..brace]);
            let from_brace = &rest[brace..];
            if from_brace.starts_with("{{") || from_brace.starts_with("}}") {
                text.push_str(&from_brace[..1]);
                rest = &from_brace[2..];
                continue;
            }
            let Some(name) = from_brace.strip_prefix('{') else {
                return Err(format!("the '}}' at byte {at} closes nothing; write '}}}}' for a brace"));
            };
            let Some(end) = name.find('}') else {
                return Err(format!("the '{{' at byte {at} is not closed; write '{{{{' for a brace"));
            };
            if name[..end].contains('{') {
                return Err(format!(
                    "the '{{' at byte {at} holds another; a column's name has no braces here"
                ));
            }
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(Piece::Column(name[..end].to_owned()));
            rest = &name[end + 1..];
        }
        text.push_str(rest);
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Self { pieces })
    }

    /// Looks the columns up; gives the first name that is not among them.
    pub(crate) fn bind(&self, columns: &[String]) -> Result<BoundTemplate, &str> {
        let pieces = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => Ok(Piece::Text(text.clone())),
            Piece::Column(name) => {
                columns.iter().position(|column| column == name).map(Piece::Column).ok_or(name.as_str())
            }
        });
        Ok(BoundTemplate { pieces: pieces.collect::<Result<_, _>>()? })
    }
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}"))?,
                Piece::Column(name) => write!(f, "{{{name}}}")?,
            }
        }
        Ok(())
    }
}

impl BoundTemplate {
    /// Fills a row's values in.
    pub(crate) fn fill(&self, row: &[&str]) -> Filled {
        let mut filled = Filled::default();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => filled.text.push_str(text),
                &Piece::Column(column) => {
                    let start = filled.text.len();
                    filled.text.push_str(row[column]);
                    filled.columns.push((start..filled.text.len(), column));
                }
            }
        }
        filled
    }
}

impl Filled {
    /// The column that a byte of the text came from; for a byte beside what is empty or ends there,
    /// that one.
    pub(crate) fn column_at(&self, byte: usize) -> Option<usize> {
        let within = |(range, _): &&(Range<usize>, usize)| range.contains(&byte);
        let beside = |(range, _): &&(Range<usize>, usize)| (range.start..=range.end).contains(&byte);
        let found = self.columns.iter().find(within).or_else(|| self.columns.iter().find(beside));
        found.map(|&(_, column)| column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str) -> String {
        let columns = ["a", "b b", ""].map(str::to_owned);
        let template = Template::parse(template).expect("a template");
        template.bind(&columns).expect("known columns").fill(&["1", "2", "3"]).text
    }

    #[test]
    fn columns_are_filled_in() {
        assert_eq!(fill("x.{a}.{b b}.{a}"), "x.1.2.1");
        assert_eq!(fill("{a}{b b}{}"), "123");
        assert_eq!(fill("plain"), "plain");
        assert_eq!(fill(""), "");
    }

    #[test]
    fn doubled_braces_are_braces() {
        assert_eq!(fill("{{a}}.{a}.}}{{"), "{a}.1.}{");
    }

    #[test]
    fn a_template_is_shown_as_it_was_written() {
        for template in ["x.{a}.{{b}}.{c d}", "", "{}"] {
            assert_eq!(Template::parse(template).expect("a template").to_string(), template);
        }
    }

    #[test]
    fn unbalanced_braces_are_refused_with_their_place() {
        for (template, reason) in [
            ("x.{a", "'{' at byte 2 is not closed"),
            ("x.a}.b", "'}' at byte 3 closes nothing"),
            ("{a{b}", "'{' at byte 0 holds another"),
            ("é}", "'}' at byte 2"),
        ] {
            let error = Template::parse(template).expect_err(template);
            assert!(error.contains(reason), "{template}: {error}");
        }
    }

    #[test]
    fn an_unknown_column_is_named() {
        let template = Template::parse("x.{a}.{z}").expect("a template");
        assert_eq!(template.bind(&["a".to_owned()]).expect_err("no z"), "z");
    }

    #[test]
    fn a_byte_leads_back_to_its_column() {
        let columns = ["a", "b", "c"].map(str::to_owned);
        let template =
            Template::parse("x.{a}.{b}.{c}").expect("a template").bind(&columns).expect("known columns");
        let filled = template.fill(&["11", "", "3"]);
        assert_eq!(filled.text, "x.11..3");
        let found: Vec<_> = (0..=7).map(|byte| filled.column_at(byte)).collect();
        assert_eq!(found, [None, None, Some(0), Some(0), Some(0), Some(1), Some(2), Some(2)]);
    }
}
