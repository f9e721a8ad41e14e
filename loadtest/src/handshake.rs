//! The client's opening handshake (RFC 6455, section 4.1), as bytes to write and bytes to judge.

use httparse::{EMPTY_HEADER, Header, Response, Status};
use tungstenite::handshake::{client::generate_key, derive_accept_key};

use crate::{
    target::{Deflate, Target},
    transport::Framing,
    trouble::Trouble,
};

/// The longest response head that is read before it counts as bad.
const MAX_HEAD: usize = 16 * 1024;
/// The most headers of a response.
const MAX_HEADERS: usize = 64;

/// One handshake under way: lives from the connect to the answer.
#[derive(Debug)]
pub(crate) struct Handshake {
    framing: Framing,
    /// Whether permessage-deflate was offered.
    deflate: bool,
    request: Vec<u8>,
    written: usize,
    /// What of the request may be written now.
    released: usize,
    accept: String,
    head: Vec<u8>,
}

impl Handshake {
    /// A handshake with a fresh random key.
    pub(crate) fn new(target: &Target) -> Self {
        Self::with(target, &target.path, "")
    }

    /// The same with another path, and with more headers, each of which ends with a line break.
    pub(crate) fn with(target: &Target, path: &str, headers: &str) -> Self {
        let key = generate_key();
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{}{headers}\r\n",
            path,
            target.host,
            target.deflate.map_or("", Deflate::offer),
        );
        Self {
            framing: Framing::WebSocket,
            deflate: target.deflate.is_some(),
            released: request.len(),
            request: request.into_bytes(),
            written: 0,
            accept: derive_accept_key(key.as_bytes()),
            head: Vec::new(),
        }
    }

    /// None at all: a connection over plain TCP is open as soon as it is connected.
    pub(crate) fn bare(framing: Framing) -> Self {
        let (request, accept, head) = (Vec::new(), String::new(), Vec::new());
        Self { framing, deflate: false, request, written: 0, released: 0, accept, head }
    }

    /// Whether there is nothing to be said before the first message.
    pub(crate) fn is_bare(&self) -> bool {
        self.accept.is_empty()
    }

    /// How messages stand in the stream behind it.
    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// A handshake that never ends: nothing is written before [`Handshake::release`] says so, and
    /// behind the request's headers comes one more, without end.
    pub(crate) fn dripping(target: &Target) -> Self {
        let mut handshake = Self::new(target);
        handshake.request.truncate(handshake.request.len() - "\r\n".len());
        handshake.request.extend_from_slice(b"X-Drip: ");
        handshake.released = 0;
        handshake
    }

    /// Lets `count` bytes more of a dripping request be written.
    pub(crate) fn release(&mut self, count: usize) {
        self.released += count;
        if self.released > self.request.len() {
            self.request.resize(self.released, b'a');
        }
    }

    /// What of the request is still to be written.
    pub(crate) fn unwritten(&self) -> &[u8] {
        &self.request[self.written..self.released]
    }

    /// Notes that `count` more bytes of the request were written.
    pub(crate) fn wrote(&mut self, count: usize) {
        self.written += count;
    }

    /// Takes in bytes of the answer. Once it is whole and right, returns what came behind it: the
    /// first frames.
    pub(crate) fn received(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, Trouble> {
        self.head.extend_from_slice(bytes);
        match judge(&self.head, &self.accept, self.deflate)? {
            Some((len, framing)) => {
                self.framing = framing;
                Ok(Some(self.head.split_off(len)))
            }
            None if self.head.len() > MAX_HEAD => Err(Trouble::BadHandshake("head too long")),
            None => Ok(None),
        }
    }
}

/// Checks a response head; returns its length and how messages stand behind it, or `None` if it is not
/// whole yet.
fn judge(head: &[u8], accept: &str, deflate: bool) -> Result<Option<(usize, Framing)>, Trouble> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut response = Response::new(&mut headers);
    let parsed = response.parse(head).map_err(|_| Trouble::BadHandshake("not HTTP"))?;
    let Status::Complete(len) = parsed else { return Ok(None) };
    if response.code != Some(101) {
        return Err(Trouble::Status(response.code.unwrap_or(0)));
    }
    check_headers(response.headers, accept)?;
    Ok(Some((len, framing(response.headers, deflate)?)))
}

/// What was agreed of extensions: what was offered, and nothing else.
fn framing(headers: &[Header<'_>], deflate: bool) -> Result<Framing, Trouble> {
    let agreed: Vec<_> = named(headers, "sec-websocket-extensions")
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|extension| !extension.is_empty())
        .collect();
    match (deflate, &agreed[..]) {
        (false, []) => Ok(Framing::WebSocket),
        (false, _) => Err(Trouble::BadHandshake("an extension that was not offered")),
        (true, []) => Err(Trouble::BadHandshake("permessage-deflate was declined")),
        (true, [one]) => deflate_agreed(one),
        (true, _) => Err(Trouble::BadHandshake("more extensions than were offered")),
    }
}

/// The answer to the offer of permessage-deflate (RFC 7692, section 7.1).
fn deflate_agreed(extension: &[u8]) -> Result<Framing, Trouble> {
    let mut words = extension.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    if words.next() != Some(b"permessage-deflate") {
        return Err(Trouble::BadHandshake("an extension that was not offered"));
    }
    let mut keeps = true;
    for word in words {
        match word {
            b"server_no_context_takeover" => keeps = false,
            b"client_no_context_takeover" => {}
            // An inflater with the largest window takes smaller ones as well.
            _ if word.starts_with(b"server_max_window_bits=") => {}
            _ => return Err(Trouble::BadHandshake("terms of permessage-deflate not offered")),
        }
    }
    Ok(Framing::Deflate { keeps })
}

fn check_headers(headers: &[Header<'_>], accept: &str) -> Result<(), Trouble> {
    if !has_token(headers, "upgrade", "websocket") {
        return Err(Trouble::BadHandshake("no Upgrade: websocket"));
    }
    if !has_token(headers, "connection", "upgrade") {
        return Err(Trouble::BadHandshake("no Connection: Upgrade"));
    }
    let mut accepts = named(headers, "sec-websocket-accept");
    if accepts.next().map(|value| value.trim_ascii()) != Some(accept.as_bytes())
        || accepts.next().is_some()
    {
        return Err(Trouble::BadHandshake("wrong Sec-WebSocket-Accept"));
    }
    if named(headers, "sec-websocket-protocol").next().is_some() {
        return Err(Trouble::BadHandshake("a subprotocol that was not offered"));
    }
    Ok(())
}

fn has_token(headers: &[Header<'_>], name: &str, token: &str) -> bool {
    named(headers, name)
        .flat_map(|value| value.split(|byte| *byte == b','))
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

fn named<'a>(headers: &'a [Header<'a>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::network::NetworkArgs;

    fn target(url: &str) -> Target {
        Target::resolve(url, &NetworkArgs::default()).unwrap()
    }

    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn answer(extra: &str) -> Vec<u8> {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: keep-alive, \
             Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n{extra}\r\n"
        )
        .into_bytes()
    }

    fn bad(head: &[u8]) -> String {
        judge(head, ACCEPT, false).unwrap_err().to_string()
    }

    #[test]
    fn a_right_answer_is_taken_in_any_pieces() {
        let whole = answer("");
        let all = Ok(Some((whole.len(), Framing::WebSocket)));
        assert_eq!(judge(&whole, ACCEPT, false), all);
        for cut in 0..whole.len() {
            assert_eq!(judge(&whole[..cut], ACCEPT, false), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn frames_behind_the_answer_are_kept() {
        let target = target("ws://127.0.0.1:1/x");
        let mut handshake = Handshake::new(&target);
        handshake.accept = ACCEPT.to_owned();
        let mut bytes = answer("");
        bytes.extend_from_slice(b"\x81\x01a");
        assert_eq!(handshake.received(&bytes[..30]), Ok(None));
        assert_eq!(handshake.received(&bytes[30..]), Ok(Some(b"\x81\x01a".to_vec())));
    }

    #[test]
    fn wrong_answers_are_named() {
        assert_eq!(bad(b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n\r\n"), "HTTP 503");
        assert!(bad(b"SSH-2.0-x\r\n\r\n").contains("not HTTP"));
        assert!(bad(b"HTTP/1.1 101 X\r\n\r\n").contains("Upgrade: websocket"));
        assert!(bad(&answer("Sec-WebSocket-Accept: x\r\n")).contains("Accept"));
        assert!(bad(&answer("Sec-WebSocket-Extensions: x\r\n")).contains("extension"));
        assert!(bad(&answer("Sec-WebSocket-Protocol: x\r\n")).contains("subprotocol"));
        assert!(judge(&answer(""), "other", false).is_err());
    }

    #[test]
    fn an_endless_head_is_refused() {
        let target = target("ws://127.0.0.1:1/");
        let mut handshake = Handshake::new(&target);
        let mut result = handshake.received(b"HTTP/1.1 101 X\r\nA: ");
        while result == Ok(None) {
            result = handshake.received(&[b'a'; 1000]);
        }
        assert_eq!(result, Err(Trouble::BadHandshake("head too long")));
    }

    #[test]
    fn a_dripping_request_never_ends() {
        let target = target("ws://127.0.0.1:1/a");
        let mut handshake = Handshake::dripping(&target);
        assert!(handshake.unwritten().is_empty());
        let mut sent = Vec::new();
        for _ in 0..100 {
            handshake.release(7);
            sent.extend_from_slice(handshake.unwritten());
            handshake.wrote(7);
        }
        assert_eq!(sent.len(), 700);
        let text = String::from_utf8(sent).unwrap();
        assert!(text.contains("Sec-WebSocket-Key: ") && text.contains("\r\nX-Drip: aaa"));
        assert!(!text.contains("\r\n\r\n"), "{text}");
    }

    #[test]
    fn the_request_says_what_the_rfc_wants() {
        let target = target("ws://127.0.0.1:1/a?b");
        let handshake = Handshake::new(&target);
        let text = String::from_utf8(handshake.unwritten().to_vec()).unwrap();
        assert!(text.starts_with("GET /a?b HTTP/1.1\r\nHost: 127.0.0.1:1\r\n"));
        assert!(text.ends_with("\r\n\r\n"));
        let handshake = Handshake::with(&target, "/c", "X: y\r\n");
        let text = String::from_utf8(handshake.unwritten().to_vec()).unwrap();
        assert!(text.starts_with("GET /c HTTP/1.1\r\n") && text.ends_with("\r\nX: y\r\n\r\n"));
    }
}
