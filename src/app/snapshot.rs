//! The configuration as the data plane sees it: one immutable value, swapped between turns.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::channels::RoomPolicies;
use crate::config::{Config, Problem, TcpListen};
use crate::connection::Timeouts;
use crate::dialect::{Class, Dialect};
use crate::limits::{REQUEST_HEADERS_MAX, TICK_MS};
use crate::protocol::handshake::HeadLimits;
use crate::protocol::{Decoder, Framing};
use crate::routing::{Endpoint, EndpointId, Liveness};
use crate::transport::tls::TlsHost;

/// Configuration and endpoints. The endpoint table only grows, so that an index stays good.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts replacements.
    pub version: u64,
    /// What was configured.
    pub config: Config,
    /// Times, in ticks, but for what an endpoint has of its own.
    pub timeouts: Timeouts,
    /// Frame and message limits, in WebSocket framing.
    pub decoder: Decoder,
    /// Request limits.
    pub head_limits: HeadLimits,
    /// What holds for rooms, by name.
    pub rooms: RoomPolicies,
    /// What connections over TLS begin with, if there are any.
    pub tls: Option<TlsHost>,
    endpoints: Vec<Arc<Endpoint>>,
    /// Of each TCP listener of the start.
    tcp_endpoints: Vec<EndpointId>,
}

impl Snapshot {
    /// A first snapshot.
    #[must_use]
    pub fn new(config: Config, endpoints: Vec<Arc<Endpoint>>) -> Self {
        let timeouts = Timeouts {
            handshake: ticks(config.handshake_timeout).get(),
            idle: config.idle_timeout.map(ticks),
            login: None,
            message: config.message_timeout.map(ticks),
            ping: config.ping_interval.map(ticks),
            pong: ticks(config.pong_timeout).get(),
            write: ticks(config.write_timeout).get(),
            close: ticks(config.close_timeout).get(),
        };
        let decoder = Decoder {
            framing: Framing::WebSocket,
            max_frame_bytes: config.max_frame_bytes,
            max_message_bytes: config.max_message_bytes,
            max_fragments: config.max_fragments,
            deflate: false,
        };
        let head_limits = HeadLimits {
            max_header_bytes: config.max_header_bytes,
            max_headers: REQUEST_HEADERS_MAX,
        };
        let (rooms, tcp_endpoints) = (RoomPolicies::default(), Vec::new());
        Self {
            version: 0,
            config,
            timeouts,
            decoder,
            head_limits,
            rooms,
            tls: None,
            endpoints,
            tcp_endpoints,
        }
    }

    /// Sets what connections over TLS begin with.
    pub(super) fn with_tls(mut self, tls: Option<TlsHost>) -> Self {
        self.tls = tls;
        self
    }

    /// Sets what holds for rooms.
    pub(super) fn with_rooms(mut self, rooms: RoomPolicies) -> Self {
        self.rooms = rooms;
        self
    }

    /// Sets what [`add_over_tcp`](Self::add_over_tcp) said.
    pub(super) fn with_tcp(mut self, tcp_endpoints: Vec<EndpointId>) -> Self {
        self.tcp_endpoints = tcp_endpoints;
        self
    }

    /// Adds, for each TCP listener, the endpoint that it names once more, for plain TCP; says which
    /// it is.
    ///
    /// # Errors
    /// Every listener whose endpoint is unknown, or would have to let in whom it has not asked.
    pub(super) fn add_over_tcp(
        endpoints: &mut Vec<Endpoint>,
        config: &Config,
    ) -> Result<Vec<EndpointId>, Vec<Problem>> {
        let (mut ids, mut problems) = (Vec::new(), Vec::new());
        for (TcpListen { address, endpoint: path, framing }, tls) in config.all_tcp_listen() {
            let found = endpoints.iter().rfind(|e| !e.is_twin() && e.path.as_str() == path);
            let (what, fix) = match found {
                Some(endpoint) if !endpoint.asks_shard() => {
                    let over_tcp = endpoint.over_tcp(*framing);
                    ids.push(EndpointId(endpoints.len() as u16));
                    endpoints.push(over_tcp);
                    continue;
                }
                Some(_) => (
                    format!(
                        "{path} needs a request (on_connect, rooms or parameters of the path), and \
                         over TCP there is none"
                    ),
                    "name an endpoint that needs none",
                ),
                None => (format!("there is no endpoint {path}"), "name one that there is"),
            };
            let flag = if tls { "--tls-tcp-listen" } else { "--tcp-listen" };
            problems.push(Problem::new(flag, address, what, fix));
        }
        if problems.is_empty() { Ok(ids) } else { Err(problems) }
    }

    /// Gives each endpoint its class: equal dialects in equal framing share one.
    pub fn classify(endpoints: &mut [Endpoint]) {
        let mut classes = 0;
        for index in 0..endpoints.len() {
            let (before, [endpoint, ..]) = endpoints.split_at_mut(index) else { return };
            let same = before.iter().find(|other| {
                other.framing == endpoint.framing && other.dialect.is_same_as(&endpoint.dialect)
            });
            endpoint.class = match same {
                Some(other) => other.class,
                None if matches!(endpoint.dialect, Dialect::Custom(_)) => None,
                None => {
                    classes += 1;
                    Class::new(classes - 1)
                }
            };
        }
    }

    /// The endpoint of an id that came from this table or an earlier one.
    #[inline]
    #[must_use]
    pub fn endpoint(&self, id: EndpointId) -> &Endpoint {
        &self.endpoints[id.0 as usize]
    }

    /// All endpoints, in the order of their ids.
    #[must_use]
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// The endpoint of what comes in at a TCP listener, by its index in
    /// `Config::all_tcp_listen`.
    #[must_use]
    pub fn tcp_endpoint(&self, listener: usize) -> EndpointId {
        self.tcp_endpoints[listener]
    }

    /// The endpoint for requests of a path: of those that match, the one with the most of it spelt
    /// out; of equal ones the last.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<EndpointId> {
        let all = self.endpoints.iter().enumerate();
        let fit = all.filter(|(_, endpoint)| endpoint.is_at(path));
        let (index, _) = fit.max_by_key(|(_, endpoint)| endpoint.path.rank())?;
        Some(EndpointId(index as u16))
    }

    /// Times for connections of an endpoint, in ticks.
    #[must_use]
    pub fn timeouts_of(&self, endpoint: &Endpoint) -> Timeouts {
        let Liveness { ping_interval, pong_timeout, idle_timeout } = endpoint.liveness;
        let or_never = |own: Option<Option<Duration>>, all| own.map_or(all, |own| own.map(ticks));
        Timeouts {
            ping: or_never(ping_interval, self.timeouts.ping)
                .filter(|_| endpoint.framing.has_control_frames()),
            pong: pong_timeout.map_or(self.timeouts.pong, |own| ticks(own).get()),
            idle: or_never(idle_timeout, self.timeouts.idle),
            login: endpoint.login.as_ref().map(|rule| ticks(rule.wait)),
            ..self.timeouts
        }
    }

    pub(super) fn endpoints_are_prefix_of(&self, next: &Self) -> bool {
        self.endpoints.len() <= next.endpoints.len()
            && self.endpoints.iter().zip(&next.endpoints).all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

/// Whole ticks, at least one: a timeout is never shorter than asked for.
fn ticks(time: Duration) -> NonZeroU32 {
    let ticks = time.as_millis().div_ceil(u128::from(TICK_MS));
    NonZeroU32::new(u32::try_from(ticks).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN)
}
