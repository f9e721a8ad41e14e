//! As much of the protobuf wire format as the packets of `kim` need: varints and lengths.

/// What is said of what is no protobuf.
const MALFORMED: &str = "whose header is no protobuf";
/// The wire type of a field that is a varint.
const VARINT: u32 = 0;
/// The wire type of a field that is eight bytes.
const FIXED_64: u32 = 1;
/// The wire type of a field that has a length.
const LENGTH: u32 = 2;
/// The wire type of a field that is four bytes.
const FIXED_32: u32 = 5;

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// A number.
    Number(u64),
    /// Text, bytes or a message.
    Bytes(&'a [u8]),
    /// A number of fixed width, which nothing here has a use for.
    Fixed,
}

/// Appends a number, unless it is 0, as that is what is read where nothing stands.
pub(crate) fn put_number(out: &mut Vec<u8>, field: u32, number: u64) {
    if number != 0 {
        put_varint(out, u64::from(field << 3 | VARINT));
        put_varint(out, number);
    }
}

/// Appends text or bytes, unless there are none.
pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_varint(out, u64::from(field << 3 | LENGTH));
        put_varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

/// Calls `each` with the number and the value of every field.
pub(crate) fn fields<'a>(
    mut bytes: &'a [u8],
    mut each: impl FnMut(u64, Value<'a>),
) -> Result<(), &'static str> {
    while !bytes.is_empty() {
        let (tag, rest) = varint(bytes)?;
        let (value, rest) = match (tag & 7) as u32 {
            VARINT => varint(rest).map(|(number, rest)| (Value::Number(number), rest))?,
            FIXED_64 => (Value::Fixed, rest.get(8..).ok_or(MALFORMED)?),
            LENGTH => {
                let (length, rest) = varint(rest)?;
                let length = usize::try_from(length).map_err(|_| MALFORMED)?;
                let (bytes, rest) = rest.split_at_checked(length).ok_or(MALFORMED)?;
                (Value::Bytes(bytes), rest)
            }
            FIXED_32 => (Value::Fixed, rest.get(4..).ok_or(MALFORMED)?),
            _ => return Err(MALFORMED),
        };
        each(tag >> 3, value);
        bytes = rest;
    }
    Ok(())
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn varint(bytes: &[u8]) -> Result<(u64, &[u8]), &'static str> {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit only.
        if at == 9 && bits > 1 {
            return Err(MALFORMED);
        }
        number |= bits << (7 * at);
        if byte & 0x80 == 0 {
            return Ok((number, &bytes[at + 1..]));
        }
    }
    Err(MALFORMED)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>, &'static str> {
        let mut found = Vec::new();
        fields(bytes, |field, value| found.push((field, value))).map(|()| found)
    }

    #[test]
    fn the_examples_of_the_format_are_read() {
        assert_eq!(read(b"\x08\x96\x01"), Ok(vec![(1, Value::Number(150))]));
        assert_eq!(read(b"\x12\x07testing"), Ok(vec![(2, Value::Bytes(b"testing"))]));
        assert_eq!(read(b"\x0d\0\0\0\0\x09\0\0\0\0\0\0\0\0").map(|found| found.len()), Ok(2));
    }

    #[test]
    fn what_is_cut_or_unknown_is_refused() {
        for bytes in [b"\x08" as &[u8], b"\x12\x07test", b"\x0b", b"\x0d\0", &[0x80; 11]] {
            assert_eq!(read(bytes), Err(MALFORMED), "{bytes:?}");
        }
        assert!(read(&[b"\x08" as &[u8], &[0xff; 9], b"\x02"].concat()).is_err());
    }

    proptest! {
        #[test]
        fn reading_undoes_writing(number in 1_u64.., bytes in prop::collection::vec(any::<u8>(), 1..300)) {
            let mut out = Vec::new();
            put_number(&mut out, 1, number);
            put_bytes(&mut out, 6, &bytes);
            put_number(&mut out, 2, 0);
            put_bytes(&mut out, 3, b"");
            let wanted = vec![(1, Value::Number(number)), (6, Value::Bytes(&bytes))];
            prop_assert_eq!(read(&out), Ok(wanted));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
