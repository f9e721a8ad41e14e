//! One mistake in the configuration, told so that it can be put right.

use std::fmt;
use std::sync::Arc;

/// Where a value came from. A later one goes before an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave it: the embedded default.
    Default,
    /// The file of `--config`.
    File {
        /// Its line there, from 1.
        line: u32,
    },
    /// The environment.
    Environment,
    /// The command line.
    CommandLine,
}

/// Where something stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The column, in characters from 1.
    pub column: u32,
    /// What stands there, such as `endpoint[2].route[0].timeout`; empty if it cannot be told.
    pub field: String,
    /// What is written there: a value as it stands, or nothing.
    pub written: String,
}

/// A mistake: which flag or field, its value, what is wrong, and what to do.
///
/// Library users meet the same texts; a flag's name is also its field's in `Config`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The flag, such as `--max-connections`; empty for what only a file says.
    pub flag: &'static str,
    /// Its value as given, or as it came out.
    pub value: String,
    /// Where the value came from.
    pub origin: Origin,
    /// Where it stands, if it came from a file.
    pub place: Option<Box<Place>>,
    /// What is wrong with it.
    pub what: String,
    /// What puts it right.
    pub fix: String,
}

impl Origin {
    /// What goes before what: the higher one.
    pub(crate) fn rank(self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Environment => 2,
            Self::CommandLine => 3,
        }
    }
}

impl Place {
    /// The place as an origin.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin::File { line: self.line }
    }
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
            place: None,
            what: what.into(),
            fix: fix.into(),
        }
    }

    /// A problem of what stands somewhere in a file.
    pub(crate) fn at(place: Place, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new("", "", what, fix).placed(Some(place))
    }

    /// The same, of a value that stands in a file; what is written there is shown.
    pub(crate) fn placed(mut self, place: Option<Place>) -> Self {
        if let Some(place) = place {
            self.origin = place.origin();
            self.value.clone_from(&place.written);
            self.place = Some(Box::new(place));
        }
        self
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

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, self.origin) {
            (Some(place), _) => {
                write!(f, "{place}")?;
                if !place.field.is_empty() {
                    write!(f, ": {}", place.field)?;
                }
                if !self.value.is_empty() {
                    write!(f, " = {}", self.value)?;
                }
            }
            (None, Origin::Environment) => write!(f, "{}={}", self.variable(), self.value)?,
            (None, _) => write!(f, "{} {}", self.flag, self.value)?,
        }
        write!(f, ": {}", self.what)?;
        if !self.fix.is_empty() {
            write!(f, "; {}", self.fix)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}
