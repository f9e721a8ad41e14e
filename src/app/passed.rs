//! Sockets that the service manager passes: systemd's socket activation.

use std::collections::BTreeSet;
use std::io;

use listenfd::ListenFd;
use socket2::{Domain, SockAddr, Socket};

use crate::config::{Config, ListenAddr};
use crate::reactor::{listen, set_tcp_options};

/// What a socket is called that came without a name, as `sd_listen_fds_with_names` has it.
const NAMELESS: &str = "unknown";

/// The sockets that were passed and that no listener has taken yet, in their order, by name.
#[derive(Debug, Default)]
pub(super) struct PassedSockets {
    sockets: Vec<(String, Option<Socket>)>,
    /// Those that are asked for by name.
    asked_for: BTreeSet<String>,
}

impl PassedSockets {
    /// Takes what was passed to this process, if anything is asked for: by name, or by the empty name
    /// what has no taker. Variables that say what was passed are gone afterwards, so that no child
    /// takes them for its own.
    ///
    /// # Errors
    /// A descriptor that is no listening stream socket.
    pub(super) fn take(asked_for: &BTreeSet<String>) -> io::Result<Self> {
        if asked_for.is_empty() {
            return Ok(Self::default());
        }
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let name = names.next().filter(|name| !name.is_empty());
            let name = name.unwrap_or_else(|| NAMELESS.to_owned());
            let socket = take_one(&mut passed, index).map_err(|e| {
                io::Error::new(e.kind(), format!("passed socket {index} ({name}): {e}"))
            })?;
            sockets.push((name, Some(socket)));
        }
        Ok(Self { sockets, asked_for: asked_for.clone() })
    }

    /// The sockets of a name; without one, those that nobody asks for by name. Each with its address.
    ///
    /// # Errors
    /// That there is none, or what the kernel says.
    pub(super) fn named(
        &mut self,
        name: Option<&str>,
        config: &Config,
    ) -> io::Result<Vec<(ListenAddr, Socket)>> {
        let mut found = Vec::new();
        for (own, socket) in &mut self.sockets {
            let fits = match name {
                Some(name) => name == own,
                None => !self.asked_for.contains(own),
            };
            if let Some(socket) = socket.take_if(|_| fits) {
                found.push(made_ready(socket, config)?);
            }
        }
        if found.is_empty() { Err(self.none_passed()) } else { Ok(found) }
    }

    /// Says which sockets no listener takes.
    pub(super) fn warn_of_rest(&self) {
        for (name, _) in self.sockets.iter().filter(|(_, socket)| socket.is_some()) {
            log::warn!("a socket was passed as {name}, and no listener takes it: systemd:{name}");
        }
    }

    fn none_passed(&self) -> io::Error {
        let names: Vec<_> = self.sockets.iter().map(|(name, _)| name.as_str()).collect();
        let what = if names.is_empty() {
            "no sockets were passed to this process (LISTEN_FDS, LISTEN_PID)".to_owned()
        } else {
            format!("no such socket was passed, but {}", names.join(", "))
        };
        io::Error::new(io::ErrorKind::NotFound, what)
    }
}

fn take_one(passed: &mut ListenFd, index: usize) -> io::Result<Socket> {
    let is_unix = passed.take_custom::<Socket>(
        index,
        libc::AF_UNIX,
        libc::SOCK_STREAM,
        "stream socket of Unix",
    );
    let socket = match is_unix {
        Ok(socket) => socket,
        Err(_) => passed.take_custom(
            index,
            libc::AF_INET,
            libc::SOCK_STREAM,
            "stream socket (ListenStream= of TCP or Unix)",
        )?,
    };
    let socket = socket.ok_or_else(|| io::Error::other("it was taken before"))?;
    if socket.is_listener()? {
        Ok(socket)
    } else {
        Err(io::Error::other("it does not listen: the socket unit has to say Accept=no"))
    }
}

/// Gives a passed socket the options that one of the gateway's own has.
fn made_ready(socket: Socket, config: &Config) -> io::Result<(ListenAddr, Socket)> {
    let address = address_of(&socket.local_addr()?)?;
    if socket.domain()? != Domain::UNIX {
        set_tcp_options(&socket, config)?;
    }
    listen(&socket, config)?;
    Ok((address, socket))
}

fn address_of(address: &SockAddr) -> io::Result<ListenAddr> {
    if let Some(addr) = address.as_socket() {
        return Ok(addr.into());
    }
    if let Some(path) = address.as_pathname() {
        return Ok(ListenAddr::Unix(path.to_owned()));
    }
    match address.as_abstract_namespace() {
        Some(name) => Ok(ListenAddr::Abstract(String::from_utf8_lossy(name).into_owned())),
        None => Err(io::Error::other("it has no address")),
    }
}
