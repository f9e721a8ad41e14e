//! Which pages browsers may connect from (RFC 6454; RFC 6455, 4.2.2 and 10.2).

use std::fmt;

/// One rule of an endpoint's allow-list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginRule {
    /// Pages of the host that is connected to, by either scheme.
    SameHost,
    /// All pages.
    Any,
    /// One origin, in lower case and without the scheme's own port: `https://example.com`.
    Exact(String),
    /// All hosts below one: `https://*.example.com`, without `https://example.com` itself.
    Subdomains {
        /// The scheme, in lower case.
        scheme: String,
        /// What hosts end with, and the port if it is not the scheme's own: `.example.com`.
        suffix: String,
    },
}

impl OriginRule {
    /// Reads a rule as it stands in a file.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "*" => return Ok(Self::Any),
            "same-host" => return Ok(Self::SameHost),
            "null" => return Ok(Self::Exact("null".to_owned())),
            _ => {}
        }
        let expected = || {
            "same-host, *, or an origin such as https://example.com, http://localhost:3000 or \
             https://*.example.com"
                .to_owned()
        };
        let (scheme, authority) = split(text).ok_or_else(expected)?;
        let host = authority.strip_prefix("*.").unwrap_or(&authority);
        if host.is_empty() || !host.bytes().all(is_of_authority) {
            return Err(expected());
        }
        Ok(match authority.strip_prefix('*') {
            Some(suffix) => Self::Subdomains { suffix: suffix.to_owned(), scheme },
            None => Self::Exact(format!("{scheme}://{authority}")),
        })
    }

    /// Whether a page of `origin` may connect to `host`: the values of the headers `Origin` and
    /// `Host`.
    #[must_use]
    pub fn allows(&self, origin: &str, host: &str) -> bool {
        if *self == Self::Any {
            return true;
        }
        let Some((scheme, authority)) = split(origin) else {
            return matches!(self, Self::Exact(exact) if exact.eq_ignore_ascii_case(origin));
        };
        match self {
            Self::Any => true,
            Self::SameHost => authority == without_own_port(&scheme, &host.to_ascii_lowercase()),
            Self::Exact(exact) => *exact == format!("{scheme}://{authority}"),
            Self::Subdomains { scheme: own, suffix } => {
                scheme == *own && authority.len() > suffix.len() && authority.ends_with(suffix)
            }
        }
    }
}

impl fmt::Display for OriginRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameHost => f.write_str("same-host"),
            Self::Any => f.write_str("*"),
            Self::Exact(origin) => f.write_str(origin),
            Self::Subdomains { scheme, suffix } => write!(f, "{scheme}://*{suffix}"),
        }
    }
}

/// Scheme and authority of an origin, in lower case, without the scheme's own port.
fn split(origin: &str) -> Option<(String, String)> {
    let origin = origin.to_ascii_lowercase();
    let (scheme, authority) = origin.split_once("://")?;
    let is_scheme = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    if scheme.is_empty() || !scheme.bytes().all(is_scheme) {
        return None;
    }
    Some((scheme.to_owned(), without_own_port(scheme, authority).to_owned()))
}

fn without_own_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let port = match scheme {
        "http" | "ws" => ":80",
        "https" | "wss" => ":443",
        _ => return authority,
    };
    authority.strip_suffix(port).unwrap_or(authority)
}

fn is_of_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(rule: &str, origin: &str, host: &str) -> bool {
        OriginRule::parse(rule).unwrap().allows(origin, host)
    }

    #[test]
    fn a_page_of_the_same_host_is_told_by_host_and_port() {
        for (origin, host, same) in [
            ("https://example.com", "example.com", true),
            ("http://Example.com", "example.COM:80", true),
            ("https://example.com:443", "example.com", true),
            ("http://localhost:3000", "localhost:3000", true),
            ("http://[::1]:8080", "[::1]:8080", true),
            ("http://localhost:3000", "localhost:8080", false),
            ("https://example.com", "example.com:80", false),
            ("https://example.com.evil.net", "example.com", false),
            ("null", "example.com", false),
            ("", "", false),
        ] {
            assert_eq!(allows("same-host", origin, host), same, "{origin} {host}");
        }
    }

    #[test]
    fn listed_origins_are_let_in_and_no_others() {
        for (rule, origin, let_in) in [
            ("https://example.com", "https://example.com", true),
            ("https://Example.com:443", "HTTPS://example.com", true),
            ("https://example.com", "http://example.com", false),
            ("https://example.com", "https://example.com:8443", false),
            ("https://*.example.com", "https://a.b.example.com", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://.example.com", false),
            ("https://*.example.com", "https://evilexample.com", false),
            ("https://*.example.com", "https://a.example.com:8443", false),
            ("https://*.example.com:8443", "https://a.example.com:8443", true),
            ("null", "null", true),
            ("null", "https://null", false),
            ("*", "anything", true),
        ] {
            assert_eq!(allows(rule, origin, "gateway.net"), let_in, "{rule} {origin}");
        }
    }

    #[test]
    fn rules_are_read_and_written_back() {
        for text in ["same-host", "*", "null", "https://example.com", "https://*.example.com:8443"]
        {
            assert_eq!(OriginRule::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "example.com",
            "https://",
            "https://*",
            "https://a.com/x",
            "https://*.",
            "https://a*.b",
        ] {
            assert!(OriginRule::parse(text).is_err(), "{text}");
        }
    }
}
