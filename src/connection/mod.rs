//! The life of one client, as a state machine without sockets or clocks: bytes and ticks come in,
//! messages and owed bytes come out.
//!
//! Invariants:
//! - an idle open connection owns no heap: its inbound state and its outbox are `None`;
//! - its state is plain data;
//! - whatever it writes itself is in the framing that it reads ([`Env::decoder`]);
//! - Close goes out behind the answers to everything that came before it (all handed-over messages
//!   settled, or the close deadline passed), and after it nothing is queued;
//! - nothing is read once the peer's Close, its EOF or a violation of its was seen.

mod ending;
mod inbound;
mod inflating;
mod life;
mod outbound;
mod outbox;
mod outbox_pool;
mod timers;

pub use inbound::{Ended, Inbound};
pub use inflating::Inflate;
pub use life::{Connection, Env, Phase, Received, Sink};
pub use outbound::{
    NO_BUDGET, NO_KEY, Outbound, OverflowPolicy, PublishTerms, SharedFrame, SharedKey,
};
pub use outbox::{Dropped, Outbox, Overflow, Room};
pub use outbox_pool::OutboxPool;
pub use timers::{Due, Tick, Timeouts, jittered};
