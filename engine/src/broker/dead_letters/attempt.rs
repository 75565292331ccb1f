//! Attempts: what became of each call with a message, and the history they make together.
//!
//! Errors are their authors' texts, of any length, so everything here is bounded: a text by
//! [`Attempt::MAX_ERROR_BYTES`], a history by [`History::MAX_ATTEMPTS`].

use crate::broker::account::term::FailureKind;
use crate::sync::panics::guard;
use std::collections::VecDeque;
use std::fmt;
use std::time::SystemTime;

/// One attempt at delivering a message, which failed.
///
/// Its Debug output shows no error text.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// Which attempt of its episode it was, from 1.
    pub attempt: u16,
    /// The episode it belongs to: 1 for the first delivery and its retries, then one more for each
    /// replay that failed.
    pub episode: u32,
    /// When it failed, by the wall clock.
    pub at: SystemTime,
    /// How it failed.
    pub kind: FailureKind,
    /// What the error, or the panic, said: at most [`Attempt::MAX_ERROR_BYTES`] bytes, cut between
    /// two characters. Nothing where it said nothing, or where error texts are not kept.
    pub error: Option<Box<str>>,
}

impl Attempt {
    /// The most bytes of an error's text that are kept.
    pub const MAX_ERROR_BYTES: usize = 256;

    /// An attempt of the first episode; the store knows better where it was not the first.
    pub(crate) fn new(attempt: u16, at: SystemTime, kind: FailureKind, error: Option<Box<str>>) -> Self {
        Self { attempt, episode: 1, at, kind, error: error.map(cut) }
    }

    /// Returns how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.error.as_deref().map_or(0, str::len)
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("attempt", &self.attempt)
            .field("episode", &self.episode)
            .field("at", &self.at)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

fn cut(text: Box<str>) -> Box<str> {
    match text.floor_char_boundary(Attempt::MAX_ERROR_BYTES) {
        whole if whole == text.len() => text,
        end => text[..end].into(),
    }
}

/// Returns what an error says, cut to [`Attempt::MAX_ERROR_BYTES`].
///
/// This is foreign code: call it behind no lock. One that panics has said what it said before, and
/// one that talks on is told to stop, and heard no more.
pub(crate) fn error_text(error: &(impl fmt::Display + ?Sized)) -> Box<str> {
    let mut heard = Heard { text: String::new(), is_full: false };
    guard(|| fmt::write(&mut heard, format_args!("{error}")));
    heard.text.into()
}

struct Heard {
    text: String,
    is_full: bool,
}

impl fmt::Write for Heard {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if self.is_full {
            return Err(fmt::Error);
        }
        let end = more.floor_char_boundary(Attempt::MAX_ERROR_BYTES - self.text.len());
        self.text.push_str(&more[..end]);
        self.is_full = end < more.len();
        if self.is_full { Err(fmt::Error) } else { Ok(()) }
    }
}

/// The attempts at one message: the latest ones, and how many came before.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    attempts: VecDeque<Attempt>,
    forgotten: u64,
}

impl History {
    /// The most attempts that are kept. With the text of each it makes some 20 KiB.
    pub(crate) const MAX_ATTEMPTS: usize = 64;

    /// Adds an attempt. Past the limit the oldest is forgotten.
    pub(crate) fn push(&mut self, attempt: Attempt) {
        self.attempts.push_back(attempt);
        if self.attempts.len() > Self::MAX_ATTEMPTS {
            self.forget_oldest();
        }
    }

    /// Forgets the oldest attempts until the rest takes no more than so many bytes.
    pub(super) fn shrink_to(&mut self, limit: usize) {
        let mut bytes = self.bytes();
        while bytes > limit
            && let Some(oldest) = self.attempts.front()
        {
            bytes -= oldest.bytes();
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        self.attempts.pop_front();
        self.forgotten += 1;
    }

    /// Makes of `self` what was before, and of its own attempts those of the episode that came then.
    pub(super) fn go_on_from(&mut self, before: &[Attempt], forgotten: u64, episode: u32) {
        let own = std::mem::take(self);
        self.attempts.reserve_exact((before.len() + own.attempts.len()).min(Self::MAX_ATTEMPTS + 1));
        self.forgotten = forgotten.saturating_add(own.forgotten);
        before.iter().for_each(|attempt| self.push(attempt.clone()));
        own.attempts.into_iter().for_each(|attempt| self.push(Attempt { episode, ..attempt }));
    }

    pub(super) fn forget_texts(&mut self) {
        self.attempts.iter_mut().for_each(|attempt| attempt.error = None);
    }

    pub(super) fn bytes(&self) -> usize {
        self.attempts.iter().map(Attempt::bytes).sum()
    }

    /// Returns the attempts, from the oldest, and how many are forgotten.
    pub(super) fn into_parts(self) -> (Vec<Attempt>, u64) {
        // What `Vec` takes over has the capacity that the deque had.
        let mut attempts = Vec::from(self.attempts);
        attempts.shrink_to_fit();
        (attempts, self.forgotten)
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    fn attempt(number: u16, text: &str) -> Attempt {
        Attempt::new(number, SystemTime::UNIX_EPOCH, FailureKind::Handler, Some(text.into()))
    }

    #[test]
    fn a_text_is_cut_between_two_characters() {
        let text = format!("{}{}", "x".repeat(255), "é".repeat(9));
        assert_eq!(*error_text(&text), text[..255]);
        assert_eq!(attempt(1, &text).error.as_deref(), Some(&text[..255]));
        let fits = "y".repeat(256);
        assert_eq!(*error_text(&fits), fits);
        assert_eq!(attempt(1, &fits).error.as_deref(), Some(&*fits));
    }

    #[test]
    fn an_error_that_talks_on_is_heard_no_more() {
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let _ = f.write_str(&"é".repeat(127));
                let _ = f.write_str("abé");
                // One byte would fit if it was not for what was cut before.
                let _ = f.write_str("z".repeat(1_000_000).as_str());
                f.write_str("z")
            }
        }
        assert_eq!(*error_text(&Endless), format!("{}ab", "é".repeat(127)));
        struct Split;
        impl fmt::Display for Split {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let _ = f.write_str(&"x".repeat(255));
                let _ = f.write_str("é");
                f.write_str("z")
            }
        }
        assert_eq!(*error_text(&Split), "x".repeat(255));
    }

    #[test]
    fn an_error_whose_display_panics_has_said_what_it_said_before() {
        struct Bad;
        impl fmt::Display for Bad {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("so far")?;
                panic!("an error of the error")
            }
        }
        assert_eq!(&*error_text(&Bad), "so far");
    }

    #[test]
    fn a_history_keeps_the_latest_and_counts_the_others() {
        let mut history = History::default();
        (1..=100).for_each(|number| history.push(attempt(number, "no")));
        let (attempts, forgotten) = history.into_parts();
        let numbers: Vec<u16> = attempts.iter().map(|attempt| attempt.attempt).collect();
        assert_eq!((numbers, forgotten), ((37..=100).collect(), 36));
    }

    #[test]
    fn debug_output_shows_no_error_text() {
        assert!(!format!("{:?}", attempt(1, "secret")).contains("secret"));
    }
}
