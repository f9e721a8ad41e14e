//! Who a connection is, read off its request.

use std::fmt;
use std::str::FromStr;

use super::admission::{ConnectRequest, Refuse};
use super::path::percent_decoded;
use crate::limits::IDENTITY_PART_MAX;
use crate::session::Identity;

/// A part of a request that says who it is from: `query.user` or `header.clientName`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityPart {
    /// A parameter of the URL.
    Query(Box<str>),
    /// A header field.
    Header(Box<str>),
}

/// Where in a request stands who it is from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentitySource {
    /// User, type, device and source, as far as there are any; all of these have to be there.
    pub id: Vec<IdentityPart>,
    /// The client's version, where it is given.
    pub version: Option<IdentityPart>,
    /// The client's charset, where it is given: `0` or `utf-8`, `1` or `gbk`.
    pub charset: Option<IdentityPart>,
}

impl IdentitySource {
    /// Most parts of an id.
    pub const PARTS_MAX: usize = 4;

    /// The identity that a request names.
    ///
    /// # Errors
    /// 401 where a part of the id is missing, 400 where one is empty, too long or not plain, or
    /// where there is no such charset.
    pub fn identify(&self, request: &ConnectRequest<'_>) -> Result<Identity, Refuse> {
        let mut parts: [Box<str>; Self::PARTS_MAX] = Default::default();
        for (at, part) in parts.iter_mut().zip(&self.id) {
            let missing = || Refuse::new(401, &format!("The request has no {part}.\n"));
            *at = part.value_in(request).ok_or_else(missing)?;
            if at.is_empty() {
                return Err(bad(part));
            }
        }
        let identity = Identity::of(parts.each_ref().map(|part| &**part));
        let mut identity = identity.map_err(|error| Refuse::new(400, &format!("{error}\n")))?;
        if let Some(part) = &self.version
            && let Some(version) = part.value_in(request)
        {
            if version.len() > IDENTITY_PART_MAX || version.chars().any(char::is_control) {
                return Err(bad(part));
            }
            identity = identity.with_version(&version);
        }
        if let Some(part) = &self.charset
            && let Some(charset) = part.value_in(request)
        {
            let unknown = |()| Refuse::new(400, &format!("{part} is utf-8 or gbk.\n"));
            identity = identity.with_charset(charset.parse().map_err(unknown)?);
        }
        Ok(identity)
    }
}

fn bad(part: &IdentityPart) -> Refuse {
    Refuse::new(400, &format!("{part} has 1 to {IDENTITY_PART_MAX} bytes of plain text.\n"))
}

impl IdentityPart {
    fn value_in(&self, request: &ConnectRequest<'_>) -> Option<Box<str>> {
        match self {
            Self::Query(name) => parameter(request.query, name),
            Self::Header(name) => request.header(name).map(Into::into),
        }
    }
}

impl FromStr for IdentityPart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (place, name) = text.split_once('.').unwrap_or_default();
        match place {
            "query" if !name.is_empty() => Ok(Self::Query(name.into())),
            "header" if !name.is_empty() => Ok(Self::Header(name.into())),
            _ => Err("a parameter or header such as query.user or header.clientName".to_owned()),
        }
    }
}

impl fmt::Display for IdentityPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(name) => write!(f, "query.{name}"),
            Self::Header(name) => write!(f, "header.{name}"),
        }
    }
}

/// The first parameter of that name, decoded.
fn parameter(query: Option<&str>, name: &str) -> Option<Box<str>> {
    let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    percent_decoded(pairs.find(|(known, _)| *known == name)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_they_are_written() {
        for text in ["query.user", "header.clientName"] {
            assert_eq!(text.parse::<IdentityPart>().unwrap().to_string(), text);
        }
        for text in ["user", "query.", ".user", "cookie.user"] {
            assert!(text.parse::<IdentityPart>().is_err(), "{text}");
        }
    }

    #[test]
    fn parameters_are_decoded() {
        let query = Some("a=1&user=b%20c&user=d&e");
        assert_eq!(parameter(query, "user").as_deref(), Some("b c"));
        assert_eq!((parameter(query, "e"), parameter(None, "a")), (None, None));
        assert_eq!(parameter(Some("a=%zz"), "a"), None);
    }
}
