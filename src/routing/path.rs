//! Paths with parameters, and what is made of them.
//!
//! Invariants:
//! - a parameter stands for exactly one segment, never an empty one, and is UTF-8 once decoded;
//! - a path without parameters matches byte for byte, and nothing else;
//! - no path from a client makes more parameters than its pattern has.

use std::fmt;
use std::sync::Arc;

use crate::limits::PATH_SEGMENTS_MAX;

// A rank has a bit for each segment.
const _: () = assert!(PATH_SEGMENTS_MAX <= u32::BITS as usize);

/// The path of an endpoint: `/ws`, or with parameters `/room/{name}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    text: Box<str>,
    /// What stands behind each slash.
    segments: Box<[Segment]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// As it stands in the request, escapes and all.
    Literal(Box<str>),
    Param(Arc<str>),
}

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let rest = text.strip_prefix('/');
        let rest = rest.ok_or_else(|| expected(format!("`/` at the start of `{text}`")))?;
        if let Some(bad) = text.chars().find(|c| "?#".contains(*c) || !c.is_ascii_graphic()) {
            return Err(expected(format!("a path without {bad:?} in it, not `{text}`")));
        }
        let segments: Box<[_]> = rest.split('/').map(Segment::parse).collect::<Result<_, _>>()?;
        if segments.len() > PATH_SEGMENTS_MAX {
            let found = segments.len();
            return Err(expected(format!("at most {PATH_SEGMENTS_MAX} segments, not {found}")));
        }
        let pattern = Self { text: text.into(), segments };
        match pattern.repeated() {
            Some(name) => Err(expected(format!("each parameter once, not `{{{name}}}` twice"))),
            None => Ok(pattern),
        }
    }

    /// The parameters of a path, if it is one of these. A parameter's escapes (`%2F`) are decoded;
    /// all else is compared as it stands, upper and lower case apart.
    #[must_use]
    pub fn matches(&self, path: &str) -> Option<Params> {
        if self.is_plain() {
            return (*self.text == *path).then(Params::default);
        }
        let mut parts = path.strip_prefix('/')?.split('/');
        let mut params = Vec::new();
        for segment in &self.segments {
            let part = parts.next()?;
            match segment {
                Segment::Literal(literal) if **literal == *part => {}
                Segment::Literal(_) => return None,
                Segment::Param(name) => params.push((Arc::clone(name), percent_decoded(part)?)),
            }
        }
        parts.next().is_none().then(|| Params(params.into()))
    }

    /// Whether it has no parameters.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.params().next().is_none()
    }

    /// How closely it says what it matches. Of several patterns that match one path, the one of the
    /// highest rank is meant: `/room/lobby` before `/room/{name}` before `/{kind}/{name}`.
    #[must_use]
    pub fn rank(&self) -> u32 {
        let literal = |(n, segment): (usize, &Segment)| match segment {
            Segment::Literal(_) => 1 << (u32::BITS as usize - 1 - n),
            Segment::Param(_) => 0,
        };
        self.segments.iter().enumerate().map(literal).sum()
    }

    /// Whether it matches the very paths that another matches, so that one of them is never meant.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        let same = |(a, b): (&Segment, &Segment)| match (a, b) {
            (Segment::Literal(a), Segment::Literal(b)) => a == b,
            (Segment::Param(_), Segment::Param(_)) => true,
            _ => false,
        };
        self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(same)
    }

    /// The names of the parameters, from left to right.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Param(name) => Some(&**name),
        })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn repeated(&self) -> Option<&str> {
        let repeated = |(n, name): &(usize, &str)| self.params().take(*n).any(|p| p == *name);
        self.params().enumerate().find(repeated).map(|(_, name)| name)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, PatternError> {
        if !text.contains(['{', '}']) {
            return Ok(Self::Literal(text.into()));
        }
        let name = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let whole = || expected(format!("a whole segment such as `{{name}}`, not `{text}`"));
        param_name(name.ok_or_else(whole)?).map(|name| Self::Param(name.into()))
    }
}

/// A text with a path's parameters in it: `room/{name}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    pieces: Box<[Piece]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Box<str>),
    Param(Box<str>),
}

impl Template {
    /// Reads a template. Parameters may stand anywhere, more than once too.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(expected("a name of at least one character".to_owned()));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            let (before, from_brace) = rest.split_at(brace);
            let inside = from_brace.strip_prefix('{').and_then(|inside| inside.split_once('}'));
            let unpaired = || expected(format!("braces in pairs, as in `{{name}}`, not `{text}`"));
            let (name, after) = inside.ok_or_else(unpaired)?;
            push_literal(&mut pieces, before);
            pieces.push(Piece::Param(param_name(name)?.into()));
            rest = after;
        }
        push_literal(&mut pieces, rest);
        Ok(Self { text: text.into(), pieces: pieces.into() })
    }

    /// Makes sure that a path has every parameter that stands here.
    ///
    /// # Errors
    /// Which one it has not, and which it has.
    pub fn check(&self, path: &PathPattern) -> Result<(), PatternError> {
        let Some(unknown) = self.params().find(|name| path.params().all(|known| known != *name))
        else {
            return Ok(());
        };
        let known: Vec<_> = path.params().map(|name| format!("`{{{name}}}`")).collect();
        Err(match known.is_empty() {
            true => expected(format!("no `{{{unknown}}}`: the path `{path}` has no parameters")),
            false => {
                let known = known.join(", ");
                expected(format!("a parameter of the path `{path}` ({known}), not `{{{unknown}}}`"))
            }
        })
    }

    /// The text with the parameters' values in it; `None` if one has none, which cannot be once
    /// the template is [checked](Self::check).
    #[must_use]
    pub fn expand(&self, params: &Params) -> Option<String> {
        let mut text = String::with_capacity(self.text.len());
        for piece in &self.pieces {
            text.push_str(match piece {
                Piece::Literal(literal) => literal,
                Piece::Param(name) => params.get(name)?,
            });
        }
        Some(text)
    }

    /// The names of the parameters, as they stand, from left to right.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(_) => None,
            Piece::Param(name) => Some(&**name),
        })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn push_literal(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Literal(text.into()));
    }
}

/// What the parameters of a path are in one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Box<[(Arc<str>, Box<str>)]>);

impl Params {
    /// The value of a parameter, decoded; never empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Names and values, in the order of the path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the path has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why a text is no path pattern or no template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    /// What was expected instead.
    pub expected: String,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.expected)
    }
}

impl std::error::Error for PatternError {}

fn expected(expected: String) -> PatternError {
    PatternError { expected }
}

fn param_name(name: &str) -> Result<&str, PatternError> {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(letter) {
        let what = "a parameter's name of letters, digits and `_`";
        return Err(expected(format!("{what}, not `{{{name}}}`")));
    }
    Ok(name)
}

/// A segment with its escapes decoded (RFC 3986, 2.1); `None` if it is empty, an escape is
/// malformed, or it comes to no UTF-8.
pub(super) fn percent_decoded(segment: &str) -> Option<Box<str>> {
    if !segment.contains('%') {
        return (!segment.is_empty()).then(|| segment.into());
    }
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            plain => plain,
        });
    }
    String::from_utf8(decoded).ok().map(Into::into)
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> PathPattern {
        PathPattern::parse(text).expect(text)
    }

    fn params(text: &str, path: &str) -> Option<Vec<(String, String)>> {
        let params = pattern(text).matches(path)?;
        Some(params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn value(segment: &str) -> Option<String> {
        let params = pattern("/room/{name}").matches(&format!("/room/{segment}"))?;
        assert_eq!(params.len(), 1);
        params.get("name").map(Into::into)
    }

    #[test]
    fn plain_paths_match_themselves() {
        for path in ["/", "/ws", "/ws/", "/a/b/c", "/a%20b", "/a//b"] {
            let pattern = pattern(path);
            assert!(pattern.is_plain() && pattern.as_str() == path);
            assert!(pattern.matches(path).is_some_and(|params| params.is_empty()));
            for other in ["", "/WS", "/w", "/wss", "/a/b", "/a b", "/a/b/c/", "ws"] {
                assert!(pattern.matches(other).is_none(), "{path} {other}");
            }
        }
    }

    #[test]
    fn parameters_are_whole_segments() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(params("/room/{name}", "/room/sea"), Some(vec![pair("name", "sea")]));
        let two = Some(vec![pair("kind", "x"), pair("id_2", "7")]);
        assert_eq!(params("/{kind}/of/{id_2}", "/x/of/7"), two);
        assert_eq!(params("/{a}", "/x"), Some(vec![pair("a", "x")]));
        for (text, path) in [
            ("/room/{name}", "/room"),
            ("/room/{name}", "/room/"),
            ("/room/{name}", "/room/a/"),
            ("/room/{name}", "/room/a/b"),
            ("/room/{name}", "/Room/a"),
            ("/room/{name}", "//room/a"),
            ("/room/{name}", "room/a"),
            ("/room/{name}", ""),
            ("/{a}/{b}", "//x"),
            ("/{a}/", "/x"),
        ] {
            assert_eq!(params(text, path), None, "{text} {path}");
        }
    }

    #[test]
    fn values_are_decoded() {
        for (segment, decoded) in [
            ("a%20b", "a b"),
            ("a+b", "a+b"),
            ("%2F%2f", "//"),
            ("%2e%2e", ".."),
            ("%E6%B5%B7", "海"),
            ("海", "海"),
            ("%25", "%"),
            ("%252F", "%2F"),
            ("{x}", "{x}"),
        ] {
            assert_eq!(value(segment).as_deref(), Some(decoded), "{segment}");
        }
        for bad in ["%", "%2", "a%", "%zz", "%+1", "% 1", "%2\u{e9}", "%ff", "%C0%80", "%E6%B5"] {
            assert_eq!(value(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_closer_pattern_outranks() {
        let by_rank = ["/room/lobby", "/room/{name}", "/{kind}/lobby", "/{kind}/{name}"];
        let ranks: Vec<_> = by_rank.iter().map(|text| pattern(text).rank()).collect();
        assert!(ranks.is_sorted_by(|a, b| a > b), "{ranks:?}");
        let longest = "/a".repeat(PATH_SEGMENTS_MAX);
        assert_eq!(pattern(&longest).rank(), u32::MAX);
        assert!(pattern("/room/{a}").is_same_as(&pattern("/room/{b}")));
        for other in ["/room/lobby", "/rooms/{a}", "/room/{a}/x", "/{a}/{b}", "/room"] {
            assert!(!pattern("/room/{a}").is_same_as(&pattern(other)), "{other}");
        }
    }

    #[test]
    fn mistakes_in_patterns_are_told() {
        for (text, why) in [
            ("", "`/` at the start"),
            ("room/{name}", "`/` at the start"),
            ("/a?b", "without '?'"),
            ("/a#b", "without '#'"),
            ("/a b", "without ' '"),
            ("/room/x{name}", "a whole segment such as `{name}`, not `x{name}`"),
            ("/room/{name}x", "a whole segment"),
            ("/room/{name", "a whole segment"),
            ("/room/name}", "a whole segment"),
            ("/room/}{", "a whole segment"),
            ("/room/{}", "name of letters"),
            ("/room/{a-b}", "not `{a-b}`"),
            ("/room/{{a}}", "name of letters"),
            ("/room/{a*}", "name of letters"),
            ("/{a}/{b}/{a}", "each parameter once, not `{a}` twice"),
        ] {
            let error = PathPattern::parse(text).expect_err(text).to_string();
            assert!(error.starts_with("expected ") && error.contains(why), "{text}: {error}");
        }
        let long = "/a".repeat(PATH_SEGMENTS_MAX + 1);
        assert!(PathPattern::parse(&long).unwrap_err().expected.contains("at most 32"));
    }

    #[test]
    fn templates_are_expanded() {
        let params = pattern("/{kind}/{name}").matches("/room/a%2Fb").unwrap();
        for (text, expanded) in [
            ("plain", "plain"),
            ("{name}", "a/b"),
            ("{kind}:{name}.", "room:a/b."),
            ("{kind}{kind}", "roomroom"),
        ] {
            let template = Template::parse(text).expect(text);
            assert_eq!(template.check(&pattern("/{kind}/{name}")), Ok(()));
            assert_eq!(template.expand(&params).as_deref(), Some(expanded));
            assert_eq!(template.to_string(), text);
        }
        let values = pattern("/{a}").matches("/{b}").unwrap();
        // A value is not expanded again.
        assert_eq!(Template::parse("{a}").unwrap().expand(&values).as_deref(), Some("{b}"));
        assert_eq!(Template::parse("{c}").unwrap().expand(&values), None);
    }

    #[test]
    fn mistakes_in_templates_are_told() {
        for (text, why) in [
            ("a{", "braces in pairs"),
            ("a}", "braces in pairs"),
            ("{a}}", "braces in pairs"),
            ("{}", "name of letters"),
            ("{a b}", "not `{a b}`"),
            ("{a{b}}", "name of letters"),
        ] {
            let error = Template::parse(text).expect_err(text).to_string();
            assert!(error.starts_with("expected ") && error.contains(why), "{text}: {error}");
        }
        let template = Template::parse("room/{name}/{x}").unwrap();
        let error = |path: &str| template.check(&pattern(path)).unwrap_err().expected;
        assert_eq!(
            error("/{name}/{y}"),
            "a parameter of the path `/{name}/{y}` (`{name}`, `{y}`), not `{x}`"
        );
        assert_eq!(error("/a"), "no `{name}`: the path `/a` has no parameters");
    }
}
