//! Sizes, times and counts: what is read, what is refused, and that what is written is read back.

use std::time::Duration;

use proptest::prelude::*;
use tidegate::config::{format_bytes, format_duration, parse_bytes, parse_count, parse_duration};

#[test]
fn sizes_are_read_with_and_without_units() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("7B", 7),
        ("64KiB", 64 << 10),
        ("512K", 512 << 10),
        ("512k", 512 << 10),
        ("1MiB", 1 << 20),
        ("1 mib", 1 << 20),
        ("3G", 3 << 30),
        ("2TiB", 2 << 40),
        ("10MB", 10_000_000),
        ("1kb", 1000),
        (" 1_000 ", 1000),
    ] {
        assert_eq!(parse_bytes(text), Ok(bytes), "{text:?}");
    }
}

#[test]
fn what_is_no_size_is_refused_with_what_was_expected() {
    for text in ["", "KiB", "-1", "1.5MiB", "1XB", "1 K iB", "_1", "1_", "0x10", "٣"] {
        let expected = parse_bytes(text).expect_err(text);
        assert!(expected.contains("64KiB"), "{text:?}: {expected}");
    }
    assert!(parse_bytes("16777216TiB").expect_err("2^64").contains("64 bits"));
    assert!(parse_bytes("18446744073709551616").is_err());
}

#[test]
fn times_are_read_and_a_plain_number_is_seconds() {
    for (text, millis) in [
        ("250ms", 250),
        ("10s", 10_000),
        ("10", 10_000),
        ("5m", 300_000),
        ("5M", 300_000),
        ("2h", 7_200_000),
        ("1d", 86_400_000),
        ("0", 0),
    ] {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text:?}");
    }
}

#[test]
fn what_is_no_time_is_refused_with_what_was_expected() {
    for text in ["", "off", "10 seconds", "1.5s", "s", "-1s", "5min", "1m30s"] {
        let expected = parse_duration(text).expect_err(text);
        assert!(expected.contains("250ms"), "{text:?}: {expected}");
    }
    assert!(parse_duration("18446744073709551615d").expect_err("overflow").contains("64 bits"));
}

#[test]
fn counts_may_group_their_digits_but_have_no_unit() {
    assert_eq!(parse_count("1_000_000"), Ok(1_000_000));
    assert_eq!(parse_count("20"), Ok(20));
    for text in ["", "1M", "1e6", "-3", "1,000"] {
        assert!(parse_count(text).is_err(), "{text:?}");
    }
}

proptest! {
    #[test]
    fn a_written_size_is_read_back(bytes: u64) {
        prop_assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes));
    }

    #[test]
    fn a_written_round_size_is_short_and_read_back(number in 1_u64..1024, step in 0_u32..5) {
        let bytes = number << (10 * step);
        let text = format_bytes(bytes);
        prop_assert!(text.len() <= 7, "{}", text);
        prop_assert_eq!(parse_bytes(&text), Ok(bytes));
    }

    #[test]
    fn a_written_time_is_read_back(millis in 0_u64..=u64::MAX) {
        let time = Duration::from_millis(millis);
        prop_assert_eq!(parse_duration(&format_duration(time)), Ok(time));
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in "\\PC{0,24}|[0-9_]{0,22}[a-zA-Z ]{0,4}") {
        let _ = (parse_bytes(&text), parse_duration(&text), parse_count(&text));
    }
}
