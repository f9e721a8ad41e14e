//! From the first bytes of a connection to an open WebSocket, a page, or a refusal.

use super::event_loop::EventLoop;
use super::read::Brought;
use super::table::Marks;
use crate::app::Snapshot;
use crate::connection::{Phase, Received};
use crate::protocol::deflate::Agreed;
use crate::protocol::handshake::{
    NO_HEADERS, Reject, Request, Status, head_end, parse_request, put_response,
    put_upgrade_response,
};
use crate::routing::{Accept, Endpoint, EndpointId, Notices, Refuse};
use crate::telemetry::counters::{CloseCause, RefusalCause};
use crate::telemetry::stages::Stage;
use crate::worker::Notice;

/// What a browser gets at `/`.
const PAGE: &str = include_str!("page.html");
const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// The answer that opens a WebSocket.
struct Upgraded {
    response: Vec<u8>,
    deflate: Option<Agreed>,
}

/// What a request head comes to.
enum Decision {
    /// It goes on.
    Incomplete,
    /// It is answered in HTTP; refused if there is a cause.
    Respond(Vec<u8>, Option<RefusalCause>),
    /// It opens a WebSocket, answered by this; so many bytes were the head.
    Open(EndpointId, Upgraded, usize),
    /// The endpoint's `on_connect` has to decide.
    Ask(EndpointId, usize),
}

impl EventLoop {
    /// Reads on in a request head. `None`: there is nothing more to read for now.
    pub(super) fn read_head(&mut self, index: usize) -> Option<usize> {
        if self.handshakes_left == 0 {
            self.queue_run(index);
            return None;
        }
        if let Some(door) = self.table.door(index) {
            return self.read_proxy_header(index, door);
        }
        if self.opens_by_tls(index) {
            return self.read_opening(index);
        }
        let mut head = self.take_head(index).unwrap_or_default();
        let have = head.len();
        // No more is read than may be kept, should the rest have to wait for a verdict.
        let room = 2 * self.kit.snapshot.head_limits.max_header_bytes;
        // One byte at least: what is kept may be over a limit that has come down meanwhile.
        let end = room.max(have + 1).min(self.read_buffer.len());
        let total = match self.read_some(index, have..end) {
            Brought::Bytes(n) => have + n,
            Brought::Drained => {
                self.keep_head(index, head);
                return None;
            }
            Brought::Eof | Brought::Failed => {
                self.give_up(index, RefusalCause::PeerGone);
                return None;
            }
        };
        if have > 0 {
            // New bytes go behind the kept ones; all of it is put together only when it is whole,
            // so that a head that drips in costs no copy of all of it at each drop.
            head.extend_from_slice(&self.read_buffer[have..total]);
            let limit = self.kit.snapshot.head_limits.max_header_bytes;
            if head_end(&head, have).is_none() && total < limit {
                self.keep_head(index, head);
                return self.readable(index).then_some(total - have);
            }
            self.read_buffer[..total].copy_from_slice(&head);
        }
        self.handshakes_left -= 1;
        if !self.take_forwarded(index, total) {
            return self.readable(index).then_some(total - have);
        }
        match decide(&self.kit.snapshot, &self.read_buffer[..total]) {
            Decision::Incomplete => self.keep_head(index, self.read_buffer[..total].to_vec()),
            Decision::Respond(response, cause) => self.respond(index, &response, cause),
            Decision::Open(endpoint, ..) | Decision::Ask(endpoint, _)
                if !self.take_place(index, endpoint) =>
            {
                self.refuse_for_place(index, endpoint);
            }
            Decision::Open(endpoint, upgraded, consumed) => {
                self.open(index, endpoint, &upgraded);
                let gate = self.gate_of(index);
                if consumed < total
                    && self.receive(index, gate, consumed, total) != Received::Continue
                {
                    return None;
                }
            }
            Decision::Ask(endpoint, consumed) => {
                self.ask(index, endpoint, consumed, total);
                return None;
            }
        }
        self.readable(index).then_some(total - have)
    }

    fn readable(&mut self, index: usize) -> bool {
        let marks = self.table.get_mut(index).map(|slot| slot.marks);
        marks.is_some_and(|marks| marks.has(Marks::READABLE) && !marks.has(Marks::DELAYED))
    }

    /// Takes out what has come of the head, and takes it out of the memory's count.
    fn take_head(&mut self, index: usize) -> Option<Vec<u8>> {
        self.change(index, |conn, _| conn.take_head()).flatten()
    }

    fn keep_head(&mut self, index: usize, head: Vec<u8>) {
        if !head.is_empty() {
            self.change(index, |conn, _| conn.keep_head(head));
        }
    }

    /// Hands the request to its shard, whose hook decides; nothing is read until it has.
    fn ask(&mut self, index: usize, endpoint: EndpointId, consumed: usize, total: usize) {
        let conn = self.table.id(index);
        let gate = self.gate_of(index);
        let Some(slot) = self.table.get_mut(index) else { return };
        slot.endpoint = endpoint;
        slot.marks.set(Marks::KNOWN);
        let peer = slot.peer;
        let batch = self.gates[gate].batch(self.index, self.now, &self.spare_batches);
        batch.begin_run(conn, endpoint, peer);
        batch.push_admit(&self.read_buffer[..consumed]);
        let head = self.read_buffer[..total].to_vec();
        self.change(index, |conn, _| {
            conn.admit();
            conn.keep_head(head);
        });
        let tuning = &self.kit.snapshot.config.tuning;
        if self.gates[gate].is_full(tuning.batch_bytes, tuning.batch_messages) {
            self.send_batch(gate);
        }
    }

    fn open(&mut self, index: usize, endpoint: EndpointId, upgraded: &Upgraded) {
        let elapsed_us = self.micros();
        let Some(slot) = self.table.get_mut(index) else { return };
        slot.deflate = upgraded.deflate;
        self.counters.deflate_agreed.add(u64::from(upgraded.deflate.is_some()));
        let waited = elapsed_us.wrapping_sub(slot.accepted_us);
        let waited = std::time::Duration::from_micros(u64::from(waited));
        self.stages.record(Stage::AcceptToUpgraded, waited, 1);
        self.note_opened(index, endpoint);
        self.change(index, |conn, env| conn.open(&upgraded.response, env));
    }

    /// A connection is open: upgraded, or come in over plain TCP.
    pub(super) fn note_opened(&mut self, index: usize, endpoint: EndpointId) {
        let Some(slot) = self.table.get_mut(index) else { return };
        slot.endpoint = endpoint;
        slot.marks.set(Marks::OPENED);
        self.counters.opened.add(1);
        self.counters.open.add(1);
        let (notices, _) = self.kit.wanted(endpoint);
        if notices != Notices::default() {
            // Whoever wants to hear of anything hears of the end.
            slot.marks.set(Marks::KNOWN);
        }
        if notices.has(Notices::OPENED) {
            self.notify(index, Notice::Opened);
        }
    }

    /// Tells a connection's shard of one of its turns, in the order of its messages.
    pub(super) fn notify(&mut self, index: usize, notice: Notice) {
        let (gate, conn) = (self.gate_of(index), self.table.id(index));
        let Some(slot) = self.table.get_mut(index) else { return };
        let batch = self.gates[gate].batch(self.index, self.now, &self.spare_batches);
        batch.begin_run(conn, slot.endpoint, slot.peer);
        batch.push_notice(notice);
    }

    /// Opens a connection that `on_connect` accepted, and reads what it had sent along.
    pub(super) fn open_admitted(&mut self, index: usize, accept: &Accept) {
        let Some(slot) = self.table.get_mut(index) else { return };
        let asked = slot.endpoint;
        let Some(head) = self.take_head(index) else { return };
        let snapshot = &self.kit.snapshot;
        // Whoever answers with the name of another dialect of the path has chosen that dialect.
        let base = snapshot.endpoint(asked).base.unwrap_or(asked);
        let endpoint_id = match accept.subprotocol.as_deref() {
            Some(name) => snapshot.endpoint(base).serving(base, std::iter::once(name)),
            None => asked,
        };
        let endpoint = snapshot.endpoint(endpoint_id);
        let parsed = parse_request(&head, snapshot.head_limits);
        let (response, consumed) = match parsed {
            Ok(Some((request, consumed))) => {
                (upgrade(&request, endpoint, snapshot, Some(accept)), consumed)
            }
            // It parsed before it was handed to the hook.
            Ok(None) => (Err(Reject::bad_request("the request changed\n")), 0),
            Err(reject) => (Err(reject), 0),
        };
        match response {
            Ok(upgraded) => {
                self.open(index, endpoint_id, &upgraded);
                let rest = &head[consumed..];
                let gate = self.gate_of(index);
                self.read_buffer[..rest.len()].copy_from_slice(rest);
                if !rest.is_empty() {
                    self.receive(index, gate, 0, rest.len());
                }
                self.after_change(index);
                self.queue_run(index);
            }
            Err(reject) => {
                let mut response = Vec::new();
                reject.put(&mut response, false);
                self.respond(index, &response, Some(RefusalCause::Hook));
            }
        }
    }

    /// Answers what a hook refused.
    pub(super) fn respond_refusal(&mut self, index: usize, cause: RefusalCause, refuse: &Refuse) {
        let mut response = Vec::new();
        let status = Status::new(refuse.status).unwrap_or(Status::INTERNAL_SERVER_ERROR);
        let (headers, body) = (&refuse.headers, refuse.body.as_bytes());
        if put_response(&mut response, status, TEXT, headers, body, false).is_err() {
            let text = b"the hook's answer has a bad header\n";
            let status = Status::INTERNAL_SERVER_ERROR;
            let _ = put_response(&mut response, status, TEXT, NO_HEADERS, text, false);
        }
        self.respond(index, &response, Some(cause));
    }

    /// Answers in HTTP, after which the connection ends.
    pub(super) fn respond(&mut self, index: usize, response: &[u8], cause: Option<RefusalCause>) {
        self.counters.http_responses.add(1);
        self.leave_place(index);
        if let Some(cause) = cause {
            self.counters.refusals.at(cause as usize).add(1);
        }
        self.change(index, |conn, env| conn.respond(response, env));
        self.queue_run(index);
    }

    /// Refuses a connection that has not been upgraded, with the answer that fits the cause.
    pub(super) fn refuse(&mut self, index: usize, cause: RefusalCause) {
        if self.refuse_unfinished(index, cause) {
            return;
        }
        let reject = match cause {
            RefusalCause::HandshakeTimeout => Reject::request_timeout(),
            _ => Reject::unavailable(RETRY_AFTER_S),
        };
        let mut response = Vec::new();
        reject.put(&mut response, false);
        self.respond(index, &response, Some(cause));
    }

    /// Counts a connection as refused if it is still on its way to be open.
    pub(super) fn count_refused(&mut self, index: usize, cause: RefusalCause) {
        let Some(slot) = self.table.get_mut(index) else { return };
        let phase = slot.conn.phase();
        let on_its_way = matches!(phase, Phase::Handshake | Phase::Admitting | Phase::Open);
        if on_its_way && !slot.marks.has(Marks::OPENED) {
            self.counters.refusals.at(cause as usize).add(1);
        }
    }

    /// Ends a connection that was never upgraded and can't be answered.
    pub(super) fn give_up(&mut self, index: usize, cause: RefusalCause) {
        self.count_refused(index, cause);
        self.change(index, |conn, _| conn.failed(CloseCause::SocketError));
    }
}

/// When a client that found no room may come again, seconds.
const RETRY_AFTER_S: u32 = 5;

/// Says what to do about the head in `buf`. To be asked at its first bytes, so that garbage is
/// refused at once, and when it may be complete.
fn decide(snapshot: &Snapshot, buf: &[u8]) -> Decision {
    match parse_request(buf, snapshot.head_limits) {
        Ok(None) => Decision::Incomplete,
        Ok(Some((request, consumed))) => match decide_on(snapshot, &request, consumed) {
            Ok(decision) => decision,
            Err(reject) => rejected(&reject, request.is_head()),
        },
        Err(reject) => rejected(&reject, false),
    }
}

fn rejected(reject: &Reject, head_only: bool) -> Decision {
    let cause = match reject.status.code() {
        403 => RefusalCause::Origin,
        404 => RefusalCause::NotFound,
        426 => RefusalCause::UpgradeRequired,
        _ => RefusalCause::BadRequest,
    };
    let mut response = Vec::new();
    reject.put(&mut response, head_only);
    Decision::Respond(response, Some(cause))
}

fn decide_on(
    snapshot: &Snapshot,
    request: &Request<'_>,
    consumed: usize,
) -> Result<Decision, Reject> {
    let found = snapshot.find(request.path());
    match (found, request.path()) {
        (Some(_), "/") if !request.wants_upgrade() => Ok(page(PAGE, HTML, request)),
        (None, "/") => Ok(page(PAGE, HTML, request)),
        (None, "/healthz") => Ok(page("ok\n", TEXT, request)),
        (None, _) => Err(Reject::not_found()),
        (Some(id), _) => {
            request.upgrade()?;
            let id = snapshot.endpoint(id).serving(id, request.subprotocols());
            let endpoint = snapshot.endpoint(id);
            if !endpoint.origins.allows(request.header("origin"), request.header("host")) {
                return Err(Reject::foreign_origin());
            }
            if endpoint.asks_shard() {
                return Ok(Decision::Ask(id, consumed));
            }
            Ok(Decision::Open(id, upgrade(request, endpoint, snapshot, None)?, consumed))
        }
    }
}

fn page(body: &str, content_type: &str, request: &Request<'_>) -> Decision {
    let mut out = Vec::new();
    let head_only = request.is_head();
    let _ =
        put_response(&mut out, Status::OK, content_type, NO_HEADERS, body.as_bytes(), head_only);
    Decision::Respond(out, None)
}

fn upgrade(
    request: &Request<'_>,
    endpoint: &Endpoint,
    snapshot: &Snapshot,
    accept: Option<&Accept>,
) -> Result<Upgraded, Reject> {
    let upgrade = request.upgrade()?;
    let chosen = match accept.and_then(|accept| accept.subprotocol.as_deref()) {
        Some(name) => Some(name),
        None => request.subprotocols().find(|name| endpoint.subprotocols.iter().any(|s| s == name)),
    };
    let headers = accept.map_or(&[][..], |accept| &accept.headers);
    let deflate = request.deflate(&snapshot.config.deflate)?;
    let mut response = Vec::with_capacity(160);
    put_upgrade_response(&mut response, upgrade.key, chosen, deflate, headers).map_err(|e| {
        let body = format!("the hook's answer can't be sent: {e}\n");
        Reject::new(Status::INTERNAL_SERVER_ERROR, body)
    })?;
    Ok(Upgraded { response, deflate: deflate.map(|answer| answer.agreed()) })
}
