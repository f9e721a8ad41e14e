//! Tests of the statistics object and its file.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use super::*;
use crate::telemetry::memory::Charge;
use crate::telemetry::stages::{StageCollector, StageRecorder};

fn depth(n: usize) -> Depth {
    Box::new(move || n)
}

fn registry() -> Registry {
    let loops = (0..2)
        .map(|i| {
            let counters = Arc::new(LoopCounters::default());
            counters.opened.add(10 + i);
            counters.messages_in.add(100);
            counters.closes.at(CloseCause::PongTimeout as usize).add(3);
            counters.drops.at(DropCause::StaleConnection as usize).add(i);
            counters.limits.at(LimitHit::RouteReject as usize).add(i);
            LoopSource { counters, mailbox_depth: depth(5) }
        })
        .collect();
    let counters = Arc::new(WorkerCounters::default());
    counters.batches.add(77);
    counters.limits.at(LimitHit::RouteReject as usize).add(4);
    let worker = WorkerSource { counters, queue_depth: depth(6), room_queue_depth: depth(7) };
    Registry::new(loops, vec![worker], MemoryGauge::new(1 << 20))
}

fn names<'a>(value: &'a Value, at: &str) -> Vec<&'a str> {
    value.pointer(at).unwrap().as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn counts_stand_at_their_loop_and_worker_and_in_the_totals() {
    let snapshot = registry().snapshot(&StageHistograms::new(), Map::new());
    for (at, n) in [
        ("/loops/0/index", 0),
        ("/loops/1/index", 1),
        ("/loops/1/opened", 11),
        ("/loops/1/mailbox_depth", 5),
        ("/loops/1/paused", 0),
        ("/loops/1/closes/pong_timeout", 3),
        ("/workers/0/index", 0),
        ("/workers/0/batches", 77),
        ("/workers/0/queue_depth", 6),
        ("/workers/0/room_queue_depth", 7),
        ("/worker_totals/batches", 77),
        ("/totals/opened", 21),
        ("/totals/messages_in", 200),
        ("/totals/bytes_out", 0),
        ("/closes/pong_timeout", 6),
        ("/closes/peer_close", 0),
        ("/refusals/not_found", 0),
        ("/drops/stale_connection", 1),
        ("/workers/0/limits/route_reject", 4),
        ("/limits/route_reject", 5),
        ("/limits/messages_delay", 0),
        ("/pid", process::id()),
    ] {
        assert_eq!(snapshot.pointer(at), Some(&Value::from(n)), "{at}");
    }
    assert_eq!(snapshot["version"], env!("CARGO_PKG_VERSION"));
    assert!(snapshot["uptime_s"].as_f64().unwrap() >= 0.0);
    assert!(snapshot["started_at"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn every_cause_has_its_place() {
    let snapshot = registry().snapshot(&StageHistograms::new(), Map::new());
    for (map, causes) in [
        ("closes", CloseCause::ALL.iter().map(|c| c.name()).collect::<Vec<_>>()),
        ("refusals", RefusalCause::ALL.iter().map(|c| c.name()).collect()),
        ("drops", DropCause::ALL.iter().map(|c| c.name()).collect()),
        ("limits", LimitHit::ALL.iter().map(|c| c.name()).collect()),
    ] {
        for at in [format!("/{map}"), format!("/loops/0/{map}")] {
            let found = names(&snapshot, &at);
            assert_eq!(found.len(), causes.len());
            assert!(causes.iter().all(|cause| found.contains(cause)), "{at}: {found:?}");
        }
    }
}

#[test]
fn buffers_add_up_to_their_total() {
    let registry = registry();
    let charges = Component::ALL.map(|c| Charge::new(&registry.memory, c, 1000 + c as usize));
    let snapshot = registry.snapshot(&StageHistograms::new(), Map::new());
    let buffers = &snapshot["buffers"];
    assert_eq!(buffers["frame_bytes"], 1000);
    assert_eq!(buffers["outbox_bytes"], 1001);
    assert_eq!(buffers["inbound_bytes"], 1002);
    assert_eq!(buffers["arena_bytes"], 1003);
    assert_eq!(buffers["room_bytes"], 1004);
    assert_eq!(buffers["tls_bytes"], 1005);
    assert_eq!(buffers["deflate_bytes"], 1006);
    assert_eq!(buffers["total_bytes"], 7021);
    assert_eq!(buffers["limit_bytes"], 1 << 20);
    drop(charges);
    let snapshot = registry.snapshot(&StageHistograms::new(), Map::new());
    assert_eq!(snapshot["buffers"]["total_bytes"], 0);
}

#[test]
fn latencies_are_quantiles_in_microseconds() {
    let mut recorder = StageRecorder::new();
    let mut collector = StageCollector::new(vec![recorder.cell()]);
    recorder.record(Stage::ReadToWritten, Duration::from_micros(100), 899);
    recorder.record(Stage::ReadToWritten, Duration::from_micros(200), 95);
    recorder.record(Stage::ReadToWritten, Duration::from_micros(5_000), 5);
    recorder.record(Stage::ReadToWritten, Duration::from_secs(70), 1);
    recorder.publish_before_sleep();
    collector.collect();
    let snapshot = registry().snapshot(collector.total(), Map::new());
    let stage = &snapshot["latency"]["read_written"];
    assert_eq!((&stage["count"], &stage["clamped"]), (&1000.into(), &1.into()));
    assert_eq!((&stage["p50_us"], &stage["p90_us"]), (&100.into(), &200.into()));
    let p999 = stage["p999_us"].as_u64().unwrap();
    assert!((5_000..5_050).contains(&p999), "{p999}");
    assert_eq!(stage["max_us"], STAGE_MAX_US);
    let idle = &snapshot["latency"]["accept_upgraded"];
    assert_eq!(
        (&idle["count"], &idle["p99_us"], &idle["max_us"]),
        (&0.into(), &0.into(), &0.into())
    );
    assert_eq!(names(&snapshot, "/latency").len(), Stage::ALL.len());
}

#[test]
fn extra_fields_stand_beside_the_others() {
    let mut extra = Map::new();
    extra.insert("fd_table".to_owned(), "private".into());
    let snapshot = registry().snapshot(&StageHistograms::new(), extra);
    assert_eq!(snapshot["fd_table"], "private");
    assert_eq!(snapshot["totals"]["opened"], 21);
}

#[test]
fn readers_see_whole_files_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stats.json");
    let value = |n: usize| json!({ "n": n, "filling": "x".repeat(n * 1000) });
    write_atomically(&path, &value(0)).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..200 {
                write_atomically(&path, &value(n % 50)).unwrap();
            }
            done.store(true, Relaxed);
        });
        while !done.load(Relaxed) {
            let text = fs::read_to_string(&path).unwrap();
            let read: Value = serde_json::from_str(&text).unwrap();
            let n = read["n"].as_u64().unwrap() as usize;
            assert_eq!(read["filling"].as_str().unwrap().len(), n * 1000);
        }
    });
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file stayed");
}

#[test]
fn errors_name_the_path_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing").join("stats.json");
    let error = write_atomically(&missing, &json!({})).unwrap_err();
    assert!(error.to_string().contains(missing.to_str().unwrap()), "{error}");

    let taken = dir.path().join("directory");
    fs::create_dir(&taken).unwrap();
    assert!(write_atomically(&taken, &json!({})).is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file stayed");
}

#[test]
fn links_are_followed_and_devices_stay_devices() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link) = (dir.path().join("stats.json"), dir.path().join("link"));
    fs::write(&file, "old").unwrap();
    symlink(&file, &link).unwrap();
    write_atomically(&link, &json!({"n": 1})).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "{\"n\":1}\n");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());

    let null = dir.path().join("null");
    symlink("/dev/null", &null).unwrap();
    write_atomically(&null, &json!({"n": 1})).unwrap();
    assert!(!fs::metadata(&null).unwrap().is_file());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "a temporary file stayed");
}
