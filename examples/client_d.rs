//! System D's client: `cargo run --example client_d` beside `cargo run --example d_kim`.
//!
//! Ann signs in over WebSocket and Bob over plain TCP; they talk to each other and in a group, until
//! Ann signs in elsewhere. `tests/transcripts/client_d.txt` is what it prints.

use std::error::Error;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use clap::Parser;
use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use prost::Message as _;
use sha2::Sha256;
use tidegate::client::{About, CallError, Client, DialError, Incoming, Options, OwnedBody};
use tidegate::{Body, Dialect};

/// How long an answer may take, and a push that is to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// 2100, as seconds since 1970.
const EXPIRES: u64 = 4_102_444_800;
/// Each 55 s, as system D's clients have it.
const PING_INTERVAL: Duration = Duration::from_secs(55);

/// System D's client.
#[derive(Parser)]
pub(crate) struct Args {
    /// The server's URL for WebSockets
    #[arg(long, default_value = "ws://127.0.0.1:8080/kim")]
    url: String,
    /// The server's URL for plain TCP
    #[arg(long, default_value = "tcp://127.0.0.1:8081")]
    tcp_url: String,
    /// What tokens are signed with
    #[arg(long, default_value = "secret")]
    secret: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    run(&Args::parse(), &mut io::stdout())
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let refused = Person::sign_in(&args.url, "eve", "none of the secret").err();
    writeln!(out, "eve: {}", refused.ok_or("let in with a wrong token")?)?;
    let ann = Person::sign_in(&args.url, "ann", &args.secret)?;
    let bob = Person::sign_in(&args.tcp_url, "bob", &args.secret)?;

    ann.talk(out, "chat.user.talk", "bob", "hello Bob")?;
    bob.hear(out)?;
    bob.talk(out, "chat.user.talk", "eve", "hello?")?;

    bob.talk(out, "chat.group.talk", "tea", "anyone?")?;
    ann.join("tea")?;
    bob.join("tea")?;
    bob.talk(out, "chat.group.talk", "tea", "tea is ready")?;
    ann.hear(out)?;

    // Ann signs in once more: her old place is told so, closed, and does not come back.
    let again = Person::sign_in(&args.url, "ann", &args.secret)?;
    for _ in 0..4 {
        ann.hear(out)?;
    }
    bob.talk(out, "chat.user.talk", "ann", "still there?")?;
    again.hear(out)?;

    again.client.request("login.signout", Body::Binary(b""), PATIENCE)?;
    again.hear(out)?;
    again.hear(out)?;
    bob.client.close();
    bob.hear(out)?;
    bob.hear(out)
}

struct Person {
    name: &'static str,
    client: Client,
    /// What happened to it.
    told: Receiver<String>,
}

impl Person {
    /// Connects, and signs in before anything else is sent; so again after each reconnect.
    fn sign_in(url: &str, name: &'static str, secret: &str) -> Result<Self, DialError> {
        let (tell, told) = mpsc::channel();
        let [displaced, begun, closed] = std::array::from_fn(|_| tell.clone());
        let secret = secret.to_owned();
        let login =
            move || OwnedBody::Binary(LoginReq { token: token(name, &secret) }.encode_to_vec());
        // Whoever receives has left only when all is over.
        let mut options = Options::new(Dialect::Kim)
            .login("login.signin", login)
            .route("*", move |_, push| drop(tell.send(shown(push))))
            .on_displaced(move |_| drop(displaced.send("is displaced".to_owned())))
            .on_closing(move |_, close| drop(begun.send(close.to_string())))
            .on_closed(move |_, cause| drop(closed.send(cause.to_string())));
        options.ping_interval = Some(PING_INTERVAL);
        // Who has signed out stays out.
        options.reconnect = None;
        Ok(Self { name, client: Client::connect(url, options)?, told })
    }

    /// Says something to an account or a group, and shows the receipt.
    fn talk(
        &self,
        out: &mut dyn Write,
        command: &str,
        dest: &str,
        words: &str,
    ) -> Result<(), Box<dyn Error>> {
        let said = MessageReq { r#type: 1, body: words.to_owned(), extra: String::new() };
        let about = About::key(command).with("dest", dest);
        let receipt = match self.client.request(about, &*said.encode_to_vec(), PATIENCE) {
            Ok(body) => {
                let receipt = MessageResp::decode(body.as_body().as_bytes())?;
                format!("message {} at {}", receipt.message_id, receipt.send_time)
            }
            Err(CallError::Failed { code, message }) => format!("status {code}: {message}"),
            Err(e) => return Err(e.into()),
        };
        Ok(writeln!(out, "{} to {dest}, {words:?}: {receipt}", self.name)?)
    }

    fn join(&self, group: &str) -> Result<(), CallError> {
        let join = GroupReq { account: self.name.to_owned(), group_id: group.to_owned() };
        self.client.request("chat.group.join", &*join.encode_to_vec(), PATIENCE).map(drop)
    }

    /// Shows what has happened next.
    fn hear(&self, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
        Ok(writeln!(out, "{}: {}", self.name, self.told.recv_timeout(PATIENCE)?)?)
    }
}

fn shown(push: &Incoming<'_>) -> String {
    let bytes = push.body.as_bytes();
    if push.key == "login.signin" {
        let channel = KickoutNotify::decode(bytes).unwrap_or_default().channel_id;
        return format!("is told {}: {channel}", push.key);
    }
    let said = MessagePush::decode(bytes).unwrap_or_default();
    let (number, words) = (said.message_id, said.body);
    format!("is told {}: {} says {words:?}, message {number}", push.key, said.sender)
}

/// A token (RFC 7519) as a service for accounts would give it, signed by HS256.
fn token(account: &str, secret: &str) -> String {
    let part = |json: String| BASE64URL_NOPAD.encode(json.as_bytes());
    let header = part(r#"{"alg":"HS256","typ":"JWT"}"#.to_owned());
    let claims = part(format!(r#"{{"acc":"{account}","app":"kim","exp":{EXPIRES}}}"#));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length will do");
    mac.update(format!("{header}.{claims}").as_bytes());
    format!("{header}.{claims}.{}", BASE64URL_NOPAD.encode(&mac.finalize().into_bytes()))
}

#[derive(Clone, PartialEq, prost::Message)]
struct LoginReq {
    #[prost(string, tag = "1")]
    token: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KickoutNotify {
    #[prost(string, tag = "1")]
    channel_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GroupReq {
    #[prost(string, tag = "1")]
    account: String,
    #[prost(string, tag = "2")]
    group_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MessageReq {
    #[prost(int32, tag = "1")]
    r#type: i32,
    #[prost(string, tag = "2")]
    body: String,
    #[prost(string, tag = "3")]
    extra: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MessageResp {
    #[prost(int64, tag = "1")]
    message_id: i64,
    /// Nanoseconds since 1970.
    #[prost(int64, tag = "2")]
    send_time: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MessagePush {
    #[prost(int64, tag = "1")]
    message_id: i64,
    #[prost(string, tag = "3")]
    body: String,
    #[prost(string, tag = "5")]
    sender: String,
}
