//! Opens connections, has them upgraded and resets them, and measures what that costs the server.
//!
//! One thread. So many requests are under way at once; whenever one is answered, the next connection
//! is opened. Upgraded connections stay open until there are more than `--alive` of them, then the
//! oldest is reset, so the server's cost of ending connections is in the figure.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use clap::Parser;
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use peers::{
    Fatal,
    dial::ask,
    fdtable,
    meter::Process,
    server::{Brought, read},
    wire::{is_accepted, is_whole_head, request},
};
use serde_json::json;
use slab::Slab;

/// Connections that sources are spread over before they are used again.
const SPREAD: usize = 56_000;

/// Asks for upgrades and counts them.
#[derive(Debug, Parser)]
struct Args {
    /// The server.
    #[arg(long)]
    target: SocketAddr,

    /// The path that is asked for.
    #[arg(long, default_value = "/echo")]
    path: String,

    /// Requests under way at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1000))]
    in_flight: u16,

    /// Upgraded connections that stay open.
    #[arg(long, default_value_t = 1000)]
    alive: usize,

    /// Seconds before the measured ones.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,

    /// Measured seconds.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,

    /// The server's process, whose CPU is read.
    #[arg(long)]
    server_pid: Option<u32>,
}

fn main() -> Result<(), Fatal> {
    let args = Args::parse();
    fdtable::raise_limit()?;
    let server = args.server_pid.map(Process::new);
    let mut generator = Generator::new(&args)?;
    generator.run_for(args.warmup)?;
    let (upgraded, cpu_before) = (generator.upgraded, server.map(Process::cpu).transpose()?);
    let began = Instant::now();
    generator.run_for(args.seconds)?;
    let seconds = began.elapsed().as_secs_f64();
    let cpu_after = server.map(Process::cpu).transpose()?;
    let cpu = cpu_after.zip(cpu_before).map(|(after, before)| (after - before).as_secs_f64());
    let line = json!({
        "upgrades": generator.upgraded - upgraded, "seconds": seconds, "server_cpu_seconds": cpu,
        "alive": generator.alive.len(),
    });
    peers::print_line(&line)?;
    Ok(())
}

struct Generator {
    poll: Poll,
    events: Events,
    target: SocketAddr,
    request: Vec<u8>,
    in_flight: usize,
    alive_max: usize,
    asking: Slab<TcpStream>,
    alive: VecDeque<TcpStream>,
    begun: usize,
    upgraded: u64,
    buffer: Vec<u8>,
}

impl Generator {
    fn new(args: &Args) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            target: args.target,
            request: request(&args.target.to_string(), &args.path),
            in_flight: usize::from(args.in_flight),
            alive_max: args.alive,
            asking: Slab::new(),
            alive: VecDeque::new(),
            begun: 0,
            upgraded: 0,
            buffer: vec![0; 16 * 1024],
        })
    }

    fn run_for(&mut self, seconds: f64) -> Result<(), Fatal> {
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        let mut last = (self.upgraded, Instant::now());
        while Instant::now() < until {
            while self.asking.len() < self.in_flight {
                self.begin()?;
            }
            self.turn()?;
            if self.upgraded != last.0 {
                last = (self.upgraded, Instant::now());
            } else if last.1.elapsed() > Duration::from_secs(20) {
                return Err("the server does not answer".into());
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> io::Result<()> {
        let mut socket = ask(self.target, self.begun % SPREAD, &self.request)?;
        self.begun += 1;
        let entry = self.asking.vacant_entry();
        self.poll.registry().register(&mut socket, Token(entry.key()), Interest::READABLE)?;
        entry.insert(socket);
        Ok(())
    }

    fn turn(&mut self) -> Result<(), Fatal> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(Duration::from_millis(100))) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => result?,
        }
        for event in &events {
            self.answered(event.token().0)?;
        }
        self.events = events;
        Ok(())
    }

    /// The answer comes in one piece, or the run fails: no server here writes it in two.
    fn answered(&mut self, key: usize) -> Result<(), Fatal> {
        let Some(socket) = self.asking.get_mut(key) else { return Ok(()) };
        let count = match read(socket, &mut self.buffer) {
            Brought::Bytes(count) => count,
            Brought::Nothing => return Ok(()),
            Brought::End => return Err("the server ended a connection".into()),
        };
        let head = &self.buffer[..count];
        if !is_whole_head(head) || !is_accepted(head) {
            return Err(format!("no upgrade: {}", String::from_utf8_lossy(head)).into());
        }
        self.upgraded += 1;
        let mut socket = self.asking.remove(key);
        // Unwatched, as its key is taken again while it lives on.
        self.poll.registry().deregister(&mut socket)?;
        self.alive.push_back(socket);
        if self.alive.len() > self.alive_max {
            self.alive.pop_front();
        }
        Ok(())
    }
}
