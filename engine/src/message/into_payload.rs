//! What can be published as a payload.

use super::payload::{Payload, PayloadTooLarge, check_len};
use std::borrow::Cow;
use std::sync::Arc;

/// What can be published as a `P`: checked before anything is claimed, then written into the slot in place.
///
/// A broker of `P` takes a `P`, which is moved into the slot, or a `&P`, which is cloned into it. A broker of
/// [`Payload`] takes besides bytes and text, which are copied once, from where they are into the slot's storage:
/// borrowed (`&[u8]`, `&[u8; N]`, `&str`, `&Vec<u8>`, `&String`), or by value (`Vec<u8>`, `String`, `[u8; N]`, and
/// `Box`, `Arc` or `Cow` of `[u8]` or `str`). What is given by value is handed back where it was not published, and
/// else dropped on the publisher's thread, which frees it. Who publishes from the same buffer again and again lends it.
///
/// Implement it for a type of your own to fill a `P` without building one first.
///
/// ```
/// use ringmain::message::{IntoPayload, Payload, PayloadTooLarge};
///
/// fn publish<P>(slot: &mut P, what: impl IntoPayload<P>) -> Result<(), PayloadTooLarge> {
///     what.check()?; // an error here has disturbed nothing
///     what.write_into(slot);
///     Ok(())
/// }
///
/// let mut slot = Payload::default();
/// publish(&mut slot, "text")?;
/// publish(&mut slot, b"bytes")?;
/// publish(&mut slot, format!("order {}", 4711))?;
/// publish(&mut slot, Payload::new(b"a payload")?)?;
/// assert_eq!(slot.as_slice(), b"a payload");
/// assert!(publish(&mut slot, &vec![0; Payload::MAX_LEN + 1]).is_err());
///
/// #[derive(Default)]
/// struct Quote { price: f64 }
/// let mut slot = Quote::default();
/// publish(&mut slot, Quote { price: 9.75 })?;
/// assert_eq!(slot.price, 9.75);
/// # Ok::<(), PayloadTooLarge>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be published to a broker of `{P}`",
    note = "a broker of `{P}` takes a `{P}` or a `&{P}`",
    note = "a broker of `Payload`, the default, also takes bytes and text: `&[u8]`, `&str`, `Vec<u8>`, `String`",
    note = "a broker of a type of yours is built by `Broker::of::<YourType>()`"
)]
pub trait IntoPayload<P> {
    /// What the publisher gets back where nothing was published: the value itself, or for a borrowed source nothing, as
    /// it still has that.
    type Returned;

    /// Turns what was not published into what the publisher gets back.
    fn into_returned(self) -> Self::Returned;

    /// Whether it may be published. Called before anything is claimed, as often as need be; it should cost next to
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`PayloadTooLarge`] for what a `P` cannot hold. The provided method refuses nothing.
    fn check(&self) -> Result<(), PayloadTooLarge> {
        Ok(())
    }

    /// Writes it over the slot's old value. Called once, after [`IntoPayload::check`] has allowed it; it runs while a
    /// slot is claimed, so it should be short and must not wait.
    fn write_into(self, slot: &mut P);
}

/// A value is moved over the slot's, which is dropped: neither check nor copy.
impl<P> IntoPayload<P> for P {
    type Returned = P;

    #[inline]
    fn into_returned(self) -> P {
        self
    }

    #[inline]
    fn write_into(self, slot: &mut P) {
        *slot = self;
    }
}

/// A value is cloned into the slot's, by [`Clone::clone_from`].
impl<P: Clone> IntoPayload<P> for &P {
    type Returned = ();

    fn into_returned(self) {}

    #[inline]
    fn write_into(self, slot: &mut P) {
        slot.clone_from(self);
    }
}

/// Copies bytes that have been checked into the storage of a slot.
#[inline(always)]
fn copy(bytes: &[u8], slot: &mut Payload) {
    if let Err(error) = slot.set(bytes) {
        // Only a caller that skipped the check comes here. The slot must not keep an older message's content.
        debug_assert!(false, "write_into without check: {error}");
        slot.clear();
    }
}

/// Implements the trait for sources whose bytes are copied: by which method they show them, and what is handed back.
macro_rules! copied {
    ($([$($generics:tt)*] $source:ty, $bytes:ident, $returned:ty, $hand_back:expr;)*) => {$(
        /// Copied by [`Payload::set`].
        impl<$($generics)*> IntoPayload<Payload> for $source {
            type Returned = $returned;

            fn into_returned(self) -> $returned {
                $hand_back(self)
            }

            #[inline]
            fn check(&self) -> Result<(), PayloadTooLarge> {
                check_len(self.len())
            }

            #[inline]
            fn write_into(self, slot: &mut Payload) {
                copy(self.$bytes(), slot);
            }
        }
    )*};
}

// Who lends it still has it.
copied! {
    [] &[u8], as_ref, (), |_| ();
    [const N: usize] &[u8; N], as_ref, (), |_| ();
    [] &str, as_bytes, (), |_| ();
    [] &Vec<u8>, as_slice, (), |_| ();
    [] &String, as_bytes, (), |_| ();
}

copied! {
    [] Vec<u8>, as_slice, Self, |it| it;
    [] String, as_bytes, Self, |it| it;
    [const N: usize] [u8; N], as_slice, Self, |it| it;
    [] Box<[u8]>, as_ref, Self, |it| it;
    [] Box<str>, as_bytes, Self, |it| it;
    [] Arc<[u8]>, as_ref, Self, |it| it;
    [] Arc<str>, as_bytes, Self, |it| it;
    ['a] Cow<'a, [u8]>, as_ref, Self, |it| it;
    ['a] Cow<'a, str>, as_bytes, Self, |it| it;
}
