//! How many connections fit, and which limit says so.

use super::{Config, FdTable, Machine, Problem, TcpListen, format_bytes};
use crate::limits::{
    CONNECTIONS_PER_LOOP_MAX, KERNEL_BYTES_PER_CONNECTION, LOOPS_MAX, OWN_BYTES_PER_CONNECTION,
    descriptor_reserve,
};

/// Most connections of one loop: every slot but the last id, which is never given out.
const PER_LOOP_MAX: usize = CONNECTIONS_PER_LOOP_MAX - 1;

/// What the gateway can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capacity {
    /// Connections held at once, all loops together.
    pub connections: usize,
    /// Most connections one loop may hold: with private tables what its table has room for, else
    /// all of them.
    pub per_loop: usize,
    /// The limit that sets `connections`: `--max-connections`, or for instance
    /// `descriptors: hard limit 20000 minus 45 reserved`.
    pub limited_by: String,
}

/// The fewest loops whose private tables hold `wanted` connections together, under a hard
/// descriptor limit and with so many listen addresses; `None` if no number of loops does.
///
/// More loops are not always more room: each keeps four descriptors in every table.
#[must_use]
pub fn loops_needed(wanted: usize, descriptor_limit: u64, addresses: usize) -> Option<usize> {
    (1..=LOOPS_MAX).find(|&loops| {
        Layout { loops, addresses, fd_table: FdTable::Private, descriptor_limit }.connections()
            >= wanted
    })
}

/// Loops and tables, before any count of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) loops: usize,
    pub(crate) addresses: usize,
    pub(crate) fd_table: FdTable,
    pub(crate) descriptor_limit: u64,
}

impl Layout {
    /// Descriptors of one table that are not connections.
    pub(crate) fn reserve(&self) -> usize {
        descriptor_reserve(self.loops, self.addresses, self.fd_table == FdTable::Private)
    }

    /// Connections that one table has room for.
    pub(crate) fn per_table(&self) -> usize {
        let limit = usize::try_from(self.descriptor_limit).unwrap_or(usize::MAX);
        limit.saturating_sub(self.reserve())
    }

    /// Connections that one loop may hold.
    pub(crate) fn per_loop(&self) -> usize {
        self.per_table().min(PER_LOOP_MAX)
    }

    /// Connections that all loops may hold together.
    pub(crate) fn connections(&self) -> usize {
        let by_ids = self.loops.saturating_mul(PER_LOOP_MAX);
        match self.fd_table {
            FdTable::Shared => self.per_table().min(by_ids),
            FdTable::Private => self.loops.saturating_mul(self.per_loop()),
        }
    }

    /// The limit that sets [`Layout::connections`].
    fn limited_by(&self) -> String {
        if self.connections() == self.loops.saturating_mul(PER_LOOP_MAX) {
            return format!("connection ids: {PER_LOOP_MAX} a loop");
        }
        let table =
            format!("hard limit {} minus {} reserved", self.descriptor_limit, self.reserve());
        match self.fd_table {
            FdTable::Shared => format!("descriptors: {table}"),
            FdTable::Private => format!("descriptors: {} tables of {table}", self.loops),
        }
    }

    /// The count to hold when nobody names one: what fits, but never more idle connections than
    /// half of the memory. The other half is for their buffers.
    pub(crate) fn default_connections(&self, machine: &Machine) -> usize {
        self.connections().min(connections_by_memory(machine).unwrap_or(usize::MAX))
    }
}

impl Config {
    /// What this configuration can hold on this machine.
    ///
    /// # Errors
    /// If the descriptors do not suffice for `max_connections`: with how many loops or which
    /// limit they would.
    pub fn capacity(&self, machine: &Machine) -> Result<Capacity, Problem> {
        let layout = self.layout(machine);
        let room = layout.connections();
        if room == 0 {
            return Err(no_room(&layout));
        }
        if self.max_connections > room {
            return Err(too_many(self.max_connections, &layout));
        }
        let limited_by = if self.max_connections == room {
            layout.limited_by()
        } else if Some(self.max_connections) == connections_by_memory(machine) {
            memory_text(machine)
        } else {
            "--max-connections".to_owned()
        };
        let per_loop = layout.per_loop().min(self.max_connections);
        Ok(Capacity { connections: self.max_connections, per_loop, limited_by })
    }

    /// Addresses that every loop has a listener for.
    pub(crate) fn addresses(&self) -> usize {
        let plain = self.listen.len() + self.tcp_listen.len();
        plain + self.tls_listen.len() + self.tls_tcp_listen.len()
    }

    /// Whether anything is listened for over TLS.
    pub fn has_tls(&self) -> bool {
        !self.tls_listen.is_empty() || !self.tls_tcp_listen.is_empty()
    }

    /// Listeners for connections that send no request, and whether they are over TLS.
    pub(crate) fn all_tcp_listen(&self) -> impl Iterator<Item = (&TcpListen, bool)> {
        let over_tls = self.tls_tcp_listen.iter().map(|listen| (listen, true));
        self.tcp_listen.iter().map(|listen| (listen, false)).chain(over_tls)
    }

    pub(crate) fn layout(&self, machine: &Machine) -> Layout {
        Layout {
            loops: self.loops,
            addresses: self.addresses(),
            fd_table: self.fd_table,
            descriptor_limit: machine.descriptor_limit,
        }
    }
}

/// Idle connections that half of the memory holds.
fn connections_by_memory(machine: &Machine) -> Option<usize> {
    let each = KERNEL_BYTES_PER_CONNECTION + OWN_BYTES_PER_CONNECTION;
    let connections = usize::try_from(machine.memory_bytes()? / 2 / each).ok()?;
    Some(connections.max(1))
}

fn memory_text(machine: &Machine) -> String {
    let each = KERNEL_BYTES_PER_CONNECTION + OWN_BYTES_PER_CONNECTION;
    let memory = machine.memory_bytes().unwrap_or(0);
    format!("memory: half of {} at {each} B an idle connection", format_bytes(memory))
}

fn no_room(layout: &Layout) -> Problem {
    let least = layout.reserve() + 1;
    Problem::new(
        "--loops",
        layout.loops,
        format!(
            "the hard descriptor limit {} leaves none for connections, {} are reserved",
            layout.descriptor_limit,
            layout.reserve()
        ),
        format!("run fewer loops, or raise the limit: ulimit -n {least} or more"),
    )
}

fn too_many(wanted: usize, layout: &Layout) -> Problem {
    let room = layout.connections();
    let (what, fix) = match layout.fd_table {
        FdTable::Shared => (
            format!("one shared descriptor table holds {room} ({})", layout.limited_by()),
            shared_fix(wanted, layout),
        ),
        FdTable::Private => (
            format!(
                "{} loops with a descriptor table each hold {room} ({})",
                layout.loops,
                layout.limited_by()
            ),
            private_fix(wanted, layout),
        ),
    };
    Problem::new("--max-connections", wanted, what, fix)
}

fn shared_fix(wanted: usize, layout: &Layout) -> String {
    let limit = wanted.saturating_add(layout.reserve());
    let raise = format!("raise the hard limit: ulimit -n {limit}");
    match loops_needed(wanted, layout.descriptor_limit, layout.addresses) {
        Some(loops) => format!("give --fd-table private (it takes {loops} loops), or {raise}"),
        None => raise,
    }
}

fn private_fix(wanted: usize, layout: &Layout) -> String {
    let limit = wanted.div_ceil(layout.loops.max(1)).saturating_add(layout.reserve());
    let raise = format!("raise the hard limit: ulimit -n {limit}");
    match loops_needed(wanted, layout.descriptor_limit, layout.addresses) {
        Some(loops) => format!("give --loops {loops} or leave --loops out, or {raise}"),
        None => format!("no number of loops suffices: {raise}"),
    }
}
