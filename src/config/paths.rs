//! Paths with parameters: `/room/{name}`.

use crate::limits;

/// The names of a path's parameters, in their order.
pub(crate) fn parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

/// Whether a path of a request is one that `pattern` stands for.
pub(crate) fn matches_path(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut segments) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), segments.next()) {
            (None, None) => return true,
            (Some(pattern), Some(segment)) if fits(pattern, segment) => {}
            _ => return false,
        }
    }
}

/// A path in which parameters have no names: two of one shape stand for the same requests.
pub(crate) fn shape(path: &str) -> String {
    let plain = |segment: &str| {
        if is_parameter(segment) { "{}".to_owned() } else { segment.to_owned() }
    };
    path.split('/').map(plain).collect::<Vec<_>>().join("/")
}

fn fits(pattern: &str, segment: &str) -> bool {
    pattern == segment || (is_parameter(pattern) && !segment.is_empty())
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{') && segment.ends_with('}')
}

/// A path of an endpoint: `/ws`, `/room/{name}`.
pub(crate) fn check_path(path: &str) -> Result<(), String> {
    let expected = || Err("a path such as /ws or /room/{name}".to_owned());
    if !path.starts_with('/') || path.contains(['?', '#']) {
        return expected();
    }
    if !path.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("a path as it stands in a request: ASCII, and no spaces".to_owned());
    }
    let mut names: Vec<&str> = Vec::new();
    for segment in path[1..].split('/') {
        let Some(name) = segment.strip_prefix('{') else {
            if segment.contains(['{', '}']) {
                return Err("a parameter to be a whole segment, such as /room/{name}".to_owned());
            }
            continue;
        };
        let name = name.strip_suffix('}').unwrap_or_default();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err("letters, digits and _ between the braces of a parameter".to_owned());
        }
        if names.contains(&name) {
            return Err("each parameter to have a name of its own".to_owned());
        }
        names.push(name);
    }
    Ok(())
}

/// A path of a connection that has no parameters: `/kim`.
pub(crate) fn check_plain_path(path: &str) -> Result<(), String> {
    match check_path(path) {
        Ok(()) if path.contains('{') => Err("a path without parameters".to_owned()),
        other => other,
    }
}

/// A name of a room with the parameters of a path: `room/{name}`.
pub(crate) fn check_template(template: &str, path: &str) -> Result<(), String> {
    let given: Vec<_> = parameters(path).collect();
    if template.is_empty() || template.len() > limits::ROOM_NAME_MAX {
        return Err(format!("the name of a room, 1 to {} bytes", limits::ROOM_NAME_MAX));
    }
    let mut rest = template;
    while let Some((_, tail)) = rest.split_once('{') {
        let (name, tail) = tail.split_once('}').ok_or("a } after the {")?;
        if !given.contains(&name) {
            let names = given.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>();
            return Err(match names.len() {
                0 => format!("no parameter, for {path} has none"),
                _ => format!("a parameter of {path}: {}", names.join(", ")),
            });
        }
        rest = tail;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_parameters_as_whole_segments() {
        for path in ["/", "/ws", "/room/{name}", "/a/{b}/{c_1}/d", "/a/"] {
            assert_eq!(check_path(path), Ok(()), "{path}");
        }
        let wrong =
            ["", "ws", "/a?b", "/a#b", "/a b", "/ä", "/x{a}", "/{a}x", "/{}", "/{a-b}", "/{a"];
        for path in wrong.into_iter().chain(["/{a}/{a}", "/}"]) {
            assert!(check_path(path).is_err(), "{path}");
        }
        assert!(check_plain_path("/room/{name}").is_err());
    }

    #[test]
    fn templates_take_only_parameters_of_their_path() {
        assert_eq!(check_template("room/{name}/{n}", "/{n}/{name}"), Ok(()));
        assert_eq!(check_template("lobby", "/ws"), Ok(()));
        for (template, path) in
            [("room/{nme}", "/{name}"), ("{a}", "/ws"), ("{a", "/{a}"), ("", "/")]
        {
            assert!(check_template(template, path).is_err(), "{template} of {path}");
        }
    }

    #[test]
    fn a_parameter_stands_for_one_segment() {
        for (pattern, path, same) in [
            ("/kim", "/kim", true),
            ("/kim", "/kim/", false),
            ("/room/{name}", "/room/lobby", true),
            ("/room/{name}", "/room/", false),
            ("/room/{name}", "/room/a/b", false),
            ("/{a}/x", "/y/x", true),
        ] {
            assert_eq!(matches_path(pattern, path), same, "{pattern} {path}");
        }
        assert_eq!(shape("/a/{b}/{c}"), shape("/a/{x}/{y}"));
        assert_ne!(shape("/a/{b}"), shape("/{a}/b"));
        assert_eq!(parameters("/a/{b}/{c}").collect::<Vec<_>>(), ["b", "c"]);
    }
}
