//! The floor of a fan-out: one frame, written to each member of each loop.
//!
//! A connection that says `M` is a member, and is answered `M`. Every `P` on any connection is a
//! publish: it is posted to every loop (a number goes up, and the loop is woken), and each loop writes
//! one shared frame to each of its members, by one write each. Publishes that reach a loop in one turn
//! leave in one write. What a member's socket does not take is an error here and ends the member:
//! generators read, and have only few frames in flight.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
};

use clap::Parser;
use mio::{
    Events, Interest, Poll, Token, Waker,
    net::{TcpListener, TcpStream},
};
use peers::{
    Fatal, fdtable,
    server::{Brought, READ_BUFFER, accept_all, announce, listen_each, read, write},
    wire::server_frame_of_length,
};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// Writes one frame to every member for each publish.
#[derive(Debug, Parser)]
struct Args {
    /// Where to listen; port 0 lets the kernel choose.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// Threads, each with its own listener and members.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    loops: u16,

    /// Bytes of a frame with its header.
    #[arg(long, default_value_t = 134)]
    frame_bytes: usize,

    /// Give each loop a descriptor table of its own.
    #[arg(long)]
    private_tables: bool,
}

/// What loops share.
struct Shared {
    published: AtomicU64,
    wakers: Vec<Waker>,
    frame: Vec<u8>,
}

fn main() -> Result<(), Fatal> {
    let args = Args::parse();
    fdtable::raise_limit()?;
    let loops = usize::from(args.loops);
    let polls = (0..loops).map(|_| Poll::new()).collect::<io::Result<Vec<_>>>()?;
    let wakers =
        polls.iter().map(|poll| Waker::new(poll.registry(), WAKER)).collect::<Result<_, _>>()?;
    let frame = server_frame_of_length(args.frame_bytes);
    let shared = Arc::new(Shared { published: AtomicU64::new(0), wakers, frame });
    let listeners = listen_each(args.listen, loops)?;
    let address = listeners[0].local_addr()?;
    // All that is shared is open now; a loop's own come above.
    let first_own = fdtable::first_free()?;
    let mut threads = Vec::new();
    for (index, (poll, listener)) in polls.into_iter().zip(listeners).enumerate() {
        let shared = Arc::clone(&shared);
        threads.push(thread::spawn(move || -> io::Result<()> {
            if args.private_tables {
                fdtable::unshare_above(first_own)?;
            }
            FanoutLoop::new(index, poll, listener, shared)?.run()
        }));
    }
    announce(address)?;
    for thread in threads {
        thread.join().map_err(|_| "a loop panicked")??;
    }
    Ok(())
}

struct Conn {
    socket: TcpStream,
    member: bool,
}

struct FanoutLoop {
    index: usize,
    poll: Poll,
    listener: TcpListener,
    shared: Arc<Shared>,
    conns: Slab<Conn>,
    buffer: Vec<u8>,
    /// Publishes that were written to this loop's members.
    written: u64,
    /// The frame, as often as a turn has had to write it so far.
    frames: Vec<u8>,
}

impl FanoutLoop {
    fn new(
        index: usize,
        poll: Poll,
        mut listener: TcpListener,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let (conns, buffer) = (Slab::new(), vec![0; READ_BUFFER]);
        let frames = shared.frame.clone();
        Ok(Self { index, poll, listener, shared, conns, buffer, written: 0, frames })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            let mut published = 0;
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    WAKER => {}
                    Token(key) => published += self.hear(key),
                }
            }
            if published > 0 {
                self.post(published)?;
            }
            self.fan_out();
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let (registry, conns) = (self.poll.registry(), &mut self.conns);
        accept_all(&self.listener, |mut socket| {
            let entry = conns.vacant_entry();
            registry.register(&mut socket, Token(entry.key()), Interest::READABLE)?;
            entry.insert(Conn { socket, member: false });
            Ok(())
        })
    }

    /// Reads once; how many publishes were asked for.
    fn hear(&mut self, key: usize) -> u64 {
        let Some(conn) = self.conns.get_mut(key) else { return 0 };
        let count = match read(&mut conn.socket, &mut self.buffer) {
            Brought::Bytes(count) => count,
            Brought::Nothing => return 0,
            Brought::End => {
                self.conns.remove(key);
                return 0;
            }
        };
        if self.buffer[0] == b'M' {
            conn.member = true;
            write(&mut conn.socket, b"M");
            return 0;
        }
        self.buffer[..count].iter().filter(|byte| **byte == b'P').count() as u64
    }

    fn post(&self, published: u64) -> io::Result<()> {
        self.shared.published.fetch_add(published, SeqCst);
        let others =
            self.shared.wakers.iter().enumerate().filter(|(index, _)| *index != self.index);
        others.map(|(_, waker)| waker).try_for_each(Waker::wake)
    }

    /// Writes what was published since to every member.
    fn fan_out(&mut self) {
        let published = self.shared.published.load(SeqCst);
        let due = (published - self.written) as usize;
        if due == 0 {
            return;
        }
        self.written = published;
        let length = due * self.shared.frame.len();
        while self.frames.len() < length {
            self.frames.extend_from_slice(&self.shared.frame);
        }
        let frames = &self.frames[..length];
        self.conns
            .retain(|_, conn| !conn.member || write(&mut conn.socket, frames) == Some(length));
    }
}
