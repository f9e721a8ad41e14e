//! tidegate: a WebSocket edge gateway.
//!
//! A fixed set of event-loop threads parse frames in place and hand decoded messages over bounded
//! channels to a worker pool, which does the routing. The rooms of the house and their invariants:
//! `docs/ARCHITECTURE.md`.
//!
//! [`Gateway::builder`] begins a gateway with handlers in Rust. A handler answers through its
//! [`Context`], at once or [later](Context::later); from any other thread a [`Gateway`] handle
//! pushes, publishes and closes.
//!
//! ```
//! use tidegate::{Body, Gateway};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let running = Gateway::builder()
//!     .listen(([127, 0, 0, 1], 0))
//!     .route("greet", |ctx, message| match message.body.parse::<String>() {
//!         Ok(name) => ctx.reply(Body::Text(&format!("hello {name}"))),
//!         Err(e) => ctx.reply_error(400, &e.to_string()),
//!     })
//!     .start()?;
//!
//! let addr = running.addresses()[0];
//! let stream = std::net::TcpStream::connect(addr)?;
//! let (mut client, _) = tungstenite::client(format!("ws://{addr}/ws"), stream)?;
//! client.send(r#"{"route":"greet","id":1,"body":"sea"}"#.into())?;
//! assert_eq!(client.read()?.into_text()?.as_str(), r#"{"id":1,"body":"hello sea"}"#);
//!
//! drop(client);
//! let (stopped, _) = running.stop(|| false);
//! assert_eq!(stopped, tidegate::Stopped::Clean);
//! # Ok(())
//! # }
//! ```
//!
//! `examples/echo.rs` and `examples/chat.rs` show the rest.

pub mod app;
pub mod channels;
pub mod client;
pub mod config;
pub mod connection;
pub mod dialect;
pub mod id;
pub mod limits;
pub mod logging;
pub mod peer;
pub mod preflight;
pub mod protocol;
pub mod public_id;
pub mod quota;
pub mod reactor;
pub mod routing;
pub mod session;
pub mod telemetry;
pub mod transport;
pub mod worker;

pub use app::{GatewayBuilder, Running, StartError, Stopped};
pub use config::{Config, FdTable, ListenAddr, TcpListen};
pub use connection::{Outbound, OverflowPolicy};
pub use dialect::{
    Ask, AskId, Body, Content, CustomDialect, Dialect, ErrorAnswer, JsonDialect, Key, Kind,
    Message, Meta, NotUnderstood, Push,
};
pub use id::ConnId;
pub use protocol::{MessageKind, TcpFraming};
pub use public_id::PublicId;
pub use quota::{Over, Rate};
pub use routing::{
    Accept, Admission, AskError, ConnectRequest, Context, Ended, Endpoint, Flow, Gateway, Gone,
    IdentityPart, IdentitySource, Liveness, LoginRule, Origins, Params, Refuse, Responder, Route,
    RunOn, SelfDelivery, Store, Verdict,
};
pub use session::{Claims, ConnectionInfo, Identity, SessionPolicy, Tokens};
