//! A file of `--config` → texts for flags, endpoints and rooms, and every mistake in it.
//!
//! Invariants:
//! - what a key is called and which kind of value it takes stands in `definitions` alone;
//! - no mistake hides another, but for those of the grammar: after one of them, nothing that
//!   follows can be told for sure;
//! - a value that stands for a flag's is read by the same function as the flag's.

mod endpoints;
mod limits;
mod login;
mod reader;
mod rooms;
mod syntax;

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::definitions::{Definition, Kind, TABLES, Table, definitions_of};
use super::endpoints::Words as _;
use super::given::{Given, GivenValue, Layer};
use super::paths::check_plain_path;
use super::problem::{Place, Problem};
use super::{EndpointConfig, RoomConfig};
use crate::transport::proxy::ProxyProtocol;
use reader::{Item, Reader, Section, Seen};

/// What a file says.
#[derive(Debug, Default)]
pub(crate) struct File {
    /// The values of flags.
    pub(crate) given: Layer,
    pub(crate) endpoints: Vec<EndpointConfig>,
    pub(crate) rooms: Vec<RoomConfig>,
    /// What listeners say of PROXY headers, by their table: `listener[1]`.
    pub(crate) proxy_protocols: BTreeMap<String, ProxyProtocol>,
    /// Where the fields that only a file has stand.
    pub(crate) places: BTreeMap<String, Place>,
    pub(crate) problems: Vec<Problem>,
}

impl File {
    /// Reads the text of the file called `name`.
    pub(crate) fn parse(name: &str, source: &str, known_handlers: &[&str]) -> Self {
        let mut reader = Reader::new(name, source);
        let (root, errors) = DeTable::parse_recoverable(source);
        if syntax::report(&mut reader, &errors) {
            return Self { problems: reader.finish().0, ..Self::default() };
        }
        let mut file = Self::default();
        file.read(&mut reader, root.get_ref(), known_handlers);
        (file.problems, file.places) = reader.finish();
        file
    }

    fn read<'a>(
        &mut self,
        reader: &mut Reader<'_>,
        root: &'a DeTable<'a>,
        known_handlers: &[&str],
    ) {
        reader.refuse_unknown_tables(root);
        let (mut paths, mut patterns) = (Seen::default(), Seen::default());
        for table in TABLES.into_iter().filter(|table| table.parent().is_none()) {
            let Some(value) = root.get(table.name()) else { continue };
            for section in reader.sections(table, "", value) {
                match table {
                    Table::Listener => self.read_listener(reader, &section),
                    Table::Endpoint => {
                        let read = endpoints::read(reader, &section, known_handlers, &mut paths);
                        self.endpoints.push(read);
                    }
                    Table::Room => self.rooms.extend(rooms::read(reader, &section, &mut patterns)),
                    _ => self.read_values(reader, &section),
                }
            }
        }
    }

    fn read_values(&mut self, reader: &mut Reader<'_>, section: &Section<'_>) {
        for definition in definitions_of(section.table) {
            if matches!(definition.kind, Kind::Files | Kind::Texts) {
                self.read_list(reader, section, definition);
            } else if let Some(Item { text, place }) = reader.item(section, definition.key) {
                let origin = place.origin();
                let values = vec![GivenValue { text, place: Some(place) }];
                self.given.insert(definition.flag(), Given { values, origin });
            }
        }
    }

    fn read_list(
        &mut self,
        reader: &mut Reader<'_>,
        section: &Section<'_>,
        definition: &Definition,
    ) {
        let items = reader.items(section, definition.key).unwrap_or_default();
        let Some(first) = items.first() else { return };
        let origin = first.place.origin();
        let values =
            items.into_iter().map(|Item { text, place }| GivenValue { text, place: Some(place) });
        self.given.insert(definition.flag(), Given { values: values.collect(), origin });
    }

    /// A listener is what `--listen` or `--tcp-listen` says, and is read as such.
    fn read_listener(&mut self, reader: &mut Reader<'_>, section: &Section<'_>) {
        let address = reader.required(section, "address");
        let tcp = reader.word(section, "transport", &[("websocket", false), ("tcp", true)]);
        let tls = reader.item(section, "tls").is_some_and(|item| item.text == "true");
        let endpoint = reader.item(section, "endpoint");
        if let Some(own) = reader.word(section, "proxy_protocol", ProxyProtocol::ALL) {
            self.proxy_protocols.insert(section.path.clone(), own);
        }
        // A transport that cannot be read is no reason to find fault with the rest.
        let unread = tcp.is_none() && section.has("transport");
        let endpoint = match (tcp.unwrap_or(false), endpoint) {
            _ if unread => return,
            (false, Some(endpoint)) => {
                let what = "only a listener with `transport = \"tcp\"` is for one endpoint";
                reader.fail(endpoint.place, what, "leave it out, or set the transport");
                return;
            }
            (false, None) => None,
            (true, None) => return reader.missing(section, "endpoint"),
            (true, Some(endpoint)) => {
                if reader.accept(&endpoint, check_plain_path).is_none() {
                    return;
                }
                Some(endpoint.text)
            }
        };
        let Some(Item { text, place }) = address else { return };
        // Endpoints of `--tcp-listen` stand behind the address; the place is the address's.
        let (flag, text) = match (endpoint, tls) {
            (None, false) => ("--listen", text),
            (None, true) => ("--tls-listen", text),
            (Some(path), false) => ("--tcp-listen", format!("{text}={path}")),
            (Some(path), true) => ("--tls-tcp-listen", format!("{text}={path}")),
        };
        let origin = place.origin();
        let given = self.given.entry(flag.to_owned());
        let given = given.or_insert_with(|| Given { values: Vec::new(), origin });
        given.values.push(GivenValue { text, place: Some(place) });
    }
}

/// The name of a file's kind of value.
fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The text of a value of a kind, as a flag would have it; `None` if it is of another kind.
fn text_of(kind: Kind, value: &DeValue<'_>) -> Option<String> {
    let is_text = matches!(
        kind,
        Kind::Size | Kind::Time | Kind::Word | Kind::File | Kind::Address | Kind::Text
    );
    match value {
        DeValue::String(text) if is_text => Some(text.trim().to_owned()),
        DeValue::Boolean(value) if kind == Kind::Switch => Some(value.to_string()),
        DeValue::Integer(number) if matches!(kind, Kind::Count | Kind::Size | Kind::Time) => {
            let digits = number.as_str().trim_start_matches('+').replace('_', "");
            let value = u64::from_str_radix(&digits, number.radix());
            Some(value.map_or_else(|_| number.to_string(), |value| value.to_string()))
        }
        _ => None,
    }
}

/// The tables in an array of tables, or in one table.
fn tables_of<'a>(value: &'a Spanned<DeValue<'a>>) -> Vec<&'a Spanned<DeValue<'a>>> {
    match value.get_ref() {
        DeValue::Array(tables) => tables.iter().collect(),
        _ => vec![value],
    }
}
