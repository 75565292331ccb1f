//! A message as JSON, without loss.
//!
//! ```json
//! {
//!   "id": "000000000000feed-00000003-000000000000000a",
//!   "topic": "orders.eu.created",
//!   "published_at": "2026-01-31T09:30:00.000000001Z",
//!   "payload": "text, or for what is not UTF-8:",
//!   "headers": {"digest": {"base64": "/wA="}},
//!   "correlation": "order-4711",
//!   "parent": "000000000000feed-00000003-0000000000000009",
//!   "priority": "normal",
//!   "attempt": 1,
//!   "expires_at": "2026-01-31T09:31:00.000000000Z"
//! }
//! ```
//!
//! Bytes that are UTF-8 stand as a string, others as an object whose one member is `base64` (the standard alphabet,
//! padded). No text can be mistaken for such an object, since a text that looks like one is still a string.
//!
//! Writing and reading of the members is here; [`form`] has what keeps their errors from quoting
//! what they were reading, and [`time`] the texts of times.

mod form;
mod time;

use super::{CorrelationId, Headers, MessageId, Payload, Priority, headers::check_key};
use crate::topic::{self, TopicError};
use base64::{DecodeError, Engine as _, engine::general_purpose::STANDARD as BASE64};
use form::{Form, Name, OrNull, Read, Text, refusal};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed as _, MapAccess},
    ser::{SerializeMap as _, SerializeStruct as _},
};
use std::{fmt, str::FromStr, time::SystemTime};
use time::Rfc3339;
#[cfg(feature = "durable-dead-letters")]
pub(crate) use time::from_text as rfc3339_time;
pub(crate) use time::to_text as rfc3339_text;

/// All of a message, owned, as it is written to and read from JSON.
///
/// The form is lossless: what is read back equals what was written, as long as both times lie in the years 0000 to
/// 9999 (up to 9999-12-30T22:00:00.999999999Z), which is what RFC 3339 can write; a time outside is an error.
///
/// Written are all members, except those of the options that are `None`. Times are in UTC with nine decimals.
///
/// Read are members in any order. `id`, `topic`, `published_at` and `payload` are required; the others default to
/// no headers, `null`, `normal` and 1. Any RFC 3339 time will do; a leap second counts as the second before it, and
/// what is finer than the platform's clock is cut off. **A member that is not known, or that appears twice, is an
/// error**: to ignore it would be to lose it. Every limit of [`Payload`], [`Headers`] and topics is enforced, by an
/// error that names the place and quotes no value of payload or headers; nothing read can make it panic.
///
/// [`JsonMessage::to_json`] and [`JsonMessage::from_json`] are all that most need. Serialize and Deserialize serve
/// other self-describing formats; a format that cannot say what comes next, such as bincode, cannot be read. A format
/// or a tree that sorts its maps (`serde_json::Value` does) loses the order of the headers.
///
/// All of it allocates, and none of it belongs on a hot path.
///
/// ```
/// use ringmain::message::{Headers, JsonMessage, MessageId, Origin, Payload, Priority, PublisherId};
/// use std::time::SystemTime;
///
/// let message = JsonMessage {
///     id: MessageId::new(Origin::random(), PublisherId::new(0), 1),
///     topic: "orders.eu.created".into(),
///     published_at: SystemTime::UNIX_EPOCH,
///     payload: Payload::new(&[0xff, 0x00])?,
///     headers: Headers::new(),
///     correlation: None,
///     parent: None,
///     priority: Priority::Normal,
///     attempt: 1,
///     expires_at: None,
/// };
/// let json = message.to_json()?;
/// assert!(json.contains(r#""payload":{"base64":"/wA="}"#));
/// assert_eq!(JsonMessage::from_json(json)?, message);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonMessage {
    /// Which message it is.
    pub id: MessageId,
    /// What it was published to. Well-formed when it was read; a malformed one is written as it is, and cannot be
    /// read back.
    pub topic: String,
    /// When it was published.
    pub published_at: SystemTime,
    /// Its content.
    pub payload: Payload,
    /// What travels beside the content.
    pub headers: Headers,
    /// What ties it to the others of its conversation.
    pub correlation: Option<CorrelationId>,
    /// The message in whose handling it was published.
    pub parent: Option<MessageId>,
    /// How urgent it is.
    pub priority: Priority,
    /// Which attempt at delivering it this was, from 1.
    pub attempt: u16,
    /// When it stops being worth delivering.
    pub expires_at: Option<SystemTime>,
}

/// The members, as they are written.
const MEMBERS: [&str; 10] = [
    "id",
    "topic",
    "published_at",
    "payload",
    "headers",
    "correlation",
    "parent",
    "priority",
    "attempt",
    "expires_at",
];

impl JsonMessage {
    /// The message as one line of JSON.
    ///
    /// # Errors
    ///
    /// [`JsonError::Write`] when a time lies outside the years 0000 to 9999.
    pub fn to_json(&self) -> Result<String, JsonError> {
        serde_json::to_string(self).map_err(|error| JsonError::Write { reason: error.to_string().into() })
    }

    /// The message that a JSON text holds, with nothing but white space around it.
    ///
    /// # Errors
    ///
    /// [`JsonError::Read`] when it is not the JSON form of a message, or passes a limit of one.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self, JsonError> {
        serde_json::from_slice(json.as_ref()).map_err(|error| JsonError::Read {
            line: error.line(),
            column: error.column(),
            reason: error.to_string().into(),
        })
    }
}

/// A message could not be written as JSON or read from it. It names the place and quotes neither payload nor values of
/// headers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The text is not the JSON form of a message.
    #[error("this is not the JSON form of a message: {reason}")]
    Read {
        /// Where reading stopped, from 1.
        line: usize,
        /// Where in that line, in bytes from 1; zero before its first.
        column: usize,
        /// What is wrong there.
        reason: Box<str>,
    },
    /// The message has no JSON form.
    #[error("this message has no JSON form: {reason}")]
    Write {
        /// What is wrong with it.
        reason: Box<str>,
    },
}

// Writing

impl Serialize for JsonMessage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let absent = [self.correlation.is_none(), self.parent.is_none(), self.expires_at.is_none()];
        let present = MEMBERS.len() - absent.into_iter().filter(|absent| *absent).count();

        let mut form = serializer.serialize_struct("Message", present)?;
        form.serialize_field("id", &self.id)?;
        form.serialize_field("topic", &self.topic)?;
        form.serialize_field("published_at", &time::to_text("published_at", self.published_at)?)?;
        form.serialize_field("payload", &BytesToWrite(&self.payload))?;
        form.serialize_field("headers", &HeadersToWrite(&self.headers))?;
        match &self.correlation {
            Some(id) => form.serialize_field("correlation", id.as_str())?,
            None => form.skip_field("correlation")?,
        }
        match &self.parent {
            Some(id) => form.serialize_field("parent", id)?,
            None => form.skip_field("parent")?,
        }
        form.serialize_field("priority", self.priority.as_str())?;
        form.serialize_field("attempt", &self.attempt)?;
        match self.expires_at {
            Some(time) => form.serialize_field("expires_at", &time::to_text("expires_at", time)?)?,
            None => form.skip_field("expires_at")?,
        }
        form.end()
    }
}

struct BytesToWrite<'a>(&'a [u8]);

impl Serialize for BytesToWrite<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = str::from_utf8(self.0) {
            return serializer.serialize_str(text);
        }
        let mut form = serializer.serialize_map(Some(1))?;
        form.serialize_entry("base64", &BASE64.encode(self.0))?;
        form.end()
    }
}

struct HeadersToWrite<'a>(&'a Headers);

impl Serialize for HeadersToWrite<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, BytesToWrite(value))))
    }
}

// Reading

impl<'de> Deserialize<'de> for JsonMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Read(Whole).deserialize(deserializer)
    }
}

/// The whole message.
struct Whole;

impl<'de> Form<'de> for Whole {
    type Value = JsonMessage;

    fn expected(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message must be an object")
    }

    fn object<A: MapAccess<'de>>(self, mut members: A) -> Result<JsonMessage, A::Error> {
        let (mut id, mut topic, mut published_at, mut payload) = (None, None, None, None);
        let (mut headers, mut correlation, mut parent) = (None, None, None);
        let (mut priority, mut attempt, mut expires_at) = (None, None, None);

        while let Some(member) = members.next_key_seed(Read(MemberName))? {
            let from = &mut members;
            match member {
                "id" => read_once(member, &mut id, from, Text::<MessageId>::of)?,
                "topic" => read_once(member, &mut topic, from, Text::<WellFormed>::of)?,
                "published_at" => read_once(member, &mut published_at, from, Text::<Rfc3339>::of)?,
                "payload" => read_once(member, &mut payload, from, |_| Bytes {
                    place: Place::Payload,
                    limit: Payload::MAX_LEN,
                })?,
                "headers" => read_once(member, &mut headers, from, |_| HeaderList)?,
                "correlation" => {
                    read_once(member, &mut correlation, from, |at| OrNull(Text::<CorrelationId>::of(at)))?
                }
                "parent" => read_once(member, &mut parent, from, |at| OrNull(Text::<MessageId>::of(at)))?,
                "priority" => read_once(member, &mut priority, from, Text::<Priority>::of)?,
                "attempt" => {
                    let complaint = |_| de::Error::custom("`attempt` must be a whole number from 0 to 65535");
                    put_once(member, &mut attempt, from.next_value::<u16>().map_err(complaint)?)?;
                }
                "expires_at" => {
                    read_once(member, &mut expires_at, from, |at| OrNull(Text::<Rfc3339>::of(at)))?
                }
                other => unreachable!("`MEMBERS` has {other}, which nothing reads"),
            }
        }

        Ok(JsonMessage {
            id: required("id", id)?,
            topic: required("topic", topic)?.0,
            published_at: required("published_at", published_at)?.0,
            payload: Payload::try_from(required("payload", payload)?).map_err(de::Error::custom)?,
            headers: headers.unwrap_or_default(),
            correlation: correlation.flatten(),
            parent: parent.flatten(),
            priority: priority.unwrap_or_default(),
            attempt: attempt.unwrap_or(1),
            expires_at: expires_at.flatten().map(|time| time.0),
        })
    }
}

fn read_once<'de, A: MapAccess<'de>, F: Form<'de>>(
    member: &'static str,
    place: &mut Option<F::Value>,
    from: &mut A,
    form: impl FnOnce(&'static str) -> F,
) -> Result<(), A::Error> {
    let value = from.next_value_seed(Read(form(member)))?;
    put_once(member, place, value)
}

fn put_once<T, E: de::Error>(member: &'static str, place: &mut Option<T>, value: T) -> Result<(), E> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::duplicate_field(member)),
    }
}

fn required<T, E: de::Error>(member: &'static str, value: Option<T>) -> Result<T, E> {
    value.ok_or_else(|| E::missing_field(member))
}

/// The name of a member of the message. An unknown one is not quoted: where a bare payload was read in place of
/// a message, its members' names are payload.
struct MemberName;

impl<'de> Form<'de> for MemberName {
    type Value = &'static str;

    fn expected(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a member of a message must be one of {}", MEMBERS.join(", "))
    }

    fn text<E: de::Error>(self, text: &str) -> Result<&'static str, E> {
        MEMBERS.into_iter().find(|member| *member == text).ok_or_else(|| refusal(&self, "another name"))
    }
}

/// A well-formed topic.
struct WellFormed(String);

impl FromStr for WellFormed {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        topic::validate(text)?;
        Ok(Self(text.to_owned()))
    }
}

/// Bytes, as a string or as base64.
struct Bytes<'a> {
    place: Place<'a>,
    limit: usize,
}

#[derive(Clone, Copy)]
enum Place<'a> {
    Payload,
    Header(&'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Payload => f.write_str("`payload`"),
            Self::Header(key) => write!(f, "the value of header {key:?}"),
        }
    }
}

impl Bytes<'_> {
    fn check<E: de::Error>(&self, len: usize) -> Result<(), E> {
        if len <= self.limit {
            return Ok(());
        }
        Err(E::custom(format_args!("{} has {len} bytes and the limit is {}", self.place, self.limit)))
    }

    fn decode<E: de::Error>(&self, encoded: &str) -> Result<Vec<u8>, E> {
        // Four characters stand for three bytes, less one for each of up to two signs of padding. So what is far
        // too long is refused before anything is allocated for it; who takes the bytes counts them exactly.
        self.check((encoded.len() / 4 * 3).saturating_sub(2))?;
        BASE64.decode(encoded).map_err(|error| {
            // The error itself would quote the character.
            let place = self.place;
            match error {
                DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => E::custom(
                    format_args!("{place} holds at byte {at} of its `base64` what does not belong there"),
                ),
                DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => {
                    E::custom(format_args!("the `base64` of {place} is cut short or not padded with `=`"))
                }
            }
        })
    }
}

impl<'de> Form<'de> for Bytes<'_> {
    type Value = Vec<u8>;

    fn expected(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must be a string or an object whose only member is `base64`, a string", self.place)
    }

    fn text<E: de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
        self.check(text.len())?;
        Ok(text.as_bytes().to_vec())
    }

    fn object<A: MapAccess<'de>>(self, mut members: A) -> Result<Vec<u8>, A::Error> {
        match members.next_key_seed(Read(Name))? {
            Some(name) if name == "base64" => {}
            Some(_) => return Err(refusal(&self, "one with another member")),
            None => return Err(refusal(&self, "an empty object")),
        }
        let bytes = members.next_value_seed(Read(Base64(&self)))?;
        match members.next_key_seed(Read(Name))? {
            None => Ok(bytes),
            Some(_) => Err(refusal(&self, "one with a second member")),
        }
    }
}

/// What stands in the member `base64`.
struct Base64<'a>(&'a Bytes<'a>);

impl Form<'_> for Base64<'_> {
    type Value = Vec<u8>;

    fn expected(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the `base64` of {} must be a string", self.0.place)
    }

    fn text<E: de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
        self.0.decode(text)
    }
}

/// The headers, whose order is that of the members.
struct HeaderList;

impl<'de> Form<'de> for HeaderList {
    type Value = Headers;

    fn expected(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`headers` must be an object")
    }

    fn object<A: MapAccess<'de>>(self, mut members: A) -> Result<Headers, A::Error> {
        let mut headers = Headers::new();
        while let Some(key) = members.next_key_seed(Read(Name))? {
            check_key(&key).map_err(de::Error::custom)?;
            if headers.contains_key(&key) {
                return Err(de::Error::custom(format_args!("the header {key:?} appears twice")));
            }
            let form = Bytes { place: Place::Header(&key), limit: Headers::MAX_VALUE_LEN };
            let value = members.next_value_seed(Read(form))?;
            headers.insert(&key, value).map_err(de::Error::custom)?;
        }
        Ok(headers)
    }
}
