//! The floor of an upgrade: accept, register, read, write.
//!
//! For each connection: `accept4`, a registration for reading (edge-triggered, as any server needs),
//! one read when it is ready, and one write of a canned 101 once the bytes end with a blank line.
//! Nothing is parsed or hashed: all requests of the generators have one key, and the canned answer is
//! right for it. The socket stays in a slab until its peer ends it.

use std::{io, net::SocketAddr};

use clap::Parser;
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use peers::{
    Fatal, fdtable,
    server::{Brought, READ_BUFFER, accept_all, announce, listen, read, write},
    wire::{is_whole_head, response},
};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);

/// Answers every request by the same upgrade.
#[derive(Debug, Parser)]
struct Args {
    /// Where to listen; port 0 lets the kernel choose.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

fn main() -> Result<(), Fatal> {
    let args = Args::parse();
    fdtable::raise_limit()?;
    let mut listener = listen(args.listen)?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    announce(listener.local_addr()?)?;
    let mut conns = Slab::new();
    let mut buffer = vec![0; READ_BUFFER];
    let answer = response();
    let mut events = Events::with_capacity(1024);
    loop {
        match poll.poll(&mut events, None) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            match event.token() {
                LISTENER => accept(&poll, &listener, &mut conns)?,
                Token(key) => serve(&mut conns, key, &mut buffer, &answer),
            }
        }
    }
}

fn accept(poll: &Poll, listener: &TcpListener, conns: &mut Slab<TcpStream>) -> io::Result<()> {
    accept_all(listener, |mut socket| {
        let entry = conns.vacant_entry();
        poll.registry().register(&mut socket, Token(entry.key()), Interest::READABLE)?;
        entry.insert(socket);
        Ok(())
    })
}

fn serve(conns: &mut Slab<TcpStream>, key: usize, buffer: &mut [u8], answer: &[u8]) {
    let Some(socket) = conns.get_mut(key) else { return };
    let stays = match read(socket, buffer) {
        Brought::Bytes(count) if is_whole_head(&buffer[..count]) => {
            write(socket, answer) == Some(answer.len())
        }
        // A part of a request: the generators send it in one piece.
        Brought::Bytes(_) | Brought::End => false,
        Brought::Nothing => true,
    };
    if !stays {
        conns.remove(key);
    }
}
