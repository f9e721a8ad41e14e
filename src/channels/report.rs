//! What comes of work at a home, and who is told.

use std::fmt::Write as _;

use super::home::Surroundings;
use super::publish::OwnedBody;
use super::work::{Answer, Done, ReplyTo, Settles, Then};
use crate::dialect::{Body, ErrorAnswer};
use crate::routing::{Refuse, Work};
use crate::worker::{Outgoing, PostItem};

/// What the asker may be told.
pub(super) enum Report {
    Membership {
        room: Box<str>,
        members: usize,
    },
    Published {
        room: Box<str>,
        serial: u64,
        members: usize,
    },
    Members {
        room: Box<str>,
        members: usize,
        ids: Vec<String>,
    },
    /// How many connections of a user it concerned.
    User {
        connections: usize,
    },
    /// Who asked is told by another way.
    Told,
    Refused(ErrorAnswer<'static>),
}

impl Report {
    /// Why the work was not done, if it was not.
    fn refusal(self) -> Option<ErrorAnswer<'static>> {
        match self {
            Self::Refused(error) => Some(error),
            _ => None,
        }
    }

    /// The answer to the asker.
    fn into_answer(self) -> Answer {
        let room = match &self {
            Self::Refused(error) => return Err(error.clone()),
            Self::Told => return Ok(Body::Json("null").into()),
            Self::User { connections } => {
                return Ok(Body::Json(&format!("{{\"connections\":{connections}}}")).into());
            }
            Self::Membership { room, .. }
            | Self::Published { room, .. }
            | Self::Members { room, .. } => room,
        };
        let mut text = format!("{{\"room\":{}", serde_json::Value::from(&**room));
        let _ = match &self {
            Self::Refused(_) | Self::Told | Self::User { .. } => Ok(()),
            Self::Membership { members, .. } => write!(text, ",\"members\":{members}}}"),
            Self::Published { serial, members, .. } => {
                write!(text, ",\"serial\":{serial},\"receivers\":{members}}}")
            }
            Self::Members { members, ids, .. } => {
                let ids = serde_json::Value::from(ids.clone());
                write!(text, ",\"members\":{members},\"ids\":{ids}}}")
            }
        };
        Ok(Body::Json(&text).into())
    }
}

/// Tells who is to be told.
pub(super) fn finish(then: Then, report: Report, around: &Surroundings<'_>, out: &mut Outgoing) {
    match then {
        Then::Nothing => {}
        Then::Report(to) => {
            if to.correlation.is_some() {
                put_answer(&to, &report.into_answer(), around, out);
            }
            settle(&to, out);
        }
        Then::Reply(to, answer) => {
            let answer = report.refusal().map_or(answer, Err);
            put_answer(&to, &answer, around, out);
            settle(&to, out);
        }
        Then::Last(countdown) => {
            if let Some(error) = report.refusal() {
                countdown.fail(error);
            }
            if let Some(done) = countdown.count() {
                finish_last(done, countdown.failure(), around, out);
            }
        }
    }
}

/// What the last of several pieces of work sets off; `failure` is what one of them came to.
fn finish_last(
    done: Done,
    failure: Option<&ErrorAnswer<'static>>,
    around: &Surroundings<'_>,
    out: &mut Outgoing,
) {
    match (done, failure) {
        (Done::Reply(to, answer), failure) => {
            let answer = failure.map_or(answer, |error| Err(error.clone()));
            put_answer(&to, &answer, around, out);
            settle(&to, out);
        }
        (Done::Accept(conn, accept), None) => {
            out.post(conn.loop_index()).push(PostItem::Open { conn, accept });
        }
        (Done::LogIn(conn, accept), None) => {
            let work = Box::new(Work::log_in(accept));
            out.post(conn.loop_index()).push(PostItem::Work { conn, work });
        }
        (Done::Accept(conn, _) | Done::LogIn(conn, _), Some(error)) => {
            let status = if error.code == 409 { 409 } else { 503 };
            let refuse = Box::new(Refuse::new(status, &format!("{}\n", error.message)));
            out.post(conn.loop_index()).push(PostItem::Refuse { conn, refuse });
        }
    }
}

pub(super) fn put_answer(
    to: &ReplyTo,
    answer: &Answer,
    around: &Surroundings<'_>,
    out: &mut Outgoing,
) {
    if to.correlation.is_none() {
        return;
    }
    let endpoint = around.snapshot.endpoint(to.endpoint);
    let body = answer.as_ref().map(OwnedBody::as_body);
    let correlation = to.correlation.as_deref();
    out.post(to.conn.loop_index())
        .reply(to.conn, 1, |bytes| endpoint.put_answer(bytes, correlation, body));
}

fn settle(to: &ReplyTo, out: &mut Outgoing) {
    if to.settles == Settles::Yes {
        out.post(to.conn.loop_index()).settle(to.conn, 1);
    }
}
