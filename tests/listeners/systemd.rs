//! Sockets passed as systemd passes them, and what it is told.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::support::client::Client;
use super::support::{self, Gateway};
use super::tcp_client::TcpClient;

/// Longer than anything here takes on a machine under load: past it the gateway hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command that starts `tidegate` with two sockets passed under these names, joined by a colon.
/// A shell stands in for the service manager: it gives the sockets the numbers from 3 on, and by
/// `exec` its own id.
fn with_passed(names: &str, sockets: [OwnedFd; 2]) -> Command {
    let binary = support::command();
    let mut shell = Command::new("sh");
    for (name, _) in binary.get_envs() {
        shell.env_remove(name);
    }
    let script =
        "export LISTEN_PID=$$ LISTEN_FDS=2; exec \"$0\" \"$@\" 3<&0 4<&1 </dev/null >/dev/null";
    shell.arg("-c").arg(script).arg(binary.get_program());
    if !names.is_empty() {
        shell.env("LISTEN_FDNAMES", names);
    }
    let [first, second] = sockets;
    shell.stdin(Stdio::from(first)).stdout(Stdio::from(second)).stderr(Stdio::piped());
    shell
}

/// Where service managers listen for what they are told.
struct Manager {
    folder: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { folder, socket }
    }

    fn start(&self, environment: &[(&str, &str)], args: &[&str]) -> Gateway {
        let mut command = support::command();
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        command.envs(environment.iter().copied());
        Gateway::start_by(command, &[&["--listen", "127.0.0.1:0"], args].concat())
    }

    /// The next message.
    fn told(&self) -> String {
        let mut bytes = [0; 4096];
        let n = self.socket.recv(&mut bytes).expect("it is told something");
        String::from_utf8(bytes[..n].to_vec()).unwrap()
    }

    /// The first message with this in it.
    fn told_of(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.told();
            if told.contains(text) {
                return told;
            }
            assert!(Instant::now() < deadline, "never told of {text}; last {told}");
        }
    }
}

fn tcp() -> (SocketAddr, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.local_addr().unwrap(), listener.into())
}

fn open_unix(path: &Path) -> Client {
    let mut client = Client::over_unix(UnixStream::connect(path).unwrap());
    client.upgrade("/echo");
    client
}

#[test]
fn passed_sockets_are_what_is_listened_on_where_nothing_else_is_named() {
    for table in ["shared", "private"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passed.sock");
        let unix = UnixListener::bind(&path).unwrap();
        let (addr, tcp) = tcp();
        // A client that came before the gateway did.
        let mut early = Client::dial(addr);
        let command = with_passed("", [tcp, unix.into()]);
        let gateway = Gateway::start_by(command, &["--loops", "3", "--fd-table", table]);
        gateway.stderr_until(&format!("listening on unix:{}", path.display()));
        assert_eq!(gateway.addr, addr);
        early.upgrade("/echo");
        early.echoes(b"was waiting");
        let mut clients: Vec<_> = (0..50).map(|_| Client::echo(addr)).collect();
        clients.extend((0..50).map(|_| open_unix(&path)));
        clients.iter_mut().for_each(|client| client.echoes(b"passed"));
        drop((clients, early));
        let (status, stats) = gateway.stop_for_stats();
        assert!(status.success());
        for each in stats["loops"].as_array().unwrap() {
            assert!(each["opened"].as_u64().unwrap() > 15, "{table}: {stats:#}");
        }
        assert!(path.exists(), "its file is the service manager's");
    }
}

#[test]
fn each_passed_socket_goes_to_who_names_it() {
    for table in ["shared", "private"] {
        let ((web, first), (frames, second)) = (tcp(), tcp());
        let command = with_passed("frames:web", [second, first]);
        let args = ["--tcp-listen", "systemd:frames=/echo", "--listen", "systemd"];
        let args = [&args[..], &["--listen", "127.0.0.1:0", "--fd-table", table]].concat();
        let gateway = Gateway::start_by(command, &args);
        gateway.stderr_until(&format!("listening on {frames} for /echo over plain TCP"));
        Client::echo(web).echoes(b"the rest");
        TcpClient::dial(frames).echoes(2, b"by name");
        assert!(gateway.stop().success());
    }
}

#[test]
fn what_is_not_passed_or_does_not_listen_is_told() {
    let told = |names: &str, sockets: [OwnedFd; 2], args: &[&str]| {
        let output = with_passed(names, sockets).args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    };
    let said = told("a:b", [tcp().1, tcp().1], &["--listen", "systemd:c"]);
    let wanted = "cannot listen on systemd:c: no such socket was passed, but a, b (--listen)";
    assert!(said.contains(wanted), "{said}");
    let (connected, _other) = UnixStream::pair().unwrap();
    let said = told("a:b", [tcp().1, connected.into()], &["--listen", "systemd"]);
    assert!(said.contains("passed socket 1 (b)") && said.contains("Accept=no"), "{said}");
    let said = told("a:b", [tcp().1, UnixDatagram::unbound().unwrap().into()], &[]);
    assert!(said.contains("passed socket 1 (b)") && said.contains("ListenStream="), "{said}");
    let output = support::command().args(["--listen", "systemd"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no sockets were passed to this process"), "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
}

#[test]
fn a_socket_that_nobody_takes_is_warned_of() {
    let command = with_passed("web:forgotten", [tcp().1, tcp().1]);
    let gateway = Gateway::start_by(command, &["--listen", "systemd:web"]);
    gateway.stderr_until("a socket was passed as forgotten, and no listener takes it");
    assert!(gateway.stop().success());
}

#[test]
fn what_is_passed_to_another_process_is_not_taken() {
    let mut command = support::command();
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    let output = command.args(["--listen", "systemd"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no sockets were passed"), "{said}");
}

/// systemd's own way to try services out.
#[test]
fn systemd_activates_it() {
    // Its port is its own to bind: one that was free a moment ago.
    let (addr, socket) = tcp();
    drop(socket);
    let binary = support::command();
    let mut command = Command::new("systemd-socket-activate");
    for (name, _) in binary.get_envs() {
        command.env_remove(name);
    }
    command.args(["--listen", &addr.to_string(), "--fdname", "http"]);
    command.arg(binary.get_program()).args(["--listen", "systemd:http"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => panic!("systemd is not installed"),
        child => child.unwrap(),
    };
    // The first connection has it start the gateway in its own place.
    let deadline = Instant::now() + PATIENCE;
    let stream = loop {
        match std::net::TcpStream::connect(addr) {
            Ok(stream) => break stream,
            Err(e) => assert!(Instant::now() < deadline, "it does not listen: {e}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut client = Client::over(stream);
    client.upgrade("/echo");
    client.echoes(b"activated");
    drop(client);
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn readiness_and_the_end_are_told() {
    let manager = Manager::new();
    let mut gateway = manager.start(&[], &[]);
    let told = manager.told();
    assert!(told.starts_with("READY=1\nSTATUS=0 connections\n"), "{told}");
    // All listeners listened before that was said.
    let mut client = Client::echo(gateway.addr);
    client.echoes(b"ready");
    gateway.signal(Signal::SIGTERM);
    assert_eq!(manager.told(), "STOPPING=1\nSTATUS=closing 1 connection\n");
    client.expect_close(1001);
    client.close(1001);
    client.expect_end();
    assert!(gateway.wait().success());
}

#[test]
fn a_reload_is_told_with_its_time_and_its_end() {
    let manager = Manager::new();
    let gateway = manager.start(&[], &[]);
    manager.told_of("READY=1");
    for _ in 0..2 {
        gateway.signal(Signal::SIGHUP);
        let told = manager.told();
        let time = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&told);
        assert!(time.trim_end().parse::<u64>().unwrap() > 0, "{told}");
        assert!(manager.told().starts_with("READY=1\n"));
    }
    assert!(gateway.stop().success());
}

#[test]
fn the_watchdog_is_told_that_it_goes_on() {
    let manager = Manager::new();
    let args = ["--close-timeout", "1m", "--drain-timeout", "1m"];
    let mut gateway = manager.start(&[("WATCHDOG_USEC", "400000")], &args);
    manager.told_of("READY=1");
    for _ in 0..5 {
        assert_eq!(manager.told(), "WATCHDOG=1\n");
    }
    let mut client = Client::echo(gateway.addr);
    gateway.signal(Signal::SIGTERM);
    manager.told_of("STOPPING=1");
    client.expect_close(1001);
    // The drain goes on until the client answers.
    for _ in 0..5 {
        assert_eq!(manager.told(), "WATCHDOG=1\n");
    }
    client.close(1001);
    client.expect_end();
    assert!(gateway.wait().success());
}

#[test]
fn a_watchdog_of_another_process_is_not_told() {
    let manager = Manager::new();
    let environment = [("WATCHDOG_USEC", "100000"), ("WATCHDOG_PID", "1")];
    let gateway = manager.start(&environment, &[]);
    manager.told_of("READY=1");
    gateway.signal(Signal::SIGTERM);
    assert!(manager.told().starts_with("STOPPING=1"));
}
