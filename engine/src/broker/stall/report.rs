//! What is told of a stall.

use crate::broker::name::DispatcherName;
use crate::message::{MessageId, Origin};
use crate::ring::Call;
use crate::routing::ConsumerAddr;
use crate::topic::Topic;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StallKind {
    /// A call of a handler, or of other code of a subscription, does not return.
    Call,
    /// Publishers wait for room in a ring, and none of them gets any.
    Publisher,
}

/// Why it stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StallCause {
    /// The consumer is in a call that has not returned in all that time.
    Call,
    /// The consumer makes one call after the other, and has not made room by that yet: its handlers are slow.
    SlowCalls,
    /// The next message is not there yet: a publisher has its slot, and its closure or its payload's `Clone` has not
    /// returned.
    Publish,
    /// The consumer is in no call, and there is something to handle. It does not run: nothing schedules it, a debugger
    /// has stopped it, or it is in foreign code outside of a call, such as the drop of a handler whose subscription has
    /// ended.
    NotRunning,
}

/// Something that stands still: see [`BrokerBuilder::on_stall`](crate::broker::BrokerBuilder::on_stall) and
/// [`Broker::stalls`](crate::broker::Broker::stalls).
///
/// Never shows a payload or a header.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stall {
    /// What stands still.
    pub kind: StallKind,
    /// Why. Of a call it is [`StallCause::Call`].
    pub cause: StallCause,
    /// The dispatcher.
    pub dispatcher: DispatcherName,
    /// The name of the consumer's thread: the one that is in the call, or that makes no room.
    pub thread: Arc<str>,
    /// The subscription whose code the thread runs. Nothing where it is in no call, or clears a slot.
    pub subscription: Option<Arc<str>>,
    /// The message that the call is about. Only of one that was copied out of the ring: one that has waited, is tried
    /// again or replayed, that a handler gets with a token, or that is of a
    /// [rescuable](crate::broker::Dispatcher::rescuable) dispatcher. A message that is handled in its slot cannot be
    /// read by others, since the slot is used again as soon as the call returns; the [`sequence`](Self::sequence) is
    /// told.
    pub message: Option<MessageId>,
    /// The topic of that message. Of one that is handled in its slot it is told where only one topic can be meant: the
    /// subscription's pattern has no wildcard, or of all the topics that publishers hold it matches one.
    pub topic: Option<Topic>,
    /// The sequence of the event in its ring that the call is about; of a publisher's stall, else the next that the
    /// consumer has not released.
    pub sequence: Option<u64>,
    /// How long it has stood still, at least.
    pub age: Duration,
    /// Of a publisher's stall, how long the call has run that the consumer is in, at least; of a call, its age.
    pub call_age: Option<Duration>,
    /// The [time limit](crate::broker::SubscriptionBuilder::time_limit) of the subscription's calls, if it has one: a
    /// call is told at this age, whatever the broker's own limit is. Nothing where the call tells of a failure, or
    /// drops a message.
    pub time_limit: Option<Duration>,
    /// How many messages are in the ring that the consumer has not released, those that it has handled of the present
    /// few included.
    pub behind: u64,
    /// How many publishers wait for room in that ring.
    pub waiting_publishers: u32,
    /// Whether another thread goes on in the place of this one, which is left with this call alone
    /// ([`Dispatcher::rescuable`](crate::broker::Dispatcher::rescuable)). The message at hand is in doubt then.
    pub is_replaced: bool,
    /// Which call it is, for who wants the consumer replaced.
    pub(crate) call: Option<StalledCall>,
}

/// A call that does not return, as its broker finds it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StalledCall {
    /// The broker's.
    pub(crate) origin: Origin,
    pub(crate) addr: ConsumerAddr,
    pub(crate) call: Call,
}

#[cfg(any(test, ringmain_loom))]
impl Stall {
    /// A call of nothing in particular.
    pub(crate) fn of_a_call(dispatcher: DispatcherName, thread: &str, age: Duration) -> Self {
        Self {
            kind: StallKind::Call,
            cause: StallCause::Call,
            dispatcher,
            thread: thread.into(),
            subscription: None,
            message: None,
            topic: None,
            sequence: None,
            age,
            call_age: Some(age),
            time_limit: None,
            behind: 0,
            waiting_publishers: 0,
            is_replaced: false,
            call: None,
        }
    }
}

impl fmt::Display for Stall {
    /// One sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dispatcher, thread, age, behind, .. } = self;
        match self.kind {
            StallKind::Call => {
                write!(f, "{thread} has been in a call")?;
                self.write_call(f)?;
                write!(f, " for at least {age:.1?}")?;
                // It may have been met first when its subscription had ended, and be told at the broker's limit.
                if let Some(limit) = self.time_limit.filter(|limit| *age >= *limit) {
                    write!(f, ", over its time limit of {limit:?}")?;
                }
                if self.is_replaced {
                    return write!(f, "; another thread goes on in its place");
                }
                write!(f, "; it is {behind} messages behind")
            }
            StallKind::Publisher => {
                let publishers = self.waiting_publishers;
                write!(
                    f,
                    "dispatcher {} has had no room for at least {age:.1?} (waiting publishers: {publishers}): \
                     {thread} is {behind} messages behind and ",
                    &**dispatcher
                )?;
                match self.cause {
                    StallCause::Call => {
                        write!(f, "in a call")?;
                        self.write_call(f)?;
                        write!(f, " that has run for at least {:.1?}", self.call_age.unwrap_or_default())
                    }
                    StallCause::SlowCalls => {
                        write!(f, "slow: it makes call after call")?;
                        if self.subscription.is_none() {
                            Ok(())
                        } else {
                            write!(f, ", now one")?;
                            self.write_call(f)
                        }
                    }
                    StallCause::Publish => {
                        write!(f, "waits for a publisher that has not finished writing its message")
                    }
                    StallCause::NotRunning => write!(f, "in no call: it does not run"),
                }
            }
        }
    }
}

impl Stall {
    fn write_call(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(subscription) = &self.subscription {
            write!(f, " of subscription {subscription}")?;
        }
        if let Some(topic) = &self.topic {
            write!(f, ", topic {topic}")?;
        }
        if let Some(message) = &self.message {
            write!(f, ", message {message}")?;
        }
        if let Some(sequence) = self.sequence {
            write!(f, ", sequence {sequence}")?;
        }
        Ok(())
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_said_to_be_over_its_limit_only_when_it_is() {
        let second = Duration::from_secs(1);
        let stall = |age, time_limit| Stall {
            subscription: Some("billing".into()),
            sequence: Some(7),
            time_limit,
            behind: 1,
            ..Stall::of_a_call("d".into(), "rm-d-0", age)
        };
        let said = |age, time_limit| stall(age, time_limit).to_string();
        let call = "rm-d-0 has been in a call of subscription billing, sequence 7 for at least 2.0s";
        let behind = "; it is 1 messages behind";
        assert_eq!(said(second * 2, None), format!("{call}{behind}"));
        assert_eq!(said(second * 2, Some(second * 10)), format!("{call}{behind}"));
        let over = ", over its time limit of 2s";
        assert_eq!(said(second * 2, Some(second * 2)), format!("{call}{over}{behind}"));
    }
}
