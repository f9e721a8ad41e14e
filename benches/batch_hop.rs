//! From a loop to a worker and back: the lanes, alarms, batches and posts, without the sockets.
//!
//! The loop's side sleeps in a poll and is woken by its waker, the worker's side parks, both as in
//! the gateway; batches and posts go round by recycle channels. With one batch in flight both sides
//! mostly sleep, and a hop is two wakes; with more they are awake.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_channel::{Receiver, Sender, bounded};
use mio::{Events, Poll, Token, Waker};
use tidegate::{
    ConnId, MessageKind,
    peer::Peer,
    protocol::{OpCode, put_frame},
    routing::EndpointId,
    worker::{Alarm, Batch, LaneReceiver, LaneSender, Post, PostItem, Taken, lane},
};

const CAPACITY: usize = 16;
const KEEP_BYTES: usize = 1 << 20;

/// The loop's side.
struct Loop {
    poll: Poll,
    events: Events,
    alarm: Arc<Alarm>,
    batches: LaneSender<Box<Batch>>,
    posts: LaneReceiver<Box<Post>>,
    spare_batches: Receiver<Box<Batch>>,
    spare_posts: Sender<Box<Post>>,
    worker_alarm: Arc<Alarm>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The worker's side: a shard that answers every message by itself.
struct Worker {
    alarm: Arc<Alarm>,
    batches: LaneReceiver<Box<Batch>>,
    posts: LaneSender<Box<Post>>,
    spare_batches: Sender<Box<Batch>>,
    spare_posts: Receiver<Box<Post>>,
    stop: Arc<AtomicBool>,
}

impl Loop {
    fn start() -> Self {
        let poll = Poll::new().expect("a poll");
        let waker = Waker::new(poll.registry(), Token(0)).expect("a waker");
        let (alarm, worker_alarm) =
            (Arc::new(Alarm::for_poll(waker)), Arc::new(Alarm::for_thread()));
        let (to_worker, batches) = lane(CAPACITY, &worker_alarm);
        let (to_loop, posts) = lane(CAPACITY, &alarm);
        let (give_batch, spare_batches) = bounded(CAPACITY);
        let (give_post, spare_posts) = bounded(CAPACITY);
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            alarm: Arc::clone(&worker_alarm),
            batches,
            posts: to_loop,
            spare_batches: give_batch,
            spare_posts,
            stop: Arc::clone(&stop),
        };
        Self {
            poll,
            events: Events::with_capacity(16),
            alarm,
            batches: to_worker,
            posts,
            spare_batches,
            spare_posts: give_post,
            worker_alarm,
            stop,
            thread: Some(thread::spawn(move || worker.run())),
        }
    }

    /// Hands over a batch of messages of 20 bytes, each of another connection.
    fn send(&self, messages: usize) {
        let now = Instant::now();
        let mut batch = self.spare_batches.try_recv().unwrap_or_else(|_| Batch::new(0, now));
        batch.read_at = now;
        let peer = Peer::from(SocketAddr::from(([127, 0, 0, 1], 1)));
        for slot in 0..messages {
            batch.begin_run(ConnId::new(0, 0, slot), EndpointId(0), peer);
            batch.push_message(MessageKind::Binary, &[7; 20]);
        }
        assert!(self.batches.offer(batch, &self.alarm).is_ok(), "there is room");
    }

    /// Waits for a post; the bytes of its answers.
    fn receive(&mut self) -> usize {
        let mut post = loop {
            if let Some(post) = self.posts.take() {
                break post;
            }
            self.alarm.flag().announce_sleep();
            if self.posts.is_empty() {
                self.poll.poll(&mut self.events, None).expect("a poll");
            }
            self.alarm.flag().awake();
        };
        let answers = post.parts().0.map(|item| match item {
            PostItem::Reply { len, .. } => len as usize,
            _ => 0,
        });
        let bytes = answers.sum();
        post.reset(KEEP_BYTES);
        let _ = self.spare_posts.try_send(post);
        bytes
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        self.worker_alarm.ring();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the worker has no reason to panic");
        }
    }
}

impl Worker {
    fn run(self) {
        self.alarm.adopt();
        while !self.stop.load(SeqCst) {
            match self.batches.take() {
                Some(batch) => self.answer(batch),
                None => {
                    self.alarm.park_unless(|| !self.batches.is_empty() || self.stop.load(SeqCst))
                }
            }
        }
    }

    fn answer(&self, mut batch: Box<Batch>) {
        let mut post = self.spare_posts.try_recv().unwrap_or_else(|_| Post::roomy(0));
        for run in batch.runs() {
            for index in batch.items_of(run) {
                if let Taken::Message { payload, .. } = batch.item(index) {
                    post.reply(run.conn, 1, |out| put_frame(out, OpCode::Binary, payload));
                    post.settle(run.conn, 1);
                }
            }
        }
        batch.reset(KEEP_BYTES);
        let _ = self.spare_batches.try_send(batch);
        assert!(self.posts.offer(post, &self.alarm).is_ok(), "there is room");
    }
}

fn hop(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch hop");
    let mut event_loop = Loop::start();
    for in_flight in [1, 8] {
        for messages in [1, 8, 64] {
            group.throughput(Throughput::Elements(messages as u64 * in_flight));
            let name = format!("{in_flight} in flight, messages of a batch");
            group.bench_function(BenchmarkId::new(name, messages), |b| {
                b.iter(|| {
                    for _ in 0..in_flight {
                        event_loop.send(messages);
                    }
                    for _ in 0..in_flight {
                        assert_eq!(event_loop.receive(), messages * 22);
                    }
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, hop);
criterion_main!(benches);
