//! One mistake in the configuration, told so that it can be put right.

use std::fmt;

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave it: the embedded default.
    Default,
    /// The environment.
    Environment,
    /// The command line.
    CommandLine,
}

/// A mistake: which flag, its value, what is wrong, and what to do.
///
/// Library users meet the same texts; a flag's name is also its field's in `Config`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The flag, such as `--max-connections`.
    pub flag: &'static str,
    /// Its value as given, or as it came out.
    pub value: String,
    /// Where the value came from.
    pub origin: Origin,
    /// What is wrong with it.
    pub what: String,
    /// What puts it right.
    pub fix: String,
}

impl Problem {
    /// A problem of a value whose origin is not known.
    pub(crate) fn new(
        flag: &'static str,
        value: impl fmt::Display,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            flag,
            value: value.to_string(),
            origin: Origin::Default,
            what: what.into(),
            fix: fix.into(),
        }
    }

    /// The environment variable that says the same as the flag.
    #[must_use]
    pub fn variable(&self) -> String {
        variable_of(self.flag)
    }
}

/// The environment variable of a flag: `--max-header` is `TIDEGATE_MAX_HEADER`.
pub(crate) fn variable_of(flag: &str) -> String {
    let name = flag.trim_start_matches('-').replace('-', "_").to_uppercase();
    format!("TIDEGATE_{name}")
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::Environment => write!(f, "{}={}", self.variable(), self.value)?,
            Origin::Default | Origin::CommandLine => write!(f, "{} {}", self.flag, self.value)?,
        }
        write!(f, ": {}; {}", self.what, self.fix)
    }
}

impl std::error::Error for Problem {}
