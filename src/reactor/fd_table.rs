//! Private descriptor tables, and sockets that pass between them.
//!
//! A descriptor number means something only in the table it was made in; used in another it wakes
//! nobody, or writes into a client's socket. So: whatever several threads use (polls, wakers,
//! hand-over sockets) is made by the main thread first, at low numbers, before any loop leaves the
//! process's table, and is never closed while loops run. All else a loop opens is its own.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use socket2::Socket;

/// Leaves the process's descriptor table for a copy without the descriptors from `first` on and
/// without `others`. To be called by a loop's thread before it opens anything.
///
/// # Errors
/// What the kernel says, where it knows neither `close_range` nor `unshare`.
pub fn leave_shared_table(first: RawFd, others: &[RawFd]) -> io::Result<()> {
    part_from(first)?;
    others.iter().filter(|fd| **fd < first).try_for_each(close_copy)
}

/// Closes, in the table of a loop that has [left](leave_shared_table) the process's, what it kept of
/// that only to take something over. Once: the numbers may be others' afterwards.
///
/// # Errors
/// What the kernel says.
pub fn close_copies(fds: &[RawFd]) -> io::Result<()> {
    fds.iter().try_for_each(close_copy)
}

/// In this thread's own copy of the table: the owner's descriptor stays as it is.
fn close_copy(fd: &RawFd) -> io::Result<()> {
    nix::unistd::close(*fd).map_err(io::Error::from)
}

fn part_from(first: RawFd) -> io::Result<()> {
    let first = libc::c_uint::try_from(first).map_err(io::Error::other)?;
    // SAFETY: the call takes no pointers. It closes descriptors from `first` on, but in a copy of
    // the table that it makes for this thread: owners on other threads keep theirs, and this
    // thread has opened none yet (caller's obligation), so no owned descriptor is pulled away.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_UNSHARE as libc::c_uint,
        )
    };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::ENOSYS) {
        return Err(error);
    }
    // Kernels before 5.9: the copy keeps what it need not, which costs numbers but no safety.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES).map_err(io::Error::from)
}

/// Both ends of the way by which sockets reach one loop. Non-blocking, message by message.
#[derive(Debug)]
pub struct HandOver {
    tx: OwnedFd,
    rx: OwnedFd,
}

impl HandOver {
    /// Makes one. By the main thread, before loops leave its table.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new() -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let (tx, rx) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok(Self { tx, rx })
    }

    /// The end that the loop polls.
    #[must_use]
    pub fn receiving_fd(&self) -> RawFd {
        self.rx.as_raw_fd()
    }

    /// The highest of its numbers.
    #[must_use]
    pub fn highest_fd(&self) -> RawFd {
        self.tx.as_raw_fd().max(self.rx.as_raw_fd())
    }

    /// Passes a socket, and a word about it. It is closed here once the kernel has it.
    ///
    /// # Errors
    /// The socket comes back, with what the kernel says; `WouldBlock` where many are on their way.
    pub fn send(&self, socket: Socket, word: u32) -> Result<(), (Socket, io::Error)> {
        let fds = [socket.as_raw_fd()];
        let message = [ControlMessage::ScmRights(&fds)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let word = word.to_ne_bytes();
        match sendmsg::<()>(self.tx.as_raw_fd(), &[IoSlice::new(&word)], &message, flags, None) {
            Ok(_) => Ok(()),
            Err(e) => Err((socket, e.into())),
        }
    }

    /// Takes the next socket, and the word about it.
    ///
    /// # Errors
    /// `WouldBlock` where none is on its way; otherwise what the kernel says. A message whose
    /// socket did not fit this table is reported as `OutOfMemory`: the socket is lost.
    pub fn receive(&self) -> io::Result<(Socket, u32)> {
        let mut word = [0; 4];
        let mut slices = [IoSliceMut::new(&mut word)];
        let mut space = nix::cmsg_space!([RawFd; 1]);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(self.rx.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
        // Truncated control data is an error to nix: it is how the kernel says that the descriptor
        // did not fit this table.
        let mut controls = message.cmsgs().into_iter().flatten();
        let passed = controls.find_map(|control| match control {
            ControlMessageOwned::ScmRights(fds) => fds.first_chunk().copied(),
            _ => None,
        });
        if let Some([fd]) = passed {
            // SAFETY: the kernel made this descriptor in this thread's table for this very
            // message; nothing else knows its number yet, so it is owned here alone.
            let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(fd) });
            return Ok((socket, u32::from_ne_bytes(word)));
        }
        Err(io::Error::new(io::ErrorKind::OutOfMemory, "no room for a passed descriptor"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn sockets_pass_between_tables() {
        let way = HandOver::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (served, _) = listener.accept().unwrap();
                way.send(Socket::from(served), 0x0102).unwrap();
            });
            let first = way.highest_fd().max(listener.as_raw_fd()).max(client.as_raw_fd()) + 1;
            let way = &way;
            scope.spawn(move || {
                leave_shared_table(first, &[]).unwrap();
                let mut socket = loop {
                    match way.receive() {
                        Ok((socket, word)) => {
                            assert_eq!(word, 0x0102);
                            break socket;
                        }
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                            std::thread::yield_now();
                        }
                        Err(e) => panic!("{e}"),
                    }
                };
                socket.write_all(b"from the other table").unwrap();
            });
        });
        let mut got = String::new();
        client.read_to_string(&mut got).unwrap();
        assert_eq!(got, "from the other table");
    }

    #[test]
    fn what_a_loop_opens_is_not_in_the_main_table() {
        let (tx, rx) = std::sync::mpsc::channel();
        let (done_tx, done_rx) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let highest = OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
            let first = highest.as_raw_fd() + 1;
            leave_shared_table(first, &[]).unwrap();
            let mine: Vec<_> = (0..64).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
            let links: Vec<_> = mine
                .iter()
                .map(|l| std::fs::read_link(format!("/proc/thread-self/fd/{}", l.as_raw_fd())))
                .map(Result::unwrap)
                .collect();
            tx.send(links).unwrap();
            let _ = done_rx.recv();
        });
        let links = rx.recv().unwrap();
        let main: Vec<_> = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
            .collect();
        assert!(links.iter().all(|link| !main.contains(link)));
        drop(done_tx);
        thread.join().unwrap();
    }
}
