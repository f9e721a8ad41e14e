//! The floor of an echo: raw TCP on mio. Whatever comes goes back, with no protocol at all.
//!
//! Edge-triggered; one read and one write for each event, as a short read has drained the socket;
//! one `epoll_wait` for all that is ready. With several loops each has a listener of its own
//! (`SO_REUSEPORT`), and nothing is shared.

use std::{io, net::SocketAddr, thread};

use clap::Parser;
use mio::{
    Events, Interest, Poll, Token,
    event::Event,
    net::{TcpListener, TcpStream},
};
use peers::{
    Fatal, fdtable,
    server::{Brought, READ_BUFFER, accept_all, announce, listen_each, read, write},
};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);

/// Echoes bytes over TCP.
#[derive(Debug, Parser)]
struct Args {
    /// Where to listen; port 0 lets the kernel choose.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// Threads, each with its own listener.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    loops: u16,
}

fn main() -> Result<(), Fatal> {
    let args = Args::parse();
    fdtable::raise_limit()?;
    let mut listeners = listen_each(args.listen, usize::from(args.loops))?;
    let address = listeners[0].local_addr()?;
    // The first loop is the main thread's, so that one loop is one thread in all.
    let first = EchoLoop::new(listeners.remove(0))?;
    for listener in listeners {
        let other = EchoLoop::new(listener)?;
        thread::spawn(move || other.run());
    }
    announce(address)?;
    Ok(first.run()?)
}

struct Conn {
    socket: TcpStream,
    /// What the peer has not taken yet; while there is any, nothing is read.
    pending: Vec<u8>,
}

struct EchoLoop {
    poll: Poll,
    listener: TcpListener,
    conns: Slab<Conn>,
    buffer: Vec<u8>,
}

impl EchoLoop {
    fn new(mut listener: TcpListener) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self { poll, listener, conns: Slab::new(), buffer: vec![0; READ_BUFFER] })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(key) => self.serve(key, event),
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let (registry, conns) = (self.poll.registry(), &mut self.conns);
        accept_all(&self.listener, |mut socket| {
            let entry = conns.vacant_entry();
            let both = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut socket, Token(entry.key()), both)?;
            entry.insert(Conn { socket, pending: Vec::new() });
            Ok(())
        })
    }

    fn serve(&mut self, key: usize, event: &Event) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let to_end = event.is_read_closed() || event.is_write_closed() || event.is_error();
        if !conn.echo(&mut self.buffer, to_end) {
            self.conns.remove(key);
        }
    }
}

impl Conn {
    /// Echoes all there is, as far as the peer takes it; false at the end of the connection.
    fn echo(&mut self, buffer: &mut [u8], to_end: bool) -> bool {
        if !self.flush() {
            return false;
        }
        while self.pending.is_empty() {
            let count = match read(&mut self.socket, buffer) {
                Brought::Bytes(count) => count,
                Brought::Nothing => return true,
                Brought::End => return false,
            };
            let Some(taken) = write(&mut self.socket, &buffer[..count]) else { return false };
            self.pending.extend_from_slice(&buffer[taken..count]);
            if !self.flush() {
                return false;
            }
            if count < buffer.len() && !to_end {
                return true;
            }
        }
        true
    }

    /// Writes what is pending until all is taken or the socket is full; false for an error.
    fn flush(&mut self) -> bool {
        while !self.pending.is_empty() {
            match write(&mut self.socket, &self.pending) {
                Some(0) => break,
                Some(taken) => drop(self.pending.drain(..taken)),
                None => return false,
            }
        }
        true
    }
}
