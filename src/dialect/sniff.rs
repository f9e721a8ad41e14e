//! Telling dialects apart by the first bytes of a message.

use crate::protocol::MessageKind;

/// What a message's first bytes say about its dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Any text message.
    Text,
    /// A packet of the `kim` dialect.
    Kim,
    /// A packet of the `hub` dialect.
    Hub,
    /// Any other binary message.
    Binary,
}

/// What a message's first bytes say about its dialect.
#[must_use]
pub fn sniff(kind: MessageKind, payload: &[u8]) -> Family {
    match (kind, payload) {
        (MessageKind::Text, _) => Family::Text,
        (MessageKind::Binary, [0xfe, 0xef, ..]) => Family::Hub,
        (MessageKind::Binary, [0xc3, 0x11, 0xa3, 0x65, ..] | [0xc3, 0x15, 0xa7, 0x65, ..]) => {
            Family::Kim
        }
        (MessageKind::Binary, _) => Family::Binary,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magic_bytes_tell_dialects_apart() {
        for (kind, payload, family) in [
            (MessageKind::Binary, &b"\xfe\xef\x16"[..], Family::Hub),
            (MessageKind::Binary, b"\xc3\x11\xa3\x65", Family::Kim),
            (MessageKind::Binary, b"\xc3\x15\xa7\x65\0", Family::Kim),
            (MessageKind::Binary, b"\xfe", Family::Binary),
            (MessageKind::Binary, b"\xc3\x15\xa3\x65", Family::Binary),
            (MessageKind::Binary, b"", Family::Binary),
            (MessageKind::Text, b"{}", Family::Text),
        ] {
            assert_eq!(sniff(kind, payload), family, "{payload:?}");
        }
    }
}
