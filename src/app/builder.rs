//! Describing a gateway before it runs.

use std::net::SocketAddr;
use std::sync::Arc;

use super::running::Running;
use super::snapshot::Snapshot;
use super::start::{StartError, start};
use crate::config::{Config, Machine, TcpListen};
use crate::dialect::Message;
use crate::routing::{Admission, ConnectRequest, Context, Endpoint, Gateway, add_twins};

/// A gateway that does not run yet.
///
/// It has the built-in endpoints `/echo` and `/ws`; [`route`](Self::route) adds to the latter.
#[derive(Debug)]
pub struct GatewayBuilder {
    config: Config,
    json: Endpoint,
    others: Vec<Endpoint>,
    on_connect: Option<crate::routing::OnConnectDebug>,
}

impl Gateway {
    /// Begins to describe a gateway.
    #[must_use]
    pub fn builder() -> GatewayBuilder {
        GatewayBuilder {
            config: Config::default(),
            json: Endpoint::json("/ws"),
            others: vec![Endpoint::echo("/echo")],
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
    pub fn listen(mut self, address: impl Into<SocketAddr>) -> Self {
        self.config.listen = vec![address.into()];
        self
    }

    /// Listens on this address too, for frames over plain TCP to the endpoint at `path`, which can't
    /// have an `on_connect`. Port 0 takes a free one.
    #[must_use]
    pub fn tcp_listen(mut self, address: impl Into<SocketAddr>, path: &str) -> Self {
        let endpoint = path.to_owned();
        self.config.tcp_listen.push(TcpListen { address: address.into(), endpoint });
        self
    }

    /// Adds a route to the endpoint `/ws`, or replaces the one of that name.
    #[must_use]
    pub fn route(
        mut self,
        key: &str,
        handler: impl Fn(&mut Context<'_>, &Message<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.json = self.json.route(key, handler);
        self
    }

    /// Adds an endpoint, or replaces the one at that path.
    #[must_use]
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        // The one that `route` adds to is the one that answers, in whatever order they are called.
        if endpoint.path == self.json.path {
            self.json = endpoint;
        } else {
            self.others.push(endpoint);
        }
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
    pub fn start(self) -> Result<Running, StartError> {
        let mut endpoints = vec![self.json];
        endpoints.extend(self.others);
        if let Some(hook) = self.on_connect {
            for endpoint in &mut endpoints {
                endpoint.on_connect.get_or_insert_with(|| Arc::clone(&hook.0));
            }
        }
        let machine = Machine::read().map_err(StartError::Machine)?;
        let capacity = self.config.validate(&machine).map_err(StartError::Config)?;
        add_twins(&mut endpoints);
        let over_tcp = Snapshot::add_over_tcp(&mut endpoints, &self.config.tcp_listen)
            .map_err(StartError::Config)?;
        if endpoints.len() > usize::from(u16::MAX) {
            return Err(StartError::TooManyEndpoints(endpoints.len()));
        }
        Snapshot::classify(&mut endpoints);
        let endpoints = endpoints.into_iter().map(Arc::new).collect();
        start(Snapshot::new(self.config, endpoints).with_tcp(over_tcp), &capacity)
    }
}
