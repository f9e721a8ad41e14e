//! The protobuf header of a packet.

use std::borrow::Cow;

use super::wire::{Fields, Malformed, Value, put_number, put_text, text};

/// Numbers of the header's fields.
const COMMAND: u32 = 1;
const CHANNEL_ID: u32 = 2;
const SEQUENCE: u32 = 3;
const FLAG: u32 = 4;
const STATUS: u32 = 5;
const DEST: u32 = 6;
const META: u32 = 7;
/// Numbers of the fields of a `Meta`.
const META_KEY: u32 = 1;
const META_VALUE: u32 = 2;

/// What a packet is to the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    Request = 0,
    Response = 1,
    Push = 2,
}

impl Flag {
    /// The flag of this number, if there is one.
    pub(super) fn of(number: i32) -> Option<Self> {
        [Self::Request, Self::Response, Self::Push].into_iter().find(|flag| *flag as i32 == number)
    }
}

/// A header. `Meta` is checked and left where it is: see [`field`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header<'a> {
    /// What is asked for, such as `chat.user.talk`.
    pub(super) command: &'a str,
    /// The sender's.
    pub(super) channel_id: &'a str,
    pub(super) sequence: u32,
    /// A number that may be no [`Flag`].
    pub(super) flag: i32,
    /// 0 where all is well.
    pub(super) status: i32,
    /// An account, group or room.
    pub(super) dest: &'a str,
}

impl<'a> Header<'a> {
    /// Reads a header. Of a field that is there twice, the last counts; what is not known is
    /// skipped.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut header = Self::default();
        for field in Fields::of(bytes) {
            let field = field?;
            match (field.number, field.value) {
                (COMMAND, Value::Bytes(bytes)) => header.command = text(bytes)?,
                (CHANNEL_ID, Value::Bytes(bytes)) => header.channel_id = text(bytes)?,
                (DEST, Value::Bytes(bytes)) => header.dest = text(bytes)?,
                (META, Value::Bytes(bytes)) => {
                    parse_meta(bytes)?;
                }
                // As protobuf has it: what is over 32 bits is cut off.
                (SEQUENCE, Value::Number(number)) => header.sequence = number as u32,
                (FLAG, Value::Number(number)) => header.flag = number as i32,
                (STATUS, Value::Number(number)) => header.status = number as i32,
                _ => {}
            }
        }
        Ok(header)
    }

    /// Appends it, without any `Meta`.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_text(out, COMMAND, self.command);
        put_text(out, CHANNEL_ID, self.channel_id);
        put_number(out, SEQUENCE, u64::from(self.sequence));
        // Negative ones in ten bytes, as protobuf has it.
        put_number(out, FLAG, i64::from(self.flag) as u64);
        put_number(out, STATUS, i64::from(self.status) as u64);
        put_text(out, DEST, self.dest);
    }
}

/// Key and value of a `Meta`.
fn parse_meta(bytes: &[u8]) -> Result<(&str, &str), Malformed> {
    let (mut key, mut value) = ("", "");
    for field in Fields::of(bytes) {
        let field = field?;
        match (field.number, field.value) {
            (META_KEY, Value::Bytes(bytes)) => key = text(bytes)?,
            (META_VALUE, Value::Bytes(bytes)) => value = text(bytes)?,
            _ => {}
        }
    }
    Ok((key, value))
}

/// Appends the header of the answer to a request with header `request`: the same but for flag and
/// status, with all that is not known here, and in protobuf's order if `request` is.
pub(super) fn put_answer(out: &mut Vec<u8>, request: &[u8], status: i32) {
    let own = Header { flag: Flag::Response as i32, status, ..Header::default() };
    let mut owed = Some(own);
    for field in Fields::of(request).map_while(Result::ok) {
        if field.number >= FLAG
            && let Some(own) = owed.take()
        {
            own.put(out);
        }
        if !matches!(field.number, FLAG | STATUS) {
            out.extend_from_slice(field.raw);
        }
    }
    if let Some(own) = owed {
        own.put(out);
    }
}

/// What stands under `name` in a header: `command`, `channelId` or `dest`, unless it is empty;
/// `sequence`, `flag` or `status`, in decimal; or else the value of the first `Meta` of that key.
pub(in crate::dialect) fn field<'a>(header: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    let read = Header::parse(header).ok()?;
    let text = |text: &'a str| (!text.is_empty()).then_some(Cow::Borrowed(text));
    match name {
        "command" => text(read.command),
        "channelId" => text(read.channel_id),
        "dest" => text(read.dest),
        "sequence" => Some(read.sequence.to_string().into()),
        "flag" => Some(read.flag.to_string().into()),
        "status" => Some(read.status.to_string().into()),
        key => find_meta(header, key).map(Cow::Borrowed),
    }
}

fn find_meta<'a>(header: &'a [u8], key: &str) -> Option<&'a str> {
    let metas = Fields::of(header).flatten().filter(|field| field.number == META);
    let mut pairs = metas.filter_map(|field| match field.value {
        Value::Bytes(bytes) => parse_meta(bytes).ok(),
        _ => None,
    });
    pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
}
