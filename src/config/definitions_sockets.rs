//! Settings of the sockets that clients connect to.

use super::definitions::{Definition, Kind, Table};

use Kind::{Count, Size, Switch, Text, Time};
use Table::Sockets;

const BUFFERS: &str = "4KiB to 1GiB, 0 or off: as the kernel sees fit";

/// Settings of sockets, all of them with flags.
pub(super) static SOCKETS: &[Definition] = &[
    Definition::new(
        Sockets,
        Text,
        "unix_mode",
        ("octal, 0 to 0777", "what the umask leaves"),
        "Permissions of the files of Unix-domain sockets, such as 0660",
    )
    .detail("Whoever may write to the file may connect."),
    Definition::new(
        Sockets,
        Switch,
        "ipv6_only",
        ("true or false", "false"),
        "Whether [::]:PORT takes IPv6 clients alone",
    )
    .detail(
        "Otherwise it takes IPv4 clients too, whatever net.ipv6.bindv6only says, and 0.0.0.0:PORT \
         can't be listened on beside it.",
    ),
    Definition::new(
        Sockets,
        Time,
        "tcp_keepalive",
        ("1s to 9h, 0 or off: never", "off"),
        "Probe a TCP connection after so long without a segment from the client",
    )
    .detail(
        "In whole seconds, rounded up. The kernel does it, and pings (--ping-interval) find out more: \
         they ask the client and not only its kernel.",
    ),
    Definition::new(
        Sockets,
        Time,
        "tcp_keepalive_interval",
        ("1s to 9h", "the kernel's own: 75s"),
        "From one unanswered probe of --tcp-keepalive to the next",
    ),
    Definition::new(
        Sockets,
        Count,
        "tcp_keepalive_count",
        ("1 to 127", "the kernel's own: 9"),
        "Unanswered probes of --tcp-keepalive after which a connection is dead",
    ),
    Definition::new(
        Sockets,
        Time,
        "tcp_user_timeout",
        ("1ms to 24d, 0 or off: as the kernel sees fit", "off"),
        "A TCP connection is dead once what was sent stays unacknowledged for so long",
    )
    .detail("Otherwise that takes the kernel about a quarter of an hour (net.ipv4.tcp_retries2)."),
    Definition::new(
        Sockets,
        Size,
        "socket_receive_buffer",
        (BUFFERS, "off"),
        "Most that the kernel buffers of what a TCP client has sent",
    )
    .detail(
        "The kernel doubles it for its own records, cuts it to net.core.rmem_max, and adjusts it no \
         more.",
    ),
    Definition::new(
        Sockets,
        Size,
        "socket_send_buffer",
        (BUFFERS, "off"),
        "Most that the kernel buffers of what is sent to a TCP client",
    )
    .detail(
        "The kernel doubles it for its own records, cuts it to net.core.wmem_max, and adjusts it no \
         more.",
    ),
];
