//! Numbers by which a route says where its messages go.

/// A consumer's place in its broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerAddr {
    /// The dispatcher's number in its broker.
    pub dispatcher: u16,
    /// The consumer's number in its dispatcher.
    pub number: u16,
}

/// The number of a ring in its broker. Rings are numbered apart from dispatchers, which may come to
/// own several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RingId(u16);

impl RingId {
    /// The ring of that place in a broker's list.
    pub(crate) const fn new(number: u16) -> Self {
        Self(number)
    }

    /// Returns its place in a broker's list.
    #[inline(always)]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}
