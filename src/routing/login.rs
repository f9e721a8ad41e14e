//! Logging in by a message: what an endpoint demands of its connections before they may do more.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::context::Context;
use super::endpoint::Endpoint;
use crate::dialect::{Body, Dialect, ErrorAnswer, LoginRequest, LoginResponse, Message};
use crate::session::{Claims, Tokens};

/// What an endpoint demands of its connections before they may do more.
///
/// Until a connection is logged in, only messages of its login route are routed, and heartbeats are
/// answered. The others get error 401; system D's clients get its status 103, and are closed behind
/// it. One that is not logged in within the wait is closed with 1008. One whose request said who it
/// is, or whose `on_connect` did, is logged in.
#[derive(Clone, Debug)]
pub struct LoginRule {
    pub(crate) wait: Duration,
    route: Option<Box<str>>,
    tokens: Option<Tokens>,
}

impl LoginRule {
    /// How long a login may take where nothing else is said, as in system D.
    pub const WAIT: Duration = Duration::from_secs(10);

    /// Connections log in by tokens, which the built-in handler `login` checks.
    #[must_use]
    pub fn by_token(tokens: Tokens) -> Self {
        Self { tokens: Some(tokens), ..Self::by_handler() }
    }

    /// Connections log in by a handler of the endpoint's own at the login route, which is to call
    /// [`Context::login`].
    #[must_use]
    pub fn by_handler() -> Self {
        Self { wait: Self::WAIT, route: None, tokens: None }
    }

    /// How long a login may take, from when the connection is open.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// The key of the message that logs in, where it is not the dialect's own: `login.signin` in
    /// `kim`, `7` in `hub`, `login:user` in `mef`, and `login` elsewhere.
    #[must_use]
    pub fn route(mut self, key: &str) -> Self {
        self.route = Some(key.into());
        self
    }

    /// The key of the message that logs in.
    fn key<'a>(&'a self, dialect: &Dialect) -> &'a str {
        self.route.as_deref().unwrap_or(keys(dialect.name())[0])
    }

    /// The routes that come with it in a dialect: key, handler.
    pub(super) fn routes<'a>(&'a self, dialect: &Dialect) -> [Option<(&'a str, &'static str)>; 2] {
        let by_token = self.tokens.is_some();
        [by_token.then(|| (self.key(dialect), "login")), Some((keys(dialect.name())[1], "logout"))]
    }
}

/// The keys that log in and out in a dialect where nothing else is said.
pub(crate) fn keys(dialect: &str) -> [&'static str; 2] {
    match dialect {
        "kim" => ["login.signin", "login.signout"],
        "hub" => ["7", "8"],
        "mef" => ["login:user", "logout:user"],
        _ => ["login", "logout"],
    }
}

impl Endpoint {
    /// Whether a connection that fails to log in is closed, as system D does.
    pub(crate) fn closes_strangers(&self) -> bool {
        self.login.is_some() && matches!(self.dialect, Dialect::Kim)
    }
}

/// What a message of one who is not logged in gets in place of its handler; `None` if it may pass.
#[inline(never)]
pub(crate) fn refusal(
    ctx: &Context<'_>,
    rule: &LoginRule,
    message: &Message<'_>,
) -> Option<ErrorAnswer<'static>> {
    if ctx.identity().is_some() || message.key == *rule.key(&ctx.endpoint().dialect) {
        return None;
    }
    Some(match ctx.endpoint().dialect {
        _ if ctx.is_logging_in() => ErrorAnswer::new(401, "the login is not answered yet"),
        Dialect::Kim => ErrorAnswer::new(Dialect::KIM_INVALID_COMMAND, "log in first"),
        _ => ErrorAnswer::new(401, "log in first"),
    })
}

#[derive(Deserialize)]
struct JsonLogin<'a> {
    #[serde(borrow)]
    token: Cow<'a, str>,
}

/// Logs in by the token in the message.
pub(super) fn login(ctx: &mut Context<'_>, message: &Message<'_>) {
    let was_stranger = !ctx.is_logging_in();
    let logged_in = claims_in(ctx.endpoint(), message.body).and_then(|claims| {
        let account = claims.identity.user().to_owned();
        ctx.login_with(claims).map(|()| account)
    });
    match logged_in {
        Ok(account) => welcome(ctx, &account, message.body),
        Err(error) => {
            ctx.reply_error(error.code, &error.message);
            if was_stranger && ctx.endpoint().closes_strangers() {
                ctx.close(1008, STRANGER);
            }
        }
    }
}

/// The reason of the Close of one that failed to log in.
pub(crate) const STRANGER: &str = "not logged in";

/// What the token in a login's body says.
fn claims_in(endpoint: &Endpoint, body: Body<'_>) -> Result<Claims, ErrorAnswer<'static>> {
    let tokens = endpoint.login.as_ref().and_then(|rule| rule.tokens.as_ref());
    let tokens = tokens.ok_or_else(|| ErrorAnswer::new(501, "nobody logs in here by a token"))?;
    let bad = |expected: &str| ErrorAnswer::new(400, format!("`body`: expected {expected}"));
    let checked = if let Body::Binary(bytes) = body {
        let request = LoginRequest::parse(bytes);
        tokens.check(request.ok_or_else(|| bad("LoginReq {1: token}"))?.token)
    } else {
        let request = body.parse::<JsonLogin<'_>>();
        tokens.check(&request.map_err(|e| bad(&format!("{{\"token\":…}}: {e}")))?.token)
    };
    checked.map_err(|error| ErrorAnswer::new(401, error.to_string()))
}

/// Answers in the form of the question: protobuf or JSON.
fn welcome(ctx: &mut Context<'_>, account: &str, body: Body<'_>) {
    let id = ctx.public_id();
    if matches!(body, Body::Binary(_)) {
        let mut bytes = Vec::new();
        LoginResponse { channel_id: id.as_str(), account }.put(&mut bytes);
        ctx.reply(&*bytes);
    } else {
        ctx.reply_json(&json!({ "id": id.as_str(), "user": account }));
    }
}

/// Logs out. System D's clients go then.
pub(super) fn logout(ctx: &mut Context<'_>, _: &Message<'_>) {
    if ctx.endpoint().closes_strangers() {
        // In this order: an answer behind a logout would wait for it, and come behind the Close.
        ctx.reply(Body::Json("null"));
        ctx.close(1000, "logged out");
        return ctx.logout();
    }
    ctx.logout();
    ctx.reply(Body::Json("null"));
}
