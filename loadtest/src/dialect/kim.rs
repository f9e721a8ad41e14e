//! `kim`: `C3 11 A3 65` · header length u32 · protobuf header · body length u32 · body, in
//! big-endian. An answer has flag 1 and the request's command and sequence; a push has flag 2.

use std::borrow::Cow;

use super::{
    Given, Heard, Key, Kind, Ticket,
    protobuf::{Value, fields, put_bytes, put_number},
};

const MAGIC: [u8; 4] = [0xc3, 0x11, 0xa3, 0x65];
/// Of the packets that only ping and pong.
const BASIC_MAGIC: [u8; 4] = [0xc3, 0x15, 0xa7, 0x65];

const COMMAND: u32 = 1;
const SEQUENCE: u32 = 3;
const FLAG: u32 = 4;
const STATUS: u32 = 5;

const REQUEST: u64 = 0;
const RESPONSE: u64 = 1;
const PUSH: u64 = 2;

/// What of a header is of use here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header<'a> {
    /// What it is about.
    pub(crate) command: Cow<'a, str>,
    /// The number of the request.
    pub(crate) sequence: u32,
    flag: u64,
    /// 0 where all is well.
    pub(crate) status: u64,
}

impl Header<'_> {
    /// Whether it answers a request.
    pub(crate) fn is_response(&self) -> bool {
        self.flag == RESPONSE
    }
}

/// Appends a request.
pub(crate) fn put_request(out: &mut Vec<u8>, command: &str, ticket: &Ticket, body: &[u8]) {
    let sequence = ticket.number();
    put(out, &Header { command: command.into(), sequence, flag: REQUEST, status: 0 }, body);
}

fn put(out: &mut Vec<u8>, header: &Header<'_>, body: &[u8]) {
    out.extend_from_slice(&MAGIC);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    put_bytes(out, COMMAND, header.command.as_bytes());
    put_number(out, SEQUENCE, header.sequence.into());
    put_number(out, FLAG, header.flag);
    put_number(out, STATUS, header.status);
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    let length = u32::try_from(body.len()).expect("bodies are at most 64 MiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(body);
}

pub(super) fn hear(bytes: &[u8]) -> Result<Heard<'_>, &'static str> {
    let (header, body) = split(bytes)?;
    let kind = match (header.flag, header.status) {
        (RESPONSE, 0) => Kind::Answer,
        (RESPONSE, _) => Kind::Refusal,
        (PUSH, _) => Kind::Push,
        (REQUEST, _) => Kind::Question,
        _ => return Err("with an unknown flag"),
    };
    let ticket = match kind {
        Kind::Push => Given::None,
        _ => Given::Number(header.sequence.into()),
    };
    let (key, body) = (Key::Name(header.command), Cow::Borrowed(body));
    Ok(Heard { kind, ticket, key, room: None, body })
}

/// Header and body of a packet.
pub(crate) fn split(bytes: &[u8]) -> Result<(Header<'_>, &[u8]), &'static str> {
    if bytes.starts_with(&BASIC_MAGIC) {
        return Err("that only pings or pongs");
    }
    let rest = bytes.strip_prefix(&MAGIC).ok_or("without the magic number")?;
    let (header, rest) = part(rest)?;
    let (body, rest) = part(rest)?;
    match rest.is_empty() {
        true => Ok((read(header)?, body)),
        false => Err("whose length is not what it says"),
    }
}

fn part(bytes: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let (length, rest) = bytes.split_first_chunk().ok_or("that is cut short")?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or("that is cut short")
}

fn read(bytes: &[u8]) -> Result<Header<'_>, &'static str> {
    let mut header = Header::default();
    fields(bytes, |field, value| match (u32::try_from(field), value) {
        (Ok(COMMAND), Value::Bytes(text)) => header.command = String::from_utf8_lossy(text),
        (Ok(SEQUENCE), Value::Number(number)) => header.sequence = number as u32,
        (Ok(FLAG), Value::Number(number)) => header.flag = number,
        (Ok(STATUS), Value::Number(number)) => header.status = number,
        _ => {}
    })?;
    Ok(header)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `login.signin`, sequence 1, a request, and a body of two bytes.
    const SIGNIN: &[u8] =
        b"\xc3\x11\xa3\x65\x00\x00\x00\x10\x0a\x0clogin.signin\x18\x01\x00\x00\x00\x02hi";

    #[test]
    fn a_request_has_the_layout_of_the_system() {
        let mut out = Vec::new();
        put_request(&mut out, "login.signin", &Ticket::Number(1), b"hi");
        assert_eq!(out, SIGNIN);
        let (header, body) = split(SIGNIN).unwrap();
        assert_eq!((&*header.command, header.sequence, body), ("login.signin", 1, &b"hi"[..]));
        assert_eq!(hear(SIGNIN).unwrap().kind, Kind::Question);
    }

    #[test]
    fn answers_refusals_and_pushes_are_told_apart() {
        // A response to `a` of sequence 5 with a sender, a destination and a meta behind.
        let packet = |flag: u8, status: u8| {
            let header = [b"\x0a\x01a\x12\x01g\x18\x05\x20" as &[u8], &[flag], b"\x28", &[status]];
            let header = [&header.concat()[..], b"\x32\x01d\x3a\x06\x0a\x01k\x12\x01v"].concat();
            let length = (header.len() as u32).to_be_bytes();
            [&MAGIC[..], &length, &header, b"\0\0\0\0"].concat()
        };
        for (flag, status, kind) in [
            (1, 0, Kind::Answer),
            (1, 105, Kind::Refusal),
            (2, 0, Kind::Push),
            (0, 0, Kind::Question),
        ] {
            let packet = packet(flag, status);
            let heard = hear(&packet).unwrap();
            assert_eq!((heard.kind, heard.key), (kind, Key::Name("a".into())));
            let ticket = if kind == Kind::Push { Given::None } else { Given::Number(5) };
            assert_eq!(heard.ticket, ticket);
        }
        assert_eq!(hear(&packet(3, 0)).unwrap_err(), "with an unknown flag");
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(hear(b"\xfe\xef").unwrap_err(), "without the magic number");
        let pong = b"\xc3\x15\xa7\x65\0\x02\0\0";
        assert_eq!(hear(pong).unwrap_err(), "that only pings or pongs");
        for cut in 4..SIGNIN.len() {
            assert_eq!(hear(&SIGNIN[..cut]).unwrap_err(), "that is cut short", "at {cut}");
        }
        let longer = [SIGNIN, b"!"].concat();
        assert_eq!(hear(&longer).unwrap_err(), "whose length is not what it says");
    }

    proptest! {
        #[test]
        fn reading_undoes_writing(
            command: String, sequence: u32, flag in 0_u64..3, status: u64, body: Vec<u8>
        ) {
            let header = Header { command: command.into(), sequence, flag, status };
            let mut out = Vec::new();
            put(&mut out, &header, &body);
            prop_assert_eq!(split(&out), Ok((header, &body[..])));
        }

        #[test]
        fn any_bytes_are_heard_or_refused(bytes: Vec<u8>) {
            let _ = hear(&bytes);
            let _ = hear(&[&MAGIC, &bytes[..]].concat());
            let length = (bytes.len() as u32).to_be_bytes();
            let _ = hear(&[&MAGIC, &length, &bytes[..], b"\0\0\0\0"].concat());
        }
    }
}
