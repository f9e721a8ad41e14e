//! `docs/CONFIGURATION.md`, made of the definitions.

use super::definitions::{Definition, TABLES, Table, definitions_of};

const BEGINNING: &str = r#"# The configuration file

This page is made by `tidegate config --docs`; a test compares the two.

`tidegate --config FILE` (or `TIDEGATE_CONFIG`) reads settings from a TOML file. A flag goes before a variable of the
environment, that before the file, and that before the default. `tidegate config` with the same flags prints what is then
in force, with where each value came from, in a form that can be given back as a file; `--format json` prints it as JSON.
`examples/config/` has a file for each of five systems whose clients work unchanged.

- Sizes are strings with a unit, such as `"64KiB"` (steps of 1024) or `"10MB"` (steps of 1000), or a whole number of bytes.
- Times are strings such as `"250ms"`, `"10s"`, `"5m"`, `"2h"` or `"1d"`, or a whole number of seconds. Deadlines are kept
  in ticks of 50 ms.
- Counts are whole numbers: `4096`, `1_000_000`.

All mistakes are answered at once, those of flags too, each with file, line, column, field, its value and what was
expected; the exit code is 2:

```
gateway.toml:2:1: limits.max_mesage: unknown key; did you mean `max_message`?
gateway.toml:9:11: endpoint[0].route[0].timeout = "soon": cannot be read; expected a time such as 250ms, 10s, 5m or 2h; a plain number is seconds
```

An example:

```toml
[limits]
max_message = "64KiB"

[[listener]]
address = "0.0.0.0:8080"

[[listener]]
address = "0.0.0.0:9000"
transport = "tcp"
endpoint = "/kim"

[[endpoint]]
path = "/kim"
dialect = "kim"

[[endpoint]]
path = "/room/{name}"
dialect = "event"
origins = ["same-host", "https://*.example.com"]
join = ["room/{name}"]

[[endpoint.route]]
key = "publish"
handler = "room_publish"
timeout = "5s"

[[room]]
pattern = "room/*"
max_members = 500
```
"#;

/// What a file may hold, as Markdown.
#[must_use]
pub fn document() -> String {
    let mut out = BEGINNING.to_owned();
    for table in TABLES {
        out.push_str(&format!("\n## `{}`\n\n{}\n\n", table.header(), about(table)));
        let has_flags = definitions_of(table).any(Definition::has_flag);
        let also = if has_flags { " also as |" } else { "" };
        let line = if has_flags { "---|" } else { "" };
        out.push_str(&format!(
            "| key | what it sets | values | default |{also}\n|---|---|---|---|{line}\n"
        ));
        for definition in definitions_of(table) {
            out.push_str(&row(definition));
        }
        let details = definitions_of(table).filter(|definition| !definition.detail.is_empty());
        let details =
            details.map(|Definition { key, detail, .. }| format!("- `{key}`: {detail}\n"));
        let details: String = details.collect();
        if !details.is_empty() {
            out.push_str(&format!("\n{details}"));
        }
    }
    out
}

fn row(definition: &Definition) -> String {
    let Definition { key, summary, values, default, .. } = definition;
    let values = if values.is_empty() { "true or false" } else { values };
    let row = format!("| `{key}` | {summary} | {values} | {default} |");
    // A star between others would be emphasis, and a dollar sign mathematics.
    let row = row.replace('*', "\\*").replace('$', "\\$");
    if definition.has_flag() {
        format!("{row} `{}`, `{}` |\n", definition.flag(), definition.variable())
    } else {
        format!("{row}\n")
    }
}

fn about(table: Table) -> &'static str {
    match table {
        Table::FlagOnly => "",
        Table::Capacity => "How much is held, and by how many threads.",
        Table::Limits => "What one connection may send and be owed.",
        Table::Timeouts => "How long things may take.",
        Table::Output => "Statistics, histograms and the log.",
        Table::Tls => {
            "Certificates of listeners with TLS: versions 1.2, with AEAD suites, and 1.3."
        }
        Table::Deflate => {
            "Compression of messages: permessage-deflate (RFC 7692), for WebSockets of clients that offer \
             it. Connections that are open keep what was agreed with them."
        }
        Table::Sockets => {
            "What clients connect to. Those of TCP are set on listeners, from which connections \
             inherit them; on Unix-domain sockets they say nothing."
        }
        Table::Proxy => "Who the client is behind a proxy.",
        Table::Listener => {
            "An address to listen on; as many as 64 of each kind. Without any, it is 0.0.0.0:8080 for \
             WebSockets, or what the service manager passes. `--listen` takes the place of all with transport `websocket` and without TLS, \
             `--tcp-listen` of those with transport `tcp`, `--tls-listen` and `--tls-tcp-listen` of \
             those with TLS."
        }
        Table::Endpoint => {
            "A path of the URL with a way of speaking and a route table. Without any, the built-in ones \
             are there; a file that has one has only its own. No two may have one path."
        }
        Table::Json => {
            "Names of members in messages of the dialect `json`, of the endpoint above it."
        }
        Table::Login => {
            "What connections of the endpoint above it have to do first: log in by a token, a JWT. Until \
             then only that message is routed, and heartbeats are answered. Secrets themselves stand in \
             no file of this kind, and are never printed."
        }
        Table::Route => {
            "What answers messages of some keys, of the endpoint above it. No two may have one key."
        }
        Table::Room => {
            "Rules for rooms of a name or a prefix. No two may have one pattern; rooms that none is for \
             are open to all."
        }
    }
}
