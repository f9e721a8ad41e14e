use proptest::prelude::*;
use serde_json::{Value, json};

use super::text::testing::{
    any_json, any_kind, any_scalar, any_text, broken, encoded, parsed, refused,
};
use super::*;

const REQUEST: &[u8] = br#"{"route":"echo","id":7,"body":{"n":[1, 2]},"answer":3,"error":null}"#;

fn text<'a>(dialect: &JsonDialect, payload: &'a [u8]) -> Result<Message<'a>, NotUnderstood<'a>> {
    dialect.decode(MessageKind::Text, payload)
}

fn decode(payload: &[u8]) -> Result<Message<'_>, NotUnderstood<'_>> {
    text(&JsonDialect::default(), payload)
}

fn answer_of(
    dialect: &JsonDialect,
    id: Option<&[u8]>,
    answer: Result<Body<'_>, &ErrorAnswer<'_>>,
) -> String {
    encoded(|out| assert_eq!(dialect.encode_answer(out, id, answer), MessageKind::Text))
}

fn answer(id: Option<&[u8]>, answer: Result<Body<'_>, &ErrorAnswer<'_>>) -> String {
    answer_of(&JsonDialect::default(), id, answer)
}

fn push_of(dialect: &JsonDialect, push: &Push<'_>) -> String {
    encoded(|out| assert_eq!(dialect.encode_push(out, push), MessageKind::Text))
}

fn selecting(expression: &str) -> JsonDialect {
    JsonDialect { selector: Some(Selector::parse(expression).unwrap()), ..JsonDialect::default() }
}

/// Names of somebody else's, one of them with letters that JSON escapes.
fn renamed() -> JsonDialect {
    let request = RequestFields { route: "cmd".into(), id: "se\"q".into(), body: "args".into() };
    let answer = AnswerFields { id: "re".into(), body: "ok".into(), error: "err".into() };
    let push = PushFields {
        event: "kind".into(),
        room: "channel".into(),
        from: "".into(),
        data: "payload".into(),
    };
    let ask = AskFields { ask: "call".into(), route: "fn".into(), answer: "ret".into() };
    JsonDialect { selector: None, request, answer, push, ask }
}

#[test]
fn ids_and_bodies_pass_as_they_came() {
    let text = br#"{"id": 18446744073709551616.10, "body":{"b" : 1e2,"a":[ ]}, "route":"x"}"#;
    let message = decode(text).unwrap();
    assert_eq!((message.kind, &message.key), (Kind::Request, &Key::from("x")));
    assert_eq!(message.correlation.as_deref(), Some(&b"18446744073709551616.10"[..]));
    assert_eq!(message.body, Body::Json(r#"{"b" : 1e2,"a":[ ]}"#));
    assert_eq!(
        answer(message.correlation.as_deref(), Ok(message.body)),
        r#"{"id":18446744073709551616.10,"body":{"b" : 1e2,"a":[ ]}}"#
    );
}

#[test]
fn nothing_of_a_plain_request_is_copied() {
    let message = decode(REQUEST).unwrap();
    assert!(matches!(message.key, Key::Name(Cow::Borrowed("echo"))));
    assert!(matches!(message.correlation, Some(Cow::Borrowed(b"7"))));
    assert_eq!(message.meta.get("/body/n/1").as_deref(), Some("2"));
}

#[test]
fn escaped_routes_are_understood() {
    let message = decode(br#" {"route":"e\u0063ho"} "#).unwrap();
    assert_eq!(message.key, "echo");
    assert_eq!(message.correlation.as_deref(), Some(&b"null"[..]));
    assert_eq!(message.body, Body::Json("null"));
}

#[test]
fn what_is_not_understood_says_why() {
    for (payload, id, want) in [
        (&b"hello"[..], None, r#"expected an object {"route":…,"id":…,"body":…}"#),
        (b"[\"echo\",1,{}]", None, "expected an object {"),
        (b"", None, "expected an object {"),
        (br#"{"id":7}"#, Some(&b"7"[..]), "missing field `route`"),
        (br#"{"id":7,"route":null}"#, Some(b"7"), "missing field `route`"),
        (br#"{"id":7,"route":"a""#, None, r#"expected {"route":…,"id":…,"body":…}: EOF"#),
        (br#"{"route":5}"#, None, "invalid type: integer `5`, expected a string"),
        (br#"{"route":"a"} x"#, None, "trailing characters"),
        (br#"{"route":"a","route":"a"}"#, None, "duplicate field `route`"),
        (br#"{"route":"a","id":null,"id":null}"#, None, "duplicate field `id`"),
        (br#"{"body":1,"route":"a","body":2}"#, None, "duplicate field `body`"),
        (br#"{"answer":3,"answer":3}"#, None, "duplicate field `answer`"),
        (br#"{"answer":3,"error":1,"error":2}"#, None, "duplicate field `error`"),
        (b"{\"route\":\"\xff\"}", None, "UTF-8"),
    ] {
        let (code, message, correlation) = refused(decode(payload));
        assert_eq!((correlation.as_deref(), code), (id, 400));
        assert!(message.contains(want), "{message}");
    }
    let binary = JsonDialect::default().decode(MessageKind::Binary, b"{}");
    assert!(refused(binary).1.contains("got a binary one"));
    // What this dialect does not know may be there, and twice.
    assert!(decode(br#"{"x":1,"route":"a","x":{"route":[]}}"#).is_ok());
}

#[test]
fn strings_are_escaped_and_bytes_are_base64() {
    assert_eq!(answer(None, Ok(Body::Text("a\"\n"))), r#"{"id":null,"body":"a\"\n"}"#);
    assert_eq!(answer(Some(b"1"), Ok(Body::Binary(b"\0\xff"))), r#"{"id":1,"body":"AP8="}"#);
    let error = ErrorAnswer { code: 404, message: "no route `x\"`".into() };
    assert_eq!(
        answer(Some(b"\"q\""), Err(&error)),
        r#"{"id":"q","error":{"code":404,"message":"no route `x\"`"}}"#
    );
}

#[test]
fn pushes() {
    let body = Body::Json("[1, 2]");
    for (push, want) in [
        (
            Push { room: Some("t\""), from: Some("f"), key: None, body },
            r#"{"event":"publish","room":"t\"","from":"f","data":[1, 2]}"#,
        ),
        (
            Push { room: Some("t"), from: None, key: Some("news"), body: Body::Binary(b"\0") },
            r#"{"event":"news","room":"t","from":null,"data":"AA=="}"#,
        ),
        (
            Push { room: None, from: None, key: None, body: Body::Text("a") },
            r#"{"event":"push","data":"a"}"#,
        ),
    ] {
        assert_eq!(push_of(&JsonDialect::default(), &push), want);
    }
}

#[test]
fn asks_and_their_answers() {
    let ask = Ask { id: 5, key: "where\"", body: Body::Json("{}") };
    let payload = encoded(|out| {
        JsonDialect::default().encode_ask(out, &ask);
    });
    assert_eq!(payload, r#"{"event":"ask","ask":5,"route":"where\"","data":{}}"#);
    for (payload, to, failed, body) in [
        (r#"{"answer":5,"body":[1, 2]}"#, 5, false, "[1, 2]"),
        (r#"{"answer":4294967295}"#, u32::MAX, false, "null"),
        (r#"{"answer":5,"error":{"a": 1},"body":2}"#, 5, true, r#"{"a": 1}"#),
        (r#"{"answer":5,"error":null,"body":2}"#, 5, false, "2"),
        (r#"{"answer":4,"body":2}"#, 0, false, "2"),
        (r#"{"answer":4294967297}"#, 0, false, "null"),
        (r#"{"answer":"5"}"#, 0, false, "null"),
        (r#"{"answer":-5}"#, 0, false, "null"),
    ] {
        let message = decode(payload.as_bytes()).unwrap();
        assert_eq!(message.kind, Kind::Response { to, failed }, "{payload}");
        assert_eq!((message.body, message.correlation), (Body::Json(body), None), "{payload}");
    }
    // A key makes it a request.
    assert_eq!(decode(REQUEST).unwrap().kind, Kind::Request);
}

#[test]
fn names_can_be_others() {
    let dialect = renamed();
    let payload = br#"{"route":1,"cmd":"go","se\"q":[7],"args":"x","ok":0,"ok":0}"#;
    let message = text(&dialect, payload).unwrap();
    assert_eq!((&message.key, message.body), (&Key::from("go"), Body::Json("\"x\"")));
    let id = message.correlation.as_deref();
    assert_eq!(answer_of(&dialect, id, Ok(message.body)), r#"{"re":[7],"ok":"x"}"#);
    let error = ErrorAnswer::new(404, "no");
    let refusal = r#"{"re":[7],"err":{"code":404,"message":"no"}}"#;
    assert_eq!(answer_of(&dialect, id, Err(&error)), refusal);
    let push = Push { room: Some("r"), from: Some("f"), key: None, body: Body::Text("") };
    let pushed = r#"{"kind":"publish","channel":"r","payload":""}"#;
    assert_eq!(push_of(&dialect, &push), pushed);
    let ask = Ask { id: 3, key: "k", body: Body::Json("1") };
    let asked = encoded(|out| {
        dialect.encode_ask(out, &ask);
    });
    assert_eq!(asked, r#"{"kind":"ask","call":3,"fn":"k","payload":1}"#);
    let failed = text(&dialect, br#"{"ret":3,"err":"why"}"#).unwrap();
    assert_eq!(failed.kind, Kind::Response { to: 3, failed: true });
    let (_, message, _) = refused(text(&dialect, br#"{"route":"go"}"#));
    assert_eq!(message, "missing field `cmd`: the name of what is asked for");
    let (_, message, _) = refused(text(&dialect, b"?"));
    assert_eq!(message, r#"expected an object {"cmd":…,"se\"q":…,"args":…}"#);
}

#[test]
fn members_without_names_are_left_out() {
    let mut dialect = selecting("$request.body.action");
    dialect.request.body = "".into();
    (dialect.answer.id, dialect.answer.body) = ("".into(), "".into());
    let payload = br#"{"action":"go","":1,"body":2}"#;
    let message = text(&dialect, payload).unwrap();
    assert_eq!(message.body.as_bytes(), payload);
    assert_eq!(answer_of(&dialect, Some(b"1"), Ok(message.body)), "{}");
}

#[test]
fn a_selector_says_the_key() {
    let dialect = selecting("${header.opt}:${header.res}");
    let payload = br#"{"header":{"opt":"get","res":5},"route":["no matter"],"id":7,"body":1}"#;
    let message = text(&dialect, payload).unwrap();
    assert_eq!((message.kind, &message.key), (Kind::Request, &Key::from("get:5")));
    assert_eq!(message.correlation.as_deref(), Some(&b"7"[..]));
    assert_eq!(message.body, Body::Json("1"));
    assert_eq!(message.meta.get("/header/opt").as_deref(), Some("get"));
    let response = text(&dialect, br#"{"answer":7}"#).unwrap();
    assert_eq!(response.kind, Kind::Response { to: 7, failed: false });
}

#[test]
fn with_a_selector_the_rest_goes_to_the_default_route() {
    let dialect = selecting("/action");
    for (payload, body) in [
        (&br#" {"route":"echo"} "#[..], Body::Json(r#" {"route":"echo"} "#)),
        (br#"{"action":{}}"#, Body::Json(r#"{"action":{}}"#)),
        (br#"{"action":"a","action":"a"}"#, Body::Json(r#"{"action":"a","action":"a"}"#)),
        (b"[1]", Body::Json("[1]")),
        (b"7", Body::Json("7")),
        (b"hello", Body::Text("hello")),
        (b"", Body::Text("")),
        (br#"{"action":"a""#, Body::Text(r#"{"action":"a""#)),
        (br#"{"id":1,"id":2,"#, Body::Text(r#"{"id":1,"id":2,"#)),
        (b"\xff", Body::Binary(b"\xff")),
    ] {
        let message = text(&dialect, payload).unwrap();
        assert_eq!((message.kind, message.body), (Kind::Push, body));
        assert!(message.key.is_none());
        assert_eq!(message.correlation.as_deref(), Some(&b""[..]));
    }
    let binary = dialect.decode(MessageKind::Binary, br#"{"action":"a"}"#).unwrap();
    assert_eq!((binary.kind, binary.body), (Kind::Push, Body::Binary(br#"{"action":"a"}"#)));
    let (code, message, _) = refused(text(&dialect, br#"{"action":"a","id":1,"id":2}"#));
    assert_eq!(code, 400);
    assert!(message.contains(r#"expected {"id":…,"body":…}: duplicate field `id`"#), "{message}");
}

#[test]
fn dialects_are_equal_if_they_speak_alike() {
    assert_eq!(selecting("/a"), selecting("/a"));
    assert_ne!(selecting("/a"), selecting("/b"));
    assert_ne!(renamed(), JsonDialect::default());
}

proptest! {
    #[test]
    fn requests_come_back_as_answers(route in any_text(), id in any_scalar(), body in any_json()) {
        let request = json!({"route": route, "id": id, "body": body}).to_string();
        let message = decode(request.as_bytes()).unwrap();
        prop_assert_eq!(&message.key, &Key::from(&*route));
        let answer = answer(message.correlation.as_deref(), Ok(message.body));
        prop_assert_eq!(parsed(&answer), json!({"id": id, "body": body}));
    }

    #[test]
    fn any_names_do(
        names in prop::collection::hash_set("(?s).{1,4}", 3),
        route in any_text(),
        body in any_json(),
    ) {
        let names: Vec<_> = names.into_iter().collect();
        // `answer` and `error`, which mean something too, are too long to be among these.
        let request = RequestFields {
            route: names[0].as_str().into(),
            id: names[1].as_str().into(),
            body: names[2].as_str().into(),
        };
        let dialect = JsonDialect { request, ..JsonDialect::default() };
        let request = json!({&names[0]: route, &names[1]: 1, &names[2]: body}).to_string();
        let message = text(&dialect, request.as_bytes()).unwrap();
        prop_assert_eq!(&message.key, &Key::from(&*route));
        prop_assert_eq!(message.correlation.as_deref(), Some(&b"1"[..]));
        prop_assert_eq!(parsed(message.body.as_str().unwrap()), body);
    }

    #[test]
    fn pushes_and_asks_say_all(
        (room, from, key) in (any_text(), any_text(), any_text()),
        id: u32,
        words in any_text(),
        bytes: Vec<u8>,
    ) {
        let body = Body::Text(&words);
        let push = Push { room: Some(&room), from: Some(&from), key: Some(&key), body };
        let want = json!({"event": key, "room": room, "from": from, "data": words});
        prop_assert_eq!(parsed(&push_of(&JsonDialect::default(), &push)), want);
        let ask = Ask { id, key: &key, body: Body::Binary(&bytes) };
        let asked = parsed(&encoded(|out| { JsonDialect::default().encode_ask(out, &ask); }));
        let base64 = data_encoding::BASE64.encode(&bytes);
        let want = json!({"event": "ask", "ask": id, "route": key, "data": base64});
        prop_assert_eq!(asked, want);
    }

    #[test]
    fn clients_answers_are_understood(id: u32, body in any_json()) {
        let answer = json!({"answer": id | 1, "body": body}).to_string();
        let message = decode(answer.as_bytes()).unwrap();
        prop_assert_eq!(message.kind, Kind::Response { to: id | 1, failed: false });
        let said: Value = message.body.parse().unwrap();
        prop_assert_eq!(said, body);
    }

    #[test]
    fn nothing_panics(kind in any_kind(), bytes: Vec<u8>, broken in broken(REQUEST)) {
        for dialect in [JsonDialect::default(), renamed(), selecting("/route")] {
            let _ = dialect.decode(kind, &bytes);
            let _ = dialect.decode(kind, &broken);
        }
    }
}
