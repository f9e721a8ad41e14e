//! Transcripts, from text to steps.

use std::iter::Peekable;
use std::str::Chars;

/// One line of a transcript, with those that continue it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The number of its first line, from 1.
    pub(crate) line: usize,
    /// What is done.
    pub(crate) action: Action,
}

/// What a line has done. Numbers are connections'.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The example is started, with these arguments.
    Start(Vec<String>),
    /// The client connects, to the listener for plain TCP if so.
    Open(u32, bool),
    /// The client sends bytes, as the payload of a frame of this opcode if there is one.
    Send(u32, Option<u8>, Vec<Part>),
    /// The server sends exactly these bytes.
    Expect(u32, Vec<Part>),
    /// The server ends the stream.
    End(u32),
    /// The client vanishes, whatever else there is for it.
    Vanish(u32),
}

/// Some of the bytes of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// These.
    Bytes(Vec<u8>),
    /// What differs from run to run, and under which name it is kept.
    Blank(Form, Option<String>),
    /// What was kept under a name.
    Again(String),
}

/// What differs from run to run, by its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A random UUID in lower case (RFC 9562, 5.4).
    Uuid,
    /// A public id of a connection: 32 hexadecimal digits.
    Id,
    /// Milliseconds since 1970, in decimal.
    Ms,
    /// The time in UTC (RFC 3339), to the millisecond.
    Time,
    /// Nanoseconds since 1970, as protobuf's varint.
    Ns,
}

impl Form {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "uuid" => Self::Uuid,
            "id" => Self::Id,
            "ms" => Self::Ms,
            "time" => Self::Time,
            "ns" => Self::Ns,
            _ => return None,
        })
    }

    /// How many bytes it has. For times, until the year 2262.
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Uuid => 36,
            Self::Id => 32,
            Self::Ms => 13,
            Self::Time => 24,
            Self::Ns => 9,
        }
    }

    /// Whether bytes of this length have the form.
    pub(crate) fn fits(self, bytes: &[u8]) -> bool {
        let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match self {
            Self::Uuid => bytes.iter().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => *byte == b'-',
                14 => *byte == b'4',
                19 => matches!(byte, b'8' | b'9' | b'a' | b'b'),
                _ => is_hex(byte),
            }),
            Self::Id => bytes.iter().all(is_hex),
            Self::Ms => bytes[0] == b'1' && bytes.iter().all(u8::is_ascii_digit),
            Self::Time => bytes.iter().enumerate().all(|(at, byte)| match at {
                4 | 7 => *byte == b'-',
                10 => *byte == b'T',
                13 | 16 => *byte == b':',
                19 => *byte == b'.',
                23 => *byte == b'Z',
                _ => byte.is_ascii_digit(),
            }),
            Self::Ns => {
                let (last, more) = bytes.split_last().expect("it has a length");
                *last < 0x80 && more.iter().all(|byte| *byte >= 0x80)
            }
        }
    }
}

/// Reads a transcript.
///
/// # Errors
/// The line that is wrong, and what was expected.
pub(crate) fn read(transcript: &str) -> Result<Vec<Step>, String> {
    let mut whole: Vec<(usize, String)> = Vec::new();
    for (index, line) in transcript.lines().enumerate() {
        let is_continued = line.starts_with(' ');
        match whole.last_mut() {
            _ if line.trim().is_empty() || line.trim_start().starts_with('#') => {}
            Some((_, before)) if is_continued => before.push_str(line),
            None if is_continued => return Err(format!("line {}: continues nothing", index + 1)),
            _ => whole.push((index + 1, line.to_owned())),
        }
    }
    let step = |(line, text): (usize, String)| match action(&text) {
        Ok(action) => Ok(Step { line, action }),
        Err(why) => Err(format!("line {line}: {why}")),
    };
    whole.into_iter().map(step).collect()
}

fn action(line: &str) -> Result<Action, String> {
    if let Some(words) = line.strip_prefix('$') {
        return Ok(Action::Start(words.split_whitespace().map(str::to_owned).collect()));
    }
    let sign = line.find(|c: char| !c.is_ascii_digit()).ok_or("expected one of + > < -")?;
    let conn = line[..sign].parse().map_err(|_| "expected `$` or the number of a connection")?;
    let (sign, rest) = line[sign..].split_at_checked(1).ok_or("expected one of + > < -")?;
    let rest = rest.trim();
    match (sign, rest) {
        ("+", "" | "tcp") => Ok(Action::Open(conn, rest == "tcp")),
        ("-", "") => Ok(Action::Vanish(conn)),
        ("<", "end") => Ok(Action::End(conn)),
        ("<", bytes) => Ok(Action::Expect(conn, parts(bytes)?)),
        (">", bytes) => {
            let (opcode, bytes) = opcode(bytes);
            Ok(Action::Send(conn, opcode, parts(bytes)?))
        }
        _ => Err(format!("`{sign} {rest}` is nothing to do")),
    }
}

/// The opcode (RFC 6455, 11.8) that the first word names, and the rest.
fn opcode(line: &str) -> (Option<u8>, &str) {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let opcode = match word {
        "text" => 1,
        "binary" => 2,
        "close" => 8,
        "ping" => 9,
        "pong" => 10,
        _ => return (None, line),
    };
    (Some(opcode), rest)
}

/// Reads what stands for bytes.
fn parts(line: &str) -> Result<Vec<Part>, String> {
    let mut bytes = Bytes::default();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' => {}
            '#' => return Err("a comment stands on a line of its own".to_owned()),
            '\'' => quoted(&mut chars, &mut bytes)?,
            '<' | '{' => bytes.put_name(c, &mut chars)?,
            digit => bytes.push(hex(digit, &mut chars)?),
        }
    }
    Ok(bytes.parts)
}

/// Reads text up to its quote. Names in it are names only where they are spelt as such.
fn quoted(chars: &mut Peekable<Chars<'_>>, bytes: &mut Bytes) -> Result<(), String> {
    while let Some(c) = chars.next() {
        match c {
            '\'' => return Ok(()),
            '\\' => match chars.next() {
                Some('r') => bytes.push(b'\r'),
                Some('n') => bytes.push(b'\n'),
                Some(c @ ('\\' | '\'')) => bytes.push(c as u8),
                other => return Err(format!("expected one of r n \\ ' behind \\, not {other:?}")),
            },
            '<' | '{' if is_name(c, chars.clone()) => bytes.put_name(c, chars)?,
            c => bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err("a quote has no end".to_owned())
}

fn is_name(open: char, mut chars: Peekable<Chars<'_>>) -> bool {
    let word: String = chars.by_ref().take_while(|c| !matches!(c, '>' | '}')).collect();
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    match open {
        '<' => Form::named(word.split(':').next().unwrap_or_default()).is_some(),
        _ => is_word(&word),
    }
}

fn hex(digit: char, chars: &mut Peekable<Chars<'_>>) -> Result<u8, String> {
    let pair: String = [digit].into_iter().chain(chars.next()).collect();
    u8::from_str_radix(&pair, 16).map_err(|_| format!("expected two hexadecimal digits: {pair}"))
}

/// Parts being put together.
#[derive(Default)]
struct Bytes {
    parts: Vec<Part>,
}

impl Bytes {
    fn push(&mut self, byte: u8) {
        self.extend(&[byte]);
    }

    fn extend(&mut self, more: &[u8]) {
        match self.parts.last_mut() {
            Some(Part::Bytes(bytes)) => bytes.extend_from_slice(more),
            _ => self.parts.push(Part::Bytes(more.to_vec())),
        }
    }

    /// Reads `<form>`, `<form:name>` or `{name}` behind its first character.
    fn put_name(&mut self, open: char, chars: &mut Peekable<Chars<'_>>) -> Result<(), String> {
        let close = if open == '<' { '>' } else { '}' };
        let word: String = chars.by_ref().take_while(|c| *c != close).collect();
        if open == '{' {
            self.parts.push(Part::Again(word));
            return Ok(());
        }
        let (form, name) = match word.split_once(':') {
            Some((form, name)) => (form, Some(name.to_owned())),
            None => (&*word, None),
        };
        let form = Form::named(form).ok_or(format!("`{form}` is none of uuid, id, ms, ns"))?;
        self.parts.push(Part::Blank(form, name));
        Ok(())
    }
}

#[test]
fn lines_are_read() {
    let text = |text: &str| Part::Bytes(text.as_bytes().to_vec());
    let transcript = "# a comment\n$ --x 7\n1+\n\n12> text 'a{\"b\"}\\'\\r\\n'\n  41 C3 'ä'\n\
        1< '<id:me>' 00 {me} '{me}<b>'\n1< end\n2+ tcp\n2> 01\n2-\n";
    let steps = read(transcript).unwrap();
    let lines: Vec<_> = steps.iter().map(|step| step.line).collect();
    assert_eq!(lines, [2, 3, 5, 7, 8, 9, 10, 11]);
    let actions: Vec<_> = steps.into_iter().map(|step| step.action).collect();
    let me = || Part::Again("me".to_owned());
    let all = [&b"a{\"b\"}'\r\nA\xc3"[..], "ä".as_bytes()].concat();
    assert_eq!(
        actions,
        [
            Action::Start(vec!["--x".to_owned(), "7".to_owned()]),
            Action::Open(1, false),
            Action::Send(12, Some(1), vec![Part::Bytes(all)]),
            Action::Expect(
                1,
                vec![
                    Part::Blank(Form::Id, Some("me".to_owned())),
                    text("\0"),
                    me(),
                    me(),
                    text("<b>")
                ]
            ),
            Action::End(1),
            Action::Open(2, true),
            Action::Send(2, None, vec![text("\u{1}")]),
            Action::Vanish(2),
        ]
    );
}

#[test]
fn mistakes_are_told() {
    for (transcript, want) in [
        ("  00", "line 1: continues nothing"),
        ("# x\n1? 00", "line 2: `? 00` is nothing to do"),
        ("x> 00", "line 1: expected `$` or the number of a connection"),
        ("1", "line 1: expected one of + > < -"),
        ("1> 0g", "expected two hexadecimal digits: 0g"),
        ("1> 'abc", "a quote has no end"),
        ("1> 'a\\t'", "expected one of r n"),
        ("1> <guid>", "`guid` is none of"),
        ("1> 00 # why", "a comment stands on a line of its own"),
    ] {
        let mistake = read(transcript).unwrap_err();
        assert!(mistake.contains(want), "{transcript}: {mistake}");
    }
}

#[test]
fn blanks_have_their_form_only() {
    for (form, right, wrong) in [
        (
            Form::Uuid,
            "00112233-4455-4677-8899-aabbccddeeff",
            ["00112233-4455-1677-8899-aabbccddeeff", "0011223344-55-4677-8899-aabbccddeeff"],
        ),
        (
            Form::Id,
            "ce6fd1296161c1b73f635e9b589f195e",
            ["ce6fd1296161c1b73f635e9b589f195E", "ce6fd1296161c1b73f635e9b589f195-"],
        ),
        (Form::Ms, "1763715260000", ["0763715260000", "176371526000x"]),
        (
            Form::Time,
            "2026-01-31T12:00:00.000Z",
            ["2026-01-31 12:00:00.000Z", "2026-01-31T12:00:0x.000Z"],
        ),
    ] {
        assert_eq!(right.len(), form.len());
        assert!(form.fits(right.as_bytes()));
        assert!(wrong.iter().all(|wrong| !form.fits(wrong.as_bytes())), "{form:?}");
    }
    assert!(Form::Ns.fits(b"\x80\x81\xff\x80\x80\x80\x80\x80\x18"));
    assert!(!Form::Ns.fits(b"\x80\x81\xff\x80\x80\x80\x80\x80\x98"));
    assert!(!Form::Ns.fits(b"\x80\x01\xff\x80\x80\x80\x80\x80\x18"));
}
