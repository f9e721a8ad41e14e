//! `X-Forwarded-For`, and `Forwarded` (RFC 7239): lists of hops, to which each proxy adds whom it was
//! called by.

use std::net::{IpAddr, SocketAddr};

use super::{ForwardedHeader, Networks};

/// A list that is not as its header has it, at a place that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Whom a proxy was called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hop {
    /// An address; port 0 where none is given.
    Address(SocketAddr),
    /// Somebody whom it does not name: `unknown`, or a name of its own such as `_backend`.
    Unnamed,
}

/// The client of a request that came from `peer`, which is a trusted proxy, by the header's lines in
/// their order.
///
/// From the last hop on, each is believed as long as the one behind it is trusted. The first that is
/// not trusted is the client; where all are, it is the first of the list. Where a hop is not named,
/// the client is the one behind it: nobody nearer is known.
///
/// # Errors
/// A hop that is looked at and can't be read. To take the proxy for the client then would give
/// strangers its trust.
pub fn client_of<'a>(
    peer: SocketAddr,
    header: ForwardedHeader,
    lines: impl Iterator<Item = &'a [u8]>,
    trusted: &Networks,
) -> Result<SocketAddr, Malformed> {
    let mut client = peer;
    let lines: Vec<_> = lines.collect();
    for line in lines.into_iter().rev() {
        for hop in hops_of(header, line)?.into_iter().rev() {
            let Hop::Address(address) = hop? else { return Ok(client) };
            client = address;
            if !trusted.contains(client.ip()) {
                return Ok(client);
            }
        }
    }
    Ok(client)
}

/// The hops of one line. One of `X-Forwarded-For` that can't be read leaves those behind it as they
/// are; in `Forwarded` a quote that is not closed could hide them.
fn hops_of(header: ForwardedHeader, line: &[u8]) -> Result<Vec<Result<Hop, Malformed>>, Malformed> {
    match header {
        ForwardedHeader::Off => Ok(Vec::new()),
        ForwardedHeader::XForwardedFor => {
            let elements = line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            Ok(elements.filter(|element| !element.is_empty()).map(read_node).collect())
        }
        ForwardedHeader::Forwarded => Elements { rest: line }.hops(),
    }
}

/// RFC 7239, 6: `192.0.2.43`, `192.0.2.43:47011`, `[2001:db8::1]`, `[2001:db8::1]:_port`, `unknown`,
/// `_name`. `X-Forwarded-For` has IPv6 without brackets too.
fn read_node(node: &[u8]) -> Result<Hop, Malformed> {
    let text = std::str::from_utf8(node).map_err(|_| Malformed)?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Hop::Address(SocketAddr::new(address.to_canonical(), 0)));
    }
    let (name, port) = match text.rfind(']') {
        Some(end) => (&text[..=end], &text[end + 1..]),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = read_port(port)?;
    if name.eq_ignore_ascii_case("unknown") || is_obfuscated(name) {
        return Ok(Hop::Unnamed);
    }
    let address = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(name) => IpAddr::V6(name.parse().map_err(|_| Malformed)?),
        None => IpAddr::V4(name.parse().map_err(|_| Malformed)?),
    };
    Ok(Hop::Address(SocketAddr::new(address.to_canonical(), port)))
}

/// What stands behind an address: nothing, or a colon and a number or a name for it.
fn read_port(text: &str) -> Result<u16, Malformed> {
    let Some(port) = text.strip_prefix(':') else {
        return if text.is_empty() { Ok(0) } else { Err(Malformed) };
    };
    if is_obfuscated(port) {
        return Ok(0);
    }
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|_| digits).ok_or(Malformed)
}

/// RFC 7239, 6.3.
fn is_obfuscated(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.len() > 1 && name.starts_with('_') && name.bytes().all(allowed)
}

/// What is left of a line of `Forwarded`.
struct Elements<'a> {
    rest: &'a [u8],
}

impl Elements<'_> {
    /// RFC 7239, 4: elements apart by commas, of pairs apart by semicolons. Spaces are allowed around
    /// both, as many write them.
    fn hops(mut self) -> Result<Vec<Result<Hop, Malformed>>, Malformed> {
        let mut hops = Vec::new();
        let (mut node, mut has_pairs) = (None, false);
        loop {
            self.skip_spaces();
            if self.rest.first().is_some_and(|byte| !b",;".contains(byte)) {
                let (is_for, value) = self.pair()?;
                has_pairs = true;
                if is_for && node.replace(read_node(&value)).is_some() {
                    return Err(Malformed);
                }
                self.skip_spaces();
            }
            match self.rest.split_first() {
                Some((b';', rest)) => self.rest = rest,
                Some((b',', _)) | None => {
                    if std::mem::take(&mut has_pairs) {
                        hops.push(node.take().unwrap_or(Ok(Hop::Unnamed)));
                    }
                    let Some((_, rest)) = self.rest.split_first() else { return Ok(hops) };
                    self.rest = rest;
                }
                Some(_) => return Err(Malformed),
            }
        }
    }

    /// `for=192.0.2.43`, `For="[2001:db8::1]:4711"`: whether it is of `for`, and its value.
    fn pair(&mut self) -> Result<(bool, Vec<u8>), Malformed> {
        let name = self.take_while(|byte| byte.is_ascii_alphanumeric() || TOKEN.contains(&byte));
        let is_for = name.eq_ignore_ascii_case(b"for");
        self.rest = self.rest.strip_prefix(b"=").ok_or(Malformed)?;
        let value = match self.rest.strip_prefix(b"\"") {
            Some(rest) => {
                self.rest = rest;
                self.quoted()?
            }
            // Wider than a token: colons and brackets come without quotes as well.
            None => self
                .take_while(|byte| byte.is_ascii_graphic() && !b",;\"\\".contains(&byte))
                .to_vec(),
        };
        if name.is_empty() || value.is_empty() { Err(Malformed) } else { Ok((is_for, value)) }
    }

    /// RFC 9110, 5.6.4; the quote that opens it is taken.
    fn quoted(&mut self) -> Result<Vec<u8>, Malformed> {
        let mut value = Vec::new();
        loop {
            let (&byte, mut rest) = self.rest.split_first().ok_or(Malformed)?;
            let byte = match byte {
                b'"' => {
                    self.rest = rest;
                    return Ok(value);
                }
                b'\\' => *rest.split_off_first().ok_or(Malformed)?,
                byte => byte,
            };
            value.push(byte);
            self.rest = rest;
        }
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }
}

impl<'a> Elements<'a> {
    fn take_while(&mut self, is_in: impl Fn(u8) -> bool) -> &'a [u8] {
        let len = self.rest.iter().take_while(|byte| is_in(**byte)).count();
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }
}

/// What a token may have beside letters and digits (RFC 9110, 5.6.2).
const TOKEN: &[u8] = b"!#$%&'*+-.^_`|~";
