//! The beginnings and ends of connections, as their shard sees them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::batch::{Notice, Run};
use super::post::PostItem;
use super::shard::Shard;
use crate::channels::{Countdown, Done, RoomWork, Then};
use crate::id::ConnId;
use crate::limits::{REQUEST_HEADERS_MAX, ROOMS_PER_CONNECTION_MAX};
use crate::protocol::handshake::{HeadLimits, parse_request};
use crate::routing::{
    Accept, Admission, AskError, ConnectRequest, Ended, Endpoint, Facts, Params, Pending, Refuse,
    Session, is_room_name,
};
use crate::session::{Identity, Login};
use crate::telemetry::counters::CloseCause;

impl Shard {
    /// Finds out what the path says of a connection, and has the endpoint's hook decide on it.
    pub(super) fn admit(&mut self, run: &Run, head: &[u8]) {
        let snapshot = Arc::clone(&self.snapshot);
        let endpoint = snapshot.endpoint(run.endpoint);
        let admission = Admission::new(run.conn, self.parts.gateway.clone());
        let limits =
            HeadLimits { max_header_bytes: head.len() + 1, max_headers: REQUEST_HEADERS_MAX };
        // The loop parsed it already; a head that does not parse here would be refused by the
        // admission's drop.
        let Ok(Some((request, _))) = parse_request(head, limits) else { return };
        let params = endpoint.path.matches(request.path()).unwrap_or_default();
        let Some(hook) = &endpoint.on_connect else {
            admission.decided();
            self.remember(run.conn, params);
            return self.join_then_accept(run, Accept::default());
        };
        let connect = ConnectRequest {
            path: request.path(),
            query: request.query(),
            params: &params,
            peer: run.peer.addr(),
            conn: run.conn,
            request: &request,
        };
        if catch_unwind(AssertUnwindSafe(|| hook(&connect, admission))).is_err() {
            self.parts.counters.panics.add(1);
        }
        self.remember(run.conn, params);
    }

    fn remember(&mut self, conn: ConnId, params: Params) {
        if !params.is_empty() {
            let facts = Facts { params, ..Facts::default() };
            self.state.sessions.entry(conn).or_default().facts = Some(Arc::new(facts));
        }
    }

    /// Lets a connection open once it is its identity's, and in all rooms that it is to be in from
    /// the start.
    pub(super) fn join_then_accept(&mut self, run: &Run, mut accept: Accept) {
        let conn = run.conn;
        let snapshot = Arc::clone(&self.snapshot);
        let endpoint = snapshot.endpoint(run.endpoint);
        let rooms = match self.first_rooms(conn, endpoint, &mut accept) {
            Ok(rooms) => rooms,
            Err(refuse) => {
                let refuse = Box::new(refuse);
                self.parts.out.post(conn.loop_index()).push(PostItem::Refuse { conn, refuse });
                return;
            }
        };
        let identity = self.remember_who(conn, &mut accept);
        let accept = Box::new(accept);
        let done = match (rooms.is_empty(), identity.is_some()) {
            (true, true) => return self.log_in_then_accept(run, accept),
            (true, false) => {
                self.parts.out.post(conn.loop_index()).push(PostItem::Open { conn, accept });
                return;
            }
            // Who is not let into a room has displaced nobody.
            (false, true) => Done::LogIn(conn, accept),
            (false, false) => Done::Accept(conn, accept),
        };
        let countdown = Countdown::new(rooms.len(), done);
        let then = || Then::Last(Arc::clone(&countdown));
        for room in rooms {
            // It may be in rooms already: whoever decided on it knew its id.
            let Some(attempt) = self.state.sessions.join(conn, &room) else {
                let refuse = Box::new(Refuse::new(503, "There are too many rooms.\n"));
                self.parts.out.post(conn.loop_index()).push(PostItem::Refuse { conn, refuse });
                return;
            };
            let who = self.state.sessions.get(&conn).and_then(|session| session.login().cloned());
            self.send_home(RoomWork::Join { room, conn, who, attempt, then: then() });
        }
    }

    /// Lets a connection that is somebody open once the home of its user has taken it in.
    pub(super) fn log_in_then_accept(&mut self, run: &Run, accept: Box<Accept>) {
        let conn = run.conn;
        let facts = self.state.sessions.get(&conn).and_then(|session| session.facts.as_ref());
        let Some(identity) = facts.and_then(|facts| facts.identity.clone()) else { return };
        let then = Then::Last(Countdown::new(1, Done::Accept(conn, accept)));
        let policy = self.snapshot.endpoint(run.endpoint).session;
        let login = Login { conn, identity };
        self.send_home(RoomWork::Login { login, peer: run.peer, policy, then });
    }

    pub(super) fn send_home(&mut self, work: RoomWork) {
        let home = work.home(&self.parts.gateway.shared);
        self.parts.out.room_batch(home).work.push(work);
    }

    /// The rooms that a connection is to be in from the start.
    fn first_rooms(
        &mut self,
        conn: ConnId,
        endpoint: &Endpoint,
        accept: &mut Accept,
    ) -> Result<Vec<Box<str>>, Refuse> {
        let facts = self.state.sessions.get(&conn).and_then(|session| session.facts.as_ref());
        let params = facts.map(|facts| facts.params.clone()).unwrap_or_default();
        let mut names = Vec::new();
        for room in endpoint.joins.iter().filter_map(|template| template.expand(&params)) {
            if !is_room_name(&room) {
                return Err(Refuse::new(400, "The path names a room that there can't be.\n"));
            }
            self.may_join(endpoint, accept, &room)?;
            names.push(room);
        }
        for room in std::mem::take(&mut accept.rooms) {
            if !names.contains(&room) {
                names.push(room);
            }
        }
        if names.len() > ROOMS_PER_CONNECTION_MAX || !names.iter().all(|r| is_room_name(r)) {
            return Err(Refuse::new(
                500,
                "The connection was to be in rooms that it can't join.\n",
            ));
        }
        Ok(names.into_iter().map(Into::into).collect())
    }

    /// Makes what was decided about a connection part of its session; says who it is.
    fn remember_who(&mut self, conn: ConnId, accept: &mut Accept) -> Option<Arc<Identity>> {
        let identity = accept.identity.take().map(Arc::new);
        let permissions: Box<[_]> =
            std::mem::take(&mut accept.permissions).into_iter().map(Into::into).collect();
        if identity.is_some() || !permissions.is_empty() {
            let session = self.state.sessions.entry(conn).or_default();
            let facts = Arc::make_mut(session.facts.get_or_insert_default());
            facts.permissions = permissions;
            facts.identity.clone_from(&identity);
        }
        identity
    }

    /// Whether a room that a path names may be joined by who comes by it. Rooms that `on_connect`
    /// names need no permission: it decides.
    fn may_join(&self, endpoint: &Endpoint, accept: &Accept, room: &str) -> Result<(), Refuse> {
        let policy = self.snapshot.rooms.find(room);
        let Some(wanted) = policy.and_then(|policy| policy.join.as_deref()) else { return Ok(()) };
        if endpoint.grants.iter().any(|granted| **granted == *wanted)
            || accept.permissions.iter().any(|granted| granted == wanted)
        {
            return Ok(());
        }
        Err(Refuse::new(403, &format!("To join this room takes the permission `{wanted}`.\n")))
    }

    /// Tells the endpoint's hooks how a connection fares.
    pub(super) fn notice(&mut self, run: &Run, notice: Notice) {
        let snapshot = Arc::clone(&self.snapshot);
        let hooks = &snapshot.endpoint(run.endpoint).hooks;
        match (notice, &hooks.established, &hooks.closing) {
            (Notice::Opened, Some(hook), _) => self.call(run, |ctx| hook(ctx)),
            (Notice::Closing(cause), _, Some(hook)) => self.call(run, |ctx| hook(ctx, cause)),
            _ => {}
        }
    }

    /// Tells the endpoint's hooks of a ping or pong.
    pub(super) fn control(&mut self, run: &Run, pong: bool, payload: &[u8]) {
        let snapshot = Arc::clone(&self.snapshot);
        let hooks = &snapshot.endpoint(run.endpoint).hooks;
        let hook = if pong { &hooks.pong } else { &hooks.ping };
        if let Some(hook) = hook {
            self.call(run, |ctx| hook(ctx, payload));
        }
    }

    /// Lets go of all that is known of a connection.
    pub(super) fn closed(&mut self, run: &Run, cause: Option<CloseCause>) {
        for (_, Pending(callback)) in self.state.asks.close(run.conn) {
            self.guard(|| callback(Err(AskError::Closed)));
        }
        let (session, rooms) = self.state.sessions.remove(&run.conn).unwrap_or_default();
        self.leave_all(run.conn, &session, &rooms);
        let snapshot = Arc::clone(&self.snapshot);
        if let Some(hook) = &snapshot.endpoint(run.endpoint).hooks.closed {
            let identity = session.facts.as_ref().and_then(|facts| facts.identity.as_deref());
            let gateway = self.parts.gateway.clone();
            let ended = Ended { conn: run.conn, cause, identity, gateway: &gateway };
            self.guard(|| hook(&ended));
        }
    }

    /// Takes a connection that has ended out of its rooms, and logs it out.
    fn leave_all(&mut self, conn: ConnId, session: &Session, rooms: &[Arc<str>]) {
        for room in rooms {
            let (room, who, then) = ((**room).into(), session.login().cloned(), Then::Nothing);
            self.send_home(RoomWork::Leave { room, conn, who, then });
        }
        if let Some(identity) = session.login() {
            let login = Login { conn, identity: Arc::clone(identity) };
            self.send_home(RoomWork::Logout { login, then: Then::Nothing });
        }
    }
}
