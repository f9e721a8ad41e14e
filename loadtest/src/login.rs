//! Who connections say they are, in the way of their dialect: connection `N` is the user `loadtest-N`.
//!
//! | dialect | how |
//! |---|---|
//! | `kim` | its first packet, `login.signin`, with a token signed under `--login-secret` |
//! | `mef` | the header `clientName` of the upgrade |
//! | others | parameters of the URL: `user`, `type`, `device`, `source` |

use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;
use tungstenite::{Bytes, Message};

use crate::{
    dialect::{
        Dialect, Ticket,
        kim::{Header, put_request, split},
        protobuf::put_bytes,
    },
    trouble::Trouble,
};

/// What signs in.
const SIGNIN: &str = "login.signin";
/// The sequence of the packet that signs in; no other packet waits beside it.
const SEQUENCE: u32 = 1;
/// How long tokens are good, in seconds: longer than any run.
const VALID_SECONDS: u64 = 31 * 86_400;
/// What a server says that has no such command: no destination, no such command, not implemented.
const UNKNOWN: [u64; 3] = [100, 103, 301];
/// The field of the token in `LoginReq`.
const TOKEN: u32 = 1;

/// How connections log in.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    /// What tokens are signed under; only `kim` needs it.
    secret: String,
    /// When tokens end, in seconds since 1970.
    expires: u64,
}

impl Login {
    /// With tokens that are good from now on; the error names the flag.
    pub(crate) fn new(secret: Option<&str>, dialects: &[Dialect]) -> Result<Self, String> {
        if secret.is_none() && dialects.contains(&Dialect::Kim) {
            return Err("--login: kim signs its token, under --login-secret".to_owned());
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let expires = since.as_secs() + VALID_SECONDS;
        Ok(Self { secret: secret.unwrap_or_default().to_owned(), expires })
    }

    /// What the upgrade's request target gets behind `path`, and its headers, each with a line break.
    pub(crate) fn upgrade(dialect: Dialect, path: &str, index: u32) -> (String, String) {
        let user = user(index);
        match dialect {
            Dialect::Kim => (path.to_owned(), String::new()),
            Dialect::Mef => (path.to_owned(), format!("clientName: {user}\r\n")),
            _ => {
                let mark = if path.contains('?') { '&' } else { '?' };
                let parameters = format!("user={user}&type=1&device=loadtest&source=loadtest");
                (format!("{path}{mark}{parameters}"), String::new())
            }
        }
    }

    /// What a connection has to say first; `None` where the upgrade has said it.
    pub(crate) fn greeting(&self, dialect: Dialect, index: u32) -> Option<Message> {
        if dialect != Dialect::Kim {
            return None;
        }
        let (mut request, mut packet) = (Vec::new(), Vec::new());
        put_bytes(&mut request, TOKEN, self.token(index).as_bytes());
        put_request(&mut packet, SIGNIN, &Ticket::Number(SEQUENCE), &request);
        Some(Message::Binary(Bytes::from(packet)))
    }

    /// A JSON Web Token (RFC 7519) of a connection, signed by HMAC with SHA-256.
    fn token(&self, index: u32) -> String {
        let claims = json!({"acc": user(index), "app": "loadtest", "exp": self.expires});
        let parts = [r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string()];
        let signed = parts.map(|part| BASE64URL_NOPAD.encode(part.as_bytes())).join(".");
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes())
            .expect("a key may have any length");
        mac.update(signed.as_bytes());
        let signature = BASE64URL_NOPAD.encode(&mac.finalize().into_bytes());
        format!("{signed}.{signature}")
    }
}

/// Whether a message says that its receiver is logged in; an error if it says that it is not. A
/// server that does not know the command lets everybody in.
pub(crate) fn is_welcome(message: &Message) -> Result<bool, Trouble> {
    let Message::Binary(bytes) = message else { return Ok(false) };
    match split(bytes) {
        Ok((header, _)) if is_answer(&header) => {
            match header.status == 0 || UNKNOWN.contains(&header.status) {
                true => Ok(true),
                false => Err(Trouble::Refused),
            }
        }
        // A push may come first.
        _ => Ok(false),
    }
}

fn is_answer(header: &Header<'_>) -> bool {
    header.is_response() && header.command == SIGNIN && header.sequence == SEQUENCE
}

fn user(index: u32) -> String {
    format!("loadtest-{index}")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn login() -> Login {
        Login { secret: "secret".to_owned(), expires: 1_700_000_000 }
    }

    #[test]
    fn tokens_are_signed() {
        let token = login().token(3);
        let parts: Vec<_> = token.split('.').collect();
        let read = |part: &str| -> Value {
            serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
        };
        assert_eq!(read(parts[0]), json!({"alg": "HS256", "typ": "JWT"}));
        let claims = json!({"acc": "loadtest-3", "app": "loadtest", "exp": 1_700_000_000});
        assert_eq!(read(parts[1]), claims);
        let other = Login { secret: "other".to_owned(), ..login() }.token(3);
        assert_ne!(other.split('.').next_back(), Some(parts[2]));
    }

    #[test]
    fn the_signature_is_that_of_rfc_4231() {
        // Test case 2 of the RFC: the key "Jefe".
        let mut mac = Hmac::<Sha256>::new_from_slice(b"Jefe").unwrap();
        mac.update(b"what do ya want for nothing?");
        let wanted = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes()), wanted);
    }

    #[test]
    fn each_dialect_says_who_it_is_in_its_way() {
        let (path, headers) = Login::upgrade(Dialect::Mef, "/mef", 7);
        assert_eq!((&*path, &*headers), ("/mef", "clientName: loadtest-7\r\n"));
        let (path, headers) = Login::upgrade(Dialect::Hub, "/hub?a=b", 7);
        assert_eq!(path, "/hub?a=b&user=loadtest-7&type=1&device=loadtest&source=loadtest");
        assert!(headers.is_empty());
        assert_eq!(Login::upgrade(Dialect::Kim, "/kim", 7).0, "/kim");
        assert!(login().greeting(Dialect::Hub, 7).is_none());
        let greeting = login().greeting(Dialect::Kim, 7).unwrap().into_data();
        let (header, body) = split(&greeting).unwrap();
        assert_eq!((&*header.command, header.sequence), ("login.signin", 1));
        assert!(body.ends_with(login().token(7).as_bytes()) && body[0] == 0x0a);
    }

    #[test]
    fn the_answer_decides() {
        let answer = |command: &str, status: u8| {
            let header = [
                &[0x0a, command.len() as u8],
                command.as_bytes(),
                &[0x18, 1, 0x20, 1, 0x28, status],
            ];
            let header = header.concat();
            let length = (header.len() as u32).to_be_bytes();
            let packet = [&b"\xc3\x11\xa3\x65"[..], &length, &header, b"\0\0\0\0"].concat();
            Message::Binary(packet.into())
        };
        assert_eq!(is_welcome(&answer("login.signin", 0)), Ok(true));
        assert_eq!(is_welcome(&answer("login.signin", 103)), Ok(true));
        assert_eq!(is_welcome(&answer("login.signin", 105)), Err(Trouble::Refused));
        assert_eq!(is_welcome(&answer("chat.talk", 0)), Ok(false));
        assert_eq!(is_welcome(&Message::text("hello")), Ok(false));
        // The packet that asks is not its own answer.
        assert_eq!(is_welcome(&login().greeting(Dialect::Kim, 1).unwrap()), Ok(false));
    }

    #[test]
    fn a_token_needs_a_secret() {
        let error = Login::new(None, &[Dialect::Hub, Dialect::Kim]).unwrap_err();
        assert!(error.contains("--login-secret"), "{error}");
        assert!(Login::new(None, &[Dialect::Hub]).is_ok());
    }
}
