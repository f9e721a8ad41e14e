//! Who connections are, and which connections a user has.
//!
//! Invariants:
//! - a user has one home shard (by hash of the name); logins and logouts pass through it and through
//!   nothing else, so of two that race one is first, and what the policy says holds between them;
//! - a login belongs to its connection: nothing but that connection's end, its logout or its
//!   displacement removes it, however late;
//! - one that is displaced is no login of its user's from then on;
//! - a token is signed by HS256 or is none, and nothing tells the secret.

mod identity;
mod info;
mod policy;
mod token;
mod users;

pub use identity::{Charset, Identity, IdentityError};
pub use info::{ConnectionInfo, SlotInfo};
pub use policy::SessionPolicy;
pub use token::{Claims, TokenError, Tokens};
pub use users::{Login, LoginRefused, Users};
