//! System D's bodies of a login. Other binary dialects have them too.

use super::kim::wire::{self, Fields, Value};

/// `LoginReq {1: token, 2: isp, 3: zone, 4: tags}`, of which the token is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoginRequest<'a> {
    /// Who the client says it is.
    pub(crate) token: &'a str,
}

/// `LoginResp {1: channelId, 2: account}`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoginResponse<'a> {
    /// What others know the connection by.
    pub(crate) channel_id: &'a str,
    /// Whose it is.
    pub(crate) account: &'a str,
}

impl<'a> LoginRequest<'a> {
    /// Reads it; `None` if it is no such message.
    pub(crate) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut token = "";
        for field in Fields::of(body) {
            match field.ok()? {
                wire::Field { number: 1, value: Value::Bytes(bytes), .. } => {
                    token = wire::text(bytes).ok()?;
                }
                wire::Field { number: 1, .. } => return None,
                _ => {}
            }
        }
        Some(Self { token })
    }
}

impl LoginResponse<'_> {
    /// Appends it.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        wire::put_text(out, 1, self.channel_id);
        wire::put_text(out, 2, self.account);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, PartialEq, prost::Message)]
    struct LoginReq {
        #[prost(string, tag = "1")]
        token: String,
        #[prost(string, tag = "2")]
        isp: String,
        #[prost(string, tag = "3")]
        zone: String,
        #[prost(string, repeated, tag = "4")]
        tags: Vec<String>,
    }

    #[test]
    fn what_is_no_login_is_refused() {
        assert_eq!(LoginRequest::parse(b""), Some(LoginRequest { token: "" }));
        for body in [&b"\x08\x01"[..], b"\x0a\x02h", b"\x0a\x01\xff", b"\xff"] {
            assert_eq!(LoginRequest::parse(body), None, "{body:?}");
        }
        // Of a field that stands there twice the last counts.
        assert_eq!(LoginRequest::parse(b"\x0a\x01a\x0a\x01b"), Some(LoginRequest { token: "b" }));
    }

    proptest! {
        #[test]
        fn the_token_is_read_whatever_stands_beside_it(
            token in ".{0,60}", isp in ".{0,9}", zone in ".{0,9}",
            tags in prop::collection::vec(".{0,9}", 0..3),
        ) {
            let body = LoginReq { token: token.clone(), isp, zone, tags };
            let body = prost::Message::encode_to_vec(&body);
            prop_assert_eq!(LoginRequest::parse(&body), Some(LoginRequest { token: &token }));
        }

        #[test]
        fn any_bytes_are_read_or_refused_as_others_do(
            body in prop::collection::vec(prop_oneof![Just(0x0a), Just(1), any::<u8>()], 0..40),
        ) {
            let read = LoginRequest::parse(&body);
            // Whoever is stricter, nobody reads another token.
            if let (Some(read), Ok(other)) = (read, <LoginReq as prost::Message>::decode(&*body)) {
                prop_assert_eq!(read.token, other.token);
            }
        }
    }
}
