//! System C's client: `cargo run --example client_c` beside `cargo run --example c_rooms`.
//!
//! First the tutorial's commands, over all five kinds of frames; then two in a room, who are told the
//! time as well. `tests/transcripts/client_c.txt` is what it prints.

use std::error::Error;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use clap::Parser;
use tidegate::client::{CallError, Client, DialError, Options};
use tidegate::{Body, Dialect};

/// How long an answer may take, and an event that is to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a Close may take to be answered.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// System C's client.
#[derive(Parser)]
pub(crate) struct Args {
    /// The server's URL, without a path
    #[arg(long, default_value = "ws://127.0.0.1:8080")]
    url: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    run(&Args::parse(), &mut io::stdout())
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    commands(&format!("{}/c0", args.url), out)?;
    rooms(&format!("{}/room/tea", args.url), out)
}

/// The first step: what is no event is a command, and an empty text beside its name makes it one.
fn commands(url: &str, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let zero = Guest::connect(url, "c0")?;
    zero.ask(out, "helloworld", "")?;
    zero.ask(out, "dance", "")?;
    zero.client.ping(b"hi")?;
    zero.hear(out)?;
    zero.client.send_binary(&[0, 255])?;
    zero.hear(out)?;
    zero.client.push("close", "")?;
    zero.hear_the_end(out)?;

    // What Ctrl-C does: Close 1000, and a second for the answer.
    let zero = Guest::connect(url, "c0")?;
    zero.client.close();
    zero.hear_the_end(out)
}

fn rooms(url: &str, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let (ann, bob) = (Guest::connect(url, "ann")?, Guest::connect(url, "bob")?);
    ann.client.push("publish", Body::Json(r#""hello""#))?;
    ann.hear(out)?;
    bob.hear(out)?;
    ann.client.push("publish_no_self", Body::Json(r#"{"n":[1,2]}"#))?;
    bob.hear(out)?;
    ann.ask(out, "message", "to myself")?;
    ann.ask(out, "dance", "now")?;
    ann.hear_time(out)?;

    bob.client.push("leave", "good night")?;
    ann.hear(out)?;
    bob.hear_the_end(out)?;
    ann.client.push("close", "closing time")?;
    ann.hear(out)?;
    ann.hear_the_end(out)
}

struct Guest {
    name: &'static str,
    client: Client,
    /// What happened to it, but for the time.
    told: Receiver<String>,
    times: Receiver<String>,
}

impl Guest {
    fn connect(url: &str, name: &'static str) -> Result<Self, DialError> {
        let ((tell, told), (time, times)) = (mpsc::channel(), mpsc::channel());
        let [pong, begun, closed] = std::array::from_fn(|_| tell.clone());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // Whoever receives has left only when all is over.
        let mut options = Options::new(Dialect::Event)
            .route("*", move |_, event| {
                let body = text(event.body.as_bytes());
                drop(tell.send(format!("is told {}: {body}", event.key)));
            })
            .route("time", move |_, event| drop(time.send(text(event.body.as_bytes()))))
            .on_pong(move |_, payload| drop(pong.send(format!("gets the pong {}", text(payload)))))
            .on_closing(move |_, close| drop(begun.send(close.to_string())))
            .on_closed(move |_, cause| drop(closed.send(cause.to_string())));
        // The tutorial's clients go with their connection.
        options.reconnect = None;
        options.close_timeout = CLOSE_TIMEOUT;
        Ok(Self { name, client: Client::connect(url, options)?, told, times })
    }

    /// Asks, and shows the answer.
    fn ask(&self, out: &mut dyn Write, key: &str, body: &str) -> Result<(), Box<dyn Error>> {
        let answer = match self.client.request(key, body, PATIENCE) {
            Ok(answer) => String::from_utf8_lossy(answer.as_body().as_bytes()).into_owned(),
            Err(CallError::Failed { code, message }) => format!("error {code}: {message}"),
            Err(e) => return Err(e.into()),
        };
        Ok(writeln!(out, "{} asks {key} {body:?}: {answer}", self.name)?)
    }

    /// Shows what has happened next.
    fn hear(&self, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
        Ok(writeln!(out, "{}: {}", self.name, self.told.recv_timeout(PATIENCE)?)?)
    }

    /// Shows who closes, and how it ends.
    fn hear_the_end(&self, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
        self.hear(out)?;
        self.hear(out)
    }

    fn hear_time(&self, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
        Ok(writeln!(
            out,
            "{}: is told the time: {}",
            self.name,
            self.times.recv_timeout(PATIENCE)?
        )?)
    }
}
