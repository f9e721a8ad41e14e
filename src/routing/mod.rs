//! From a message to the handler it is for, and what a handler can do.
//!
//! Invariants:
//! - one connection's messages are handled in the order in which they came;
//! - a handler's panic is caught, counted and answered with an error; it never takes a thread down;
//! - nothing a handler does blocks its thread on another lane.

mod admission;
mod asks;
mod builtin;
mod context;
mod door;
mod endpoint;
mod gateway;
mod hooks;
mod identity;
mod login;
mod origin;
mod path;
mod route;
mod session;
mod sessions;
mod store;
mod table;
mod timeouts;
mod twins;
mod typed;
mod work;

pub use admission::{Accept, Admission, ConnectRequest, Refuse, Verdict};
pub use builtin::{handler, handler_names};
pub use context::{AskError, Context, Responder, SelfDelivery};
pub use door::Door;
pub use endpoint::{Endpoint, EndpointId, Liveness, OnConnect, Runner};
pub use gateway::{Gateway, Gone};
pub use hooks::Ended;
pub use identity::{IdentityPart, IdentitySource};
pub use login::LoginRule;
pub use origin::{OriginError, OriginPattern, OriginRule, Origins};
pub use path::{Params, PathPattern, PatternError, Template};
pub use route::{After, Before, Flow, Handler, Route, RunOn};
pub use store::{Store, StoreError, Value};
pub use typed::{json_handler, proto_handler};
pub use work::{Work, WorkCell};

pub(crate) use asks::Asks;
pub(crate) use builtin::default_endpoints;
pub(crate) use context::{Away, Effects, Parts, Pending, Place, is_room_name, ticks};
pub(crate) use endpoint::OnConnectDebug;
pub(crate) use gateway::{Deferred, Permits, adopt_executor, take_deferred};
pub(crate) use hooks::Notices;
pub(crate) use login::{STRANGER, keys as login_keys, refusal};
pub(crate) use session::{Facts, Pull, Session};
pub(crate) use sessions::Sessions;
pub(crate) use table::{RouteTable, check_key};
pub(crate) use timeouts::Timeouts;
pub(crate) use twins::{Twins, add_twins};
pub(crate) use work::{Describe, Finish, What, run_actions};

/// The examples of the manual, which are run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/HANDLERS.md")]
struct Manual;
