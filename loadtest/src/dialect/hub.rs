//! `hub`, in little-endian: `FE EF` · length u32 = 8 + body · protocolId u32 · sn u32 · body. An sn
//! of 0 is one way; the client counts in even numbers, the server in odd ones.

use std::borrow::Cow;

use super::{Given, Heard, Key, Kind, Route, Ticket};

const MAGIC: [u8; 2] = [0xfe, 0xef];
/// The part of the length that is not the body.
const NUMBERS: usize = 8;
/// The protocol of what comes without having been asked for.
pub(super) const PUSH: u32 = 1;
/// The protocol of what refuses; 2147483647 is the one that displaces.
const ERROR: u32 = 2_147_483_646;

/// The serial number of question number `number`: even, and never 0.
pub(super) fn serial(number: u32) -> u32 {
    2 * (number % (u32::MAX / 2)) + 2
}

/// The protocol of a route.
pub(super) fn protocol(route: Route) -> u32 {
    match route {
        Route::Echo => 2,
        Route::Join => 3,
        Route::Publish => 4,
    }
}

pub(super) fn put_request(out: &mut Vec<u8>, protocol: u32, ticket: &Ticket, body: &[u8]) {
    put(out, protocol, ticket.number(), body);
}

fn put(out: &mut Vec<u8>, protocol: u32, serial: u32, body: &[u8]) {
    out.extend_from_slice(&MAGIC);
    let length = u32::try_from(NUMBERS + body.len()).expect("bodies are at most 64 MiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&protocol.to_le_bytes());
    out.extend_from_slice(&serial.to_le_bytes());
    out.extend_from_slice(body);
}

pub(super) fn hear(bytes: &[u8]) -> Result<Heard<'_>, &'static str> {
    let (protocol, serial, body) = split(bytes)?;
    let kind = match serial {
        0 => Kind::Push,
        _ if serial % 2 == 1 => Kind::Question,
        _ if protocol == ERROR => Kind::Refusal,
        _ => Kind::Answer,
    };
    let ticket = if serial == 0 { Given::None } else { Given::Number(serial.into()) };
    let body = Cow::Borrowed(body);
    Ok(Heard { kind, ticket, key: Key::Number(protocol), room: None, body })
}

/// Protocol, serial number and body.
fn split(bytes: &[u8]) -> Result<(u32, u32, &[u8]), &'static str> {
    let rest = bytes.strip_prefix(&MAGIC).ok_or("without the magic number")?;
    let (length, rest) = number(rest)?;
    if length as usize != rest.len() {
        return Err("whose length is not what it says");
    }
    let (protocol, rest) = number(rest)?;
    let (serial, body) = number(rest)?;
    Ok((protocol, serial, body))
}

fn number(bytes: &[u8]) -> Result<(u32, &[u8]), &'static str> {
    let (number, rest) = bytes.split_first_chunk().ok_or("that is cut short")?;
    Ok((u32::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The golden vector of the system: protocolId 2, sn 0.
    const GOLDEN: &[u8] = b"\xfe\xef\x16\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00client request";

    #[test]
    fn the_golden_vector_is_written_and_read() {
        let mut out = Vec::new();
        put_request(&mut out, 2, &Ticket::None, b"client request");
        assert_eq!(out, GOLDEN);
        assert_eq!(split(GOLDEN), Ok((2, 0, &b"client request"[..])));
        let heard = hear(GOLDEN).unwrap();
        assert_eq!((heard.kind, heard.key), (Kind::Push, Key::Number(2)));
        assert_eq!(&*heard.body, b"client request");
    }

    #[test]
    fn the_displacing_packet_is_a_push() {
        let packet = b"\xfe\xef\x0a\0\0\0\xff\xff\xff\x7f\0\0\0\0\x18\x01";
        let heard = hear(packet).unwrap();
        assert_eq!((heard.kind, heard.key), (Kind::Push, Key::Number(2_147_483_647)));
    }

    #[test]
    fn serial_numbers_are_even_and_never_nothing() {
        assert_eq!((serial(0), serial(1)), (2, 4));
        let last = u32::MAX / 2 - 1;
        assert_eq!((serial(last), serial(last + 1)), (u32::MAX - 1, 2));
        assert_eq!(serial(u32::MAX) % 2, 0);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(hear(b"\xfe\xee").unwrap_err(), "without the magic number");
        assert_eq!(
            hear(&GOLDEN[..GOLDEN.len() - 1]).unwrap_err(),
            "whose length is not what it says"
        );
        assert_eq!(hear(&GOLDEN[..5]).unwrap_err(), "that is cut short");
        assert_eq!(hear(b"\xfe\xef\x04\0\0\0\x02\0\0\0").unwrap_err(), "that is cut short");
    }

    proptest! {
        #[test]
        fn reading_undoes_writing(protocol: u32, serial: u32, body: Vec<u8>) {
            let mut out = Vec::new();
            put(&mut out, protocol, serial, &body);
            prop_assert_eq!(split(&out), Ok((protocol, serial, &body[..])));
        }

        #[test]
        fn any_bytes_are_heard_or_refused(bytes: Vec<u8>) {
            let _ = hear(&bytes);
            let _ = hear(&[&MAGIC, &bytes[..]].concat());
        }
    }
}
