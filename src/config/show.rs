//! `tidegate config`: what is in force, and where each value came from.

use serde_json::{Map, json};

use super::Resolved;
use super::definitions::Table;
use super::shown::{Entry, Shown, Value, shown};

/// Widest `key = value` that comments are lined up behind, characters.
const ALIGNED_MAX: usize = 48;

/// The configuration as a file of `--config`, each value with a comment that says where it came
/// from. Read back, it gives the same configuration.
#[must_use]
pub fn show_toml(resolved: &Resolved) -> String {
    let mut out = String::from(
        "# What is in force, and where it came from: the default, a variable, a flag, or a line of\n\
         # a file. What has no value, or its dialect's own, stands in a comment.\n",
    );
    for warning in &resolved.warnings {
        out.push_str(&format!("# warning: {warning}\n"));
    }
    let tables = shown(resolved);
    for table in &tables {
        put_table(&mut out, table);
    }
    if !tables.iter().any(|table| table.table == Table::Endpoint) {
        out.push_str("\n# No [[endpoint]]: the built-in ones are there.\n");
    }
    out
}

/// The configuration as JSON: `{"limits":{"max_message":{"value":"1MiB","source":"default"},…},…}`,
/// and lists of such objects for what a file may have many of. Without a value it is `null`.
#[must_use]
pub fn show_json(resolved: &Resolved) -> String {
    let mut object = as_object(&shown(resolved));
    for table in [Table::Listener, Table::Endpoint, Table::Room] {
        object.entry(table.name()).or_insert_with(|| json!([]));
    }
    object.insert("warnings".to_owned(), json!(resolved.warnings));
    let mut text = serde_json::Value::Object(object).to_string();
    text.push('\n');
    text
}

fn put_table(out: &mut String, shown: &Shown) {
    out.push_str(&format!("\n{}\n", shown.table.header()));
    let lines: Vec<_> = shown.entries.iter().map(|entry| (line_of(entry), entry)).collect();
    let widths = lines.iter().map(|(line, _)| line.chars().count());
    let width = widths.filter(|width| *width <= ALIGNED_MAX).max().unwrap_or(0);
    for (line, entry) in &lines {
        out.push_str(&format!("{line:width$}  # {}\n", entry.source));
    }
    for table in &shown.tables {
        put_table(out, table);
    }
}

fn line_of(Entry { definition, value, .. }: &Entry) -> String {
    let key = definition.key;
    match value {
        Value::Unset => format!("# {key}: {}", definition.default),
        Value::Number(number) => format!("{key} = {number}"),
        Value::Switch(value) => format!("{key} = {value}"),
        Value::Text(text) => format!("{key} = {}", quoted(text)),
        Value::Texts(texts) => {
            let texts: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
            format!("{key} = [{}]", texts.join(", "))
        }
    }
}

/// A basic string of TOML: as one of JSON, but for the one control character that JSON leaves as
/// it is.
fn quoted(text: &str) -> String {
    json!(text).to_string().replace('\u{7f}', "\\u007f")
}

fn as_object(tables: &[Shown]) -> Map<String, serde_json::Value> {
    let mut object = Map::new();
    for shown in tables {
        let mut fields = as_object(&shown.tables);
        for Entry { definition, value, source } in &shown.entries {
            let value = match value {
                Value::Unset => json!(null),
                Value::Number(number) => json!(number),
                Value::Switch(value) => json!(value),
                Value::Text(text) => json!(text),
                Value::Texts(texts) => json!(texts),
            };
            let field = json!({ "value": value, "source": source });
            fields.insert(definition.key.to_owned(), field);
        }
        let name = shown.table.name();
        if shown.table.is_repeated() {
            let list = object.entry(name).or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                list.push(serde_json::Value::Object(fields));
            }
        } else {
            object.insert(name.to_owned(), serde_json::Value::Object(fields));
        }
    }
    object
}
