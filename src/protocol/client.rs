//! The client's role (RFC 6455, 5.1): what it sends is masked, what it gets is not.

use super::close::close_payload;
use super::decoder::{
    Decoder, Event, FrameRules, Progress, compressed_frame, take_frame, whole_frame,
};
use super::frame::{
    FrameHeader, Lead, MessageKind, OpCode, RSV1, SERVER_HEADER_MAX, encode_header,
};
use super::framing::Framing;
use super::mask::apply_mask;
use super::partial::{Partial, Spare};
use super::violation::Violation;
use crate::limits::CONTROL_PAYLOAD_MAX;

/// How the frames of a server are decoded, and under which limits: a [`Decoder`] in the client's
/// role, to which a masked frame is a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientDecoder(pub Decoder);

impl ClientDecoder {
    /// Takes bytes from the front of `input` up to the end of the next event: see
    /// [`Decoder::next`], whose promises hold here too.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn next<'a>(
        &self,
        state: &mut Option<Box<Partial>>,
        spare: &mut Spare,
        input: &mut &'a mut [u8],
    ) -> Result<Option<Event<'a>>, Violation> {
        // Over plain TCP both roles send the same frames.
        if self.0.framing != Framing::WebSocket {
            return self.0.next(state, spare, input);
        }
        if state.is_none() {
            if input.is_empty() {
                return Ok(None);
            }
            if let Some(header) = self.header(input, Progress::IDLE)?
                && header.fin
                && let Some(payload) = take_frame(input, &header)
            {
                if header.compressed {
                    return compressed_frame(header.op, payload);
                }
                return whole_frame(header.op, payload);
            }
        }
        let partial = state.get_or_insert_with(|| spare.partial());
        let event = partial.feed(self, spare, input)?;
        if partial.is_idle() {
            spare.reclaim(state);
        }
        Ok(event)
    }
}

impl FrameRules for ClientDecoder {
    fn header(&self, bytes: &[u8], progress: Progress) -> Result<Option<FrameHeader>, Violation> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let lead = Lead::parse(first, self.0.deflate)?;
        let Lead { fin, compressed, op } = lead;
        self.0.check_sequence(op, progress)?;
        let Some((len, size)) = lead.server_length(bytes)? else { return Ok(None) };
        if !op.is_control() {
            self.0.check_length(len, progress, lead.compressed)?;
        }
        Ok(Some(FrameHeader { fin, compressed, op, len, mask: [0; 4], size }))
    }

    fn max_message_bytes(&self) -> usize {
        self.0.max_message_bytes
    }
}

/// Appends a final frame from a client: masked with `mask` over WebSocket, which has to be new and
/// unpredictable for each frame (RFC 6455, 5.3); over plain TCP as it is.
///
/// The caller keeps to the rules: a control frame's `payload` is at most 125 bytes.
pub fn put_client_frame(
    framing: Framing,
    out: &mut Vec<u8>,
    op: OpCode,
    payload: &[u8],
    mask: [u8; 4],
) {
    debug_assert!(!op.is_control() || payload.len() <= CONTROL_PAYLOAD_MAX);
    if framing != Framing::WebSocket {
        return framing.put_frame(out, op, payload);
    }
    let mut header = [0; SERVER_HEADER_MAX];
    let len = encode_header(&mut header, true, op, payload.len() as u64);
    header[1] |= 0x80;
    out.reserve(len + mask.len() + payload.len());
    out.extend_from_slice(&header[..len]);
    out.extend_from_slice(&mask);
    let at = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[at..], mask);
}

/// Appends a final frame of a compressed message from a client, masked with `mask` (RFC 7692, 6.1):
/// `payload` is what [`Deflater`](super::deflate::Deflater) made of it.
pub fn put_compressed_client_frame(
    out: &mut Vec<u8>,
    kind: MessageKind,
    payload: &[u8],
    mask: [u8; 4],
) {
    let at = out.len();
    put_client_frame(Framing::WebSocket, out, kind.opcode(), payload, mask);
    out[at] |= RSV1;
}

/// Appends a client's Close frame: see [`put_close`](super::put_close).
pub fn put_client_close(
    framing: Framing,
    out: &mut Vec<u8>,
    code: Option<u16>,
    reason: &str,
    mask: [u8; 4],
) {
    put_client_frame(framing, out, OpCode::Close, close_payload(code, reason).as_slice(), mask);
}

#[cfg(test)]
mod tests {
    use std::mem;

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::put_close;

    const LIMITS: Decoder = Decoder {
        framing: Framing::WebSocket,
        max_frame_bytes: 1 << 20,
        max_message_bytes: 1 << 20,
        max_fragments: 16,
        deflate: false,
    };

    /// Everything that `decode` makes of the pieces of a stream, as text.
    fn events(
        pieces: &[&[u8]],
        decode: impl for<'a> Fn(
            &mut Option<Box<Partial>>,
            &mut Spare,
            &mut &'a mut [u8],
        ) -> Result<Option<Event<'a>>, Violation>,
    ) -> Vec<String> {
        let (mut state, mut spare, mut seen) = (None, Spare::new(1, 1, 1 << 16), Vec::new());
        for piece in pieces {
            let mut piece = piece.to_vec();
            let mut input = &mut piece[..];
            loop {
                match decode(&mut state, &mut spare, &mut input) {
                    Ok(None) => break,
                    Ok(Some(Event::Message { kind, payload })) => {
                        seen.push(format!("{kind:?} {payload:?}"));
                    }
                    Ok(Some(Event::Assembled { kind, payload })) => {
                        seen.push(format!("{kind:?} {payload:?}"));
                    }
                    Ok(Some(event)) => seen.push(format!("{event:?}")),
                    Err(violation) => {
                        seen.push(violation.to_string());
                        return seen;
                    }
                }
            }
        }
        seen
    }

    fn as_client(pieces: &[&[u8]]) -> Vec<String> {
        let decoder = ClientDecoder(LIMITS);
        events(pieces, |state, spare, input| decoder.next(state, spare, input))
    }

    fn as_server(framing: Framing, pieces: &[&[u8]]) -> Vec<String> {
        let decoder = Decoder { framing, ..LIMITS };
        events(pieces, |state, spare, input| decoder.next(state, spare, input))
    }

    #[test]
    fn the_frames_of_the_standard() {
        // RFC 6455, 5.7.
        let mut out = Vec::new();
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        put_client_frame(Framing::WebSocket, &mut out, OpCode::Text, b"Hello", mask);
        assert_eq!(out, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        assert_eq!(as_client(&[b"\x81\x05Hello"]), [format!("Text {:?}", b"Hello")]);
        let split = as_client(&[b"\x01\x03Hel\x89\x02hi", b"\x80\x02lo"]);
        assert_eq!(split[1], format!("Text {:?}", b"Hello"));
        assert!(split[0].starts_with("Ping"), "{split:?}");
    }

    #[test]
    fn a_servers_masked_frame_is_a_violation() {
        for frame in [&b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"[..], b"\x89\x80\0\0\0\0"] {
            assert_eq!(as_client(&[frame]), ["frame masked"]);
            assert_eq!(as_client(&[&frame[..1], &frame[1..2]]), ["frame masked"]);
        }
    }

    #[test]
    fn limits_hold_for_what_servers_send() {
        assert_eq!(as_client(&[b"\x82\x7f\0\0\0\0\0\x20\0\0"]), ["frame too big"]);
        assert_eq!(as_client(&[b"\x80\x01a"]), ["nothing to continue"]);
        assert_eq!(as_client(&[b"\x81\x01\xff"]), ["text is not UTF-8"]);
        assert_eq!(as_client(&[b"\xc1\x01a"]), ["reserved bit set"]);
        assert_eq!(as_client(&[b"\x81\x7e\0\x01a"]), ["length not minimal"]);
    }

    #[test]
    fn closes_say_why() {
        let mut out = Vec::new();
        put_client_close(Framing::WebSocket, &mut out, Some(1000), "bye", [1, 2, 3, 4]);
        assert_eq!(as_server(Framing::WebSocket, &[&out]).len(), 1);
        let mut server = Vec::new();
        put_close(Framing::WebSocket, &mut server, Some(1000), "bye");
        assert_eq!(as_server(Framing::WebSocket, &[&out]), as_client(&[&server]));
    }

    proptest! {
        #[test]
        fn what_one_role_sends_the_other_reads(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6),
            masks: [u8; 4],
            cuts in prop::collection::vec(0.0..1.0, 0..6),
            framing in prop::sample::select(vec![
                Framing::WebSocket, Framing::Tcp, Framing::U32Binary,
            ]),
        ) {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for message in &messages {
                put_client_frame(framing, &mut ours, OpCode::Binary, message, masks);
                Framing::WebSocket.put_frame(&mut theirs, OpCode::Binary, message);
            }
            let want: Vec<_> =
                messages.iter().map(|m| format!("{:?} {m:?}", MessageKind::Binary)).collect();
            prop_assert_eq!(&as_server(framing, &pieces(&ours, &cuts)), &want);
            prop_assert_eq!(&as_client(&pieces(&theirs, &cuts)), &want);
        }

        #[test]
        fn any_bytes_mean_the_same_however_they_are_split(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            cuts in prop::collection::vec(0.0..1.0, 0..6),
        ) {
            prop_assert_eq!(as_client(&pieces(&bytes, &cuts)), as_client(&[&bytes]));
        }
    }

    fn pieces<'a>(bytes: &'a [u8], cuts: &[f64]) -> Vec<&'a [u8]> {
        let mut ends: Vec<_> = cuts.iter().map(|cut| (cut * bytes.len() as f64) as usize).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        let mut from = 0;
        ends.into_iter().map(|end| &bytes[mem::replace(&mut from, end)..end]).collect()
    }
}
