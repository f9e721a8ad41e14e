//! What a listener listens on.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Longest name of a Unix-domain socket, bytes: what a socket address has room for.
const NAME_MAX: usize = 107;
/// Longest name that the service manager gives a descriptor, bytes.
const PASSED_NAME_MAX: usize = 255;

/// What to listen on.
///
/// As text: `0.0.0.0:8080`, `[::]:8080`, `unix:/run/tidegate.sock`, `unix:@name`, `systemd`,
/// `systemd:NAME`.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListenAddr {
    /// An IP address and a port. Port 0 takes a free one.
    Ip(SocketAddr),
    /// A Unix-domain socket with a file of this name, which is made, and removed at the end. One
    /// that nobody listens on is replaced.
    Unix(PathBuf),
    /// A Unix-domain socket with a name and no file, in Linux' abstract namespace. Nothing says who
    /// may connect: every process of the network namespace may.
    Abstract(String),
    /// Sockets that the service manager passes (`LISTEN_FDS`): all of this name
    /// (`LISTEN_FDNAMES`), or all that no other listener takes by name.
    Passed(Option<String>),
}

impl ListenAddr {
    /// The address, if it is one.
    #[must_use]
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(addr) => Some(*addr),
            _ => None,
        }
    }

    /// Whether it names one place, which no second listener can have.
    pub(crate) fn is_one_place(&self) -> bool {
        self.ip().is_none_or(|addr| addr.port() != 0)
    }

    /// A name of a Unix-domain socket.
    fn unix(name: &str) -> Result<Self, String> {
        let (is_abstract, bare) = match name.strip_prefix('@') {
            Some(bare) => (true, bare),
            None => (false, name),
        };
        if bare.is_empty() || name.len() > NAME_MAX || name.contains('\0') {
            return Err(format!(
                "unix: and the name of a file or, behind @, of no file, at most {NAME_MAX} bytes"
            ));
        }
        Ok(if is_abstract { Self::Abstract(bare.to_owned()) } else { Self::Unix(bare.into()) })
    }

    fn passed(name: &str) -> Result<Self, String> {
        let fits = !name.is_empty() && name.len() <= PASSED_NAME_MAX;
        if !fits || name.contains(|c: char| c == ':' || c.is_control()) {
            return Err("systemd:NAME, as FileDescriptorName= of the socket unit has it".to_owned());
        }
        Ok(Self::Passed(Some(name.to_owned())))
    }
}

/// The error is what was expected instead.
impl FromStr for ListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("unix:") {
            return Self::unix(name);
        }
        if let Some(name) = text.strip_prefix("systemd:") {
            return Self::passed(name);
        }
        if text == "systemd" {
            return Ok(Self::Passed(None));
        }
        text.parse().map(Self::Ip).map_err(|_| {
            let expected = "an IP address and a port, such as 0.0.0.0:8080 or [::]:8080, \
                            unix:/PATH or systemd";
            match text.strip_prefix("localhost:") {
                Some(port) => {
                    format!("{expected}; names are not looked up: 127.0.0.1:{port}, [::1]:{port}")
                }
                None => expected.to_owned(),
            }
        })
    }
}

impl<T: Into<SocketAddr>> From<T> for ListenAddr {
    fn from(addr: T) -> Self {
        Self::Ip(addr.into())
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "unix:@{name}"),
            Self::Passed(None) => f.write_str("systemd"),
            Self::Passed(Some(name)) => write!(f, "systemd:{name}"),
        }
    }
}

impl fmt::Debug for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back() {
        for text in [
            "0.0.0.0:8080",
            "[::1]:0",
            "unix:/run/tidegate.sock",
            "unix:relative.sock",
            "unix:@tidegate",
            "systemd",
            "systemd:http",
        ] {
            let addr: ListenAddr = text.parse().unwrap();
            assert_eq!(addr.to_string(), text);
        }
        assert_eq!("unix:/a".parse(), Ok(ListenAddr::Unix("/a".into())));
        assert_eq!("unix:@a".parse(), Ok(ListenAddr::Abstract("a".to_owned())));
    }

    #[test]
    fn what_is_no_place_to_listen_on_is_refused() {
        let long = format!("unix:/{}", "x".repeat(NAME_MAX));
        for text in ["", "8080", "unix:", "unix:@", &long, "unix:a\0b", "systemd:", "systemd:a:b"] {
            assert!(text.parse::<ListenAddr>().is_err(), "{text:?}");
        }
        assert!(long[..long.len() - 1].parse::<ListenAddr>().is_ok());
        let named = "localhost:80".parse::<ListenAddr>().unwrap_err();
        assert!(named.ends_with("names are not looked up: 127.0.0.1:80, [::1]:80"), "{named}");
    }
}
