//! A: messages over the limit are dropped without a word.

use serde_json::{Value, json};
use tidegate::{Over, Rate};

use crate::client::{Client, TEXT, frame};
use crate::speakers::Mef;
use crate::{addr, both, stats_until};

/// The longest message there may be.
const MAX: usize = 1024;

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
