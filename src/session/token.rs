//! Tokens that say who a client is: JWTs (RFC 7519) signed by HMAC with SHA-256 (RFC 7518, 3.2).

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::Sha256;

use super::identity::{Identity, IdentityError};
use crate::limits::{TOKEN_BYTES_MAX, TOKEN_PERMISSIONS_MAX};

/// How tokens are checked: by which secret, and from whom they have to be.
///
/// A token has to be signed by HS256 and by nothing else, and to have the claims `acc`, the user,
/// and `exp`. `app` is the type of the client; `device` and `source` complete its identity, and
/// `permissions` is a list of what it may do beyond what its endpoint grants.
#[derive(Clone)]
pub struct Tokens {
    /// Under the secret, and nothing put in yet.
    mac: Hmac<Sha256>,
    issuer: Option<Box<str>>,
    leeway: Duration,
}

/// What a token says that is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who has it.
    pub identity: Identity,
    /// What its owner may do beyond what the endpoint grants to everyone.
    pub permissions: Vec<String>,
}

/// What is wrong with a token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// It is no JWT in the compact form (RFC 7515, 7.1), or one of more than 8 KiB.
    Malformed,
    /// It is signed by another algorithm than HS256, by none, or in a way that is not known here.
    Algorithm,
    /// The signature is not that of this text under this secret.
    Signature,
    /// The claims lack `acc` or `exp`, or one of them is of the wrong kind.
    Claims,
    /// The user, type, device or source can be no part of an identity.
    Identity(IdentityError),
    /// It is not from whom it has to be.
    Issuer,
    /// Its time has not come.
    NotYet,
    /// Its time is over.
    Expired,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Extensions that have to be understood (RFC 7515, 4.1.11): none is.
    crit: Option<serde::de::IgnoredAny>,
}

/// Times are seconds since 1970, perhaps with a fraction (RFC 7519, 2).
#[derive(Deserialize)]
struct Body {
    acc: String,
    exp: f64,
    nbf: Option<f64>,
    iss: Option<String>,
    #[serde(default)]
    app: String,
    #[serde(default)]
    device: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    permissions: Vec<String>,
}

impl Tokens {
    /// Tokens signed under `secret`, which should have 32 bytes or more and be random (RFC 7518,
    /// 3.2).
    ///
    /// # Panics
    /// Without a secret: everyone could sign.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        assert!(!secret.is_empty(), "tokens are signed under a secret, and this one is empty");
        let mac = Hmac::new_from_slice(secret).expect("a secret may have any length");
        Self { mac, issuer: None, leeway: Duration::ZERO }
    }

    /// Tokens that are not from this one (claim `iss`) are refused.
    #[must_use]
    pub fn issuer(mut self, issuer: &str) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// How far clocks may be apart: a token is good for so much longer, and from so much earlier.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// What a token says, if it is good now.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, token: &str) -> Result<Claims, TokenError> {
        self.check_at(token, SystemTime::now())
    }

    /// What a token says, if it is good at that time.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_at(&self, token: &str, now: SystemTime) -> Result<Claims, TokenError> {
        let body = self.signed_by_us(token)?;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let leeway = self.leeway.as_secs_f64();
        if self.issuer.is_some() && self.issuer.as_deref() != body.iss.as_deref() {
            return Err(TokenError::Issuer);
        }
        if body.exp + leeway <= now {
            return Err(TokenError::Expired);
        }
        if body.nbf.is_some_and(|from| from - leeway > now) {
            return Err(TokenError::NotYet);
        }
        let identity = Identity::of([&body.acc, &body.app, &body.device, &body.source])?;
        Ok(Claims { identity, permissions: body.permissions })
    }

    /// The claims of a token whose signature is right.
    fn signed_by_us(&self, token: &str) -> Result<Body, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        // What the token says of its algorithm decides nothing but whether it is refused
        // (RFC 8725, 3.1).
        let header: Header = read(header).ok_or(TokenError::Malformed)?;
        if header.alg != "HS256" || header.crit.is_some() {
            return Err(TokenError::Algorithm);
        }
        let signature = decode(signature).ok_or(TokenError::Signature)?;
        let mac = self.mac.clone().chain_update(signed);
        // Takes as long for every wrong signature.
        mac.verify_slice(&signature).map_err(|_| TokenError::Signature)?;
        let body: Body = read(claims).ok_or(TokenError::Claims)?;
        if body.permissions.len() > TOKEN_PERMISSIONS_MAX {
            return Err(TokenError::Claims);
        }
        Ok(body)
    }
}

fn decode(part: &str) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(part.as_bytes()).ok()
}

fn read<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&decode(part)?).ok()
}

/// Nothing of the secret.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("issuer", &self.issuer)
            .field("leeway", &self.leeway)
            .finish_non_exhaustive()
    }
}

impl From<IdentityError> for TokenError {
    fn from(error: IdentityError) -> Self {
        Self::Identity(error)
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the token is no JWT",
            Self::Algorithm => "the token's algorithm is not HS256",
            Self::Signature => "the token's signature is wrong",
            Self::Claims => "the token lacks claims",
            Self::Identity(error) => return error.fmt(f),
            Self::Issuer => "the token is from somebody else",
            Self::NotYet => "the token is not good yet",
            Self::Expired => "the token has expired",
        })
    }
}

impl std::error::Error for TokenError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &[u8] = b"a secret of the tests";
    const NOW_S: u64 = 1_700_000_000;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW_S)
    }

    fn sign(header: &Value, claims: &Value, secret: &[u8]) -> String {
        let parts =
            [header, claims].map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes()));
        let signed = parts.join(".");
        let mac = Hmac::<Sha256>::new_from_slice(secret).unwrap().chain_update(&signed);
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&mac.finalize().into_bytes()))
    }

    fn hs256(claims: &Value) -> String {
        sign(&json!({"alg": "HS256", "typ": "JWT"}), claims, SECRET)
    }

    fn check(token: &str) -> Result<Claims, TokenError> {
        Tokens::new(SECRET).check_at(token, now())
    }

    #[test]
    fn the_claims_are_the_identity_and_the_permissions() {
        let claims = json!({
            "acc": "ann", "app": "kim", "device": "d", "source": "s", "exp": NOW_S + 1,
            "permissions": ["speak", "listen"], "more": {"is": ["left", "out"]},
        });
        let claims = check(&hs256(&claims)).unwrap();
        assert_eq!(claims.identity, Identity::of(["ann", "kim", "d", "s"]).unwrap());
        assert_eq!(claims.permissions, ["speak", "listen"]);
        let least = check(&hs256(&json!({"acc": "ann", "exp": NOW_S as f64 + 0.5}))).unwrap();
        assert_eq!(least.identity, Identity::new("ann").unwrap());
    }

    /// RFC 7515, A.1: its signature is right, and its claims are not ours.
    #[test]
    fn the_token_of_the_rfc_is_verified() {
        let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let key = BASE64URL_NOPAD.decode(key.as_bytes()).unwrap();
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9\
            .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
            .dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(Tokens::new(&key).check(token), Err(TokenError::Claims));
        assert_eq!(Tokens::new(SECRET).check(token), Err(TokenError::Signature));
    }

    #[test]
    fn no_other_algorithm_is_taken() {
        let good = json!({"acc": "ann", "exp": NOW_S + 1});
        for alg in ["none", "None", "HS384", "RS256", "hs256", ""] {
            let token = sign(&json!({ "alg": alg }), &good, SECRET);
            assert_eq!(check(&token), Err(TokenError::Algorithm), "{alg}");
            let (unsigned, _) = token.rsplit_once('.').unwrap();
            assert_eq!(check(&format!("{unsigned}.")), Err(TokenError::Algorithm), "{alg}");
        }
        let critical = json!({"alg": "HS256", "crit": ["b64"], "b64": false});
        assert_eq!(check(&sign(&critical, &good, SECRET)), Err(TokenError::Algorithm));
        assert_eq!(check(&sign(&json!({"typ": "JWT"}), &good, SECRET)), Err(TokenError::Malformed));
    }

    #[test]
    fn another_secret_or_another_text_is_no_signature() {
        let good = json!({"acc": "ann", "exp": NOW_S + 1});
        let other = sign(&json!({"alg": "HS256"}), &good, b"another");
        assert_eq!(check(&other), Err(TokenError::Signature));
        let token = hs256(&good);
        let forged = hs256(&json!({"acc": "eve", "exp": NOW_S + 1}));
        let (head, signature) =
            (token.rsplit_once('.').unwrap().0, forged.rsplit_once('.').unwrap().1);
        for signature in [signature, "", "AAAA", "not base64!", &signature[..20]] {
            let token = format!("{head}.{signature}");
            assert_eq!(check(&token), Err(TokenError::Signature), "{signature}");
        }
    }

    #[test]
    fn times_hold_with_their_leeway() {
        let of = |claims: Value| {
            Tokens::new(SECRET).leeway(Duration::from_secs(10)).check_at(&hs256(&claims), now())
        };
        let user = Ok(Identity::new("ann").unwrap());
        let identity = |claims| of(claims).map(|claims: Claims| claims.identity);
        assert_eq!(identity(json!({"acc": "ann", "exp": NOW_S - 9})), user);
        assert_eq!(identity(json!({"acc": "ann", "exp": NOW_S - 10})), Err(TokenError::Expired));
        assert_eq!(identity(json!({"acc": "ann", "exp": NOW_S + 99, "nbf": NOW_S + 10})), user);
        let early = json!({"acc": "ann", "exp": NOW_S + 99, "nbf": NOW_S + 11});
        assert_eq!(identity(early), Err(TokenError::NotYet));
        assert_eq!(check(&hs256(&json!({"acc": "ann", "exp": NOW_S}))), Err(TokenError::Expired));
    }

    #[test]
    fn claims_that_are_missing_or_of_the_wrong_kind_are_refused() {
        for claims in [
            json!({"acc": "ann"}),
            json!({"exp": NOW_S + 1}),
            json!({"acc": 7, "exp": NOW_S + 1}),
            json!({"acc": "ann", "exp": "tomorrow"}),
            json!({"acc": "ann", "exp": null}),
            json!({"acc": "ann", "exp": NOW_S + 1, "permissions": "all"}),
            json!({"acc": "ann", "exp": NOW_S + 1, "permissions": vec!["p"; TOKEN_PERMISSIONS_MAX + 1]}),
            json!(["ann"]),
        ] {
            assert_eq!(check(&hs256(&claims)), Err(TokenError::Claims), "{claims}");
        }
        let twice = r#"{"acc":"ann","acc":"eve","exp":1900000000}"#;
        let signed = format!(
            "{}.{}",
            BASE64URL_NOPAD.encode(br#"{"alg":"HS256"}"#),
            BASE64URL_NOPAD.encode(twice.as_bytes())
        );
        let mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap().chain_update(&signed);
        let token = format!("{signed}.{}", BASE64URL_NOPAD.encode(&mac.finalize().into_bytes()));
        assert_eq!(check(&token), Err(TokenError::Claims));
        let nobody = check(&hs256(&json!({"acc": "", "exp": NOW_S + 1})));
        assert_eq!(nobody, Err(TokenError::Identity(IdentityError { part: "user" })));
    }

    #[test]
    fn the_issuer_has_to_be_the_one() {
        let tokens = Tokens::new(SECRET).issuer("joe");
        for (issuer, good) in [(json!("joe"), true), (json!("jim"), false), (json!(null), false)] {
            let token = hs256(&json!({"acc": "ann", "exp": NOW_S + 1, "iss": issuer}));
            assert_eq!(tokens.check_at(&token, now()).is_ok(), good, "{issuer}");
        }
    }

    #[test]
    fn what_is_no_token_is_malformed() {
        let long = "x".repeat(TOKEN_BYTES_MAX + 1);
        for text in ["", ".", "..", "a.b", "a.b.c", "e30.e30.", &long] {
            assert_eq!(check(text), Err(TokenError::Malformed), "{text}");
        }
    }

    #[test]
    fn nothing_tells_the_secret() {
        let told = format!("{:?}", Tokens::new(SECRET).issuer("joe"));
        assert!(told.contains("joe") && !told.contains("secret"), "{told}");
    }

    proptest! {
        #[test]
        fn any_text_is_refused(text in "[a-zA-Z0-9._-]{0,80}") {
            prop_assert!(check(&text).is_err());
        }

        #[test]
        fn any_change_of_a_token_is_refused(at in 0_usize..100, to in "[a-zA-Z0-9_.-]") {
            let token = hs256(&json!({"acc": "ann", "exp": NOW_S + 1}));
            let at = at % token.len();
            let mut changed = token.clone();
            changed.replace_range(at..=at, &to);
            prop_assert_eq!(check(&changed).is_ok(), changed == token);
        }
    }
}
