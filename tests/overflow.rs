//! What happens to a member that does not read, by the endpoint's policy, while the one beside it
//! gets everything. What is missing at the end is what was counted.

#[path = "support/client.rs"]
mod client;
#[path = "support/wait.rs"]
mod wait;

use std::net::Shutdown;

use client::{CLOSE, Client, Frame, TEXT, frame};
use tidegate::app::Running;
use tidegate::connection::OverflowPolicy;
use tidegate::dialect::{Body, Dialect};
use tidegate::routing::{Endpoint, Gateway};
use wait::wait_until;

/// Publishes of a test. Together far more than the sockets' buffers and the limit hold.
const PUBLISHES: usize = 400;
const PUBLISH_BYTES: usize = 32 * 1024;
const LIMIT: usize = 256 * 1024;
/// Answers that the stalled member asks for while publishes are dropped around them.
const REPLIES: usize = 20;

struct Stage {
    running: Running,
    healthy: Client,
    stalled: Client,
}

impl Stage {
    fn new(policy: OverflowPolicy, workers: usize) -> Self {
        let room =
            Endpoint::new("/room", Dialect::Raw).overflow(policy).fallback(|ctx, message| {
                if let Body::Text("join") = message.body {
                    ctx.join("room").expect("a good name");
                }
                ctx.reply(message.body);
            });
        let running = Gateway::builder()
            .endpoint(room)
            .configure(|config| {
                config.listen = vec![([127, 0, 0, 1], 0).into()];
                (config.loops, config.workers) = (1, workers);
                config.outbound_limit_bytes = LIMIT;
            })
            .start()
            .expect("it starts");
        let addr = running.addresses()[0];
        let mut healthy = Client::open(addr, "/room");
        let mut stalled = Client::open_narrow(addr, "/room");
        for member in [&mut healthy, &mut stalled] {
            member.text("join");
            assert_eq!(member.frame().expect("an answer").text(), "join");
        }
        Self { running, healthy, stalled }
    }

    /// Publishes everything, each as soon as the healthy member has the one before.
    fn publish_all(&mut self, mut between: impl FnMut(usize, &mut Client)) {
        for n in 0..PUBLISHES {
            let body = publish(n);
            self.running.gateway().publish("room", Body::Text(&body)).expect("it runs");
            let got = self.healthy.frame().expect("the healthy member is served");
            assert_eq!(got.text(), body);
            between(n, &mut self.stalled);
        }
    }

    /// What the stalled member is sent up to the Close, and its code. Nothing follows it.
    fn until_close(&mut self) -> (Vec<Frame>, Option<u16>) {
        let mut frames = Vec::new();
        let close = loop {
            let frame = self.stalled.frame().expect("a Close comes before the end");
            if frame.opcode == CLOSE {
                break frame.close_code();
            }
            frames.push(frame);
        };
        self.stalled.stream.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(self.stalled.rest(), [], "nothing follows a Close");
        (frames, close)
    }

    fn count(&self, of: &str, name: &str) -> u64 {
        self.running.stats()[of][name].as_u64().expect("a counter")
    }
}

fn publish(n: usize) -> String {
    format!("{n:06} {}", "x".repeat(PUBLISH_BYTES))
}

/// The number of a publish that came whole; `None` for an answer.
fn number(frame: &Frame) -> Option<usize> {
    assert_eq!(frame.opcode, TEXT, "a whole text message");
    let text = frame.text();
    if text.starts_with("answer") {
        return None;
    }
    let n = text[..6].parse().expect("a number");
    assert!(text == publish(n), "publish {n} is not whole");
    Some(n)
}

#[test]
fn close_inline() {
    close_says_so_and_nothing_else(0);
}

#[test]
fn close_pooled() {
    close_says_so_and_nothing_else(2);
}

fn close_says_so_and_nothing_else(workers: usize) {
    let mut stage = Stage::new(OverflowPolicy::Close, workers);
    stage.publish_all(|_, _| {});
    let (frames, close) = stage.until_close();
    assert_eq!(close, Some(1008));
    let numbers: Vec<_> = frames.iter().map(|frame| number(frame).expect("a publish")).collect();
    assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>(), "the oldest, in order, no gap");
    assert!(numbers.len() < PUBLISHES - LIMIT / PUBLISH_BYTES, "it was closed before the end");
    wait_until("the close is counted", || {
        stage.running.stats()["closes"]["outbound_limit"].as_u64() == Some(1)
    });
    assert_eq!(stage.running.stats()["drops"]["drop_oldest"], 0);
    assert_eq!(stage.running.stats()["drops"]["keep_latest"], 0);
}

#[test]
fn drop_oldest_inline() {
    publishes_are_dropped_whole(OverflowPolicy::DropOldest, 0);
}

#[test]
fn drop_oldest_pooled() {
    publishes_are_dropped_whole(OverflowPolicy::DropOldest, 2);
}

#[test]
fn keep_latest_inline() {
    publishes_are_dropped_whole(OverflowPolicy::KeepLatest, 0);
}

#[test]
fn keep_latest_pooled() {
    publishes_are_dropped_whole(OverflowPolicy::KeepLatest, 2);
}

fn publishes_are_dropped_whole(policy: OverflowPolicy, workers: usize) {
    let mut stage = Stage::new(policy, workers);
    let mut asked = 0;
    stage.publish_all(|n, stalled| {
        if n % (PUBLISHES / REPLIES) == 0 {
            stalled.text(&format!("answer {asked}"));
            asked += 1;
        }
    });
    // Both joins, and what the stalled member asked.
    let messages = 2 + asked as u64;
    wait_until("all answers are queued", || stage.count("worker_totals", "messages") == messages);
    let (mut publishes, mut answers) = (Vec::new(), Vec::new());
    while publishes.last() != Some(&(PUBLISHES - 1)) || answers.len() < asked {
        let frame = stage.stalled.frame().expect("it is not closed");
        match number(&frame) {
            Some(n) => publishes.push(n),
            None => answers.push(frame.text().to_owned()),
        }
    }
    let expected: Vec<_> = (0..asked).map(|n| format!("answer {n}")).collect();
    assert_eq!(answers, expected, "no answer is dropped, and they are in order");
    assert!(publishes.is_sorted(), "in order: {publishes:?}");
    let missing = (PUBLISHES - publishes.len()) as u64;
    assert!(missing > 0, "nothing had to be dropped");
    // The healthy member may have had the last publish before the stalled one's turn came.
    wait_until("what is missing is counted", || {
        stage.count("drops", "drop_oldest") + stage.count("drops", "keep_latest") == missing
    });
    let newest: Vec<_> = publishes.iter().rev().take_while_adjacent().collect();
    match policy {
        // The limit's worth of the newest is there, not only the last.
        OverflowPolicy::DropOldest => assert!(newest.len() >= 4, "{publishes:?}"),
        _ => assert_eq!(newest.len(), 1, "{publishes:?}"),
    }
    let other = if policy == OverflowPolicy::DropOldest { "keep_latest" } else { "drop_oldest" };
    assert_eq!(stage.count("drops", other), 0);
    // It is a member like any other again.
    stage.running.gateway().publish("room", Body::Text(&publish(7))).expect("it runs");
    assert_eq!(number(&stage.stalled.frame().expect("served")), Some(7));
    assert_eq!(stage.running.stats()["closes"]["outbound_limit"], 0);
}

#[test]
fn answers_alone_over_the_limit_close() {
    let mut stage = Stage::new(OverflowPolicy::DropOldest, 2);
    let message = frame(TEXT, format!("answer {}", "y".repeat(PUBLISH_BYTES)).as_bytes());
    stage.stalled.stream.set_nonblocking(true).unwrap();
    let mut sent = 0;
    wait_until("its close", || {
        use std::io::Write as _;
        let rest = &message[sent % message.len()..];
        sent += stage.stalled.stream.write(rest).unwrap_or(0);
        stage.count("drops", "inbound_after_close") > 0
    });
    stage.stalled.stream.set_nonblocking(false).unwrap();
    let (frames, close) = stage.until_close();
    assert_eq!(close, Some(1008));
    assert!(frames.iter().all(|frame| number(frame).is_none()));
    assert_eq!(stage.count("drops", "drop_oldest"), 0);
}

/// The leading run of an iterator in which each is one less than the one before.
trait TakeAdjacent<'a>: Iterator<Item = &'a usize> + Sized {
    fn take_while_adjacent(self) -> impl Iterator<Item = &'a usize> {
        let mut next = None;
        self.take_while(move |n| {
            let fits = next.is_none_or(|next| next == **n);
            next = n.checked_sub(1);
            fits
        })
    }
}

impl<'a, I: Iterator<Item = &'a usize>> TakeAdjacent<'a> for I {}
