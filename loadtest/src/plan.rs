//! Decides, before anything starts, how many threads, whose descriptor tables, which source
//! addresses. Whether the host allows it is for the preflight to say.

use std::net::{IpAddr, Ipv4Addr};

/// Descriptors of a table that are left for everything but connections.
pub(crate) const RESERVE: u64 = 64;
/// Connections that leave from one loopback address by default: a quarter of the 28,232 ephemeral
/// ports that Linux has by default. The kernel looks for a free port by trying one after the other;
/// at 20,000 connections per address that made connects 3.4 times slower than at 3,000.
const PER_SOURCE: u32 = 7_000;
/// The most threads; far beyond what a million connections need at 20,000 descriptors each.
const MAX_THREADS: u32 = 1024;

/// What the arguments ask for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Connections in all, at least one.
    pub(crate) connections: u32,
    /// Event-loop threads, if chosen.
    pub(crate) threads: Option<u32>,
    /// Where connections leave from.
    pub(crate) sources: Sources,
    /// Where they go; `None`: to a Unix-domain socket.
    pub(crate) destination: Option<IpAddr>,
}

/// The choice of `--source-ips`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sources {
    /// Spread over 127.0.0.2 and up if the target is loopback and the count needs it.
    Auto,
    /// Let the kernel choose.
    Off,
    /// Take these in turn.
    List(Vec<IpAddr>),
}

/// The limits of this host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Descriptors of one table (hard `RLIMIT_NOFILE`).
    pub(crate) descriptors: u64,
    /// Ephemeral ports of one source address (`net.ipv4.ip_local_port_range`).
    pub(crate) ports: u32,
}

/// How the run is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Event-loop threads.
    pub(crate) threads: u32,
    /// Whether each has a descriptor table of its own.
    pub(crate) private_tables: bool,
    /// Source addresses that connections take in turn; empty: the kernel chooses.
    pub(crate) sources: Vec<IpAddr>,
}

impl Plan {
    /// Lays out the run as well as can be within the limits, or says which flag forbids it.
    pub(crate) fn new(wanted: &Wanted, limits: Limits) -> Result<Self, String> {
        let (threads, private_tables) = tables(wanted, limits);
        let sources = sources(wanted, limits)?;
        Ok(Self { threads, private_tables, sources })
    }

    /// Where connection number `index` leaves from; `None`: the kernel chooses.
    pub(crate) fn source(&self, index: u32) -> Option<IpAddr> {
        let turn = index as usize % self.sources.len().max(1);
        self.sources.get(turn).copied()
    }
}

/// How many of `connections` are the part of thread number `thread`: those whose number leaves that
/// remainder.
pub(crate) fn share(connections: u32, threads: u32, thread: u32) -> u32 {
    connections / threads + u32::from(thread < connections % threads)
}

/// Threads, and whether each has a table of its own. Where no number of threads is enough, the most.
fn tables(wanted: &Wanted, limits: Limits) -> (u32, bool) {
    let Wanted { connections, .. } = *wanted;
    let threads = wanted.threads.unwrap_or(1).min(connections);
    if u64::from(connections) + 2 * u64::from(threads) + RESERVE <= limits.descriptors {
        return (threads, false);
    }
    // Every private table also holds the polls of all threads.
    let fits = |threads: &u32| {
        let share = u64::from(connections.div_ceil(*threads));
        share + u64::from(*threads) + RESERVE <= limits.descriptors
    };
    let most = MAX_THREADS.min(connections);
    let threads = match wanted.threads {
        Some(_) => threads,
        None => (1..=most).find(fits).unwrap_or(most),
    };
    (threads, true)
}

fn sources(wanted: &Wanted, limits: Limits) -> Result<Vec<IpAddr>, String> {
    let Wanted { connections, destination, .. } = *wanted;
    let Some(destination) = destination else { return Ok(Vec::new()) };
    let per_source = PER_SOURCE.min(limits.ports).max(1);
    let sources = match &wanted.sources {
        Sources::List(list) => list.clone(),
        Sources::Auto if spreads(destination) && connections > per_source => {
            loopback(connections.div_ceil(per_source))
        }
        Sources::Auto | Sources::Off => Vec::new(),
    };
    match sources.iter().find(|ip| ip.is_ipv4() != destination.is_ipv4()) {
        Some(other) => Err(format!("--source-ips: {other} is not of the family of {destination}")),
        None => Ok(sources),
    }
}

/// Whether any address of 127.0.0.0/8 can be a source.
fn spreads(destination: IpAddr) -> bool {
    destination.is_ipv4() && destination.is_loopback()
}

fn loopback(count: u32) -> Vec<IpAddr> {
    let first = u32::from(Ipv4Addr::new(127, 0, 0, 2));
    (first..first + count).map(|bits| IpAddr::V4(Ipv4Addr::from(bits))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Limits = Limits { descriptors: 20_000, ports: 28_232 };

    fn wanted(connections: u32) -> Wanted {
        Wanted {
            connections,
            threads: None,
            sources: Sources::Auto,
            destination: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        }
    }

    #[test]
    fn few_connections_need_nothing_special() {
        let plan = Plan::new(&wanted(1000), HOST).unwrap();
        assert_eq!(plan, Plan { threads: 1, private_tables: false, sources: vec![] });
        assert_eq!(plan.source(7), None);
    }

    #[test]
    fn threads_are_never_more_than_connections() {
        let plan = Plan::new(&Wanted { threads: Some(8), ..wanted(3) }, HOST).unwrap();
        assert_eq!(plan.threads, 3);
    }

    #[test]
    fn many_connections_get_private_tables_and_sources() {
        let plan = Plan::new(&wanted(100_000), HOST).unwrap();
        assert_eq!((plan.threads, plan.private_tables), (6, true));
        assert_eq!(plan.sources.len(), 15);
        assert_eq!(plan.sources[0], IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(plan.source(16), Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3))));
    }

    #[test]
    fn a_million_fits() {
        let plan = Plan::new(&wanted(1_000_000), HOST).unwrap();
        assert!(plan.private_tables && plan.threads < 60);
        assert_eq!(plan.sources.len(), 143);
        let most = share(1_000_000, plan.threads, 0);
        assert!(u64::from(most + plan.threads) + RESERVE <= HOST.descriptors);
    }

    #[test]
    fn what_does_not_fit_is_laid_out_as_well_as_can_be() {
        let plan = Plan::new(&Wanted { threads: Some(2), ..wanted(100_000) }, HOST).unwrap();
        assert_eq!((plan.threads, plan.private_tables), (2, true));
        let few = Limits { descriptors: 100, ..HOST };
        let plan = Plan::new(&wanted(200_000), few).unwrap();
        assert_eq!((plan.threads, plan.private_tables), (MAX_THREADS, true));
    }

    #[test]
    fn sources_of_another_family_are_refused() {
        let list = Sources::List(vec!["::1".parse().unwrap()]);
        let error = Plan::new(&Wanted { sources: list, ..wanted(3) }, HOST).unwrap_err();
        assert!(error.contains("--source-ips") && error.contains("family"), "{error}");
    }

    #[test]
    fn a_unix_socket_takes_no_sources() {
        let plan = Plan::new(&Wanted { destination: None, ..wanted(30_000) }, HOST).unwrap();
        assert_eq!((plan.threads, plan.sources.len()), (2, 0));
    }

    #[test]
    fn shares_add_up() {
        for (connections, threads) in [(10, 3), (3, 3), (100_000, 6), (7, 1)] {
            let sum: u32 = (0..threads).map(|t| share(connections, threads, t)).sum();
            assert_eq!(sum, connections);
            assert_eq!(share(connections, threads, 0), connections.div_ceil(threads));
        }
    }
}
