//! What texts of a file must look like, and mistakes in its grammar.

use crate::routing::check_key;

use toml::de::Error;

use super::reader::Reader;

/// Notes the mistakes in the grammar, one a line; whether there are any that reading cannot go on
/// after.
pub(super) fn report(reader: &mut Reader<'_>, errors: &[Error]) -> bool {
    let mut last_line = 0;
    let mut fatal = false;
    for error in errors {
        let span = error.span().unwrap_or_default();
        let place = reader.place(span.clone(), "");
        // What follows in a line is mostly the echo of its first mistake.
        if place.line == last_line {
            continue;
        }
        last_line = place.line;
        let (what, fix) = match error.message().split_once(", expected ") {
            Some((what, expected)) => (what, format!("expected {expected}")),
            None => (error.message(), String::new()),
        };
        let double = what == "duplicate key";
        if double {
            let what = format!("`{}` is given twice", reader.text(span));
            reader.fail(place, what, "leave one of them out");
        } else {
            fatal = true;
            reader.fail(place, what, fix);
        }
    }
    fatal
}

/// A pattern of keys or of rooms: a name, a prefix such as `chat.*`, or `*`.
pub(super) fn check_pattern(pattern: &str) -> Result<String, String> {
    check_key(pattern).map(|()| pattern.to_owned())
}

/// The name of a permission.
pub(super) fn check_name(name: &str) -> Result<String, String> {
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("a name without spaces".to_owned());
    }
    Ok(name.to_owned())
}

/// A subprotocol: a token (RFC 9110, 5.6.2).
pub(super) fn check_token(token: &str) -> Result<String, String> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if token.is_empty() || !token.bytes().all(is_token) {
        return Err("a token: letters, digits and !#$%&'*+-.^_`|~".to_owned());
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_their_star_at_the_end() {
        for pattern in ["a", "chat.*", "*", "17", "news/*"] {
            assert_eq!(check_pattern(pattern).as_deref(), Ok(pattern));
        }
        for pattern in ["", "*a", "a*b*", "**"] {
            assert!(check_pattern(pattern).is_err(), "{pattern}");
        }
        assert!(check_token("a b").is_err() && check_token("graphql-ws").is_ok());
        assert!(check_name("a b").is_err() && check_name("push.all").is_ok());
    }
}
