//! The limits of a host, made low, are named before anything starts.

mod plain_server;

use std::{process::Command, time::Duration};

use plain_server::serve;

/// Runs the program where so many files may be open.
fn with_descriptors(limit: u32, arguments: &str) -> (Option<i32>, String) {
    let output = Command::new("sh")
        .args([
            "-c",
            &format!("ulimit -n {limit} && exec \"$0\" \"$@\""),
            env!("CARGO_BIN_EXE_loadtest"),
        ])
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn limits_in_the_way_stop_the_run_all_at_once() {
    // Nobody listens there, and nobody is asked.
    let arguments = "connect --url ws://127.0.0.1:9/ -c 100000000 --threads 1 --source-ips off";
    let (code, text) = with_descriptors(128, arguments);
    assert_eq!(code, Some(2), "{text}");
    for limit in ["--threads 1", "ulimit -n", "ip_local_port_range", "MiB"] {
        assert!(text.contains(limit), "{limit}: {text}");
    }
    assert!(text.contains("--no-preflight"), "{text}");
}

#[test]
fn without_the_preflight_limits_are_warnings_and_the_run_says_what_it_met() {
    let arguments = format!(
        "connect --url ws://{}/ -c 150 --threads 1 --hold 0 --no-preflight",
        serve(Duration::ZERO)
    );
    let (code, text) = with_descriptors(128, &arguments);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("warning: --threads 1 cannot hold"), "{text}");
    assert!(text.contains("out of descriptors"), "{text}");
}
