//! `[[room]]`.

use super::super::units::parse_count;
use super::super::{RoomConfig, format_duration, parse_duration};
use super::endpoints::read_outbound;
use super::reader::{Reader, Section, Seen};
use super::syntax::{check_name, check_pattern};
use crate::limits::{CONNECTIONS_PER_LOOP_MAX, LOOPS_MAX, ROOM_CLOCK};

/// Reads the rules of a pattern; `None` if they are not known to be of any.
pub(super) fn read(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    seen: &mut Seen,
) -> Option<RoomConfig> {
    let pattern = reader.required(section, "pattern").and_then(|item| {
        let pattern = reader.accept(&item, check_pattern)?;
        seen.refuse_second(reader, &item, pattern.clone(), "another room has this pattern");
        Some(pattern)
    });
    let join = reader.read(section, "join", check_name);
    let publish = reader.read(section, "publish", check_name);
    let max_members = reader.read(section, "max_members", |text| {
        let most = LOOPS_MAX * CONNECTIONS_PER_LOOP_MAX;
        let members = usize::try_from(parse_count(text)?).unwrap_or(usize::MAX);
        let fits = (1..=most).contains(&members);
        fits.then_some(members).ok_or_else(|| format!("1 to {most}"))
    });
    let events = reader.item(section, "events").is_some_and(|item| item.text == "true");
    let clock = reader.read(section, "clock", |text| {
        let interval = parse_duration(text)?;
        let (least, most) = ROOM_CLOCK.into_inner();
        let range = || format!("{} to {}", format_duration(least), format_duration(most));
        ROOM_CLOCK.contains(&interval).then_some(interval).ok_or_else(range)
    });
    let outbound = read_outbound(reader, section);
    Some(RoomConfig { pattern: pattern?, join, publish, max_members, events, clock, outbound })
}
