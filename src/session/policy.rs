//! What happens when an identity connects that is connected already.

use std::fmt;
use std::str::FromStr;

/// What happens when an identity connects that is connected already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionPolicy {
    /// All its connections stay.
    #[default]
    Allow,
    /// So many stay; a further one is refused with 409.
    AllowUpTo(usize),
    /// The latest so many stay; the oldest is displaced by a further one.
    AllowLatest(usize),
    /// The one that is there stays; a further one is refused with 409.
    Reject,
    /// The new one stays; those that were there are told, and closed with 4001.
    Displace,
}

impl SessionPolicy {
    /// How many logins of one identity there may be beside a new one, and whether the new one is
    /// refused where there are more. `None`: any number.
    pub(super) fn others_max(self) -> Option<(usize, bool)> {
        match self {
            Self::Allow => None,
            Self::AllowUpTo(most) => Some((most.saturating_sub(1), true)),
            Self::AllowLatest(most) => Some((most.saturating_sub(1), false)),
            Self::Reject => Some((0, true)),
            Self::Displace => Some((0, false)),
        }
    }
}

impl FromStr for SessionPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || "allow, reject, displace, or a number such as `allow 3` or `latest 3`".to_owned();
        let number = |text: &str| text.parse().ok().filter(|n| *n > 0).ok_or_else(expected);
        Ok(match (text, text.split_once(' ')) {
            ("allow", _) => Self::Allow,
            ("reject", _) => Self::Reject,
            ("displace", _) => Self::Displace,
            (_, Some(("allow", most))) => Self::AllowUpTo(number(most)?),
            (_, Some(("latest", most))) => Self::AllowLatest(number(most)?),
            _ => return Err(expected()),
        })
    }
}

impl fmt::Display for SessionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("allow"),
            Self::AllowUpTo(most) => write!(f, "allow {most}"),
            Self::AllowLatest(most) => write!(f, "latest {most}"),
            Self::Reject => f.write_str("reject"),
            Self::Displace => f.write_str("displace"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_they_are_written() {
        for text in ["allow", "reject", "displace", "allow 3", "latest 2"] {
            assert_eq!(text.parse::<SessionPolicy>().unwrap().to_string(), text);
        }
        for text in ["", "allow 0", "allow x", "Allow", "3", "latest", "latest 0", "reject 2"] {
            assert!(text.parse::<SessionPolicy>().is_err(), "{text}");
        }
    }
}
