//! The arguments that say what is spoken, and who connections say they are.

use std::str::FromStr;

use clap::{Args, ValueEnum as _};

use crate::{dialect::Dialect, login::Login};

/// A dialect, and where it is spoken if that is not where --url says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spoken {
    /// What is spoken.
    pub(crate) dialect: Dialect,
    /// Where.
    pub(crate) url: Option<String>,
}

/// Who connections say they are.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Login")]
pub(crate) struct LoginArgs {
    /// Log in before the first message, connection N as the user "loadtest-N".
    ///
    /// kim: a packet login.signin with a signed token; a connection is open, and its handshake over,
    /// once that is answered. mef: the header clientName of the upgrade. Others: the URL parameters
    /// user, type, device and source.
    #[arg(long)]
    pub(crate) login: bool,

    /// What the tokens of kim are signed under (HMAC with SHA-256).
    #[arg(long, value_name = "TEXT", env = "LOADTEST_LOGIN_SECRET", hide_env_values = true)]
    pub(crate) login_secret: Option<String>,
}

impl LoginArgs {
    /// How connections that speak these dialects log in, if they shall.
    pub(crate) fn resolve(&self, spoken: &[Spoken]) -> Result<Option<Login>, String> {
        let dialects: Vec<_> = spoken.iter().map(|spoken| spoken.dialect).collect();
        let login = || Login::new(self.login_secret.as_deref(), &dialects);
        self.login.then(login).transpose()
    }
}

impl Spoken {
    /// A dialect, where --url says.
    pub(crate) fn at_url(dialect: Dialect) -> Self {
        Self { dialect, url: None }
    }
}

impl FromStr for Spoken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, url) = match text.split_once('=') {
            Some((name, url)) => (name, Some(url.to_owned())),
            None => (text, None),
        };
        let all = Dialect::value_variants().iter().copied();
        let names = || all.clone().map(Dialect::name).collect::<Vec<_>>().join(", ");
        let dialect = all
            .clone()
            .find(|dialect| dialect.name() == name.trim())
            .ok_or_else(|| format!("{name:?} is none of {}", names()))?;
        Ok(Self { dialect, url })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialect_may_have_a_url() {
        assert_eq!("hub".parse(), Ok(Spoken::at_url(Dialect::Hub)));
        let kim: Spoken = "kim=tcp://h:1".parse().unwrap();
        assert_eq!((kim.dialect, kim.url.as_deref()), (Dialect::Kim, Some("tcp://h:1")));
        let error = "xml".parse::<Spoken>().unwrap_err();
        assert!(error.contains("\"xml\"") && error.contains("raw, json, mef"), "{error}");
    }

    #[test]
    fn a_login_is_made_only_if_wanted() {
        let args = LoginArgs { login: false, login_secret: None };
        assert!(args.resolve(&[Spoken::at_url(Dialect::Kim)]).unwrap().is_none());
        let args = LoginArgs { login: true, ..args };
        assert!(args.resolve(&[Spoken::at_url(Dialect::Kim)]).is_err());
        assert!(args.resolve(&[Spoken::at_url(Dialect::Mef)]).unwrap().is_some());
    }
}
