//! Files of `--config`: what they say is what holds, every mistake in them is answered, what
//! `tidegate config` prints is one of them, and the manual says what they may hold.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use clap::Parser;
use tempfile::TempDir;
use tidegate::OverflowPolicy;
use tidegate::config::{
    Cli, Config, DialectName, EndpointConfig, JsonFields, Kind, Machine, Origin, OriginRule,
    Problem, Resolved, RoomConfig, RouteConfig, RunOn, TcpListen, definitions, document, resolve,
    resolve_with, show_json, show_toml,
};

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

const WHOLE: &str = r#"
[capacity]
max_connections = 1_000
loops = 3
fd_table = "private"
backlog = 0x4d
memory_limit = "1GiB"
workers = 0

[limits]
max_header = 4096
max_message = "2MiB"
max_frame = "1MB"
max_fragments = 9
outbound_limit = "3MiB"
tcp_nodelay = false

[timeouts]
handshake_timeout = 1
idle_timeout = "2m"
message_timeout = "off"
ping_interval = 0
pong_timeout = "250ms"
write_timeout = "3s"
close_timeout = "4s"
drain_timeout = "5s"

[output]
stats_out = "s.json"
histogram_out = "h.hlog"
histogram_interval = "6s"
log_format = "json"
verbose = 2
quiet = false

[[listener]]
address = "127.0.0.1:0"

[[listener]]
address = "[::1]:9000"
transport = "tcp"
endpoint = "/kim"

[[endpoint]]
path = "/kim"
dialect = "kim"
also = ["hub", "json"]
subprotocols = ["v2.kim", "v1.kim"]
origins = ["same-host", "https://Example.com:443", "https://*.example.com"]
overflow = "keep-latest"
max_message = "64KiB"
outbound_limit = 65536
grants = ["push.all"]
builtin = false

[endpoint.json]
selector = "$request.body.action"
request_id = "seq"
answer_error = "fault"

[[endpoint.route]]
key = "chat.*"
handler = "publish"
permission = "chat"
timeout = "5s"
run = "blocking"

[[endpoint.route]]
key = "7"
handler = "echo"

[[endpoint]]
path = "/room/{name}/{seat}"
dialect = "event"
join = ["room/{name}", "all"]

[[room]]
pattern = "news/*"
join = "news.read"
publish = "news.write"
max_members = 10

[[room]]
pattern = "lobby"
"#;

#[test]
fn every_setting_reaches_its_field() {
    let Resolved { config, log, .. } = resolved(WHOLE);
    assert_eq!((config.max_connections, config.loops, config.workers), (1000, 3, 0));
    assert_eq!((config.fd_table, config.backlog), (tidegate::FdTable::Private, 77));
    assert_eq!((config.memory_limit_bytes, config.max_header_bytes), (1 << 30, 4096));
    assert_eq!((config.max_message_bytes, config.max_frame_bytes), (2 << 20, 1_000_000));
    assert_eq!((config.max_fragments, config.outbound_limit_bytes), (9, 3 << 20));
    assert!(!config.tcp_nodelay);
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
    let tcp = TcpListen { address: "[::1]:9000".parse().unwrap(), endpoint: "/kim".to_owned() };
    assert_eq!(config.tcp_listen, [tcp]);
}

#[test]
fn endpoints_and_rooms_are_as_they_are_written() {
    let Resolved { config, .. } = resolved(WHOLE);
    let text = |text: &str| Some(text.to_owned());
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let route = |key: &str, handler: &str| RouteConfig {
        key: key.to_owned(),
        handler: handler.to_owned(),
        permission: None,
        timeout: None,
        run: None,
    };
    let chat = RouteConfig {
        permission: text("chat"),
        timeout: Some(Duration::from_secs(5)),
        run: Some(RunOn::Blocking),
        ..route("chat.*", "publish")
    };
    let kim = EndpointConfig {
        also: vec![DialectName::Hub, DialectName::Json],
        subprotocols: texts(&["v2.kim", "v1.kim"]),
        origins: vec![
            OriginRule::SameHost,
            OriginRule::Exact("https://example.com".to_owned()),
            OriginRule::parse("https://*.example.com").unwrap(),
        ],
        overflow: OverflowPolicy::KeepLatest,
        max_message_bytes: Some(64 << 10),
        outbound_limit_bytes: Some(65536),
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
        ..EndpointConfig::new("/room/{name}/{seat}", DialectName::Event)
    };
    assert_eq!(config.endpoints, [kim, room]);
    let news = RoomConfig {
        pattern: "news/*".to_owned(),
        join: text("news.read"),
        publish: text("news.write"),
        max_members: Some(10),
    };
    let lobby =
        RoomConfig { pattern: "lobby".to_owned(), join: None, publish: None, max_members: None };
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
    // Who lists listeners and none for WebSockets has none; else there is the default.
    let only_tcp =
        File::new("listener = [{address = \"[::1]:5\", transport = \"tcp\", endpoint = \"/a\"}]");
    assert!(only_tcp.resolve(&[]).expect("no mistake").config.listen.is_empty());
    assert_eq!(resolved("").config.listen.len(), 1);
}

#[test]
fn tcp_listeners_count_among_the_descriptors() {
    let room =
        |args: &[&str]| File::new("").resolve(args).expect("no mistake").capacity.connections;
    assert_eq!(room(&[]) - room(&["--tcp-listen", "127.0.0.1:9000"]), 2);
}

#[test]
fn what_is_printed_gives_the_same_configuration_when_read_back() {
    for text in ["", WHOLE] {
        let first = resolved(text);
        let printed = show_toml(&first);
        let second = resolved(&printed);
        assert_eq!(format!("{:?}", first.config), format!("{:?}", second.config), "{printed}");
        assert_eq!(first.log, second.log, "{printed}");
        let values = |resolved: &Resolved| {
            let shown: serde_json::Value = serde_json::from_str(&show_json(resolved)).unwrap();
            without_sources(shown)
        };
        assert_eq!(values(&first), values(&second));
        assert!(!show_json(&second).contains("\"--"), "{printed}");
    }
}

fn without_sources(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(fields) if fields.contains_key("source") => fields["value"].clone(),
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key, without_sources(value))).collect()
        }
        Value::Array(values) => values.into_iter().map(without_sources).collect(),
        value => value,
    }
}

#[test]
fn each_value_says_where_it_came_from() {
    let file = File::new(WHOLE);
    let text = file.run(
        &["config", "--config", "gateway.toml", "--backlog", "5", "--listen", "127.0.0.1:7"],
        &[("TIDEGATE_LOOPS", "4")],
    );
    let text = String::from_utf8(text.stdout).expect("text");
    let source = |start: &str| {
        let line = text.lines().find(|line| line.starts_with(start));
        let line = line.unwrap_or_else(|| panic!("no {start} in {text}"));
        line.rsplit_once("  # ").expect("a comment").1.to_owned()
    };
    let line_of = |start: &str| {
        let line = WHOLE.lines().position(|line| line.starts_with(start)).expect("a line");
        format!("gateway.toml:{}", line + 1)
    };
    assert_eq!(source("backlog = 5"), "--backlog");
    assert_eq!(source("loops = 4"), "TIDEGATE_LOOPS");
    assert_eq!(source("address = \"127.0.0.1:7\""), "--listen");
    for start in [
        "max_connections = ",
        "address = \"[::1]:9000\"",
        "path = \"/room",
        "selector",
        "key = \"7\"",
        "pattern = \"lobby\"",
        "max_members = ",
    ] {
        assert_eq!(source(start), line_of(start), "{start}");
    }
    let unset = text.lines().filter(|line| line.starts_with("# ") && line.ends_with("  # default"));
    assert!(unset.count() > 5, "{text}");
}

const TWELVE_MISTAKES: &str = include_str!("config_file/mistakes.toml");
const TWELVE_ANSWERS: &str = include_str!("config_file/mistakes.txt");

#[test]
fn all_mistakes_of_a_file_and_of_flags_are_answered_at_once() {
    let file = File::new(TWELVE_MISTAKES);
    let output = file
        .run(&["--config", "gateway.toml", "--idle-timeout", "soon"], &[("TIDEGATE_BACKLOG", "0")]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let told = String::from_utf8(output.stderr).expect("text").replace("tidegate: ", "");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config_file/mistakes.txt");
        return fs::write(path, told).expect("a file");
    }
    assert_eq!(told, TWELVE_ANSWERS, "UPDATE_DOCS=1 in the environment writes it anew");
}

#[test]
fn mistakes_of_grammar_say_where_and_what_was_expected() {
    for (text, told) in [
        ("[limits\nmax_message = 1\n", "gateway.toml:1:8: unclosed table, expected `]`"),
        ("[limits]\nmax_message = \n", "gateway.toml:2:"),
        ("[limits]\nmax_message 1\n", "gateway.toml:2:"),
        (
            "[limits]\nmax_frame = 1\nmax_frame = 2\n",
            "gateway.toml:3:1: `max_frame` is given twice",
        ),
        ("a = \"x\n", "gateway.toml:1:"),
    ] {
        let answer = mistakes(text);
        let start = told.split(", ").next().unwrap();
        assert!(answer.starts_with(start), "{answer}");
        let expected = answer.contains("expected") || answer.contains("leave one of them out");
        assert!(expected, "{answer}");
    }
    // Beyond a key given twice, reading goes on.
    let both = mistakes("[limits]\nmax_frame = 1\nmax_frame = 2\nmax_header = true\n");
    assert_eq!(both.lines().count(), 2, "{both}");
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let cli =
        Cli::try_parse_from(["tidegate", "--config", "/no/such/file", "--loops", "x"]).unwrap();
    let problems = resolve(&cli, &machine()).expect_err("a mistake");
    assert_eq!(problems.len(), 2, "{problems:?}");
    let text = problems[0].to_string();
    assert!(text.starts_with("--config \"/no/such/file\": cannot be read: No such file"), "{text}");
    assert_eq!(problems[0].origin, Origin::CommandLine);
}

#[test]
fn a_mistake_is_one_mistake() {
    // What is wrong with one value is not told again of what depends on it.
    for text in [
        "capacity.loops = \"x\"\ncapacity.max_connections = 1_000_000\n",
        "capacity.loops = 2000\ncapacity.max_connections = 1_000_000\n",
        "limits.max_message = 0\n",
        "listener = [{address = \"nowhere\"}]\n",
        "listener = [{address = \"[::1]:1\", transport = \"udp\"}]\n",
        "listener = [{address = \"[::1]:1\", transport = \"tcp\"}]\n",
        "listener = [{address = \"[::1]:1\"}, {address = \"[::1]:1\"}]\n",
        "endpoint = [{path = \"ws\", dialect = \"raw\"}]\nlistener = [{address = \"[::1]:1\", transport = \"tcp\", endpoint = \"/ws\"}]\n",
        "endpoint = [{path = \"/ws\", dialect = \"raw\"}]\nlistener = [{address = \"[::1]:1\", transport = \"tcp\", endpoint = \"/kim\"}]\n",
        "endpoint = [{path = \"/ws\", dialect = \"jsn\", json = {request_id = \"n\"}}]\n",
        "endpoint = [{path = \"/ws\", dialect = \"raw\", json = {request_id = \"n\"}}]\n",
        "endpoint = [{path = \"/ws\", dialect = \"raw\", max_message = \"2MiB\"}]\n",
        "endpoint = [{path = \"/{a}\", dialect = \"raw\"}, {path = \"/{b}\", dialect = \"raw\"}]\n",
        "endpoint = {path = \"/ws\", dialect = \"raw\"}\n",
        "limits = 3\n",
        "endpoint = [{path = \"/ws\", dialect = \"json\", json = {request_id = \"body\"}}]\n",
        "endpoint = [{path = \"/ws\", dialect = \"json\", also = [\"hub\", \"hub\"]}]\n",
        "endpoint = [{path = \"/ws\", dialect = \"json\", origins = [\"*\", \"same-host\"]}]\n",
        "endpoint = [{path = \"/{a}\", dialect = \"json\", join = [\"{b}\"]}]\n",
        "room = [{pattern = \"a\"}, {pattern = \"a\"}]\n",
        "room = [{pattern = \"a\", max_members = 0}]\n",
    ] {
        let told = mistakes(text);
        assert_eq!(told.lines().count(), 1, "{text}{told}");
        assert!(told.starts_with("gateway.toml:"), "{text}{told}");
    }
}

/// Whatever is cut off, left out or doubled, there is an answer.
#[test]
fn no_text_makes_it_fail() {
    let cut = (0..=WHOLE.len()).filter_map(|at| WHOLE.get(..at)).map(ToOwned::to_owned);
    let lines: Vec<&str> = WHOLE.lines().collect();
    let without = (0..lines.len()).map(|n| [&lines[..n], &lines[n + 1..]].concat().join("\n"));
    let doubled = (0..lines.len()).map(|n| [&lines[..=n], &lines[n..]].concat().join("\n"));
    let swapped = (0..lines.len() - 1).map(|n| {
        let value = |line: &str| line.split_once('=').map_or("3", |(_, value)| value).to_owned();
        let (key, _) = lines[n].split_once('=').unwrap_or((lines[n], ""));
        let line = format!("{key} = {}", value(lines[n + 1]));
        [&lines[..n], &[line.as_str()], &lines[n + 1..]].concat().join("\n")
    });
    let file = File::new("");
    let cli = file.cli(&[]);
    let mut refused = 0;
    for text in cut.chain(without).chain(doubled).chain(swapped) {
        fs::write(file.path(), &text).expect("a file");
        let Err(problems) = resolve(&cli, &machine()) else { continue };
        refused += 1;
        for problem in problems {
            let told = problem.to_string();
            let place = problem.place.as_ref().unwrap_or_else(|| panic!("{told} in {text}"));
            assert!(place.line as usize <= text.lines().count() + 1, "{told} in {text}");
            assert!(!problem.what.is_empty() && !problem.fix.is_empty(), "{told} in {text}");
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn a_misspelt_key_or_word_is_answered_with_the_right_one() {
    for (text, meant) in [
        ("timeouts.handshake_timout = 1", "did you mean `handshake_timeout`?"),
        ("limit.max_message = 1", "did you mean `limits`?"),
        ("handshake_timeout = 1", "`handshake_timeout` stands in [timeouts]"),
        ("limits.idle_timeout = 1", "`idle_timeout` stands in [timeouts]"),
        ("listen = \"[::1]:1\"", "did you mean `listener`?"),
        ("capacity.fd-table = \"auto\"", "did you mean `fd_table`?"),
        ("endpoint = [{path = \"/\", dialect = \"evnt\"}]", "did you mean `event`?"),
        ("endpoint = [{path = \"/\", dialect = \"raw\", rote = []}]", "did you mean `route`?"),
        (
            "endpoint = [{path = \"/\", dialect = \"raw\", route = [{key = \"a\", handler = \"ecko\"}]}]",
            "did you mean `echo`?",
        ),
        ("limits.zzz = 1", "[limits] has max_header, max_message"),
    ] {
        let told = mistakes(text);
        assert!(told.contains(meant), "{text}: {told}");
        assert_eq!(told.lines().count(), 1, "{text}: {told}");
    }
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
    for path in entries {
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
fn the_manual_is_what_the_definitions_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIGURATION.md");
    let said = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return fs::write(path, said).expect("a file");
    }
    let manual = fs::read_to_string(path).unwrap_or_default();
    let differs = manual.lines().zip(said.lines()).find(|(manual, said)| manual != said);
    assert!(manual == said, "UPDATE_DOCS=1 in the environment writes it anew: {differs:?}");
    let output = File::new("").run(&["config", "--docs"], &[]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), manual);
}

#[test]
fn the_example_of_the_manual_has_no_mistake() {
    let manual = document();
    let example = manual.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let config = resolved(example.expect("an example")).config;
    assert_eq!((config.endpoints.len(), config.rooms.len(), config.tcp_listen.len()), (2, 1, 1));
}
