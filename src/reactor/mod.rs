//! The event loops: the only room with sockets.
//!
//! Invariants:
//! - one thread touches a socket, for all its life; types that own a loop's sockets are not `Send`;
//! - a slot is freed only after the event batch, and after its shard has accepted its `Closed`;
//! - each loop has a listener of its own at an IP address; what can't be had twice (a Unix-domain socket,
//!   a passed one) has one loop that accepts from it, and passes on what is too much for it;
//! - what a socket came in over (the endpoint, for plain TCP) goes with it wherever it passes;
//! - registrations are edge-triggered: whatever stops for a budget is on the run queue, and while
//!   that is not empty the loop polls without waiting;
//! - each turn has budgets for reads, bytes, accepts and flushes; a loop never blocks and never
//!   panics;
//! - the mailbox is always drained, whatever else the loop waits for, and draining it posts nothing.

mod accept;
mod batches;
mod deadlines;
mod deflate;
mod drain;
mod event_loop;
mod fd_table;
mod flush;
mod gate;
mod handshake;
mod listener;
mod mailbox;
mod memory;
mod proxy;
mod quota;
mod read;
mod table;
mod tls;
mod topics;

pub use accept::Acceptor;
pub use event_loop::{EventLoop, LoopParts, Routing, WAKER};
pub use fd_table::{HandOver, close_copies, leave_shared_table};
pub use listener::{
    ListenAt, Listener, bind_tcp, listen, open_listeners, set_tcp_options, shared_fds,
};
pub use table::{Marks, Slot, Table};
