//! A: messages over the limit are dropped without a word.

use serde_json::{Value, json};
use tidegate::{Endpoint, Over, Rate, Route};

use crate::client::{CLOSE, Client, TEXT, frame};
use crate::speakers::Mef;
use crate::{addr, both, stats_until};

/// The longest message there may be.
const MAX: usize = 1024;
/// Messages at once where five may come at once.
const FLOOD: usize = 30;

/// A request of system A of exactly so many bytes.
fn request(id: &str, length: usize) -> String {
    let text = |pad: usize| {
        let header = json!({"id": id, "isSync": true});
        let router = json!({"option": "echo", "resource": "x"});
        json!({"header": header, "router": router, "content": "x".repeat(pad)}).to_string()
    };
    let bare = text(0).len();
    text(length - bare)
}

#[test]
fn a_message_over_the_limit_is_answered_by_a_close_that_says_so() {
    both(|setup| {
        let mut endpoint = Mef.endpoint().route("echo:x", |ctx, message| ctx.reply(message.body));
        endpoint.max_message_bytes = Some(MAX);
        let running = setup.serve(endpoint);
        let mut client = Client::open(addr(&running), &Mef.path());
        // All in one write: what came before it is answered, and what comes behind is not.
        let sent = [request("a", MAX), request("b", MAX), request("c", MAX + 1), request("d", 100)];
        let sent: Vec<_> = sent.iter().flat_map(|text| frame(TEXT, text.as_bytes())).collect();
        client.send(&sent);
        for id in ["a", "b"] {
            let answer: Value = client.json();
            assert_eq!(answer["header"]["parentId"], id);
        }
        let why = client.expect_close_and_end(1009);
        assert!(!why.is_empty(), "it says why");
        drop(client);
        let stats = stats_until(&running, "its count", |s| s["closes"]["too_big"] == 1);
        assert_eq!(stats["totals"]["messages_in"], 2);
    });
}

#[test]
fn messages_over_the_rate_are_answered_one_and_all() {
    both(|setup| {
        let endpoint = Mef.endpoint().route("echo:x", |ctx, message| ctx.reply(message.body));
        let endpoint = endpoint.message_rate(Rate::per_s(1).burst(5)).over_limit(Over::Reject);
        let running = setup.serve(endpoint);
        let mut client = Client::open(addr(&running), &Mef.path());
        let sent = (0..40).map(|id| request(&id.to_string(), 200));
        let sent: Vec<_> = sent.flat_map(|text| frame(TEXT, text.as_bytes())).collect();
        client.send(&sent);
        let mut refused = 0;
        for id in 0..40 {
            let answer: Value = client.json();
            assert_eq!(answer["header"]["parentId"], id.to_string(), "{answer}");
            refused += u64::from(answer.to_string().contains("more messages than the limit"));
        }
        assert!((1..=35).contains(&refused), "{refused}");
        let stats = stats_until(&running, "all of them", |s| s["totals"]["messages_out"] == 40);
        assert_eq!(stats["limits"]["messages_reject"], refused);
    });
}

fn echo() -> Route {
    Route::new(|ctx, message| ctx.reply(message.body))
}

/// What is limited: each connection's messages, or those of a route.
fn limited(over: Over) -> [Endpoint; 2] {
    let rate = Rate::per_s(20).burst(5);
    [
        Mef.endpoint().route_with("echo:x", echo()).message_rate(rate).over_limit(over),
        Mef.endpoint().route_with("echo:x", echo().rate(rate, over)),
    ]
}

/// Which of so many messages at once are answered well, which with error 429, and the code of the
/// Close that comes behind them, if one is to come.
fn flood(client: &mut Client, closes: bool) -> (Vec<usize>, Vec<usize>, Option<u16>) {
    let requests = (0..FLOOD).map(|n| request(&n.to_string(), 200));
    let bytes: Vec<_> = requests.flat_map(|text| frame(TEXT, text.as_bytes())).collect();
    client.send(&bytes);
    let (mut well, mut refused) = (Vec::new(), Vec::new());
    while closes || well.len() + refused.len() < FLOOD {
        let next = client.frame().expect("an answer or a Close, not the end");
        if next.opcode == CLOSE {
            return (well, refused, next.close_code());
        }
        let answer: Value = serde_json::from_slice(&next.payload).expect("JSON");
        let n = answer["header"]["parentId"].as_str().expect("its request's id").parse().unwrap();
        match answer["content"]["error"]["code"].as_u64() {
            None => well.push(n),
            Some(code) => {
                assert_eq!(code, 429, "{answer}");
                refused.push(n);
            }
        }
    }
    (well, refused, None)
}

#[test]
fn every_message_over_a_rate_is_heard_of() {
    both(|setup| {
        for over in [Over::Delay, Over::Reject, Over::Close] {
            for endpoint in limited(over) {
                let running = setup.serve(endpoint);
                let mut client = Client::open(addr(&running), &Mef.path());
                let (well, refused, code) = flood(&mut client, over == Over::Close);
                let all: Vec<_> = (0..FLOOD).collect();
                match over {
                    Over::Delay => assert_eq!((well, refused, code), (all, vec![], None)),
                    Over::Reject => {
                        assert!(well.len() >= 5 && !refused.is_empty() && code.is_none());
                    }
                    Over::Close => {
                        assert_eq!(code, Some(1008));
                        // All before it were answered, and those behind it know that they were not.
                        assert!(well.len() >= 5 && well == all[..well.len()], "{well:?}");
                    }
                }
                let stats = running.stats();
                let hits = stats["limits"].as_object().expect("counters").values();
                assert!(hits.filter_map(Value::as_u64).sum::<u64>() > 0, "{:#}", stats["limits"]);
            }
        }
    });
}
