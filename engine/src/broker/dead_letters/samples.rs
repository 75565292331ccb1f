//! Letters for tests.

use super::attempt::{Attempt, History};
use super::entry::NewLetter;
use crate::broker::account::term::FailureKind;
use crate::clock::{Ticks, Timestamp};
use crate::message::{Headers, MessageId, Origin, OwnedMessage, Priority, PublisherId};
use crate::topic::Topic;
use std::time::{Duration, SystemTime};

pub(super) fn id(sequence: u64) -> MessageId {
    MessageId::new(Origin::from_u64(0xfeed).unwrap(), PublisherId::new(3), sequence)
}

pub(super) fn seconds(after_start: u64) -> Timestamp {
    Timestamp::from_nanos(after_start * 1_000_000_000)
}

pub(super) fn wall(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(at.as_nanos())
}

pub(super) fn history(texts: &[&str]) -> History {
    let mut history = History::default();
    for (number, text) in (1..).zip(texts) {
        let text = Some((*text).into());
        history.push(Attempt::new(number, SystemTime::UNIX_EPOCH, FailureKind::Handler, text));
    }
    history
}

/// A message of that sequence, on which that subscription failed once.
pub(super) fn letter_of<P>(sequence: u64, subscription: &str, payload: P) -> NewLetter<P> {
    let message = OwnedMessage {
        id: id(sequence),
        topic: Topic::new("orders.eu").unwrap(),
        published_at: Timestamp::default(),
        published_at_wall: SystemTime::UNIX_EPOCH,
        headers: Headers::new(),
        correlation: None,
        parent: None,
        expires_at: None,
        attempt: 1,
        priority: Priority::Normal,
        payload,
    };
    NewLetter {
        message,
        bytes: 100,
        subscription: subscription.into(),
        published_ticks: Ticks::default(),
        kind: FailureKind::Handler,
        history: history(&["no"]),
    }
}

pub(super) fn letter(sequence: u64, subscription: &str) -> NewLetter<()> {
    letter_of(sequence, subscription, ())
}
