//! What a handler makes of a message: done, or failed, and in which way.

use std::fmt;
use std::time::Duration;

/// What a handler fails with.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

/// What a handler may return: nothing, [`Handled`], or a `Result` whose error can be boxed.
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    note = "return `()`, `Handled`, or `Result<(), E>` where `E` is an error that is `Send + Sync`"
)]
pub trait IntoHandled {
    /// The outcome of the call.
    ///
    /// # Errors
    /// The handler's own.
    fn into_handled(self) -> Result<(), HandlerError>;
}

impl IntoHandled for () {
    #[inline(always)]
    fn into_handled(self) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// The type of what never returns, `!`, which stable Rust does not let one name.
type Never = <fn() -> ! as Returning>::Output;

#[doc(hidden)]
pub trait Returning {
    type Output;
}

impl<T> Returning for fn() -> T {
    type Output = T;
}

// `|_| todo!()`, or a loop without an end.
impl IntoHandled for Never {
    #[inline(always)]
    fn into_handled(self) -> Result<(), HandlerError> {
        self
    }
}

impl IntoHandled for Handled {
    #[inline(always)]
    fn into_handled(self) -> Result<(), HandlerError> {
        self.into_result()
    }
}

impl<E: Into<HandlerError>> IntoHandled for Result<(), E> {
    #[inline(always)]
    fn into_handled(self) -> Result<(), HandlerError> {
        self.map_err(Into::into)
    }
}

/// What a handler can return to say more than a `Result` does.
///
/// ```
/// # use ringmain::Broker;
/// # use ringmain::broker::{Handled, Retry};
/// # use std::time::Duration;
/// # let broker = Broker::of::<u32>().build()?;
/// let _payments = broker
///     .subscription()
///     .pattern("payments")
///     .retry(Retry::default())
///     .subscribe(|amount| match **amount {
///         0 => Handled::Permanent("nothing to pay".into()),
///         1..=1_000 => Handled::Done,
///         _ => Handled::RetryAfter(Duration::from_secs(60)),
///     })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Handled {
    /// It is done.
    Done,
    /// It has failed, and is tried again as the subscription's
    /// [`Retry`](crate::broker::Retry) says: as `Err` of a `Result`.
    Failed(HandlerError),
    /// It has failed, and trying again is of no use: as a [`Permanent`] error.
    Permanent(HandlerError),
    /// It has failed, and is to be tried again after that time, if the subscription's policy still tries:
    /// as a [`RetryAfter`] error, which can say why.
    RetryAfter(Duration),
}

/// An error for which trying again is of no use, whatever the subscription's
/// [`Retry`](crate::broker::Retry) says. It speaks of the message, and not of the handler: a
/// [`Breaker`](crate::broker::Breaker) does not count it. Made of the error itself, for `?`:
///
/// ```
/// # use ringmain::Broker;
/// # use ringmain::broker::{HandlerError, Permanent};
/// # let broker = Broker::builder().build()?;
/// let _numbers = broker.subscribe("numbers", |message| -> Result<(), HandlerError> {
///     let number: u64 = message.as_str().unwrap_or("").parse().map_err(Permanent::new)?;
///     println!("{number}");
///     Ok(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Permanent(HandlerError);

impl Permanent {
    /// Makes one.
    pub fn new(error: impl Into<HandlerError>) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for Permanent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Permanent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

/// An error after which the message is to be tried again after a time that the handler knows, instead of
/// the one that the subscription's [`Retry`](crate::broker::Retry) would choose. Whether it is tried
/// again the policy says: where there is none, or no attempt, time or budget is left, it is an error like
/// another.
///
/// ```
/// # use ringmain::Broker;
/// # use ringmain::broker::{Retry, RetryAfter};
/// # use std::time::Duration;
/// # let broker = Broker::of::<u32>().build()?;
/// let bank = broker.subscription().pattern("payments").retry(Retry::default());
/// let _payments = bank.subscribe(|amount| match **amount {
///     0..=1_000 => Ok(()),
///     _ => Err(RetryAfter::new(Duration::from_secs(60), "the bank is busy")),
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RetryAfter {
    delay: Duration,
    error: Option<HandlerError>,
}

impl RetryAfter {
    /// Makes one.
    pub fn new(delay: Duration, error: impl Into<HandlerError>) -> Self {
        Self { delay, error: Some(error.into()) }
    }

    /// Returns for how long the handler asks to wait. What it was made of is its
    /// [source](std::error::Error::source).
    pub fn delay(&self) -> Duration {
        self.delay
    }
}

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => error.fmt(f),
            None => write!(f, "asked to be tried again after {:?}", self.delay),
        }
    }
}

impl std::error::Error for RetryAfter {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.as_deref().map(|error| error as &(dyn std::error::Error + 'static))
    }
}

impl Handled {
    /// Returns it as a handler's outcome.
    pub(super) fn into_result(self) -> Result<(), HandlerError> {
        match self {
            Self::Done => Ok(()),
            Self::Failed(error) => Err(error),
            Self::Permanent(error) => Err(Box::new(Permanent(error))),
            Self::RetryAfter(delay) => Err(Box::new(RetryAfter { delay, error: None })),
        }
    }
}

/// What an error asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// What the subscription's policy says.
    ByPolicy,
    /// Never to be tried again.
    Never,
    /// To be tried again after that time.
    After(Duration),
}

/// Returns whether an error says nothing of the handler, but of the message: a breaker does not count it.
pub(crate) fn is_of_the_message(error: &HandlerError) -> bool {
    error.is::<Permanent>()
}

/// Returns what an error asks for.
pub(crate) fn wish_of(error: &HandlerError) -> Wish {
    if error.is::<Permanent>() {
        return Wish::Never;
    }
    error.downcast_ref::<RetryAfter>().map_or(Wish::ByPolicy, |later| Wish::After(later.delay))
}
