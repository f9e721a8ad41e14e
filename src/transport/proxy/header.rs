//! The header that a proxy sends before all else: PROXY protocol, versions 1 and 2.
//!
//! Where a header ends is found out here; what the addresses in it are, by `ppp`.

use std::net::SocketAddr;

use memchr::memchr;

/// The longest header that is taken, bytes. Version 2 could have 65,551, most of which nobody reads.
pub const HEADER_BYTES_MAX: usize = 4096;

/// The longest header of version 1, bytes, its CRLF included.
const LINE_BYTES_MAX: usize = 107;
const LINE_PREFIX: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// What every header of version 2 begins with: signature, version and command, family, length.
const FIXED_BYTES: usize = 16;
const LOCAL: u8 = 0x20;

/// Whom a header says that the connection is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A client of the proxy's.
    Client(SocketAddr),
    /// Nobody but the socket's own peer: a check of the proxy's (LOCAL), or an address that is not
    /// known or not of IP over streams.
    Peer,
}

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its bytes. What stands behind them is of the next layer.
    pub len: usize,
    /// Whom the connection is of.
    pub source: Source,
}

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// What may become a header, and is none yet.
    Begun,
    /// No header. It can't become one: neither a request nor a TLS handshake begins as one does.
    NoHeader,
    /// A header.
    Header(Header),
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderProblem {
    /// It is not as the protocol has it.
    Malformed,
    /// It is over 107 bytes (version 1), or over [`HEADER_BYTES_MAX`] (version 2).
    TooLong,
}

/// Reads what a connection begins with: all that has come of it, or the first
/// [`HEADER_BYTES_MAX`] bytes.
///
/// # Errors
/// What begins as a header and can't become one.
pub fn read_header(bytes: &[u8]) -> Result<Seen, HeaderProblem> {
    if begins_as(bytes, LINE_PREFIX) {
        return read_line(bytes);
    }
    if begins_as(bytes, SIGNATURE) {
        return read_binary(bytes);
    }
    Ok(Seen::NoHeader)
}

/// Whether the one begins with the other, as far as it goes.
fn begins_as(bytes: &[u8], with: &[u8]) -> bool {
    let len = bytes.len().min(with.len());
    bytes[..len] == with[..len]
}

/// Version 1: `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443` and CRLF.
fn read_line(bytes: &[u8]) -> Result<Seen, HeaderProblem> {
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = memchr(b'\n', window) else {
        let full = window.len() == LINE_BYTES_MAX;
        return if full { Err(HeaderProblem::TooLong) } else { Ok(Seen::Begun) };
    };
    let line = &window[..=end];
    let fields = line.strip_suffix(b"\r\n").ok_or(HeaderProblem::Malformed)?;
    let source = line_source(line, fields)?;
    Ok(Seen::Header(Header { len: line.len(), source }))
}

fn line_source(line: &[u8], fields: &[u8]) -> Result<Source, HeaderProblem> {
    let mut words = fields.split(|byte| *byte == b' ');
    // Whatever follows UNKNOWN is to be ignored.
    if words.nth(1) == Some(b"UNKNOWN") {
        return Ok(Source::Peer);
    }
    // `ppp` reads numbers as Rust does, which allows a sign.
    if fields.contains(&b'+') {
        return Err(HeaderProblem::Malformed);
    }
    let header = ppp::v1::Header::try_from(line).map_err(|_| HeaderProblem::Malformed)?;
    match header.addresses {
        _ if header.header.len() != line.len() => Err(HeaderProblem::Malformed),
        ppp::v1::Addresses::Tcp4(ip) => {
            Ok(Source::Client((ip.source_address, ip.source_port).into()))
        }
        ppp::v1::Addresses::Tcp6(ip) => {
            Ok(Source::Client((ip.source_address, ip.source_port).into()))
        }
        ppp::v1::Addresses::Unknown => Ok(Source::Peer),
    }
}

/// Version 2: signature, version and command, family, length, addresses, and more that is skipped.
fn read_binary(bytes: &[u8]) -> Result<Seen, HeaderProblem> {
    let Some(fixed) = bytes.first_chunk::<FIXED_BYTES>() else { return Ok(Seen::Begun) };
    let len = FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if fixed[12] & 0xF0 != 0x20 {
        return Err(HeaderProblem::Malformed);
    }
    if len > HEADER_BYTES_MAX {
        return Err(HeaderProblem::TooLong);
    }
    let Some(header) = bytes.get(..len) else { return Ok(Seen::Begun) };
    // Of a LOCAL connection nothing else counts, whatever family it names.
    let source = if fixed[12] == LOCAL { Source::Peer } else { binary_source(header)? };
    Ok(Seen::Header(Header { len, source }))
}

fn binary_source(header: &[u8]) -> Result<Source, HeaderProblem> {
    let header = ppp::v2::Header::try_from(header).map_err(|_| HeaderProblem::Malformed)?;
    Ok(match (header.protocol, header.addresses) {
        (ppp::v2::Protocol::Stream, ppp::v2::Addresses::IPv4(ip)) => {
            Source::Client((ip.source_address, ip.source_port).into())
        }
        (ppp::v2::Protocol::Stream, ppp::v2::Addresses::IPv6(ip)) => {
            Source::Client((ip.source_address, ip.source_port).into())
        }
        _ => Source::Peer,
    })
}
