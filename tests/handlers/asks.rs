//! What the gateway asks clients.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::{
    AskError, Body, ConnId, Context, Dialect, Endpoint, Gateway, GatewayBuilder, Message, Route,
    RunOn, Running,
};

use crate::client::{Client, PING, PONG, frame};
use crate::speakers::{Action, Event, Heard, Hub, Json, Kim, Mef, Speaker, everywhere};
use crate::{both, endpoint, got, late, nothing, open, open_apart, stats_until, tell, telling_ids};

/// What came of an ask.
pub(crate) type Outcome = Result<Value, AskError>;

/// Hands out what came of an ask.
pub(crate) fn telling(
    outcomes: &Sender<Outcome>,
) -> impl FnOnce(Result<Body<'_>, AskError>) + Send + 'static + use<> {
    let outcomes = outcomes.clone();
    move |answer| {
        let value = |body: Body<'_>| {
            let text = String::from_utf8(body.as_bytes().to_vec()).expect("text");
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        };
        // The test may have ended.
        let _ = outcomes.send(answer.map(value));
    }
}

pub(crate) const LONG: Duration = Duration::from_secs(600);

/// A gateway that speaks everything, with the routes `id`, and `go`, which asks its sender.
fn asking() -> (GatewayBuilder, Receiver<ConnId>, Receiver<Outcome>) {
    let ((ids, told), (outcomes, outcome)) = (mpsc::channel(), mpsc::channel());
    let builder = everywhere(Gateway::builder(), |tongue, endpoint| {
        let outcomes = outcomes.clone();
        let endpoint = tongue.route(endpoint, "id", tell(&ids));
        tongue.route(endpoint, "go", move |ctx, m| {
            ctx.ask(ctx.conn(), &tongue.key("ask"), m.body, LONG, telling(&outcomes));
            ctx.reply("asked");
        })
    });
    (builder, told, outcome)
}

#[test]
fn clients_answer_in_their_dialects() {
    both(|setup| {
        let (builder, _, outcome) = asking();
        let running = setup.start(builder);
        for tongue in [Json, Mef, Kim, Hub] {
            let mut peer = Speaker::open(&running, tongue);
            for number in [3, 5, 7] {
                let question = json!({"n": number});
                peer.request("go", 2, &question);
                let (token, found, body) = peer.hear_ask();
                assert_eq!((found, body), (number, question), "{tongue:?}");
                assert_eq!(peer.hear(), peer.answer_to(2, json!("asked")), "{tongue:?}");
                nothing(&outcome);
                peer.answer(&token, &json!({"answer": number}));
                assert_eq!(got(&outcome), Ok(json!({"answer": number})), "{tongue:?}");
            }
            // A second answer is nobody's, and neither is one to what was never asked.
            let before = late(&running);
            if tongue != Mef {
                peer.answer("3", &json!("again"));
                peer.answer("99", &json!("never asked"));
                stats_until(&running, "both counted", |s| s["late_answers"] == before + 2);
            }
            nothing(&outcome);
        }
    });
}

#[test]
fn clients_say_that_they_failed() {
    both(|setup| {
        let (builder, _, outcome) = asking();
        let running = setup.start(builder);
        for tongue in [Json, Mef, Kim] {
            let mut peer = Speaker::open(&running, tongue);
            peer.request("go", 2, &json!(null));
            let (token, ..) = peer.hear_ask();
            peer.fail(&token, &json!("no luck"));
            match got(&outcome) {
                Err(AskError::Failed(why)) => assert!(why.contains("no luck"), "{tongue:?} {why}"),
                other => panic!("{tongue:?}: {other:?}"),
            }
        }
    });
}

#[test]
fn double_answers_sent_at_once_are_delivered_once() {
    both(|setup| {
        let (builder, _, outcome) = asking();
        let running = setup.start(builder);
        let mut peer = Speaker::open(&running, Json);
        for n in 0..20 {
            peer.request("go", 2, &json!(n));
            let (token, ..) = peer.hear_ask();
            assert_eq!(peer.hear(), peer.answer_to(2, json!("asked")));
            for _ in 0..3 {
                peer.answer(&token, &json!(n));
            }
            assert_eq!(got(&outcome), Ok(json!(n)));
            stats_until(&running, "the others counted", |s| s["late_answers"] == 2 * (n + 1));
        }
        nothing(&outcome);
    });
}

#[test]
fn dialects_that_cannot_ask() {
    both(|setup| {
        let (builder, told, outcome) = asking();
        let running = setup.start(builder);
        let (outcomes, from_outside) = mpsc::channel();
        for tongue in [Event, Action] {
            let mut peer = Speaker::open(&running, tongue);
            peer.request("go", 2, &json!(null));
            assert_eq!(got(&outcome), Err(AskError::Unsupported), "{tongue:?}");
            assert_eq!(peer.hear(), peer.answer_to(2, json!("asked")));
            peer.request("id", 2, &json!(null));
            ask(&running, got(&told), LONG, &outcomes);
            assert_eq!(got(&from_outside), Err(AskError::Unsupported), "{tongue:?}");
        }
    });
}

pub(crate) fn ask(running: &Running, conn: ConnId, timeout: Duration, to: &Sender<Outcome>) {
    running.gateway().ask(conn, "ask", "a question", timeout, telling(to)).expect("it runs");
}

#[test]
fn from_a_plain_thread() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let running = setup.serve(endpoint);
        let (mut peer, id) = crate::open_known(&running, &told);
        let (outcomes, outcome) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10).for_each(|_| ask(&running, id, LONG, &outcomes)));
            }
        });
        let mut numbers: Vec<u64> = (0..40)
            .map(|_| {
                let ask = peer.json();
                assert_eq!((&ask["event"], &ask["data"]), (&json!("ask"), &json!("a question")));
                ask["ask"].as_u64().unwrap()
            })
            .collect();
        numbers.sort_unstable();
        let odd: Vec<u64> = (1..=40).map(|n| 2 * n + 1).collect();
        assert_eq!(numbers, odd);
        for number in numbers {
            peer.text(&json!({"answer": number, "body": number}).to_string());
            assert_eq!(got(&outcome), Ok(json!(number)));
        }
        nothing(&outcome);
    });
}

#[test]
fn of_another_connection() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let (outcomes, outcome) = mpsc::channel();
        let (targets, target) = mpsc::channel::<ConnId>();
        let target = std::sync::Mutex::new(target);
        let endpoint = endpoint.route("relay", move |ctx, m| {
            let other = got(&target.lock().unwrap());
            ctx.ask(other, "relayed", m.body, LONG, telling(&outcomes));
        });
        let running = setup.serve(endpoint);
        let mut peers = open_apart(&running, &told);
        for _ in 0..2 {
            peers.reverse();
            let [(asker, _), (asked, id)] = &mut peers;
            targets.send(*id).unwrap();
            assert_eq!(asker.ask("relay", 1, json!({"q": 1}))["body"], json!(null));
            let question = json!({"event": "ask", "ask": 3, "route": "relayed", "data": {"q": 1}});
            assert_eq!(asked.json(), question);
            // Nobody else can answer it.
            asker.text(&json!({"answer": 3, "body": "not mine"}).to_string());
            asker.ask("echo", 2, json!(null));
            nothing(&outcome);
            asked.text(&json!({"answer": 3, "body": "mine"}).to_string());
            assert_eq!(got(&outcome), Ok(json!("mine")));
        }
        assert_eq!(late(&running), 2);
    });
}

/// What an answer of a `hub` client sets off beside: its protocol's handler runs as well.
#[test]
fn a_hub_clients_answer_is_routed_too() {
    both(|setup| {
        let (outcomes, outcome) = mpsc::channel();
        let (seen, routed) = mpsc::channel();
        let endpoint = Hub.route(Hub.endpoint(), "go", move |ctx, m| {
            ctx.ask(ctx.conn(), &Hub.key("ask"), m.body, LONG, telling(&outcomes));
        });
        let endpoint = Hub.route(endpoint, "ask", move |ctx: &mut Context<'_>, m: &Message<'_>| {
            assert!(m.correlation.is_none() && !ctx.wants_answer());
            seen.send(String::from_utf8(m.body.as_bytes().to_vec()).unwrap()).unwrap();
        });
        let running = setup.serve(endpoint);
        let mut peer = Speaker::open(&running, Hub);
        peer.request("go", 2, &json!("q"));
        let (token, ..) = peer.hear_ask();
        assert_eq!(peer.hear(), Heard::Answer { id: 2, body: json!("") });
        peer.answer(&token, &json!("yes"));
        assert_eq!(got(&outcome), Ok(json!("yes")));
        assert_eq!(got(&routed), "yes");
        // One to what was never asked is counted, and routed all the same.
        peer.answer("99", &json!("no"));
        assert_eq!(got(&routed), "no");
        assert_eq!(late(&running), 1);
        nothing(&outcome);
    });
}

/// Wherever there is a context, there is a way to ask.
#[test]
fn from_hooks_runners_and_handlers_that_block() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let (outcomes, outcome) = mpsc::channel();
        let asking = |question: &'static str| {
            let outcomes = outcomes.clone();
            move |ctx: &mut Context<'_>| {
                ctx.ask(ctx.conn(), question, "", LONG, telling(&outcomes));
            }
        };
        let (blocks, pings) = (asking("blocking"), asking("ping"));
        let blocking = Route::new(move |ctx, _| blocks(ctx)).run_on(RunOn::Blocking);
        let endpoint = endpoint
            .on_established(asking("established"))
            .on_ping(move |ctx, _| pings(ctx))
            .pull("mail", asking("pulled"))
            .route_with("blocking", blocking);
        let running = setup.serve(endpoint);
        let mut peer = open(&running);
        let answers = |peer: &mut Client, question: &str| {
            let ask = peer.json();
            assert_eq!(ask["route"], question);
            peer.text(&json!({"answer": ask["ask"], "body": question}).to_string());
            assert_eq!(got(&outcome), Ok(json!(question)));
        };
        answers(&mut peer, "established");
        peer.request("id", 1, json!(null));
        let id = got(&told);
        assert_eq!(peer.json()["id"], 1);
        peer.send(&frame(PING, b""));
        peer.expect(PONG, b"");
        answers(&mut peer, "ping");
        running.gateway().signal(id, "mail").unwrap();
        answers(&mut peer, "pulled");
        running.gateway().run_on(id, asking("run on")).unwrap();
        answers(&mut peer, "run on");
        peer.request("blocking", 2, json!(null));
        let mut heard = [peer.json(), peer.json()];
        heard.sort_by_key(|message| message["id"].as_u64());
        assert_eq!((&heard[0]["route"], &heard[1]["id"]), (&json!("blocking"), &json!(2)));
        peer.text(&json!({"answer": heard[0]["ask"], "body": 1}).to_string());
        assert_eq!(got(&outcome), Ok(json!(1)));
        nothing(&outcome);
    });
}

#[test]
fn a_callback_may_use_the_gateway() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let running = setup.serve(endpoint);
        let (mut peer, id) = crate::open_known(&running, &told);
        let gateway = running.gateway().clone();
        let again = gateway.clone();
        gateway
            .ask(id, "first", "", LONG, move |_| {
                again.push(id, "thanks").unwrap();
                again.ask(id, "second", "", LONG, |_| {}).unwrap();
            })
            .unwrap();
        assert_eq!(peer.json()["route"], "first");
        peer.text(r#"{"answer":3,"body":1}"#);
        assert_eq!(peer.json()["data"], "thanks");
        assert_eq!(peer.json()["route"], "second");
    });
}

/// Whatever came of the ask.
#[test]
fn a_callback_that_panics_ends_nothing() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let running = setup.serve(endpoint);
        let (mut peer, id) = crate::open_known(&running, &told);
        let gateway = running.gateway();
        let ask = |timeout| {
            gateway.ask(id, "q", "", timeout, |_| panic!("a callback's panic")).unwrap();
        };
        ask(LONG);
        assert_eq!(peer.json()["ask"], 3);
        peer.text(r#"{"answer":3,"body":1}"#);
        stats_until(&running, "1: answered", |s| s["worker_totals"]["panics"] == 1);
        ask(Duration::ZERO);
        stats_until(&running, "2: due", |s| s["worker_totals"]["panics"] == 2);
        for _ in 0..101 {
            ask(LONG);
        }
        stats_until(&running, "3: too many", |s| s["worker_totals"]["panics"] == 3);
        for _ in 0..101 {
            peer.json();
        }
        peer.close(1000);
        peer.expect_close(1000);
        stats_until(&running, "100 more: closed", |s| s["worker_totals"]["panics"] == 103);
        ask(LONG);
        stats_until(&running, "1 more: gone", |s| s["worker_totals"]["panics"] == 104);
        assert!(!running.has_failed());
        assert_eq!(open(&running).ask("echo", 1, json!(1))["body"], 1);
    });
}

#[test]
fn a_raw_client_cannot_be_asked() {
    both(|setup| {
        let (ids, told) = mpsc::channel();
        let running = setup.serve(Endpoint::new("/raw", Dialect::Raw).fallback(tell(&ids)));
        let mut peer = Client::open(crate::addr(&running), "/raw");
        peer.text("?");
        let id = got(&told);
        let (outcomes, outcome) = mpsc::channel();
        ask(&running, id, LONG, &outcomes);
        assert_eq!(got(&outcome), Err(AskError::Unsupported));
        let panics = |_: Result<Body<'_>, AskError>| panic!("a callback's panic");
        running.gateway().ask(id, "q", "", LONG, panics).unwrap();
        stats_until(&running, "it caught", |s| s["worker_totals"]["panics"] == 1);
        running.gateway().push(id, "alive").unwrap();
        assert_eq!(peer.read_text(), "alive");
        assert!(!running.has_failed());
    });
}
