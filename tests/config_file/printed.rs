//! What is printed: the configuration in force, and the manual.

use std::fs;
use std::path::Path;

use tidegate::config::{
    Definition, Kind, REQUIRED, Resolved, definitions, document, show_json, show_toml,
};

use crate::{File, WHOLE, resolved};

#[test]
fn what_is_printed_gives_the_same_configuration_when_read_back() {
    for text in ["", WHOLE] {
        let first = resolved(text);
        let printed = show_toml(&first);
        let second = resolved(&printed);
        assert_eq!(format!("{:?}", first.config), format!("{:?}", second.config), "{printed}");
        assert_eq!(first.log, second.log, "{printed}");
        let values = |resolved: &Resolved| {
            let shown: serde_json::Value = serde_json::from_str(&show_json(resolved)).unwrap();
            without_sources(shown)
        };
        assert_eq!(values(&first), values(&second));
        assert!(!show_json(&second).contains("\"--"), "{printed}");
    }
}

fn without_sources(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(fields) if fields.contains_key("source") => fields["value"].clone(),
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key, without_sources(value))).collect()
        }
        Value::Array(values) => values.into_iter().map(without_sources).collect(),
        value => value,
    }
}

#[test]
fn each_value_says_where_it_came_from() {
    let file = File::new(WHOLE);
    let text = file.run(
        &["config", "--config", "gateway.toml", "--backlog", "5", "--listen", "127.0.0.1:7"],
        &[("TIDEGATE_LOOPS", "4")],
    );
    let text = String::from_utf8(text.stdout).expect("text");
    let source = |start: &str| {
        let line = text.lines().find(|line| line.starts_with(start));
        let line = line.unwrap_or_else(|| panic!("no {start} in {text}"));
        line.rsplit_once("  # ").expect("a comment").1.to_owned()
    };
    let line_of = |start: &str| {
        let line = WHOLE.lines().position(|line| line.starts_with(start)).expect("a line");
        format!("gateway.toml:{}", line + 1)
    };
    assert_eq!(source("backlog = 5"), "--backlog");
    assert_eq!(source("loops = 4"), "TIDEGATE_LOOPS");
    assert_eq!(source("address = \"127.0.0.1:7\""), "--listen");
    for start in [
        "max_connections = ",
        "address = \"[::1]:9000\"",
        "path = \"/room",
        "selector",
        "key = \"7\"",
        "pattern = \"lobby\"",
        "max_members = ",
    ] {
        assert_eq!(source(start), line_of(start), "{start}");
    }
    let unset = text.lines().filter(|line| line.starts_with("# ") && line.ends_with("  # default"));
    assert!(unset.count() > 5, "{text}");
}

#[test]
fn the_manual_is_what_the_definitions_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIGURATION.md");
    let said = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return fs::write(path, said).expect("a file");
    }
    let manual = fs::read_to_string(path).unwrap_or_default();
    let differs = manual.lines().zip(said.lines()).find(|(manual, said)| manual != said);
    assert!(manual == said, "UPDATE_DOCS=1 in the environment writes it anew: {differs:?}");
    let output = File::new("").run(&["config", "--docs"], &[]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), manual);
}

#[test]
fn the_example_of_the_manual_has_no_mistake() {
    let manual = document();
    let example = manual.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let config = resolved(example.expect("an example")).config;
    assert_eq!((config.endpoints.len(), config.rooms.len(), config.tcp_listen.len()), (2, 1, 1));
}

/// A file with one value of a table that only files have, and with what it needs besides.
fn with(definition: &Definition, value: &str) -> String {
    let Definition { key, .. } = definition;
    let line = format!("{key} = {value}\n");
    let needed = |key: &str, value: &str| {
        if definition.key == key { String::new() } else { format!("{key} = \"{value}\"\n") }
    };
    let endpoint = "[[endpoint]]\npath = \"/ws\"\ndialect = \"json\"\n";
    match definition.table.header() {
        "[[listener]]" if value == "\"tcp\"" => {
            format!("[[listener]]\naddress = \"[::1]:1\"\nendpoint = \"/kim\"\n{line}")
        }
        "[[listener]]" if *key == "framing" => {
            let tcp = "transport = \"tcp\"\nendpoint = \"/kim\"\n";
            format!("[[listener]]\naddress = \"[::1]:1\"\n{tcp}{line}")
        }
        "[[listener]]" => format!("[[listener]]\n{}{line}", needed("address", "[::1]:1")),
        "[[endpoint]]" => {
            let (path, dialect) = (needed("path", "/ws"), needed("dialect", "json"));
            let limit = match *key {
                "over_limit" => "messages_per_s = 1\n",
                "full_status" => "max_connections = 1\n",
                _ => "",
            };
            format!("[[endpoint]]\n{path}{dialect}{limit}{line}")
        }
        "[[endpoint.route]]" => {
            let (key, handler) = (needed("key", "a"), needed("handler", "echo"));
            let limit = if definition.key == "over_limit" { "rate_per_s = 1\n" } else { "" };
            format!("{endpoint}[[endpoint.route]]\n{key}{handler}{limit}{line}")
        }
        "[endpoint.login]" => {
            format!("{endpoint}[endpoint.login]\n{}{line}", needed("secret_file", "s"))
        }
        "[[room]]" => format!("[[room]]\n{}{line}", needed("pattern", "a")),
        header => format!("{endpoint}{header}\n{line}"),
    }
}

#[test]
fn the_words_and_ranges_that_the_manual_names_are_those_that_hold() {
    // Above the limits of endpoints, which are at most these.
    const LIMITS: &str = "limits = {max_message = \"1GiB\", outbound_limit = \"16GiB\"}\n\
                          proxy = {trusted_proxies = [\"::1\"]}\n";
    let takes = |definition: &Definition, value: &str| {
        File::new(&format!("{LIMITS}{}", with(definition, value))).resolve(&[]).is_ok()
    };
    let (mut words, mut ranges) = (0, 0);
    for definition in definitions().filter(|d| !d.has_flag()) {
        let Definition { key, values, kind, .. } = definition;
        let may_be_never = values.contains(", 0 or off: never");
        let values = values.split(", at most").next().unwrap();
        let values = values.split(", 0 or off").next().unwrap();
        if *kind == Kind::Word {
            for word in values.split(", ").flat_map(|word| word.split(" or ")) {
                words += 1;
                assert!(takes(definition, &format!("{word:?}")), "{key} = {word}");
            }
        }
        let Some((least, most)) = values.split_once(" to ") else { continue };
        ranges += 1;
        let digits = most.trim_end_matches(char::is_alphabetic);
        let beyond = digits.parse::<u64>().unwrap() + 1;
        let beyond = most.replace(digits, &beyond.to_string());
        for (value, inside) in [(least, true), (most, true), (&beyond, false), ("0", may_be_never)]
        {
            let value = if *kind == Kind::Count { value.to_owned() } else { format!("{value:?}") };
            assert_eq!(takes(definition, &value), inside, "{key} = {value}");
        }
    }
    assert_eq!((words, ranges), (32, 16));
}

#[test]
fn the_defaults_of_endpoints_that_the_manual_names_are_those_that_hold() {
    let mut tried = 0;
    for definition in definitions().filter(|d| !d.has_flag()) {
        let Definition { key, default, kind, .. } = definition;
        let literal = match kind {
            Kind::Texts | Kind::Switch => (*default).to_owned(),
            Kind::Word if !default.contains(' ') && *default != REQUIRED => format!("{default:?}"),
            _ => continue,
        };
        tried += 1;
        let without = with(definition, "0").replace(&format!("{key} = 0\n"), "");
        let said = resolved(&with(definition, &literal)).config;
        assert_eq!(format!("{said:?}"), format!("{:?}", resolved(&without).config), "{key}");
    }
    assert_eq!(tried, 11);
}
