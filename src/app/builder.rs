//! Describing a gateway before it runs.

use std::sync::Arc;

use super::endpoints::{add_rooms, endpoints};
use super::running::Running;
use super::snapshot::Snapshot;
use super::start::{StartError, start};
use crate::channels::{RoomPolicies, RoomPolicy};
use crate::config::{Config, ListenAddr, Machine, TcpListen};
use crate::dialect::Message;
use crate::routing::{
    Admission, ConnectRequest, Context, Endpoint, Gateway, Route, add_twins, default_endpoints,
};
use crate::transport::tls::TlsHost;

/// A gateway that does not run yet.
///
/// It has the endpoints that `tidegate` without arguments has; [`route`](Self::route) adds to `/ws`.
#[derive(Debug)]
pub struct GatewayBuilder {
    config: Config,
    /// Those that stand in for what the configuration does not declare.
    endpoints: Vec<Endpoint>,
    added: Vec<Endpoint>,
    /// Put on the endpoint `/ws`, whichever that is in the end.
    routes: Vec<(String, Route)>,
    rooms: RoomPolicies,
    on_connect: Option<crate::routing::OnConnectDebug>,
}

impl Gateway {
    /// Begins to describe a gateway.
    #[must_use]
    pub fn builder() -> GatewayBuilder {
        GatewayBuilder {
            config: Config::default(),
            endpoints: default_endpoints(),
            added: Vec::new(),
            routes: Vec::new(),
            rooms: RoomPolicies::default(),
            on_connect: None,
        }
    }
}

impl GatewayBuilder {
    /// What it runs by.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Changes what it runs by.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Listens on this address, and on no other. Port 0 takes a free one.
    #[must_use]
    pub fn listen(mut self, address: impl Into<ListenAddr>) -> Self {
        self.config.listen = vec![address.into()];
        self
    }

    /// Listens on this address too, for frames over plain TCP to the endpoint at `path`, which can't
    /// have an `on_connect`. Port 0 takes a free one.
    #[must_use]
    pub fn tcp_listen(mut self, address: impl Into<ListenAddr>, path: &str) -> Self {
        let endpoint = path.to_owned();
        self.config.tcp_listen.push(TcpListen { address: address.into(), endpoint, framing: None });
        self
    }

    /// Listens on this address too, for WebSockets over TLS with the configuration's certificates
    /// ([`Config::tls`]). Port 0 takes a free one.
    #[must_use]
    pub fn tls_listen(mut self, address: impl Into<ListenAddr>) -> Self {
        self.config.tls_listen.push(address.into());
        self
    }

    /// Adds a route to the endpoint `/ws`, or replaces the one of that key.
    #[must_use]
    pub fn route(
        mut self,
        key: &str,
        handler: impl Fn(&mut Context<'_>, &Message<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.routes.push((key.to_owned(), Route::new(handler)));
        self
    }

    /// Adds an endpoint, or replaces the one at that path.
    #[must_use]
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.added.push(endpoint);
        self
    }

    /// Has no endpoints but those that are added, or declared by the configuration.
    #[must_use]
    pub fn without_default_endpoints(mut self) -> Self {
        self.endpoints.clear();
        self
    }

    /// Says what it takes to join and to publish to rooms whose names match `pattern`: a name,
    /// `news/*` for all that begin with `news/`, or `*`.
    #[must_use]
    pub fn room_policy(mut self, pattern: &str, policy: RoomPolicy) -> Self {
        self.rooms.set(pattern, policy);
        self
    }

    /// Asks `hook` before any connection is upgraded, on endpoints that have no hook of their own.
    #[must_use]
    pub fn on_connect(
        mut self,
        hook: impl Fn(&ConnectRequest<'_>, Admission) + Send + Sync + 'static,
    ) -> Self {
        self.on_connect = Some(crate::routing::OnConnectDebug(Arc::new(hook)));
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// What in the configuration does not fit this machine, or what the kernel refused.
    pub fn start(mut self) -> Result<Running, StartError> {
        let declared = endpoints(&self.config).map_err(StartError::Config)?;
        let base = if declared.is_empty() { self.endpoints } else { declared };
        let mut endpoints = with_routes(base.into_iter().chain(self.added), self.routes);
        add_rooms(&self.config, &mut self.rooms);
        if endpoints.is_empty() {
            return Err(StartError::NoEndpoints);
        }
        if let Some(hook) = self.on_connect {
            for endpoint in &mut endpoints {
                endpoint.on_connect.get_or_insert_with(|| Arc::clone(&hook.0));
            }
        }
        let machine = Machine::read().map_err(StartError::Machine)?;
        let capacity = self.config.validate(&machine).map_err(StartError::Config)?;
        add_twins(&mut endpoints);
        let over_tcp =
            Snapshot::add_over_tcp(&mut endpoints, &self.config).map_err(StartError::Config)?;
        if endpoints.len() > usize::from(u16::MAX) {
            return Err(StartError::TooManyEndpoints(endpoints.len()));
        }
        Snapshot::classify(&mut endpoints);
        let endpoints = endpoints.into_iter().map(Arc::new).collect();
        let tls = self.config.has_tls().then(|| TlsHost::load(&self.config.tls)).transpose();
        let snapshot = Snapshot::new(self.config, endpoints)
            .with_tcp(over_tcp)
            .with_rooms(self.rooms)
            .with_tls(tls.map_err(StartError::Tls)?);
        start(snapshot, &capacity)
    }
}

/// Puts routes on the endpoint `/ws`, which is made if there is none. Of endpoints at one path the
/// last one stays.
fn with_routes(all: impl Iterator<Item = Endpoint>, routes: Vec<(String, Route)>) -> Vec<Endpoint> {
    const PATH: &str = "/ws";
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for endpoint in all {
        endpoints.retain(|other| !other.path.is_same_as(&endpoint.path));
        endpoints.push(endpoint);
    }
    if routes.is_empty() {
        return endpoints;
    }
    let at = endpoints.iter().position(|endpoint| endpoint.path.as_str() == PATH);
    let endpoint = at.map_or_else(|| Endpoint::json(PATH), |at| endpoints.remove(at));
    let add = |endpoint: Endpoint, (key, route): (String, Route)| endpoint.route_with(&key, route);
    endpoints.push(routes.into_iter().fold(endpoint, add));
    endpoints
}
