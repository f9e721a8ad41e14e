//! Protobuf's wire format, as much of it as headers need: reading in place, writing fields in order.
//!
//! Groups, which proto3 has not, are no fields here; so no readable message begins with a byte
//! whose low three bits are 3 or 4.

/// Longest varint, bytes: 64 bits in sevens.
const VARINT_BYTES_MAX: usize = 10;
/// Highest number of a field.
const FIELD_MAX: u64 = (1 << 29) - 1;

/// Wire types, the low three bits of a tag.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const COUNTED: u64 = 2;
const FIXED32: u64 = 5;

/// Bytes that are no protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    /// Which one, from 1.
    pub(crate) number: u32,
    /// What it says.
    pub(crate) value: Value<'a>,
    /// All its bytes, with the tag.
    pub(crate) raw: &'a [u8],
}

/// What a field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// A whole number or an enum.
    Number(u64),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
    /// Four or eight bytes, which no field of a header has.
    Fixed,
}

/// The fields of a message, as they stand there. Ends with the first that is malformed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Of a message.
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let (field, rest) = take_field(self.0).unzip();
        self.0 = rest.unwrap_or_default();
        Some(field.ok_or(Malformed))
    }
}

fn take_field(message: &[u8]) -> Option<(Field<'_>, &[u8])> {
    let (tag, rest) = take_varint(message)?;
    let number = tag >> 3;
    if number == 0 || number > FIELD_MAX {
        return None;
    }
    let (value, rest) = match tag & 7 {
        VARINT => take_varint(rest).map(|(number, rest)| (Value::Number(number), rest))?,
        FIXED64 => (Value::Fixed, rest.get(8..)?),
        FIXED32 => (Value::Fixed, rest.get(4..)?),
        COUNTED => {
            let (len, rest) = take_varint(rest)?;
            let (bytes, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
            (Value::Bytes(bytes), rest)
        }
        _ => return None,
    };
    let raw = &message[..message.len() - rest.len()];
    Some((Field { number: number as u32, value, raw }, rest))
}

fn take_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        if at == VARINT_BYTES_MAX - 1 && *byte > 1 {
            return None;
        }
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}

/// Reads a string.
///
/// # Errors
/// It is not UTF-8.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| Malformed)
}

/// Appends a number, unless it is 0, which proto3 leaves out.
pub(crate) fn put_number(out: &mut Vec<u8>, field: u32, number: u64) {
    if number != 0 {
        put_varint(out, u64::from(field) << 3 | VARINT);
        put_varint(out, number);
    }
}

/// Appends a text, unless it is empty, which proto3 leaves out.
pub(crate) fn put_text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        put_varint(out, u64::from(field) << 3 | COUNTED);
        put_varint(out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(message: &[u8]) -> Result<Vec<(u32, Value<'_>)>, Malformed> {
        Fields::of(message).map(|field| field.map(|f| (f.number, f.value))).collect()
    }

    #[test]
    fn every_wire_type_of_proto3_is_read() {
        let message =
            b"\x08\x96\x01\x12\x02hi\x19\0\0\0\0\0\0\0\0\x25\0\0\0\0\xfa\xff\xff\xff\x0f\0";
        let fields: Vec<_> = Fields::of(message).map(Result::unwrap).collect();
        let number = fields.iter().map(|f| f.number).collect::<Vec<_>>();
        assert_eq!(number, [1, 2, 3, 4, (1 << 29) - 1]);
        assert_eq!(fields[0].value, Value::Number(150));
        assert_eq!(fields[1].value, Value::Bytes(b"hi"));
        assert_eq!((fields[2].value, fields[3].value), (Value::Fixed, Value::Fixed));
        assert_eq!(fields[4].value, Value::Bytes(b""));
        assert_eq!(fields.iter().flat_map(|f| f.raw).copied().collect::<Vec<_>>(), message);
    }

    #[test]
    fn numbers_have_up_to_64_bits() {
        let most = b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        assert_eq!(read(most), Ok(vec![(1, Value::Number(u64::MAX))]));
        // More bytes than it needs is how some write it; it is the same number.
        assert_eq!(read(b"\x08\x81\0"), Ok(vec![(1, Value::Number(1))]));
    }

    #[test]
    fn what_is_no_message_is_malformed_and_ends_the_reading() {
        for bytes in [
            &b"\x08"[..],
            b"\x80",
            b"\x08\x80",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\0",
            b"\x0a\x02h",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01h",
            b"\x19\0\0\0\0\0\0\0",
            b"\x25\0\0\0",
            b"\x02\0",
            b"\x82\x80\x80\x80\x10\0",
            b"\x0b\x0c",
            b"\x0c",
            b"\x0e\0",
            b"\x0f\0",
        ] {
            assert_eq!(read(bytes), Err(Malformed), "{bytes:?}");
            assert_eq!(Fields::of(bytes).count(), 1, "{bytes:?}");
        }
        assert_eq!(text(b"\xff"), Err(Malformed));
    }

    #[test]
    fn what_proto3_leaves_out_is_left_out() {
        let mut out = Vec::new();
        put_number(&mut out, 1, 0);
        put_text(&mut out, 2, "");
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(field in 1..1_u32 << 29, number in 1_u64.., string in ".{1,300}") {
            let mut out = Vec::new();
            put_number(&mut out, field, number);
            put_text(&mut out, field, &string);
            let want = [(field, Value::Number(number)), (field, Value::Bytes(string.as_bytes()))];
            prop_assert_eq!(read(&out).unwrap(), want);
        }

        #[test]
        fn any_bytes_are_read_in_whole_fields(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let raw: Vec<u8> = Fields::of(&bytes).flatten().flat_map(|f| f.raw).copied().collect();
            prop_assert!(bytes.starts_with(&raw));
            prop_assert_eq!(raw.len() == bytes.len(), read(&bytes).is_ok());
        }
    }
}
