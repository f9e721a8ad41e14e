//! Who the connection is, once it says so in a message.

use std::sync::Arc;

use super::{Context, Place};
use crate::channels::{RoomWork, Then};
use crate::dialect::ErrorAnswer;
use crate::routing::session::PendingLogin;
use crate::session::{Claims, Identity, Login};

impl Context<'_> {
    /// Logs the connection in, by its endpoint's policy for identities that are connected already.
    ///
    /// It is who it says once the user's home has agreed: an answer of this handler leaves then, and
    /// is error 409 in its place if the home did not. Messages behind that answer find the identity.
    ///
    /// # Errors
    /// 409 where it is somebody already, or on its way to be.
    pub fn login(&mut self, identity: Identity) -> Result<(), ErrorAnswer<'static>> {
        self.login_with(Claims { identity, permissions: Vec::new() })
    }

    /// As [`login`](Self::login); once it is logged in, and for as long as it is, it has the
    /// permissions of the claims, too.
    ///
    /// # Errors
    /// 409 where it is somebody already, or on its way to be.
    pub fn login_with(&mut self, claims: Claims) -> Result<(), ErrorAnswer<'static>> {
        let (conn, peer, policy) = (self.conn, self.peer, self.endpoint.session);
        match &mut self.place {
            Place::Shard(parts) => {
                let session = parts.sessions.entry(conn).or_default();
                if session.login().is_some() {
                    return Err(ErrorAnswer::new(409, "this connection is logged in already"));
                }
                let identity = Arc::new(claims.identity);
                let permissions = claims.permissions.into_iter().map(Into::into).collect();
                session.extra().login =
                    Some(PendingLogin { identity: Arc::clone(&identity), permissions });
                let login = Login { conn, identity };
                let work = RoomWork::Login { login, peer, policy, then: Then::Nothing };
                parts.effects.rooms.push(work);
            }
            Place::Away(away) => {
                if away.facts.as_ref().is_some_and(|facts| facts.identity.is_some()) {
                    return Err(ErrorAnswer::new(409, "this connection is logged in already"));
                }
                away.record(move |ctx| {
                    if let Err(error) = ctx.login_with(claims) {
                        ctx.answer(Err(&error));
                    }
                });
            }
        }
        Ok(())
    }

    /// Whether it is somebody, or on its way to be.
    pub(crate) fn is_logging_in(&self) -> bool {
        match &self.place {
            Place::Shard(parts) => {
                parts.sessions.get(&self.conn).is_some_and(|session| session.login().is_some())
            }
            Place::Away(_) => self.identity().is_some(),
        }
    }

    /// Logs the connection out: it is nobody any more, and what is sent to its user does not reach
    /// it. Nothing happens if it was nobody.
    pub fn logout(&mut self) {
        let conn = self.conn;
        match &mut self.place {
            Place::Shard(parts) => {
                let session = parts.sessions.get_mut(&conn);
                if let Some(identity) = session.and_then(|session| session.log_out()) {
                    let login = Login { conn, identity };
                    parts.effects.rooms.push(RoomWork::Logout { login, then: Then::Nothing });
                }
            }
            Place::Away(away) => away.record(|ctx| ctx.logout()),
        }
    }

    /// Gives the connection a permission beyond those of its endpoint, for as long as it lives.
    pub fn grant(&mut self, permission: &str) {
        if self.may(permission) {
            return;
        }
        match &mut self.place {
            Place::Shard(parts) => {
                let session = parts.sessions.entry(self.conn).or_default();
                let facts = Arc::make_mut(session.facts.get_or_insert_default());
                let mut permissions = std::mem::take(&mut facts.permissions).into_vec();
                permissions.push(permission.into());
                facts.permissions = permissions.into();
            }
            Place::Away(away) => {
                let permission = permission.to_owned();
                away.record(move |ctx| ctx.grant(&permission));
            }
        }
    }
}
