//! The settings that only a file has: listeners, endpoints, routes and rooms.

use super::definitions::{Definition, Kind, LISTEN, REQUIRED, Table};
use super::definitions_proxy::PROTOCOLS;

use Kind::{Address, Count, File, Size, Switch, Text, Texts, Time, Word};
use Table::{Endpoint, Json, Listener, Login, Room, Route};

/// A member's name in a JSON message.
const NAME: &str = "a member's name";

const POLICIES: &str = "close, drop-oldest or keep-latest";
const BUDGET: &str = "1B to 16GiB";
const OVER_BUDGET: &str = "Over it, the policy is followed: the connection is closed, or the oldest \
     are dropped down to three quarters of it. One publish alone always fits.";
pub(super) const TCP_FRAMINGS: &str = "opcode or u32";
pub(super) const OVER: &str = "delay, reject or close";
const OVER_SUMMARY: &str = "What happens over that";

const fn name(key: &'static str, default: &'static str, summary: &'static str) -> Definition {
    Definition::new(Json, Text, key, (NAME, default), summary)
}

pub(super) static FILE_ONLY: &[Definition] = &[
    Definition::new(
        Listener,
        Address,
        "address",
        (LISTEN, REQUIRED),
        "What to listen on",
    )
    .detail("Port 0 takes a free one; `unix:@NAME` is a Unix-domain socket without a file."),
    Definition::new(
        Listener,
        Word,
        "transport",
        ("websocket or tcp", "websocket"),
        "What comes in at it",
    )
    .detail("`tcp`: frames without a handshake."),
    Definition::new(
        Listener,
        Switch,
        "tls",
        ("true or false", "false"),
        "Whether it is over TLS, with the certificates of [tls]",
    ),
    Definition::new(
        Listener,
        Word,
        "proxy_protocol",
        (PROTOCOLS, "that of [proxy]"),
        "Whether a PROXY header stands in front of what comes in at it",
    ),
    Definition::new(
        Listener,
        Text,
        "endpoint",
        ("the path of an endpoint", "none"),
        "Whom connections over `tcp` are for, which is required there",
    ),
    Definition::new(
        Listener,
        Word,
        "framing",
        (TCP_FRAMINGS, "u32 for the dialects json and hub, else opcode"),
        "What frames over `tcp` look like",
    )
    .detail(
        "`opcode`: an opcode as in a WebSocket (one byte), the length (four bytes, big-endian) and \
         the payload. `u32`: the length and the payload; messages are text in the dialects json, mef, \
         action and event, else binary, there are no pings, and the end of the stream is the Close.",
    ),
    Definition::new(
        Endpoint,
        Text,
        "path",
        ("a path, such as /ws or /room/{name}", REQUIRED),
        "Path of the URL, without the query",
    )
    .detail("A segment in braces is a parameter: it stands for any one segment."),
    Definition::new(
        Endpoint,
        Word,
        "dialect",
        ("raw, json, mef, action, event, kim or hub", REQUIRED),
        "How its clients speak",
    ),
    Definition::new(
        Endpoint,
        Texts,
        "also",
        ("names of dialects", "[]"),
        "More dialects on the same path",
    )
    .detail(
        "A client chooses by asking for the dialect's name as Sec-WebSocket-Protocol; without that, \
         the first bytes of its first message tell kim and hub apart from the others.",
    ),
    Definition::new(
        Endpoint,
        Texts,
        "subprotocols",
        ("tokens (RFC 9110, 5.6.2)", "[]"),
        "Subprotocols that it has",
    )
    .detail("The first that a client asks for and the endpoint has is answered."),
    Definition::new(
        Endpoint,
        Texts,
        "origins",
        ("same-host, *, https://example.com or https://*.example.com", "[\"same-host\"]"),
        "Pages that browsers may connect from, by the Origin header",
    )
    .detail(
        "`same-host`: pages of the host that is connected to. `*`: all. Clients that send no Origin \
         are no browsers and are let in.",
    ),
    Definition::new(
        Endpoint,
        Word,
        "overflow",
        (POLICIES, "close"),
        "What happens when a connection is owed more than its outbound limit",
    )
    .detail(
        "`close`: it is closed as too slow. `drop-oldest`: its oldest publishes are dropped. \
         `keep-latest`: of each room's publishes with one key only the latest is kept. Answers are \
         never dropped. Rooms and routes may have policies of their own.",
    ),
    Definition::new(
        Endpoint,
        Size,
        "max_message",
        ("1B to 1GiB, at most that of [limits]", "that of [limits]"),
        "Longest message, all its frames together",
    ),
    Definition::new(
        Endpoint,
        Size,
        "outbound_limit",
        ("4KiB to 16GiB, at most that of [limits]", "that of [limits]"),
        "What one connection may be owed",
    ),
    Definition::new(
        Endpoint,
        Count,
        "messages_per_s",
        ("1 to 1000000", "no limit"),
        "Messages that one connection may send in a second",
    ),
    Definition::new(
        Endpoint,
        Count,
        "messages_burst",
        ("1 or more, at most 60s of messages_per_s", "messages_per_s"),
        "Messages that it may send at once",
    ),
    Definition::new(
        Endpoint,
        Size,
        "bytes_per_s",
        ("64B to 1TiB", "no limit"),
        "Bytes that one connection may send in a second",
    )
    .detail("All that comes in behind the request counts: payloads, frame headers, pings."),
    Definition::new(
        Endpoint,
        Size,
        "bytes_burst",
        ("1B or more, at most 60s of bytes_per_s", "bytes_per_s"),
        "Bytes that it may send at once",
    ),
    Definition::new(Endpoint, Word, "over_limit", (OVER, "delay where there is a limit"), OVER_SUMMARY).detail(
        "`delay`: what has come is handled, and nothing more is read until the rate has caught up. \
         `reject`: the message is answered with error 429 instead of being handled. `close`: the \
         connection is closed with 1008, behind the answers to what came before.",
    ),
    Definition::new(
        Endpoint,
        Count,
        "max_connections",
        ("1 to 17179869184", "that of [capacity]"),
        "Connections that it has at once, in all its dialects together",
    ),
    Definition::new(
        Endpoint,
        Count,
        "full_status",
        ("400 to 599", "503 where there is a maximum"),
        "HTTP status that a connection over it is answered with",
    )
    .detail("Over plain TCP, the answer is a Close with 1013."),
    Definition::new(
        Endpoint,
        Time,
        "ping_interval",
        ("1ms to 365d, 0 or off: never", "that of [timeouts]"),
        "Ping after so long without a byte from the client",
    ),
    Definition::new(
        Endpoint,
        Time,
        "pong_timeout",
        ("1ms to 365d", "that of [timeouts]"),
        "After a ping, any byte must come within this",
    ),
    Definition::new(
        Endpoint,
        Time,
        "idle_timeout",
        ("1ms to 365d, 0 or off: never", "that of [timeouts]"),
        "Close after so long without a byte from the client",
    ),
    Definition::new(
        Endpoint,
        Texts,
        "join",
        ("names of rooms, with the path's parameters, such as room/{name}", "[]"),
        "Rooms that connections are in from the start",
    ),
    Definition::new(
        Endpoint,
        Texts,
        "identity",
        ("query.NAME or header.NAME", "[]"),
        "What of a request says who it is from: user, type, device and source",
    )
    .detail(
        "Up to four parts in this order, joined by `-`. A request without one of them is answered \
         401. Without any part, connections have no identity unless they log in.",
    ),
    Definition::new(
        Endpoint,
        Text,
        "version",
        ("query.NAME or header.NAME", "none"),
        "What of a request says which version its client is",
    ),
    Definition::new(
        Endpoint,
        Text,
        "charset",
        ("query.NAME or header.NAME", "none"),
        "What of a request says in which charset its client writes",
    )
    .detail("There it is `0` or `utf-8`, `1` or `gbk`. It is told to handlers; nothing is converted."),
    Definition::new(
        Endpoint,
        Text,
        "session",
        ("allow, reject, displace, allow N, or latest N", "allow"),
        "What happens when an identity connects that is connected already",
    )
    .detail(
        "`allow`: both stay. `reject`: the new one is answered 409. `displace`: the old one is told, \
         and closed with 4001. `allow 3`: up to so many stay, a further one is answered 409. \
         `latest 3`: up to so many stay, for a further one the oldest is displaced.",
    ),
    Definition::new(
        Endpoint,
        Texts,
        "grants",
        ("names of permissions", "[]"),
        "Permissions that every connection has",
    ),
    Definition::new(
        Endpoint,
        Switch,
        "builtin",
        ("true or false", "true"),
        "Whether the built-in routes of the dialect are there",
    )
    .detail("Routes of the file with the same key go before them."),
    Definition::new(
        Json,
        Text,
        "selector",
        (
            "$request.body.action, ${header.opt}:${header.res}, or a JSON pointer",
            "the member of request_route",
        ),
        "Where the route's key stands in a request",
    ),
    name("request_route", "route", "The route's key in a request"),
    name("request_id", "id", "A request's id"),
    name("request_body", "body", "A request's body"),
    name("answer_id", "id", "The request's id in an answer"),
    name("answer_body", "body", "An answer's body"),
    name("answer_error", "error", "The error in an answer"),
    name("push_event", "event", "What a push is"),
    name("push_room", "room", "The room of a publish"),
    name("push_from", "from", "Who published"),
    name("push_data", "data", "The body of a push"),
    Definition::new(
        Login,
        Time,
        "wait",
        ("1ms to 365d", "10s"),
        "How long a login may take, from when the connection is open",
    )
    .detail("Who is not logged in by then is closed with 1008. It stands still while workers are full."),
    Definition::new(
        Login,
        Text,
        "route",
        ("a name or, for hub, a number", "the dialect's own"),
        "Key of the message that logs in",
    )
    .detail(
        "Of their own, kim has `login.signin`, hub `7`, mef `login:user`, and others `login`. What logs \
         out is `login.signout`, `8`, `logout:user` and `logout`.",
    ),
    Definition::new(
        Login,
        File,
        "secret_file",
        ("a file", "none"),
        "What tokens are signed under (HS256)",
    )
    .detail(
        "It is read once, at the start; a line's end behind the secret is none of it. 32 bytes or more, \
         and random (RFC 7518, 3.2). Where the file has a route with the login's key, this may be left out.",
    ),
    Definition::new(
        Login,
        Text,
        "secret_env",
        ("a variable of the environment", "none"),
        "The variable that has it, in place of secret_file",
    ),
    Definition::new(
        Login,
        Text,
        "issuer",
        ("the claim iss", "any or none"),
        "Whom tokens have to be from",
    ),
    Definition::new(
        Login,
        Time,
        "leeway",
        ("at most 365d", "0s"),
        "How far clocks may be apart",
    )
    .detail("Tokens are good for so much longer than they say (`exp`), and from so much earlier (`nbf`)."),
    Definition::new(
        Route,
        Text,
        "key",
        ("a name, a number, a prefix such as chat.*, or *", REQUIRED),
        "The keys of messages that it is for",
    )
    .detail("A whole key goes before a prefix, a longer prefix before a shorter, and `*` comes last."),
    Definition::new(Route, Text, "handler", ("the name of a handler", REQUIRED), "What answers"),
    Definition::new(
        Route,
        Text,
        "permission",
        ("the name of a permission", "none"),
        "What a connection must be permitted to use it",
    ),
    Definition::new(
        Route,
        Time,
        "timeout",
        ("1ms to 365d", "none"),
        "How long an answer may take before an error is sent instead",
    )
    .detail("Handlers that run inline and answer before they return are not timed."),
    Definition::new(
        Route,
        Word,
        "run",
        ("inline, pooled or blocking", "as the handler asks"),
        "Where the handler runs",
    )
    .detail(
        "`inline`: wherever the message is routed. `pooled`: on a worker, never on a loop. \
         `blocking`: on a pool for handlers that wait; those of one connection run one at a time, \
         in their order.",
    ),
    Definition::new(
        Route,
        Word,
        "overflow",
        (POLICIES, "that of the room"),
        "What happens to what its handler publishes or pushes, where somebody is too slow for it",
    )
    .detail("As an endpoint's; where neither the route nor the room has any, it is the endpoint's."),
    Definition::new(
        Route,
        Size,
        "outbound_budget",
        (BUDGET, "that of the room"),
        "What one connection may be owed of that, room by room, and of all pushes together",
    )
    .detail(OVER_BUDGET),
    Definition::new(
        Route,
        Count,
        "rate_per_s",
        ("1 to 1000000", "no limit"),
        "Messages that it takes in a second, of all connections together",
    ),
    Definition::new(
        Route,
        Count,
        "burst",
        ("1 or more, at most 60s of rate_per_s", "rate_per_s"),
        "Messages that it takes at once",
    ),
    Definition::new(Route, Word, "over_limit", (OVER, "delay where there is a limit"), OVER_SUMMARY).detail(
        "`delay`: the message is handled, and nothing more is read from its connection until the \
         rate has caught up; once that takes more than 10 s, further messages are refused. `reject` and `close`: as for endpoints.",
    ),
    Definition::new(
        Room,
        Text,
        "pattern",
        ("a room's name, or a prefix such as news/*", REQUIRED),
        "The rooms that it is for",
    )
    .detail("A whole name goes before a prefix, and a longer prefix before a shorter."),
    Definition::new(
        Room,
        Text,
        "join",
        ("the name of a permission", "none"),
        "What a connection must be permitted to join",
    ),
    Definition::new(
        Room,
        Text,
        "publish",
        ("the name of a permission", "none"),
        "What a connection must be permitted to publish",
    ),
    Definition::new(
        Room,
        Count,
        "max_members",
        ("1 to 17179869184", "no limit"),
        "Connections that may be in it at once",
    ),
    Definition::new(
        Room,
        Switch,
        "events",
        ("true or false", "false"),
        "Whether members are told of others who come and go",
    )
    .detail(
        "By the pushes `joined` and `left`, with `{\"id\":…,\"identity\":…,\"members\":…}`. When all of a \
         room come at once, each is told of each behind it.",
    ),
    Definition::new(
        Room,
        Time,
        "clock",
        ("50ms to 1d", "never"),
        "How often members are told the time",
    )
    .detail("By the push `time`, with the time in UTC as RFC 3339 has it."),
    Definition::new(
        Room,
        Word,
        "overflow",
        (POLICIES, "that of the endpoint"),
        "What happens to its publishes, where a member is too slow for them",
    )
    .detail("As an endpoint's. The policy of a route goes before it."),
    Definition::new(
        Room,
        Size,
        "outbound_budget",
        (BUDGET, "none"),
        "What one connection may be owed of the publishes of one such room",
    )
    .detail(OVER_BUDGET),
];
