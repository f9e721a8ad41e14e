//! `--dialect` and `--login`: nothing to find fault with on a server that speaks every dialect well,
//! and each fault of one that does not found and named.

mod dialect_server;
mod program;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use dialect_server::{Flaw, Mood, Server, Speaker};
use program::{Run, help, refused, run};
use serde_json::Value;
use tidegate::{
    Accept, Admission, Body, ConnectRequest, Dialect, Endpoint, GatewayBuilder, JsonDialect,
    Running,
};

/// All dialects with a place for one more, `kim` over plain TCP.
const ALL: [&str; 7] = ["json", "mef", "action", "event", "kim", "hub", "kim over tcp"];

/// Runs a command in one dialect.
fn spoken(command: &str, dialect: &str, server: &impl Speaker) -> Run {
    let name = dialect.trim_end_matches(" over tcp");
    run(command, &server.url(dialect), &["--dialect", name])
}

/// Runs a command in all dialects at once.
fn mixed(command: &str, server: &impl Speaker) -> Run {
    let all = format!("json,mef,action,event,kim,hub,kim={}", server.url("kim over tcp"));
    run(command, &server.url("json"), &["--dialect", &all])
}

fn assert_well(run: &Run, dialect: &str) {
    assert_eq!(run.code, Some(0), "{dialect}: {}", run.text);
    assert_eq!(run.json["dialect"], dialect, "{}", run.text);
    assert!(run.text.contains(&format!("  dialect      {dialect}\n")), "{}", run.text);
}

/// What connection number `index` says it is.
fn says(dialect: &str, index: u32) -> String {
    match dialect {
        "kim" | "kim over tcp" | "mef" => format!("loadtest-{index}"),
        _ => format!("user=loadtest-{index}&type=1&device=loadtest&source=loadtest"),
    }
}

/// The gateway itself, with `kim` over plain TCP too.
struct Gateway(Option<Running>);

impl Gateway {
    fn start(workers: usize, change: impl FnOnce(GatewayBuilder) -> GatewayBuilder) -> Self {
        let any = (Ipv4Addr::LOCALHOST, 0);
        let builder = tidegate::Gateway::builder().listen(any).tcp_listen(any, "/kim");
        let builder = builder.configure(|config| {
            config.loops = 2;
            config.workers = workers;
        });
        Self(Some(change(builder).start().unwrap()))
    }

    fn running(&self) -> &Running {
        self.0.as_ref().expect("it runs until it is dropped")
    }
}

impl Speaker for Gateway {
    fn web(&self) -> SocketAddr {
        self.running().addresses()[0]
    }

    fn tcp(&self) -> SocketAddr {
        self.running().tcp_addresses()[0]
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.0.take().map(|running| running.stop(|| false));
    }
}

#[test]
fn echo_is_asked_and_answered_in_every_dialect() {
    let server = Server::start(Mood::Good);
    for dialect in ALL {
        for arguments in ["--size 64 --pipeline 4 --threads 2", "--size 0", "--size 70KiB"] {
            let command = format!("echo -c 4 --duration 150ms {arguments}");
            let run = spoken(&command, dialect, &server);
            assert_well(&run, dialect);
            assert_eq!(run.count("/echo/sent"), run.count("/echo/right"), "{}", run.text);
            assert!(run.count("/echo/sent") > 0, "{}", run.text);
        }
    }
}

#[test]
fn the_gateway_echoes_in_every_dialect() {
    // A large body comes and goes in parts.
    for (workers, size) in [(0, "300"), (2, "70KiB")] {
        let gateway = Gateway::start(workers, |builder| builder);
        for dialect in ["raw"].into_iter().chain(ALL) {
            let command = format!("echo -c 4 --duration 150ms --pipeline 3 --size {size}");
            let run = spoken(&command, dialect, &gateway);
            assert_well(&run, dialect);
            assert_eq!(run.count("/echo/sent"), run.count("/echo/right"), "{}", run.text);
            assert!(run.count("/echo/sent") > 0, "{}", run.text);
        }
    }
}

#[test]
fn a_room_of_the_gateway_has_members_of_every_dialect() {
    let name = "json, mef, action, event, kim, hub, kim over tcp";
    for workers in [0, 2] {
        let gateway = Gateway::start(workers, |builder| builder);
        let command =
            "broadcast -c 49 --duration 300ms --threads 2 --rate 200 --publishers 14 --rooms 2";
        let run = mixed(command, &gateway);
        assert_well(&run, name);
        assert_eq!(run.count("/broadcast/publishes"), 60, "{}", run.text);
        let deliveries = &run.json["broadcast"]["deliveries"];
        assert_eq!(deliveries["right"], deliveries["expected"], "{}", run.text);
        assert!(run.count("/broadcast/deliveries/expected") >= 60 * 24, "{}", run.text);
    }
}

/// Notes who a connection says it is, by the query of its URL or by a header, and lets it in.
fn note(logins: &Mutex<Vec<String>>, request: &ConnectRequest<'_>, admission: Admission) {
    let said = request.query.or_else(|| request.header("clientName"));
    logins.lock().unwrap().extend(said.map(str::to_owned));
    admission.accept(Accept::default());
}

#[test]
fn connections_log_in_to_the_gateway() {
    let logins = Arc::new(Mutex::new(Vec::new()));
    let of = |path: &str, dialect: Dialect| {
        let logins = Arc::clone(&logins);
        let endpoint = Endpoint::new(path, dialect).builtin();
        endpoint.on_connect(move |request, admission| note(&logins, request, admission))
    };
    let gateway = Gateway::start(2, |builder| {
        let json = of("/ws", Dialect::Json(JsonDialect::default()));
        let builder = builder.endpoint(json).endpoint(of("/mef", Dialect::Mef));
        let builder = builder.endpoint(of("/action", Dialect::Action));
        builder.endpoint(of("/event", Dialect::Event)).endpoint(of("/hub", Dialect::Hub))
    });
    for dialect in ALL {
        let command = "connect -c 3 --hold 100ms --login --login-secret s";
        let run = spoken(command, dialect, &gateway);
        assert_well(&run, dialect);
        assert_eq!((run.count("/verify/verified"), run.count("/close/clean")), (3, 3));
        let mut logins = std::mem::take(&mut *logins.lock().unwrap());
        logins.sort();
        // In `kim` the first packet says it, by a command that the gateway does not have by itself.
        let wanted: Vec<_> = match dialect {
            "kim" | "kim over tcp" => Vec::new(),
            _ => (0..3).map(|index| says(dialect, index)).collect(),
        };
        assert_eq!(logins, wanted, "{dialect}");
    }
}

#[test]
fn a_route_of_the_gateway_decides_on_logins() {
    for (secret_is_right, code) in [(true, 0), (false, 1)] {
        let seen = Arc::new(Mutex::new(0));
        let count = Arc::clone(&seen);
        let gateway = Gateway::start(0, |builder| {
            let kim = Endpoint::new("/kim", Dialect::Kim).builtin();
            builder.endpoint(kim.route("login.signin", move |ctx, message| {
                *count.lock().unwrap() += 1;
                assert_eq!(message.body.as_bytes()[0], 0x0a, "LoginReq begins with its token");
                match secret_is_right {
                    true => ctx.reply(Body::Binary(b"")),
                    false => ctx.reply_error(401, "not you"),
                }
            }))
        });
        for dialect in ["kim", "kim over tcp"] {
            let command = "connect -c 3 --hold 0 --login --login-secret s";
            let run = spoken(command, dialect, &gateway);
            assert_eq!(run.code, Some(code), "{dialect}: {}", run.text);
            assert_eq!(run.count("/connect/connected"), if code == 0 { 3 } else { 0 });
            if code == 1 {
                assert_eq!(run.count("/connect/refused/refused by the server"), 3, "{}", run.text);
            }
        }
        assert_eq!(*seen.lock().unwrap(), 6);
    }
}

#[test]
fn reports_of_two_dialects_are_told_apart() {
    let server = Server::start(Mood::Good);
    let directory = tempfile::tempdir().unwrap();
    let files = ["hub", "kim"].map(|dialect| {
        let json = spoken("echo -c 2 --duration 50ms", dialect, &server).json;
        let file = directory.path().join(dialect);
        std::fs::write(&file, json.to_string()).unwrap();
        file
    });
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .arg("compare")
        .args(&files)
        .output()
        .unwrap();
    let text = program::both(&output);
    assert!(text.contains("dialect was \"hub\", then \"kim\""), "{text}");
}

#[test]
fn a_fixed_rate_is_kept_in_a_dialect() {
    let server = Server::start(Mood::Good);
    let run = spoken("echo -c 3 --duration 300ms --rate 500", "hub", &server);
    assert_eq!((run.code, run.count("/echo/right")), (Some(0), 150), "{}", run.text);
}

/// How often each of 3 connections got the answer that is wrong in a way.
fn wrong(dialect: &str, mood: Mood) -> (Value, String) {
    let server = Server::start(mood);
    // At a rate, so that all twenty messages of a connection are sent, however slow the machine is.
    let command = "echo -c 3 --duration 200ms --rate 300 --timeout 2s --size 64";
    let run = spoken(command, dialect, &server);
    assert_eq!(run.code, Some(1), "{dialect} {mood:?}: {}", run.text);
    (run.json["echo"]["wrong"].clone(), run.text)
}

#[test]
fn a_changed_body_is_seen_in_every_dialect() {
    for dialect in ALL {
        let (wrong, text) = wrong(dialect, Mood::Corrupting);
        assert_eq!(wrong, serde_json::json!({"answer with other bytes": 3}), "{dialect}: {text}");
    }
}

#[test]
fn another_order_is_seen_in_every_dialect() {
    for dialect in ALL {
        let (wrong, text) = wrong(dialect, Mood::Swapping);
        let early = &wrong["answer out of order or one missing before it"];
        assert_eq!((early, &wrong["answer a second time"]), (&3.into(), &3.into()), "{text}");
    }
}

#[test]
fn a_wrong_ticket_is_seen_where_there_are_tickets() {
    for dialect in ["json", "mef", "kim", "hub", "kim over tcp"] {
        let (wrong, text) = wrong(dialect, Mood::Flawed(Flaw::Ticket));
        // 4000000001 is odd, so that in `hub` it is a question of the server's.
        let kind =
            if dialect == "hub" { "that is a question" } else { "to nothing that was asked" };
        assert_eq!(wrong[format!("answer {kind}")], 3, "{dialect}: {text}");
    }
}

#[test]
fn refusals_and_answers_of_another_route_are_named() {
    for dialect in ALL {
        let (wrong, text) = wrong(dialect, Mood::Flawed(Flaw::Refusal));
        assert_eq!(wrong["answer that refuses"], 3, "{dialect}: {text}");
    }
    for dialect in ["mef", "action", "event", "kim", "hub"] {
        let (wrong, text) = wrong(dialect, Mood::Flawed(Flaw::Route));
        assert_eq!(wrong["answer to another route"], 3, "{dialect}: {text}");
    }
}

#[test]
fn kim_over_plain_tcp_is_held_and_pinged() {
    let server = Server::start(Mood::Good);
    let run = spoken("connect -c 20 --hold 100ms --threads 2", "kim over tcp", &server);
    assert_well(&run, "kim over tcp");
    assert_eq!(
        (run.count("/verify/verified"), run.count("/close/clean")),
        (20, 20),
        "{}",
        run.text
    );
    assert_eq!(run.count("/close/left_open_by_server"), 0, "{}", run.text);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("tcp://{nobody}");
    let run = program::run("connect -c 3 --hold 0", &url, &["--dialect", "kim"]);
    assert_eq!(run.count("/connect/refused/connection refused"), 3, "{}", run.text);
}

#[test]
fn rooms_are_joined_and_published_to_in_every_dialect() {
    let server = Server::start(Mood::Good);
    for dialect in ALL {
        for arguments in ["--rate 200 --rooms 2 --publishers 3", "--in-flight 2 --no-self"] {
            let prefix = format!("--room-prefix {}-{}", dialect.len(), arguments.len());
            let command =
                format!("broadcast -c 6 --duration 200ms --threads 2 {arguments} {prefix}");
            let run = spoken(&command, dialect, &server);
            assert_well(&run, dialect);
            let deliveries = &run.json["broadcast"]["deliveries"];
            assert_eq!(deliveries["right"], deliveries["expected"], "{dialect}: {}", run.text);
        }
    }
}

#[test]
fn one_room_has_members_of_every_dialect() {
    let server = Server::start(Mood::Good);
    let name = "json, mef, action, event, kim, hub, kim over tcp";
    for arguments in ["--rate 200 --publishers 14", "--rate 200 --publishers 7 --rooms 7 --no-self"]
    {
        let prefix = format!("--room-prefix {}-", arguments.len());
        let command = format!("broadcast -c 49 --duration 300ms --threads 2 {arguments} {prefix}");
        let run = mixed(&command, &server);
        assert_well(&run, name);
        assert_eq!(run.count("/broadcast/publishes"), 60, "{}", run.text);
        let deliveries = &run.json["broadcast"]["deliveries"];
        assert_eq!(deliveries["right"], deliveries["expected"], "{}", run.text);
        assert!(run.json["url"].as_str().unwrap().contains(&server.url("hub")), "{}", run.text);
    }
    let run = mixed("scale -c 14 --hold 0 --echo-sample 100% --room-members 100%", &server);
    assert_well(&run, name);
}

#[test]
fn faults_between_dialects_are_counted() {
    for (mood, kind) in [
        (Mood::Dropping, "missing"),
        (Mood::Duplicating, "duplicate"),
        (Mood::Reordering, "reordered"),
    ] {
        let server = Server::start(mood);
        let command = "broadcast -c 7 --rate 100 --duration 200ms --timeout 1s";
        let run = mixed(command, &server);
        assert_eq!(run.code, Some(1), "{}", run.text);
        assert_eq!(run.count(&format!("/broadcast/deliveries/{kind}")), 1, "{}", run.text);
    }
}

#[test]
fn a_delivery_in_a_wrong_envelope_is_corrupt() {
    for dialect in ["mef", "action", "event", "kim", "hub"] {
        let server = Server::start(Mood::Misenveloping);
        let command = "broadcast -c 3 --rate 100 --duration 200ms --timeout 1s";
        let run = spoken(command, dialect, &server);
        assert_eq!(run.code, Some(1), "{}", run.text);
        let deliveries = &run.json["broadcast"]["deliveries"];
        assert_eq!((&deliveries["corrupt"], &deliveries["missing"]), (&1.into(), &0.into()));
    }
}

#[test]
fn refused_joins_are_seen_in_every_dialect() {
    let server = Server::start(Mood::Closed);
    for dialect in ALL {
        let run = spoken("broadcast -c 3 --rate 100 --duration 100ms", dialect, &server);
        assert_eq!(run.code, Some(1), "{dialect}: {}", run.text);
        assert_eq!(run.count("/hold/lost/refused by the server"), 3, "{dialect}: {}", run.text);
    }
}

#[test]
fn connections_log_in_as_their_dialect_does() {
    for dialect in ALL {
        let server = Server::start(Mood::Good);
        let command = "echo -c 2 --duration 100ms --login --login-secret s";
        let run = spoken(command, dialect, &server);
        assert_well(&run, dialect);
        assert_eq!(server.logins(), [says(dialect, 0), says(dialect, 1)], "{dialect}");
    }
    // Without the flag nobody does.
    let server = Server::start(Mood::Good);
    assert_well(&spoken("echo -c 2 --duration 100ms", "kim", &server), "kim");
    assert_eq!(server.logins(), [""; 0]);
}

#[test]
fn a_connection_is_open_once_its_login_is_answered() {
    for (mood, timeout, kind) in [
        (Mood::Login(105), "10s", "refused by the server"),
        (Mood::Deaf, "300ms", "timeout: no answer to a login"),
    ] {
        for dialect in ["kim", "kim over tcp"] {
            let server = Server::start(mood);
            let command =
                format!("connect -c 3 --hold 0 --timeout {timeout} --login --login-secret s");
            let run = spoken(&command, dialect, &server);
            assert_eq!((run.code, run.count("/connect/connected")), (Some(1), 0), "{}", run.text);
            assert_eq!(run.count(&format!("/connect/refused/{kind}")), 3, "{}", run.text);
        }
    }
    // A server without that command lets everybody in.
    let server = Server::start(Mood::Login(103));
    let command = "connect -c 3 --hold 0 --login --login-secret s";
    assert_well(&spoken(command, "kim", &server), "kim");
}

#[test]
fn arguments_that_do_not_go_together_name_the_flag() {
    let web = "--url ws://127.0.0.1:1/";
    for (arguments, flag) in [
        (format!("echo {web} --dialect xml"), "--dialect"),
        (format!("broadcast {web} --dialect json,xml"), "--dialect"),
        (format!("broadcast {web} --dialect raw"), "--dialect raw"),
        (format!("broadcast {web} --dialect json,hub --join x"), "--dialect json alone"),
        (format!("connect {web} --dialect kim --login"), "--login-secret"),
        ("echo --url tcp://127.0.0.1:1 --dialect mef".to_owned(), "kim, json and hub"),
        ("storm --url tcp://127.0.0.1:1".to_owned(), "--url"),
    ] {
        let text = refused(&arguments);
        assert!(text.contains(flag), "{arguments}: {text}");
    }
    for (command, words) in
        [("echo", "tcp://"), ("broadcast", "NAME[=URL]"), ("connect", "--login")]
    {
        assert!(help(command).contains(words), "{command}");
    }
}
