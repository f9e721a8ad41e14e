//! System A's client: `cargo run --example client_a` beside `cargo run --example a_websocketmgr`.
//!
//! Two clients name themselves, ask the server, push to each other through it and are asked by it.
//! Whose name is in use is refused. `tests/transcripts/client_a.txt` is what it prints.

use std::error::Error;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use clap::Parser;
use tidegate::client::{About, CallError, Client, DialError, Handle, Incoming, Options};
use tidegate::{Body, Dialect};

/// How long an answer may take, and a push that is to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// System A's client.
#[derive(Parser)]
pub(crate) struct Args {
    /// The server's URL
    #[arg(long, default_value = "ws://127.0.0.1:8080/")]
    url: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    run(&Args::parse(), &mut io::stdout())
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let one = Edge::connect(&args.url, "edge-1")?;
    let again = Edge::connect(&args.url, "edge-1").err().ok_or("let in twice")?;
    writeln!(out, "edge-1 again: {again}")?;
    let two = Edge::connect(&args.url, "edge-2")?;
    one.ask(out, "get:clients", "null")?;

    // What wants no answer, and what does.
    one.report("alarm", r#"{"code":7}"#)?;
    one.report("alarm", r#"{"code":8}"#)?;
    one.ask(out, "count:alarms", "null")?;

    two.ask(out, "send:notice", r#"{"to":"edge-1","text":"hello, ä"}"#)?;
    one.hear(out)?;
    two.ask(out, "send:notice", r#"{"to":"edge-3","text":"hello"}"#)?;

    // The server asks one what two wants to know.
    two.ask(out, "query:status", r#"{"of":"edge-1"}"#)?;
    one.hear(out)?;

    two.leave(out)?;
    one.hear(out)?;
    one.leave(out)
}

/// A client by its name.
struct Edge {
    name: &'static str,
    client: Client,
    /// What happened to it.
    told: Receiver<String>,
}

impl Edge {
    fn connect(url: &str, name: &'static str) -> Result<Self, DialError> {
        let (tell, told) = mpsc::channel();
        let [pushed, asked, begun, closed] = std::array::from_fn(|_| tell.clone());
        // Whoever receives has left only when all is over.
        let options = Options::new(Dialect::Mef)
            .header("clientName", name)
            .route("*", move |_, push| drop(pushed.send(shown("is told", push))))
            .route("get:status", move |_: &Handle, ask: &Incoming<'_>| {
                drop(asked.send(shown("is asked", ask)));
                let _ = ask.reply(Body::Json(r#"{"load":0.5}"#));
            })
            .on_closing(move |_, close| drop(begun.send(close.to_string())))
            .on_closed(move |_, cause| drop(closed.send(cause.to_string())));
        Ok(Self { name, client: Client::connect(url, options)?, told })
    }

    /// Asks, and shows the answer.
    fn ask(&self, out: &mut dyn Write, key: &str, body: &str) -> Result<(), Box<dyn Error>> {
        let about = About::key(key).with("source", self.name).with("destination", "cloud");
        let answer = match self.client.request(about, Body::Json(body), PATIENCE) {
            Ok(answer) => String::from_utf8_lossy(answer.as_body().as_bytes()).into_owned(),
            Err(CallError::Failed { code, message }) => format!("error {code}: {message}"),
            Err(e) => return Err(e.into()),
        };
        Ok(writeln!(out, "{} asks {key} {body}: {answer}", self.name)?)
    }

    fn report(&self, resource: &str, body: &str) -> Result<(), Box<dyn Error>> {
        let key = format!("report:{resource}");
        let about = About::key(&*key).with("source", self.name).with("destination", "cloud");
        Ok(self.client.push(about, Body::Json(body))?)
    }

    /// Shows what has happened next.
    fn hear(&self, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
        Ok(writeln!(out, "{}: {}", self.name, self.told.recv_timeout(PATIENCE)?)?)
    }

    /// Closes in order, and shows how it went.
    fn leave(self, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
        self.client.stop();
        for what in self.told.try_iter() {
            writeln!(out, "{}: {what}", self.name)?;
        }
        Ok(())
    }
}

fn shown(how: &str, incoming: &Incoming<'_>) -> String {
    let body = String::from_utf8_lossy(incoming.body.as_bytes());
    format!("{how} {}: {body}", incoming.key)
}
