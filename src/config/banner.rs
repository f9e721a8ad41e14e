//! What the gateway says of itself at start.

use super::{FdTable, Resolved, TcpListen};

/// The lines to log at start: addresses, threads, how many connections there is room for and which
/// limit sets that; then what is probably not meant.
///
/// The addresses are those of the configuration: after binding to port 0, put the real ones there
/// first.
#[must_use]
pub fn start_banner(resolved: &Resolved) -> Vec<String> {
    let (config, capacity) = (&resolved.config, &resolved.capacity);
    let mut lines: Vec<String> =
        config.listen.iter().map(|address| format!("listening on {address}")).collect();
    lines.extend(config.tcp_listen.iter().map(|TcpListen { address, endpoint, .. }| {
        format!("listening on {address} for {endpoint} over plain TCP")
    }));
    lines
        .extend(config.tls_listen.iter().map(|address| format!("listening on {address} over TLS")));
    lines.extend(config.tls_tcp_listen.iter().map(|TcpListen { address, endpoint, .. }| {
        format!("listening on {address} for {endpoint} over TLS, without WebSockets")
    }));
    lines.push(format!(
        "{}, {}",
        loops_text(config.loops, config.fd_table),
        workers_text(config.workers)
    ));
    lines.push(format!(
        "room for {} connections, set by {}",
        capacity.connections, capacity.limited_by
    ));
    lines.extend(resolved.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines
}

fn loops_text(loops: usize, fd_table: FdTable) -> String {
    let noun = if loops == 1 { "event loop" } else { "event loops" };
    match fd_table {
        FdTable::Shared => format!("{loops} {noun} on one descriptor table"),
        FdTable::Private => format!("{loops} {noun} with a descriptor table each"),
    }
}

fn workers_text(workers: usize) -> String {
    match workers {
        0 => "no workers: routing inline on the loops".to_owned(),
        1 => "1 worker".to_owned(),
        _ => format!("{workers} workers"),
    }
}
