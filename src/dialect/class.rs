//! Everyone whose bytes for one publish are the same.

/// Dialect × framing × compression: members of one class share each publish's frame.
///
/// Endpoints get theirs when a snapshot is made: equal dialects in equal framing share one.
/// A dialect of a library user's own has none; it shares with nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class(u8);

impl Class {
    /// How many there can be. An endpoint beyond has none, and its members' frames are made once
    /// for each loop.
    pub const COUNT: usize = 16;

    /// The class of this number, if there can be so many.
    #[must_use]
    pub fn new(number: usize) -> Option<Self> {
        (number < Self::COUNT).then_some(Self(number as u8))
    }

    /// As an index below [`COUNT`](Self::COUNT).
    #[inline]
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}
