//! The sessions of a shard's connections, and the names of the rooms that these are in: each name
//! once.

use std::collections::hash_map::{Entry, HashMap};
use std::sync::Arc;

use super::session::Session;
use crate::id::ConnId;
use crate::telemetry::memory::{allocated, in_table};

/// Bits of a [`Rooms`] entry that name the room.
const SYMBOL_BITS: u32 = 24;
/// Those bits, and the highest symbol.
const SYMBOL_MASK: u32 = (1 << SYMBOL_BITS) - 1;

/// What a shard knows of its connections beyond their slots; kept only for those that need it.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    sessions: HashMap<ConnId, Session>,
    names: Names,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn get(&self, conn: &ConnId) -> Option<&Session> {
        self.sessions.get(conn)
    }

    pub(crate) fn get_mut(&mut self, conn: &ConnId) -> Option<&mut Session> {
        self.sessions.get_mut(conn)
    }

    pub(crate) fn entry(&mut self, conn: ConnId) -> Entry<'_, ConnId, Session> {
        self.sessions.entry(conn)
    }

    /// Bytes that names of rooms have taken, or given back, since this was last asked.
    pub(crate) fn bytes_taken(&mut self) -> i64 {
        std::mem::take(&mut self.names.taken)
    }

    pub(crate) fn contains_key(&self, conn: &ConnId) -> bool {
        self.sessions.contains_key(conn)
    }

    /// Takes a session out, with the names of the rooms that its connection is in or on its way
    /// into.
    pub(crate) fn remove(&mut self, conn: &ConnId) -> Option<(Session, Vec<Arc<str>>)> {
        let session = self.sessions.remove(conn)?;
        let rooms = session.rooms.symbols().map(|symbol| self.names.release(symbol)).collect();
        Some((session, rooms))
    }

    /// The rooms that a connection is in or on its way into.
    pub(crate) fn rooms(&self, conn: &ConnId) -> impl Iterator<Item = &str> {
        let session = self.sessions.get(conn).into_iter();
        session.flat_map(|session| session.rooms.symbols()).map(|symbol| self.names.name(symbol))
    }

    /// Whether a connection is in a room or on its way into it.
    pub(crate) fn is_in(&self, conn: &ConnId, room: &str) -> bool {
        let symbol = self.names.find(room);
        let session = self.sessions.get(conn);
        symbol
            .zip(session)
            .is_some_and(|(symbol, session)| session.rooms.position(symbol).is_some())
    }

    /// How many rooms a connection is in or on its way into.
    pub(crate) fn room_count(&self, conn: &ConnId) -> usize {
        self.sessions.get(conn).map_or(0, |session| session.rooms.len())
    }

    /// Notes that a connection is on its way into a room; says which of its joins this is, modulo
    /// 256. `None` if the shard's connections are in as many rooms as there may be.
    pub(crate) fn join(&mut self, conn: ConnId, room: &str) -> Option<u32> {
        let known = self.names.find(room);
        let rooms = &mut self.sessions.entry(conn).or_default().rooms;
        let attempt = rooms.next_attempt();
        match known.and_then(|symbol| rooms.position(symbol)) {
            Some(at) => rooms.set_attempt(at, attempt),
            None => rooms.push(self.names.take(room)?, attempt),
        }
        Some(attempt.into())
    }

    /// Notes that a connection leaves a room.
    pub(crate) fn leave(&mut self, conn: &ConnId, room: &str) {
        self.forget(conn, room, |_| true);
    }

    /// The room's home did not take the connection in at this attempt; says whether it is to be
    /// told that the connection is no member. It is unless there was a later join, or the
    /// connection has left: what was refused says nothing of those.
    ///
    /// The home knows that of the join that it refused. But attempts count modulo 256: it may be a
    /// join 256 later that it took in before this came, and then session and home are of one mind
    /// again.
    pub(crate) fn refused(&mut self, conn: &ConnId, room: &str, attempt: u32) -> bool {
        self.forget(conn, room, |last| u32::from(last) == attempt)
    }

    fn forget(&mut self, conn: &ConnId, room: &str, meant: impl FnOnce(u8) -> bool) -> bool {
        let Some(symbol) = self.names.find(room) else { return false };
        let Some(Session { rooms, .. }) = self.sessions.get_mut(conn) else { return false };
        let found = rooms.position(symbol).filter(|at| meant(rooms.attempt(*at)));
        let Some(at) = found else { return false };
        rooms.remove(at);
        self.names.release(symbol);
        true
    }
}

/// The rooms that a connection is in or on its way into, in the order of its joins: one in place,
/// the others in a piece of memory as long as it has to be. An entry is a symbol of the shard's
/// [`Names`], and the last join of that room modulo 256 above it.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    /// 0: none.
    first: u32,
    attempts: u8,
    others: Box<[u32]>,
}

impl Rooms {
    fn len(&self) -> usize {
        usize::from(self.first != 0) + self.others.len()
    }

    fn symbols(&self) -> impl Iterator<Item = u32> {
        let first = (self.first != 0).then_some(&self.first);
        first.into_iter().chain(&self.others).map(|entry| entry & SYMBOL_MASK)
    }

    fn position(&self, symbol: u32) -> Option<usize> {
        self.symbols().position(|known| known == symbol)
    }

    fn next_attempt(&mut self) -> u8 {
        self.attempts = self.attempts.wrapping_add(1);
        self.attempts
    }

    fn attempt(&self, at: usize) -> u8 {
        let entry = if at == 0 { self.first } else { self.others[at - 1] };
        (entry >> SYMBOL_BITS) as u8
    }

    fn set_attempt(&mut self, at: usize, attempt: u8) {
        let entry = if at == 0 { &mut self.first } else { &mut self.others[at - 1] };
        *entry = *entry & SYMBOL_MASK | u32::from(attempt) << SYMBOL_BITS;
    }

    fn push(&mut self, symbol: u32, attempt: u8) {
        let entry = symbol | u32::from(attempt) << SYMBOL_BITS;
        if self.first == 0 {
            self.first = entry;
            return;
        }
        self.change(|others| {
            others.reserve_exact(1);
            others.push(entry);
        });
    }

    fn remove(&mut self, at: usize) {
        match (at, self.others.is_empty()) {
            (0, true) => self.first = 0,
            (0, false) => {
                self.first = self.others[0];
                self.change(|others| _ = others.remove(0));
            }
            _ => self.change(|others| _ = others.remove(at - 1)),
        }
    }

    fn change(&mut self, how: impl FnOnce(&mut Vec<u32>)) {
        let mut others = std::mem::take(&mut self.others).into_vec();
        how(&mut others);
        self.others = others.into_boxed_slice();
    }
}

/// The names of the rooms that a shard's connections are in, numbered from 1. A number is free
/// again when the last has left.
#[derive(Debug)]
struct Names {
    symbols: HashMap<Arc<str>, u32>,
    /// By symbol, less 1.
    names: Vec<Name>,
    free: Vec<u32>,
    /// How many there may be at once.
    most: u32,
    /// Bytes not yet told of.
    taken: i64,
}

#[derive(Debug)]
struct Name {
    name: Arc<str>,
    /// How many sessions have it; 0: it is free.
    sessions: u32,
}

impl Names {
    fn find(&self, name: &str) -> Option<u32> {
        self.symbols.get(name).copied()
    }

    fn name(&self, symbol: u32) -> &str {
        &self.names[symbol as usize - 1].name
    }

    /// The symbol of a name, for one more session.
    fn take(&mut self, name: &str) -> Option<u32> {
        if let Some(symbol) = self.find(name) {
            self.names[symbol as usize - 1].sessions += 1;
            return Some(symbol);
        }
        let fresh = Name { name: name.into(), sessions: 1 };
        let known = Arc::clone(&fresh.name);
        let symbol = match self.free.pop() {
            Some(symbol) => {
                self.names[symbol as usize - 1] = fresh;
                symbol
            }
            None if self.names.len() == self.most as usize => return None,
            None => {
                self.names.push(fresh);
                self.names.len() as u32
            }
        };
        self.taken += bytes_of(&known);
        self.symbols.insert(known, symbol);
        Some(symbol)
    }

    /// One session has it no more.
    fn release(&mut self, symbol: u32) -> Arc<str> {
        let known = &mut self.names[symbol as usize - 1];
        known.sessions -= 1;
        if known.sessions > 0 {
            return Arc::clone(&known.name);
        }
        let name = std::mem::replace(&mut known.name, Arc::from(""));
        self.taken -= bytes_of(&name);
        self.symbols.remove(&*name);
        self.free.push(symbol);
        name
    }
}

/// What a name takes: its entries in the table and, a third more than used, in the list, and itself
/// behind its counts.
fn bytes_of(name: &str) -> i64 {
    let entries = in_table(size_of::<(Arc<str>, u32)>()) + size_of::<Name>() * 4 / 3;
    (entries + allocated(2 * size_of::<usize>() + name.len())) as i64
}

impl Default for Names {
    fn default() -> Self {
        Self {
            symbols: HashMap::new(),
            names: Vec::new(),
            free: Vec::new(),
            most: SYMBOL_MASK,
            taken: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnId = ConnId::from_bits(1);
    const B: ConnId = ConnId::from_bits(2);

    fn rooms(sessions: &Sessions, conn: ConnId) -> Vec<&str> {
        sessions.rooms(&conn).collect()
    }

    #[test]
    fn a_session_is_small() {
        assert_eq!(size_of::<Rooms>(), 24);
        assert!(size_of::<(ConnId, Session)>() <= 48, "{}", size_of::<(ConnId, Session)>());
    }

    #[test]
    fn rooms_are_in_the_order_of_the_joins() {
        let mut sessions = Sessions::new();
        for room in ["one", "two", "three", "two"] {
            assert!(sessions.join(A, room).is_some());
        }
        assert_eq!(
            (rooms(&sessions, A), sessions.room_count(&A)),
            (vec!["one", "two", "three"], 3)
        );
        sessions.leave(&A, "one");
        sessions.leave(&A, "four");
        assert_eq!(rooms(&sessions, A), ["two", "three"]);
        assert!(sessions.is_in(&A, "two") && !sessions.is_in(&A, "one"));
        assert!(!sessions.is_in(&B, "two") && sessions.room_count(&B) == 0);
        sessions.leave(&A, "three");
        sessions.leave(&A, "two");
        assert_eq!(rooms(&sessions, A), [""; 0]);
    }

    #[test]
    fn a_name_is_kept_as_long_as_any_session_has_it() {
        let mut sessions = Sessions::new();
        for (conn, room) in [(A, "hall"), (B, "hall"), (A, "yard")] {
            sessions.join(conn, room);
        }
        assert_eq!(sessions.names.names.len(), 2);
        sessions.leave(&A, "hall");
        assert!(sessions.is_in(&B, "hall"));
        assert_eq!(sessions.bytes_taken(), bytes_of("hall") + bytes_of("yard"));
        let (_, left) = sessions.remove(&B).unwrap();
        assert_eq!((sessions.bytes_taken(), sessions.bytes_taken()), (-bytes_of("hall"), 0));
        assert_eq!(left, ["hall".into()]);
        assert_eq!((sessions.names.find("hall"), sessions.names.symbols.len()), (None, 1));
        // Its number is the next one's, and nobody who had it is in that room.
        sessions.join(B, "roof");
        assert_eq!((sessions.names.names.len(), rooms(&sessions, A)), (2, vec!["yard"]));
        assert_eq!(rooms(&sessions, B), ["roof"]);
    }

    #[test]
    fn a_refusal_is_of_the_join_that_it_was() {
        let mut sessions = Sessions::new();
        let first = sessions.join(A, "hall").unwrap();
        let second = sessions.join(A, "hall").unwrap();
        assert!(!sessions.refused(&A, "hall", first) && sessions.is_in(&A, "hall"));
        assert!(!sessions.refused(&A, "yard", second) && !sessions.refused(&B, "hall", second));
        assert!(sessions.refused(&A, "hall", second) && !sessions.is_in(&A, "hall"));
        assert!(!sessions.refused(&A, "hall", second));
    }

    #[test]
    fn a_refusal_that_is_taken_for_a_later_one_ends_the_membership() {
        let mut sessions = Sessions::new();
        let first = sessions.join(A, "hall").unwrap();
        for _ in 0..256 {
            sessions.join(A, "hall");
        }
        // The home, which may have taken in the last, is told to let go.
        assert!(sessions.refused(&A, "hall", first) && !sessions.is_in(&A, "hall"));
    }

    #[test]
    fn there_are_no_more_names_than_numbers() {
        let mut names = Names { most: 2, ..Names::default() };
        assert_eq!(
            (names.take("hall"), names.take("yard"), names.take("roof")),
            (Some(1), Some(2), None)
        );
        assert_eq!(names.take("hall"), Some(1));
        names.release(2);
        assert_eq!((names.take("roof"), names.take("yard")), (Some(2), None));
        assert_eq!(Names::default().most, SYMBOL_MASK);
    }
}
