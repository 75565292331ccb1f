//! What writes a payload into a slot: a value, or a closure.

use crate::broker::deliver::context;
use crate::message::{IntoPayload, PayloadTooLarge};

/// What writes a payload.
pub(crate) trait Fill<P> {
    /// What goes back to the publisher where nothing was published.
    type Returned;
    fn into_returned(self) -> Self::Returned;
    fn check(&self) -> Result<(), PayloadTooLarge>;
    fn write(self, payload: &mut P);
}

/// A value to be written.
pub(crate) struct Value<S>(pub(crate) S);

impl<P, S: IntoPayload<P>> Fill<P> for Value<S> {
    type Returned = S::Returned;

    fn into_returned(self) -> S::Returned {
        self.0.into_returned()
    }

    #[inline(always)]
    fn check(&self) -> Result<(), PayloadTooLarge> {
        self.0.check()
    }

    #[inline(always)]
    fn write(self, payload: &mut P) {
        // It may be user code, and it drops what the slot held, which may be user code too.
        let _filling = context::begin_filling();
        self.0.write_into(payload);
    }
}

/// A closure that writes in place.
pub(crate) struct With<F>(pub(crate) F);

impl<P, F: FnOnce(&mut P)> Fill<P> for With<F> {
    type Returned = ();

    fn into_returned(self) {}

    #[inline(always)]
    fn check(&self) -> Result<(), PayloadTooLarge> {
        Ok(())
    }

    #[inline(always)]
    fn write(self, payload: &mut P) {
        let _filling = context::begin_filling();
        (self.0)(payload);
    }
}
