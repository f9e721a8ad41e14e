//! Who a connection is, read off its request, and what happens when that one is here already.

use std::fmt;
use std::str::FromStr;

use super::admission::{ConnectRequest, Refuse};
use super::path::percent_decoded;
use crate::limits::IDENTITY_PART_MAX;

/// What happens when an identity connects that is connected already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionPolicy {
    /// All its connections stay.
    #[default]
    Allow,
    /// So many stay; a further one is refused with 409.
    AllowUpTo(usize),
    /// The one that is there stays; a further one is refused with 409.
    Reject,
    /// The new one stays; those that were there are closed with 4001.
    Displace,
}

impl SessionPolicy {
    /// How many connections an identity may have before a further one is refused.
    pub(crate) fn limit(self) -> Option<usize> {
        match self {
            Self::Allow | Self::Displace => None,
            Self::AllowUpTo(limit) => Some(limit),
            Self::Reject => Some(1),
        }
    }
}

impl FromStr for SessionPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "allow, reject, displace, or a number of connections such as `allow 3`";
        Ok(match text {
            "allow" => Self::Allow,
            "reject" => Self::Reject,
            "displace" => Self::Displace,
            text => {
                let number = text.strip_prefix("allow ").and_then(|n| n.parse().ok());
                Self::AllowUpTo(number.filter(|n| *n > 0).ok_or_else(expected)?)
            }
        })
    }
}

impl fmt::Display for SessionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("allow"),
            Self::AllowUpTo(limit) => write!(f, "allow {limit}"),
            Self::Reject => f.write_str("reject"),
            Self::Displace => f.write_str("displace"),
        }
    }
}

/// A part of a request that says who it is from: `query.user` or `header.clientName`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityPart {
    /// A parameter of the URL.
    Query(Box<str>),
    /// A header field.
    Header(Box<str>),
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

/// The identity that a request names: its parts, joined by `-`.
///
/// # Errors
/// 401 where a part is missing, 400 where one is empty, too long or not plain.
pub(crate) fn identify(
    parts: &[IdentityPart],
    request: &ConnectRequest<'_>,
) -> Result<String, Refuse> {
    let mut identity = String::new();
    for part in parts {
        let value = match part {
            IdentityPart::Query(name) => parameter(request.query, name),
            IdentityPart::Header(name) => request.header(name).map(Into::into),
        };
        let missing = || Refuse::new(401, &format!("The request has no {part}.\n"));
        let value: Box<str> = value.ok_or_else(missing)?;
        if !(1..=IDENTITY_PART_MAX).contains(&value.len()) || value.chars().any(char::is_control) {
            let what = format!("{part} has 1 to {IDENTITY_PART_MAX} bytes of plain text.\n");
            return Err(Refuse::new(400, &what));
        }
        if !identity.is_empty() {
            identity.push('-');
        }
        identity.push_str(&value);
    }
    Ok(identity)
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
    fn policies_and_parts_are_read_as_they_are_written() {
        for text in ["allow", "reject", "displace", "allow 3"] {
            assert_eq!(text.parse::<SessionPolicy>().unwrap().to_string(), text);
        }
        for text in ["", "allow 0", "allow x", "Allow", "3"] {
            assert!(text.parse::<SessionPolicy>().is_err(), "{text}");
        }
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
