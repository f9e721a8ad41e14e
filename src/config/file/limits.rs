//! What connections and routes may take: rates and maxima of endpoints and routes.

use std::ops::RangeInclusive;

use super::super::endpoints::Words as _;
use super::super::units::parse_count;
use super::super::{EndpointConfig, format_bytes, parse_bytes};
use super::reader::{Reader, Section};
use crate::limits;
use crate::quota::{Over, Rate};

/// Keys of a rate in a table, and how its numbers are read and written.
struct Keys {
    rate: &'static str,
    burst: &'static str,
    range: RangeInclusive<u64>,
    parse: fn(&str) -> Result<u64, String>,
    format: fn(u64) -> String,
}

const fn counted(rate: &'static str, burst: &'static str) -> Keys {
    Keys {
        rate,
        burst,
        range: limits::MESSAGES_PER_S,
        parse: parse_count,
        format: |n| n.to_string(),
    }
}

const BYTES: Keys = Keys {
    rate: "bytes_per_s",
    burst: "bytes_burst",
    range: limits::BYTES_PER_S,
    parse: parse_bytes,
    format: format_bytes,
};

/// Reads what an endpoint's connections may send, and how many it may have.
pub(super) fn read(reader: &mut Reader<'_>, section: &Section<'_>, endpoint: &mut EndpointConfig) {
    let limits = &mut endpoint.limits;
    limits.messages = read_rate(reader, section, &counted("messages_per_s", "messages_burst"));
    limits.bytes = read_rate(reader, section, &BYTES);
    limits.over = read_over(reader, section, &["messages_per_s", "bytes_per_s"]);
    endpoint.max_connections = reader.read(section, "max_connections", |text| {
        let most = limits::LOOPS_MAX * limits::CONNECTIONS_PER_LOOP_MAX;
        within(parse_count(text)?, 1, most as u64, &|n| n.to_string()).map(|n| n as usize)
    });
    let status = reader.read(section, "full_status", |text| {
        within(parse_count(text)?, 400, 599, &|n| n.to_string()).map(|status| status as u16)
    });
    endpoint.full_status = status.unwrap_or(503);
    refuse_alone(reader, section, "full_status", &["max_connections"]);
}

/// Reads what a route takes, and what happens over that.
pub(super) fn read_route(reader: &mut Reader<'_>, section: &Section<'_>) -> (Option<Rate>, Over) {
    let rate = read_rate(reader, section, &counted("rate_per_s", "burst"));
    (rate, read_over(reader, section, &["rate_per_s"]))
}

fn read_rate(reader: &mut Reader<'_>, section: &Section<'_>, keys: &Keys) -> Option<Rate> {
    let Keys { parse, format, .. } = *keys;
    let (least, most) = (*keys.range.start(), *keys.range.end());
    let rate = reader.read(section, keys.rate, |text| {
        within(parse(text)?, least, most, &format).map(Rate::per_s)
    });
    // Without a rate that can be read, nothing is known of how large a burst may be.
    let most = rate.map_or(u64::MAX, Rate::burst_max);
    let burst = reader.read(section, keys.burst, |text| within(parse(text)?, 1, most, &format));
    refuse_alone(reader, section, keys.burst, &[keys.rate]);
    let rate = rate?;
    Some(burst.map_or(rate, |burst| rate.burst(burst)))
}

fn read_over(reader: &mut Reader<'_>, section: &Section<'_>, rates: &[&'static str]) -> Over {
    let over = reader.word(section, "over_limit", Over::ALL);
    refuse_alone(reader, section, "over_limit", rates);
    over.unwrap_or_default()
}

/// Finds fault with a key that says nothing without one of others.
fn refuse_alone(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &str,
    others: &[&'static str],
) {
    if others.iter().any(|other| section.has(other)) {
        return;
    }
    if let Some(item) = reader.item(section, key) {
        let fix = format!("set `{}` too, or leave it out", others.join("` or `"));
        reader.fail(item.place, "says nothing without a limit", fix);
    }
}

fn within(
    value: u64,
    least: u64,
    most: u64,
    format: &dyn Fn(u64) -> String,
) -> Result<u64, String> {
    let fits = (least..=most).contains(&value);
    fits.then_some(value).ok_or_else(|| format!("{} to {}", format(least), format(most)))
}
