//! Flags, environment and defaults → configuration, and every mistake in them.

use std::collections::BTreeMap;
use std::process::Command as Process;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use log::LevelFilter;
use tidegate::config::{
    Cli, Command, Config, FdTable, Machine, Origin, OutputFormat, Problem, Resolved, resolve,
    start_banner,
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

fn cli(args: &[&str]) -> Cli {
    Cli::try_parse_from(["tidegate"].iter().chain(args)).expect("arguments that clap takes")
}

fn resolved(args: &[&str]) -> Resolved {
    resolve(&cli(args), &machine()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn problems(args: &[&str]) -> Vec<Problem> {
    resolve(&cli(args), &machine()).expect_err("a mistake")
}

fn only_problem(args: &[&str]) -> String {
    let problems = problems(args);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].to_string()
}

#[test]
fn without_arguments_the_embedded_defaults_hold() {
    let Resolved { config, capacity, log, warnings, .. } = resolved(&[]);
    let mut expected = Config::default();
    expected.loops = 2;
    expected.workers = 2;
    expected.max_connections = capacity.connections;
    expected.memory_limit_bytes = 12 << 30;
    assert_eq!(format!("{config:?}"), format!("{expected:?}"));
    assert_eq!((log.level, log.format), (LevelFilter::Info, OutputFormat::Text));
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn every_flag_reaches_its_field() {
    let directory = tempfile::tempdir().expect("a directory");
    let (stats, histogram) = (directory.path().join("s.json"), directory.path().join("h.hlog"));
    let files = [stats.display().to_string(), histogram.display().to_string()];
    let Resolved { config, log, .. } = resolved(&[
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "[::1]:9000",
        "--loops",
        "3",
        "--workers",
        "0",
        "--max-connections",
        "1_000",
        "--fd-table",
        "private",
        "--backlog",
        "77",
        "--max-header",
        "4K",
        "--max-message",
        "2MiB",
        "--max-frame",
        "1MB",
        "--max-fragments",
        "9",
        "--handshake-timeout",
        "1",
        "--idle-timeout",
        "2m",
        "--message-timeout",
        "off",
        "--ping-interval",
        "0",
        "--pong-timeout",
        "250ms",
        "--write-timeout",
        "3s",
        "--close-timeout",
        "4s",
        "--drain-timeout",
        "5s",
        "--outbound-limit",
        "3MiB",
        "--memory-limit",
        "1GiB",
        "--tcp-nodelay",
        "off",
        "--stats-out",
        &files[0],
        "--histogram-out",
        &files[1],
        "--histogram-interval",
        "6s",
        "-vv",
        "--log-format",
        "json",
    ]);
    let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:0", "[::1]:9000"]);
    assert_eq!((config.loops, config.workers, config.max_connections), (3, 0, 1000));
    assert_eq!((config.fd_table, config.backlog), (FdTable::Private, 77));
    assert_eq!((config.max_header_bytes, config.max_message_bytes), (4096, 2 << 20));
    assert_eq!((config.max_frame_bytes, config.max_fragments), (1_000_000, 9));
    assert_eq!(config.handshake_timeout, Duration::from_secs(1));
    assert_eq!(config.idle_timeout, Some(Duration::from_secs(120)));
    assert_eq!((config.message_timeout, config.ping_interval), (None, None));
    assert_eq!(config.pong_timeout, Duration::from_millis(250));
    assert_eq!(config.write_timeout, Duration::from_secs(3));
    assert_eq!(config.close_timeout, Duration::from_secs(4));
    assert_eq!(config.drain_timeout, Duration::from_secs(5));
    assert_eq!((config.outbound_limit_bytes, config.memory_limit_bytes), (3 << 20, 1 << 30));
    assert!(!config.tcp_nodelay);
    assert_eq!((config.stats_out, config.histogram_out), (Some(stats), Some(histogram)));
    assert_eq!(config.histogram_interval, Duration::from_secs(6));
    assert_eq!((log.level, log.format), (LevelFilter::Trace, OutputFormat::Json));
}

#[test]
fn quiet_and_verbose_set_the_level() {
    assert_eq!(resolved(&["-v"]).log.level, LevelFilter::Debug);
    assert_eq!(resolved(&["-q"]).log.level, LevelFilter::Warn);
    assert!(only_problem(&["-q", "-v"]).starts_with("--verbose 1: "));
}

#[test]
fn all_mistakes_are_told_at_once_each_with_flag_value_and_fix() {
    let problems = problems(&[
        "--listen",
        "nowhere",
        "--loops",
        "2000",
        "--backlog",
        "-1",
        "--idle-timeout",
        "soon",
        "--max-frame",
        "0",
        "--pong-timeout",
        "0",
        "--outbound-limit",
        "1K",
        "--tcp-nodelay",
        "perhaps",
        "--fd-table",
        "own",
        "--log-format",
        "xml",
        "--stats-out",
        "/no/such/place/s",
    ]);
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    for start in [
        "--listen \"nowhere\": cannot be read; expected an IP address and a port",
        "--loops 2000: out of range; expected 1 to 1024",
        "--backlog \"-1\": cannot be read; expected a whole number",
        "--idle-timeout \"soon\": cannot be read; expected a time such as 250ms",
        "--max-frame 0B: out of range; expected 1B to 1GiB",
        "--pong-timeout 0s: out of range; expected 1ms to 365d",
        "--outbound-limit 1KiB: out of range; expected 4KiB to",
        "--tcp-nodelay \"perhaps\": cannot be read; expected true or false",
        "--fd-table \"own\": cannot be read; expected auto, shared or private",
        "--log-format \"xml\": cannot be read; expected text or json",
        "--stats-out \"/no/such/place/s\": cannot be read; expected a file in a directory",
    ] {
        let found = texts.iter().filter(|text| text.starts_with(start)).count();
        assert_eq!(found, 1, "{start:?} in {texts:#?}");
    }
    assert_eq!(texts.len(), 11, "{texts:#?}");
}

#[test]
fn values_that_do_not_fit_each_other_are_refused_or_warned_of() {
    let twice = only_problem(&["--listen", "127.0.0.1:81", "--listen", "127.0.0.1:81"]);
    assert!(twice.contains("given twice"), "{twice}");
    let same = only_problem(&["--stats-out", "x", "--histogram-out", "x"]);
    assert!(same.starts_with("--histogram-out x: also the file of --stats-out"), "{same}");
    resolved(&["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
    // A frame limit above the message limit is pointless, but means what it says.
    assert_eq!(resolved(&["--max-frame", "4M"]).warnings, [""; 0]);
    let warned = |args: &[&str], word| resolved(args).warnings.iter().any(|w| w.contains(word));
    assert!(warned(&["--max-message", "8M"], "--outbound-limit"));
    assert!(warned(&["--idle-timeout", "30s"], "--ping-interval"));
    assert!(!warned(&["--idle-timeout", "31s"], "--ping-interval"));
    assert!(warned(&["--memory-limit", "30GiB"], "24576 MiB of memory"));
}

/// Not a test of its own: what [`in_a_process`] starts, with an environment of its own.
#[test]
fn child_that_reads_its_environment() {
    let Ok(args) = std::env::var("CHILD_ARGS") else { return };
    let cli = cli(&args.split_whitespace().collect::<Vec<_>>());
    match resolve(&cli, &machine()) {
        Ok(Resolved { config, log, .. }) => eprintln!(
            "RESULT {:?} {:?} {:?} {:?} {:?}",
            config.backlog,
            config.idle_timeout,
            config.listen,
            log.level,
            cli.origin("--backlog"),
        ),
        Err(problems) => eprintln!("RESULT {}", problems[0]),
    }
}

fn in_a_process(environment: &[(&str, &str)], args: &str) -> String {
    let output = Process::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child_that_reads_its_environment", "--nocapture"])
        .env("CHILD_ARGS", args)
        .envs(environment.iter().copied())
        .output()
        .expect("a child process");
    let text = String::from_utf8(output.stderr).expect("text");
    let result = text.lines().find_map(|line| Some(line.split_once("RESULT ")?.1));
    result.unwrap_or_else(|| panic!("no result in {text}")).to_owned()
}

#[test]
fn the_command_line_goes_before_the_environment_and_that_before_the_default() {
    let listen = "[0.0.0.0:8080]";
    assert_eq!(in_a_process(&[], ""), format!("4096 None {listen} Info Default"));
    let environment = [("TIDEGATE_BACKLOG", "7"), ("TIDEGATE_IDLE_TIMEOUT", "9s")];
    assert_eq!(in_a_process(&environment, ""), format!("7 Some(9s) {listen} Info Environment"));
    assert_eq!(
        in_a_process(&environment, "--backlog 8"),
        format!("8 Some(9s) {listen} Info CommandLine")
    );
}

#[test]
fn the_environment_can_say_all_that_flags_can() {
    let listen = [("TIDEGATE_LISTEN", "127.0.0.1:1,127.0.0.1:2"), ("TIDEGATE_VERBOSE", "2")];
    let expected = "4096 None [127.0.0.1:1, 127.0.0.1:2] Trace Default";
    assert_eq!(in_a_process(&listen, ""), expected);
    let quiet = [("TIDEGATE_QUIET", "1"), ("TIDEGATE_BACKLOG", "")];
    assert_eq!(in_a_process(&quiet, ""), "4096 None [0.0.0.0:8080] Warn Default");
    let wrong = in_a_process(&[("TIDEGATE_BACKLOG", "many")], "");
    assert!(wrong.starts_with("TIDEGATE_BACKLOG=\"many\": cannot be read; expected"), "{wrong}");
}

#[test]
fn check_takes_the_capacity_flags_on_either_side_and_no_others() {
    for args in [["check", "--max-connections", "5"], ["--max-connections", "5", "check"]] {
        let cli = cli(&args);
        assert!(matches!(cli.command, Some(Command::Check(_))));
        assert_eq!(cli.values("--max-connections"), ["5"]);
        assert_eq!(cli.origin("--max-connections"), Origin::CommandLine);
    }
    let all = "check --loops 1 --fd-table auto --listen 0.0.0.0:1 --listen 0.0.0.0:2 --backlog 3 \
               --memory-limit 4 --format json";
    let all = cli(&all.split_whitespace().collect::<Vec<_>>());
    assert_eq!(all.values("--listen"), ["0.0.0.0:1", "0.0.0.0:2"]);
    assert!(
        matches!(all.command, Some(Command::Check(check)) if check.format == OutputFormat::Json)
    );
    assert!(Cli::try_parse_from(["tidegate", "check", "--idle-timeout", "5"]).is_err());
}

/// `--flag` → what its help says in brackets: `1B to 1GiB`, and the default.
fn help_of_flags() -> BTreeMap<String, (String, String)> {
    let command = Cli::command();
    let flags =
        command.get_arguments().filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()));
    flags
        .map(|arg| {
            let flag = format!("--{}", arg.get_long().expect("a long name"));
            let help = arg.get_help().expect("help").to_string();
            let brackets = help.rsplit_once('[').and_then(|(_, rest)| rest.split_once(']'));
            let (brackets, _) = brackets.unwrap_or_else(|| panic!("{flag}: no brackets in {help}"));
            let (range, default) = brackets
                .split_once("; default: ")
                .or_else(|| Some(("", brackets.strip_prefix("default: ")?)))
                .unwrap_or_else(|| panic!("{flag}: no default in {help}"));
            (flag, (range.to_owned(), default.to_owned()))
        })
        .collect()
}

#[test]
fn help_names_every_flag_with_its_variable_and_default() {
    let help = Cli::command().render_long_help().to_string();
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for (flag, (_, default)) in help_of_flags() {
        let variable = flag.trim_start_matches('-').replace('-', "_").to_uppercase();
        assert!(words.contains(&flag), "{flag}");
        assert!(words.contains(&format!("TIDEGATE_{variable}=")), "{variable}");
        assert!(words.contains(&format!("default: {default}]")), "{flag}: {default}");
    }
    for part in ["Exit codes:", "Sizes:", "Times:", "check"] {
        assert!(help.contains(part), "{part}");
    }
}

#[test]
fn the_defaults_that_help_names_are_those_that_hold() {
    let help = help_of_flags();
    let own = |flag: &str| {
        ["--loops", "--workers", "--max-connections", "--memory-limit"].contains(&flag)
    };
    let switch = |flag: &str| ["--verbose", "--quiet"].contains(&flag);
    let mut args = Vec::new();
    for (flag, (_, default)) in &help {
        // What others settle has no value to give back: `the kernel's own`.
        if own(flag) || switch(flag) || default == "none" || default.contains(' ') {
            continue;
        }
        args.extend([flag.as_str(), default.as_str()]);
    }
    assert!(args.len() >= 2 * 18, "{args:?}");
    assert_eq!(format!("{:?}", resolved(&args).config), format!("{:?}", resolved(&[]).config));
}

#[test]
fn the_ranges_that_help_names_are_those_that_hold() {
    let mut tried = 0;
    for (flag, (range, _)) in help_of_flags() {
        let range = range.split(',').next().unwrap_or_default();
        let Some((least, most)) = range.split_once(" to ") else { continue };
        if flag == "--verbose" {
            continue;
        }
        tried += 1;
        for (value, inside) in [(least, true), (most, true), (&*beyond(most), false)] {
            let about_flag = match resolve(&cli(&[&flag, value]), &machine()) {
                Ok(_) => false,
                // The machine's limits are not the flag's range.
                Err(problems) => problems.iter().any(|p| {
                    p.flag == flag && (p.what == "out of range" || p.what == "cannot be read")
                }),
            };
            assert_eq!(about_flag, !inside, "{flag} {value}");
        }
    }
    assert!(tried >= 18, "{tried}");
}

/// One more than the number that `text` begins with.
fn beyond(text: &str) -> String {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().expect("a number");
    format!("{}{}", number + 1, &text[end..])
}

#[test]
fn the_operating_manual_lists_every_flag_as_help_does() {
    let manual = include_str!("../docs/OPERATING.md");
    for (flag, (range, default)) in help_of_flags() {
        let row =
            manual.lines().find(|line| line.starts_with('|') && line.contains(&format!("`{flag}")));
        let row = row.unwrap_or_else(|| panic!("no row for {flag}"));
        assert!(row.contains(&range), "{flag}: {range:?} in {row}");
        assert!(row.contains(&default), "{flag}: {default:?} in {row}");
    }
}

#[test]
fn the_banner_says_where_with_what_and_how_many() {
    let banner = start_banner(&resolved(&["--max-connections", "1000000", "--workers", "0"]));
    let text = banner.join("\n");
    for part in [
        "listening on 0.0.0.0:8080",
        "51 event loops with a descriptor table each",
        "no workers",
        "room for 1000000 connections, set by --max-connections",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let text = start_banner(&resolved(&["--memory-limit", "30GiB"])).join("\n");
    assert!(
        text.contains("room for 19955 connections, set by descriptors: hard limit 20000 minus 45"),
        "{text}"
    );
    assert!(text.contains("warning: 19955 idle connections take"), "{text}");
}
