//! Texts → values, for flags and for files alike. An error is what was expected instead.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::definitions_deflate::MODES;
use super::definitions_file::{OVER, TCP_FRAMINGS};
use super::endpoints::Words;
use super::paths::check_plain_path;
use super::suggest::nearest;
use super::{
    FdTable, ListenAddr, OutputFormat, TcpListen, parse_bytes, parse_count, parse_duration,
};
use crate::protocol::TcpFraming;
use crate::protocol::deflate::DeflateMode;
use crate::quota::Over;

/// Whom connections of a `--tcp-listen` without a path are for.
const TCP_ENDPOINT: &str = "/kim";

pub(super) fn fitting_count<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let count = parse_count(text)?;
    T::try_from(count).map_err(|_| "a smaller number".to_owned())
}

pub(super) fn parse_some_count(text: &str) -> Result<Option<usize>, String> {
    fitting_count(text).map(Some)
}

pub(in crate::config) fn parse_optional_duration(text: &str) -> Result<Option<Duration>, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let time = parse_duration(text).map_err(|expected| format!("{expected}; 0 or off is never"))?;
    Ok((!time.is_zero()).then_some(time))
}

pub(super) fn parse_optional_bytes(text: &str) -> Result<Option<u64>, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let bytes =
        parse_bytes(text).map_err(|expected| format!("{expected}; 0 or off is no limit"))?;
    Ok((bytes > 0).then_some(bytes))
}

pub(super) fn parse_over(text: &str) -> Result<Over, String> {
    parse_word(text, OVER)
}

pub(super) fn parse_deflate_mode(text: &str) -> Result<DeflateMode, String> {
    parse_word(text, MODES)
}

/// One of the words of a type, which are listed in `all`.
fn parse_word<T: Words>(text: &str, all: &str) -> Result<T, String> {
    let words = || T::ALL.iter();
    let found = words().find(|(word, _)| word.eq_ignore_ascii_case(text));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let meant = nearest(text, words().map(|(word, _)| *word));
        let meant = meant.map_or(String::new(), |word| format!(": did you mean `{word}`?"));
        format!("{all}{meant}")
    })
}

pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("true or false".to_owned()),
    }
}

pub(super) fn parse_fd_table(text: &str) -> Result<Option<FdTable>, String> {
    match text.to_ascii_lowercase().as_str() {
        "auto" => Ok(None),
        "shared" => Ok(Some(FdTable::Shared)),
        "private" => Ok(Some(FdTable::Private)),
        _ => Err("auto, shared or private".to_owned()),
    }
}

pub(super) fn parse_log_format(text: &str) -> Result<OutputFormat, String> {
    match text.to_ascii_lowercase().as_str() {
        "text" => Ok(OutputFormat::Text),
        "json" => Ok(OutputFormat::Json),
        _ => Err("text or json".to_owned()),
    }
}

/// A file to write: it need not be there, but its directory must, or the first statistics would be
/// lost when they are asked for.
pub(super) fn parse_client_auth(text: &str) -> Result<bool, String> {
    match text {
        "required" => Ok(false),
        "optional" => Ok(true),
        _ => Err("required or optional".to_owned()),
    }
}

pub(super) fn parse_file(text: &str) -> Result<Option<PathBuf>, String> {
    let file = PathBuf::from(text);
    let directory = file.parent().filter(|parent| *parent != Path::new(""));
    match directory {
        Some(directory) if !directory.is_dir() => {
            Err("a file in a directory that exists".to_owned())
        }
        _ if text.is_empty() => Err("the name of a file".to_owned()),
        _ => Ok(Some(file)),
    }
}

pub(super) fn parse_address(text: &str) -> Result<ListenAddr, String> {
    text.parse()
}

/// An address, and what stands behind the `=` that follows it. Names of files may have that in them.
pub(super) fn split_endpoint(text: &str) -> (&str, Option<&str>) {
    let at = if text.starts_with("unix:") {
        let is_endpoint = |at: &usize| split_framing(&text[at + 1..]).1.starts_with('/');
        text.rmatch_indices('=').map(|(at, _)| at).find(is_endpoint)
    } else {
        text.find('=')
    };
    at.map_or((text, None), |at| (&text[..at], Some(&text[at + 1..])))
}

/// The framing before the path of an endpoint. Paths begin with a slash, so what stands before a colon
/// is none.
fn split_framing(endpoint: &str) -> (Option<&str>, &str) {
    match endpoint.split_once(':') {
        Some((word, path)) if !word.contains('/') => (Some(word), path),
        _ => (None, endpoint),
    }
}

pub(super) fn parse_tcp_listen(text: &str) -> Result<TcpListen, String> {
    let (address, endpoint) = split_endpoint(text);
    let (word, endpoint) = split_framing(endpoint.unwrap_or(TCP_ENDPOINT));
    let framing = word.map(parse_tcp_framing).transpose()?;
    check_plain_path(endpoint)?;
    Ok(TcpListen { address: parse_address(address)?, endpoint: endpoint.to_owned(), framing })
}

pub(super) fn parse_tcp_framing(text: &str) -> Result<TcpFraming, String> {
    let mut all = TcpFraming::ALL.into_iter();
    let found = all.find(|(word, _)| word.eq_ignore_ascii_case(text));
    found.map(|(_, framing)| framing).ok_or_else(|| TCP_FRAMINGS.to_owned())
}
