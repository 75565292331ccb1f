//! The name of a dispatcher, as errors carry it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The name of a dispatcher. It reads as a `str`, and clones share it: an error that names a dispatcher allocates
/// nothing.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DispatcherName(
    /// `None` only while it is dropped.
    Option<Arc<str>>,
);

impl Drop for DispatcherName {
    #[inline]
    fn drop(&mut self) {
        let_go(self.0.take());
    }
}

/// Out of line, and by value: the place of the name, and with it that of a publish's result, must not escape, or every
/// publish writes its result to memory, whether somebody looks at it or not.
#[cold]
#[inline(never)]
fn let_go(_: Option<Arc<str>>) {}

impl From<Arc<str>> for DispatcherName {
    fn from(name: Arc<str>) -> Self {
        Self(Some(name))
    }
}

impl From<&str> for DispatcherName {
    fn from(name: &str) -> Self {
        Self(Some(name.into()))
    }
}

impl Deref for DispatcherName {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl PartialEq<str> for DispatcherName {
    fn eq(&self, name: &str) -> bool {
        **self == *name
    }
}

impl PartialEq<&str> for DispatcherName {
    fn eq(&self, name: &&str) -> bool {
        *self == **name
    }
}

impl fmt::Display for DispatcherName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl fmt::Debug for DispatcherName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
