//! All of it at once, with every lane as short as can be: nothing is lost, and nothing waits for
//! ever.

use std::sync::mpsc;
use std::thread;

use serde_json::{Value, json};
use tidegate::{Body, Config, Context, Endpoint, Message, Route, RunOn, SelfDelivery};

use crate::asks::{LONG, Outcome, telling};
use crate::client::Client;
use crate::{all_gone, both, endpoint, got, nothing, only, open, stats_until};

const CLIENTS: u64 = 8;
/// Rounds of each client: of each kind of message one.
const ROUNDS: u64 = 40;

fn squeeze(config: &mut Config) {
    config.tuning.mailbox_capacity = 1;
    config.tuning.room_lane_capacity = 1;
    config.tuning.message_lane_capacity = 1;
    config.blocking_threads = 2;
}

/// Joins, speaks in the room, signals and leaves.
fn busy(ctx: &mut Context<'_>, m: &Message<'_>) {
    let room = format!("room {}", ctx.conn().to_bits() % 3);
    ctx.join(&room).unwrap();
    ctx.publish(&room, m.body, SelfDelivery::Exclude).unwrap();
    ctx.gateway().publish("hall", m.body).unwrap();
    ctx.signal(ctx.conn(), "mail");
    ctx.leave(&room).unwrap();
    ctx.reply(m.body);
}

fn everything(outcomes: &mpsc::Sender<Outcome>) -> Endpoint {
    let outcomes = outcomes.clone();
    endpoint()
        .route("inline", busy)
        .route_with("blocking", Route::new(busy).run_on(RunOn::Blocking).timeout(LONG))
        .route_with("pooled", Route::new(busy).run_on(RunOn::Pooled))
        .route("later", |ctx, m| {
            let (later, body) = (ctx.later(), m.body.as_str().unwrap().to_owned());
            thread::spawn(move || later.reply(Body::Json(&body)).unwrap());
        })
        .route("ask", move |ctx, m| {
            ctx.ask(ctx.conn(), "q", m.body, LONG, telling(&outcomes));
        })
        .pull("mail", |ctx| {
            ctx.store().incr("pulled", 1).unwrap();
            ctx.push(ctx.conn(), "pulled");
        })
        .before(|ctx, _| {
            ctx.store().incr("before", 1).unwrap();
            tidegate::Flow::Continue
        })
        .on_established(|ctx| ctx.join("hall").unwrap())
        .on_closed(|ended| ended.gateway.publish("hall", "gone").unwrap())
}

const ROUTES: [&str; 5] = ["inline", "blocking", "pooled", "later", "ask"];

/// Reads until all requests are answered, answers what is asked, and says how often.
fn talk(mut peer: Client) -> u64 {
    let mut writer = Client::over(peer.writer());
    let writing = thread::spawn(move || {
        for id in 0..ROUNDS * ROUTES.len() as u64 {
            let route = ROUTES[id as usize % ROUTES.len()];
            writer.request(route, id, json!(id));
        }
    });
    let mut open: Vec<u64> = (0..ROUNDS * ROUTES.len() as u64).collect();
    let mut asked = 0;
    while !open.is_empty() || asked < ROUNDS {
        let message = peer.json();
        if message["event"] == "ask" {
            asked += 1;
            let answer = json!({"answer": message["ask"], "body": message["data"]});
            peer.text(&answer.to_string());
        } else if let Some(id) = message["id"].as_u64() {
            let at = open.iter().position(|n| *n == id).expect("each is answered once");
            open.swap_remove(at);
            let is_ask = ROUTES[id as usize % ROUTES.len()] == "ask";
            assert_eq!(message["body"], if is_ask { Value::Null } else { json!(id) });
        }
    }
    writing.join().unwrap();
    // All that is behind its answers is done as well: only then does it go.
    peer.close(1000);
    while peer.frame().is_some_and(|frame| frame.opcode != crate::client::CLOSE) {}
    asked
}

#[test]
fn everything_at_once_with_the_shortest_lanes() {
    both(|setup| {
        let (outcomes, outcome) = mpsc::channel();
        let running = setup.start_with(only(everything(&outcomes)), squeeze);
        let talking: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let peer = open(&running);
                thread::spawn(move || talk(peer))
            })
            .collect();
        let asked: u64 = talking.into_iter().map(|client| client.join().unwrap()).sum();
        assert_eq!(asked, CLIENTS * ROUNDS);
        (0..asked).for_each(|_| drop(got(&outcome).expect("it was answered")));
        nothing(&outcome);
        all_gone(&running);
        let stats = stats_until(&running, "no room", |s| s["worker_totals"]["rooms"] == 0);
        assert_eq!(stats["worker_totals"]["panics"], 0);
        assert_eq!(stats["worker_totals"]["blocking_refused"], 0);
        assert_eq!(stats["worker_totals"]["errors"], 0);
        assert!(!running.has_failed());
        assert_eq!(running.stop(|| false).0, tidegate::Stopped::Clean);
    });
}
