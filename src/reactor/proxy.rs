//! Who the client is behind a proxy: PROXY headers in front of what comes in, and forwarded headers of
//! requests.
//!
//! A PROXY header is looked at in the socket's queue and taken out of it once it is whole: nothing is
//! kept of it meanwhile, and what stands behind it is read by whoever reads next.

use std::io::Read as _;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use super::event_loop::EventLoop;
use super::table::{Marks, Slot};
use crate::connection::Phase;
use crate::protocol::handshake::{Reject, Status, parse_request};
use crate::routing::Door;
use crate::telemetry::counters::{ForwardedOutcome, ProxyOutcome, RefusalCause};
use crate::transport::proxy::{
    ForwardedHeader, FromElsewhere, HEADER_BYTES_MAX, Header, HeaderProblem, Malformed,
    ProxyProtocol, ProxySettings, Seen, Source, client_of, read_header,
};

/// What the socket's queue has of a header.
enum Peeked {
    /// So much; more may come.
    Bytes(usize),
    /// So much; nothing more will come.
    Last(usize),
    /// Nothing for now.
    Nothing,
    /// The end of the stream, or an error.
    Gone,
}

/// What a forwarded header comes to.
enum Forwarded {
    /// There is none, or it is not looked at.
    Nothing,
    /// It names the client.
    Client(SocketAddr),
    /// The request is refused for it.
    Refused(Vec<u8>, ForwardedOutcome),
}

impl EventLoop {
    /// Begins what a connection that was just accepted comes in over, or waits for the PROXY header
    /// in front of it.
    pub(super) fn enter(&mut self, index: usize, door: Door) {
        if door.proxy == ProxyProtocol::Off {
            return self.enter_behind_header(index, door);
        }
        let Some(peer) = self.table.get_mut(index).map(|slot| slot.peer.addr()) else { return };
        let ProxySettings { trusted, untrusted, .. } = &self.kit.snapshot.config.proxy;
        match (trusted.contains_peer(peer), door.proxy, untrusted) {
            (true, _, _) => self.table.put_door(index, door),
            (false, ProxyProtocol::Require, FromElsewhere::Refuse) => {
                self.refuse_header(index, ProxyOutcome::Untrusted, RefusalCause::Proxy);
            }
            (false, ..) => self.enter_behind_header(index, door),
        }
    }

    /// Reads what a connection begins with. `None`: there is nothing more to read for now.
    pub(super) fn read_proxy_header(&mut self, index: usize, door: Door) -> Option<usize> {
        let most = HEADER_BYTES_MAX.min(self.read_buffer.len());
        let slot = self.table.get_mut(index)?;
        let peeked = peek(slot, &mut self.read_buffer[..most]);
        let (n, is_last) = match peeked {
            Peeked::Bytes(n) => (n, false),
            Peeked::Last(n) => (n, true),
            Peeked::Nothing => return None,
            Peeked::Gone => {
                // Nothing had come: a check by the proxy, most likely.
                self.give_up(index, RefusalCause::PeerGone);
                return None;
            }
        };
        let outcome = match read_header(&self.read_buffer[..n]) {
            Ok(Seen::Header(header)) => return self.take_header(index, door, header),
            Ok(Seen::NoHeader) if door.proxy == ProxyProtocol::Accept => {
                self.count_header(ProxyOutcome::Absent);
                self.table.take_door(index);
                self.enter_behind_header(index, door);
                return Some(0);
            }
            Ok(Seen::NoHeader) => ProxyOutcome::Missing,
            Ok(Seen::Begun) if is_last => ProxyOutcome::Unfinished,
            Ok(Seen::Begun) if n < most => {
                // What comes next makes an event of its own.
                self.table.get_mut(index)?.marks.clear(Marks::READABLE);
                return None;
            }
            Ok(Seen::Begun) | Err(HeaderProblem::TooLong) => ProxyOutcome::TooLong,
            Err(HeaderProblem::Malformed) => ProxyOutcome::Malformed,
        };
        self.refuse_header(index, outcome, RefusalCause::Proxy);
        None
    }

    /// Takes a whole header out of the socket's queue, and goes on behind it.
    fn take_header(&mut self, index: usize, door: Door, header: Header) -> Option<usize> {
        let Header { len, source } = header;
        let slot = self.table.get_mut(index)?;
        let socket = slot.socket.as_mut()?;
        if socket.read_exact(&mut self.read_buffer[..len]).is_err() {
            self.give_up(index, RefusalCause::PeerGone);
            return None;
        }
        self.counters.bytes_in.add(len as u64);
        let outcome = match source {
            Source::Client(client) => {
                slot.peer = client.into();
                ProxyOutcome::Client
            }
            Source::Peer => ProxyOutcome::Local,
        };
        self.count_header(outcome);
        self.table.take_door(index);
        self.enter_behind_header(index, door);
        Some(len)
    }

    /// Closes a connection for want of a PROXY header that is in order, without an answer: whom it
    /// would be for is not known.
    fn refuse_header(&mut self, index: usize, outcome: ProxyOutcome, cause: RefusalCause) {
        if let Some(slot) = self.table.get_mut(index) {
            log::debug!("PROXY header from {}: {}", slot.peer.addr(), outcome.name());
        }
        self.count_header(outcome);
        self.give_up(index, cause);
    }

    /// Ends a connection whose PROXY header has not come, if it is one. `false`: it is not.
    pub(super) fn refuse_unfinished(&mut self, index: usize, cause: RefusalCause) -> bool {
        let awaits = self.table.door(index).is_some();
        if awaits {
            self.refuse_header(index, ProxyOutcome::Unfinished, cause);
        }
        awaits
    }

    fn count_header(&mut self, outcome: ProxyOutcome) {
        self.counters.proxy_headers.at(outcome as usize).add(1);
    }

    /// Makes a connection one that is open without a request, if it is not yet.
    pub(super) fn open_without_request(&mut self, index: usize) {
        self.change(index, |conn, env| {
            if conn.phase() == Phase::Handshake {
                conn.open_bare(env.now);
            }
        });
    }

    /// Has the client that a forwarded header of the request in the read buffer names stand for the
    /// peer. `false`: the request is refused for it, and answered.
    pub(super) fn take_forwarded(&mut self, index: usize, total: usize) -> bool {
        if self.kit.snapshot.config.proxy.forwarded == ForwardedHeader::Off {
            return true;
        }
        let Some(peer) = self.table.get_mut(index).map(|slot| slot.peer.addr()) else {
            return true;
        };
        match self.forwarded(peer, total) {
            Forwarded::Nothing => true,
            Forwarded::Client(client) => {
                self.counters.forwarded_headers.at(ForwardedOutcome::Client as usize).add(1);
                if let Some(slot) = self.table.get_mut(index) {
                    slot.peer = client.into();
                }
                true
            }
            Forwarded::Refused(response, outcome) => {
                log::debug!("forwarded header from {peer}: {}", outcome.name());
                self.counters.forwarded_headers.at(outcome as usize).add(1);
                self.respond(index, &response, Some(RefusalCause::Proxy));
                false
            }
        }
    }

    fn forwarded(&self, peer: SocketAddr, total: usize) -> Forwarded {
        let snapshot = &self.kit.snapshot;
        let ProxySettings { trusted, forwarded, untrusted_forwarded, .. } = &snapshot.config.proxy;
        let name = match forwarded {
            ForwardedHeader::Off => return Forwarded::Nothing,
            ForwardedHeader::XForwardedFor => "X-Forwarded-For",
            ForwardedHeader::Forwarded => "Forwarded",
        };
        // What is no request, or none yet, is told so elsewhere.
        let Ok(Some((request, _))) =
            parse_request(&self.read_buffer[..total], snapshot.head_limits)
        else {
            return Forwarded::Nothing;
        };
        if request.header(name).is_none() {
            return Forwarded::Nothing;
        }
        let refused = |reject: Reject, outcome| {
            let mut response = Vec::new();
            reject.put(&mut response, request.is_head());
            Forwarded::Refused(response, outcome)
        };
        if !trusted.contains_peer(peer) {
            return match untrusted_forwarded {
                FromElsewhere::Refuse => {
                    let text = format!("{name} is for proxies that are known here\n");
                    refused(Reject::new(Status::FORBIDDEN, text), ForwardedOutcome::Untrusted)
                }
                FromElsewhere::Ignore => {
                    self.counters.forwarded_headers.at(ForwardedOutcome::Ignored as usize).add(1);
                    Forwarded::Nothing
                }
            };
        }
        match client_of(peer, *forwarded, request.headers(name), trusted) {
            Ok(client) => Forwarded::Client(client),
            Err(Malformed) => {
                let reject = Reject::bad_request("the forwarded header can't be read\n");
                refused(reject, ForwardedOutcome::Malformed)
            }
        }
    }
}

/// Looks at what is in a socket's queue.
fn peek(slot: &mut Slot, buffer: &mut [u8]) -> Peeked {
    // Had the event told of an end, all that came before it would be in the queue by now.
    let has_ended = slot.marks.has(Marks::HANGUP);
    let Some(socket) = &slot.socket else { return Peeked::Nothing };
    loop {
        match recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_PEEK) {
            Ok(0) => return Peeked::Gone,
            Ok(n) => return if has_ended { Peeked::Last(n) } else { Peeked::Bytes(n) },
            Err(Errno::EAGAIN) => {
                slot.marks.clear(Marks::READABLE);
                slot.marks.clear(Marks::HANGUP);
                return Peeked::Nothing;
            }
            Err(Errno::EINTR) => {}
            Err(_) => return Peeked::Gone,
        }
    }
}
