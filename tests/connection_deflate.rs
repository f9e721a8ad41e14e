//! A connection with permessage-deflate: messages are inflated on their way to the sink.

use tidegate::connection::{
    Connection, Env, Inflate, OutboxPool, OverflowPolicy, Phase, Received, Room, Sink,
};
use tidegate::protocol::deflate::{Deflater, Inflater, Window};
use tidegate::protocol::{
    Decoder, Framing, MessageKind, OpCode, Spare, put_client_close, put_client_frame,
    put_compressed_client_frame,
};

const LIMIT: usize = 10_000;
const MASK: [u8; 4] = [9, 8, 7, 6];

/// What came out of a connection.
#[derive(Default)]
struct Heard {
    messages: Vec<Vec<u8>>,
    discarded: u32,
}

impl Sink for Heard {
    fn message(&mut self, _: MessageKind, payload: &[u8]) {
        self.messages.push(payload.to_vec());
    }
    fn assembled(&mut self, _: MessageKind, payload: Vec<u8>) -> Option<Vec<u8>> {
        self.messages.push(payload.clone());
        Some(payload)
    }
    fn pinged(&mut self, _: &[u8]) {}
    fn ponged(&mut self, _: &[u8]) {}
    fn discarded(&mut self) {
        self.discarded += 1;
    }
}

/// A connection and what its loop has for it.
struct Host {
    conn: Connection,
    spare: Spare,
    outboxes: OutboxPool,
    inflater: Inflater,
    window: Option<Window>,
    heard: Heard,
}

impl Host {
    fn new(window: Option<Window>) -> Self {
        let mut host = Self {
            conn: Connection::new(1),
            spare: Spare::new(2, 2, 4096),
            outboxes: OutboxPool::new(1, 4096),
            inflater: Inflater::new(),
            window,
            heard: Heard::default(),
        };
        host.with(0, |conn, env, _| conn.open(b"101", env));
        host
    }

    fn with<T>(
        &mut self,
        budget_bytes: u64,
        act: impl FnOnce(&mut Connection, &mut Env<'_>, &mut Heard) -> T,
    ) -> T {
        let mut env = Env {
            now: 2,
            decoder: Decoder {
                framing: Framing::WebSocket,
                max_frame_bytes: LIMIT,
                max_message_bytes: LIMIT,
                max_fragments: 10,
                deflate: true,
            },
            room: Room { limit_bytes: 1 << 16, policy: OverflowPolicy::Close },
            spare: &mut self.spare,
            outboxes: &mut self.outboxes,
            inflate: Some(Inflate {
                inflater: &mut self.inflater,
                window: self.window.as_mut(),
                budget_bytes,
                messages: 0,
            }),
        };
        act(&mut self.conn, &mut env, &mut self.heard)
    }

    fn receive(&mut self, bytes: &[u8], budget_bytes: u64) -> Received {
        let mut bytes = bytes.to_vec();
        self.with(budget_bytes, |conn, env, heard| conn.receive(&mut bytes, env, heard))
    }

    /// How many bytes of messages came.
    fn lens(&self) -> Vec<usize> {
        self.heard.messages.iter().map(Vec::len).collect()
    }

    /// The close code that is owed last.
    fn close_code(&self) -> u16 {
        let mut slices = [&[][..]; 8];
        let n = self.conn.slices(&mut slices);
        let owed = slices[..n].concat();
        let at = owed.windows(2).position(|pair| pair[0] == 0x88).expect("a Close");
        u16::from_be_bytes([owed[at + 2], owed[at + 3]])
    }
}

fn deflated(deflater: &mut Deflater, message: &[u8]) -> Vec<u8> {
    let (mut payload, mut frame) = (Vec::new(), Vec::new());
    assert!(deflater.compress(message, &mut payload));
    put_compressed_client_frame(&mut frame, MessageKind::Binary, &payload, MASK);
    frame
}

/// A message on its own.
fn once(message: &[u8]) -> Vec<u8> {
    deflated(&mut Deflater::new(1, 15, false), message)
}

fn close() -> Vec<u8> {
    let mut frame = Vec::new();
    put_client_close(Framing::WebSocket, &mut frame, Some(1000), "", MASK);
    frame
}

#[test]
fn messages_are_inflated_whole_split_and_beside_others() {
    let mut host = Host::new(None);
    let mut bytes = once(&[1; 500]);
    put_client_frame(Framing::WebSocket, &mut bytes, OpCode::Text, b"plain", MASK);
    bytes.extend(once(&[2; 9_000]));
    assert_eq!(host.receive(&bytes, u64::MAX), Received::Continue);
    for byte in &bytes {
        assert_eq!(host.receive(&[*byte], u64::MAX), Received::Continue);
    }
    assert_eq!(host.lens(), [500, 5, 9_000, 500, 5, 9_000]);
    assert_eq!(host.conn.in_flight(), 6);
    assert_eq!(host.conn.inbound_bytes(), 0);
}

#[test]
fn a_window_is_one_connections() {
    let mut deflater = Deflater::new(1, 9, true);
    let frames = [[7; 200], [7; 200]].map(|message| deflated(&mut deflater, &message));
    let mut host = Host::new(Some(Window::new(9)));
    host.receive(&frames.concat(), u64::MAX);
    assert_eq!(host.heard.messages, [[7; 200], [7; 200]]);
    let mut other = Host::new(Some(Window::new(9)));
    assert_eq!(other.receive(&frames[1], u64::MAX), Received::Stop);
    assert_eq!(other.close_code(), 1007);
}

#[test]
fn what_can_not_be_inflated_ends_the_connection() {
    for (frame, code) in [
        (once(&vec![0; LIMIT + 1]), 1009),
        (once(&vec![0; 1 << 20]), 1009),
        (vec![0xc2, 0x81, 0, 0, 0, 0, 0xff], 1007),
        (vec![0xc8, 0x80, 0, 0, 0, 0], 1002),
    ] {
        let mut host = Host::new(None);
        assert_eq!(host.receive(&[frame, once(&[1; 50])].concat(), u64::MAX), Received::Stop);
        assert_eq!((host.close_code(), host.conn.phase()), (code, Phase::Closing));
        assert_eq!(host.lens(), [0; 0]);
    }
    let mut host = Host::new(None);
    host.receive(&once(&[0; LIMIT]), u64::MAX);
    assert_eq!(host.lens(), [LIMIT]);
}

#[test]
fn over_the_budget_the_rest_waits_for_another_turn() {
    let mut host = Host::new(None);
    let bytes = [once(&[1; 600]), once(&[2; 700]), once(&[3; 800]), close()].concat();
    assert_eq!(host.receive(&bytes, 1000), Received::Later);
    assert_eq!(host.lens(), [600, 700]);
    assert!(host.conn.has_unread());
    assert!((1..bytes.len() * 2 + 100).contains(&host.conn.inbound_bytes()));
    assert_eq!(host.receive(b"", 1), Received::Later);
    assert_eq!(host.lens(), [600, 700, 800]);
    assert!(host.conn.wants_read());
    // The Close behind them has waited too.
    assert_eq!(host.receive(b"", 1), Received::Stop);
    assert_eq!(host.conn.phase(), Phase::Draining);
    assert!(!host.conn.has_unread());
}

#[test]
fn what_waits_is_put_before_what_comes() {
    let mut host = Host::new(None);
    let bytes = [once(&[1; 600]), once(&[2; 700])].concat();
    let (first, second) = bytes.split_at(bytes.len() - 5);
    assert_eq!(host.receive(first, 1), Received::Later);
    assert_eq!(host.receive(second, 1), Received::Continue);
    assert_eq!(host.lens(), [600, 700]);
    // The last message of what was read leaves nothing behind it, whatever the budget.
    assert_eq!(host.receive(&once(&[3; 10]), 1), Received::Continue);
    assert!(!host.conn.has_unread());
}

#[test]
fn nothing_is_inflated_behind_our_close() {
    let mut host = Host::new(None);
    let bytes = [once(&[1; 600]), once(&[2; 700]), close()].concat();
    assert_eq!(host.receive(&bytes, 1), Received::Later);
    host.with(0, |conn, env, _| {
        conn.close(4000, "", tidegate::telemetry::counters::CloseCause::Handler, env)
    });
    assert_eq!(host.receive(b"", 0), Received::Stop);
    assert_eq!((host.lens(), host.heard.discarded), (vec![600], 1));
    assert!(!host.conn.wants_read());
}
