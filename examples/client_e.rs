//! System E's client: `cargo run --example client_e` beside `cargo run --example e_hub`.
//!
//! A client with an identity asks and is asked, fetches news, and is displaced by another of its
//! identity. `tests/transcripts/client_e.txt` is what it prints.

use std::error::Error;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use clap::Parser;
use prost::Message as _;
use tidegate::Dialect;
use tidegate::client::{CallError, Client, DialError, Incoming, Options};

/// How long an answer may take, and a push that is to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// The protocols of the server.
const ECHO: u32 = 2;
const ADD_NEWS: u32 = 3;
const ASK_ME: u32 = 5;
const ANSWERS: u32 = 7;
/// That by which the server asks.
const ASKED: &str = "6";
/// `P_DISPLACE`.
const DISPLACE: &str = "2147483647";

/// System E's client.
#[derive(Parser)]
pub(crate) struct Args {
    /// The server's URL
    #[arg(long, default_value = "ws://127.0.0.1:8080/hub")]
    url: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    run(&Args::parse(), &mut io::stdout())
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let (ann, bob) = (User::connect(&args.url, "ann")?, User::connect(&args.url, "bob")?);
    ann.ask(out, ECHO, "hello")?;
    ann.client.push(ECHO, "client request")?;
    ann.hear(out)?;
    ann.ask(out, 9, "hello")?;

    // The server asks back, and answers what it is answered.
    ann.ask(out, ASK_ME, "who are you?")?;
    ann.hear(out)?;
    ann.ask(out, ANSWERS, "")?;

    bob.client.push(ADD_NEWS, "rain")?;
    ann.hear(out)?;
    bob.hear(out)?;

    // Ann connects once more: her old connection is told so, closed, and does not come back.
    let again = User::connect(&args.url, "ann")?;
    for _ in 0..4 {
        ann.hear(out)?;
    }
    again.ask(out, ECHO, "here now")?;
    for user in [again, bob] {
        user.client.close();
        user.hear(out)?;
        user.hear(out)?;
    }
    Ok(())
}

struct User {
    name: &'static str,
    client: Client,
    /// What happened to it.
    told: Receiver<String>,
}

impl User {
    fn connect(url: &str, name: &'static str) -> Result<Self, DialError> {
        let (tell, told) = mpsc::channel();
        let [asked, displaced, begun, closed] = std::array::from_fn(|_| tell.clone());
        // Whoever receives has left only when all is over.
        let options = Options::new(Dialect::Hub)
            .route("*", move |_, push| drop(tell.send(shown("is told", push))))
            .route(ASKED, move |_, ask| {
                drop(asked.send(shown("is asked", ask)));
                let _ = ask.reply(name);
            })
            .on_displaced(move |_| drop(displaced.send("is displaced".to_owned())))
            .on_closing(move |_, close| drop(begun.send(close.to_string())))
            .on_closed(move |_, cause| drop(closed.send(cause.to_string())));
        let url = format!("{url}?user={name}&type=1&device=phone&source=app");
        Ok(Self { name, client: Client::connect(&url, options)?, told })
    }

    /// Asks, and shows the answer.
    fn ask(&self, out: &mut dyn Write, protocol: u32, words: &str) -> Result<(), Box<dyn Error>> {
        let answer = match self.client.request(protocol, words, PATIENCE) {
            Ok(answer) => String::from_utf8_lossy(answer.as_body().as_bytes()).into_owned(),
            Err(CallError::Failed { code, message }) => format!("error {code}: {message}"),
            Err(e) => return Err(e.into()),
        };
        Ok(writeln!(out, "{} asks {protocol} {words:?}: {answer}", self.name)?)
    }

    /// Shows what has happened next.
    fn hear(&self, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
        Ok(writeln!(out, "{}: {}", self.name, self.told.recv_timeout(PATIENCE)?)?)
    }
}

fn shown(how: &str, incoming: &Incoming<'_>) -> String {
    let bytes = incoming.body.as_bytes();
    if incoming.key == DISPLACE {
        let Displace { old_ip, new_ip } = Displace::decode(bytes).unwrap_or_default();
        return format!("{how} {DISPLACE}: from {old_ip} to {new_ip}");
    }
    format!("{how} {}: {}", incoming.key, String::from_utf8_lossy(bytes))
}

/// What is read of `P_DISPLACE`; it also says when.
#[derive(Clone, PartialEq, prost::Message)]
struct Displace {
    #[prost(string, tag = "1")]
    old_ip: String,
    #[prost(string, tag = "2")]
    new_ip: String,
}
