//! Which web pages may connect (RFC 6454; RFC 6455, 10.2).
//!
//! A browser connects wherever a page tells it to, with the user's cookies, and says in `Origin`
//! whose page that is. What is no browser sends none, or whatever it likes: this keeps out other
//! people's pages, not other people's programs.
//!
//! Invariants:
//! - what cannot be read as an origin is nobody's and refused;
//! - hosts are compared whole, label by label: no page is let in for the look of its name.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Whose pages may connect to an endpoint: those that any of its rules allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins(Vec<OriginRule>);

/// Some pages that may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginRule {
    /// Those that came from the host and port that the request is for: `same-host`.
    SameHost,
    /// Everybody's: `*`.
    Any,
    /// Those of one origin, or of all below a domain.
    Of(OriginPattern),
}

impl Default for Origins {
    /// Those of the same host.
    fn default() -> Self {
        Self(vec![OriginRule::SameHost])
    }
}

impl Origins {
    /// Those that any of these rules allows.
    #[must_use]
    pub fn new(rules: Vec<OriginRule>) -> Self {
        Self(rules)
    }

    /// Everybody's.
    #[must_use]
    pub fn any() -> Self {
        Self(vec![OriginRule::Any])
    }

    /// Whether a request with these headers may be upgraded. One without `Origin` may: it does
    /// not come from a web page.
    #[must_use]
    pub fn allows(&self, origin: Option<&[u8]>, host: Option<&[u8]>) -> bool {
        let Some(origin) = origin else { return true };
        self.0.iter().any(|rule| match rule {
            OriginRule::Any => true,
            OriginRule::SameHost => is_same_host(origin, host),
            OriginRule::Of(pattern) => {
                Origin::read(origin).is_some_and(|origin| pattern.matches(&origin))
            }
        })
    }
}

impl FromStr for OriginRule {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        Ok(match text {
            "*" => Self::Any,
            "same-host" => Self::SameHost,
            text => Self::Of(text.parse()?),
        })
    }
}

impl fmt::Display for OriginRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::SameHost => f.write_str("same-host"),
            Self::Of(pattern) => pattern.fmt(f),
        }
    }
}

/// The page's scheme need not be the socket's, which may end TLS elsewhere; it says which port is
/// meant where none is given.
fn is_same_host(origin: &[u8], host: Option<&[u8]>) -> bool {
    let Some(origin) = Origin::read(origin) else { return false };
    let Some(default_port) = default_port(origin.scheme) else { return false };
    let host = host.and_then(|host| std::str::from_utf8(host).ok()).and_then(Authority::read);
    host.is_some_and(|host| {
        host.name == origin.host.name
            && host.port.unwrap_or(default_port) == origin.host.port.unwrap_or(default_port)
    })
}

/// An origin that may connect, or all below a domain: `https://example.com`,
/// `https://example.com:8443`, `https://*.example.com`.
///
/// Without a port the scheme's own is meant. `*.` stands for one label or more, so the domain
/// itself is not among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern {
    text: Box<str>,
    /// In lower case.
    scheme: Box<str>,
    /// In lower case, without the `*.`.
    name: Box<str>,
    /// Not the name itself but what is below it.
    below: bool,
    port: Option<u16>,
}

impl OriginPattern {
    fn matches(&self, origin: &Origin<'_>) -> bool {
        origin.scheme.eq_ignore_ascii_case(&self.scheme)
            && origin.port() == self.port
            && match origin.host.name {
                HostName::Name(name) if self.below => is_below(name, &self.name),
                name => !self.below && HostName::read(&self.name) == Some(name),
            }
    }
}

impl FromStr for OriginPattern {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let error = |expected: &str| OriginError { found: text.into(), expected: expected.into() };
        if text == "*" {
            return Err(error("an origin"));
        }
        let shape = "`scheme://host` or `scheme://host:port`, such as `https://example.com`";
        let (scheme, host) = text.split_once("://").ok_or_else(|| error(shape))?;
        let below = host.strip_prefix("*.");
        let authority = below.unwrap_or(host);
        if authority.contains('*') {
            return Err(error("`*` as the first label only, as in `https://*.example.com`"));
        }
        if authority.contains(['/', '?', '#', '@']) {
            return Err(error("an origin without user, path, query or `/` at its end"));
        }
        let origin = Origin::parts(scheme, authority).ok_or_else(|| error(shape))?;
        if below.is_some() && !matches!(origin.host.name, HostName::Name(_)) {
            return Err(error("a domain behind `*.`, not an address"));
        }
        Ok(Self {
            text: text.into(),
            scheme: scheme.to_ascii_lowercase().into(),
            name: origin.host.text.to_ascii_lowercase().into(),
            below: below.is_some(),
            port: origin.port(),
        })
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is no [`OriginPattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginError {
    /// The text.
    pub found: String,
    /// What was expected instead.
    pub expected: String,
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, not `{}`", self.expected, self.found)
    }
}

impl std::error::Error for OriginError {}

/// What an `Origin` header says, unless it is `null`.
#[derive(Clone, Copy, Debug)]
struct Origin<'a> {
    scheme: &'a str,
    host: Authority<'a>,
}

impl<'a> Origin<'a> {
    fn read(header: &'a [u8]) -> Option<Self> {
        let (scheme, authority) = std::str::from_utf8(header).ok()?.split_once("://")?;
        Self::parts(scheme, authority)
    }

    fn parts(scheme: &'a str, authority: &'a str) -> Option<Self> {
        let in_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let is_scheme =
            scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(in_scheme);
        let host = Authority::read(authority)?;
        is_scheme.then_some(Self { scheme, host })
    }

    /// The port that is given, else the scheme's own, if it has one.
    fn port(&self) -> Option<u16> {
        self.host.port.or_else(|| default_port(self.scheme))
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    let is = |known: &str| scheme.eq_ignore_ascii_case(known);
    if is("https") {
        Some(443)
    } else if is("http") {
        Some(80)
    } else {
        None
    }
}

/// `host` or `host:port`, as both headers have it. Whatever else can stand in a URL's authority,
/// such as a user, is none.
#[derive(Clone, Copy, Debug)]
struct Authority<'a> {
    /// The host as it was written.
    text: &'a str,
    name: HostName<'a>,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let end = match text.starts_with('[') {
            true => text.find(']')? + 1,
            false => text.find(':').unwrap_or(text.len()),
        };
        let (host, rest) = text.split_at(end);
        let port = match rest.strip_prefix(':') {
            Some(digits) => Some(port(digits)?),
            None if rest.is_empty() => None,
            None => return None,
        };
        Some(Self { text: host, name: HostName::read(host)?, port })
    }
}

fn port(digits: &str) -> Option<u16> {
    let number = digits.parse::<u16>().ok().filter(|port| *port != 0);
    number.filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))
}

/// A host, in a form in which the same are equal.
#[derive(Clone, Copy, Debug)]
enum HostName<'a> {
    /// A domain, or an IPv4 address in decimal.
    Name(&'a str),
    V6(Ipv6Addr),
}

impl<'a> HostName<'a> {
    fn read(text: &'a str) -> Option<Self> {
        if let Some(bracketed) = text.strip_prefix('[') {
            return bracketed.strip_suffix(']')?.parse().ok().map(Self::V6);
        }
        // One dot at the end is a domain from the root: to browsers another host than without it.
        let labels = text.strip_suffix('.').unwrap_or(text);
        let in_label = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        let is_label = |label: &str| !label.is_empty() && label.bytes().all(in_label);
        labels.split('.').all(is_label).then_some(Self::Name(text))
    }
}

impl PartialEq for HostName<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) => a.eq_ignore_ascii_case(b),
            (Self::V6(a), Self::V6(b)) => a == b,
            _ => false,
        }
    }
}

/// Whether a valid name has labels in front of `domain`, which is in lower case.
fn is_below(name: &str, domain: &str) -> bool {
    let Some(at) = name.len().checked_sub(domain.len()) else { return false };
    let (labels, end) = name.as_bytes().split_at(at);
    end.eq_ignore_ascii_case(domain.as_bytes()) && labels.len() > 1 && labels.ends_with(b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same_host(origin: &str, host: &str) -> bool {
        Origins::default().allows(Some(origin.as_bytes()), Some(host.as_bytes()))
    }

    fn listed(pattern: &str, origin: &str) -> bool {
        let list = Origins::new(vec![pattern.parse().expect(pattern)]);
        list.allows(Some(origin.as_bytes()), Some(b"example.com"))
    }

    /// What is no origin, whoever is asked.
    const NONE: &[&str] = &[
        "",
        "null",
        "example.com",
        "//example.com",
        "https:example.com",
        "https:/example.com",
        "https://",
        "https:///",
        "https://example.com/",
        "https://example.com/x",
        "https://example.com?x",
        "https://example.com#x",
        "https://example.com\\",
        "https://example.com\\@evil.org",
        "https://evil.org@example.com",
        "https://evil.org:x@example.com",
        "https://@example.com",
        "https://example.com@evil.org",
        "https://example.com%2eevil.org",
        "https://example.com%00.evil.org",
        "https://example.com\0",
        "https://example.com evil.org",
        " https://example.com",
        "https://example.com ",
        "https://evil.org https://example.com",
        "https://evil.org, https://example.com",
        "https://example.com,evil.org",
        "https://example.com:",
        "https://example.com:0",
        "https://example.com:x",
        "https://example.com:+443",
        "https://example.com:65979",
        "https://example.com:443:443",
        "https://example.com:443@evil.org",
        "https://example.com..",
        "https://.example.com",
        "https://..example.com",
        "https://a..example.com",
        "https://[example.com]",
        "https://[::1",
        "https://[::1]x",
        "https://[::1]x:443",
        "https://::1",
        "https://ex\u{e4}mple.com",
        "https://example\u{2024}com",
        "https://*.example.com",
        "://example.com",
        "1https://example.com",
        "ht tps://example.com",
    ];

    #[test]
    fn what_is_no_browser_may_connect() {
        let listed = Origins::new(vec!["https://example.com".parse().unwrap()]);
        for origins in [Origins::default(), Origins::any(), listed, Origins::new(Vec::new())] {
            assert!(origins.allows(None, Some(b"example.com")));
            assert!(origins.allows(None, None));
        }
    }

    #[test]
    fn any_is_any() {
        for origin in NONE {
            assert!(Origins::any().allows(Some(origin.as_bytes()), None));
        }
        assert!(Origins::any().allows(Some(b"\xff"), Some(b"\xff")));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for origin in NONE {
            for host in ["example.com", "example.com:443", "evil.org", "[::1]", "null", ""] {
                assert!(!same_host(origin, host), "{origin:?} at {host:?}");
            }
            for pattern in ["https://example.com", "https://*.example.com", "https://[::1]"] {
                assert!(!listed(pattern, origin), "{origin:?} under {pattern}");
            }
        }
        let bytes = Some(&b"https://example.com\xff"[..]);
        assert!(!Origins::default().allows(bytes, Some(b"example.com\xff")));
        assert!(!Origins::new(vec!["https://example.com".parse().unwrap()]).allows(bytes, None));
    }

    #[test]
    fn the_same_host() {
        for (origin, host) in [
            ("https://example.com", "example.com"),
            ("http://example.com", "example.com"),
            ("HTTPS://Example.COM", "eXample.com"),
            ("https://example.com:443", "example.com"),
            ("https://example.com", "example.com:443"),
            ("http://example.com", "example.com:80"),
            ("http://example.com:80", "example.com"),
            ("http://localhost:8080", "localhost:8080"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://[::1]", "[0:0:0:0:0:0:0:1]:80"),
            ("https://[2001:DB8::a]", "[2001:db8::A]"),
            ("https://my_host", "my_host"),
            ("https://example.com.", "example.com."),
            ("https://xn--mgbh0fb.example", "xn--mgbh0fb.example"),
        ] {
            assert!(same_host(origin, host), "{origin} at {host}");
        }
    }

    #[test]
    fn another_host() {
        for (origin, host) in [
            ("https://evil.org", "example.com"),
            ("https://example.com.evil.org", "example.com"),
            ("https://example.com", "example.com.evil.org"),
            ("https://evilexample.com", "example.com"),
            ("https://sub.example.com", "example.com"),
            ("https://example.com", "sub.example.com"),
            ("https://example.co", "example.com"),
            ("https://example.com.", "example.com"),
            ("https://example.com", "example.com."),
            ("https://example.com:8443", "example.com"),
            ("https://example.com", "example.com:8443"),
            ("https://example.com:8443", "example.com:8444"),
            ("http://example.com", "example.com:443"),
            ("https://example.com", "example.com:80"),
            ("http://127.0.0.1", "127.0.0.2"),
            ("http://[::1]", "[::2]"),
            ("http://[::1]:1", "[::1]:2"),
            ("http://[::ffff:127.0.0.1]", "127.0.0.1"),
            ("https://example.com", ""),
            ("https://example.com", "user@example.com"),
            ("https://example.com", "https://example.com"),
            ("https://example.com", "example.com/"),
            ("https://example.com", "example.com, evil.org"),
            ("chrome-extension://example", "example"),
            ("capacitor://localhost", "localhost"),
            ("file://", ""),
        ] {
            assert!(!same_host(origin, host), "{origin} at {host}");
        }
        assert!(!Origins::default().allows(Some(b"https://example.com"), None), "no host to be at");
    }

    #[test]
    fn listed_origins() {
        for (pattern, origin) in [
            ("https://example.com", "https://example.com"),
            ("https://Example.com", "HTTPS://EXAMPLE.COM:443"),
            ("https://example.com:443", "https://example.com"),
            ("https://example.com:8443", "https://example.com:8443"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:3000", "http://[0::1]:3000"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("chrome-extension://abc", "chrome-extension://abc"),
            ("https://*.example.com", "https://a.example.com"),
            ("https://*.example.com", "https://a.b-c.EXAMPLE.com"),
            ("https://*.example.com:8443", "https://a.example.com:8443"),
            ("http://*.localhost:3000", "http://app.localhost:3000"),
        ] {
            assert!(listed(pattern, origin), "{origin} under {pattern}");
        }
    }

    #[test]
    fn origins_that_are_not_listed() {
        for (pattern, origin) in [
            ("https://example.com", "http://example.com"),
            ("https://example.com", "https://example.com:8443"),
            ("https://example.com:8443", "https://example.com"),
            ("https://example.com", "http://example.com:443"),
            ("https://example.com", "https://a.example.com"),
            ("https://example.com", "https://example.com.evil.org"),
            ("https://example.com", "https://evilexample.com"),
            ("https://example.com", "https://example.com."),
            ("https://example.com", "https://example.org"),
            ("https://*.example.com", "https://example.com"),
            ("https://*.example.com", "https://evilexample.com"),
            ("https://*.example.com", "https://-example.com"),
            ("https://*.example.com", "https://a.example.com.evil.org"),
            ("https://*.example.com", "https://a.example.com."),
            ("https://*.example.com", "https://a.example.com:8443"),
            ("https://*.example.com", "http://a.example.com"),
            ("https://*.example.com", "https://a.example.co"),
            ("https://*.example.com", "https://com"),
            ("https://*.example.com", "https://[::1]"),
            ("capacitor://localhost", "http://localhost"),
            ("http://[::1]", "http://[::2]"),
            ("http://127.0.0.1", "http://[::1]"),
        ] {
            assert!(!listed(pattern, origin), "{origin} under {pattern}");
        }
        assert!(!Origins::new(Vec::new()).allows(Some(b"https://example.com"), None));
        // The list is all: the page's own host is not in it by itself.
        assert!(!listed("https://other.org", "https://example.com"));
    }

    #[test]
    fn several_may_be_listed() {
        let list = ["https://a.org", "https://*.b.org", "http://c.org:81"];
        let list = Origins::new(list.iter().map(|text| text.parse().unwrap()).collect());
        for origin in ["https://a.org", "https://x.b.org", "http://c.org:81"] {
            assert!(list.allows(Some(origin.as_bytes()), None), "{origin}");
        }
        assert!(!list.allows(Some(b"https://b.org"), None));
    }

    #[test]
    fn mistakes_are_told() {
        for (text, why) in [
            ("*", "an origin"),
            ("", "`scheme://host`"),
            ("null", "`scheme://host`"),
            ("example.com", "`scheme://host`"),
            ("https://", "`scheme://host`"),
            ("https://exa mple.com", "`scheme://host`"),
            ("https://example.com:99999", "`scheme://host:port`"),
            ("https://*.", "`scheme://host`"),
            ("https://*", "first label only"),
            ("https://a.*.com", "first label only"),
            ("https://*example.com", "first label only"),
            ("https://*.*.com", "first label only"),
            ("https://example.com:*", "first label only"),
            ("https://example.com/", "without user, path"),
            ("https://user@example.com", "without user, path"),
            ("https://*.[::1]", "not an address"),
        ] {
            let error = text.parse::<OriginPattern>().expect_err(text);
            let told = error.to_string();
            assert!(told.starts_with("expected ") && told.contains(why), "{text}: {told}");
            assert!(told.ends_with(&format!("not `{text}`")), "{told}");
        }
        let pattern: OriginPattern = "https://*.Example.com".parse().unwrap();
        assert_eq!(pattern.to_string(), "https://*.Example.com");
    }
}
