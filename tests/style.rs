//! The rules of style that can be read off the source, as `docs/ARCHITECTURE.md` states them.
//!
//! Each rule is a function from a file to what is wrong with it; it is run over the whole tree,
//! and over a snippet that breaks it.

use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 80;

/// Rooms that turn bytes and time handed to them into meaning, and touch nothing else.
const PURE_ROOMS: &[&str] = &["src/protocol/", "src/connection/", "src/quota/"];

/// What a pure room may not name in a path or an import: io, clocks, threads, logs.
const IMPURE: &[&str] = &[
    "io",
    "net",
    "fs",
    "env",
    "process",
    "thread",
    "Instant",
    "SystemTime",
    "UNIX_EPOCH",
    "log",
    "mio",
    "socket2",
    "nix",
    "libc",
    "tokio",
    "getrandom",
];

/// Macros that write somewhere.
const PRINTING: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];

/// Rooms where every call is known when the program is built.
const STATIC_ROOMS: &[&str] = &["src/protocol/", "src/connection/", "src/quota/", "src/reactor/"];

/// Files that may hold `unsafe`: wrappers of system calls that no crate here offers safely.
/// And the allocator that tests count with, which the language has as an unsafe trait.
const UNSAFE_ALLOWED: &[&str] = &[
    "benches/peers/src/fdtable.rs",
    "loadtest/src/fdtable.rs",
    "src/preflight/probe.rs",
    "src/reactor/fd_table.rs",
    "tests/support/counting.rs",
];

#[test]
fn pure_rooms_have_no_io_clock_or_log() {
    assert_tree_keeps(impure);
    let pure =
        "//! log::info!\nuse std::time::Duration;\nfn f(log: u8) { g(log, \"std::io::Read\") }";
    assert_eq!(impure(&snippet("src/protocol/x.rs", pure)), none());
    for bad in [
        "use std::io::Write;",
        "use std::{io, mem};",
        "use std::time::{Duration, Instant};",
        "fn f() { std::net::TcpStream::connect(x); }",
        "fn f() { let t = Instant::now(); }",
        "fn f(t: std::time::SystemTime) {}",
        "fn f() { log::warn!(\"x\"); }",
        "fn f() { println!(); }",
    ] {
        assert_eq!(impure(&snippet("src/connection/x.rs", bad)).len(), 1, "{bad}");
        assert_eq!(impure(&snippet("src/reactor/x.rs", bad)), none(), "{bad}");
    }
}

#[test]
fn files_are_short() {
    assert_tree_keeps(long_file);
    let lines = |n| snippet("src/x.rs", &"x\n".repeat(n));
    assert_eq!(long_file(&lines(FILE_LINES_MAX)), none());
    assert_eq!(long_file(&lines(FILE_LINES_MAX + 1)).len(), 1);
}

#[test]
fn functions_are_short() {
    assert_tree_keeps(long_functions);
    let function =
        |n| format!("fn f(a: [u8; 2], g: fn(u8)) -> [u8; 2]\n{{{}}}\n", "\n".repeat(n - 2));
    let short = function(FUNCTION_LINES_MAX);
    let long = function(FUNCTION_LINES_MAX + 1);
    assert_eq!(long_functions(&snippet("src/x.rs", &short)), none());
    assert_eq!(long_functions(&snippet("src/x.rs", &short.repeat(3))), none());
    assert_eq!(long_functions(&snippet("src/x.rs", &long)).len(), 1);
    let inside = format!("trait T {{ fn g(); }}\nmod m {{ const B: char = '{{'; {long} }}");
    assert_eq!(long_functions(&snippet("src/x.rs", &inside)).len(), 1);
    let braces = long.replacen('{', "{ let s = \"}\"; // }\n", 1);
    assert_eq!(long_functions(&snippet("src/x.rs", &braces)).len(), 1);
}

#[test]
fn no_path_of_a_machine() {
    assert_tree_keeps(machine_paths);
    let fine = "https://example.com/home/x, x/root/y, /rooted, /homely";
    assert_eq!(machine_paths(&snippet("README.md", fine)), none());
    for dir in MACHINE_DIRS {
        let bad = format!("see `{dir}/x`");
        assert_eq!(machine_paths(&snippet("README.md", &bad)).len(), 1, "{bad}");
    }
}

#[test]
fn unsafe_is_where_it_may_be() {
    assert_tree_keeps(stray_unsafe);
    let fine = "// unsafe\n#![deny(unsafe_op_in_unsafe_fn)] const S: &str = \"unsafe\";";
    assert_eq!(stray_unsafe(&snippet("src/x.rs", fine)), none());
    assert_eq!(stray_unsafe(&snippet("src/x.rs", "fn f() { unsafe { g() } }")).len(), 1);
    for path in UNSAFE_ALLOWED {
        if !checkout().join(path).exists() {
            continue;
        }
        let source = Source::read(&checkout(), path);
        assert!(source.words().any(|w| w.text == "unsafe"), "{path} needs no leave any more");
    }
}

#[test]
fn nothing_is_left_for_later() {
    assert_tree_keeps(unfinished);
    let fine = "// a todo list, XXXL\nfn f() { todo_list(); let ignore = 1; }";
    assert_eq!(unfinished(&snippet("src/x.rs", fine)), none());
    for bad in [
        concat!("// TO", "DO: more"),
        concat!("/* FIX", "ME */"),
        concat!("// XX", "X"),
        "fn f() { todo!() }",
        "fn f() { unimplemented!(\"x\") }",
        "#[ignore] fn f() {}",
        "#[ignore = \"slow\"] fn f() {}",
    ] {
        assert_eq!(unfinished(&snippet("src/x.rs", bad)).len(), 1, "{bad}");
    }
}

#[test]
fn nothing_is_shared_and_borrowed_at_run_time() {
    assert_tree_keeps(shared_cells);
    assert_eq!(
        shared_cells(&snippet("src/x.rs", "// Rc<RefCell<T>>\ntype A = Rc<Cell<u8>>;")),
        none()
    );
    for bad in ["type A = Rc<RefCell<u8>>;", "type A = rc::Rc< cell::RefCell<u8> >;"] {
        assert_eq!(shared_cells(&snippet("src/x.rs", bad)).len(), 1, "{bad}");
    }
}

#[test]
fn the_hot_path_has_no_dyn() {
    assert_tree_keeps(dynamic_calls);
    let bad = "fn f(x: &dyn Fn()) {}";
    assert_eq!(dynamic_calls(&snippet("src/reactor/x.rs", bad)).len(), 1);
    assert_eq!(dynamic_calls(&snippet("src/routing/x.rs", bad)), none());
    assert_eq!(dynamic_calls(&snippet("src/reactor/x.rs", "// dyn\nfn dyn_free() {}")), none());
}

#[test]
fn code_is_told_from_text() {
    let text = "a /* b /* c */ d */ e // f\n'\"' g \"\\\" h\" i r#\"\" j\"# k b'x' l 'm n '\\'' o br\"p\\\" q";
    let words: Vec<_> = snippet("x.rs", text).words().map(|w| w.text.to_owned()).collect();
    assert_eq!(words, ["a", "e", "g", "i", "k", "l", "'m", "n", "o", "q"]);
}

// ---- the rules

fn impure(source: &Source) -> Vec<Finding> {
    if !source.is_rust_under(PURE_ROOMS) {
        return none();
    }
    let mut found = none();
    let mut importing = false;
    let mut last_line = 0;
    for word in source.words() {
        let after = source.code[word.end..].trim_start();
        importing = (importing || word.text == "use") && !source.ends_before(&word, ';');
        let in_path = after.starts_with("::") || source.code[..word.start].ends_with("::");
        let named = IMPURE.contains(&word.text) && (importing || in_path);
        let printed = PRINTING.contains(&word.text) && after.starts_with('!');
        if (named || printed) && word.line != last_line {
            last_line = word.line;
            found.push(source.finding(word.line, format!("`{}` in a pure room", word.text)));
        }
        importing &= !after.starts_with(';');
    }
    found
}

fn long_file(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().count();
    if !source.is_rust() || lines <= FILE_LINES_MAX {
        return none();
    }
    vec![source.finding(lines, format!("{lines} lines; the most is {FILE_LINES_MAX}"))]
}

fn long_functions(source: &Source) -> Vec<Finding> {
    if !source.is_rust() {
        return none();
    }
    let mut found = none();
    for keyword in source.words().filter(|w| w.text == "fn") {
        let Some(body) = body_after(&source.code[keyword.end..]) else { continue };
        let lines = source.code[keyword.start..keyword.end + body].lines().count();
        if lines > FUNCTION_LINES_MAX {
            let problem = format!("a function of {lines} lines; the most is {FUNCTION_LINES_MAX}");
            found.push(source.finding(keyword.line, problem));
        }
    }
    found
}

/// The offset behind the closing brace of the function whose `fn` stood before `code`; none for a
/// function pointer's type or a function without a body.
fn body_after(code: &str) -> Option<usize> {
    if !code.trim_start().starts_with(|c: char| c.is_alphabetic() || c == '_') {
        return None;
    }
    let mut nested = 0;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'(' | b'[' => nested += 1,
            b')' | b']' => nested -= 1,
            b';' if nested == 0 => return None,
            b'{' if nested == 0 => return block_end(&code[at..]).map(|length| at + length),
            _ => {}
        }
    }
    None
}

fn block_end(code: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// In pieces, so that this file keeps its own rule.
const MACHINE_DIRS: &[&str] =
    &[concat!("/", "work"), concat!("/", "root"), concat!("/", "home"), concat!("/tmp", "/wt")];

fn machine_paths(source: &Source) -> Vec<Finding> {
    let mut found = none();
    for (number, line) in source.text.lines().enumerate() {
        for dir in MACHINE_DIRS {
            let whole = |(at, _): (usize, &str)| {
                let before = line[..at].chars().next_back();
                let after = line[at + dir.len()..].chars().next();
                !before.is_some_and(|c| is_word(c) || "./-}*".contains(c))
                    && !after.is_some_and(|c| is_word(c) || c == '-')
            };
            if line.match_indices(dir).any(whole) {
                found.push(source.finding(number + 1, format!("`{dir}`, a path of one machine")));
            }
        }
    }
    found
}

fn stray_unsafe(source: &Source) -> Vec<Finding> {
    if UNSAFE_ALLOWED.contains(&source.path.as_str()) {
        return none();
    }
    let unsafe_words = source.words().filter(|w| w.text == "unsafe");
    unsafe_words.map(|w| source.finding(w.line, "`unsafe` outside the allowed files")).collect()
}

fn unfinished(source: &Source) -> Vec<Finding> {
    const MARKS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut found = none();
    for (number, line) in source.text.lines().enumerate() {
        for word in line.split(|c| !is_word(c)).filter(|word| MARKS.contains(word)) {
            found.push(source.finding(number + 1, format!("`{word}`")));
        }
    }
    for word in source.words() {
        let after = source.code[word.end..].trim_start();
        let macro_call = ["todo", "unimplemented"].contains(&word.text) && after.starts_with('!');
        let ignored = word.text == "ignore" && source.code[..word.start].trim_end().ends_with("#[");
        if macro_call || ignored {
            found.push(source.finding(word.line, format!("`{}`", word.text)));
        }
    }
    found
}

fn shared_cells(source: &Source) -> Vec<Finding> {
    let words: Vec<_> = source.words().collect();
    let mut found = none();
    for (n, rc) in words.iter().enumerate().filter(|(_, w)| w.text == "Rc") {
        let path =
            words[n + 1..].iter().take_while(|w| !w.text.starts_with(char::is_uppercase)).count();
        let Some(cell) = words.get(n + 1 + path).filter(|w| w.text == "RefCell") else { continue };
        let between = &source.code[rc.end..cell.start];
        if between.trim_start().starts_with('<') && !between.contains([',', '>', ';']) {
            found.push(source.finding(rc.line, "`Rc<RefCell`"));
        }
    }
    found
}

fn dynamic_calls(source: &Source) -> Vec<Finding> {
    if !source.is_rust_under(STATIC_ROOMS) {
        return none();
    }
    let words = source.words().filter(|w| w.text == "dyn");
    words.map(|w| source.finding(w.line, "`dyn` on the hot path")).collect()
}

// ---- what they read

/// Where, and what is wrong: `path:line: problem`.
type Finding = String;

fn none() -> Vec<Finding> {
    Vec::new()
}

struct Source {
    /// From the root of the checkout.
    path: String,
    text: String,
    /// `text`, byte for byte, with comments and literals blanked; empty where it is no Rust.
    code: String,
}

/// An identifier, keyword, number or lifetime.
struct Word<'a> {
    text: &'a str,
    start: usize,
    end: usize,
    line: usize,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { code_of(text) } else { String::new() };
        Self { path: path.to_owned(), text: text.to_owned(), code }
    }

    fn read(root: &Path, path: &str) -> Self {
        Self::new(path, &fs::read_to_string(root.join(path)).expect("readable"))
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn is_rust_under(&self, rooms: &[&str]) -> bool {
        self.is_rust() && rooms.iter().any(|room| self.path.starts_with(room))
    }

    fn finding(&self, line: usize, problem: impl std::fmt::Display) -> Finding {
        format!("{}:{line}: {problem}", self.path)
    }

    fn words(&self) -> impl Iterator<Item = Word<'_>> {
        let mut line = 1;
        let mut counted = 0;
        let mut from = 0;
        std::iter::from_fn(move || {
            let start = from + self.code[from..].find(|c| is_word(c) || c == '\'')?;
            let rest = &self.code[start..];
            let end = rest.char_indices().skip(1).find(|(_, c)| !is_word(*c));
            let end = start + end.map_or(rest.len(), |(at, _)| at);
            line += self.code[counted..start].matches('\n').count();
            (counted, from) = (start, end);
            Some(Word { text: &self.code[start..end], start, end, line })
        })
    }

    /// Whether `end` stands between the word before `word` and it.
    fn ends_before(&self, word: &Word<'_>, end: char) -> bool {
        self.code[..word.start].trim_end_matches(|c| !is_word(c) && c != end).ends_with(end)
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn snippet(path: &str, text: &str) -> Source {
    Source::new(path, text)
}

fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let inside_word = code.chars().next_back().is_some_and(is_word);
        let literal = literal_length(rest, inside_word);
        let taken = literal.unwrap_or(first.len_utf8());
        match literal {
            Some(_) => {
                code.extend(rest[..taken].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }))
            }
            None => code.push(first),
        }
        rest = &rest[taken..];
    }
    code
}

/// The length of the comment or literal that `rest` begins with, if it does.
fn literal_length(rest: &str, inside_word: bool) -> Option<usize> {
    let up_to = |end: Option<usize>| Some(end.unwrap_or(rest.len()));
    if rest.starts_with("//") {
        return up_to(rest.find('\n'));
    }
    if rest.starts_with("/*") {
        return up_to(block_comment_length(rest));
    }
    let prefix =
        if inside_word { 0 } else { rest.len() - rest.trim_start_matches(['b', 'c', 'r']).len() };
    let body = &rest[prefix..];
    let hashes = body.len() - body.trim_start_matches('#').len();
    if rest[..prefix].ends_with('r') && body[hashes..].starts_with('"') {
        let end = format!("\"{}", "#".repeat(hashes));
        let inside = prefix + hashes + 1;
        return up_to(rest[inside..].find(&end).map(|at| inside + at + end.len()));
    }
    if body.starts_with('"') {
        return up_to(quoted_length(body, '"').map(|length| prefix + length));
    }
    // A quote with one character, or an escape, before the next: else it is a lifetime.
    let mut chars = body.strip_prefix('\'')?.chars();
    let (one, two) = (chars.next()?, chars.next()?);
    let is_char = one == '\\' || two == '\'';
    is_char.then(|| quoted_length(body, '\'')).flatten().map(|length| prefix + length)
}

fn block_comment_length(rest: &str) -> Option<usize> {
    let mut depth = 0;
    let mut at = 0;
    loop {
        let tail = rest.get(at..)?;
        let step = tail.find(['/', '*'])?;
        let tail = &tail[step..];
        (depth, at) = match () {
            () if tail.starts_with("/*") => (depth + 1, at + step + 2),
            () if tail.starts_with("*/") => (depth - 1, at + step + 2),
            () => (depth, at + step + 1),
        };
        if depth == 0 {
            return Some(at);
        }
    }
}

fn quoted_length(body: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return Some(at + c.len_utf8()),
            _ => {}
        }
    }
    None
}

fn assert_tree_keeps(rule: fn(&Source) -> Vec<Finding>) {
    let root = checkout();
    let mut paths = Vec::new();
    collect(&root, Path::new(""), &mut paths);
    assert!(paths.iter().any(|path| path == "tests/style.rs"), "the tree was not found");
    let found: Vec<_> = paths.iter().flat_map(|path| rule(&Source::read(&root, path))).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Adds the files of text under `dir`, but for what is built, installed or found by fuzzing.
fn collect(root: &Path, dir: &Path, paths: &mut Vec<String>) {
    const SKIPPED: &[&str] =
        &["target", ".git", ".cache", ".conformance", "node_modules", "corpus", "artifacts"];
    const KINDS: &[&str] =
        &["rs", "toml", "md", "sh", "py", "mjs", "js", "html", "css", "yml", "json", "run"];
    for entry in fs::read_dir(root.join(dir)).expect("a directory of the checkout") {
        let entry = entry.expect("readable");
        let name = entry.file_name().into_string().expect("names are UTF-8");
        let path = dir.join(&name);
        let kind = name.rsplit('.').next().unwrap_or_default();
        if entry.file_type().expect("a type").is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                collect(root, &path, paths);
            }
        } else if KINDS.contains(&kind) {
            paths.push(path.into_os_string().into_string().expect("names are UTF-8"));
        }
    }
}

fn checkout() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
