//! Other dialects at an endpoint's path: each is an endpoint of its own in the snapshot's table.

use super::endpoint::{Endpoint, EndpointId};
use crate::dialect::{Family, sniff};
use crate::protocol::MessageKind;

/// An endpoint's other dialects, by the endpoints that they became.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllTwins {
    /// By the subprotocol that asks for each: the dialect's name.
    pub(crate) by_subprotocol: Vec<(&'static str, EndpointId)>,
    pub(crate) by_magic: Twins,
}

/// Those that the first bytes of a message tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Twins {
    kim: Option<EndpointId>,
    hub: Option<EndpointId>,
}

impl Twins {
    /// Whether the dialect of a connection is still to be found out.
    #[inline]
    pub(crate) fn is_open(self) -> bool {
        self.kim.is_some() || self.hub.is_some()
    }

    /// The endpoint whose dialect a message is in, if it is not its connection's own.
    pub(crate) fn spoken(self, kind: MessageKind, payload: &[u8]) -> Option<EndpointId> {
        match sniff(kind, payload) {
            Family::Kim => self.kim,
            Family::Hub => self.hub,
            Family::Text | Family::Binary => None,
        }
    }
}

/// Makes an endpoint of each further dialect, behind all others.
pub(crate) fn add_twins(endpoints: &mut Vec<Endpoint>) {
    for index in 0..endpoints.len() {
        for dialect in std::mem::take(&mut endpoints[index].also) {
            let (id, name) = (EndpointId(endpoints.len() as u16), dialect.name());
            let mut twin = endpoints[index].speaking(dialect);
            twin.base = Some(EndpointId(index as u16));
            endpoints.push(twin);
            let twins = &mut endpoints[index].twins;
            twins.by_subprotocol.push((name, id));
            match name {
                "kim" => twins.by_magic.kim = Some(id),
                "hub" => twins.by_magic.hub = Some(id),
                _ => {}
            }
        }
    }
}

impl Endpoint {
    /// Which endpoint, of this one and its twins, serves a client that asks for these subprotocols,
    /// best first: the first that any of them has decides.
    pub(crate) fn serving<'s>(
        &self,
        own: EndpointId,
        mut wanted: impl Iterator<Item = &'s str>,
    ) -> EndpointId {
        let twins = &self.twins.by_subprotocol;
        let of = |name: &str| match self.subprotocols.iter().any(|have| have == name) {
            true => Some(own),
            false => twins.iter().find(|(twin, _)| *twin == name).map(|(_, id)| *id),
        };
        wanted.find_map(of).unwrap_or(own)
    }
}
