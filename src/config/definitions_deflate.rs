//! Settings of permessage-deflate.

use super::definitions::Definition;
use super::definitions::Kind::{Count, Size, Word};
use super::definitions::Table::Deflate;

pub(super) const MODES: &str = "off, shared or dedicated";
const WINDOW: &str = "9 to 15";

pub(super) static DEFLATE: &[Definition] = &[
    Definition::new(
        Deflate,
        Word,
        "deflate",
        (MODES, "shared"),
        "Whether messages of clients that offer permessage-deflate are compressed, and with what",
    )
    .detail(
        "shared: what compresses is its loop's, no message refers to an earlier one, and an idle \
         connection costs no memory for it. dedicated: messages refer to earlier ones as far as the \
         client lets them (context takeover), which costs a connection that speaks up to 32 KiB, and \
         one that is answered with long messages some 300 KiB more.",
    ),
    Definition::new(
        Deflate,
        Count,
        "deflate_level",
        ("1, the fastest, to 9", "1"),
        "How much work goes into compressing",
    ),
    Definition::new(
        Deflate,
        Size,
        "deflate_threshold",
        ("0B to 1GiB", "256B"),
        "Shorter messages are sent as they are",
    ),
    Definition::new(
        Deflate,
        Count,
        "deflate_server_window_bits",
        (WINDOW, "15"),
        "How far back what is sent refers at most, as a power of two of bytes",
    ),
    Definition::new(
        Deflate,
        Count,
        "deflate_client_window_bits",
        (WINDOW, "15"),
        "How far back what clients send may refer, as a power of two of bytes",
    )
    .detail("Only clients that offer client_max_window_bits can be asked for less than 15."),
];
