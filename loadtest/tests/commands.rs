//! The program against real servers: tungstenite's, one blocking thread a connection, in several
//! moods. What the servers do wrong must be seen, named, and make the exit code 1.

mod program;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use program::{Run, both, loadtest};
use serde_json::Value;
use tungstenite::{Message, WebSocket, protocol::CloseFrame};

/// How a server treats its clients.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    /// Echoes and answers pings and closes.
    Good,
    /// Changes the last byte of the tenth message of each connection.
    Corrupting,
    /// Sends the fifth and sixth answer in the other order.
    Reordering,
    /// Answers the tenth message twice.
    Repeating,
    /// Never answers after the tenth message.
    Forgetting,
    /// Refuses every other handshake with 503.
    Refusing,
    /// Answers the handshake with a key that is not the client's.
    Misaccepting,
    /// Closes with 1001 once the handshake is done.
    Closing,
    /// Drops the stream once the handshake is done.
    Dropping,
    /// Takes bytes and says nothing at all.
    Silent,
    /// Answers pings with another payload.
    Mispinging,
    /// Ends the stream at a Close instead of answering it.
    Rude,
    /// Answers a Close and then keeps the stream open.
    Lingering,
    /// Answers a Close and then sends a message.
    Babbling,
}

/// Starts a server that lives as long as the test process.
fn serve(mood: Mood) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let accepted = AtomicUsize::new(0);
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            let number = accepted.fetch_add(1, Relaxed);
            thread::spawn(move || client(stream, mood, number));
        }
    });
    address
}

fn client(mut stream: TcpStream, mood: Mood, number: usize) {
    match mood {
        Mood::Silent => drop(stream.read_to_end(&mut Vec::new())),
        Mood::Refusing if number % 2 == 1 => refuse(stream),
        Mood::Misaccepting => {
            read_head(&mut stream);
            let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: \
                          Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        }
        _ => {
            if let Ok(socket) = tungstenite::accept(stream) {
                // What a client does to its stream at the end is not this server's matter.
                let _ = talk(socket, mood);
            }
        }
    }
}

fn refuse(mut stream: TcpStream) {
    read_head(&mut stream);
    let answer = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(answer.as_bytes()).unwrap();
}

fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
}

fn talk(mut socket: WebSocket<TcpStream>, mood: Mood) -> tungstenite::Result<()> {
    match mood {
        Mood::Closing => {
            let frame = CloseFrame { code: 1001.into(), reason: "going".into() };
            socket.close(Some(frame))?;
        }
        Mood::Dropping => return Ok(()),
        _ => {}
    }
    let mut kept = None;
    for number in 1.. {
        let message = match read(&mut socket, mood)? {
            Some(message) => message,
            None => return Ok(()),
        };
        match (mood, number) {
            (Mood::Corrupting, 10) => socket.send(corrupted(message))?,
            (Mood::Reordering, 5) => kept = Some(message),
            (Mood::Repeating, 10) => {
                socket.send(message.clone())?;
                socket.send(message)?;
            }
            (Mood::Forgetting, 10..) => {}
            _ => socket.send(message)?,
        }
        if number > 5
            && let Some(late) = kept.take()
        {
            socket.send(late)?;
        }
    }
    Ok(())
}

/// The next data message; `None` if the server should end the stream.
fn read(socket: &mut WebSocket<TcpStream>, mood: Mood) -> tungstenite::Result<Option<Message>> {
    if mood == Mood::Mispinging {
        // A codec of its own, as tungstenite's answers pings by itself.
        let mut stream = socket.get_ref().try_clone()?;
        let mut ping = [0; 14];
        stream.read_exact(&mut ping)?;
        assert_eq!(ping[..2], [0x89, 0x88]);
        stream.write_all(b"\x8a\x08otherone")?;
        stream.read_to_end(&mut Vec::new())?;
        return Ok(None);
    }
    loop {
        match socket.read()? {
            Message::Close(_) if mood == Mood::Rude => return Ok(None),
            Message::Close(_) if [Mood::Lingering, Mood::Babbling].contains(&mood) => {
                let mut stream = socket.get_ref().try_clone()?;
                stream.write_all(b"\x88\x02\x03\xe8")?;
                if mood == Mood::Babbling {
                    stream.write_all(b"\x81\x01x")?;
                }
                stream.read_to_end(&mut Vec::new())?;
                return Ok(None);
            }
            message if message.is_binary() || message.is_text() => return Ok(Some(message)),
            _ => {}
        }
    }
}

fn corrupted(message: Message) -> Message {
    let mut bytes = message.into_data().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    Message::binary(bytes)
}

#[test]
fn connect_verifies_and_closes_every_connection() {
    let Run { code, text, json } = loadtest("connect -c 20 --hold 100ms", serve(Mood::Good));
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(json["ok"], true);
    assert_eq!(json["connect"]["connected"], 20);
    assert_eq!(json["verify"]["verified"], 20);
    assert_eq!(json["verify"]["ping_us"]["count"], 20);
    assert_eq!(json["close"]["clean"], 20);
    assert_eq!(json["close"]["left_open_by_server"], 0);
    assert!(text.contains("result       ok"), "{text}");
}

#[test]
fn several_threads_share_the_connections() {
    let arguments = "connect -c 21 --hold 0 --threads 4 --rate 500";
    let Run { code, text, json } = loadtest(arguments, serve(Mood::Good));
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(json["threads"], 4);
    assert_eq!(json["verify"]["verified"], 21);
}

#[test]
fn source_addresses_are_taken_in_turn() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let peers = thread::spawn(move || {
        let mut peers: Vec<_> = (0..6)
            .map(|_| {
                let (stream, peer) = listener.accept().unwrap();
                refuse(stream);
                peer.ip().to_string()
            })
            .collect();
        peers.sort();
        peers
    });
    loadtest("connect -c 6 --hold 0 --source-ips 127.0.0.5,127.0.0.6", address);
    let (one, other) = ("127.0.0.5", "127.0.0.6");
    assert_eq!(peers.join().unwrap(), [one, one, one, other, other, other]);
}

/// Runs the program where 128 files may be open, far fewer than it needs.
fn with_few_descriptors(arguments: &str, address: SocketAddr) -> (Option<i32>, String) {
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 128 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_loadtest")])
        .args(arguments.split_whitespace())
        .args(["--url", &format!("ws://{address}/")])
        .output()
        .unwrap();
    (output.status.code(), both(&output))
}

#[test]
fn descriptor_tables_of_its_own_hold_more_than_the_limit() {
    let address = serve(Mood::Good);
    let (code, text) = with_few_descriptors("connect -c 200 --hold 100ms", address);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("4 thread(s), own descriptor tables"), "{text}");
    assert!(text.contains("verified     200 by ping"), "{text}");
    let (code, text) = with_few_descriptors("echo -c 200 --duration 300ms", address);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn too_few_threads_for_the_descriptors_are_refused() {
    let (code, text) = with_few_descriptors("connect -c 200 --threads 1", serve(Mood::Good));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--threads 1"), "{text}");
}

#[test]
fn echo_compares_every_answer() {
    for arguments in [
        "echo -c 5 --duration 300ms --size 20",
        "echo -c 5 --duration 300ms --size 0",
        "echo -c 3 --duration 300ms --size 200KiB --pipeline 4",
        "echo -c 5 --duration 300ms --size 1000 --text --pipeline 8 --threads 2",
    ] {
        let Run { code, text, json } = loadtest(arguments, serve(Mood::Good));
        assert_eq!(code, Some(0), "{arguments}: {text}");
        let echo = &json["echo"];
        assert!(echo["sent"].as_u64().unwrap() > 0);
        assert_eq!(echo["sent"], echo["right"], "{arguments}: {text}");
        assert_eq!(echo["latency_us"]["count"], echo["sent"]);
    }
}

#[test]
fn a_fixed_rate_sends_exactly_what_is_due() {
    let arguments = "echo -c 7 --duration 500ms --rate 1000 --threads 2";
    let Run { code, text, json } = loadtest(arguments, serve(Mood::Good));
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(json["echo"]["sent"], 500);
    assert_eq!(json["echo"]["send_lag_us"]["count"], 500);
}

#[test]
fn wrong_answers_are_seen_and_named() {
    for (mood, arguments, kind) in [
        (Mood::Corrupting, "--pipeline 1", "answer with other bytes"),
        (Mood::Corrupting, "--text --pipeline 1", "answer of the other type (text or binary)"),
        (Mood::Reordering, "--pipeline 4", "answer out of order or one missing before it"),
        (Mood::Repeating, "--pipeline 4", "answer a second time"),
    ] {
        let arguments = format!("echo -c 2 --duration 300ms --timeout 1s {arguments}");
        let Run { code, text, json } = loadtest(&arguments, serve(mood));
        assert_eq!(code, Some(1), "{mood:?}: {text}");
        assert_eq!(json["ok"], false);
        // How long a wrong answer took says nothing.
        assert_eq!(json["echo"]["latency_us"]["count"], json["echo"]["right"], "{mood:?}: {text}");
        let seen = json["echo"]["wrong"][kind].as_u64();
        assert!(seen.is_some_and(|seen| seen >= 2), "{mood:?}: {text}");
    }
}

#[test]
fn answers_that_never_come_are_counted() {
    let arguments = "echo -c 3 --duration 200ms --pipeline 2 --timeout 300ms";
    let Run { code, text, json } = loadtest(arguments, serve(Mood::Forgetting));
    assert_eq!(code, Some(1), "{text}");
    // Nine answers each; then the pipeline is full of messages without one.
    assert_eq!(json["echo"]["right"], 27);
    assert_eq!(json["echo"]["unanswered"], 6);
    assert_eq!(json["hold"]["lost"]["timeout: no answer"], 3);
}

#[test]
fn refusals_are_counted_by_status() {
    let Run { code, text, json } = loadtest("connect -c 10 --hold 100ms", serve(Mood::Refusing));
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(json["connect"]["refused"]["HTTP 503"], 5);
    assert_eq!(json["verify"]["verified"], 5);
    assert!(text.contains("5 × HTTP 503"), "{text}");
}

#[test]
fn failed_handshakes_are_counted_by_kind() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, kind) in [
        (nobody, "connection refused"),
        (serve(Mood::Silent), "timeout: no handshake"),
        (serve(Mood::Misaccepting), "bad handshake: wrong Sec-WebSocket-Accept"),
    ] {
        let Run { code, text, json } = loadtest("connect -c 4 --hold 0 --timeout 300ms", address);
        assert_eq!(code, Some(1), "{text}");
        assert_eq!(json["connect"]["refused"][kind], 4, "{text}");
        assert_eq!(json["connect"]["connected"], 0);
    }
}

#[test]
fn connections_lost_in_the_hold_are_counted_by_kind() {
    for (mood, kind) in [
        (Mood::Closing, "closed with 1001"),
        (Mood::Dropping, "end of stream without a close"),
        (Mood::Mispinging, "pong with another payload"),
    ] {
        let Run { code, text, json } = loadtest("connect -c 4 --hold 300ms", serve(mood));
        assert_eq!(code, Some(1), "{mood:?}: {text}");
        assert_eq!(json["hold"]["lost"][kind], 4, "{mood:?}: {text}");
        assert_eq!(json["verify"]["verified"], 0);
        assert_eq!(json["close"]["clean"], 0);
    }
}

#[test]
fn closes_without_an_answer_are_counted() {
    let arguments = "connect -c 4 --hold 0 --timeout 2s";
    let Run { code, text, json } = loadtest(arguments, serve(Mood::Rude));
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(json["verify"]["verified"], 4, "{text}");
    assert_eq!(json["close"]["clean"], 0, "{text}");
    let unclean = json["close"]["unclean"].as_object().unwrap();
    assert_eq!(unclean.values().filter_map(Value::as_u64).sum::<u64>(), 4, "{text}");
}

#[test]
fn streams_left_open_after_the_close_are_told() {
    let arguments = "connect -c 3 --hold 0 --timeout 300ms";
    let Run { code, text, json } = loadtest(arguments, serve(Mood::Lingering));
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(json["close"]["clean"], 3);
    assert_eq!(json["close"]["left_open_by_server"], 3);
}

#[test]
fn what_comes_behind_the_close_is_an_error() {
    let arguments = "connect -c 3 --hold 0 --timeout 2s";
    let Run { code, text, json } = loadtest(arguments, serve(Mood::Babbling));
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(json["close"]["clean"], 0, "{text}");
    let unclean = json["close"]["unclean"].as_object().unwrap();
    assert_eq!(unclean.values().filter_map(Value::as_u64).sum::<u64>(), 3, "{text}");
}

#[test]
fn a_run_without_connections_ends_at_once() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let Run { code, text, json } = loadtest("connect -c 4 --threads 2 --hold 40s", nobody);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(json["connect"]["refused"]["connection refused"], 4, "{text}");
    assert!(json["hold"]["seconds"].as_f64() < Some(40.0), "{text}");
}

#[test]
fn a_signal_ends_the_run_early_and_in_order() {
    let url = format!("ws://{}/", serve(Mood::Good));
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["connect", "-c", "3", "--hold", "1h", "--url", &url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(progress.any(|line| line.unwrap().contains("open 3 of 3")));
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = both(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("closed       3 cleanly"), "{text}");
    assert!(text.contains("interrupted"), "{text}");
    assert!(text.contains("held") && !text.contains("3600.0 s"), "{text}");
}

#[test]
fn the_same_seed_sends_the_same_bytes() {
    let sent = |seed: &str| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let first = thread::spawn(move || {
            let mut socket = tungstenite::accept(listener.accept().unwrap().0).unwrap();
            let message = socket.read().unwrap();
            socket.send(message.clone()).unwrap();
            while socket.read().is_ok() {}
            message
        });
        loadtest(&format!("echo -c 1 --duration 50ms --timeout 200ms --seed {seed}"), address);
        first.join().unwrap()
    };
    assert_eq!(sent("5"), sent("5"));
    assert_ne!(sent("5"), sent("6"));
}

#[test]
fn bad_arguments_name_the_flag_and_exit_with_2() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap();
        (output.status.code(), both(&output))
    };
    for (arguments, flag) in [
        (&["connect"] as &[&str], "--url"),
        (&["connect", "--url", "http://127.0.0.1/"], "--url"),
        (&["connect", "--url", "ws://127.0.0.1/", "--connections", "0"], "--connections"),
        (&["connect", "--url", "ws://127.0.0.1/", "--hold", "1d"], "--hold"),
        (&["connect", "--url", "ws://127.0.0.1/", "--source-ips", "x"], "--source-ips"),
        (&["connect", "--url", "ws://127.0.0.1/", "--json", "/nonexistent/x"], "--json"),
        (&["echo", "--url", "ws://127.0.0.1/", "--rate", "5", "--pipeline", "2"], "--pipeline"),
        (&["echo", "--url", "ws://127.0.0.1/", "--size", "1TiB"], "--size"),
    ] {
        let (code, text) = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
        assert!(text.contains(flag), "{arguments:?}: {text}");
    }
    assert_eq!(run(&["--help"]).0, Some(0));
}
