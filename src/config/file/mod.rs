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
use super::parse::parse_tcp_framing;
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
        if let Some(own) = reader.word(section, "proxy_protocol", ProxyProtocol::ALL) {
            self.proxy_protocols.insert(section.path.clone(), own);
        }
        // A transport that cannot be read is no reason to find fault with the rest.
        let unread = tcp.is_none() && section.has("transport");
        let to = match tcp.unwrap_or(false) {
            _ if unread => return,
            false => only_over_tcp(reader, section).then_some(None),
            true => tcp_endpoint(reader, section).map(Some),
        };
        let (Some(to), Some(Item { text, place })) = (to, address) else { return };
        // Endpoints of `--tcp-listen` stand behind the address; the place is the address's.
        let (flag, text) = match (to, tls) {
            (None, false) => ("--listen", text),
            (None, true) => ("--tls-listen", text),
            (Some(to), false) => ("--tcp-listen", format!("{text}={to}")),
            (Some(to), true) => ("--tls-tcp-listen", format!("{text}={to}")),
        };
        let origin = place.origin();
        let given = self.given.entry(flag.to_owned());
        let given = given.or_insert_with(|| Given { values: Vec::new(), origin });
        given.values.push(GivenValue { text, place: Some(place) });
    }
}

/// Whether a listener for WebSockets has nothing that only others have.
fn only_over_tcp(reader: &mut Reader<'_>, section: &Section<'_>) -> bool {
    let mut nothing = true;
    for (key, what) in [
        ("endpoint", "only a listener with `transport = \"tcp\"` is for one endpoint"),
        ("framing", "only a listener with `transport = \"tcp\"` has another framing"),
    ] {
        if let Some(item) = reader.item(section, key) {
            reader.fail(item.place, what, "leave it out, or set the transport");
            nothing = false;
        }
    }
    nothing
}

/// Whom connections over TCP are for, and in which framing, as a flag has it.
fn tcp_endpoint(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<String> {
    let framing = reader.item(section, "framing");
    let is_framed = framing.as_ref().is_none_or(|framing| {
        let read = reader.accept(framing, parse_tcp_framing);
        read.is_some()
    });
    let endpoint = reader.item(section, "endpoint");
    let Some(endpoint) = endpoint else {
        reader.missing(section, "endpoint");
        return None;
    };
    reader.accept(&endpoint, check_plain_path).filter(|()| is_framed)?;
    Some(match framing {
        Some(framing) => format!("{}:{}", framing.text, endpoint.text),
        None => endpoint.text,
    })
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
