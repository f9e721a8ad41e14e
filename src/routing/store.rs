//! What handlers note of one connection, shared by all threads that work for it.
//!
//! Invariants:
//! - each operation is atomic: of two increments at once none is lost;
//! - keys, their length and the length of values are bounded, so a client whose handler notes what
//!   it says cannot make the gateway grow beyond;
//! - no code of the library's user runs under the lock.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::limits::{STORE_KEY_MAX, STORE_KEYS_MAX, STORE_VALUE_MAX};

/// The keys and values of one connection. Empty, it owns no memory.
#[derive(Debug, Default)]
pub struct Store {
    values: Mutex<HashMap<Box<str>, Value>>,
}

impl Store {
    /// A store without keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy of what stands under a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value> {
        self.lock().get(key).cloned()
    }

    /// Puts a value under a key; answers the one that it replaces.
    ///
    /// # Errors
    /// The key or the value is too long, or the key is new and there are too many.
    pub fn set(&self, key: &str, value: impl Into<Value>) -> Result<Option<Value>, StoreError> {
        let value = value.into();
        check_key(key)?;
        if value.len() > STORE_VALUE_MAX {
            return Err(StoreError::ValueTooLong(value.len()));
        }
        let mut values = self.lock();
        if let Some(old) = values.get_mut(key) {
            return Ok(Some(std::mem::replace(old, value)));
        }
        insert_new(&mut values, key, value)?;
        Ok(None)
    }

    /// Takes a key out; answers what stood under it.
    pub fn remove(&self, key: &str) -> Option<Value> {
        let mut values = self.lock();
        let removed = values.remove(key);
        if values.is_empty() {
            *values = HashMap::new();
        }
        removed
    }

    /// Adds to the number under a key, where a missing one counts as 0; answers the sum.
    ///
    /// # Errors
    /// What stands there is no number, the sum does not fit, or a new key cannot be had. Nothing
    /// has changed then.
    pub fn incr(&self, key: &str, by: i64) -> Result<i64, StoreError> {
        check_key(key)?;
        let mut values = self.lock();
        match values.get_mut(key) {
            Some(Value::Int(number)) => {
                *number = number.checked_add(by).ok_or(StoreError::Overflow)?;
                Ok(*number)
            }
            Some(_) => Err(StoreError::NotANumber),
            None => insert_new(&mut values, key, Value::Int(by)).map(|()| by),
        }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Value>> {
        // Every change is a single step, so a thread that died in here left no half of one.
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_key(key: &str) -> Result<(), StoreError> {
    if key.len() > STORE_KEY_MAX { Err(StoreError::KeyTooLong(key.len())) } else { Ok(()) }
}

fn insert_new(
    values: &mut HashMap<Box<str>, Value>,
    key: &str,
    value: Value,
) -> Result<(), StoreError> {
    if values.len() >= STORE_KEYS_MAX {
        return Err(StoreError::TooManyKeys);
    }
    values.insert(key.into(), value);
    Ok(())
}

/// What stands under a key of a [`Store`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number: what [`Store::incr`] works on.
    Int(i64),
    /// Text, also such as reads like a number.
    Text(Box<str>),
    /// Bytes.
    Bytes(Box<[u8]>),
}

impl Value {
    /// The number, if it is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The bytes of a text or of bytes.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Int(_) => None,
            Self::Text(text) => Some(text.as_bytes()),
            Self::Bytes(bytes) => Some(bytes),
        }
    }

    /// Bytes that it takes beside itself.
    fn len(&self) -> usize {
        self.as_bytes().map_or(0, <[u8]>::len)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Int(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Int(number.into())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Box<str>> for Value {
    fn from(text: Box<str>) -> Self {
        Self::Text(text)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(bytes: &[u8; N]) -> Self {
        Self::Bytes(bytes.as_slice().into())
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<Box<[u8]>> for Value {
    fn from(bytes: Box<[u8]>) -> Self {
        Self::Bytes(bytes)
    }
}

/// Why a [`Store`] did not do what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// The key has so many bytes.
    KeyTooLong(usize),
    /// The value has so many bytes.
    ValueTooLong(usize),
    /// The key would be one more than the most.
    TooManyKeys,
    /// What stands under the key is no number.
    NotANumber,
    /// The sum does not fit into 64 bits with a sign.
    Overflow,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyTooLong(n) => write!(f, "a key of {n} bytes; the most is {STORE_KEY_MAX}"),
            Self::ValueTooLong(n) => {
                write!(f, "a value of {n} bytes; the most is {STORE_VALUE_MAX}")
            }
            Self::TooManyKeys => write!(f, "{STORE_KEYS_MAX} keys already, the most"),
            Self::NotANumber => f.write_str("what stands under the key is no number"),
            Self::Overflow => f.write_str("the sum does not fit into 64 bits"),
        }
    }
}

impl std::error::Error for StoreError {}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn values_of_every_kind_come_back() {
        let store = Store::new();
        assert_eq!(store.get("a"), None);
        assert_eq!(store.set("a", 7), Ok(None));
        assert_eq!(store.set("a", "text"), Ok(Some(Value::Int(7))));
        assert_eq!(store.set("a", b"\0\xff"), Ok(Some("text".into())));
        assert_eq!(store.get("a"), Some(Value::Bytes([0, 255].into())));
        assert_eq!(store.set("", String::new()), Ok(None), "an empty key is one as well");
        assert_eq!(store.len(), 2);
        assert_eq!(store.remove("a"), Some(b"\0\xff".into()));
        assert_eq!(store.remove("a"), None);
        assert_eq!(store.get("").unwrap().as_str(), Some(""));
        assert!(!store.is_empty());
    }

    #[test]
    fn numbers_are_added_to() {
        let store = Store::new();
        assert_eq!(store.incr("n", 5), Ok(5));
        assert_eq!(store.incr("n", -7), Ok(-2));
        assert_eq!(store.get("n").unwrap().as_int(), Some(-2));
        store.set("n", i64::MAX).unwrap();
        assert_eq!(store.incr("n", 1), Err(StoreError::Overflow));
        assert_eq!(store.get("n"), Some(Value::Int(i64::MAX)), "unchanged");
        store.set("t", "5").unwrap();
        assert_eq!(store.incr("t", 1), Err(StoreError::NotANumber));
        assert_eq!(store.get("t"), Some("5".into()), "unchanged");
    }

    #[test]
    fn bounds_hold() {
        let store = Store::new();
        let longest = "k".repeat(STORE_KEY_MAX);
        let too_long = "k".repeat(STORE_KEY_MAX + 1);
        assert_eq!(store.set(&longest, 1), Ok(None));
        assert_eq!(store.set(&too_long, 1), Err(StoreError::KeyTooLong(STORE_KEY_MAX + 1)));
        assert_eq!(store.incr(&too_long, 1), Err(StoreError::KeyTooLong(STORE_KEY_MAX + 1)));
        assert_eq!(store.set("v", vec![0u8; STORE_VALUE_MAX]), Ok(None));
        let error = StoreError::ValueTooLong(STORE_VALUE_MAX + 1);
        assert_eq!(store.set("v", "v".repeat(STORE_VALUE_MAX + 1)), Err(error));
        assert_eq!(store.get("v").unwrap().as_bytes().unwrap().len(), STORE_VALUE_MAX);
        for n in store.len()..STORE_KEYS_MAX {
            assert_eq!(store.incr(&n.to_string(), 1), Ok(1));
        }
        assert_eq!(store.set("one more", 1), Err(StoreError::TooManyKeys));
        assert_eq!(store.incr("one more", 1), Err(StoreError::TooManyKeys));
        assert_eq!(store.incr(&longest, 1), Ok(2), "a key that is there can change");
        assert!(store.set("v", 0).is_ok());
        store.remove("v");
        assert_eq!(store.set("one more", 1), Ok(None));
        assert_eq!(store.len(), STORE_KEYS_MAX);
    }

    #[test]
    fn no_increment_is_lost() {
        let store = Store::new();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| assert!(store.incr("n", 1).is_ok())));
            }
        });
        assert_eq!(store.incr("n", 0), Ok(4000));
    }

    #[test]
    fn a_thread_that_died_holding_the_lock_is_no_hindrance() {
        let store = Store::new();
        store.set("a", 1).unwrap();
        let died = thread::scope(|scope| {
            let dying = scope.spawn(|| {
                let _lock = store.lock();
                panic!("on purpose");
            });
            dying.join().is_err()
        });
        assert!(died && store.values.is_poisoned());
        assert_eq!(store.incr("a", 1), Ok(2));
    }
}
