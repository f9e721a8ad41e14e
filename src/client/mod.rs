//! A client for servers of every dialect: calls that block, over one background thread.
//!
//! Invariants:
//! - One thread owns the socket and calls all that the user gave; every other thread has a
//!   [`Handle`], which takes a lock for the time of a few moves and never waits for the socket. Only
//!   that a message is not taken at all is told on the sender's own thread.
//! - No callback runs under the lock, so that each may use the handle; one that would wait for its
//!   own thread is told so instead ([`CallError::WouldBlock`]).
//! - What waits to be sent is bounded in messages and bytes; over it the sender is told.
//! - At most once: what was written to a connection is never sent again on another. A call that was
//!   sent ends with its connection; what was still waiting goes out on the next.
//! - Every call ends: by its answer, its time, its connection's end or the client's.
//! - After a Close nothing is sent.
//! - Before a login is answered, nothing but the login is sent.
//! - Whoever wants to know what became of a message is told so once.
//!
//! - Over TLS nothing is sent before the server's certificate is found good.
//!
//! Deliberately absent: extensions.
//!
//! ```
//! use std::time::Duration;
//! use tidegate::client::{Client, Options};
//! use tidegate::{Body, Dialect, JsonDialect};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let running = tidegate::Gateway::builder().listen(([127, 0, 0, 1], 0)).start()?;
//! # let url = format!("ws://{}/ws", running.addresses()[0]);
//! let options = Options::new(Dialect::Json(JsonDialect::default()))
//!     .route("publish", |_, told| println!("{:?}: {:?}", told.room, told.body));
//! let client = Client::connect(&url, options)?;
//! client.join("tea", Duration::from_secs(5))?;
//! let answer = client.request("echo", Body::Json("[1,2]"), Duration::from_secs(5))?;
//! assert_eq!(answer.as_body().parse::<[u8; 2]>()?, [1, 2]);
//! client.stop();
//! # running.stop(|| false);
//! # Ok(())
//! # }
//! ```

mod about;
mod backoff;
mod callbacks;
mod cause;
mod deflate;
mod dial;
mod driver;
mod handle;
mod heard;
mod incoming;
mod link;
mod options;
mod session;
mod speech;
mod stream;
mod tls;
mod url;
mod wait;

use std::fmt;
use std::ops::Deref;
use std::thread::{self, JoinHandle};

pub use about::About;
pub use backoff::Reconnect;
pub use cause::{CallError, Cause, CloseBegun, DialError, SendError, Side};
pub use handle::Handle;
pub use incoming::{Incoming, Responder};
pub use options::{Options, OwnedBody};
pub use tls::{Tls, TlsError, TlsFault};
pub use url::{ServerUrl, UrlError};

use self::driver::Driver;
use self::wait::Readiness;

/// A client, which ends when this is dropped; all that can be done with it, its [`Handle`] does.
pub struct Client {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Connects, and waits until the connection is open.
    ///
    /// # Errors
    /// Why the first try failed: then there is no client, whatever the options say of reconnects.
    pub fn connect(url: &str, options: Options) -> Result<Self, DialError> {
        let client = Self::start(url, options)?;
        client.handle.first_dial()?;
        Ok(client)
    }

    /// Begins to connect, and to try again if that fails, and does not wait for it.
    ///
    /// # Errors
    /// The URL cannot be used, nor spoken TLS to, or the system has no thread or descriptor left.
    pub fn start(url: &str, options: Options) -> Result<Self, DialError> {
        let url = ServerUrl::parse(url).map_err(DialError::Url)?;
        let secure = url.tls.then(|| options.tls.prepare(&url)).transpose();
        let secure = secure.map_err(DialError::TlsSettings)?;
        let (readiness, waker) = Readiness::new()?;
        let handle = Handle::new(options, waker);
        let driver = Driver::new(handle.clone(), url, secure, readiness);
        let thread = thread::Builder::new().name("tidegate-client".to_owned());
        let thread = Some(thread.spawn(move || driver.run())?);
        Ok(Self { handle, thread })
    }

    /// A handle, for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Sends what is queued, closes in order and waits for the end, all within the close timeout.
    ///
    /// From one of its own callbacks, it does not wait.
    pub fn stop(mut self) {
        self.handle.close();
        let own = self.handle.shared.thread.get() == Some(&thread::current().id());
        if let Some(thread) = self.thread.take().filter(|_| !own) {
            // Its callbacks' panics are caught: it has none of its own to tell of.
            let _ = thread.join();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.handle.close();
    }
}

impl Deref for Client {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}
