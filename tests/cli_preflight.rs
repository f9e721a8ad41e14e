//! `tidegate check` against machines made of files, and the probes on this one.

use std::fs;

use clap::Parser;
use tempfile::TempDir;
use tidegate::config::{CgroupLimit, Cli, Config, Machine, OutputFormat, Sysfs, planned};
use tidegate::preflight::{
    Facts, Finding, Status, check, in_the_way, probe_close_range, probe_unshare, run_with,
    write_text,
};

/// Files under a directory that stands in for `/`.
fn tree(files: &[(&str, &str)]) -> (TempDir, Sysfs) {
    let directory = tempfile::tempdir().expect("a directory");
    for (path, text) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, text).expect("a file");
    }
    let sysfs = Sysfs { root: directory.path().to_owned() };
    (directory, sysfs)
}

/// A machine as it comes: 2 cores, 24 GiB, defaults of the kernel.
const PLAIN: &[(&str, &str)] = &[
    ("proc/sys/fs/nr_open", "1048576\n"),
    ("proc/sys/fs/file-max", "2466193\n"),
    ("proc/sys/fs/file-nr", "1200\t0\t2466193\n"),
    ("proc/sys/fs/epoll/max_user_watches", "5491533\n"),
    ("proc/sys/net/core/somaxconn", "4096\n"),
    ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ("proc/sys/net/ipv4/tcp_mem", "287901\t383869\t575802\n"),
    ("proc/sys/net/ipv4/tcp_max_orphans", "131072\n"),
    ("proc/sys/net/ipv4/tcp_max_tw_buckets", "131072\n"),
    ("proc/sys/kernel/threads-max", "192000\n"),
    ("proc/loadavg", "0.20 0.18 0.12 1/80 11206\n"),
    ("proc/meminfo", "MemTotal:       25165824 kB\nMemFree: 1 kB\nMemAvailable:   20971520 kB\n"),
    ("proc/self/cgroup", "0::/app.slice/tidegate\n"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
];

fn plain_facts() -> Facts {
    let (_directory, sysfs) = tree(PLAIN);
    Facts { descriptors_soft: 1024, descriptors_hard: 20_000, ..Facts::read_files(&sysfs) }
}

fn machine() -> Machine {
    Machine {
        cores: 2,
        descriptor_limit: 20_000,
        memory_total_bytes: Some(24 << 30),
        cgroup_memory_bytes: None,
    }
}

fn cli(args: &str) -> Cli {
    let args = ["tidegate", "check"].into_iter().chain(args.split_whitespace());
    Cli::try_parse_from(args).expect("arguments that clap takes")
}

fn wanted(args: &str) -> Config {
    planned(&cli(args), &machine()).expect("sound flags")
}

fn finding<'a>(findings: &'a [Finding], name: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.name == name).unwrap_or_else(|| panic!("no {name}"))
}

/// What one limit is found to be after `change`, for 100,000 connections.
fn found(name: &str, change: impl FnOnce(&mut Facts)) -> (Status, String) {
    let mut facts = plain_facts();
    change(&mut facts);
    let findings = check(&wanted("--max-connections 100000"), &facts);
    let finding = finding(&findings, name);
    (finding.status, finding.fix.clone().unwrap_or_default())
}

#[test]
fn facts_are_read_from_files() {
    let facts = plain_facts();
    assert_eq!(
        (facts.nr_open, facts.file_max, facts.files_open),
        (Some(1_048_576), Some(2_466_193), 1200)
    );
    assert_eq!(facts.port_range, Some((32_768, 60_999)));
    assert_eq!(facts.tcp_mem_pages, Some([287_901, 383_869, 575_802]));
    assert_eq!((facts.threads_max, facts.threads), (Some(192_000), 80));
    assert_eq!(facts.huge_pages.as_deref(), Some("madvise"));
    assert_eq!(facts.memory_available_bytes, Some(20 << 30));
    assert_eq!(
        (facts.conntrack_max, &facts.cgroup_memory, &facts.cgroup_pids),
        (None, &None, &None)
    );
}

#[test]
fn machine_facts_are_the_smaller_of_memory_and_cgroup() {
    let mut files = PLAIN.to_vec();
    files.push(("sys/fs/cgroup/app.slice/memory.max", "1073741824\n"));
    files.push(("sys/fs/cgroup/app.slice/memory.current", "73741824\n"));
    files.push(("sys/fs/cgroup/app.slice/tidegate/memory.max", "max\n"));
    let (_directory, sysfs) = tree(&files);
    let machine = Machine::read_from(&sysfs).expect("limits");
    assert_eq!(machine.memory_total_bytes, Some(24 << 30));
    assert_eq!(machine.memory_bytes(), Some(1 << 30));
    assert!(machine.cores >= 1 && machine.descriptor_limit > 0);
}

#[test]
fn cgroups_of_both_versions_are_read_and_the_tightest_counts() {
    let v2 = [
        ("proc/self/cgroup", "0::/a/b\n"),
        ("sys/fs/cgroup/a/pids.max", "100\n"),
        ("sys/fs/cgroup/a/pids.current", "90\n"),
        ("sys/fs/cgroup/a/b/pids.max", "50\n"),
        ("sys/fs/cgroup/a/b/pids.current", "20\n"),
    ];
    let (_directory, sysfs) = tree(&v2);
    let limit = CgroupLimit { file: "/sys/fs/cgroup/a/pids.max".to_owned(), limit: 100, used: 90 };
    assert_eq!((sysfs.cgroup_pids(), sysfs.cgroup_memory()), (Some(limit), None));

    let v1 = [
        ("proc/self/cgroup", "8:cpu,pids:/x\n4:memory:/docker/f00\n0::/\n"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ("sys/fs/cgroup/memory/docker/f00/memory.limit_in_bytes", "4096000\n"),
        ("sys/fs/cgroup/pids/pids.max", "max\n"),
    ];
    let (_directory, sysfs) = tree(&v1);
    let file = "/sys/fs/cgroup/memory/docker/f00/memory.limit_in_bytes".to_owned();
    let limit = CgroupLimit { file, limit: 4_096_000, used: 0 };
    assert_eq!((sysfs.cgroup_memory(), sysfs.cgroup_pids()), (Some(limit), None));
}

#[test]
fn what_a_plain_machine_lacks_for_a_million() {
    let findings = check(&wanted("--max-connections 1000000"), &plain_facts());
    let not_ok: Vec<(&str, Status)> = findings
        .iter()
        .filter(|finding| finding.status != Status::Ok)
        .map(|finding| (finding.name, finding.status))
        .collect();
    assert_eq!(
        not_ok,
        [
            ("net.ipv4.ip_local_port_range", Status::Warn),
            ("net.ipv4.tcp_mem", Status::Warn),
            ("net.ipv4.tcp_max_orphans", Status::Warn),
            ("net.ipv4.tcp_max_tw_buckets", Status::Warn),
        ]
    );
    assert!(!in_the_way(&findings));
    let descriptors = finding(&findings, "descriptors per table");
    assert_eq!((&*descriptors.have, &*descriptors.want), ("soft 1024, hard 20000", "19848"));
    assert_eq!(
        finding(&findings, "net.ipv4.tcp_mem").fix.as_deref(),
        Some("sysctl -w net.ipv4.tcp_mem=\"750000 1000000 1500000\"")
    );
}

#[test]
fn one_table_that_is_too_small_is_in_the_way() {
    let wanted = wanted("--max-connections 30000 --fd-table shared");
    let findings = check(&wanted, &plain_facts());
    let descriptors = finding(&findings, "descriptors");
    assert_eq!(descriptors.status, Status::Fail);
    assert_eq!(descriptors.fix.as_deref(), Some("ulimit -n 30045"));
    assert!(descriptors.why.contains("--fd-table private --loops 2"), "{}", descriptors.why);
    assert_eq!(finding(&findings, "fs.nr_open").status, Status::Ok);
    let enough = Facts { descriptors_hard: 30_045, ..plain_facts() };
    assert!(!in_the_way(&check(&wanted, &enough)));
}

/// A limit, what happens to it, how that is judged, and how the command that lifts it begins.
type Case = (&'static str, fn(&mut Facts), Status, &'static str);

#[test]
fn limits_of_files_and_sockets_are_judged_and_the_command_lifts_them() {
    use Status::{Fail, Ok, Warn};
    let cases: &[Case] = &[
        ("fs.nr_open", |f| f.nr_open = Some(1024), Fail, "sysctl -w fs.nr_open="),
        ("fs.file-max", |f| f.file_max = Some(100_000), Fail, "sysctl -w fs.file-max=101"),
        ("fs.file-max", |f| f.file_max = Some(150_000), Ok, ""),
        ("fs.file-max", |f| (f.file_max, f.files_open) = (Some(150_000), 60_000), Fail, "sysctl"),
        ("fs.epoll.max_user_watches", |f| f.epoll_watches = Some(100_000), Fail, "sysctl -w fs.ep"),
        (
            "net.core.somaxconn",
            |f| f.somaxconn = Some(128),
            Warn,
            "sysctl -w net.core.somaxconn=4096",
        ),
        ("net.core.somaxconn", |f| f.somaxconn = None, Warn, ""),
        ("net.ipv4.ip_local_port_range", |f| f.port_range = Some((1024, 65_535)), Ok, ""),
        (
            "net.ipv4.tcp_mem",
            |f| f.tcp_mem_pages = Some([1, 99_999, 3]),
            Warn,
            "sysctl -w net.ipv4.tcp_mem=\"75000 100000 150000\"",
        ),
        (
            "net.ipv4.tcp_max_orphans",
            |f| f.tcp_max_orphans = Some(1),
            Warn,
            "sysctl -w net.ipv4.tcp_max_orphans=100000",
        ),
        (
            "net.ipv4.tcp_max_tw_buckets",
            |f| f.tcp_max_tw_buckets = Some(1),
            Warn,
            "sysctl -w net.ipv4.tcp_max_tw_buckets=100000",
        ),
        ("net.netfilter.nf_conntrack_max", |f| f.conntrack_max = Some(99_999), Warn, "sysctl"),
        ("net.netfilter.nf_conntrack_max", |_| (), Ok, ""),
    ];
    judge(cases);
}

#[test]
fn limits_of_threads_and_memory_are_judged_and_the_command_lifts_them() {
    use Status::{Fail, Warn};
    let cases: &[Case] = &[
        (
            "net.netfilter.nf_conntrack_max",
            |f| (f.conntrack_max, f.conntrack_count) = (Some(100_000), 5),
            Fail,
            "sysctl -w net.netfilter.nf_conntrack_max=100005",
        ),
        ("kernel.threads-max", |f| f.threads_max = Some(85), Fail, "sysctl -w kernel.threads-max="),
        // 100,000 idle connections take 413,600,000 bytes.
        ("cgroup memory", |f| f.cgroup_memory = group(413_599_999, 0), Fail, "echo "),
        ("cgroup memory", |f| f.cgroup_memory = group(413_600_000, 0), Warn, "echo "),
        ("cgroup memory", |f| f.cgroup_memory = group(1 << 30, 0), Warn, "echo "),
        ("cgroup pids", |f| f.cgroup_pids = group(30, 25), Fail, "echo 41 > /sys/fs/cgroup/x"),
        (
            "transparent huge pages",
            |f| f.huge_pages = Some("always".to_owned()),
            Warn,
            "echo madvise > /sys/kernel/mm/",
        ),
        (
            "memory available",
            |f| f.memory_available_bytes = Some(100 << 20),
            Fail,
            "tidegate --max-connections 12676",
        ),
        (
            "memory available",
            |f| f.memory_available_bytes = Some(1 << 30),
            Warn,
            "tidegate --memory-limit 629MiB",
        ),
        (
            "private descriptor tables",
            |f| f.unshare_refused = Some("EPERM".to_owned()),
            Fail,
            "docker run",
        ),
        ("close_range", |f| f.close_range_refused = Some("ENOSYS".to_owned()), Warn, ""),
    ];
    judge(cases);
}

fn judge(cases: &[Case]) {
    for &(name, change, status, fix) in cases {
        let (found_status, found_fix) = found(name, change);
        assert_eq!(found_status, status, "{name}: {found_fix}");
        assert!(
            found_fix.starts_with(fix) && found_fix.is_empty() == fix.is_empty(),
            "{name}: {found_fix:?}"
        );
    }
}

fn group(limit: u64, used: u64) -> Option<CgroupLimit> {
    Some(CgroupLimit { file: "/sys/fs/cgroup/x".to_owned(), limit, used })
}

#[test]
fn refused_private_tables_disturb_nobody_who_does_not_want_them() {
    let refused = Some("EPERM".to_owned());
    let facts =
        Facts { unshare_refused: refused.clone(), close_range_refused: refused, ..plain_facts() };
    let findings = check(&wanted("--max-connections 1000"), &facts);
    assert_eq!(finding(&findings, "private descriptor tables").status, Status::Ok);
    assert_eq!(finding(&findings, "close_range").status, Status::Ok);
}

fn ran(args: &str, format: OutputFormat, facts: &Facts) -> (String, String) {
    let mut out = Vec::new();
    let code = run_with(&cli(args), format, &machine(), facts, &mut out);
    (format!("{code:?}"), String::from_utf8(out).expect("text"))
}

#[test]
fn the_exit_code_says_whether_anything_is_in_the_way() {
    let code = |code: u8| format!("{:?}", std::process::ExitCode::from(code));
    let run = |args| ran(args, OutputFormat::Text, &plain_facts()).0;
    assert_eq!(run("--max-connections 1000000"), code(0));
    assert_eq!(run("--max-connections 30000 --fd-table shared"), code(1));
    assert_eq!(run("--max-connections many"), code(2));
}

#[test]
fn the_table_is_aligned_and_tells_why_and_what_to_do() {
    let args = "--max-connections 30000 --fd-table shared";
    let (_, text) = ran(args, OutputFormat::Text, &plain_facts());
    assert!(
        text.starts_with("30000 connections on 2 loops with one shared descriptor table"),
        "{text}"
    );
    assert!(text.contains("\nFAIL  descriptors "), "{text}");
    assert!(text.contains("\n      fix: ulimit -n 30045\n"), "{text}");
    assert!(text.ends_with("1 in the way; 1 more to look at\n"), "{text}");
    let rows =
        text.lines().filter(|line| line.starts_with("ok ") || line.starts_with("      limit"));
    let columns: Vec<usize> =
        rows.map(|row| row.rfind("  ").map(|at| at + 2).expect("a last column")).collect();
    assert!(
        columns.len() > 10 && columns.iter().all(|at| *at == columns[0]),
        "{columns:?}\n{text}"
    );
}

#[test]
fn json_has_every_finding() {
    let (_, text) = ran("--max-connections 1000000", OutputFormat::Json, &plain_facts());
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&json["connections"], &json["loops"]), (&1_000_000.into(), &51.into()));
    assert_eq!((&json["private_tables"], &json["in_the_way"]), (&true.into(), &false.into()));
    let findings = json["findings"].as_array().expect("findings");
    assert_eq!(findings.len(), 17);
    let orphans = findings.iter().find(|f| f["name"] == "net.ipv4.tcp_max_orphans").expect("it");
    assert_eq!((&orphans["status"], &orphans["have"]), (&"warn".into(), &"131072".into()));
    assert_eq!(orphans["fix"], "sysctl -w net.ipv4.tcp_max_orphans=1000000");
}

#[test]
fn an_empty_tree_is_unknown_not_a_panic() {
    let (_directory, sysfs) = tree(&[]);
    let config = wanted("--max-connections 10");
    let facts = Facts { descriptors_hard: 100, ..Facts::read_files(&sysfs) };
    let findings = check(&config, &facts);
    assert!(!in_the_way(&findings), "{findings:?}");
    let mut out = Vec::new();
    write_text(&config, &findings, &mut out).expect("written");
    assert!(String::from_utf8(out).expect("text").contains("unknown"));
    let (_directory, empty) =
        tree(&[("proc/sys/fs/file-nr", ""), ("proc/self/cgroup", "rubbish\n::")]);
    assert_eq!(Facts::read_files(&empty).files_open, 0);
}

/// The probes leave this process's table alone: a file opened before is still ours after.
#[test]
fn probes_touch_nothing_of_ours() {
    use std::io::{Read, Seek, Write};
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(b"here").expect("written");
    let (unshared, ranged) = (probe_unshare(), probe_close_range());
    file.rewind().expect("still open");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("still open");
    assert_eq!(text, "here");
    // Whether they are permitted is this machine's business; that they agree is not, since
    // whoever lets a thread part its table by one call has no reason to refuse the other.
    assert_eq!(unshared.is_ok(), ranged.is_ok(), "{unshared:?} {ranged:?}");
}

#[test]
fn this_machine_can_be_checked() {
    let facts = Facts::read(&Sysfs::system()).expect("facts");
    let machine = Machine::read().expect("facts");
    let config = planned(&cli("--max-connections 100"), &machine).expect("sound");
    assert_eq!(check(&config, &facts).len(), 17);
    assert_eq!(facts.descriptors_hard, machine.descriptor_limit);
}
