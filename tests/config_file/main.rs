//! Files of `--config`: what they say is what holds, every mistake in them is answered, what
//! `tidegate config` prints is one of them, and the manual says what they may hold.

mod mistakes;
mod printed;
mod proxies;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use clap::Parser;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tidegate::config::{
    Cli, Config, DialectName, EndpointConfig, JsonFields, Kind, LoginConfig, Machine, Problem,
    Resolved, RoomConfig, RouteConfig, SecretSource, TcpListen, definitions, resolve, resolve_with,
};
use tidegate::protocol::deflate::{DeflateMode, DeflateSettings};
use tidegate::quota::{ConnectionLimits, Over, Rate};
use tidegate::routing::{IdentitySource, Liveness, OriginRule, RunOn};
use tidegate::transport::tls::{CertificateFiles, ClientAuth, TlsSettings};
use tidegate::{Outbound, OverflowPolicy, SessionPolicy, TcpFraming};

/// Two cores, 20,000 descriptors, 24 GiB.
fn machine() -> Machine {
    Machine {
        cores: 2,
        descriptor_limit: 20_000,
        memory_total_bytes: Some(24 << 30),
        cgroup_memory_bytes: None,
    }
}

/// A file of its own directory, called `gateway.toml`.
struct File {
    dir: TempDir,
}

impl File {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("gateway.toml"), text).expect("a file");
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("gateway.toml")
    }

    fn cli(&self, args: &[&str]) -> Cli {
        let path = self.path().display().to_string();
        let all = ["tidegate", "--config", &path];
        Cli::try_parse_from(all.iter().chain(args)).expect("arguments that clap takes")
    }

    fn resolve(&self, args: &[&str]) -> Result<Resolved, Vec<Problem>> {
        resolve(&self.cli(args), &machine())
    }

    /// Runs the binary beside the file, with an environment of its own.
    fn run(&self, args: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let own = std::env::vars().filter(|(name, _)| name.starts_with("TIDEGATE_"));
        for (name, _) in own {
            command.env_remove(name);
        }
        let command = command.args(args).envs(environment.iter().copied());
        command.current_dir(self.dir.path()).output().expect("it runs")
    }
}

fn resolved(text: &str) -> Resolved {
    File::new(text).resolve(&[]).unwrap_or_else(|problems| panic!("{}", told(&problems)))
}

/// The mistakes in a text, a line each, without the directory of the file.
fn mistakes(text: &str) -> String {
    let file = File::new(text);
    let problems = file.resolve(&[]).expect_err("a mistake");
    told(&problems).replace(&format!("{}/", file.dir.path().display()), "")
}

fn told(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A file with every key there is.
const WHOLE: &str = include_str!("whole.toml");

#[test]
fn every_setting_reaches_its_field() {
    let Resolved { config, log, .. } = resolved(WHOLE);
    assert_eq!((config.max_connections, config.loops, config.workers), (1000, 3, 0));
    assert_eq!(config.blocking_threads, 5);
    assert_eq!((config.fd_table, config.backlog), (tidegate::FdTable::Private, 77));
    assert_eq!((config.memory_limit_bytes, config.max_header_bytes), (1 << 30, 4096));
    assert_eq!((config.max_message_bytes, config.max_frame_bytes), (2 << 20, 1_000_000));
    assert_eq!((config.max_fragments, config.outbound_limit_bytes), (9, 3 << 20));
    assert!(!config.tcp_nodelay);
    let sockets = &config.sockets;
    assert_eq!((sockets.unix_mode, sockets.ipv6_only), (Some(0o620), true));
    assert_eq!(sockets.tcp_keepalive, Some(Duration::from_secs(120)));
    assert_eq!(sockets.tcp_keepalive_interval, Some(Duration::from_secs(20)));
    assert_eq!(sockets.tcp_keepalive_count, Some(4));
    assert_eq!(sockets.tcp_user_timeout, Some(Duration::from_secs(90)));
    assert_eq!(sockets.receive_buffer_bytes, Some(128 << 10));
    assert_eq!(sockets.send_buffer_bytes, Some(256 << 10));
    assert_eq!(config.bandwidth_bytes_per_s, Some(10_000_000));
    assert_eq!(config.bandwidth_reserve_percent, 40);
    assert_eq!(config.bandwidth_over_limit, Over::Close);
    assert_eq!(config.handshake_timeout, Duration::from_secs(1));
    assert_eq!(config.idle_timeout, Some(Duration::from_secs(120)));
    assert_eq!((config.message_timeout, config.ping_interval), (None, None));
    assert_eq!(config.pong_timeout, Duration::from_millis(250));
    assert_eq!(config.write_timeout, Duration::from_secs(3));
    assert_eq!(config.close_timeout, Duration::from_secs(4));
    assert_eq!(config.drain_timeout, Duration::from_secs(5));
    assert_eq!(config.stats_out.as_deref(), Some(Path::new("s.json")));
    assert_eq!(config.histogram_out.as_deref(), Some(Path::new("h.hlog")));
    assert_eq!(config.histogram_interval, Duration::from_secs(6));
    assert_eq!(log.level, log::LevelFilter::Trace);
    assert_eq!(log.format, tidegate::config::OutputFormat::Json);
    assert_eq!(config.listen, ["127.0.0.1:0".parse().unwrap()]);
    let tcp = tcp_at("[::1]:9000", "/kim");
    assert_eq!(config.tcp_listen, [tcp]);
}

fn tcp_at(address: &str, endpoint: &str) -> TcpListen {
    let address = address.parse().expect("an address");
    TcpListen { address, endpoint: endpoint.to_owned(), framing: None }
}

#[test]
fn listeners_with_tls_are_as_they_are_written() {
    let Resolved { config, .. } = resolved(WHOLE);
    assert_eq!(config.tls_listen, ["[::1]:9443".parse().unwrap()]);
    let tcp = TcpListen { framing: Some(TcpFraming::U32), ..tcp_at("[::1]:9444", "/kim") };
    assert_eq!(config.tls_tcp_listen, [tcp]);
    let files = |name: &str| CertificateFiles {
        certificate: format!("{name}.pem").into(),
        key: format!("{name}.key").into(),
    };
    let auth = ClientAuth { authorities: "ca.pem".into(), is_optional: true };
    let wanted =
        TlsSettings { certificates: ["a", "b"].map(files).into(), client_auth: Some(auth) };
    assert_eq!(config.tls, wanted);
}

#[test]
fn the_terms_of_compression_are_as_they_are_written() {
    let wanted = DeflateSettings {
        mode: DeflateMode::Dedicated,
        level: 6,
        threshold_bytes: 1024,
        server_window_bits: 12,
        client_window_bits: 11,
    };
    assert_eq!(resolved(WHOLE).config.deflate, wanted);
    let text =
        "[deflate]\ndeflate = \"share\"\ndeflate_level = 10\ndeflate_server_window_bits = 8\n";
    let problems = File::new(text).resolve(&[]).expect_err("mistakes");
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems.iter().any(|p| p.contains("did you mean `shared`?")), "{problems:?}");
    assert!(problems.iter().any(|p| p.contains("9 to 15")), "{problems:?}");
}

#[test]
fn who_asks_for_tls_alone_gets_nothing_else() {
    let tls = "[tls]\ntls_cert = [\"c\"]\ntls_key = [\"k\"]\n";
    let listener = "[[listener]]\naddress = \"127.0.0.1:1\"\ntls = true\n";
    assert!(resolved(&format!("{tls}{listener}")).config.listen.is_empty());
    let problems = |text: &str| File::new(text).resolve(&[]).expect_err("a mistake");
    let without = problems(listener);
    assert!(without[0].to_string().contains("--tls-cert"), "{without:?}");
    let odd = format!("[tls]\ntls_cert = [\"c\"]\n{listener}");
    assert!(problems(&odd)[0].to_string().contains("tls-key"), "{:?}", problems(&odd));
}

fn whole_limits() -> ConnectionLimits {
    ConnectionLimits {
        messages: Some(Rate::per_s(20).burst(1200)),
        bytes: Some(Rate::per_s(65536).burst(4096)),
        over: Over::Reject,
    }
}

#[test]
fn endpoints_are_as_they_are_written() {
    let Resolved { config, .. } = resolved(WHOLE);
    let text = |text: &str| Some(text.to_owned());
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let route = |key: &str, handler: &str| RouteConfig {
        key: key.to_owned(),
        handler: handler.to_owned(),
        permission: None,
        timeout: None,
        run: None,
        outbound: Outbound::default(),
        rate: None,
        over_limit: Over::Delay,
    };
    let chat = RouteConfig {
        permission: text("chat"),
        timeout: Some(Duration::from_secs(5)),
        run: Some(RunOn::Blocking),
        outbound: Outbound::new(OverflowPolicy::Close).budget(70),
        rate: Some(Rate::per_s(50).burst(200)),
        over_limit: Over::Close,
        ..route("chat.*", "publish")
    };
    let kim = EndpointConfig {
        also: vec![DialectName::Hub, DialectName::Json],
        subprotocols: texts(&["v2.kim", "v1.kim"]),
        origins: vec![
            OriginRule::SameHost,
            "https://Example.com:443".parse().unwrap(),
            "https://*.example.com".parse().unwrap(),
        ],
        overflow: OverflowPolicy::KeepLatest,
        max_message_bytes: Some(64 << 10),
        outbound_limit_bytes: Some(65536),
        limits: whole_limits(),
        max_connections: Some(500),
        full_status: 400,
        liveness: Liveness {
            ping_interval: Some(None),
            pong_timeout: Some(Duration::from_secs(7)),
            idle_timeout: Some(Some(Duration::from_secs(180))),
        },
        identity: IdentitySource {
            id: ["query.user", "header.clientName"].map(|part| part.parse().unwrap()).into(),
            version: Some("query.version".parse().unwrap()),
            charset: Some("header.charset".parse().unwrap()),
        },
        session: SessionPolicy::AllowUpTo(3),
        login: Some(LoginConfig {
            wait: Duration::from_secs(3),
            route: text("100"),
            secret: Some(SecretSource::File("secret".into())),
            issuer: text("joe"),
            leeway: Duration::from_secs(30),
        }),
        grants: texts(&["push.all"]),
        builtin: false,
        json: JsonFields {
            selector: text("$request.body.action"),
            request_id: text("seq"),
            answer_error: text("fault"),
            ..JsonFields::default()
        },
        routes: vec![chat, route("7", "echo")],
        ..EndpointConfig::new("/kim", DialectName::Kim)
    };
    let room = EndpointConfig {
        join: texts(&["room/{name}", "all"]),
        login: Some(LoginConfig {
            wait: Duration::from_secs(10),
            route: None,
            secret: Some(SecretSource::Variable("TOKEN_SECRET".to_owned())),
            issuer: None,
            leeway: Duration::ZERO,
        }),
        ..EndpointConfig::new("/room/{name}/{seat}", DialectName::Event)
    };
    assert_eq!(config.endpoints, [kim, room]);
}

#[test]
fn rules_of_rooms_are_as_they_are_written() {
    let Resolved { config, .. } = resolved(WHOLE);
    let text = |text: &str| Some(text.to_owned());
    let news = RoomConfig {
        pattern: "news/*".to_owned(),
        join: text("news.read"),
        publish: text("news.write"),
        max_members: Some(10),
        events: true,
        clock: Some(Duration::from_secs(3)),
        outbound: Outbound::new(OverflowPolicy::DropOldest).budget(32 << 10),
    };
    let lobby = RoomConfig {
        pattern: "lobby".to_owned(),
        join: None,
        publish: None,
        max_members: None,
        events: false,
        clock: None,
        outbound: Outbound::default(),
    };
    assert_eq!(config.rooms, [news, lobby]);
}

#[test]
fn the_whole_file_names_every_key_there_is() {
    let named = |key: &str| {
        WHOLE.lines().any(|line| line.split_once(" = ").is_some_and(|(name, _)| name == key))
    };
    for definition in definitions().filter(|d| !d.table.name().is_empty()) {
        // The names of members differ only in their own.
        let member = definition.table.name() == "json";
        assert!(member || named(definition.key), "{}", definition.key);
    }
}

#[test]
fn the_defaults_that_the_manual_names_are_those_that_hold() {
    let written = |definition: &tidegate::config::Definition| {
        let default = definition.default;
        let literal = match definition.kind {
            _ if default.contains([' ', ',']) || default == "none" || default == "cores" => None,
            Kind::Count | Kind::Switch => Some(default.to_owned()),
            _ => Some(format!("{default:?}")),
        };
        literal.map(|value| format!("{}.{} = {value}\n", definition.table.name(), definition.key))
    };
    let settings = definitions().filter(|d| d.has_flag() && !d.table.name().is_empty());
    let lines: Vec<_> = settings.filter_map(written).collect();
    assert!(lines.len() >= 20, "{lines:?}");
    let empty = format!("{:?}", resolved("").config);
    assert_eq!(format!("{:?}", resolved(&lines.concat()).config), empty);
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let file = File::new(
        "limits.max_message = \"1KiB\"\nlimits.max_frame = \"1KiB\"\nlimits.max_header = \"1KiB\"\n",
    );
    let output = file.run(
        &["--max-message", "3KiB", "config", "--config", "gateway.toml", "--format", "json"],
        &[("TIDEGATE_MAX_MESSAGE", "2KiB"), ("TIDEGATE_MAX_FRAME", "2KiB")],
    );
    assert!(output.status.success(), "{output:?}");
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for (key, value, source) in [
        ("max_message", "3KiB", "--max-message"),
        ("max_frame", "2KiB", "TIDEGATE_MAX_FRAME"),
        ("max_header", "1KiB", "gateway.toml:3"),
        ("outbound_limit", "4MiB", "default"),
    ] {
        let entry = &shown["limits"][key];
        assert_eq!((&entry["value"], &entry["source"]), (&value.into(), &source.into()), "{key}");
    }
}

#[test]
fn the_file_can_stand_in_the_environment() {
    let file = File::new("[output]\nquiet = true\n");
    let output = file.run(&["config"], &[("TIDEGATE_CONFIG", "gateway.toml")]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("# gateway.toml:2\n"), "{text}");
    // Said more directly, `-v` goes before the file's `quiet`; side by side, they conflict.
    let cli = file.cli(&["-v"]);
    let level = resolve(&cli, &machine()).expect("no mistake").log.level;
    assert_eq!(level, log::LevelFilter::Debug);
    let both = mistakes("output.quiet = true\noutput.verbose = 1\n");
    assert!(both.starts_with("gateway.toml:2:18: output.verbose = 1: --quiet and"), "{both}");
}

#[test]
fn listeners_of_flags_take_the_place_of_those_of_the_file() {
    let listeners = "[[listener]]\naddress = \"127.0.0.1:1\"\n\
                     [[listener]]\naddress = \"127.0.0.1:2\"\ntransport = \"tcp\"\nendpoint = \"/a\"\n";
    let file = File::new(listeners);
    let addresses = |args: &[&str]| {
        let Config { listen, tcp_listen, .. } = file.resolve(args).expect("no mistake").config;
        let tcp = tcp_listen.iter().map(|tcp| format!("{}={}", tcp.address, tcp.endpoint));
        listen.iter().map(ToString::to_string).chain(tcp).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(addresses(&[]), "127.0.0.1:1 127.0.0.1:2=/a");
    assert_eq!(addresses(&["--listen", "127.0.0.1:3"]), "127.0.0.1:3 127.0.0.1:2=/a");
    let tcp = ["--tcp-listen", "127.0.0.1:4", "--tcp-listen", "[::1]:5=/b"];
    assert_eq!(addresses(&tcp), "127.0.0.1:1 127.0.0.1:4=/kim [::1]:5=/b");
    let framings = |args: &[&str]| {
        let config = file.resolve(args).expect("no mistake").config;
        let all = config.tcp_listen.into_iter();
        all.map(|tcp| (tcp.endpoint, tcp.framing)).collect::<Vec<_>>()
    };
    assert_eq!(framings(&["--tcp-listen", "127.0.0.1:4"]), [("/kim".to_owned(), None)]);
    let said = ["--tcp-listen", "[::1]:5=u32:/b", "--tcp-listen", "[::1]:6=opcode:/a:b"];
    let wanted = [("/b", TcpFraming::U32), ("/a:b", TcpFraming::Opcode)];
    assert_eq!(framings(&said), wanted.map(|(path, framing)| (path.to_owned(), Some(framing))));
    let wrong = file.resolve(&["--tcp-listen", "[::1]:5=u16:/b"]).expect_err("a mistake");
    assert!(format!("{wrong:?}").contains("opcode or u32"), "{wrong:?}");
    // Who lists listeners and none for WebSockets has none; else there is the default.
    let only_tcp =
        File::new("listener = [{address = \"[::1]:5\", transport = \"tcp\", endpoint = \"/a\"}]");
    assert!(only_tcp.resolve(&[]).expect("no mistake").config.listen.is_empty());
    assert_eq!(resolved("").config.listen.len(), 1);
}

#[test]
fn the_gateway_serves_by_its_file() {
    let file = File::new("[limits]\nmax_header = 512\n[[listener]]\naddress = \"127.0.0.1:0\"\n");
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["--config", "gateway.toml"])
        .current_dir(file.dir.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let address = lines.find_map(|line| Some(line.ok()?.split_once("listening on ")?.1.to_owned()));
    let mut stream = TcpStream::connect(address.expect("an address")).expect("a connection");
    write!(stream, "GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(512)).expect("a request");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 431");
    drop(stream);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).expect("it runs");
    lines.for_each(drop);
    assert!(child.wait().expect("an end").success());
}

#[test]
fn tcp_listeners_count_among_the_descriptors() {
    let room =
        |args: &[&str]| File::new("").resolve(args).expect("no mistake").capacity.connections;
    assert_eq!(room(&[]) - room(&["--tcp-listen", "127.0.0.1:9000"]), 2);
}

#[test]
fn handlers_are_those_that_the_program_has() {
    let text = "endpoint = [{path = \"/\", dialect = \"raw\", route = [{key = \"a\", handler = \"own\"}]}]";
    let file = File::new(text);
    assert!(file.resolve(&[]).is_err());
    let resolved = resolve_with(&file.cli(&[]), &machine(), &["own"]).expect("no mistake");
    assert_eq!(resolved.config.endpoints[0].routes[0].handler, "own");
}

#[test]
fn the_examples_have_no_mistake() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/config");
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.unwrap().path());
    let mut names = Vec::new();
    for path in entries.filter(|path| path.extension().is_some_and(|end| end == "toml")) {
        let text = fs::read_to_string(&path).expect("a file");
        let Resolved { config, warnings, .. } = resolved(&text);
        assert!(!config.endpoints.is_empty(), "{}", path.display());
        assert_eq!(warnings, [""; 0], "{}", path.display());
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    names.sort();
    let expected =
        ["a-websocketmgr.toml", "b-ginserver.toml", "c-rooms.toml", "d-kim.toml", "e-hub.toml"];
    assert_eq!(names, expected);
}

#[test]
fn a_secret_that_is_not_there_is_a_mistake_and_one_that_is_there_is_not_printed() {
    let file = File::new(
        "listener = [{address = \"127.0.0.1:0\"}]\n[[endpoint]]\npath = \"/kim\"\ndialect = \"kim\"\n\
         [endpoint.login]\nsecret_env = \"KIM_SECRET\"\n",
    );
    let output = file.run(&["--config", "gateway.toml"], &[]);
    let told = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("endpoint[0].login.secret_env: there is no such variable"), "{told}");
    for format in ["toml", "json"] {
        let args = ["config", "--config", "gateway.toml", "--format", format];
        let output = file.run(&args, &[("KIM_SECRET", "hush")]);
        let shown = String::from_utf8(output.stdout).expect("text");
        assert!(shown.contains("KIM_SECRET") && !shown.contains("hush"), "{shown}");
    }
}
