//! What handlers note of a connection.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use serde_json::json;
use tidegate::{Route, RunOn, Store};

use crate::{all_gone, both, endpoint, got, only, open};

#[test]
fn increments_from_many_threads() {
    both(|setup| {
        let (tx, stores) = mpsc::channel::<Arc<Store>>();
        let count = |ctx: &mut tidegate::Context<'_>, _: &tidegate::Message<'_>| {
            ctx.store().incr("n", 1).unwrap();
        };
        let endpoint = endpoint()
            .route("store", move |ctx, _| tx.send(ctx.store()).expect("the test waits"))
            .route("inline", count)
            .route_with("blocking", Route::new(count).run_on(RunOn::Blocking))
            .route("sum", |ctx, _| {
                let sum = ctx.store().get("n").and_then(|n| n.as_int());
                ctx.reply_json(&sum);
            });
        let running = setup.serve(endpoint);
        let (mut peer, mut other) = (open(&running), open(&running));
        peer.ask("store", 0, json!(null));
        let store = got(&stores);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| assert!(store.incr("n", 1).is_ok())));
            }
            for id in 0..500 {
                peer.request("inline", id, json!(null));
                peer.request("blocking", id, json!(null));
            }
            (0..1000).for_each(|_| drop(peer.json()));
        });
        assert_eq!(peer.ask("sum", 1, json!(null))["body"], 5000);
        assert_eq!(other.ask("sum", 2, json!(null))["body"], json!(null), "each has its own");
    });
}

#[test]
fn it_ends_with_its_connection() {
    both(|setup| {
        let kept: Arc<Mutex<Vec<Arc<Store>>>> = Arc::default();
        let keep = Arc::clone(&kept);
        let endpoint = endpoint().route("count", move |ctx, _| {
            let store = ctx.store();
            let count = store.incr("n", 1).unwrap();
            keep.lock().unwrap().push(store);
            ctx.reply_json(&count);
        });
        let running = setup.start_with(only(endpoint), |config| config.loops = 1);
        let mut peer = open(&running);
        assert_eq!(peer.ask("count", 1, json!(null))["body"], 1);
        assert_eq!(peer.ask("count", 2, json!(null))["body"], 2);
        drop(peer);
        all_gone(&running);
        // The heir of its slot begins anew.
        assert_eq!(open(&running).ask("count", 1, json!(null))["body"], 1);
        let kept = kept.lock().unwrap();
        assert!(Arc::ptr_eq(&kept[0], &kept[1]) && !Arc::ptr_eq(&kept[0], &kept[2]));
        crate::stats_until(&running, "the end", |s| s["totals"]["connections"] == 0);
        // Nobody holds it but this test.
        let deadline = std::time::Instant::now() + crate::PATIENCE;
        while Arc::strong_count(&kept[0]) != 2 {
            assert!(std::time::Instant::now() < deadline, "it is still held");
            thread::yield_now();
        }
    });
}
