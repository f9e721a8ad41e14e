//! Drives any echo, in a closed loop or at a low fixed rate, and measures what it costs the server.
//!
//! One thread. Each connection has one write of `--pipeline` frames in flight; when the answers to all
//! are there, the next write goes out. Nothing is parsed: answers are counted by length, and
//! compared as `peers` says.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use peers::{
    Fatal,
    dial::open_all,
    fdtable,
    meter::Process,
    server::{Brought, read, write},
    wire::{BINARY, SAMPLE, client_frame, payload, request, server_frame},
};
use serde_json::json;

/// Sends messages to an echo and counts what comes back.
#[derive(Debug, Parser)]
struct Args {
    /// The server.
    #[arg(long)]
    target: SocketAddr,

    /// What it speaks.
    #[arg(long, value_enum, default_value = "websocket")]
    protocol: Protocol,

    /// The path that is asked for.
    #[arg(long, default_value = "/echo")]
    path: String,

    /// Connections.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// Payload bytes of a message.
    #[arg(long, default_value_t = 20)]
    size: usize,

    /// Messages in one write, all answered before the next.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pipeline: u32,

    /// Writes per second over all connections, at most 1000 [default: a closed loop].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: Option<u32>,

    /// Seconds before the measured ones.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,

    /// Measured seconds; 0: every connection echoes once, and then all are idle.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,

    /// Seconds to lie idle before the memory of idle connections is read.
    #[arg(long, default_value_t = 0.3)]
    settle: f64,

    /// The server's process, whose CPU and memory are read.
    #[arg(long)]
    server_pid: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocol {
    /// No handshake; the very same bytes come back.
    Raw,
    /// An opening handshake; answers are unmasked frames.
    Websocket,
}

fn main() -> Result<(), Fatal> {
    let args = Args::parse();
    fdtable::raise_limit()?;
    let server = args.server_pid.map(Process::new);
    let resident = || server.map(Process::resident_kib).transpose();
    let empty_kib = resident()?;
    let mut generator = Generator::connect(&args)?;
    generator.once_each()?;
    std::thread::sleep(Duration::from_secs_f64(args.settle));
    let idle_kib = resident()?;
    let (mut messages, mut seconds, mut cpu) = (0, 0.0, None);
    if args.seconds > 0.0 {
        generator.begin()?;
        generator.run_for(args.warmup)?;
        generator.round_trips_us.clear();
        let (answered, cpu_before) = (generator.answered, server.map(Process::cpu).transpose()?);
        let began = Instant::now();
        generator.run_for(args.seconds)?;
        seconds = began.elapsed().as_secs_f64();
        let cpu_after = server.map(Process::cpu).transpose()?;
        messages = generator.answered - answered;
        cpu = cpu_after.zip(cpu_before).map(|(after, before)| (after - before).as_secs_f64());
    }
    let (p50, p99) = generator.percentiles();
    let line = json!({
        "connections": args.connections, "size": args.size, "pipeline": args.pipeline,
        "messages": messages, "seconds": seconds, "server_cpu_seconds": cpu,
        "compared": generator.compared, "round_trip_p50_us": p50, "round_trip_p99_us": p99,
        "resident_empty_kib": empty_kib, "resident_idle_kib": idle_kib,
        "resident_end_kib": resident()?,
    });
    peers::print_line(&line)?;
    Ok(())
}

struct Conn {
    socket: TcpStream,
    /// Bytes of the batch in flight that were written.
    written: usize,
    /// Bytes of its answers that are still to come; 0 while nothing is in flight.
    missing: usize,
    /// The answers so far, while they are to be compared in full.
    kept: Option<Vec<u8>>,
    sent: Instant,
}

struct Generator {
    poll: Poll,
    events: Events,
    conns: Vec<Conn>,
    batch: Vec<u8>,
    answers: Vec<u8>,
    buffer: Vec<u8>,
    pipeline: u64,
    /// Messages answered in full.
    answered: u64,
    /// Batches sent.
    batches: u64,
    /// Batches whose answers were compared in full.
    compared: u64,
    pace: Option<Pace>,
    /// At a rate only.
    round_trips_us: Vec<u64>,
    /// Whether an answered batch is followed by the next, at once or at its beat.
    going_on: bool,
}

/// A write every so often, each on the next connection.
struct Pace {
    interval: Duration,
    due: Instant,
    next: usize,
}

impl Generator {
    fn connect(args: &Args) -> Result<Self, Fatal> {
        let asked = request(&args.target.to_string(), &args.path);
        let handshake = (args.protocol == Protocol::Websocket).then_some(&asked[..]);
        let sockets = open_all(args.target, handshake, 0..args.connections as usize)?;
        let poll = Poll::new()?;
        let now = Instant::now();
        let mut conns = Vec::with_capacity(sockets.len());
        for (key, mut socket) in sockets.into_iter().enumerate() {
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut socket, Token(key), both)?;
            conns.push(Conn { socket, written: 0, missing: 0, kept: None, sent: now });
        }
        let (mut batch, mut answers) = (Vec::new(), Vec::new());
        for seed in 0..args.pipeline as usize {
            let frame = client_frame(BINARY, &payload(args.size, seed));
            match args.protocol {
                Protocol::Raw => answers.extend_from_slice(&frame),
                Protocol::Websocket => {
                    answers.extend_from_slice(&server_frame(BINARY, &payload(args.size, seed)));
                }
            }
            batch.extend_from_slice(&frame);
        }
        let pace = args.rate.map(|rate| Pace {
            interval: Duration::from_secs(1) / rate,
            due: now,
            next: 0,
        });
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            conns,
            batch,
            answers,
            buffer: vec![0; 256 * 1024],
            pipeline: u64::from(args.pipeline),
            answered: 0,
            batches: 0,
            compared: 0,
            pace,
            round_trips_us: Vec::new(),
            going_on: false,
        })
    }

    /// One batch on every connection, all compared.
    fn once_each(&mut self) -> Result<(), Fatal> {
        for key in 0..self.conns.len() {
            self.send(key, true)?;
        }
        let patience = Instant::now() + Duration::from_secs(30);
        while self.answered < self.conns.len() as u64 * self.pipeline {
            if Instant::now() > patience {
                return Err("the server does not answer".into());
            }
            self.turn(patience)?;
        }
        Ok(())
    }

    /// Fills the closed loop, or sets the first beat.
    fn begin(&mut self) -> Result<(), Fatal> {
        self.going_on = true;
        if let Some(pace) = &mut self.pace {
            pace.due = Instant::now();
            return Ok(());
        }
        for key in 0..self.conns.len() {
            self.send_next(key)?;
        }
        Ok(())
    }

    fn run_for(&mut self, seconds: f64) -> Result<(), Fatal> {
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        while Instant::now() < until {
            self.turn(until)?;
        }
        Ok(())
    }

    fn turn(&mut self, until: Instant) -> Result<(), Fatal> {
        let wake = self.beat()?.map_or(until, |due| due.min(until));
        let wait = wake.saturating_duration_since(Instant::now());
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(wait)) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => result?,
        }
        for event in &events {
            self.receive(event.token().0)?;
        }
        self.events = events;
        Ok(())
    }

    /// Sends what is due at a rate; returns when the next is.
    fn beat(&mut self) -> Result<Option<Instant>, Fatal> {
        while let Some(pace) = &mut self.pace
            && self.going_on
        {
            if Instant::now() < pace.due {
                return Ok(Some(pace.due));
            }
            let key = pace.next;
            pace.next = (key + 1) % self.conns.len();
            pace.due += pace.interval;
            if self.conns[key].missing == 0 {
                self.send_next(key)?;
            }
        }
        Ok(None)
    }

    fn send_next(&mut self, key: usize) -> Result<(), Fatal> {
        self.send(key, self.batches.is_multiple_of(SAMPLE))
    }

    fn send(&mut self, key: usize, compare: bool) -> Result<(), Fatal> {
        let conn = &mut self.conns[key];
        if self.pace.is_some() {
            conn.sent = Instant::now();
        }
        conn.written = 0;
        conn.missing = self.answers.len();
        conn.kept = compare.then(|| Vec::with_capacity(self.answers.len()));
        self.batches += 1;
        conn.write_on(&self.batch)
    }

    /// Reads once, or to the end of what there is where that fills the buffer.
    fn receive(&mut self, key: usize) -> Result<(), Fatal> {
        loop {
            let conn = &mut self.conns[key];
            if conn.missing > 0 && conn.written < self.batch.len() {
                conn.write_on(&self.batch)?;
            }
            let count = match read(&mut conn.socket, &mut self.buffer) {
                Brought::Bytes(count) => count,
                Brought::Nothing => return Ok(()),
                Brought::End => return Err("the server ended a connection".into()),
            };
            if count > conn.missing {
                return Err("the server sent more than it was sent".into());
            }
            conn.missing -= count;
            if let Some(kept) = &mut conn.kept {
                kept.extend_from_slice(&self.buffer[..count]);
            }
            if conn.missing == 0 {
                self.settle(key)?;
            }
            if count < self.buffer.len() {
                return Ok(());
            }
        }
    }

    /// All answers to a batch are there.
    fn settle(&mut self, key: usize) -> Result<(), Fatal> {
        self.answered += self.pipeline;
        let conn = &mut self.conns[key];
        if let Some(kept) = conn.kept.take() {
            if kept != self.answers {
                return Err("an answer is not what was sent".into());
            }
            self.compared += 1;
        }
        if self.pace.is_some() {
            self.round_trips_us.push(conn.sent.elapsed().as_micros() as u64);
        }
        if self.going_on && self.pace.is_none() { self.send_next(key) } else { Ok(()) }
    }

    fn percentiles(&mut self) -> (Option<u64>, Option<u64>) {
        self.round_trips_us.sort_unstable();
        let count = self.round_trips_us.len();
        let at = |share: usize| self.round_trips_us.get(count * share / 100).copied();
        (at(50), at(99))
    }
}

impl Conn {
    /// Writes what the socket takes of the rest of its batch; a writable event asks for more.
    fn write_on(&mut self, batch: &[u8]) -> Result<(), Fatal> {
        while self.written < batch.len() {
            match write(&mut self.socket, &batch[self.written..]) {
                Some(0) => break,
                Some(taken) => self.written += taken,
                None => return Err("the server ended a connection".into()),
            }
        }
        Ok(())
    }
}
