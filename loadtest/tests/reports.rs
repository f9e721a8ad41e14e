//! What a run leaves behind: the time series, files for plotters, pages, charts, verdicts.

mod plain_server;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use plain_server::serve;
use serde_json::Value;
use tempfile::TempDir;

/// Runs the program; returns its exit code and what it wrote to stdout and stderr.
fn loadtest(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs the program with `arguments` and `--json`; `DIR` stands for a directory of its own.
fn run(arguments: &str) -> (Option<i32>, String, Value, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let json = directory.path().join("out.json");
    let words = arguments.split_whitespace().map(|word| word.replace("DIR", path));
    let mut words: Vec<_> = words.collect();
    words.extend(["--json".to_owned(), json.to_str().unwrap().to_owned()]);
    let (code, out, err) = loadtest(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let report = fs::read(&json).ok().and_then(|text| serde_json::from_slice(&text).ok());
    (code, out + &err, report.unwrap_or_default(), directory)
}

fn read(directory: &TempDir, name: &str) -> String {
    fs::read_to_string(directory.path().join(name))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A column of the series.
fn column<'a>(report: &'a Value, name: &str) -> Vec<&'a Value> {
    let columns = report["series"]["columns"].as_array().unwrap();
    let at = columns.iter().position(|column| column == name).unwrap_or_else(|| panic!("{name}"));
    report["series"]["rows"].as_array().unwrap().iter().map(|row| &row[at]).collect()
}

#[test]
fn the_series_adds_up_to_the_totals() {
    let url = serve(Duration::ZERO);
    let arguments = format!(
        "echo --url ws://{url}/ -c 8 --threads 2 --size 100 --duration 900ms --sample-interval 100ms"
    );
    let (code, text, report, _) = run(&arguments);
    assert_eq!(code, Some(0), "{text}");
    let seconds = column(&report, "seconds");
    let seconds: Vec<_> = seconds.iter().map(|second| second.as_f64().unwrap()).collect();
    assert!(seconds.len() >= 5 && seconds.windows(2).all(|two| two[0] < two[1]), "{seconds:?}");
    // A rate times its interval is a count, and the counts are those of the run.
    let total = |name: &str| {
        let starts = [0.0].into_iter().chain(seconds.iter().copied());
        let spans = seconds.iter().zip(starts).map(|(end, start)| end - start);
        let rates = column(&report, name);
        rates.iter().zip(spans).map(|(rate, span)| rate.as_f64().unwrap() * span).sum::<f64>()
    };
    for (name, is) in [
        ("sent_per_second", &report["echo"]["sent"]),
        ("received_per_second", &report["echo"]["received"]),
        ("connects_per_second", &report["connect"]["connected"]),
        ("bytes_out_per_second", &report["bytes"]["sent"]),
    ] {
        let (sum, is) = (total(name), is.as_f64().unwrap());
        assert!((sum - is).abs() <= is * 0.02 + 1.0, "{name}: {sum}, not {is}");
    }
    let counts = column(&report, "latency_count");
    let counted: u64 = counts.iter().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(counted, report["echo"]["latency_us"]["count"]);
    assert!(column(&report, "p99_us").iter().any(|p99| p99.as_f64() > Some(0.0)));
    assert!(column(&report, "open").iter().any(|open| **open == 8));
    assert!(
        report["series"]["work_seconds"][1].as_f64() > report["series"]["work_seconds"][0].as_f64()
    );
    assert!(!text.contains("server CPU"), "{text}");
}

#[test]
fn all_files_are_written() {
    let url = serve(Duration::ZERO);
    let arguments = format!(
        "echo --url ws://{url}/ -c 4 --duration 600ms --sample-interval 100ms --server-pid {} \
         --hgrm DIR/x.hgrm --html DIR/x.html --svg DIR/svg --fail-if server.rss_end>900GiB \
         --fail-if kernel.ramped>900GiB",
        std::process::id()
    );
    let (code, text, report, directory) = run(&arguments);
    assert_eq!(code, Some(0), "{text}");
    let hgrm = read(&directory, "x.hgrm");
    assert!(
        hgrm.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n\n"),
        "{hgrm}"
    );
    let count = report["main"]["latency_us"]["count"].as_u64().unwrap();
    assert!(hgrm.contains(&format!("Total count    = {count:12}]")), "{hgrm}");
    let page = read(&directory, "x.html");
    for part in
        ["<!DOCTYPE html>", "echo latency", "Connections", "Latency by percentile", "server RSS"]
    {
        assert!(page.contains(part), "{part}");
    }
    for outside in ["http://", "https://", "<link", "@import", "url("] {
        let own = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!own.contains(outside), "{outside}");
    }
    for name in
        ["connections", "connects", "messages", "bytes", "latency", "percentiles", "memory", "cpu"]
    {
        let svg = read(&directory, &format!("svg/{name}.svg"));
        assert_well_formed(&svg);
        assert!(svg.contains("prefers-color-scheme"), "{name}");
    }
    // The test itself is the server.
    let server = &report["server"];
    assert!(server["cpu_seconds"].as_f64() > Some(0.0), "{server}");
    assert!(server["cpu_seconds_work"].as_f64() <= server["cpu_seconds"].as_f64(), "{server}");
    assert!(server["rss_peak"].as_u64() >= server["rss_before"].as_u64(), "{server}");
    assert!(column(&report, "server_rss").iter().any(|rss| rss.as_u64() > Some(100_000)));
}

/// Every element is closed in order, and every attribute quoted, as XML wants it.
fn assert_well_formed(xml: &str) {
    let mut open = Vec::new();
    for piece in xml.split('<').skip(1) {
        let (tag, rest) = piece.split_once('>').expect("a tag ends");
        assert!(!rest.contains('>') || open.last() == Some(&"style"), "{rest}");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.split([' ', '\n', '/']).find(|word| !word.is_empty()).unwrap();
        match tag {
            _ if tag.starts_with('?') || tag.ends_with('/') => {}
            _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name)),
            _ => open.push(name),
        }
        let entities = rest.matches('&').count();
        let known = ["&amp;", "&lt;", "&gt;", "&quot;"].iter().map(|e| rest.matches(e).count());
        assert_eq!(entities, known.sum::<usize>(), "{rest}");
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn connect_shows_its_handshakes() {
    let url = serve(Duration::ZERO);
    let arguments = format!(
        "connect --url ws://{url}/ -c 10 --hold 300ms --sample-interval 100ms --hgrm DIR/x.hgrm"
    );
    let (code, text, report, directory) = run(&arguments);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(report["main"]["latency_us"], report["connect"]["handshake_us"]);
    assert!(read(&directory, "x.hgrm").contains("Total count    =           10]"));
}

#[test]
fn a_server_that_ends_is_told_and_survived() {
    let url = serve(Duration::ZERO);
    let mut server = Command::new("sleep").arg("1").stdout(Stdio::null()).spawn().unwrap();
    let arguments = format!(
        "connect --url ws://{url}/ -c 2 --hold 2s --sample-interval 100ms --server-pid {} --html DIR/x.html",
        server.id()
    );
    let reaper = std::thread::spawn(move || server.wait());
    let (code, text, report, directory) = run(&arguments);
    reaper.join().unwrap().unwrap();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("has ended") && text.contains("ended during the run"), "{text}");
    assert_eq!(report["server"]["ended"], report["server"]["pids"]);
    assert_eq!(report["server"]["rss_end"], Value::Null);
    let rss = column(&report, "server_rss");
    assert!(
        rss.first().is_some_and(|rss| rss.is_u64()) && rss.last().is_some_and(|rss| rss.is_null())
    );
    assert!(read(&directory, "x.html").contains("ended during the run"));
}

#[test]
fn conditions_fail_the_run() {
    let url = serve(Duration::from_millis(20));
    let arguments = format!(
        "echo --url ws://{url}/ -c 2 --duration 300ms --fail-if p50>10ms --fail-if p99<1ms \
         --fail-if rate>1M --fail-if errors>0 --fail-if connect.handshake_us.max>9s"
    );
    let (code, text, report, _) = run(&arguments);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(report["ok"], false);
    let failed = report["failed_if"].as_array().unwrap();
    assert_eq!(failed.len(), 1, "{text}");
    assert_eq!(failed[0]["condition"], "p50>10ms");
    assert_eq!(failed[0]["metric"], "main.latency_us.p50");
    assert!(failed[0]["value"].as_f64() > Some(10_000.0));
    assert!(text.contains("failed if    p50>10ms (it was "), "{text}");
    assert!(text.contains("FAILED"), "{text}");
}

#[test]
fn conditions_that_do_not_hold_fail_nothing() {
    let url = serve(Duration::ZERO);
    let arguments = format!(
        "echo --url ws://{url}/ -c 2 --duration 300ms --rate 50 --fail-if errors>0 --fail-if rate<1% \
         --fail-if max>60s"
    );
    let (code, text, report, _) = run(&arguments);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(report["failed_if"].as_array().map(Vec::len), Some(0));
}

#[test]
fn what_cannot_be_done_is_said_before_the_run() {
    // Nobody listens there: a run that starts would end with exit code 1.
    let url = "--url ws://127.0.0.1:9/";
    for (arguments, said) in [
        ("echo --fail-if p99>50", "--fail-if"),
        ("echo --fail-if p99", "METRIC OPERATOR NUMBER"),
        ("echo --fail-if nonsense>5", "no number \"nonsense\""),
        ("connect --fail-if rate>5", "main.per_second"),
        ("echo --fail-if rate<9%", "main.percent_of_target"),
        ("echo --fail-if server.rss_peak>1GiB", "--server-pid"),
        ("echo --server-pid 4294967295", "--server-pid 4294967295"),
        ("echo --hgrm /nonexistent/x", "--hgrm"),
        ("echo --html /nonexistent/x", "--html"),
        ("echo --svg /proc/x", "--svg"),
        ("echo --sample-interval 1ms", "--sample-interval"),
    ] {
        let words: Vec<_> = arguments.split_whitespace().chain(url.split_whitespace()).collect();
        let (code, out, err) = loadtest(&words);
        assert_eq!(code, Some(2), "{arguments}: {out}{err}");
        assert!(err.contains(said), "{arguments}: {err}");
    }
    assert!(!Path::new("/nonexistent").exists());
}

#[test]
fn a_refused_run_leaves_the_files_of_the_last() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.json");
    fs::write(&path, "the last one").unwrap();
    let json = path.to_str().unwrap();
    let words = ["echo", "--url", "ws://127.0.0.1:9/", "--fail-if", "nonsense>5", "--json", json];
    let (code, out, err) = loadtest(&words);
    assert_eq!(code, Some(2), "{out}{err}");
    assert_eq!(read(&directory, "out.json"), "the last one");
}

#[test]
fn files_hold_nothing_of_the_last_run() {
    let url = format!("ws://{}/", serve(Duration::ZERO));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.json");
    fs::write(&path, "x".repeat(1 << 20)).unwrap();
    let json = path.to_str().unwrap();
    let words = ["connect", "--url", &url, "-c", "2", "--hold", "0", "--json", json];
    let (code, out, err) = loadtest(&words);
    assert_eq!(code, Some(0), "{out}{err}");
    let report: Value = serde_json::from_str(&read(&directory, "out.json")).unwrap();
    assert_eq!(report["verify"]["verified"], 2);
}

#[test]
fn files_are_written_when_nobody_reads_the_text() {
    let url = format!("ws://{}/", serve(Duration::ZERO));
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["connect", "--url", &url, "-c", "2", "--hold", "100ms", "--json"])
        .arg(directory.path().join("out.json"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    child.wait().unwrap();
    let report: Value = serde_json::from_str(&read(&directory, "out.json")).unwrap();
    assert_eq!(report["ok"], true);
}

/// Runs the program as [`run`] does, and interrupts it at the first line of its progress that
/// `is_enough`: the counts of a run are there however little of its time the machine gave it.
fn run_until(arguments: &str, mut is_enough: impl FnMut(&str) -> bool) -> (String, Value) {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("out.json");
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(arguments.split_whitespace())
        .arg("--json")
        .arg(&json)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut progress = BufReader::new(child.stderr.take().unwrap());
    loop {
        let from = said.len();
        assert!(progress.read_line(&mut said).unwrap() > 0, "it ended by itself: {said}");
        if is_enough(&said[from..]) {
            break;
        }
    }
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    progress.read_to_string(&mut said).unwrap();
    let output = child.wait_with_output().unwrap();
    said += &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("FAILED (interrupted)"), "{said}");
    (said, serde_json::from_slice(&fs::read(&json).unwrap()).unwrap())
}

#[test]
fn progress_says_where_the_run_is() {
    let url = serve(Duration::ZERO);
    let arguments = format!(
        "echo --url ws://{url}/ -c 2 --duration 60s --sample-interval 200ms --server-pid {}",
        std::process::id()
    );
    let parts = [
        "  work (",
        " s left)",
        "open 2 of 2",
        "sent ",
        "received ",
        "p99 ",
        "errors 0",
        "server ",
    ];
    run_until(&arguments, |line| parts.iter().all(|part| line.contains(part)));
}

#[test]
fn the_servers_time_is_counted_while_the_work_lasts() {
    let url = serve(Duration::ZERO);
    let arguments = format!(
        "echo --url ws://{url}/ -c 4 --duration 60s --server-pid {} \
         --fail-if server.cpu_us_per_message>1s",
        std::process::id()
    );
    // A line comes a second after the one before: the second was shown after the begin of the work
    // had been noted, and the third says that messages passed since the second.
    let mut shown = 0;
    let (text, report) = run_until(&arguments, |line| {
        shown += u32::from(line.contains("  work ("));
        shown >= 3 && line.contains("received ") && !line.contains("received 0/s")
    });
    let server = &report["server"];
    assert!(server["cpu_seconds_work"].as_f64() > Some(0.0), "{text}");
    assert!(server["cpu_seconds_work"].as_f64() <= server["cpu_seconds"].as_f64(), "{text}");
    assert!(server["cpu_us_per_message"].as_f64() > Some(0.0), "{text}");
    assert_eq!(report["failed_if"].as_array().map(Vec::len), Some(0), "{text}");
    assert!(text.contains(" s of it in the work, "), "{text}");
}
