//! Dead letters as lines of JSON.
//!
//! ```json
//! {
//!   "number": 17,
//!   "subscription": "billing",
//!   "kind": "handler",
//!   "fingerprint": "8c2b4f0d61a3e597",
//!   "episodes": 1,
//!   "first_at": "2026-01-31T09:30:01.000000000Z",
//!   "dead_at": "2026-01-31T09:30:01.000000000Z",
//!   "attempts": [
//!     {"attempt": 1, "episode": 1, "at": "2026-01-31T09:30:01.000000000Z", "kind": "handler",
//!      "error": "no such order"}
//!   ],
//!   "forgotten_attempts": 0,
//!   "message": {"id": "000000000000feed-00000003-000000000000000a", "…": "the form of `JsonMessage`"}
//! }
//! ```
//!
//! It reads payloads and writes to who knows where, so it belongs behind no lock.

use super::attempt::Attempt;
use super::entry::DeadLetter;
use crate::clock::Timestamp;
use crate::message::{JsonError, JsonMessage, Payload, rfc3339_text};
use serde::{Serialize, Serializer, ser::SerializeSeq as _, ser::SerializeStruct as _};
use std::borrow::Borrow;
use std::io::{self, Write};
use std::time::SystemTime;

/// Writes dead letters as JSON, one a line, each as [`DeadLetter::to_json`] makes it. Returns how many
/// it wrote. It does not flush. Needs the feature `serde`.
///
/// # Errors
///
/// Those of the writer. A letter that has no JSON form is an error of the kind `InvalidData`; the
/// letters before it have been written.
pub fn write_json_lines(
    letters: impl IntoIterator<Item = impl Borrow<DeadLetter<Payload>>>,
    mut to: impl Write,
) -> io::Result<u64> {
    let mut written = 0;
    for letter in letters {
        let mut line =
            letter.borrow().to_json().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        line.push('\n');
        to.write_all(line.as_bytes())?;
        written += 1;
    }
    Ok(written)
}

impl DeadLetter<Payload> {
    /// Returns it as one line of JSON, with all that it holds. Its member `message` is what
    /// [`JsonMessage`] reads. Needs the feature `serde`.
    ///
    /// # Errors
    ///
    /// [`JsonError::Write`] when a time lies outside the years 0000 to 9999.
    pub fn to_json(&self) -> Result<String, JsonError> {
        self.to_json_with(Payload::clone)
    }
}

impl<P> DeadLetter<P> {
    /// As [`DeadLetter::to_json`], for a payload of another type, given what makes bytes of it.
    ///
    /// # Errors
    ///
    /// [`JsonError::Write`] when a time lies outside the years 0000 to 9999.
    pub fn to_json_with(&self, encode: impl FnOnce(&P) -> Payload) -> Result<String, JsonError> {
        let message = json_message(self, encode(&self.message.payload))?;
        serde_json::to_string(&Line { letter: self, message })
            .map_err(|error| JsonError::Write { reason: error.to_string().into() })
    }
}

fn json_message<P>(letter: &DeadLetter<P>, payload: Payload) -> Result<JsonMessage, JsonError> {
    let message = &letter.message;
    let expires_at = message.expires_at.map(|at| wall(letter, at)).transpose()?;
    Ok(JsonMessage {
        id: message.id,
        topic: message.topic.as_str().to_owned(),
        published_at: message.published_at_wall,
        payload,
        headers: message.headers.clone(),
        correlation: message.correlation,
        parent: message.parent,
        priority: message.priority,
        attempt: message.attempt,
        expires_at,
    })
}

/// The wall-clock time of a moment, by a moment of which the letter tells both: when it died, or, where that was before
/// the broker's clock began, that beginning.
fn wall<P>(letter: &DeadLetter<P>, at: Timestamp) -> Result<SystemTime, JsonError> {
    let known = letter.dead_at;
    let known_wall = letter.dead_at_wall.checked_add(letter.older_by);
    let later = known_wall.and_then(|known_wall| known_wall.checked_add(at.since(known)));
    let time = later.and_then(|later| later.checked_sub(known.since(at)));
    time.ok_or_else(|| JsonError::Write { reason: "`expires_at` is no time of this platform's clock".into() })
}

struct Line<'a, P> {
    letter: &'a DeadLetter<P>,
    message: JsonMessage,
}

impl<P> Serialize for Line<'_, P> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let letter = self.letter;
        let mut form = serializer.serialize_struct("DeadLetter", 10)?;
        form.serialize_field("number", &letter.number)?;
        form.serialize_field("subscription", &*letter.subscription)?;
        form.serialize_field("kind", letter.kind.as_str())?;
        form.serialize_field("fingerprint", &letter.fingerprint().to_string())?;
        form.serialize_field("episodes", &letter.episodes)?;
        form.serialize_field("first_at", &rfc3339_text("first_at", letter.first_at_wall)?)?;
        form.serialize_field("dead_at", &rfc3339_text("dead_at", letter.dead_at_wall)?)?;
        form.serialize_field("attempts", &Attempts(&letter.attempts))?;
        form.serialize_field("forgotten_attempts", &letter.forgotten_attempts)?;
        form.serialize_field("message", &self.message)?;
        form.end()
    }
}

struct Attempts<'a>(&'a [Attempt]);

impl Serialize for Attempts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        self.0.iter().try_for_each(|attempt| list.serialize_element(&One(attempt)))?;
        list.end()
    }
}

struct One<'a>(&'a Attempt);

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Attempt { attempt, episode, at, kind, error } = self.0;
        let members = 4 + usize::from(error.is_some());
        let mut form = serializer.serialize_struct("Attempt", members)?;
        form.serialize_field("attempt", attempt)?;
        form.serialize_field("episode", episode)?;
        form.serialize_field("at", &rfc3339_text("at", *at)?)?;
        form.serialize_field("kind", kind.as_str())?;
        match error {
            Some(text) => form.serialize_field("error", &**text)?,
            None => form.skip_field("error")?,
        }
        form.end()
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::super::samples::{history, letter_of, seconds, wall};
    use super::super::{DeadLetterOptions, MemoryStore, Selection};
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    fn two() -> Vec<Arc<DeadLetter<Payload>>> {
        let mut store = MemoryStore::new(DeadLetterOptions::new());
        let mut first = letter_of(1, "billing", Payload::new(b"line\nline").unwrap());
        first.message.headers.insert("region", "eu").unwrap();
        first.message.published_at = seconds(100);
        first.message.published_at_wall = wall(seconds(1_000));
        first.message.expires_at = Some(seconds(160));
        let mut second = letter_of(2, "mail", Payload::new(b"\xff\0").unwrap());
        second.history = history(&[]);
        // The clock began 900 seconds after the epoch.
        store.put(first, seconds(105), wall(seconds(1_005))).discard();
        store.put(second, seconds(106), wall(seconds(1_006))).discard();
        store.query(&Selection::all(), seconds(109))
    }

    #[test]
    fn each_letter_is_one_line_with_all_that_it_holds() {
        let mut out = Vec::new();
        assert_eq!(write_json_lines(two(), &mut out).unwrap(), 2);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), text.ends_with('\n')), (2, true));
        assert_eq!(
            lines[0],
            concat!(
                r#"{"number":0,"subscription":"billing","kind":"handler","fingerprint":"FINGERPRINT","episodes":1,"#,
                r#""first_at":"1970-01-01T00:16:45.000000000Z","dead_at":"1970-01-01T00:16:45.000000000Z","#,
                r#""attempts":[{"attempt":1,"episode":1,"at":"1970-01-01T00:00:00.000000000Z","#,
                r#""kind":"handler","error":"no"}],"#,
                r#""forgotten_attempts":0,"#,
                r#""message":{"id":"000000000000feed-00000003-0000000000000001","topic":"orders.eu","#,
                r#""published_at":"1970-01-01T00:16:40.000000000Z","payload":"line\nline","headers":{"region":"eu"},"#,
                r#""priority":"normal","attempt":1,"expires_at":"1970-01-01T00:17:40.000000000Z"}}"#
            )
            .replace("FINGERPRINT", &two()[0].fingerprint().to_string())
        );
        assert!(lines[1].contains(r#""attempts":[],"#) && lines[1].contains(r#"{"base64":"/wA="}"#));
    }

    #[test]
    fn the_message_of_a_line_can_be_read_back() {
        for letter in two() {
            let line: serde_json::Value = serde_json::from_str(&letter.to_json().unwrap()).unwrap();
            let message = JsonMessage::from_json(line["message"].to_string()).unwrap();
            assert_eq!((message.id, &message.payload), (letter.message.id, &letter.message.payload));
            assert_eq!(message.headers, letter.message.headers);
        }
    }

    #[test]
    fn payloads_of_other_types_are_encoded_by_who_knows_them() {
        let new = letter_of(1, "billing", 17_u64);
        let letter = new.into_letter(0, None, seconds(1), wall(seconds(1)));
        let json = letter.to_json_with(|number| Payload::new(number.to_string().as_bytes()).unwrap());
        assert!(json.unwrap().contains(r#""payload":"17""#));
    }

    #[test]
    fn times_before_and_after_the_death_stay_there() {
        let new = letter_of(1, "billing", Payload::default());
        let mut letter = new.into_letter(0, None, seconds(100), wall(seconds(1_000)));
        assert_eq!(super::wall(&letter, seconds(40)), Ok(wall(seconds(940))));
        assert_eq!(super::wall(&letter, seconds(160)), Ok(wall(seconds(1_060))));
        // One that died 50 seconds before the clock began.
        (letter.dead_at, letter.older_by) = (seconds(0), Duration::from_secs(50));
        assert_eq!(super::wall(&letter, seconds(7)), Ok(wall(seconds(1_057))));
        letter.dead_at_wall = SystemTime::UNIX_EPOCH + Duration::from_secs(i64::MAX as u64);
        assert!(super::wall(&letter, seconds(160)).is_err());
    }

    #[test]
    fn a_time_that_cannot_be_written_is_an_error_behind_the_lines_before_it() {
        let mut letters: Vec<DeadLetter<Payload>> = Vec::new();
        for (number, year) in [(0, 0), (1, 400_000_000_000)] {
            let new = letter_of(number, "billing", Payload::default());
            letters.push(new.into_letter(
                number,
                None,
                seconds(1),
                wall(seconds(0)) + Duration::from_secs(year),
            ));
        }
        let mut out = Vec::new();
        let error = write_json_lines(&letters, &mut out).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("first_at"), "{error}");
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 1);
    }
}
