use std::net::{IpAddr, Ipv4Addr};

use super::{facts::Bounded, *};
use crate::plan::{Limits, Sources, Wanted};

/// A host as it comes: 2 cores, 24 GiB, defaults of the kernel.
fn host() -> Facts {
    Facts {
        descriptors: 20_000,
        unshare_refused: None,
        nr_open: Some(1 << 20),
        files: Some(Bounded { limit: 2_466_193, used: 1_200 }),
        exceeds_files: false,
        epoll_watches: Some(5_491_533),
        ports: Some(28_232),
        memory_available: Some(20 << 30),
        cgroup_memory: None,
        tcp_mem_high: Some(575_802),
        max_map_count: Some(65_530),
        threads: Some(Bounded { limit: 192_000, used: 80 }),
        conntrack: None,
        somaxconn: Some(4_096),
    }
}

fn wanted(connections: u32) -> Wanted {
    let destination = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    Wanted { connections, threads: None, sources: Sources::Auto, destination }
}

/// What is found for `wanted` on a host after `change`.
fn found_for(wanted: &Wanted, change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = host();
    change(&mut facts);
    let limits = Limits { descriptors: facts.descriptors, ports: 28_232 };
    let plan = Plan::new(wanted, limits).unwrap();
    let needs = Needs {
        connections: wanted.connections,
        plan: &plan,
        threads_chosen: wanted.threads.is_some(),
        max_connecting: 512,
        read_buffer: 128,
        tls: false,
        destination: wanted.destination,
    };
    check(&needs, &facts)
}

fn found(connections: u32, change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    found_for(&wanted(connections), change)
}

/// The one finding there is, as text, after it was seen to stop the run or not.
#[track_caller]
fn only(findings: &[Finding], stops: bool) -> String {
    let [finding] = findings else { panic!("{findings:?}") };
    assert_eq!(finding.stops, stops, "{finding}");
    finding.to_string()
}

#[test]
fn a_usual_host_is_fit_for_a_usual_run() {
    assert_eq!(found(10_000, |_| ()), []);
    assert_eq!(found(200_000, |_| ()), []);
}

#[test]
fn a_million_needs_nothing_but_a_warning_about_buffers() {
    let text = only(&found(1_000_000, |_| ()), false);
    assert!(text.contains("sysctl -w net.ipv4.tcp_mem='1500000 2000000 3000000'"), "{text}");
}

#[test]
fn unknown_limits_stop_nothing() {
    assert_eq!(
        found(1_000_000, |facts| {
            *facts = Facts { descriptors: 20_000, ..Facts::default() };
        }),
        []
    );
}

#[test]
fn too_few_descriptors_stop() {
    let few = Wanted { threads: Some(2), ..wanted(100_000) };
    let text = only(&found_for(&few, |_| ()), true);
    assert!(text.starts_with("--threads 2") && text.contains("ulimit -n 50066"), "{text}");
    let text = only(&found_for(&few, |facts| facts.nr_open = Some(30_000)), true);
    assert!(text.contains("sysctl -w fs.nr_open=50066 && ulimit -n 50066"), "{text}");
    // However many threads.
    let text = only(&found(200_000, |facts| facts.descriptors = 200), true);
    assert!(text.contains("the most") && text.contains("ulimit -n"), "{text}");
}

#[test]
fn private_tables_that_are_refused_stop() {
    let refuse = |facts: &mut Facts| facts.unshare_refused = Some("EPERM".to_owned());
    assert_eq!(found(10_000, refuse), []);
    let text = only(&found(100_000, refuse), true);
    assert!(text.contains("EPERM") && text.contains("ulimit -n 100076"), "{text}");
}

#[test]
fn too_few_ports_stop() {
    let far = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let text = only(&found_for(&Wanted { destination: Some(far), ..wanted(30_000) }, |_| ()), true);
    assert!(text.contains("ip_local_port_range='1024 65535'"), "{text}");
    assert!(text.contains("2 source addresses"), "{text}");
    let far = Wanted { destination: Some(far), ..wanted(100_000) };
    let text = only(&found_for(&far, |_| ()), true);
    assert!(!text.contains("sysctl") && text.contains("--source-ips"), "{text}");
}

#[test]
fn too_little_memory_stops() {
    let text = only(&found(200_000, |facts| facts.memory_available = Some(1 << 30)), true);
    assert!(text.contains("both ends") && text.contains("--connections 122"), "{text}");
    let one_end = Wanted { destination: "192.0.2.1".parse().ok(), ..wanted(20_000) };
    assert_eq!(found_for(&one_end, |facts| facts.memory_available = Some(100 << 20)), []);
}

#[test]
fn the_memory_of_the_control_group_counts() {
    let group = Some(Bounded { limit: 1 << 30, used: 900 << 20 });
    let text = only(&found(100_000, |facts| facts.cgroup_memory = group), true);
    assert!(text.contains("memory.max") && text.contains("124 MiB left"), "{text}");
}

#[test]
fn host_wide_counts_stop() {
    let full = Some(Bounded { limit: 30_000, used: 20_000 });
    let text = only(&found(10_000, |facts| facts.files = full), true);
    assert!(text.contains("sysctl -w fs.file-max=40000"), "{text}");
    only(
        &found(10_000, |facts| {
            (facts.files, facts.exceeds_files) = (full, true);
        }),
        false,
    );
    let text = only(
        &found(200_000, |facts| {
            facts.threads = Some(Bounded { limit: 100, used: 90 });
        }),
        true,
    );
    assert!(text.contains("sysctl -w kernel.threads-max=103"), "{text}");
    let text = only(&found(200_000, |facts| facts.max_map_count = Some(240)), true);
    assert!(text.contains("sysctl -w vm.max_map_count=244"), "{text}");
}

#[test]
fn epoll_watches_stop_if_one_end_alone_is_too_much() {
    let watches = |count| move |facts: &mut Facts| facts.epoll_watches = Some(count);
    assert!(only(&found(10_000, watches(9_000)), true).contains("max_user_watches=20002"));
    only(&found(10_000, watches(15_000)), false);
}

#[test]
fn tracked_connections_stop_where_some_are_tracked() {
    let tracked = |used| {
        move |facts: &mut Facts| {
            facts.conntrack = Some(Bounded { limit: 65_536, used });
        }
    };
    let text = only(&found(100_000, tracked(500)), true);
    assert!(text.contains("sysctl -w net.netfilter.nf_conntrack_max=100500"), "{text}");
    only(&found(100_000, tracked(0)), false);
}

#[test]
fn a_short_backlog_is_a_warning() {
    let text = only(&found(1_000, |facts| facts.somaxconn = Some(128)), false);
    assert!(text.contains("--max-connecting 128"), "{text}");
    let far = Wanted { destination: "192.0.2.1".parse().ok(), ..wanted(1_000) };
    assert_eq!(found_for(&far, |facts| facts.somaxconn = Some(128)), []);
}

#[test]
fn all_that_stops_is_told_at_once() {
    let findings = found(200_000, |facts| {
        facts.memory_available = Some(1);
        facts.files = Some(Bounded { limit: 5, used: 5 });
        facts.somaxconn = Some(1);
    });
    assert_eq!(findings.len(), 3);
    let error = verdict(findings.clone(), false).unwrap_err();
    assert!(error.contains("MiB") && error.contains("file-max"), "{error}");
    assert!(!error.contains("somaxconn"), "{error}");
    assert_eq!(verdict(findings, true).unwrap().len(), 3);
}
