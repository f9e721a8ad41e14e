//! The settings of proxies in front of the gateway.

use super::definitions::{Definition, Kind, Table};

use Kind::{Texts, Word};
use Table::Proxy;

pub(super) const PROTOCOLS: &str = "off, accept or require";
pub(super) const HEADERS: &str = "off, x-forwarded-for or forwarded";
pub(super) const FROM_ELSEWHERE: &str = "refuse or ignore";

pub(super) static PROXY: &[Definition] = &[
    Definition::new(
        Proxy,
        Word,
        "proxy_protocol",
        (PROTOCOLS, "off"),
        "Whether a PROXY header stands in front of what comes in, at listeners that do not say",
    )
    .detail(
        "Versions 1 and 2, in front of TLS too, from --trusted-proxies alone. `accept`: there may be \
         one; `require`: without one the connection is closed. The address in it is the client's from \
         there on.",
    ),
    Definition::new(
        Proxy,
        Texts,
        "trusted_proxies",
        ("networks such as 10.0.0.0/8, addresses, or unix", "none"),
        "Where proxies are whose word on clients' addresses is taken, repeatable",
    )
    .detail(
        "Several stand apart by commas. `unix`: at the other end of listeners that are Unix-domain \
         sockets.",
    ),
    Definition::new(
        Proxy,
        Word,
        "untrusted_proxies",
        (FROM_ELSEWHERE, "refuse"),
        "What becomes of connections from elsewhere where a PROXY header is required",
    )
    .detail(
        "`refuse`: they are closed. `ignore`: they are clients like others, and a PROXY header of \
         theirs is a bad request. With `accept` they always are.",
    ),
    Definition::new(
        Proxy,
        Word,
        "forwarded_headers",
        (HEADERS, "off"),
        "The header that the trusted proxies add the client's address to",
    )
    .detail(
        "Its list is read from the end, past trusted proxies; the first address that is not trusted is \
         the client's. The other header is never looked at: proxies that set one pass the other on as \
         clients made it up.",
    ),
    Definition::new(
        Proxy,
        Word,
        "untrusted_forwarded",
        (FROM_ELSEWHERE, "ignore"),
        "What becomes of requests from elsewhere that have that header",
    )
    .detail("`refuse`: they are answered with 403."),
];
