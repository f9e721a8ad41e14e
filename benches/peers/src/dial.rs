//! How generators open connections: many, quickly, each with its opening handshake.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, Socket, Type};

use crate::wire::{is_accepted, is_whole_head};

/// Connections under way at once: fewer than any server's backlog.
const WINDOW: usize = 100;
/// Connections from one source address: well below its ports, as finding a free one takes longer the
/// more are taken.
const PER_SOURCE: usize = 7_000;
/// How long a server may take for one answer while connections are opened.
const PATIENCE: Duration = Duration::from_secs(20);

/// Opens connections `range` to `target`, each with `request` answered by an upgrade, if there is
/// one. They come back non-blocking, and send a reset when they are dropped, which leaves no
/// `TIME_WAIT` behind.
///
/// # Errors
/// A connection was refused, or the answer was not what it must be.
pub fn open_all(
    target: SocketAddr,
    request: Option<&[u8]>,
    range: std::ops::Range<usize>,
) -> io::Result<Vec<mio::net::TcpStream>> {
    let mut all = Vec::with_capacity(range.len());
    let mut next = range.start;
    while next < range.end {
        let to = range.end.min(next + WINDOW);
        let mut window: Vec<_> = (next..to).map(|n| open(target, n)).collect::<Result<_, _>>()?;
        if let Some(request) = request {
            window.iter_mut().try_for_each(|stream| stream.write_all(request))?;
            window.iter_mut().try_for_each(await_upgrade)?;
        }
        for stream in window {
            stream.set_nonblocking(true)?;
            all.push(mio::net::TcpStream::from_std(stream));
        }
        next = to;
    }
    Ok(all)
}

/// The source address of connection `n` to `target`: spread over 127.0.0.2, … where the target is
/// on loopback.
fn source(target: SocketAddr, n: usize) -> Option<IpAddr> {
    let spread = u32::try_from(n / PER_SOURCE).unwrap_or(0);
    match target.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => {
            Some(IpAddr::V4(Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(127, 0, 0, 2)) + spread)))
        }
        _ => None,
    }
}

/// A socket bound to the source of connection `n`, its port left to `connect`; it sends a reset when
/// it is dropped.
fn socket(target: SocketAddr, n: usize) -> io::Result<Socket> {
    let kind = Type::STREAM.cloexec();
    let socket = Socket::new_raw(Domain::for_address(target), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    if let Some(source) = source(target, n) {
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

/// Connection `n` to `target` with `request` sent and not answered yet; it comes back non-blocking.
///
/// # Errors
/// The connection was refused.
pub fn ask(target: SocketAddr, n: usize, request: &[u8]) -> io::Result<mio::net::TcpStream> {
    let mut stream = open(target, n)?;
    stream.write_all(request)?;
    stream.set_nonblocking(true)?;
    Ok(mio::net::TcpStream::from_std(stream))
}

fn open(target: SocketAddr, n: usize) -> io::Result<TcpStream> {
    let socket = socket(target, n)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(&target.into())?;
    Ok(socket.into())
}

fn await_upgrade(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !is_whole_head(&head) {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => head.extend_from_slice(&buffer[..count]),
        }
    }
    if is_accepted(&head) {
        return Ok(());
    }
    Err(io::Error::other(format!("no upgrade: {}", String::from_utf8_lossy(&head))))
}
