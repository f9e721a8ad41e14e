//! What was given before it is read: texts, each with where it stands.

use std::collections::BTreeMap;

use super::problem::{Origin, Place, variable_of};

/// What one source gives, by flag: `--max-message`.
pub(crate) type Layer = BTreeMap<String, Given>;

/// The values of one flag.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// One; or more, where the flag is repeatable.
    pub(crate) values: Vec<GivenValue>,
    pub(crate) origin: Origin,
}

/// One value.
#[derive(Clone, Debug)]
pub(crate) struct GivenValue {
    pub(crate) text: String,
    /// Where it stands, if that is a file.
    pub(crate) place: Option<Place>,
}

/// Where everything in force came from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    flags: BTreeMap<String, Source>,
    fields: BTreeMap<String, Place>,
}

/// Where one value came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Source {
    #[default]
    Default,
    Variable(String),
    Flag(String),
    Place(Place),
}

impl Source {
    /// The source of a value of `flag`.
    pub(crate) fn of(flag: &str, origin: Origin, value: &GivenValue) -> Self {
        match (&value.place, origin) {
            (Some(place), _) => Self::Place(place.clone()),
            (None, Origin::Environment) => Self::Variable(variable_of(flag)),
            (None, Origin::CommandLine) => Self::Flag(flag.to_owned()),
            (None, _) => Self::Default,
        }
    }
}

impl Sources {
    /// Where the value of a flag such as `--max-message`, or of a field that only a file has, such
    /// as `endpoint[0].path`, came from: `default`, the variable, the flag, or `FILE:LINE`.
    #[must_use]
    pub fn of(&self, name: &str) -> String {
        match (self.flags.get(name), self.fields.get(name)) {
            (Some(Source::Variable(name) | Source::Flag(name)), _) => name.clone(),
            (Some(Source::Place(place)), _) | (None, Some(place)) => {
                format!("{}:{}", place.file, place.line)
            }
            (Some(Source::Default) | None, _) => "default".to_owned(),
        }
    }

    /// Where a key of the listener came from that one value of a flag stands for: `--listen[1]`.
    pub(crate) fn of_listener(&self, flag: &str, key: &str) -> String {
        match self.flags.get(flag) {
            Some(Source::Place(place)) => {
                let listener = place.field.trim_end_matches("address");
                let field = format!("{listener}{key}");
                let inherits = key == "proxy_protocol" && !self.fields.contains_key(&field);
                self.of(if inherits { "--proxy-protocol" } else { &field })
            }
            _ if key == "proxy_protocol" => self.of("--proxy-protocol"),
            _ if key == "endpoint" && !flag.starts_with("--tcp") => self.of(""),
            _ => self.of(flag),
        }
    }

    /// The table of the file that one value of a flag stands for, if it is of a file: `listener[1]`
    /// for `--listen[0]`.
    pub(crate) fn listener(&self, flag: &str) -> Option<&str> {
        match self.flags.get(flag) {
            Some(Source::Place(place)) => place.field.strip_suffix(".address"),
            _ => None,
        }
    }

    /// Notes where a flag's value came from. For one of many, the flag has an index: `--listen[1]`.
    pub(crate) fn note(&mut self, flag: String, source: Source) {
        self.flags.insert(flag, source);
    }

    /// Notes that `flag` has its value by what `other` says.
    pub(crate) fn note_same(&mut self, flag: &str, other: &str) {
        let source = self.flags.get(other).cloned().unwrap_or_default();
        self.note(flag.to_owned(), source);
    }

    /// Notes where the fields that only a file has stand.
    pub(crate) fn note_fields(&mut self, places: BTreeMap<String, Place>) {
        self.fields = places;
    }

    /// Where a field that only a file has stands.
    pub(crate) fn place(&self, field: &str) -> Option<&Place> {
        self.fields.get(field)
    }
}
