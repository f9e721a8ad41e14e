//! Where in a JSON message the route's key stands.
//!
//! No tree is built: each step of a path runs over the text of one object. A member that stands
//! twice in its object is not found at all, because others might take the other one.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::json::text::unquote;

/// What stands for the message itself at the head of a path, as API gateways have it.
const REQUEST_BODY: &str = "request.body";

/// A route selection expression: `$request.body.action`, `${header.opt}:${header.res}`, or a JSON
/// pointer (RFC 6901) such as `/header/opt`.
///
/// A path is names with dots between; `request.body` at its head is the message itself. In `${…}`
/// stands a path or a pointer. In an array a step is the number of an element, from 0. What is
/// found is a string, or the text of a number or a boolean; `null`, objects and arrays are as good
/// as absent.
#[derive(Clone, PartialEq, Eq)]
pub struct Selector {
    source: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Text that is the same in every key.
    Text(String),
    /// Steps from the message inwards: names of members, or numbers of elements.
    Path(Vec<String>),
}

/// Why a text is no selection expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorError {
    /// What was expected instead.
    pub expected: String,
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.expected)
    }
}

impl std::error::Error for SelectorError {}

impl Selector {
    /// Reads an expression.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn parse(source: &str) -> Result<Self, SelectorError> {
        let parts = if source.starts_with('/') {
            vec![Part::Path(parse_pointer(source)?)]
        } else if source.contains("${") {
            parse_template(source)?
        } else if let Some(path) = source.strip_prefix('$') {
            vec![Part::Path(parse_request_body(path)?)]
        } else {
            return Err(expected(
                "`$request.body.` and a path, a template with `${` path `}`, or a JSON pointer \
                 that begins with `/`",
            ));
        };
        Ok(Self { source: source.to_owned(), parts })
    }

    /// The expression as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// The key in `object`, valid JSON; `None` where part of the expression finds nothing.
    #[must_use]
    pub fn select<'a>(&self, object: &'a str) -> Option<Cow<'a, str>> {
        if let [Part::Path(path)] = &self.parts[..] {
            return find(object, path.iter().map(|step| Some(&**step)));
        }
        let mut key = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => key.push_str(text),
                Part::Path(path) => {
                    key.push_str(&find(object, path.iter().map(|step| Some(&**step)))?);
                }
            }
        }
        Some(Cow::Owned(key))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl std::str::FromStr for Selector {
    type Err = SelectorError;

    fn from_str(source: &str) -> Result<Self, SelectorError> {
        Self::parse(source)
    }
}

/// The member of `object`, valid JSON, at a JSON pointer or of a name: a string without quotes, or
/// else JSON text.
pub(super) fn member<'a>(object: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let found = match name.strip_prefix('/') {
        Some(steps) => walk(object, steps.split('/').map(unescape_step))?,
        None => step(object, name)?,
    };
    if found.starts_with('"') { unquote(found) } else { Some(Cow::Borrowed(found)) }
}

fn expected(what: impl Into<String>) -> SelectorError {
    SelectorError { expected: what.into() }
}

fn parse_pointer(source: &str) -> Result<Vec<String>, SelectorError> {
    let steps = source.strip_prefix('/').unwrap_or(source).split('/');
    let steps = steps.map(|step| unescape_step(step).map(Cow::into_owned));
    steps.collect::<Option<_>>().ok_or_else(|| {
        expected(format!("`~` in the JSON pointer `{source}` to be `~0` for `~` or `~1` for `/`"))
    })
}

/// RFC 6901, 4; `None` where a `~` is neither `~0` nor `~1`.
fn unescape_step(step: &str) -> Option<Cow<'_, str>> {
    let Some((before, mut rest)) = step.split_once('~') else { return Some(Cow::Borrowed(step)) };
    let mut unescaped = before.to_owned();
    loop {
        unescaped.push(match rest.as_bytes().first() {
            Some(b'0') => '~',
            Some(b'1') => '/',
            _ => return None,
        });
        match rest[1..].split_once('~') {
            Some((before, after)) => {
                unescaped.push_str(before);
                rest = after;
            }
            None => {
                unescaped.push_str(&rest[1..]);
                return Some(Cow::Owned(unescaped));
            }
        }
    }
}

fn parse_request_body(path: &str) -> Result<Vec<String>, SelectorError> {
    let inner = path.strip_prefix(REQUEST_BODY);
    if !inner.is_some_and(|inner| inner.is_empty() || inner.starts_with('.')) {
        return Err(expected(format!("`$request.body.` and a path, not `${path}`")));
    }
    parse_path(path)
}

/// Names with dots between, with or without `request.body` before them.
fn parse_path(path: &str) -> Result<Vec<String>, SelectorError> {
    let inner = match path.strip_prefix(REQUEST_BODY) {
        Some("") => return Err(expected("a member of the message behind `request.body`")),
        Some(inner) => inner.strip_prefix('.').unwrap_or(path),
        None => path,
    };
    if inner.split('.').any(str::is_empty) {
        return Err(expected(format!("names with single dots between them, not `{path}`")));
    }
    Ok(inner.split('.').map(str::to_owned).collect())
}

fn parse_template(source: &str) -> Result<Vec<Part>, SelectorError> {
    let mut parts = Vec::new();
    let mut rest = source;
    while let Some((text, after)) = rest.split_once("${") {
        let Some((path, after)) = after.split_once('}') else {
            return Err(expected(format!("a `}}` behind each `${{` of `{source}`")));
        };
        push_text(&mut parts, text);
        let steps = if path.starts_with('/') { parse_pointer(path)? } else { parse_path(path)? };
        parts.push(Part::Path(steps));
        rest = after;
    }
    push_text(&mut parts, rest);
    Ok(parts)
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

/// The string, or the text of the number or boolean, at the end of a path.
fn find<'a, S: AsRef<str>>(
    json: &'a str,
    steps: impl Iterator<Item = Option<S>>,
) -> Option<Cow<'a, str>> {
    let found = walk(json, steps)?;
    match found.as_bytes().first()? {
        b'"' => unquote(found),
        b'{' | b'[' | b'n' => None,
        _ => Some(Cow::Borrowed(found)),
    }
}

/// The JSON text at the end of a path; `None` also where a step is.
fn walk<S: AsRef<str>>(json: &str, steps: impl Iterator<Item = Option<S>>) -> Option<&str> {
    let mut at = json;
    for name in steps {
        at = step(at, name?.as_ref())?;
    }
    Some(at)
}

/// One step inwards: the member of this name, or the element of this number.
fn step<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let found = deserializer.deserialize_any(Step(name)).ok()??;
    Some(found.get())
}

struct Step<'n>(&'n str);

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut found, mut count) = (None, 0);
        while let Some(is_it) = map.next_key_seed(Is(self.0))? {
            if is_it {
                found = Some(map.next_value()?);
                count += 1;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found.filter(|_| count == 1))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        // RFC 6901, 4: digits without zeros before them.
        let digits = !self.0.starts_with('+') && (self.0 == "0" || !self.0.starts_with('0'));
        let index = self.0.parse::<usize>().ok().filter(|_| digits);
        let mut before = 0;
        while index.is_none_or(|index| before < index) {
            if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
            before += 1;
        }
        let found = seq.next_element()?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

/// Whether a member has this name.
struct Is<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::json::text::testing::{any_json, any_text, parsed};
    use super::*;

    const MESSAGE: &str = r#" {"header":{"opt":"get","res":"pod","a/b":{"m~n":7}},
        "action":"say\u0020it","request":{"id":5},"n":-1.50,"yes":true,"none":null,"":"empty",
        "twice":"a","twice":"b","list":[1,{"x":"y"},"z"],"a.b":"dotted"} "#;

    fn select(expression: &str) -> Option<String> {
        Selector::parse(expression).unwrap().select(MESSAGE).map(Cow::into_owned)
    }

    #[test]
    fn expressions_find_keys() {
        for (expression, key) in [
            ("$request.body.action", "say it"),
            ("$request.body.header.opt", "get"),
            ("${header.opt}:${header.res}", "get:pod"),
            ("${request.body.header.opt}", "get"),
            ("v1/${n}/${yes}", "v1/-1.50/true"),
            ("a}${action}$", "a}say it$"),
            ("${/header/opt}.${list.1.x}", "get.y"),
            ("${request.id}", "5"),
            ("/header/opt", "get"),
            ("/header/a~1b/m~0n", "7"),
            ("/", "empty"),
            ("/list/1/x", "y"),
            ("/list/2", "z"),
            ("/a.b", "dotted"),
        ] {
            assert_eq!(select(expression).as_deref(), Some(key), "{expression}");
        }
    }

    #[test]
    fn what_is_no_scalar_is_not_found() {
        for expression in [
            "$request.body.none",
            "$request.body.header",
            "$request.body.list",
            "$request.body.absent",
            "$request.body.action.deeper",
            "$request.body.twice",
            "$request.body.a.b",
            "${header.opt}:${header.absent}",
            "/list/01",
            "/list/+1",
            "/list/3",
            "/list/-",
            "/list/18446744073709551616",
            "/action/0",
        ] {
            assert_eq!(select(expression), None, "{expression}");
        }
    }

    #[test]
    fn keys_borrow_what_has_no_escapes() {
        let selector = Selector::parse("/header/opt").unwrap();
        assert!(matches!(selector.select(MESSAGE), Some(Cow::Borrowed("get"))));
    }

    #[test]
    fn mistakes_say_what_was_expected() {
        for (expression, want) in [
            ("", "`$request.body.` and a path, a template"),
            ("action", "`$request.body.` and a path, a template"),
            ("$action", "`$request.body.` and a path, not `$action`"),
            ("$request.bodyguard", "`$request.body.` and a path, not `$request.bodyguard`"),
            ("$request.body", "a member of the message behind `request.body`"),
            ("$request.body.", "names with single dots"),
            ("$request.body.a..b", "names with single dots"),
            ("${}", "names with single dots"),
            ("${a.}", "names with single dots"),
            ("${request.body}", "a member of the message"),
            ("${a}:${b", "a `}` behind each `${`"),
            ("/a~2", "`~` in the JSON pointer `/a~2`"),
            ("/a~", "`~0` for `~`"),
            ("${/a~}", "`~0` for `~`"),
        ] {
            let error = Selector::parse(expression).unwrap_err().to_string();
            assert!(
                error.starts_with("expected ") && error.contains(want),
                "{expression}: {error}"
            );
        }
    }

    #[test]
    fn members_are_found_by_name_and_by_pointer() {
        for (name, value) in [
            ("action", Some("say it")),
            ("/action", Some("say it")),
            ("a.b", Some("dotted")),
            ("/header/a~1b", Some(r#"{"m~n":7}"#)),
            ("none", Some("null")),
            ("list", Some(r#"[1,{"x":"y"},"z"]"#)),
            ("twice", None),
            ("/header/a~b", None),
            ("absent", None),
        ] {
            assert_eq!(member(MESSAGE, name).as_deref(), value, "{name}");
        }
        for broken in ["", "{", "7", "[", "\"a\"", r#"{"a":"\ud800"}"#] {
            assert_eq!(member(broken, "a"), None, "{broken}");
        }
    }

    #[test]
    fn expressions_are_written_as_they_came() {
        let selector: Selector = "${a}:${b}".parse().unwrap();
        assert_eq!((selector.as_str(), selector.to_string()), ("${a}:${b}", "${a}:${b}".into()));
    }

    proptest! {
        /// `serde_json`'s own pointers, on a tree, are the other opinion.
        #[test]
        fn pointers_agree_with_a_tree(value in any_json(), pointer in "(/[a-z0-9~/]{0,2}){1,3}") {
            agrees(&value, &pointer)?;
        }

        #[test]
        fn every_member_is_found(names in prop::collection::vec(any_text(), 1..5), leaf: i64) {
            let nest = |value, name: &String| Value::Object([(name.clone(), value)].into_iter().collect());
            let value = names.iter().rev().fold(Value::from(leaf), nest);
            let escape = |name: &String| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            let pointer: String = names.iter().map(escape).collect();
            let text = value.to_string();
            let key = Selector::parse(&pointer).unwrap().select(&text).map(Cow::into_owned);
            prop_assert_eq!(key, Some(leaf.to_string()));
            agrees(&value, &pointer)?;
        }

        #[test]
        fn nothing_panics(expression in any_text(), json in any_text(), name in any_text()) {
            if let Ok(selector) = Selector::parse(&expression) {
                let _ = selector.select(&json);
            }
            let _ = member(&json, &name);
        }
    }

    fn agrees(value: &Value, pointer: &str) -> Result<(), TestCaseError> {
        let text = value.to_string();
        let Ok(selector) = Selector::parse(pointer) else { return Ok(()) };
        let want = value.pointer(pointer);
        let scalar = want.and_then(|found| match found {
            Value::String(text) => Some(text.clone()),
            Value::Bool(_) | Value::Number(_) => Some(found.to_string()),
            _ => None,
        });
        prop_assert_eq!(selector.select(&text).map(Cow::into_owned), scalar);
        let found = member(&text, pointer);
        prop_assert_eq!(found.is_some(), want.is_some());
        if let (Some(Value::Object(_)), Some(found)) = (want, found) {
            prop_assert_eq!(&parsed(&found), want.unwrap());
        }
        Ok(())
    }
}
