//! From a message to the handler it is for, and what a handler can do.
//!
//! Invariants:
//! - one connection's messages are handled in the order in which they came;
//! - a handler's panic is caught, counted and answered with an error; it never takes a thread down;
//! - nothing a handler does blocks its thread on another lane.

mod admission;
#[allow(dead_code, reason = "for the shards to use")]
mod asks;
mod builtin;
mod context;
mod endpoint;
mod gateway;
mod origin;
mod path;
mod store;
#[allow(dead_code, reason = "for endpoints to use")]
mod table;
mod typed;

pub use admission::{Accept, Admission, ConnectRequest, Refuse, Verdict};
pub use context::{Context, Responder, SelfDelivery};
pub use endpoint::{Endpoint, EndpointId, Handler, OnConnect};
pub use gateway::{Gateway, Gone};
pub use origin::{OriginError, OriginPattern, Origins};
pub use path::{Params, PathPattern, PatternError, Template};
pub use store::{Store, StoreError, Value};
pub use typed::{json_handler, proto_handler};

pub(crate) use context::{Effects, Parts, Sessions, is_room_name};
pub(crate) use endpoint::OnConnectDebug;
pub(crate) use gateway::{Deferred, adopt_executor, take_deferred};
