//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455, 9.1), and what permessage-deflate says in it.

use std::borrow::Cow;
use std::fmt;

use crate::protocol::handshake::{is_tchar, is_token};

/// The extension's name.
pub(super) const NAME: &str = "permessage-deflate";
/// Its parameters (RFC 7692, 7.1).
pub(super) const SERVER_NO_TAKEOVER: &str = "server_no_context_takeover";
pub(super) const CLIENT_NO_TAKEOVER: &str = "client_no_context_takeover";
pub(super) const SERVER_BITS: &str = "server_max_window_bits";
pub(super) const CLIENT_BITS: &str = "client_max_window_bits";

/// The header is not a list of extensions: the handshake fails (RFC 6455, 9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedExtensions;

impl fmt::Display for MalformedExtensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sec-WebSocket-Extensions is not a list of extensions")
    }
}

impl std::error::Error for MalformedExtensions {}

/// One extension of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    /// permessage-deflate.
    Deflate(Parameters),
    /// permessage-deflate with a parameter that is unknown, there twice, or has no value it can have.
    Invalid,
    /// Another one.
    Other,
}

/// The parameters of one permessage-deflate, as they stand there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) server_no_takeover: bool,
    pub(super) client_no_takeover: bool,
    /// 8 to 15.
    pub(super) server_bits: Option<u8>,
    /// Without a value the client only says that it can do as it is told.
    pub(super) client_bits: Option<Option<u8>>,
}

impl Parameters {
    /// Takes one more; `None` if that makes the whole invalid.
    fn add(&mut self, name: &[u8], value: Option<&[u8]>) -> Option<()> {
        let bits = match value {
            Some(value) => Some(window_bits(value)?),
            None => None,
        };
        let flag = |flag: &mut bool| {
            let first = !std::mem::replace(flag, true);
            (first && value.is_none()).then_some(())
        };
        match std::str::from_utf8(name).ok()? {
            SERVER_NO_TAKEOVER => flag(&mut self.server_no_takeover),
            CLIENT_NO_TAKEOVER => flag(&mut self.client_no_takeover),
            SERVER_BITS => self.server_bits.replace(bits?).is_none().then_some(()),
            CLIENT_BITS => self.client_bits.replace(bits).is_none().then_some(()),
            _ => None,
        }
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        if self.server_no_takeover {
            write!(f, "; {SERVER_NO_TAKEOVER}")?;
        }
        if self.client_no_takeover {
            write!(f, "; {CLIENT_NO_TAKEOVER}")?;
        }
        if let Some(bits) = self.server_bits {
            write!(f, "; {SERVER_BITS}={bits}")?;
        }
        match self.client_bits {
            Some(Some(bits)) => write!(f, "; {CLIENT_BITS}={bits}"),
            Some(None) => write!(f, "; {CLIENT_BITS}"),
            None => Ok(()),
        }
    }
}

/// A window's size: 8 to 15, in decimal, with no zero before it (RFC 7692, 7.1.2).
fn window_bits(value: &[u8]) -> Option<u8> {
    match *value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(digit - b'0' + 10),
        _ => None,
    }
}

/// The extensions of one header's value, in their order. Nothing is to be taken of a list that has an
/// error anywhere.
pub(super) fn extensions(
    value: &[u8],
) -> impl Iterator<Item = Result<Extension, MalformedExtensions>> {
    let mut cursor = Cursor(value);
    std::iter::from_fn(move || {
        // A list may have empty elements (RFC 9110, 5.6.1).
        while cursor.eat(b',') {}
        if cursor.0.is_empty() {
            return None;
        }
        let read = cursor.extension();
        if read.is_none() {
            cursor.0 = b"";
        }
        Some(read.ok_or(MalformedExtensions))
    })
}

/// What is left of a header's value.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// An extension with all its parameters, up to a comma or the end.
    fn extension(&mut self) -> Option<Extension> {
        let ours = self.token()? == NAME.as_bytes();
        let mut parameters = Some(Parameters::default());
        while self.eat(b';') {
            let name = self.token()?;
            let value = if self.eat(b'=') { Some(self.value()?) } else { None };
            if ours {
                parameters = parameters.and_then(|mut p| p.add(name, value.as_deref()).map(|()| p));
            }
        }
        if !matches!(self.0, [] | [b',', ..]) {
            return None;
        }
        Some(match parameters {
            _ if !ours => Extension::Other,
            Some(parameters) => Extension::Deflate(parameters),
            None => Extension::Invalid,
        })
    }

    /// Takes `byte` off the front, with the white space around it.
    fn eat(&mut self, byte: u8) -> bool {
        self.0 = self.0.trim_ascii_start();
        let Some(rest) = self.0.strip_prefix(&[byte]) else { return false };
        self.0 = rest.trim_ascii_start();
        true
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        self.0 = self.0.trim_ascii_start();
        let end = self.0.iter().position(|b| !is_tchar(*b)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest.trim_ascii_start();
        (!token.is_empty()).then_some(token)
    }

    /// A token, bare or as a quoted string.
    fn value(&mut self) -> Option<Cow<'a, [u8]>> {
        if !self.0.starts_with(b"\"") {
            return self.token().map(Cow::Borrowed);
        }
        let mut value = Vec::new();
        let mut bytes = self.0[1..].iter();
        loop {
            match bytes.next()? {
                b'"' => break,
                b'\\' => value.push(*bytes.next()?),
                byte => value.push(*byte),
            }
        }
        self.0 = bytes.as_slice().trim_ascii_start();
        is_token(&value).then_some(Cow::Owned(value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(value: &str) -> Result<Vec<Extension>, MalformedExtensions> {
        extensions(value.as_bytes()).collect()
    }

    fn deflate(parameters: Parameters) -> Result<Vec<Extension>, MalformedExtensions> {
        Ok(vec![Extension::Deflate(parameters)])
    }

    #[test]
    fn all_four_parameters_in_any_form() {
        let none = Parameters::default();
        assert_eq!(read("permessage-deflate"), deflate(none));
        assert_eq!(
            read("permessage-deflate; client_max_window_bits"),
            deflate(Parameters { client_bits: Some(None), ..none })
        );
        let all = Parameters {
            server_no_takeover: true,
            client_no_takeover: true,
            server_bits: Some(10),
            client_bits: Some(Some(9)),
        };
        for value in [
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
             server_max_window_bits=10; client_max_window_bits=9",
            "permessage-deflate;client_max_window_bits=\"9\";server_max_window_bits=\"1\\0\";\
             client_no_context_takeover;server_no_context_takeover",
            " , permessage-deflate\t; server_max_window_bits = 10 ;client_max_window_bits= \"9\" \
             ; server_no_context_takeover ; client_no_context_takeover ,, ",
        ] {
            assert_eq!(read(value), deflate(all), "{value}");
        }
        assert_eq!(read(&all.to_string()), deflate(all));
        assert_eq!(read(&none.to_string()), deflate(none));
    }

    #[test]
    fn what_makes_an_offer_invalid() {
        for parameters in [
            "x",
            "server_no_context_takeover=1",
            "client_no_context_takeover=\"\\t\"",
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover; x=y; client_no_context_takeover",
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=08",
            "server_max_window_bits=+9",
            "server_max_window_bits=9; server_max_window_bits=9",
            "client_max_window_bits=0",
            "client_max_window_bits=100",
            "client_max_window_bits; client_max_window_bits",
            "client_max_window_bits; client_max_window_bits=10",
            "Server_Max_Window_Bits=10",
        ] {
            let value = format!("permessage-deflate; {parameters}, permessage-deflate");
            let both = [Extension::Invalid, Extension::Deflate(Parameters::default())];
            assert_eq!(read(&value).as_deref(), Ok(&both[..]), "{parameters}");
        }
        for bits in 8..=15 {
            let some = read(&format!("permessage-deflate; server_max_window_bits={bits}"));
            assert_eq!(
                some,
                deflate(Parameters { server_bits: Some(bits), ..Parameters::default() })
            );
        }
    }

    #[test]
    fn lists_and_their_faults() {
        assert_eq!(read(""), Ok(Vec::new()));
        assert_eq!(read(" ,\t, "), Ok(Vec::new()));
        let others =
            "a, b; c; d=e; f=\"g\", permessage-deflate-x, x-webkit-deflate-frame;q=\"\\h\"";
        assert_eq!(read(others), Ok(vec![Extension::Other; 4]));
        for bad in [
            ";",
            "a;",
            "a; ;b",
            "a b",
            "a;b c",
            "a;b=",
            "a;b=,c",
            "a;b=\"\"",
            "a;b=\"c",
            "a;b=\"c\\",
            "a;b=\"c d\"",
            "a;b=\"c\"d",
            "a;=b",
            "\"a\"",
            "a=b",
            "a;b==c",
            "é",
            "permessage-deflate; client_max_window_bits=\"10",
            "permessage-deflate, @",
        ] {
            assert_eq!(read(bad), Err(MalformedExtensions), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(
            value in "([a;,=\"\\\\ \t@]|permessage-deflate|server_max_window_bits=1?[0-9]){0,20}",
        ) {
            let read: Vec<_> = extensions(value.as_bytes()).collect();
            prop_assert!(read.len() <= value.len());
            // An error is the last that is said.
            prop_assert!(read.iter().rev().skip(1).all(Result::is_ok));
        }
    }
}
