use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::json::text::testing::{
    any_json, any_kind, any_text, broken, encoded, parsed, refused,
};
use super::*;

const REQUEST: &[u8] = br#"{"header":{"id":"5c9a1f60-77b0-4b5e-9c39-0d2f3a1b4c5d","parentId":"","isSync":true,"timestamp":1700000000000,"version":"1.0","nodeId":"n1","peerInfo":{"ip":"10.0.0.1","serialNumber":"s1"}},"router":{"source":"edge","destination":"center","option":"get","resource":"/node/info"},"route":{"source":"","group":"","operation":"","resource":""},"content":{"n":[1, 2]}}"#;

const TWIN: &[u8] = br#"{"header":{"msg_id":"m1","parent_msg_id":"","timestamp":1,"resourceversion":"7","sync":true},"route":{"source":"edged","group":"meta","operation":"query","resource":"pod/a"},"content":"c"}"#;

fn text(payload: &[u8]) -> Result<Message<'_>, NotUnderstood<'_>> {
    decode(MessageKind::Text, payload)
}

fn answer(correlation: Option<&[u8]>, answer: Result<Body<'_>, &ErrorAnswer<'_>>) -> String {
    encoded(|out| assert_eq!(encode_answer(out, correlation, answer), MessageKind::Text))
}

fn push(key: Option<&str>, body: Body<'_>) -> String {
    let push = Push { room: Some("tea"), from: None, key, body };
    encoded(|out| assert_eq!(encode_push(out, &push), MessageKind::Text))
}

/// A message with its ids and time replaced, where they are as they should be.
fn settled(message: &str) -> String {
    let header = &parsed(message)["header"];
    let (id, time) = (header["id"].as_str().unwrap(), header["timestamp"].as_u64().unwrap());
    assert_eq!((id.len(), header["msg_id"].as_str()), (36, Some(id)));
    assert!(time.abs_diff(now_ms()) < 60_000, "{time}");
    message.replace(id, "ID").replace(&time.to_string(), "TIME")
}

#[test]
fn a_request_of_the_reference() {
    let message = text(REQUEST).unwrap();
    assert_eq!((message.kind, &message.key), (Kind::Request, &Key::from("get:/node/info")));
    assert_eq!(message.body, Body::Json(r#"{"n":[1, 2]}"#));
    for (name, value) in [("/header/nodeId", "n1"), ("/header/peerInfo/ip", "10.0.0.1")] {
        assert_eq!(message.meta.get(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(
        settled(&answer(message.correlation.as_deref(), Ok(Body::Json(r#"{"ok": true}"#)))),
        concat!(
            r#"{"header":{"id":"ID","parentId":"5c9a1f60-77b0-4b5e-9c39-0d2f3a1b4c5d","#,
            r#""isSync":false,"timestamp":TIME,"version":"1.0","nodeId":"","#,
            r#""peerInfo":{"ip":"","serialNumber":""},"msg_id":"ID","#,
            r#""parent_msg_id":"5c9a1f60-77b0-4b5e-9c39-0d2f3a1b4c5d","sync":false,"#,
            r#""resourceversion":""},"router":{"source":"center","destination":"edge","#,
            r#""option":"get","resource":"/node/info"},"route":{"source":"center","group":"","#,
            r#""operation":"get","resource":"/node/info"},"content":{"ok": true}}"#
        )
    );
}

#[test]
fn a_request_of_the_twin() {
    let message = text(TWIN).unwrap();
    assert_eq!((message.kind, &message.key), (Kind::Request, &Key::from("query:pod/a")));
    let error = ErrorAnswer::new(404, "no route");
    let answer = parsed(&answer(message.correlation.as_deref(), Err(&error)));
    assert_eq!(answer["header"]["parent_msg_id"], "m1");
    assert_eq!(answer["header"]["sync"], false);
    let route = json!({"source": "", "group": "meta", "operation": "query", "resource": "pod/a"});
    assert_eq!(answer["route"], route);
    assert_eq!(answer["router"]["destination"], "edged");
    assert_eq!(answer["content"], json!({"error": {"code": 404, "message": "no route"}}));
}

#[test]
fn asynchronous_messages_may_be_answered() {
    let message = text(br#"{"header":{"id":"a"},"router":{"option":"o"}}"#).unwrap();
    assert_eq!((message.kind, &message.key), (Kind::Push, &Key::from("o:")));
    assert_eq!(message.body, Body::Json("null"));
    let answer = parsed(&answer(message.correlation.as_deref(), Ok(Body::Text("done"))));
    assert_eq!((&answer["header"]["parentId"], &answer["content"]), (&json!("a"), &json!("done")));
}

#[test]
fn what_says_nothing_has_no_key() {
    for payload in [&b"{}"[..], br#"{"header":null,"router":{},"route":null,"content":null}"#] {
        let message = text(payload).unwrap();
        assert!(message.key.is_none() && message.kind == Kind::Push);
        assert_eq!(message.body, Body::Json("null"));
    }
}

#[test]
fn pushes() {
    assert_eq!(
        settled(&push(None, Body::Text("a\""))),
        concat!(
            r#"{"header":{"id":"ID","parentId":"","isSync":false,"timestamp":TIME,"#,
            r#""version":"1.0","nodeId":"","peerInfo":{"ip":"","serialNumber":""},"#,
            r#""msg_id":"ID","parent_msg_id":"","sync":false,"resourceversion":""},"#,
            r#""router":{"source":"tidegate","destination":"","option":"publish","#,
            r#""resource":"tea"},"route":{"source":"tidegate","group":"","#,
            r#""operation":"publish","resource":"tea"},"content":"a\""}"#
        )
    );
    for (room, from, key, want) in [
        (Some("tea"), Some("c1"), Some("say:it:now"), ["c1", "say", "it:now"]),
        (Some("tea"), None, Some("say"), ["tidegate", "say", "tea"]),
        (None, None, None, ["tidegate", "publish", ""]),
    ] {
        let push = Push { room, from, key, body: Body::Binary(b"\0\xff") };
        let message = parsed(&encoded(|out| {
            encode_push(out, &push);
        }));
        let got = ["source", "option", "resource"].map(|name| message["router"][name].as_str());
        assert_eq!(got, want.map(Some));
        assert_eq!(message["content"], "AP8=");
    }
}

#[test]
fn asks_and_their_answers() {
    let ask = Ask { id: 0x0102_0305, key: "get:/node/info", body: Body::Json("[1]") };
    let message = parsed(&encoded(|out| {
        encode_ask(out, &ask);
    }));
    let (header, id) = (&message["header"], message["header"]["id"].as_str().unwrap());
    assert_eq!((&header["isSync"], &header["sync"]), (&json!(true), &json!(true)));
    assert!(id.starts_with("01020305-"), "{id}");
    assert_eq!((&message["router"]["option"], &message["content"]), (&json!("get"), &json!([1])));
    for (content, failed, body) in [
        (r#"{"a": 1}"#, false, r#"{"a": 1}"#),
        (r#"{"error": {"code":5}}"#, true, r#"{"code":5}"#),
        (r#"{"error":1,"result":2}"#, false, r#"{"error":1,"result":2}"#),
        (r#"{"error":null}"#, false, r#"{"error":null}"#),
        (r#"["error"]"#, false, r#"["error"]"#),
    ] {
        for parent in ["parentId", "parent_msg_id"] {
            let answer = format!(r#"{{"header":{{"{parent}":"{id}"}},"content":{content}}}"#);
            let answer = text(answer.as_bytes()).unwrap();
            assert_eq!(answer.kind, Kind::Response { to: ask.id, failed }, "{content}");
            assert_eq!((answer.body, answer.correlation), (Body::Json(body), None));
        }
    }
    let stray = text(br#"{"header":{"id":"b","parentId":"a","isSync":true}}"#).unwrap();
    assert_eq!(stray.kind, Kind::Response { to: 0, failed: false });
}

#[test]
fn what_is_not_understood_says_why() {
    for (payload, want) in [
        (&b"hello"[..], "expected {\"header\":"),
        (br#"[{"id":"a"}]"#, "expected an object"),
        (br#"{"header":["a","",true]}"#, "expected an object"),
        (br#"{"router":[]}"#, "expected an object"),
        (br#"{"header":{"isSync":true}}"#, "missing field `header.id`"),
        (br#"{"header":{"isSync":"true"}}"#, "expected a boolean"),
        (br#"{"header":{"id":7}}"#, "expected a string"),
        (br#"{"header":{},"header":{}}"#, "duplicate field `header`"),
        (br#"{"header":{"id":"a","id":"b"}}"#, "duplicate field `id`"),
        (br#"{"content":1,"content":1}"#, "duplicate field `content`"),
        (b"{\"content\":\"\xff\"}", "UTF-8"),
    ] {
        let (code, message, correlation) = refused(text(payload));
        assert_eq!((code, correlation), (400, None));
        assert!(message.contains(want), "{message}");
    }
    assert!(refused(decode(MessageKind::Binary, REQUEST)).1.contains("binary"));
    let told = parsed(&answer(Some(b""), Err(&ErrorAnswer::new(400, "why"))));
    assert_eq!(
        (&told["header"]["parentId"], &told["router"]["option"]),
        (&json!(""), &json!("error"))
    );
    assert_eq!(told["content"]["error"]["message"], "why");
}

proptest! {
    #[test]
    fn requests_come_back_as_answers(
        (id, source, destination) in ("(?s).{1,8}", any_text(), any_text()),
        (option, resource) in (any_text(), any_text()),
        content in any_json(),
    ) {
        let router = json!({"source": source, "destination": destination, "option": option,
            "resource": resource});
        let request = json!({"header": {"id": id, "isSync": true}, "router": router,
            "content": content}).to_string();
        let message = text(request.as_bytes()).unwrap();
        prop_assert_eq!(message.key.is_none(), option.is_empty() && resource.is_empty());
        let answer = parsed(&answer(message.correlation.as_deref(), Ok(message.body)));
        prop_assert_eq!(&answer["header"]["parentId"], &Value::from(id));
        prop_assert_eq!(&answer["content"], &content);
        let back = json!({"source": destination, "destination": source, "option": option,
            "resource": resource});
        prop_assert_eq!(&answer["router"], &back);
    }

    #[test]
    fn pushes_come_back_as_they_were(key in "(?s).{1,5}:.{0,5}", content in any_json()) {
        let content = content.to_string();
        let payload = push(Some(&key), Body::Json(&content));
        let message = text(payload.as_bytes()).unwrap();
        prop_assert_eq!(message.kind, Kind::Push);
        prop_assert_eq!((message.key, message.body), (Key::from(&*key), Body::Json(&content)));
    }

    #[test]
    fn asks_come_back_as_requests(id: u32, key in "(?s).{1,5}:.{0,5}", words in any_text()) {
        let ask = Ask { id: id | 1, key: &key, body: Body::Text(&words) };
        let payload = encoded(|out| { encode_ask(out, &ask); });
        let message = text(payload.as_bytes()).unwrap();
        prop_assert_eq!(message.kind, Kind::Request);
        prop_assert_eq!(message.key, Key::from(&*key));
        prop_assert_eq!(parsed(message.body.as_str().unwrap()), json!(words));
        let answer = answer(message.correlation.as_deref(), Ok(Body::Text(&words)));
        let kind = text(answer.as_bytes()).unwrap().kind;
        prop_assert_eq!(kind, Kind::Response { to: ask.id, failed: false });
    }

    #[test]
    fn nothing_panics(kind in any_kind(), bytes: Vec<u8>, one in broken(REQUEST), two in broken(TWIN)) {
        for payload in [bytes, one, two] {
            if let Ok(message) = decode(kind, &payload) {
                let _ = answer(message.correlation.as_deref(), Ok(message.body));
            }
        }
    }

    #[test]
    fn any_correlation_gives_an_answer(correlation: Vec<u8>) {
        let mut out = Vec::new();
        encode_answer(&mut out, Some(&correlation), Ok(Body::Text("")));
        let written = out.ends_with(b",\"content\":\"\"}");
        prop_assert!(written);
    }
}
