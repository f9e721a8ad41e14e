//! Plays the client's part of a transcript over raw sockets, and holds the server to its own.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::script::{Action, Part};
use crate::server::Server;

/// Longer than any answer takes on a machine under load: past it the server hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a failing test looks for what else there is, to show it.
const LAST_LOOK: Duration = Duration::from_millis(200);
/// What clients' frames are masked with: that of the examples in RFC 6455, 5.7.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The client's part.
pub(crate) struct Player<S> {
    start: S,
    server: Option<Server>,
    conns: BTreeMap<u32, TcpStream>,
    kept: HashMap<String, Vec<u8>>,
}

impl<S: Fn(&[String]) -> Server> Player<S> {
    /// With what starts the server.
    pub(crate) fn new(start: S) -> Self {
        Self { start, server: None, conns: BTreeMap::new(), kept: HashMap::new() }
    }

    /// Plays one step.
    ///
    /// # Errors
    /// What the server did instead, or what is wrong with the step.
    pub(crate) fn play(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Start(words) => {
                self.finish()?;
                self.server = Some((self.start)(words));
                Ok(())
            }
            Action::Open(conn, tcp) => self.open(*conn, *tcp),
            Action::Send(conn, opcode, parts) => {
                let payload = self.filled(parts)?;
                let bytes = opcode.map_or(payload.clone(), |opcode| masked(opcode, &payload));
                let mut stream = self.conn(*conn)?;
                stream.write_all(&bytes).map_err(|e| format!("it can't be sent: {e}"))
            }
            Action::Expect(conn, parts) => self.expect(*conn, parts),
            Action::End(conn) => {
                let stream = self.conn(*conn)?;
                let mut more = Vec::new();
                read(stream, &mut more, 1, |_| true)?;
                if !more.is_empty() {
                    return Err(format!("expected the end, got{}", shown(&more, stream)));
                }
                self.conns.remove(conn);
                Ok(())
            }
            Action::Vanish(conn) => self.conns.remove(conn).map(drop).ok_or(no_such(*conn)),
        }
    }

    /// Stops the server. All has to have been said by then.
    ///
    /// # Errors
    /// A connection has not ended, or the server did not stop cleanly.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        if let Some(conn) = self.conns.keys().next() {
            return Err(format!("connection {conn} has not ended"));
        }
        self.server.take().map_or(Ok(()), Server::stop)
    }

    fn open(&mut self, conn: u32, tcp: bool) -> Result<(), String> {
        let server = self.server.as_ref().ok_or("no server was started")?;
        let address = server.address(tcp).ok_or("the server does not listen for that")?;
        let stream = patient(address).map_err(|e| format!("can't connect: {e}"))?;
        match self.conns.insert(conn, stream) {
            Some(_) => Err(format!("connection {conn} has not ended")),
            None => Ok(()),
        }
    }

    fn conn(&self, conn: u32) -> Result<&TcpStream, String> {
        self.conns.get(&conn).ok_or(no_such(conn))
    }

    /// Holds what comes to one part after the other, so that what differs is found out at once.
    fn expect(&mut self, conn: u32, parts: &[Part]) -> Result<(), String> {
        let stream = self.conn(conn)?.try_clone().map_err(|e| e.to_string())?;
        let mut got = Vec::new();
        for part in parts {
            let begin = got.len();
            let differs = |at: usize, got: &[u8]| {
                let got = shown(got, &stream);
                Err(format!("byte {} is not what was expected; got{got}", begin + at))
            };
            match part {
                Part::Blank(form, name) => {
                    read(&stream, &mut got, form.len(), |_| true)?;
                    if got.len() - begin < form.len() || !form.fits(&got[begin..]) {
                        return differs(0, &got);
                    }
                    if let Some(name) = name {
                        self.kept.insert(name.clone(), got[begin..].to_vec());
                    }
                }
                Part::Bytes(_) | Part::Again(_) => {
                    let want = self.known(part)?;
                    read(&stream, &mut got, want.len(), |so_far| want.starts_with(so_far))?;
                    let same = got[begin..].iter().zip(want).take_while(|(a, b)| a == b).count();
                    if same < want.len() {
                        return differs(same, &got);
                    }
                }
            }
        }
        Ok(())
    }

    fn known<'p>(&'p self, part: &'p Part) -> Result<&'p [u8], String> {
        match part {
            Part::Bytes(bytes) => Ok(bytes),
            Part::Again(name) => {
                let kept = self.kept.get(name).map(Vec::as_slice);
                kept.ok_or_else(|| format!("nothing was kept as `{name}`"))
            }
            Part::Blank(form, _) => Err(format!("a client has to say which {form:?}")),
        }
    }

    /// The bytes of parts that the client sends.
    fn filled(&self, parts: &[Part]) -> Result<Vec<u8>, String> {
        let known: Result<Vec<_>, _> = parts.iter().map(|part| self.known(part)).collect();
        Ok(known?.concat())
    }
}

fn no_such(conn: u32) -> String {
    format!("connection {conn} is not open")
}

fn patient(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A client's frame with FIN (RFC 6455, 5.2).
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        len @ ..126 => frame.push(0x80 | len as u8),
        len @ ..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Reads so many bytes more, or fewer where the stream ends or what came so far is no `good`.
fn read(
    mut stream: &TcpStream,
    bytes: &mut Vec<u8>,
    length: usize,
    good: impl Fn(&[u8]) -> bool,
) -> Result<(), String> {
    let begin = bytes.len();
    let mut chunk = vec![0; length];
    while bytes.len() - begin < length && good(&bytes[begin..]) {
        match stream.read(&mut chunk[..length - (bytes.len() - begin)]) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(format!("{e}, behind{}", shown(bytes, stream))),
        }
    }
    Ok(())
}

/// Bytes as transcripts write them, with what else there is to be read, up to a length.
fn shown(bytes: &[u8], mut stream: &TcpStream) -> String {
    let mut all = bytes.to_vec();
    let mut more = [0; 1024];
    // Where it can't be set, what was read is all that is shown.
    if stream.set_read_timeout(Some(LAST_LOOK)).is_ok() {
        while all.len() < bytes.len() + more.len()
            && let Ok(n @ 1..) = stream.read(&mut more)
        {
            all.extend_from_slice(&more[..n]);
        }
    }
    let mut text = String::new();
    let mut is_quoted = false;
    for byte in all {
        let is_text = matches!(byte, b' '..=b'~' | b'\r' | b'\n');
        if is_text != is_quoted {
            text.push_str(if is_text { " '" } else { "'" });
            is_quoted = is_text;
        }
        let _ = match byte {
            b'\r' => write!(text, "\\r"),
            b'\n' => write!(text, "\\n"),
            b'\'' | b'\\' => write!(text, "\\{}", byte as char),
            byte if is_text => write!(text, "{}", byte as char),
            byte => write!(text, " {byte:02X}"),
        };
    }
    if is_quoted { text + "'" } else { text }
}
