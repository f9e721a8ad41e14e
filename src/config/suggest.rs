//! What somebody meant who wrote something else.

/// The candidate that `word` is most likely a slip of, if any is near enough: up to one slip in
/// three letters, where a slip is a letter too many, too few, wrong, or swapped with the next.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let word = plain(word);
    let near = |candidate: &'a str| {
        let slips = strsim::osa_distance(&word, &plain(candidate));
        let most = (candidate.chars().count() / 3).max(1);
        (slips <= most).then_some((slips, candidate))
    };
    let found = candidates.into_iter().filter_map(near).min_by_key(|(slips, _)| *slips);
    Some(found?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_or_two_are_understood_and_other_words_are_not() {
        let keys = ["handshake_timeout", "idle_timeout", "max_message", "join", "id"];
        for (word, meant) in [
            ("handshake_timout", Some("handshake_timeout")),
            ("hand-shake-timeout", Some("handshake_timeout")),
            ("max-message", Some("max_message")),
            ("MAX_MESAGE", Some("max_message")),
            ("jion", Some("join")),
            ("di", Some("id")),
            ("leave", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys), meant, "{word}");
        }
        assert_eq!(
            nearest("idle_timeouts", ["idle_timeout_", "idle_timeouts"]),
            Some("idle_timeouts")
        );
    }
}
