//! System B's client: `cargo run --example client_b` beside `cargo run --example b_ginserver`.
//!
//! As system B connects to others: servers by name, tried again 3 s after each loss, calls that wait
//! for 6 s and of which 100 may be open. Here two names are the same server, once as an operator.
//! `tests/transcripts/client_b.txt` is what it prints.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use clap::Parser;
use tidegate::client::{About, CallError, Client, DialError, Options, Reconnect};
use tidegate::{Body, Dialect};

/// How long an answer may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(6);
const MAX_OPEN_CALLS: usize = 100;
const RECONNECT: Duration = Duration::from_secs(3);
/// How long a push that is to come may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// System B's client.
#[derive(Parser)]
pub(crate) struct Args {
    /// The server's URL
    #[arg(long, default_value = "ws://127.0.0.1:8080/ws")]
    url: String,
    /// The operators' token
    #[arg(long, default_value = "secret")]
    token: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    run(&Args::parse(), &mut io::stdout())
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let mut upstreams = Upstreams::default();
    upstreams.connect("shop", &args.url)?;
    upstreams.connect("office", &format!("{}?token={}", args.url, args.token))?;

    upstreams.ask(out, "shop", "heart_beat".into(), "null")?;
    upstreams.ask(out, "shop", "price".into(), r#"{"item":"tea","count":3}"#)?;
    upstreams.ask(out, "shop", "price".into(), r#"{"item":"tea","count":0}"#)?;
    upstreams.ask(out, "shop", "dance".into(), "null")?;

    // To address others takes a permission; whom a list names, and all.
    let id = upstreams.ask(out, "shop", "client_id".into(), "null")?;
    let list = format!("[{id}]");
    let listed = About::key("notice").with("client_ids", Body::Json(&list));
    upstreams.ask(out, "shop", listed.clone(), r#""psst""#)?;
    upstreams.ask(out, "office", listed, r#""psst""#)?;
    upstreams.hear(out, "shop")?;
    let to_all = About::key("notice").with("is_broadcast", Body::Json("true"));
    upstreams.ask(out, "office", to_all, r#"{"closing":"in 5 min"}"#)?;
    upstreams.hear(out, "shop")?;
    upstreams.close(out)
}

/// Servers by name.
#[derive(Default)]
struct Upstreams(BTreeMap<&'static str, (Client, Receiver<String>)>);

impl Upstreams {
    fn connect(&mut self, name: &'static str, url: &str) -> Result<(), DialError> {
        let (tell, told) = mpsc::channel();
        let closed = tell.clone();
        let mut options = Options::new(Dialect::Action)
            .subprotocol("v1")
            .route("*", move |_, push| {
                let body = String::from_utf8_lossy(push.body.as_bytes());
                // Whoever receives has left only when all is over.
                drop(tell.send(format!("pushes {}: {body}", push.key)));
            })
            .on_closed(move |_, cause| drop(closed.send(cause.to_string())));
        options.reconnect = Some(Reconnect::every(RECONNECT));
        options.max_open_calls = MAX_OPEN_CALLS;
        self.0.insert(name, (Client::connect(url, options)?, told));
        Ok(())
    }

    fn get(&self, name: &str) -> Result<&(Client, Receiver<String>), Box<dyn Error>> {
        Ok(self.0.get(name).ok_or("no upstream of this name")?)
    }

    /// Asks, shows the answer and gives it.
    fn ask(
        &self,
        out: &mut dyn Write,
        name: &str,
        about: About<'_>,
        body: &str,
    ) -> Result<String, Box<dyn Error>> {
        let (client, _) = self.get(name)?;
        let asked = format!("{about}");
        let answer = match client.request(about, Body::Json(body), CALL_TIMEOUT) {
            Ok(answer) => String::from_utf8_lossy(answer.as_body().as_bytes()).into_owned(),
            Err(CallError::Failed { code, message }) => format!("error {code}: {message}"),
            Err(e) => return Err(e.into()),
        };
        writeln!(out, "{name}: {asked} {body}: {answer}")?;
        Ok(answer)
    }

    /// Shows what a server pushed next.
    fn hear(&self, out: &mut dyn Write, name: &str) -> Result<(), Box<dyn Error>> {
        let (_, told) = self.get(name)?;
        Ok(writeln!(out, "{name}: {}", told.recv_timeout(PATIENCE)?)?)
    }

    /// Closes them all in order, and shows how it went.
    fn close(self, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
        for (name, (client, told)) in self.0 {
            client.stop();
            for what in told.try_iter() {
                writeln!(out, "{name}: {what}")?;
            }
        }
        Ok(())
    }
}
