//! Options of the sockets that clients connect to.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::parse::{fitting_count, parse_bool, parse_optional_bytes, parse_optional_duration};
use super::resolve::Draft;
use super::shown::Value;
use super::{Config, ListenAddr, Problem, format_bytes, format_duration};

/// Longest that TCP keep-alive can wait: the kernel keeps seconds in 15 bits.
const KEEPALIVE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(9 * 3600);
/// Most probes of TCP keep-alive, as the kernel has it.
const KEEPALIVE_COUNT: RangeInclusive<u32> = 1..=127;
/// The kernel keeps milliseconds in 31 bits.
const USER_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(24 * 24 * 3600);
const BUFFER_BYTES: RangeInclusive<usize> = 4096..=1 << 30;
const MODE_MAX: u32 = 0o777;

/// Options of the sockets that clients connect to, and of their connections. `None` leaves it to the
/// kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketConfig {
    /// Permissions of the files of Unix-domain sockets, 0 to 0o777; `None` is what the umask leaves.
    pub unix_mode: Option<u32>,
    /// Whether an IPv6 listener takes IPv6 clients alone (`IPV6_V6ONLY`).
    pub ipv6_only: bool,
    /// Silence after which TCP probes the client (`TCP_KEEPIDLE`), 1 s to 9 h, in whole seconds;
    /// `None` is never.
    pub tcp_keepalive: Option<Duration>,
    /// From one such probe to the next (`TCP_KEEPINTVL`), 1 s to 9 h, in whole seconds.
    pub tcp_keepalive_interval: Option<Duration>,
    /// Unanswered probes that end a connection (`TCP_KEEPCNT`), 1 to 127.
    pub tcp_keepalive_count: Option<u32>,
    /// How long what was sent may stay unacknowledged (`TCP_USER_TIMEOUT`), 1 ms to 24 d.
    pub tcp_user_timeout: Option<Duration>,
    /// `SO_RCVBUF` of TCP sockets, 4 KiB to 1 GiB.
    pub receive_buffer_bytes: Option<usize>,
    /// `SO_SNDBUF` of TCP sockets, 4 KiB to 1 GiB.
    pub send_buffer_bytes: Option<usize>,
}

impl Draft<'_> {
    pub(super) fn read_sockets(&mut self, config: &mut Config) {
        let sockets = &mut config.sockets;
        self.read("--unix-mode", &mut sockets.unix_mode, parse_mode);
        self.read("--ipv6-only", &mut sockets.ipv6_only, parse_bool);
        for (flag, time) in [
            ("--tcp-keepalive", &mut sockets.tcp_keepalive),
            ("--tcp-keepalive-interval", &mut sockets.tcp_keepalive_interval),
            ("--tcp-user-timeout", &mut sockets.tcp_user_timeout),
        ] {
            self.read(flag, time, parse_optional_duration);
        }
        let count = &mut sockets.tcp_keepalive_count;
        self.read("--tcp-keepalive-count", count, |text| fitting_count(text).map(Some));
        for (flag, bytes) in [
            ("--socket-receive-buffer", &mut sockets.receive_buffer_bytes),
            ("--socket-send-buffer", &mut sockets.send_buffer_bytes),
        ] {
            self.read(flag, bytes, parse_buffer);
        }
    }
}

impl Config {
    /// What of the sockets' options is out of range, or does not fit the rest.
    pub(super) fn socket_problems(&self) -> Vec<Problem> {
        let sockets = &self.sockets;
        let mut problems = Vec::new();
        let mut range = |flag, value: String, expected: String| {
            problems.push(Problem::new(
                flag,
                value,
                "out of range",
                format!("expected {expected}"),
            ));
        };
        if let Some(mode) = sockets.unix_mode.filter(|mode| *mode > MODE_MAX) {
            range("--unix-mode", octal(mode), "0 to 0777".to_owned());
        }
        for (flag, time, limits) in [
            ("--tcp-keepalive", sockets.tcp_keepalive, KEEPALIVE),
            ("--tcp-keepalive-interval", sockets.tcp_keepalive_interval, KEEPALIVE),
            ("--tcp-user-timeout", sockets.tcp_user_timeout, USER_TIMEOUT),
        ] {
            if let Some(time) = time.filter(|time| !limits.contains(time)) {
                let (least, most) = (format_duration(*limits.start()), limits.end());
                range(
                    flag,
                    format_duration(time),
                    format!("{least} to {}", format_duration(*most)),
                );
            }
        }
        if let Some(count) = sockets.tcp_keepalive_count.filter(|n| !KEEPALIVE_COUNT.contains(n)) {
            range("--tcp-keepalive-count", count.to_string(), "1 to 127".to_owned());
        }
        for (flag, bytes) in [
            ("--socket-receive-buffer", sockets.receive_buffer_bytes),
            ("--socket-send-buffer", sockets.send_buffer_bytes),
        ] {
            if let Some(bytes) = bytes.filter(|bytes| !BUFFER_BYTES.contains(bytes)) {
                range(flag, format_bytes(bytes as u64), "4KiB to 1GiB".to_owned());
            }
        }
        problems.extend(self.lone_keepalive_problem());
        problems.extend(self.two_families_problem());
        problems
    }

    fn lone_keepalive_problem(&self) -> Option<Problem> {
        let sockets = &self.sockets;
        if sockets.tcp_keepalive.is_some() {
            return None;
        }
        let interval = sockets.tcp_keepalive_interval.map(format_duration);
        let interval = interval.map(|value| ("--tcp-keepalive-interval", value));
        let count = sockets.tcp_keepalive_count.map(|n| ("--tcp-keepalive-count", n.to_string()));
        let (flag, value) = interval.or(count)?;
        let what = "says nothing without --tcp-keepalive";
        Some(Problem::new(flag, value, what, "give that too, or leave it out"))
    }

    /// An IPv6 listener that takes the port of an IPv4 one with it.
    fn two_families_problem(&self) -> Option<Problem> {
        if self.sockets.ipv6_only {
            return None;
        }
        let all = self.listen_flags();
        let all = || all.iter().flat_map(|(flag, all)| all.iter().map(move |at| (*flag, at)));
        let addrs = || all().filter_map(|(flag, at)| Some((flag, ListenAddr::ip(at)?)));
        let mut wide = addrs()
            .filter(|(_, addr)| addr.is_ipv6() && addr.ip().is_unspecified() && addr.port() != 0);
        wide.find_map(|(flag, wide)| {
            let (_, other) = addrs().find(|(_, a)| a.is_ipv4() && a.port() == wide.port())?;
            let what = format!("takes IPv4 clients too, and so the port of {other}");
            let fix = "give --ipv6-only true, or leave the other out";
            Some(Problem::new(flag, wide, what, fix))
        })
    }
}

/// The value in force of a setting of sockets, if `key` is one.
pub(super) fn shown(key: &str, sockets: &SocketConfig) -> Option<Value> {
    let text = |text: Option<String>| text.map_or(Value::Unset, Value::Text);
    let or_off = |text: Option<String>| Value::Text(text.unwrap_or_else(|| "off".to_owned()));
    let bytes = |bytes: Option<usize>| or_off(bytes.map(|bytes| format_bytes(bytes as u64)));
    Some(match key {
        "unix_mode" => text(sockets.unix_mode.map(octal)),
        "ipv6_only" => Value::Switch(sockets.ipv6_only),
        "tcp_keepalive" => or_off(sockets.tcp_keepalive.map(format_duration)),
        "tcp_keepalive_interval" => text(sockets.tcp_keepalive_interval.map(format_duration)),
        "tcp_keepalive_count" => {
            let count = sockets.tcp_keepalive_count;
            count.map_or(Value::Unset, |count| Value::Number(count.into()))
        }
        "tcp_user_timeout" => or_off(sockets.tcp_user_timeout.map(format_duration)),
        "socket_receive_buffer" => bytes(sockets.receive_buffer_bytes),
        "socket_send_buffer" => bytes(sockets.send_buffer_bytes),
        _ => return None,
    })
}

fn octal(mode: u32) -> String {
    format!("{mode:04o}")
}

fn parse_mode(text: &str) -> Result<Option<u32>, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u32::from_str_radix(digits, 8).map(Some).map_err(|_| "an octal number, such as 0660".to_owned())
}

fn parse_buffer(text: &str) -> Result<Option<usize>, String> {
    let bytes = parse_optional_bytes(text)?;
    bytes.map(|bytes| usize::try_from(bytes).map_err(|_| "a smaller size".to_owned())).transpose()
}
