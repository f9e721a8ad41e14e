//! Paths with parameters: `/room/{name}`.

use crate::routing::{PathPattern, Template};

/// A path in which parameters have no names: two of one shape stand for the same requests.
pub(crate) fn shape(path: &str) -> String {
    let plain = |segment: &str| if segment.starts_with('{') { "{}" } else { segment }.to_owned();
    path.split('/').map(plain).collect::<Vec<_>>().join("/")
}

/// A path of an endpoint: `/ws`, `/room/{name}`.
pub(crate) fn check_path(path: &str) -> Result<(), String> {
    PathPattern::parse(path).map(drop).map_err(|e| e.expected)
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
    let path = PathPattern::parse(path).map_err(|e| e.expected)?;
    Template::parse(template).and_then(|t| t.check(&path)).map_err(|e| e.expected)
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
}
