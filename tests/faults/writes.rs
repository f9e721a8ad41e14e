//! C: concurrent writes to one socket race.

use std::thread;

use serde_json::{Value, json};
use tidegate::{Body, Content, Endpoint};

use crate::client::{CLOSE, Client, PING, PONG, TEXT, frame};
use crate::{addr, both, only};

/// Threads of the gateway's user, and clients, who speak in the room at once.
const THREADS: usize = 3;
const CLIENTS: usize = 3;
/// What each of them says.
const MESSAGES: usize = 200;
/// All of it is owed to the reader at once, at worst.
const LIMIT: usize = 64 << 20;

/// Of many lengths, so that writes end in the middle of one.
fn said(by: usize, n: usize) -> Value {
    json!({"by": by, "n": n, "pad": "x".repeat((by * 7_919 + n * 104_729) % 20_000)})
}

/// What the reader has had so far of everyone who writes to it.
#[derive(Debug, Default)]
struct Had {
    /// By who said it.
    said: [usize; THREADS + CLIENTS],
    echoes: usize,
    pongs: usize,
}

impl Had {
    fn all(&self) -> bool {
        self.said == [MESSAGES; THREADS + CLIENTS]
            && (self.echoes, self.pongs) == (MESSAGES, MESSAGES)
    }

    fn take(&mut self, opcode: u8, payload: &[u8]) {
        if opcode == PONG {
            assert_eq!(payload, self.pongs.to_string().as_bytes());
            self.pongs += 1;
            return;
        }
        assert_eq!(opcode, TEXT);
        let message: Value = serde_json::from_slice(payload).expect("a whole message");
        if message["name"] == "echo" {
            assert_eq!(message["message"], self.echoes);
            self.echoes += 1;
            return;
        }
        let by = message["message"]["by"].as_u64().expect("who said it") as usize;
        assert!(message["message"] == said(by, self.said[by]), "out of order, or mangled");
        self.said[by] += 1;
    }
}

#[test]
fn many_write_to_one_socket_and_every_message_is_whole() {
    both(|setup| {
        let room = Endpoint::room("/room/{name}", "room/{name}")
            .expect("the room is the path's")
            .route("echo", |ctx, message| ctx.reply(message.body));
        let running = setup.start(only(room), |config| config.outbound_limit_bytes = LIMIT);
        let mut reader = Client::open_narrow(addr(&running), "/room/sea");
        let mut writer = Client::over(reader.writer());
        let mut had = Had::default();
        thread::scope(|scope| {
            for by in 0..THREADS {
                let gateway = running.gateway();
                scope.spawn(move || {
                    for n in 0..MESSAGES {
                        let body = said(by, n).to_string();
                        let content = Content::named("message", Body::Json(&body));
                        gateway.publish("room/sea", content).unwrap();
                    }
                });
            }
            for by in THREADS..THREADS + CLIENTS {
                let mut ears = Client::open(addr(&running), "/room/sea");
                let mut client = Client::over(ears.writer());
                scope.spawn(move || while ears.frame().is_some_and(|f| f.opcode != CLOSE) {});
                scope.spawn(move || {
                    for n in 0..MESSAGES {
                        let publish = json!({"name": "publish", "message": said(by, n)});
                        client.text(&publish.to_string());
                    }
                });
            }
            scope.spawn(move || {
                for n in 0..MESSAGES {
                    writer.text(&json!({"name": "echo", "message": n}).to_string());
                    writer.send(&frame(PING, n.to_string().as_bytes()));
                }
            });
            while !had.all() {
                let next = reader.frame().expect("a frame, not the end");
                had.take(next.opcode, &next.payload);
            }
            running.gateway().close_room("room/sea", 1000, "").unwrap();
            reader.expect_close_and_end(1000);
        });
    });
}
