//! Where connections come from: the loop's own listeners, and other loops that have too many.

use std::io;
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::Socket;

use super::event_loop::{EventLoop, HAND_OVER, LISTENERS, SLOTS};
use super::fd_table::HandOver;
use super::listener::{Listener, peer_of};
use super::table::{Marks, Slot};
use crate::app::Shared;
use crate::config::{Config, FdTable};
use crate::connection::{Connection, Tick};
use crate::limits::TICK_MS;
use crate::peer::Peer;
use crate::quota::{Limit, Over};
use crate::routing::{Door, EndpointId};
use crate::telemetry::counters::{CloseCause, RefusalCause};
use crate::transport::proxy::ProxyProtocol;
use crate::worker::{Post, PostItem};

/// Connections over the maximum that are told so (503) at a time; more wait in the backlog.
const SURPLUS_MAX: usize = 8;
/// How long accepting rests after the kernel had no descriptor or memory, in ticks.
const REST_TICKS: Tick = (200 / TICK_MS) as Tick;
/// A loop passes connections on when it has more than this beyond 1.02 × the mean.
const SLACK: usize = 8;

/// A connection that was accepted and is no loop's yet.
#[derive(Debug)]
struct Accepted {
    socket: Socket,
    peer: Peer,
    door: Door,
}

/// The loop's sources of connections, and how many it may take.
#[derive(Debug)]
pub struct Acceptor {
    listeners: Vec<Listener>,
    hand_over: Vec<Arc<HandOver>>,
    hand_over_ready: bool,
    index: usize,
    fd_table: FdTable,
    per_loop: usize,
    max_connections: usize,
    nodelay: bool,
    surplus: usize,
    /// Accepting rests until then; 0 is "it does not".
    rests_until: Tick,
    /// As many connections are being told that there is no room as may be.
    full: bool,
    /// Accepted for another loop, whose way is full; accepting rests until it is placed.
    held: Option<Accepted>,
    /// The listener that is asked first at the next turn: a busy one must not starve the others.
    first: usize,
}

impl Acceptor {
    /// An acceptor of loop `index`, which may hold `per_loop` connections.
    #[must_use]
    pub fn new(
        index: usize,
        config: &Config,
        per_loop: usize,
        listeners: Vec<Listener>,
        hand_over: Vec<Arc<HandOver>>,
    ) -> Self {
        Self {
            listeners,
            hand_over,
            hand_over_ready: true,
            index,
            fd_table: config.fd_table,
            per_loop,
            max_connections: config.max_connections,
            nodelay: config.tcp_nodelay,
            surplus: 0,
            rests_until: 0,
            full: false,
            held: None,
            first: 0,
        }
    }

    /// Slots that the loop's table reserves address space for.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.per_loop + SURPLUS_MAX
    }

    /// Has the sockets polled.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn register(&mut self, registry: &Registry) -> io::Result<()> {
        for (at, listener) in self.listeners.iter().enumerate() {
            listener.register(registry, Token(LISTENERS + at))?;
        }
        if let Some(way) = self.hand_over.get(self.index) {
            let mut source = SourceFd(&way.receiving_fd());
            registry.register(&mut source, HAND_OVER, Interest::READABLE)?;
        }
        Ok(())
    }

    pub(super) fn note_ready(&mut self, listener: usize) {
        // None is left where the turn that saw the event is the one that stopped accepting.
        if let Some(listener) = self.listeners.get_mut(listener) {
            listener.ready = true;
        }
    }

    pub(super) fn note_hand_over(&mut self) {
        self.hand_over_ready = true;
    }

    /// Whether there is something to accept right now.
    pub(super) fn is_eager(&self) -> bool {
        self.rests_until == 0
            && (self.hand_over_ready
                || !self.full && self.listeners.iter().any(|listener| listener.ready))
    }

    /// When accepting is to be tried again without an event.
    pub(super) fn retry_at(&self) -> Tick {
        if self.rests_until == 0 { Tick::MAX } else { self.rests_until }
    }

    /// Stops accepting for good.
    pub(super) fn close(&mut self) {
        self.held = None;
        self.listeners.clear();
    }

    /// A connection has ended.
    pub(super) fn released(&mut self, shared: &Shared, index: usize, surplus: bool) {
        if surplus {
            self.surplus -= 1;
            // Hysteresis: half of the surplus has to go before more are told that it is full.
            if self.surplus * 2 <= SURPLUS_MAX {
                self.full = false;
            }
            return;
        }
        shared.loads[index].release();
        shared.total.release();
        self.full = false;
    }
}

/// Where a new connection goes.
enum Place {
    /// Here.
    Here,
    /// To a loop that has fewer.
    There(usize),
    /// Nowhere: all are full.
    Nowhere,
}

impl EventLoop {
    /// Accepts what waits, up to the turn's budget.
    pub(super) fn accept(&mut self) {
        if self.acceptor.rests_until <= self.kit.tick {
            self.acceptor.rests_until = 0;
        }
        self.take_passed();
        if let Some(accepted) = self.acceptor.held.take() {
            self.place(accepted);
        }
        let mut budget = self.kit.snapshot.config.tuning.accepts_per_turn;
        let listeners = self.acceptor.listeners.len();
        self.acceptor.first = (self.acceptor.first + 1) % listeners.max(1);
        let first = self.acceptor.first;
        for at in (0..listeners).map(|at| (at + first) % listeners) {
            while budget > 0 && self.acceptor.rests_until == 0 && !self.acceptor.full {
                let listener = &mut self.acceptor.listeners[at];
                if !listener.ready {
                    break;
                }
                budget -= 1;
                match listener.accept() {
                    Ok((socket, peer)) => {
                        self.counters.accepted.add(1);
                        let door = listener.door;
                        self.place(Accepted { socket, peer, door });
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => listener.ready = false,
                    Err(e) => self.accept_failed(&e),
                }
            }
        }
    }

    /// The kernel has no descriptor or memory for a connection: they wait in the backlog. Other
    /// errors are one connection's own.
    fn accept_failed(&mut self, error: &io::Error) {
        let short = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
        if !error.raw_os_error().is_some_and(|code| short.contains(&code)) {
            return;
        }
        log::warn!("loop {}: accepting rests: {error}", self.index);
        self.rest();
    }

    fn place(&mut self, accepted: Accepted) {
        match self.choose() {
            Place::Here => self.adopt(accepted, Marks::default()),
            Place::There(other) => self.pass(accepted, other),
            Place::Nowhere => self.turn_away(accepted),
        }
    }

    /// Takes a place for one connection on this loop or on the emptiest.
    fn choose(&mut self) -> Place {
        let (shared, per_loop) = (&self.shared, self.acceptor.per_loop);
        if !shared.total.reserve(self.acceptor.max_connections) {
            return Place::Nowhere;
        }
        let mine = shared.loads[self.index].get();
        let total: usize = shared.total.get();
        let mean = total / shared.loads.len();
        let fair = mean + mean / 50 + SLACK;
        let mut other = None;
        if shared.loads.len() > 1 && (mine >= fair || mine >= per_loop) {
            other = (0..shared.loads.len())
                .min_by_key(|index| shared.loads[*index].get())
                .filter(|index| *index != self.index && shared.loads[*index].get() < mine);
        }
        if let Some(index) = other
            && shared.loads[index].reserve(per_loop)
        {
            return Place::There(index);
        }
        if shared.loads[self.index].reserve(per_loop) {
            return Place::Here;
        }
        // Full, and the emptiest was taken meanwhile: any that has room will do.
        match (0..shared.loads.len()).find(|index| shared.loads[*index].reserve(per_loop)) {
            Some(index) if index == self.index => Place::Here,
            Some(index) => Place::There(index),
            None => {
                shared.total.release();
                Place::Nowhere
            }
        }
    }

    /// Passes a socket to a loop on which it has a place.
    fn pass(&mut self, accepted: Accepted, other: usize) {
        let Accepted { socket, peer, door } = accepted;
        let back = match self.acceptor.fd_table {
            FdTable::Private => {
                let word = door.word();
                self.acceptor.hand_over[other].send(socket, word).err().map(|(socket, _)| socket)
            }
            FdTable::Shared => self.pass_by_mailbox(socket, door, other),
        };
        let Some(socket) = back else {
            self.counters.handed_over.add(1);
            return;
        };
        // The way is full. Keep it if there is a place here; its place there is given back.
        self.shared.loads[other].release();
        let accepted = Accepted { socket, peer, door };
        if self.shared.loads[self.index].reserve(self.acceptor.per_loop) {
            self.adopt(accepted, Marks::default());
        } else {
            self.shared.total.release();
            self.acceptor.held = Some(accepted);
            self.acceptor.rests_until = self.kit.tick + 1;
        }
    }

    fn pass_by_mailbox(&mut self, socket: Socket, door: Door, other: usize) -> Option<Socket> {
        use crate::worker::Refused;
        let post = Post::of(PostItem::Socket { socket, door });
        match self.shared.lanes().mailboxes[other].offer(post, &self.alarm) {
            Ok(()) => None,
            Err(Refused::Full(mut post) | Refused::Gone(mut post)) => {
                let (mut items, _) = post.parts();
                match items.next() {
                    Some(PostItem::Socket { socket, .. }) => Some(socket),
                    _ => None,
                }
            }
        }
    }

    /// Takes the sockets that other loops have passed here.
    pub(super) fn take_passed(&mut self) {
        if !self.acceptor.hand_over_ready || self.acceptor.rests_until != 0 {
            return;
        }
        for _ in 0..self.kit.snapshot.config.tuning.accepts_per_turn {
            let received = match self.acceptor.hand_over.get(self.index) {
                Some(way) => way.receive(),
                None => Err(io::ErrorKind::WouldBlock.into()),
            };
            match received {
                Ok((socket, word)) => {
                    self.adopt_passed(socket, Door::of_word(word));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.acceptor.hand_over_ready = false;
                    return;
                }
                Err(e) if e.kind() == io::ErrorKind::OutOfMemory => {
                    log::warn!("loop {}: a passed socket was lost: {e}", self.index);
                    self.counters.refusals.at(RefusalCause::Full as usize).add(1);
                    self.acceptor.released(&self.shared, self.index, false);
                    return self.rest();
                }
                Err(e) => {
                    log::error!("loop {}: cannot take passed sockets: {e}", self.index);
                    return self.rest();
                }
            }
        }
    }

    /// Takes in nothing for a while. What waits stays known as waiting: it makes no second event.
    fn rest(&mut self) {
        self.counters.accept_pauses.add(1);
        self.acceptor.rests_until = self.kit.tick + REST_TICKS;
    }

    /// Takes in a socket that another loop accepted and counted here.
    pub(super) fn adopt_passed(&mut self, socket: Socket, door: Door) {
        match socket.peer_addr().map(|addr| peer_of(&addr)) {
            Ok(peer) => self.adopt(Accepted { socket, peer, door }, Marks::default()),
            // Reset on the way.
            Err(_) => {
                self.counters.refusals.at(RefusalCause::PeerGone as usize).add(1);
                self.acceptor.released(&self.shared, self.index, false);
            }
        }
    }

    /// Tells a connection that there is no room, if that many are not being told already.
    fn turn_away(&mut self, accepted: Accepted) {
        self.acceptor.surplus += 1;
        if self.acceptor.surplus >= SURPLUS_MAX {
            self.acceptor.full = true;
            self.counters.accept_pauses.add(1);
        }
        self.adopt(accepted, Marks::SURPLUS);
    }

    /// Makes a socket one of this loop's connections.
    fn adopt(&mut self, accepted: Accepted, marks: Marks) {
        let Accepted { socket, peer, door } = accepted;
        if self.acceptor.nodelay {
            // Inherited from the listener, but not by sockets of every origin.
            debug_assert!(socket.tcp_nodelay().unwrap_or(true));
        }
        let slot = Slot {
            socket: Some(socket),
            conn: match door {
                Door { tcp: Some(_), tls: false, proxy: ProxyProtocol::Off } => {
                    Connection::new_open(self.kit.tick)
                }
                _ => Connection::new(self.kit.tick),
            },
            peer,
            accepted_us: self.micros(),
            endpoint: door.tcp.unwrap_or(EndpointId(0)),
            marks,
            deflate: None,
        };
        let index = self.table.insert(slot);
        if self.register_slot(index).is_err() {
            // Out of kernel memory or of epoll watches.
            return self.give_up(index, RefusalCause::Full);
        }
        let refusal = match (self.shared.is_draining(), marks.has(Marks::SURPLUS)) {
            (true, _) => Some(RefusalCause::Shutdown),
            (false, true) => Some(RefusalCause::Full),
            (false, false) => None,
        };
        if let Some(cause) = refusal {
            if cause == RefusalCause::Full {
                self.count_hit(Limit::Connections, Over::Reject);
            }
            return match door {
                // Not worth a handshake to be told in.
                Door { tls: true, .. } => self.give_up(index, cause),
                Door { tcp: Some(_), .. } => {
                    self.open_without_request(index);
                    self.refuse_by_close(index, cause);
                }
                Door { tcp: None, .. } => self.refuse(index, cause),
            };
        }
        self.enter(index, door);
        self.after_change(index);
    }

    /// Begins what a connection comes in over, behind a PROXY header if it has one.
    pub(super) fn enter_behind_header(&mut self, index: usize, door: Door) {
        match door {
            Door { tls: true, .. } if !self.begin_tls(index, door) => {
                self.give_up(index, RefusalCause::Full);
            }
            Door { tcp: Some(endpoint), tls: false, proxy } => {
                if proxy != ProxyProtocol::Off {
                    self.open_without_request(index);
                }
                if !self.take_place(index, endpoint) {
                    return self.refuse_by_close(index, RefusalCause::EndpointFull);
                }
                self.note_opened(index, endpoint);
            }
            _ => {}
        }
    }

    /// Refuses a connection that sends no request: in a Close, where others get an HTTP answer.
    pub(super) fn refuse_by_close(&mut self, index: usize, cause: RefusalCause) {
        self.counters.refusals.at(cause as usize).add(1);
        let (code, reason) = match cause {
            RefusalCause::Shutdown => (1001, "the gateway is going away"),
            _ => (1013, "there is no room; come again later"),
        };
        self.change(index, |conn, env| conn.close(code, reason, CloseCause::Shutdown, env));
    }

    fn register_slot(&mut self, index: usize) -> io::Result<()> {
        use std::os::fd::AsRawFd as _;
        let Some(slot) = self.table.get_mut(index) else { return Ok(()) };
        let Some(socket) = &slot.socket else { return Ok(()) };
        let fd = socket.as_raw_fd();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut SourceFd(&fd), Token(SLOTS + index), interest)
    }
}
