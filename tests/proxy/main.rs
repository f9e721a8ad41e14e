//! Who the client is behind a proxy: PROXY headers in front of every kind of listener, forwarded
//! headers of requests, and HAProxy with both.

#[path = "../support/client.rs"]
mod client;
mod doors;
mod forwarded;
mod fuzzed;
mod haproxy;
mod headers;

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tidegate::app::make_dev_cert;
use tidegate::config::{ListenAddr, TcpListen};
use tidegate::protocol::TcpFraming;
use tidegate::transport::proxy::{Networks, ProxyProtocol, parse_trusted};
use tidegate::transport::tls::CertificateFiles;
use tidegate::{Accept, Config, Context, Gateway, GatewayBuilder, Message, Running, Verdict};

/// Longer than anything here takes on a machine under load: past it the gateway hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const LOCALHOST: ([u8; 4], u16) = ([127, 0, 0, 1], 0);
/// Where proxies are; all else of loopback is not trusted.
const PROXY: [u8; 4] = [127, 0, 0, 1];
const STRANGER: [u8; 4] = [127, 0, 0, 9];

/// A gateway with a listener of every kind, whose endpoint `/ws` tells on which address it sees a
/// client: `who` as handlers do, `hook` as `on_connect` did.
struct Served {
    running: Running,
    folder: TempDir,
}

impl Served {
    fn start(set: impl FnOnce(GatewayBuilder) -> GatewayBuilder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = make_dev_cert(folder.path(), &["localhost".to_owned()]).unwrap();
        let files = CertificateFiles { certificate: made.certificate, key: made.key };
        let builder = Gateway::builder().listen(LOCALHOST).tls_listen(LOCALHOST);
        let builder = builder.configure(|config| {
            config.tls.certificates = vec![files];
            let tcp = TcpListen {
                address: LOCALHOST.into(),
                endpoint: "/ws".to_owned(),
                framing: Some(TcpFraming::Opcode),
            };
            config.tcp_listen.push(tcp.clone());
            config.tls_tcp_listen.push(tcp);
            config.listen.push(ListenAddr::Unix(folder.path().join("socket")));
            config.proxy.trusted = trusted(&["127.0.0.1"]);
        });
        let who = |ctx: &mut Context<'_>, _: &Message<'_>| {
            let peer = ctx.peer().to_string();
            ctx.reply(peer.as_str());
        };
        let running = set(builder.route("who", who)).start().unwrap();
        Self { running, folder }
    }

    fn unix(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn plain(&self) -> SocketAddr {
        self.running.addresses()[0]
    }

    /// Waits until the statistics are as they are to be.
    fn stats_until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let stats = self.running.stats();
            if is_so(&stats) {
                return stats;
            }
            assert!(began.elapsed() < PATIENCE, "never {what}: {stats:#}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The statistics once nobody is connected any more, when every connection has ended in one way.
    fn stats_at_rest(&self) -> Value {
        let stats = self.stats_until("all gone", |s| s["totals"]["connections"] == 0);
        let refusals = stats["refusals"].as_object().unwrap().values();
        let refused: u64 = refusals.map(|count| count.as_u64().unwrap()).sum();
        let total = |name: &str| stats["totals"][name].as_u64().unwrap();
        assert_eq!(total("accepted"), total("opened") + refused, "{stats:#}");
        assert_eq!(total("opened"), total("closed"), "{stats:#}");
        stats
    }
}

/// Runs a test with messages routed on the loops and on workers, and with each loop's own table.
fn all(test: impl Fn(&dyn Fn(GatewayBuilder) -> GatewayBuilder)) {
    for (workers, fd_table) in [
        (0, tidegate::FdTable::Shared),
        (2, tidegate::FdTable::Shared),
        (2, tidegate::FdTable::Private),
    ] {
        let set = move |config: &mut Config| {
            (config.loops, config.workers, config.fd_table) = (2, workers, fd_table);
        };
        test(&|builder: GatewayBuilder| builder.configure(set));
    }
}

fn trusted(names: &[&str]) -> Networks {
    names.iter().map(|name| parse_trusted(name).unwrap()).collect()
}

/// Sets whether PROXY headers come, at all listeners.
fn protocol(protocol: ProxyProtocol) -> impl Fn(GatewayBuilder) -> GatewayBuilder {
    move |builder| builder.configure(move |config| config.proxy.protocol = protocol)
}

/// Has all connections accepted, by a hook that tells the address it saw. Over TCP nothing is asked.
fn with_hook(builder: GatewayBuilder) -> GatewayBuilder {
    let builder = builder.configure(|config| {
        config.tcp_listen.clear();
        config.tls_tcp_listen.clear();
    });
    builder.on_connect(|request, admission| {
        let seen = ("X-Seen".to_owned(), request.peer.to_string());
        admission.answer(Verdict::Accept(Accept { headers: vec![seen], ..Accept::default() }));
    })
}

/// Connects from an address of loopback.
fn dial_from(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A header of version 1.
fn line(source: &str) -> Vec<u8> {
    let source: SocketAddr = source.parse().unwrap();
    let (word, to) = if source.is_ipv4() { ("TCP4", "192.0.2.1") } else { ("TCP6", "2001:db8::1") };
    format!("PROXY {word} {} {to} {} 443\r\n", source.ip(), source.port()).into_bytes()
}

/// A header of version 2, with so many bytes behind its addresses that nobody reads.
fn binary(source: &str, more: usize) -> Vec<u8> {
    let source: SocketAddr = source.parse().unwrap();
    let (family, mut rest) = match source.ip() {
        IpAddr::V4(ip) => (0x11, [&ip.octets()[..], &[192, 0, 2, 1]].concat()),
        IpAddr::V6(ip) => (0x21, [&ip.octets()[..], &[0; 16]].concat()),
    };
    rest.extend(source.port().to_be_bytes());
    rest.extend([1, 187]);
    rest.resize(rest.len() + more, 0x2A);
    binary_of(0x21, family, &rest)
}

fn binary_of(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &len, rest].concat()
}
