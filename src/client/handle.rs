//! What any thread can do with a client: the queue to its own thread, and the calls that are open.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use mio::Waker;

use super::about::About;
use super::cause::{CallError, DialError, SendError};
use super::options::{Options, OwnedBody, own_room_keys, room_body};
use super::speech;
use crate::dialect::{Body, ErrorAnswer, Key};
use crate::protocol::{ControlPayload, OpCode, is_sendable_code};

/// The code of a Close that nothing was wrong with (RFC 6455, 7.4.1).
const NORMAL: u16 = 1000;

/// A client, as any thread can use it; clones are the same client.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("open", &self.is_open()).finish_non_exhaustive()
    }
}

pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) waker: Waker,
    /// The client's own, from its first moment on.
    pub(super) thread: OnceLock<ThreadId>,
    state: Mutex<State>,
    /// Told of `dials`, `open` and `ended`.
    changed: Condvar,
}

pub(super) struct State {
    pub(super) queue: VecDeque<Outgoing>,
    /// Payload in `queue`, bytes.
    pub(super) queued_bytes: usize,
    pub(super) calls: BTreeMap<u32, Call>,
    next_call: u32,
    /// To be joined on each new connection.
    pub(super) rooms: BTreeSet<String>,
    /// Counts connections that were open to the user.
    pub(super) opened: u64,
    /// Whether to end.
    pub(super) stopping: bool,
    /// What the Close says then.
    pub(super) last_words: (Option<u16>, String),
    /// Counts connections; that of `open`.
    pub(super) connection: u64,
    pub(super) open: bool,
    /// What became of the login of the connection that is being opened, until it is taken.
    pub(super) login: Option<Result<OwnedBody, CallError>>,
    /// Nothing is taken any more.
    pub(super) ended: bool,
    /// What became of the first try, until it is taken.
    pub(super) first_dial: Option<Result<(), DialError>>,
}

/// A message that waits to be sent, or a ping.
pub(super) struct Outgoing {
    pub(super) op: OpCode,
    pub(super) payload: Vec<u8>,
    /// The call that it is.
    pub(super) call: Option<u32>,
    /// The only connection that it may be sent on.
    pub(super) only_on: Option<u64>,
    /// Told what became of it.
    pub(super) sent: Option<Sent>,
}

pub(super) type Sent = Box<dyn FnOnce(&Handle, Result<(), SendError>) + Send>;
type Done = Box<dyn FnOnce(&Handle, Result<OwnedBody, CallError>) + Send>;

/// A call without an answer so far.
pub(super) struct Call {
    pub(super) key: String,
    pub(super) deadline: Option<Instant>,
    /// Whether it left the queue.
    pub(super) sent: bool,
    pub(super) done: Done,
}

impl Handle {
    pub(super) fn new(options: Options, waker: Waker) -> Self {
        let state = State {
            queue: VecDeque::new(),
            queued_bytes: 0,
            calls: BTreeMap::new(),
            next_call: speech::first_call(&options.dialect),
            rooms: BTreeSet::new(),
            opened: 0,
            stopping: false,
            last_words: (Some(NORMAL), String::new()),
            connection: 0,
            open: false,
            login: None,
            ended: false,
            first_dial: None,
        };
        let shared = Shared {
            options,
            waker,
            thread: OnceLock::new(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Whether a connection is open now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state().open
    }

    /// How many connections have been open so far, with that which is open now: in `on_established`
    /// 1 says that it is the first, and more that it is another.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.state().opened
    }

    /// Queues a text message, as it is.
    ///
    /// # Errors
    /// It was not taken.
    pub fn send_text(&self, text: &str) -> Result<(), SendError> {
        self.enqueue(Outgoing::new(OpCode::Text, text.as_bytes().to_vec()))
    }

    /// Queues a text message, as it is, and tells what becomes of it: once, whatever that is.
    ///
    /// `sent` runs on the client's own thread, with `Ok` when the system has taken the last byte,
    /// which does not mean that the server has; with an error when it is certain that it will not
    /// be. A message that is not taken at all is told of on this thread, before the call returns.
    pub fn send_text_then(
        &self,
        text: &str,
        sent: impl FnOnce(&Handle, Result<(), SendError>) + Send + 'static,
    ) {
        self.enqueue_then(Ok((OpCode::Text, text.as_bytes().to_vec())), Box::new(sent));
    }

    /// Queues a binary message, as it is.
    ///
    /// # Errors
    /// It was not taken.
    pub fn send_binary(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.enqueue(Outgoing::new(OpCode::Binary, bytes.to_vec()))
    }

    /// Queues a binary message, as [`send_text_then`](Self::send_text_then) does a text.
    pub fn send_binary_then(
        &self,
        bytes: &[u8],
        sent: impl FnOnce(&Handle, Result<(), SendError>) + Send + 'static,
    ) {
        self.enqueue_then(Ok((OpCode::Binary, bytes.to_vec())), Box::new(sent));
    }

    /// Queues a ping of up to 125 bytes, beside those of the ping interval.
    ///
    /// # Errors
    /// It was not taken.
    pub fn ping(&self, payload: &[u8]) -> Result<(), SendError> {
        if ControlPayload::new(payload).is_none() {
            return Err(SendError::Unsupported);
        }
        self.enqueue(Outgoing::new(OpCode::Ping, payload.to_vec()))
    }

    /// Queues what the server need not answer, in the client's dialect.
    ///
    /// # Errors
    /// It was not taken.
    pub fn push<'b>(
        &self,
        about: impl Into<About<'b>>,
        body: impl Into<Body<'b>>,
    ) -> Result<(), SendError> {
        let (op, payload) = self.pushed(&about.into(), body.into())?;
        self.enqueue(Outgoing::new(op, payload))
    }

    /// Queues what the server need not answer, in the client's dialect, and tells what becomes of it
    /// as [`send_text_then`](Self::send_text_then) does.
    pub fn push_then<'b>(
        &self,
        about: impl Into<About<'b>>,
        body: impl Into<Body<'b>>,
        sent: impl FnOnce(&Handle, Result<(), SendError>) + Send + 'static,
    ) {
        self.enqueue_then(self.pushed(&about.into(), body.into()), Box::new(sent));
    }

    /// Asks the server, and waits up to `timeout` for the answer. The time counts from now, also
    /// while there is no connection and the question waits.
    ///
    /// In `action` and `event` an answer has no number: it goes to the oldest call of its key.
    ///
    /// # Errors
    /// [`CallError::Failed`] is an error that the server answered with, the rest why there is no
    /// answer. What was sent may have been done by the server even so.
    pub fn request<'b>(
        &self,
        about: impl Into<About<'b>>,
        body: impl Into<Body<'b>>,
        timeout: Duration,
    ) -> Result<OwnedBody, CallError> {
        self.wait_for(&about.into(), body.into(), timeout, |_| {})
    }

    /// Asks the server, and calls `done` with the answer, on the client's own thread: for handlers,
    /// which must not wait.
    ///
    /// # Errors
    /// It was not taken, and `done` will not be called.
    pub fn request_then<'b>(
        &self,
        about: impl Into<About<'b>>,
        body: impl Into<Body<'b>>,
        timeout: Duration,
        done: impl FnOnce(&Handle, Result<OwnedBody, CallError>) + Send + 'static,
    ) -> Result<(), SendError> {
        let deadline = Instant::now().checked_add(timeout);
        self.call(&about.into(), body.into(), deadline, Box::new(done)).map(drop)
    }

    /// Joins a room, and joins it again on each new connection until [`leave`](Self::leave).
    ///
    /// # Errors
    /// As of [`request`](Self::request). After an error the room is not joined again.
    pub fn join(&self, room: &str, timeout: Duration) -> Result<OwnedBody, CallError> {
        let (join, _) = self.room_keys()?;
        let name = room.to_owned();
        // On the client's own thread, so that it is known before the next connection opens.
        let joined = move |handle: &Handle| {
            handle.state().rooms.insert(name);
        };
        self.wait_for(&join.into(), Body::Json(&room_body(room)), timeout, joined)
    }

    /// Leaves a room, whatever becomes of the request.
    ///
    /// # Errors
    /// As of [`request`](Self::request).
    pub fn leave(&self, room: &str, timeout: Duration) -> Result<OwnedBody, CallError> {
        let (_, leave) = self.room_keys()?;
        self.state().rooms.remove(room);
        self.request(leave, Body::Json(&room_body(room)), timeout)
    }

    /// Ends the client: what is queued is sent, if a connection is open, and then a Close. Returns
    /// at once.
    pub fn close(&self) {
        self.state().stopping = true;
        self.wake();
    }

    /// The same, with a code and a reason, which is cut to 123 bytes. With a code that may not be sent
    /// (RFC 6455, 7.4.2) the Close says nothing. The first of several counts.
    pub fn close_with(&self, code: u16, reason: &str) {
        let mut state = self.state();
        if !state.stopping {
            let code = Some(code).filter(|&code| is_sendable_code(code));
            state.last_words = (code, reason.to_owned());
        }
        drop(state);
        self.close();
    }

    pub(super) fn answer(
        &self,
        correlation: &[u8],
        connection: u64,
        answer: Result<Body<'_>, &ErrorAnswer<'_>>,
    ) -> Result<(), SendError> {
        let (kind, payload) = speech::answer(self.dialect(), correlation, answer)?;
        let only_on = Some(connection);
        self.enqueue(Outgoing { only_on, ..Outgoing::new(kind.opcode(), payload) })
    }

    /// Keys of joining and leaving.
    pub(super) fn room_keys(&self) -> Result<(Key<'static>, Key<'static>), SendError> {
        let options = &self.shared.options;
        let keys = options.room_keys.clone().or_else(|| own_room_keys(&options.dialect));
        keys.ok_or(SendError::Unsupported)
    }

    /// Asks and waits; `good` is called on the client's own thread with a good answer.
    fn wait_for(
        &self,
        about: &About<'_>,
        body: Body<'_>,
        timeout: Duration,
        good: impl FnOnce(&Handle) + Send + 'static,
    ) -> Result<OwnedBody, CallError> {
        if self.shared.thread.get() == Some(&thread::current().id()) {
            return Err(CallError::WouldBlock);
        }
        let (tell, told) = crossbeam_channel::bounded(1);
        let done = Box::new(move |handle: &Handle, answer: Result<_, _>| {
            if answer.is_ok() {
                good(handle);
            }
            drop(tell.send(answer));
        });
        let id = self.call(about, body, None, done)?;
        if let Ok(answer) = told.recv_timeout(timeout) {
            return answer;
        }
        self.state().give_up(id);
        // It may have come in between.
        told.try_recv().unwrap_or(Err(CallError::TimedOut))
    }

    fn call(
        &self,
        about: &About<'_>,
        body: Body<'_>,
        deadline: Option<Instant>,
        done: Done,
    ) -> Result<u32, SendError> {
        let options = &self.shared.options;
        let mut state = self.state();
        if state.calls.len() >= options.max_open_calls {
            return Err(SendError::TooManyCalls);
        }
        let id = state.take_call_id();
        let (kind, payload) = speech::call(&options.dialect, id, &about.key, body)?;
        let payload = about.put_fields(&options.dialect, payload)?;
        let key = about.key.as_text().into_owned();
        state.check_room(options, payload.len())?;
        state.put(Outgoing { call: Some(id), ..Outgoing::new(kind.opcode(), payload) });
        state.calls.insert(id, Call { key, deadline, sent: false, done });
        drop(state);
        self.wake();
        Ok(id)
    }

    fn pushed(&self, about: &About<'_>, body: Body<'_>) -> Result<(OpCode, Vec<u8>), SendError> {
        let (kind, payload) = speech::push(self.dialect(), &about.key, body)?;
        Ok((kind.opcode(), about.put_fields(self.dialect(), payload)?))
    }

    fn enqueue(&self, outgoing: Outgoing) -> Result<(), SendError> {
        let mut state = self.state();
        state.check_room(&self.shared.options, outgoing.payload.len())?;
        state.put(outgoing);
        drop(state);
        self.wake();
        Ok(())
    }

    /// Queues a message, or tells why not: not under the lock.
    fn enqueue_then(&self, message: Result<(OpCode, Vec<u8>), SendError>, sent: Sent) {
        let mut state = self.state();
        let taken = message.and_then(|(op, payload)| {
            state.check_room(&self.shared.options, payload.len())?;
            Ok((op, payload))
        });
        match taken {
            Ok((op, payload)) => {
                state.put(Outgoing { sent: Some(sent), ..Outgoing::new(op, payload) });
                drop(state);
                self.wake();
            }
            Err(why) => {
                drop(state);
                sent(self, Err(why));
            }
        }
    }

    fn dialect(&self) -> &crate::dialect::Dialect {
        &self.shared.options.dialect
    }

    fn wake(&self) {
        if let Err(e) = self.shared.waker.wake() {
            log::error!("a client's thread cannot be woken: {e}");
        }
    }

    /// What all threads share. No callback is ever called under this lock.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who wait that something of the state has changed.
    pub(super) fn announce(&self) {
        self.shared.changed.notify_all();
    }

    /// Waits for the end of the first try.
    pub(super) fn first_dial(&self) -> Result<(), DialError> {
        let mut state = self.state();
        loop {
            if let Some(dialed) = state.first_dial.take() {
                return dialed;
            }
            if state.ended {
                return Err(DialError::Stopped);
            }
            let waited = self.shared.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl State {
    /// Whether a message of so many bytes may wait.
    fn check_room(&self, options: &Options, bytes: usize) -> Result<(), SendError> {
        if self.stopping || self.ended {
            return Err(SendError::Stopped);
        }
        let bytes = self.queued_bytes.saturating_add(bytes);
        if self.queue.len() >= options.max_queued_messages || bytes > options.max_queued_bytes {
            return Err(SendError::Full);
        }
        Ok(())
    }

    fn put(&mut self, outgoing: Outgoing) {
        self.queued_bytes += outgoing.payload.len();
        self.queue.push_back(outgoing);
    }

    /// Takes all that waits; gives who is to be told of it.
    pub(super) fn drop_queue(&mut self) -> Vec<Sent> {
        self.queued_bytes = 0;
        self.queue.drain(..).filter_map(|outgoing| outgoing.sent).collect()
    }

    /// A number that no open call has.
    pub(super) fn take_call_id(&mut self) -> u32 {
        loop {
            let id = self.next_call;
            self.next_call = self.next_call.wrapping_add(2);
            if id != 0 && !self.calls.contains_key(&id) {
                return id;
            }
        }
    }

    /// Nobody waits for this call any more; if it was not sent, it never is.
    pub(super) fn give_up(&mut self, id: u32) -> Option<Call> {
        let call = self.calls.remove(&id)?;
        if !call.sent
            && let Some(at) = self.queue.iter().position(|outgoing| outgoing.call == Some(id))
            && let Some(outgoing) = self.queue.remove(at)
        {
            self.queued_bytes -= outgoing.payload.len();
        }
        Some(call)
    }
}

impl Outgoing {
    pub(super) fn new(op: OpCode, payload: Vec<u8>) -> Self {
        Self { op, payload, call: None, only_on: None, sent: None }
    }
}
