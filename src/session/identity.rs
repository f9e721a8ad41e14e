//! Who a connection is.

use std::fmt;

use crate::limits::IDENTITY_PART_MAX;

/// Who a connection is: a user and, where that tells its connections apart, a type, a device and a
/// source. These four make the [id](Self::id); version and charset say more of the client.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The parts that are not empty, joined by `-`.
    id: Box<str>,
    /// How long each of the four is: joined, `a-b` and `c` are what `a` and `b-c` are.
    lengths: [u8; 4],
    charset: Charset,
    version: Option<Box<str>>,
}

/// How text of a client's is encoded. It is told, not converted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Charset {
    /// UTF-8, written `0` or `utf-8`.
    #[default]
    Utf8,
    /// GBK, written `1` or `gbk`.
    Gbk,
}

/// A part of an identity is empty where it must not be, too long, or no plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityError {
    /// Which part.
    pub part: &'static str,
}

const PARTS: [&str; 4] = ["user", "type", "device", "source"];

impl Identity {
    /// A user.
    ///
    /// # Errors
    /// Unless it has 1 to 255 bytes and no control characters.
    pub fn new(user: &str) -> Result<Self, IdentityError> {
        Self::of([user, "", "", ""])
    }

    /// A user, type, device and source; those that are empty say nothing.
    ///
    /// # Errors
    /// Unless each has up to 255 bytes, the user at least 1, and no control characters.
    pub fn of(parts: [&str; 4]) -> Result<Self, IdentityError> {
        let mut lengths = [0; 4];
        for (index, part) in parts.iter().enumerate() {
            let is_plain = part.len() <= IDENTITY_PART_MAX && !part.chars().any(char::is_control);
            if !is_plain || index == 0 && part.is_empty() {
                return Err(IdentityError { part: PARTS[index] });
            }
            lengths[index] = part.len() as u8;
        }
        let given: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let id = given.join("-").into();
        Ok(Self { id, lengths, charset: Charset::Utf8, version: None })
    }

    /// The client's version.
    #[must_use]
    pub fn with_version(mut self, version: &str) -> Self {
        self.version = Some(version.into());
        self
    }

    /// The client's charset.
    #[must_use]
    pub fn with_charset(mut self, charset: Charset) -> Self {
        self.charset = charset;
        self
    }

    /// User, type, device and source as far as they are given, joined by `-`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> &str {
        self.part(0)
    }

    /// The type of the client; empty if not given.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.part(1)
    }

    /// The device; empty if not given.
    #[must_use]
    pub fn device(&self) -> &str {
        self.part(2)
    }

    /// The source; empty if not given.
    #[must_use]
    pub fn source(&self) -> &str {
        self.part(3)
    }

    /// The client's version, if it is known.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The client's charset.
    #[must_use]
    pub fn charset(&self) -> Charset {
        self.charset
    }

    /// Whether both are the same user, type, device and source.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.id == other.id && self.lengths == other.lengths
    }

    fn part(&self, index: usize) -> &str {
        let before = self.lengths[..index].iter().filter(|length| **length > 0);
        let start: usize = before.map(|length| usize::from(*length) + 1).sum();
        let length = usize::from(self.lengths[index]);
        if length == 0 { "" } else { &self.id[start..start + length] }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.id).finish()
    }
}

/// As its id.
impl serde::Serialize for Identity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.id)
    }
}

impl std::str::FromStr for Charset {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "0" => Ok(Self::Utf8),
            "1" => Ok(Self::Gbk),
            text if text.eq_ignore_ascii_case("utf-8") => Ok(Self::Utf8),
            text if text.eq_ignore_ascii_case("gbk") => Ok(Self::Gbk),
            _ => Err(()),
        }
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = usize::from(self.part == PARTS[0]);
        write!(
            f,
            "the {} of an identity has {least} to {IDENTITY_PART_MAX} bytes of plain text",
            self.part
        )
    }
}

impl std::error::Error for IdentityError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        let parts = ["ann", "app", "", "web"];
        let identity = Identity::of(parts).unwrap().with_version("1.2").with_charset(Charset::Gbk);
        assert_eq!(identity.id(), "ann-app-web");
        let back = [identity.user(), identity.kind(), identity.device(), identity.source()];
        assert_eq!(back, parts);
        assert_eq!((identity.version(), identity.charset()), (Some("1.2"), Charset::Gbk));
    }

    #[test]
    fn identities_whose_ids_read_the_same_are_not_the_same() {
        let (a, b) = (Identity::of(["a-b", "c", "", ""]), Identity::of(["a", "b-c", "", ""]));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!(a.id(), b.id());
        assert!(!a.is_same_as(&b));
        let newer = a.clone().with_version("2");
        assert!(a.is_same_as(&newer));
    }

    #[test]
    fn what_is_no_plain_text_of_the_right_length_is_refused() {
        let long = "x".repeat(IDENTITY_PART_MAX + 1);
        for parts in [["", "", "", ""], ["a\n", "", "", ""], ["a", "", &long, ""]] {
            assert!(Identity::of(parts).is_err(), "{parts:?}");
        }
        assert_eq!(Identity::of(["a", "", &long, ""]).unwrap_err().part, "device");
        assert_eq!(Identity::new(&long[1..]).unwrap().user().len(), IDENTITY_PART_MAX);
    }
}
