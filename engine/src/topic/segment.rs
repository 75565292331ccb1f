//! The words of a pattern, told apart by what they stand for.

/// One word of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Segment<'a> {
    /// Exactly this word.
    Word(&'a str),
    /// `*`: exactly one word, whichever.
    Star,
    /// `#`: zero or more words, whichever.
    Hash,
}

impl<'a> Segment<'a> {
    /// Tells what a word of a pattern stands for.
    pub(super) fn of(word: &'a str) -> Self {
        match word {
            "*" => Self::Star,
            "#" => Self::Hash,
            word => Self::Word(word),
        }
    }
}
