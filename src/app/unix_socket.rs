//! Listening on Unix-domain sockets, and their files.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::Config;
use crate::reactor::listen;

/// The file of a socket that is listened on. Dropped, it is removed, unless another has taken its
/// place; to be dropped before the socket is closed, which until then keeps its inode's number.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), inode: inode_of(&fs::symlink_metadata(path)?) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = |found: fs::Metadata| inode_of(&found) == self.inode;
        if !fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            return;
        }
        if let Err(e) = fs::remove_file(&self.path) {
            log::warn!("{} is left behind: {e}", self.path.display());
        }
    }
}

fn inode_of(file: &fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Listens on a socket with a file. One that nobody listens on any more is replaced.
///
/// # Errors
/// What is there instead, or what the kernel says.
pub(super) fn bind(path: &Path, config: &Config) -> io::Result<(Socket, SocketFile)> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    match socket.bind(&address) {
        Err(e) if e.kind() == ErrorKind::AddrInUse => {
            remove_stale(path, &address)?;
            socket.bind(&address)?;
        }
        result => result?,
    }
    let file = SocketFile::of(path)?;
    if let Some(mode) = config.sockets.unix_mode {
        // Before it listens: nobody can have connected under another mode.
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    listen(&socket, config)?;
    Ok((socket, file))
}

/// Listens on a socket with a name and no file.
///
/// # Errors
/// What the kernel says.
pub(super) fn bind_abstract(name: &str, config: &Config) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(format!("\0{name}"))?)?;
    listen(&socket, config)?;
    Ok(socket)
}

/// Removes the file of a socket that nobody listens on, and no other file.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if !found.file_type().is_socket() {
        let what = "there is a file of this name that is no socket; it is left alone";
        return Err(io::Error::new(ErrorKind::AlreadyExists, what));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => {}
        // A full backlog is somebody's.
        Err(e) if e.kind() != ErrorKind::WouldBlock => {
            let what = format!("there is a socket, and nothing says whether it is in use: {e}");
            return Err(io::Error::new(e.kind(), what));
        }
        _ => return Err(io::Error::new(ErrorKind::AddrInUse, "somebody listens there")),
    }
    if inode_of(&fs::symlink_metadata(path)?) != inode_of(&found) {
        return Err(io::Error::new(ErrorKind::AddrInUse, "somebody else is about to listen there"));
    }
    log::info!("{}: nobody listens on this socket any more; it is replaced", path.display());
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_file_has_its_mode_and_goes_with_its_socket() {
        let folder = folder();
        let path = folder.path().join("a.sock");
        let mut config = Config::default();
        config.sockets.unix_mode = Some(0o606);
        let (socket, file) = bind(&path, &config).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o7777, 0o606);
        UnixStream::connect(&path).unwrap();
        drop(file);
        assert!(!path.exists());
        drop(socket);
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = folder();
        let path = folder.path().join("a.sock");
        let config = Config::default();
        drop(UnixListener::bind(&path).unwrap());
        let (_socket, _file) = bind(&path, &config).expect("nobody listens");
        let error = bind(&path, &config).expect_err("somebody listens");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert_eq!(error.to_string(), "somebody listens there");
        UnixStream::connect(&path).expect("undisturbed");
    }

    #[test]
    fn no_other_file_is_ever_removed() {
        let folder = folder();
        let (path, config) = (folder.path().join("a.sock"), Config::default());
        fs::write(&path, "precious").unwrap();
        let error = bind(&path, &config).expect_err("a file");
        assert!(error.to_string().contains("no socket"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        // Nor one that a name leads to from elsewhere.
        let (target, link) = (folder.path().join("b.sock"), folder.path().join("link.sock"));
        drop(UnixListener::bind(&target).unwrap());
        std::os::unix::fs::symlink(&target, &link).unwrap();
        bind(&link, &config).expect_err("a link");
        assert!(target.exists() && link.exists());
    }

    #[test]
    fn whoever_has_taken_the_place_keeps_it() {
        let folder = folder();
        let path = folder.path().join("a.sock");
        let (_socket, file) = bind(&path, &Config::default()).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(file);
        UnixStream::connect(&path).expect("still there");
    }

    #[test]
    fn a_name_without_a_file_can_be_connected_to() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("tidegate-test-{}", std::process::id());
        let _socket = bind_abstract(&name, &Config::default()).unwrap();
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        UnixStream::connect_addr(&address).unwrap();
        assert!(bind_abstract(&name, &Config::default()).is_err());
    }
}
