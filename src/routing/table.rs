//! From a message's key to its route.
//!
//! Invariants:
//! - an exact route wins over every prefix, a longer prefix over a shorter, the default comes last;
//! - an exact route costs one lookup, however many there are; prefixes are only looked at without
//!   one, and nothing is allocated.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use crate::dialect::Key;

type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<WordHasher>>;

/// Longest decimal of a `u32`.
const DECIMAL_MAX: usize = 10;

/// Routes by pattern: `chat.talk` is a name, `chat.*` all that begin with `chat.`, `*` the default.
/// A pattern that is a decimal, such as `2`, is for the number and for the name alike.
#[derive(Clone)]
pub(crate) struct RouteTable<T> {
    /// In the order in which they were added.
    routes: Vec<(Box<str>, T)>,
    names: FastMap<Box<str>, usize>,
    numbers: FastMap<u32, usize>,
    /// The longest first.
    prefixes: Vec<(Box<str>, usize)>,
    default: Option<usize>,
}

/// Whether a text can be the pattern of a route.
///
/// # Errors
/// What was expected.
pub(crate) fn check_key(pattern: &str) -> Result<(), String> {
    let expected = "a name, a number, a prefix such as `chat.*`, or `*`";
    match pattern.find('*') {
        _ if pattern.is_empty() => Err(expected.to_owned()),
        Some(at) if at + 1 < pattern.len() => Err("`*` to stand at the end, as in `chat.*`".into()),
        _ => Ok(()),
    }
}

impl<T> RouteTable<T> {
    pub(crate) fn new() -> Self {
        Self {
            routes: Vec::new(),
            names: FastMap::default(),
            numbers: FastMap::default(),
            prefixes: Vec::new(),
            default: None,
        }
    }

    /// Adds a route; answers the one of the same pattern that it replaces. What [`check_key`] finds
    /// fault with is taken for a name; an empty one is never found.
    pub(crate) fn insert(&mut self, pattern: &str, route: T) -> Option<T> {
        if let Some((_, old)) = self.routes.iter_mut().find(|(known, _)| **known == *pattern) {
            return Some(std::mem::replace(old, route));
        }
        let index = self.routes.len();
        self.routes.push((pattern.into(), route));
        match Pattern::of(pattern) {
            Pattern::Default => self.default = Some(index),
            Pattern::Prefix(prefix) => {
                let at = self.prefixes.partition_point(|(p, _)| p.len() >= prefix.len());
                self.prefixes.insert(at, (prefix.into(), index));
            }
            // No key is for the default alone.
            Pattern::Name("", _) => {}
            Pattern::Name(name, number) => {
                self.names.insert(name.into(), index);
                if let Some(number) = number {
                    self.numbers.insert(number, index);
                }
            }
        }
        None
    }

    /// The route of a key.
    #[inline]
    pub(crate) fn find(&self, key: &Key<'_>) -> Option<&T> {
        if key.is_none() {
            return self.default.map(|index| &self.routes[index].1);
        }
        self.find_named(key)
    }

    fn find_named(&self, key: &Key<'_>) -> Option<&T> {
        let exact = match key {
            Key::Name(name) => self.names.get(&**name),
            Key::Number(number) => self.numbers.get(number),
        };
        let index = match exact {
            Some(index) => *index,
            None => self.find_inexact(key)?,
        };
        Some(&self.routes[index].1)
    }

    /// The patterns, in the order in which they were added.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().map(|(pattern, _)| &**pattern)
    }

    /// The routes, in the order in which they were added.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.routes.iter().map(|(_, route)| route)
    }

    /// Whether there is no route.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    fn find_inexact(&self, key: &Key<'_>) -> Option<usize> {
        let mut digits = [0; DECIMAL_MAX];
        let text = match key {
            Key::Name(name) => name.as_bytes(),
            Key::Number(number) => decimal(*number, &mut digits),
        };
        let mut prefixes = self.prefixes.iter();
        let longest = prefixes.find(|(prefix, _)| text.starts_with(prefix.as_bytes()));
        longest.map(|(_, index)| *index).or(self.default)
    }
}

impl<T> Default for RouteTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for RouteTable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys()).finish()
    }
}

/// What the text of a pattern says.
enum Pattern<'a> {
    /// A name, and the number that it is in decimal.
    Name(&'a str, Option<u32>),
    /// The letters before the star.
    Prefix(&'a str),
    Default,
}

impl<'a> Pattern<'a> {
    fn of(pattern: &'a str) -> Self {
        match pattern.strip_suffix('*') {
            Some("") => Self::Default,
            Some(prefix) if !prefix.contains('*') => Self::Prefix(prefix),
            _ => {
                // Numbers are written one way: `007` is a name and no number.
                let number: Option<u32> = pattern.parse().ok();
                Self::Name(pattern, number.filter(|n| n.to_string() == pattern))
            }
        }
    }
}

fn decimal(mut number: u32, digits: &mut [u8; DECIMAL_MAX]) -> &[u8] {
    let mut at = DECIMAL_MAX;
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

/// A fast hash, a multiplication per 8 bytes, for tables that clients only look things up in.
///
/// Whoever knows it can find names that collide, which hurts where he can put them into the table.
/// Here he cannot: the names in it are the configuration's.
#[derive(Default)]
struct WordHasher(u64);

impl WordHasher {
    /// 2^64 divided by the golden ratio.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

    #[inline]
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(Self::FACTOR);
    }
}

impl Hasher for WordHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        self.mix(rest.iter().fold(bytes.len() as u64, |word, byte| word << 8 | u64::from(*byte)));
    }

    /// What ends a `str`: the length is in the hash already.
    #[inline]
    fn write_u8(&mut self, _: u8) {}

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.mix(number.into());
    }

    /// The map takes its bucket from the low bits, where a multiplication mixes least.
    #[inline]
    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn table(patterns: &[&'static str]) -> RouteTable<&'static str> {
        let mut table = RouteTable::new();
        for pattern in patterns {
            assert_eq!(table.insert(pattern, *pattern), None);
        }
        table
    }

    fn found<'a>(table: &RouteTable<&'a str>, key: impl Into<Key<'static>>) -> &'a str {
        table.find(&key.into()).copied().unwrap_or("none")
    }

    #[test]
    fn exact_then_longest_prefix_then_default() {
        let all = ["*", "chat.*", "chat.room.*", "chat.talk", "chat", "c*", "x.*"];
        let reversed: Vec<_> = all.iter().rev().copied().collect();
        for table in [table(&all), table(&reversed)] {
            for (key, route) in [
                ("chat.talk", "chat.talk"),
                ("chat.talks", "chat.*"),
                ("chat.", "chat.*"),
                ("chat", "chat"),
                ("chats", "c*"),
                ("chat.room.join", "chat.room.*"),
                ("chat.room.", "chat.room.*"),
                ("chat.room", "chat.*"),
                ("x", "*"),
                ("x.", "x.*"),
                ("Chat", "*"),
                ("", "*"),
            ] {
                assert_eq!(found(&table, key), route, "{key}");
            }
            assert_eq!(table.keys().count(), all.len());
        }
    }

    #[test]
    fn without_a_default_nothing_is_found() {
        let table = table(&["chat.*", "talk"]);
        assert_eq!(found(&table, "tal"), "none");
        assert_eq!(found(&table, ""), "none");
        assert_eq!(found(&table, 1u32), "none");
        assert_eq!(found(&RouteTable::new(), "talk"), "none");
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        let table = table(&["2", "4294967295", "4294967296", "007", "0", "12*", "+5", "-1"]);
        for number in [0, 2, u32::MAX] {
            assert_eq!(found(&table, number), number.to_string());
            assert_eq!(found(&table, Key::Name(number.to_string().into())), number.to_string());
        }
        assert_eq!(found(&table, "4294967296"), "4294967296");
        assert_eq!(found(&table, "007"), "007");
        assert_eq!(found(&table, "+5"), "+5");
        for number in [7u32, 5, 1, 3, 11, 42] {
            assert_eq!(found(&table, number), "none", "{number}");
        }
        for number in [12u32, 120, 1234567890] {
            assert_eq!(found(&table, number), "12*", "{number}");
        }
    }

    #[test]
    fn no_key_is_for_the_default_alone() {
        let mut table = table(&["", "a*"]);
        assert_eq!(table.find(&Key::NONE), None);
        table.insert("*", "*");
        assert_eq!(table.find(&Key::NONE), Some(&"*"));
    }

    #[test]
    fn a_route_replaces_the_one_of_its_pattern() {
        let mut table = table(&["a", "b.*", "*", "7"]);
        for pattern in ["a", "b.*", "*", "7"] {
            assert_eq!(table.insert(pattern, "new"), Some(pattern));
        }
        assert_eq!(table.keys().count(), 4);
        assert_eq!(table.keys().collect::<Vec<_>>(), ["a", "b.*", "*", "7"]);
        for key in ["a", "b.x", "else", "7"] {
            assert_eq!(found(&table, key), "new");
        }
        assert_eq!(found(&table, 7u32), "new");
    }

    #[test]
    fn patterns_are_checked() {
        for fine in ["a", "*", "a*", "chat.*", "1", "${a}:${b}", "ä*"] {
            assert_eq!(check_key(fine), Ok(()), "{fine}");
        }
        for (bad, why) in
            [("", "a name"), ("*a", "at the end"), ("a*b", "at the end"), ("**", "at the end")]
        {
            let error = check_key(bad).expect_err(bad);
            assert!(error.contains(why) && error.contains("`chat.*`"), "{error}");
        }
        let table = table(&["a*b", "**", "a**"]);
        for name in ["a*b", "**", "a**"] {
            assert_eq!(found(&table, name), name, "unchecked, a name");
        }
        assert_eq!(found(&table, "axb"), "none");
    }

    #[test]
    fn many_names_spread() {
        let mut table = RouteTable::new();
        for n in 0..2000 {
            table.insert(&format!("service.method.{n}"), n);
            table.insert(&n.to_string(), n);
        }
        for n in 0..2000 {
            let name = format!("service.method.{n}");
            assert_eq!(table.find(&Key::from(&*name)), Some(&n));
            assert_eq!(table.find(&Key::Number(n)), Some(&n));
        }
        let hash = |name: &str| {
            let mut hasher = WordHasher::default();
            hasher.write(name.as_bytes());
            hasher.finish()
        };
        // Zeros behind and letters moved are other names.
        let names =
            ["", "\0", "\0\0", "a", "a\0", "ab", "ba", "abcdefgh", "abcdefgh\0", "bacdefgh"];
        assert_eq!(names.map(hash).iter().collect::<HashSet<_>>().len(), names.len());
        let buckets: HashSet<_> = (0..4096).map(|n| hash(&format!("k{n}")) % 4096).collect();
        assert!(buckets.len() > 2048, "{} of 4096", buckets.len());
    }

    #[test]
    fn decimals() {
        for number in [0, 1, 9, 10, 99, 100, 4_294_967_295] {
            assert_eq!(decimal(number, &mut [0; DECIMAL_MAX]), number.to_string().as_bytes());
        }
    }
}
