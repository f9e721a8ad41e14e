//! What is published: an ASCII string that says which publish it is, whatever envelope it comes in.
//!
//! A mark is forty characters: a beginning that stands nowhere else, the run, the room, the
//! publisher, its serial number, when it was due, and a check of all these. Behind it comes padding,
//! a slice of a random pattern at an offset that the mark chooses. Nothing in it needs an escape in
//! JSON, in a URL or in XML.

use std::ops::Range;

use crate::{clock::Nanos, payload::token};

/// Characters of a mark, and so the least that can be published.
pub(crate) const MARK_LEN: usize = 40;

/// How every mark begins; a full stop stands nowhere else in it, nor in padding.
const BEGIN: &[u8; 4] = b".lt.";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// How many different offsets into the pattern there are.
const OFFSETS: usize = 1024;

const RUN: Range<usize> = 4..10;
const ROOM: Range<usize> = 10..15;
const PUBLISHER: Range<usize> = 15..20;
const SERIAL: Range<usize> = 20..26;
const DUE: Range<usize> = 26..35;
const CHECK: Range<usize> = 35..MARK_LEN;

/// Which publish, and when it was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The room's number, below 2³⁰.
    pub(crate) room: u32,
    /// The publisher's number, below 2³⁰.
    pub(crate) publisher: u32,
    /// Counts the publisher's publishes from 0.
    pub(crate) serial: u32,
    /// When it was due, below 2⁵⁴ ns (208 days).
    pub(crate) due: Nanos,
}

/// What stands in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Data of this run, with every character right.
    Right(Mark),
    /// Data of this run with other padding than was sent.
    Padding(Mark),
    /// Data whose mark is not whole or not consistent.
    Broken,
    /// Data of a run with another seed.
    Foreign,
}

/// Makes and recognises data.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    run: u64,
    size: usize,
    pattern: Vec<u8>,
    /// Where the last data began in its message: the next is likely to begin there too.
    hint: usize,
}

impl Marks {
    /// Data of `size` characters, at least [`MARK_LEN`], for the run with this seed.
    pub(crate) fn new(seed: u64, size: usize) -> Self {
        let mut pattern = Vec::with_capacity(size + OFFSETS + 10);
        for number in 0.. {
            if pattern.len() >= size + OFFSETS {
                break;
            }
            let bits = token(seed, number, 1);
            pattern.extend((0..10).map(|at| ALPHABET[(bits >> (6 * at)) as usize % 64]));
        }
        Self { run: token(seed, 0, 0) >> 28, size, pattern, hint: 0 }
    }

    /// The data of one publish.
    pub(crate) fn data(&self, mark: &Mark) -> String {
        let mut data = Vec::with_capacity(self.size);
        data.extend_from_slice(&self.head(mark));
        data.extend_from_slice(self.padding(mark));
        String::from_utf8(data).expect("marks and padding are ASCII")
    }

    /// The first data at or behind `from`, and where it ends.
    pub(crate) fn find(&mut self, message: &[u8], from: usize) -> Option<(Found, usize)> {
        let at = self.locate(message, from)?;
        self.hint = at;
        Some(match message.get(at..at + MARK_LEN).map(|head| self.read(head)) {
            Some(Found::Right(mark)) => self.judge(message, at, mark),
            Some(other) => (other, at + 1),
            None => (Found::Broken, message.len()),
        })
    }

    fn locate(&self, message: &[u8], from: usize) -> Option<usize> {
        let begins = |at: usize| message.get(at..).is_some_and(|rest| rest.starts_with(BEGIN));
        if from == 0 && begins(self.hint) && !message[..self.hint].contains(&b'.') {
            return Some(self.hint);
        }
        let mut at = from;
        while let Some(step) = message.get(at..)?.iter().position(|byte| *byte == b'.') {
            at += step;
            if begins(at) {
                return Some(at);
            }
            at += 1;
        }
        None
    }

    /// What the forty characters say; padding is not looked at.
    fn read(&self, head: &[u8]) -> Found {
        let fields = [RUN, ROOM, PUBLISHER, SERIAL, DUE, CHECK].map(|range| number(&head[range]));
        let [Some(run), Some(room), Some(publisher), Some(serial), Some(due), Some(_)] = fields
        else {
            return Found::Broken;
        };
        let (room, publisher) = (room as u32, publisher as u32);
        let Ok(serial) = u32::try_from(serial) else { return Found::Broken };
        let mark = Mark { room, publisher, serial, due };
        match () {
            () if head == self.head_of(run, &mark) && run == self.run => Found::Right(mark),
            () if head == self.head_of(run, &mark) => Found::Foreign,
            () => Found::Broken,
        }
    }

    fn judge(&self, message: &[u8], at: usize, mark: Mark) -> (Found, usize) {
        let end = (at + self.size).min(message.len());
        match message[at + MARK_LEN..end] == *self.padding(&mark) {
            true => (Found::Right(mark), end),
            // Other data may begin where this should have gone on.
            false => (Found::Padding(mark), at + MARK_LEN),
        }
    }

    fn head(&self, mark: &Mark) -> [u8; MARK_LEN] {
        self.head_of(self.run, mark)
    }

    fn head_of(&self, run: u64, mark: &Mark) -> [u8; MARK_LEN] {
        let mut head = [0; MARK_LEN];
        head[..BEGIN.len()].copy_from_slice(BEGIN);
        put(&mut head[RUN], run);
        put(&mut head[ROOM], mark.room.into());
        put(&mut head[PUBLISHER], mark.publisher.into());
        put(&mut head[SERIAL], mark.serial.into());
        put(&mut head[DUE], mark.due);
        put(
            &mut head[CHECK],
            token(run ^ mark.due, mark.publisher, mark.serial) ^ token(run, mark.room, 2),
        );
        head
    }

    fn padding(&self, mark: &Mark) -> &[u8] {
        let offset = token(self.run, mark.publisher, mark.serial) as usize % OFFSETS;
        &self.pattern[offset..offset + self.size - MARK_LEN]
    }
}

/// Writes the lowest bits of a number, six a character.
fn put(into: &mut [u8], mut number: u64) {
    for byte in into {
        *byte = ALPHABET[number as usize % 64];
        number >>= 6;
    }
}

fn number(characters: &[u8]) -> Option<u64> {
    characters.iter().rev().try_fold(0, |number, byte| Some(number << 6 | u64::from(value(*byte)?)))
}

fn value(character: u8) -> Option<u8> {
    Some(match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark =
        Mark { room: 70_000, publisher: 9, serial: u32::MAX, due: 86_400_000_000_000 };

    #[test]
    fn data_is_found_in_any_envelope() {
        for size in [MARK_LEN, MARK_LEN + 1, 64, 5_000] {
            let mut marks = Marks::new(3, size);
            let data = marks.data(&MARK);
            assert_eq!(data.len(), size);
            for (before, after) in [("", ""), ("{\"v\":1.0,\"data\":\"", "\"}"), ("..l", ".")] {
                let message = format!("{before}{data}{after}");
                let end = before.len() + size;
                assert_eq!(marks.find(message.as_bytes(), 0), Some((Found::Right(MARK), end)));
                assert_eq!(marks.find(message.as_bytes(), end), None);
            }
        }
    }

    #[test]
    fn several_in_one_message_are_found_in_order() {
        let mut marks = Marks::new(3, 50);
        let other = Mark { serial: 1, ..MARK };
        let message = format!("{}\n{}", marks.data(&MARK), marks.data(&other));
        let (first, end) = marks.find(message.as_bytes(), 0).unwrap();
        let (second, end) = marks.find(message.as_bytes(), end).unwrap();
        assert_eq!((first, second), (Found::Right(MARK), Found::Right(other)));
        assert_eq!(marks.find(message.as_bytes(), end), None);
    }

    #[test]
    fn every_changed_character_is_seen() {
        let mut marks = Marks::new(1, 60);
        let data = marks.data(&MARK);
        for at in 0..data.len() {
            let mut changed = data.clone().into_bytes();
            changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
            let found = marks.find(&changed, 0).map(|(found, _)| found);
            match at {
                0..4 => assert_eq!(found, None),
                4..40 => assert_eq!(found, Some(Found::Broken), "character {at}"),
                _ => assert_eq!(found, Some(Found::Padding(MARK)), "character {at}"),
            }
        }
        for len in 4..60 {
            let found = marks.find(&data.as_bytes()[..len], 0).map(|(found, _)| found);
            assert!(matches!(found, Some(Found::Broken | Found::Padding(_))), "cut at {len}");
        }
    }

    #[test]
    fn other_runs_are_told_apart() {
        let data = Marks::new(1, 60).data(&MARK);
        let found = Marks::new(2, 60).find(data.as_bytes(), 0).map(|(found, _)| found);
        assert_eq!(found, Some(Found::Foreign));
    }
}
