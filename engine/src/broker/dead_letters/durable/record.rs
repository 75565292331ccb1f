//! The record of a dead letter: the JSON form that it has elsewhere, read back.
//!
//! What a record does not tell, since it says nothing outside of its process, is when things were by the broker's
//! clock. What was before this broker's clock began is at that clock's beginning, and the letter knows by how much it
//! is older.

use super::super::attempt::Attempt;
use super::super::entry::{DeadLetter, Story};
use super::codec::Codec;
use crate::broker::account::term::FailureKind;
use crate::clock::{Clock, Timestamp};
use crate::message::{Envelope, JsonMessage, MessagePayload, OwnedMessage, rfc3339_time};
use crate::topic::Topic;
use serde::{Deserialize, Deserializer, de::Error as _};
use std::time::SystemTime;

/// Makes the record of a letter. Runs the codec.
pub(super) fn write<P: MessagePayload>(letter: &DeadLetter<P>, codec: &Codec<P>) -> Result<String, Box<str>> {
    let payload = codec.encode(&letter.message.payload)?;
    letter.to_json_with(|_| payload).map_err(|error| error.to_string().into_boxed_str())
}

/// A letter that was read back, and how many bytes its message takes.
pub(super) struct ReadBack<P> {
    pub(super) letter: DeadLetter<P>,
    pub(super) message_bytes: usize,
}

/// Reads the record of that number. Runs the codec. An error says what is wrong, and quotes
/// nothing but what the codec says.
pub(super) fn read<P: MessagePayload>(
    number: u64,
    record: &[u8],
    codec: &Codec<P>,
    clock: &Clock,
) -> Result<ReadBack<P>, Box<str>> {
    // The reader's own words may quote what is there.
    let complaint = |error: serde_json::Error| {
        format!("no record of this form, at line {} and column {}", error.line(), error.column())
    };
    let line: Line = serde_json::from_slice(record).map_err(complaint)?;
    if line.number < number {
        return Err(format!("letter {} under the later number {number}", line.number).into());
    }
    let label = |kind: &str| FailureKind::ALL.iter().copied().find(|known| known.as_str() == kind);
    let kind = label(&line.kind).ok_or("its kind of failure is unknown")?;
    let attempts = line.attempts.into_iter().map(|one| {
        let One { attempt, episode, at, kind, error } = one;
        let kind = label(&kind).ok_or("the kind of failure of an attempt is unknown")?;
        let error = error.map(String::into_boxed_str);
        Ok(Attempt { episode, ..Attempt::new(attempt, at.0, kind, error) })
    });
    let attempts = attempts.collect::<Result<Vec<_>, &str>>()?;

    let JsonMessage { id, topic, published_at, payload, headers, .. } = line.message;
    let JsonMessage { correlation, parent, priority, attempt, expires_at, .. } = line.message;
    let now = clock.now();
    let moment = |at: SystemTime| moment(at, now, clock.wall(now));
    let message = OwnedMessage {
        id,
        topic: Topic::new(&topic).map_err(|error| error.to_string())?,
        published_at: moment(published_at),
        published_at_wall: published_at,
        headers,
        correlation,
        parent,
        expires_at: expires_at.map(moment),
        attempt,
        priority,
        payload: codec.decode(&payload)?,
    };
    let message_bytes = size_of::<OwnedMessage<P>>() + Envelope::size_elsewhere(&message);
    let dead_at = moment(line.dead_at.0);
    let age = clock.wall(now).duration_since(line.dead_at.0).unwrap_or_default();
    let story = Story {
        number: line.number,
        kind,
        attempts,
        forgotten_attempts: line.forgotten_attempts,
        first_at: moment(line.first_at.0),
        first_at_wall: line.first_at.0,
        dead_at,
        dead_at_wall: line.dead_at.0,
        older_by: age.saturating_sub(now.since(dead_at)),
        episodes: line.episodes,
    };
    let letter = DeadLetter::read_back(number, message, line.subscription.into(), story);
    Ok(ReadBack { letter, message_bytes })
}

/// When it was by the broker's clock; that clock's beginning, if it was before.
fn moment(at: SystemTime, now: Timestamp, wall: SystemTime) -> Timestamp {
    match at.duration_since(wall) {
        Ok(later) => now.after(later),
        Err(error) => {
            let earlier = u64::try_from(error.duration().as_nanos()).unwrap_or(u64::MAX);
            Timestamp::from_nanos(now.as_nanos().saturating_sub(earlier))
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    number: u64,
    subscription: String,
    kind: String,
    /// It follows from the rest.
    #[serde(rename = "fingerprint")]
    _fingerprint: String,
    episodes: u32,
    first_at: Time,
    dead_at: Time,
    attempts: Vec<One>,
    forgotten_attempts: u64,
    message: JsonMessage,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    attempt: u16,
    episode: u32,
    at: Time,
    kind: String,
    error: Option<String>,
}

struct Time(SystemTime);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        rfc3339_time(&text).map(Self).map_err(D::Error::custom)
    }
}
