//! Tables of a file, read key by key; what is wrong is noted, and reading goes on.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::definitions::{Definition, Kind, REQUIRED, TABLES, Table, definitions_of};
use super::super::problem::{Place, Problem};
use super::super::suggest::nearest;
use super::{tables_of, text_of, type_of};

/// Longest value that is shown as it is written, bytes.
const WRITTEN_MAX: usize = 60;

/// Reads one file.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    name: Arc<str>,
    source: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
    problems: Vec<Problem>,
    places: BTreeMap<String, Place>,
}

/// One table of the file.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) table: Table,
    /// What it is, such as `endpoint[0].route[1]`.
    pub(super) path: String,
    pub(super) entries: &'a DeTable<'a>,
    span: Range<usize>,
}

/// What may be there only once, as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<String, u32>);

/// One text of the file.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) text: String,
    pub(super) place: Place,
}

impl Section<'_> {
    /// Whether anything stands at a key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.get(key).is_some()
    }

    /// What holds where nobody gives a key of it.
    pub(super) fn default_of(&self, key: &str) -> &'static str {
        self.definition(key).default
    }

    fn definition(&self, key: &str) -> &'static Definition {
        let mut definitions = definitions_of(self.table);
        definitions.find(|definition| definition.key == key).expect("a key that is defined")
    }
}

impl Seen {
    /// Notes what `item` names by `key`, and refuses it if that was named before.
    pub(super) fn refuse_second(
        &mut self,
        reader: &mut Reader<'_>,
        item: &Item,
        key: String,
        what: &str,
    ) {
        match self.0.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(item.place.line);
            }
            Entry::Occupied(first) => {
                let fix = format!("the first is in line {}: leave one of them out", first.get());
                reader.fail(item.place.clone(), what, fix);
            }
        }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(name: &str, source: &'a str) -> Self {
        let ends = source.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            name: Arc::from(name),
            source,
            lines: std::iter::once(0).chain(ends).collect(),
            problems: Vec::new(),
            places: BTreeMap::new(),
        }
    }

    /// The mistakes in the order of the file, and where fields stand.
    pub(super) fn finish(mut self) -> (Vec<Problem>, BTreeMap<String, Place>) {
        let at = |problem: &Problem| problem.place.as_ref().map(|at| (at.line, at.column));
        self.problems.sort_by_key(at);
        (self.problems, self.places)
    }

    /// The place of some bytes of the file.
    pub(super) fn place(&self, span: Range<usize>, field: &str) -> Place {
        let line = self.lines.partition_point(|begin| *begin <= span.start).max(1);
        let before = self.source.get(self.lines[line - 1]..span.start).unwrap_or_default();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place {
            file: Arc::clone(&self.name),
            line: number(line),
            column: number(before.chars().count() + 1),
            field: field.to_owned(),
            written: String::new(),
        }
    }

    /// Some bytes of the file.
    pub(super) fn text(&self, span: Range<usize>) -> &'a str {
        self.source.get(span).unwrap_or_default()
    }

    /// The place of a table's header.
    pub(super) fn place_of_section(&self, section: &Section<'_>) -> Place {
        self.place(section.span.clone(), &section.path)
    }

    /// The place of a value, with what is written there.
    fn place_of(&self, value: &Spanned<DeValue<'_>>, field: &str) -> Place {
        let written = self.text(value.span());
        let shown = written.len() <= WRITTEN_MAX && !written.contains('\n');
        let written = if shown { written.to_owned() } else { String::new() };
        Place { written, ..self.place(value.span(), field) }
    }

    pub(super) fn fail(&mut self, place: Place, what: impl Into<String>, fix: impl Into<String>) {
        self.problems.push(Problem::at(place, what, fix));
    }

    /// Notes that a key which must be there is not.
    pub(super) fn missing(&mut self, section: &Section<'_>, key: &str) {
        let definition = section.definition(key);
        let fix = format!("expected {} ({})", definition.kind.in_file(), definition.values);
        self.fail(self.place_of_section(section), format!("`{key}` is missing"), fix);
    }

    /// The tables at a key of the file or of another table, each checked for keys that nobody knows.
    pub(super) fn sections<'v>(
        &mut self,
        table: Table,
        parent: &str,
        value: &'v Spanned<DeValue<'v>>,
    ) -> Vec<Section<'v>> {
        let name = if parent.is_empty() {
            table.name().to_owned()
        } else {
            format!("{parent}.{}", table.name())
        };
        if table.is_repeated() != matches!(value.get_ref(), DeValue::Array(_)) {
            let what = type_of(value.get_ref());
            let place = self.place(value.span(), &name);
            self.fail(place, what, format!("expected {}", table.header()));
            return Vec::new();
        }
        let mut sections = Vec::new();
        for (index, value) in tables_of(value).into_iter().enumerate() {
            let path = if table.is_repeated() { format!("{name}[{index}]") } else { name.clone() };
            let place = self.place(value.span(), &path);
            let Some(entries) = value.get_ref().as_table() else {
                let what = type_of(value.get_ref());
                self.fail(place, what, format!("expected {}", table.header()));
                continue;
            };
            let section = Section { table, path: path.clone(), entries, span: value.span() };
            self.places.insert(path, place);
            self.refuse_unknown_keys(&section);
            sections.push(section);
        }
        sections
    }

    /// The text at a key, if it is there and of the right kind.
    pub(super) fn item(&mut self, section: &Section<'_>, key: &str) -> Option<Item> {
        let value = section.entries.get(key)?;
        let definition = section.definition(key);
        let field = format!("{}.{key}", section.path);
        let item = self.item_of(value, &field, definition)?;
        self.places.insert(field, item.place.clone());
        Some(item)
    }

    /// The text at a key that must be there.
    pub(super) fn required(&mut self, section: &Section<'_>, key: &str) -> Option<Item> {
        debug_assert_eq!(section.definition(key).default, REQUIRED);
        if !section.has(key) {
            self.missing(section, key);
        }
        self.item(section, key)
    }

    /// The texts of the list at a key; none if it is not there.
    pub(super) fn items(&mut self, section: &Section<'_>, key: &str) -> Option<Vec<Item>> {
        let value = section.entries.get(key)?;
        let definition = section.definition(key);
        let field = format!("{}.{key}", section.path);
        let place = self.place_of(value, &field);
        self.places.insert(field.clone(), place.clone());
        let Some(values) = value.get_ref().as_array() else {
            self.wrong_kind(place, value, definition);
            return None;
        };
        let element = Definition { kind: Kind::Text, ..*definition };
        let each = values.iter().enumerate();
        let items = each.filter_map(|(index, value)| {
            self.item_of(value, &format!("{field}[{index}]"), &element)
        });
        Some(items.collect())
    }

    /// What the text at a key means.
    pub(super) fn read<T>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let item = self.item(section, key)?;
        self.accept(&item, parse)
    }

    /// What a text means; what was expected instead is noted.
    pub(super) fn accept<T>(
        &mut self,
        item: &Item,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(&item.text) {
            Ok(value) => Some(value),
            Err(expected) => {
                let fix = format!("expected {expected}");
                self.fail(item.place.clone(), "cannot be read", fix);
                None
            }
        }
    }

    /// The value that the word at a key stands for.
    pub(super) fn word<T: Copy>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        let item = self.item(section, key)?;
        self.one_of(section, key, &item, words)
    }

    /// The value that a text stands for, as one of the words of a key.
    pub(super) fn one_of<T: Copy>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        item: &Item,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == item.text) {
            return Some(*value);
        }
        let fix = format!("expected {}", section.definition(key).values);
        let fix = match nearest(&item.text, words.iter().map(|(word, _)| *word)) {
            Some(word) => format!("{fix}: did you mean `{word}`?"),
            None => fix,
        };
        self.fail(item.place.clone(), "cannot be read", fix);
        None
    }

    /// Refuses whatever stands at the top of the file and is no table of it.
    pub(super) fn refuse_unknown_tables(&mut self, root: &DeTable<'_>) {
        let tables: Vec<_> = TABLES.into_iter().filter(|table| table.parent().is_none()).collect();
        for (key, _) in root.iter() {
            let name = &**key.get_ref();
            if tables.iter().any(|table| table.name() == name) {
                continue;
            }
            let place = self.place(key.span(), name);
            let names = tables.iter().map(|table| table.name());
            let fix = match (elsewhere(name), nearest(name, names)) {
                (_, Some(table)) => format!("did you mean `{table}`?"),
                (Some(fix), None) => fix,
                (None, None) => {
                    let headers: Vec<_> = tables.iter().map(|table| table.header()).collect();
                    format!("expected {}", headers.join(", "))
                }
            };
            self.fail(place, "unknown key", fix);
        }
    }

    fn refuse_unknown_keys(&mut self, section: &Section<'_>) {
        let inner = TABLES.into_iter().filter(|table| table.parent() == Some(section.table));
        let keys = definitions_of(section.table).map(|definition| definition.key);
        let known: Vec<_> = keys.chain(inner.map(Table::name)).collect();
        for (key, _) in section.entries.iter() {
            let name = &**key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let place = self.place(key.span(), &format!("{}.{name}", section.path));
            let fix = match nearest(name, known.iter().copied()) {
                Some(key) => format!("did you mean `{key}`?"),
                None => elsewhere(name).unwrap_or_else(|| {
                    format!("{} has {}", section.table.header(), known.join(", "))
                }),
            };
            self.fail(place, "unknown key", fix);
        }
    }

    fn item_of(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        field: &str,
        definition: &Definition,
    ) -> Option<Item> {
        let place = self.place_of(value, field);
        match text_of(definition.kind, value.get_ref()) {
            Some(text) => Some(Item { text, place }),
            None => {
                self.wrong_kind(place, value, definition);
                None
            }
        }
    }

    fn wrong_kind(&mut self, place: Place, value: &Spanned<DeValue<'_>>, definition: &Definition) {
        let expected = definition.kind.in_file();
        let values = match definition.values {
            "" | "true or false" => String::new(),
            values => format!(" ({values})"),
        };
        self.fail(place, type_of(value.get_ref()), format!("expected {expected}{values}"));
    }
}

/// Where a key belongs that stands in the wrong table, if any has it or one much like it.
fn elsewhere(name: &str) -> Option<String> {
    let keys = || TABLES.into_iter().flat_map(definitions_of);
    let key = nearest(name, keys().map(|definition| definition.key));
    if let Some(key) = key {
        let table = keys().find(|definition| definition.key == key)?.table;
        return Some(format!("`{key}` stands in {}", table.header()));
    }
    let table = TABLES.into_iter().find(|table| table.name() == name || is_listen(name, *table))?;
    Some(format!("it is written {}", table.header()))
}

/// Who looks for `listen` is looking for listeners.
fn is_listen(name: &str, table: Table) -> bool {
    table == Table::Listener && matches!(name, "listen" | "tcp_listen" | "listeners")
}
