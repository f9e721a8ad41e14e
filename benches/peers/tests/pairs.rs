//! Each server, driven by its generator for a moment: what is counted is right.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use peers::wire::server_frame_of_length;
use serde_json::Value;

const RAW_ECHO: &str = env!("CARGO_BIN_EXE_raw-echo");
const TUNGSTENITE: &str = env!("CARGO_BIN_EXE_tokio-tungstenite-echo");
const FASTWEBSOCKETS: &str = env!("CARGO_BIN_EXE_fastwebsockets-echo");
const BARE_ACCEPT: &str = env!("CARGO_BIN_EXE_bare-accept");
const BARE_FANOUT: &str = env!("CARGO_BIN_EXE_bare-fanout");
const ECHO_GEN: &str = env!("CARGO_BIN_EXE_echo-gen");
const UPGRADE_GEN: &str = env!("CARGO_BIN_EXE_upgrade-gen");
const FANOUT_GEN: &str = env!("CARGO_BIN_EXE_fanout-gen");

/// A server that is killed when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(program: &str, args: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening on ").expect("an address");
        let address = address.parse().expect("an address");
        Self { child, address }
    }

    /// Runs a generator for a moment; its result.
    fn drive(&self, generator: &str, args: &[&str]) -> Value {
        let pid = self.child.id().to_string();
        let args: Vec<_> = ["--server-pid", &pid].into_iter().chain(args.iter().copied()).collect();
        drive(self.address, generator, &args).expect("the generator finds nothing wrong")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn drive(target: SocketAddr, generator: &str, args: &[&str]) -> Result<Value, String> {
    let output = Command::new(generator)
        .args(["--target", &target.to_string()])
        .args(args)
        .output()
        .expect("the generator starts");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&output.stdout).expect("a line of JSON"))
}

const MOMENT: [&str; 4] = ["--warmup", "0.05", "--seconds", "0.2"];

fn with<'a>(args: &[&'a str]) -> Vec<&'a str> {
    MOMENT.into_iter().chain(args.iter().copied()).collect()
}

fn assert_echoes(server: &Server, args: &[&str], batch: u64) {
    let result = server.drive(ECHO_GEN, &with(args));
    let messages = result["messages"].as_u64().unwrap();
    assert!(messages > 0 && messages.is_multiple_of(batch), "{result}");
    // Every connection's first answers, at least.
    assert!(result["compared"].as_u64() >= result["connections"].as_u64(), "{result}");
    assert!(result["seconds"].as_f64().unwrap() >= 0.2, "{result}");
    assert!(result["server_cpu_seconds"].as_f64().unwrap() > 0.0, "{result}");
    // Not that it has grown: the kernel may take pages back in between.
    assert!(result["resident_idle_kib"].as_u64() > Some(0), "{result}");
}

#[test]
fn raw_bytes_come_back_on_every_loop() {
    for loops in ["1", "2"] {
        let server = Server::start(RAW_ECHO, &["--loops", loops]);
        assert_echoes(&server, &["--protocol", "raw", "--connections", "20"], 1);
        assert_echoes(&server, &["--protocol", "raw", "--pipeline", "16"], 16);
        // More than socket buffers hold, so both ends must go on with what was left.
        let large = ["--protocol", "raw", "--size", "1000000", "--pipeline", "8"];
        assert_echoes(&server, &[&large[..], &["--connections", "3"]].concat(), 8);
    }
}

#[test]
fn every_peer_echoes_frames_of_every_length() {
    let small_buffers = Server::start(TUNGSTENITE, &["--read-buffer", "4096"]);
    let corked = Server::start(TUNGSTENITE, &["--flush", "drained"]);
    let servers = [
        Server::start(TUNGSTENITE, &[]),
        small_buffers,
        corked,
        Server::start(FASTWEBSOCKETS, &[]),
    ];
    for server in &servers {
        for size in ["20", "1024", "16384"] {
            assert_echoes(server, &["--connections", "10", "--size", size], 1);
        }
        assert_echoes(server, &["--connections", "5", "--pipeline", "16"], 16);
    }
}

#[test]
fn a_rate_is_kept_and_round_trips_are_told() {
    let server = Server::start(FASTWEBSOCKETS, &[]);
    let args = ["--warmup", "0", "--seconds", "0.5", "--rate", "100", "--connections", "7"];
    let result = server.drive(ECHO_GEN, &args);
    let messages = result["messages"].as_u64().unwrap();
    // Late beats are made up for, and none come early.
    assert!((1..=52).contains(&messages), "{result}");
    assert!(result["round_trip_p50_us"].as_u64() <= result["round_trip_p99_us"].as_u64());
}

#[test]
fn idle_connections_have_echoed_once() {
    let server = Server::start(TUNGSTENITE, &[]);
    let result = server.drive(ECHO_GEN, &["--seconds", "0", "--connections", "50"]);
    assert_eq!((result["messages"].as_u64(), result["compared"].as_u64()), (Some(0), Some(50)));
    let grown = result["resident_idle_kib"].as_u64().unwrap()
        - result["resident_empty_kib"].as_u64().unwrap();
    // Each keeps a read buffer of 128 KiB, of which only what was read is resident.
    assert!(grown >= 50 * 4, "{result}");
}

#[test]
fn upgrades_are_counted_one_by_one() {
    for program in [BARE_ACCEPT, TUNGSTENITE, FASTWEBSOCKETS] {
        let server = Server::start(program, &[]);
        let result = server.drive(UPGRADE_GEN, &with(&["--alive", "40", "--in-flight", "8"]));
        assert!(result["upgrades"].as_u64().unwrap() > 40, "{program}: {result}");
        assert_eq!(result["alive"].as_u64(), Some(40), "{program}: {result}");
        assert!(result["server_cpu_seconds"].as_f64().unwrap() > 0.0, "{program}: {result}");
    }
}

#[test]
fn a_generator_tells_a_wrong_server() {
    // It answers the upgrade, and then nothing right: the first message ends the connection.
    let server = Server::start(BARE_ACCEPT, &[]);
    let error = drive(server.address, ECHO_GEN, &with(&[])).unwrap_err();
    assert!(error.contains("ended a connection"), "{error}");
    // It sends each request back, which no generator takes for an upgrade.
    let server = Server::start(RAW_ECHO, &[]);
    let error = drive(server.address, ECHO_GEN, &with(&[])).unwrap_err();
    assert!(error.contains("no upgrade"), "{error}");
    let error = drive(server.address, UPGRADE_GEN, &with(&[])).unwrap_err();
    assert!(error.contains("no upgrade"), "{error}");
    let error = drive(server.address, FANOUT_GEN, &with(&["--members", "3"])).unwrap_err();
    assert!(error.contains("no upgrade"), "{error}");
}

/// Long, as the first wrong answer that is compared ends it.
const UNTIL_WRONG: [&str; 4] = ["--warmup", "0", "--seconds", "60"];

/// Serves each connection in a thread of its own until it ends; returns where.
fn serve(each: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let each = Arc::new(each);
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let each = Arc::clone(&each);
            thread::spawn(move || each(socket));
        }
    });
    address
}

#[test]
fn an_echo_of_the_right_length_and_wrong_content_is_caught() {
    // The first echo of each connection is right, and the others differ in their last byte.
    let address = serve(|mut socket| {
        let mut buffer = [0; 4096];
        let mut right = true;
        while let Ok(count @ 1..) = socket.read(&mut buffer) {
            buffer[count - 1] ^= u8::from(!right);
            right = false;
            let _ = socket.write_all(&buffer[..count]);
        }
    });
    for pipeline in ["1", "16"] {
        let args = ["--protocol", "raw", "--connections", "4", "--pipeline", pipeline];
        let error = drive(address, ECHO_GEN, &[&UNTIL_WRONG[..], &args].concat()).unwrap_err();
        assert!(error.contains("not what was sent"), "{error}");
    }
}

#[test]
fn a_delivery_of_the_right_length_and_wrong_content_is_caught() {
    // Right for the first publishes, whose deliveries are sampled too; then one byte is another.
    for in_flight in ["1", "16"] {
        let members = Mutex::new(Vec::<TcpStream>::new());
        let address = serve(move |mut socket| {
            let mut buffer = [0; 4096];
            let (mut frame, mut published) = (server_frame_of_length(100), 0);
            while let Ok(count @ 1..) = socket.read(&mut buffer) {
                if buffer[0] == b'M' {
                    let _ = socket.write_all(b"M");
                    members.lock().unwrap().push(socket.try_clone().unwrap());
                    continue;
                }
                if published > 100 {
                    frame[99] = b'y';
                }
                published += count;
                for member in members.lock().unwrap().iter_mut() {
                    let _ = member.write_all(&frame.repeat(count));
                }
            }
        });
        let args = ["--protocol", "bare", "--members", "10", "--in-flight", in_flight];
        let error = drive(address, FANOUT_GEN, &[&UNTIL_WRONG[..], &args].concat()).unwrap_err();
        assert!(error.contains("not the frame of the room"), "{error}");
    }
}

/// Each publish reached each member once, or the generator would have failed.
fn assert_fans_out(result: &Value, members: u64) {
    let deliveries = result["deliveries"].as_u64().unwrap();
    let publishes = result["publishes"].as_u64().unwrap();
    assert!(deliveries > 0 && deliveries <= publishes * members, "{result}");
    // The window cuts through no publish.
    assert!(deliveries.is_multiple_of(members), "{result}");
    assert!(result["compared"].as_u64() > Some(0), "{result}");
}

#[test]
fn a_fan_out_reaches_every_member_of_every_loop() {
    for loops in ["1", "3"] {
        let args = ["--loops", loops, "--frame-bytes", "130", "--private-tables"];
        let server = Server::start(BARE_FANOUT, &args);
        for in_flight in ["1", "16"] {
            let args = ["--protocol", "bare", "--members", "90", "--in-flight", in_flight];
            let result = server.drive(FANOUT_GEN, &with(&args));
            assert_fans_out(&result, 90);
            assert_eq!(result["frame_bytes"].as_u64(), Some(130));
        }
    }
}

#[test]
fn members_are_spread_over_descriptor_tables() {
    let server = Server::start(BARE_FANOUT, &["--loops", "2", "--private-tables"]);
    let args = ["--protocol", "bare", "--members", "16000", "--in-flight", "2"];
    assert_fans_out(&server.drive(FANOUT_GEN, &with(&args)), 16_000);
}

#[test]
fn the_gateway_itself_is_driven() {
    let running = tidegate::Gateway::builder().listen(([127, 0, 0, 1], 0)).start().unwrap();
    let address = running.addresses()[0];
    let result = drive(address, ECHO_GEN, &with(&["--pipeline", "4"])).unwrap();
    assert!(result["messages"].as_u64().unwrap() > 0, "{result}");
    let result = drive(address, UPGRADE_GEN, &with(&["--alive", "10"])).unwrap();
    assert!(result["upgrades"].as_u64().unwrap() > 10, "{result}");
    let result =
        drive(address, FANOUT_GEN, &with(&["--members", "60", "--in-flight", "8"])).unwrap();
    assert_fans_out(&result, 60);
    let (stopped, _) = running.stop(|| false);
    assert_eq!(stopped, tidegate::Stopped::Clean);
}
