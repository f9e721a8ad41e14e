//! The same clients over TLS, which they check the certificate of, and compressed: each with what a loop's
//! connections share and with compressors of its own.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tidegate::protocol::deflate::DeflateMode;
use tidegate::{Body, GatewayBuilder, Stopped};
use tungstenite::Message;

use super::served::{Served, stats_until};
use super::{assert_passed, client, node, python};

/// Publishes that members hear, and how often each says its words: nothing, little and nearly the limit.
const TIMES: [usize; 6] = [0, 1, 40, 5_000, 1, 100_000];

/// What runs a script, and the script.
type Script = (fn() -> PathBuf, &'static str);

const CLIENTS: [Script; 3] =
    [(python, "python_websockets.py"), (node, "node_ws.mjs"), (node, "chromium.mjs")];

fn serve(mode: DeflateMode, workers: usize) -> Served {
    Served::start(|builder: GatewayBuilder| {
        builder.configure(|config| {
            (config.loops, config.workers) = (2, workers);
            config.deflate.mode = mode;
            // What does not compress is a little longer for it, and the largest has 1 MiB before.
            (config.max_message_bytes, config.max_frame_bytes) = (2 << 20, 2 << 20);
        })
    })
}

/// A client that trusts the gateway's certificate and no other of its kind.
fn trusting(served: &Served, (interpreter, script): Script) -> Command {
    let mut command = client(&interpreter(), script, &format!("wss://{}", served.addr()));
    command
        .env("SSL_CERT_FILE", &served.made.authority)
        .env("NODE_EXTRA_CA_CERTS", &served.made.authority)
        .env("TIDEGATE_CERT", &served.made.certificate);
    command
}

fn check(which: usize, mode: DeflateMode, workers: usize) {
    let served = serve(mode, workers);
    let script = CLIENTS[which].1;
    let output = trusting(&served, CLIENTS[which]).output().expect("the interpreter starts");
    assert_passed(script, &output);
    stats_until(&served.running, "all gone", |s| s["totals"]["connections"] == 0);
    let stats = served.running.stats();
    let count = |name: &str| stats["totals"][name].as_u64().expect("a count");
    assert!(count("tls_handshakes") > 0 && count("deflate_agreed") > 0, "{stats}");
    assert!(count("messages_inflated") > 100 && count("messages_deflated") > 1000, "{stats}");
    assert_eq!(stats["buffers"]["tls_bytes"], 0);
    assert_eq!(served.running.stop(|| false).0, Stopped::Clean);
}

#[test]
fn python_websockets_shared() {
    check(0, DeflateMode::Shared, 0);
}

#[test]
fn python_websockets_dedicated() {
    check(0, DeflateMode::Dedicated, 2);
}

#[test]
fn node_ws_shared() {
    check(1, DeflateMode::Shared, 0);
}

#[test]
fn node_ws_dedicated() {
    check(1, DeflateMode::Dedicated, 2);
}

#[test]
fn chromium_shared() {
    check(2, DeflateMode::Shared, 0);
}

#[test]
fn chromium_dedicated() {
    check(2, DeflateMode::Dedicated, 2);
}

/// Who does not know the authority does not connect: what the others trust is what makes them.
#[test]
fn nobody_connects_without_trust() {
    let served = serve(DeflateMode::Shared, 0);
    for (interpreter, script) in CLIENTS {
        let url = format!("wss://{}", served.addr());
        let output = client(&interpreter(), script, &url).output().expect("it starts");
        assert!(!output.status.success(), "{script}");
    }
    assert_eq!(served.running.stats()["totals"]["opened"], 0);
}

#[test]
fn a_room_reaches_all_of_them_and_one_that_is_not_compressed() {
    for mode in [DeflateMode::Shared, DeflateMode::Dedicated] {
        let served = serve(mode, 2);
        let mut plain = served.open("/ws");
        let join = r#"{"route":"join","id":1,"body":{"room":"tea"}}"#;
        plain.send(Message::text(join)).unwrap();
        plain.read().unwrap();
        let mut members: Vec<_> = CLIENTS.map(|client| join_by(&served, client)).into();
        for (_, lines) in &mut members {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            assert_eq!(line, "joined\n");
        }
        let before = served.running.stats()["totals"]["messages_deflated"].as_u64().unwrap();
        let publishes: Vec<_> = TIMES.iter().enumerate().map(publish).collect();
        for publish in &publishes {
            served.running.gateway().publish("tea", Body::Json(publish)).unwrap();
        }
        for publish in &publishes {
            let heard: serde_json::Value =
                serde_json::from_str(plain.read().unwrap().to_text().unwrap()).unwrap();
            assert!(heard["data"] == serde_json::from_str::<serde_json::Value>(publish).unwrap());
        }
        for (child, _) in members {
            let output = child.wait_with_output().expect("it ends");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let after = served.running.stats()["totals"]["messages_deflated"].as_u64().unwrap();
        // Each of the three long ones once for each of the three.
        assert_eq!(after - before, 9, "{mode:?}");
    }
}

fn publish((n, times): (usize, &usize)) -> String {
    let text = format!("tide {n} ").repeat(*times);
    serde_json::json!({"n": n, "times": times, "text": text}).to_string()
}

/// A member of the room, and what it says.
fn join_by(served: &Served, client: Script) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut command = trusting(served, client);
    command.args(["tea", &TIMES.len().to_string()]);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let stdout = child.stdout.take().expect("piped");
    (child, BufReader::new(stdout))
}
