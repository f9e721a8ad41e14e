//! `[endpoint.login]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::definitions::Table;
use super::super::endpoints::Words as _;
use super::super::{
    DialectName, EndpointConfig, LoginConfig, SecretSource, format_duration, parse_duration,
};
use super::reader::{Item, Reader, Section};
use super::syntax::{check_name, check_pattern};
use crate::limits;
use crate::routing::{LoginRule, login_keys};

/// Reads how connections of an endpoint log in, once the rest of the endpoint is read.
pub(super) fn read(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    endpoint: &EndpointConfig,
    knows_dialect: bool,
) -> Option<LoginConfig> {
    let value = section.entries.get(Table::Login.name())?;
    let login = reader.sections(Table::Login, &section.path, value).pop()?;
    if knows_dialect && endpoint.speaks(DialectName::Raw) {
        let what = "in the dialect raw no message is a login";
        let place = reader.place_of_section(&login);
        reader.fail(place, what, "leave it out, or leave out raw");
    }
    let route = read_route(reader, &login, endpoint);
    let secret = read_secret(reader, &login);
    let has_secret = login.has("secret_file") || login.has("secret_env");
    if knows_dialect && !has_secret && !logs_in_by_itself(endpoint, route.as_deref()) {
        let what = "nothing says what tokens are signed under";
        let place = reader.place_of_section(&login);
        reader.fail(place, what, "set `secret_file` or `secret_env`");
    }
    let wait = reader.read(&login, "wait", |text| within(text, &limits::TIMEOUT));
    let up_to_a_year = Duration::ZERO..=*limits::TIMEOUT.end();
    let leeway = reader.read(&login, "leeway", |text| within(text, &up_to_a_year));
    Some(LoginConfig {
        wait: wait.unwrap_or(LoginRule::WAIT),
        route,
        secret,
        issuer: reader.item(&login, "issuer").map(|item| item.text),
        leeway: leeway.unwrap_or_default(),
    })
}

fn within(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    let text = |time: &Duration| format_duration(*time);
    let expected = || format!("{} to {}", text(range.start()), text(range.end()));
    range.contains(&time).then_some(time).ok_or_else(expected)
}

fn read_route(
    reader: &mut Reader<'_>,
    login: &Section<'_>,
    endpoint: &EndpointConfig,
) -> Option<String> {
    let is_number = |text: &str| text.parse::<u32>().is_ok_and(|n| n.to_string() == text);
    reader.read(login, "route", |text| match check_pattern(text) {
        Ok(key) if key.ends_with('*') => Err("one key, not many".to_owned()),
        Ok(key) if endpoint.speaks(DialectName::Hub) && !is_number(&key) => {
            Err("a number, for the endpoint speaks hub".to_owned())
        }
        key => key,
    })
}

fn read_secret(reader: &mut Reader<'_>, login: &Section<'_>) -> Option<SecretSource> {
    let file = reader.item(login, "secret_file");
    let variable = reader.item(login, "secret_env");
    if let (Some(_), Some(Item { place, .. })) = (&file, &variable) {
        let what = "the secret is in `secret_file` already";
        reader.fail(place.clone(), what, "leave one of them out");
    }
    let not_empty = |text: &str| match text {
        "" => Err("the name of a file".to_owned()),
        name => Ok(name.into()),
    };
    match (file, variable) {
        (Some(file), _) => reader.accept(&file, not_empty).map(SecretSource::File),
        (None, Some(name)) => reader.accept(&name, check_name).map(SecretSource::Variable),
        (None, None) => None,
    }
}

/// Whether the endpoint has a route of its own for each message that logs in, with a handler that
/// does it otherwise than by a token.
fn logs_in_by_itself(endpoint: &EndpointConfig, route: Option<&str>) -> bool {
    let routes = || endpoint.routes.iter().filter(|route| route.handler != "login");
    let has = |key: &str| routes().any(|route| route.key == key);
    let mut dialects = [endpoint.dialect].into_iter().chain(endpoint.also.iter().copied());
    dialects.all(|dialect| has(route.unwrap_or(login_keys(dialect.word())[0])))
}
