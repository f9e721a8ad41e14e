//! Handlers of typed bodies: what a message says comes as a value, and a value is the answer.
//!
//! Invariants:
//! - a body that is none of the type is answered with error 400 and never reaches the handler;
//! - a message that wants no answer gets none, and its answer is not even encoded.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::context::Context;
use crate::dialect::{Body, ErrorAnswer, Message};

/// A handler of JSON bodies, for [`Endpoint::route`](super::Endpoint::route).
///
/// The body is read as JSON whatever form the dialect gives it; the answer is JSON. What is no
/// `Req` is answered with 400 and serde's reason.
///
/// ```
/// use tidegate::{Dialect, Endpoint, JsonDialect};
/// use tidegate::routing::json_handler;
///
/// let sum = json_handler(|_, numbers: Vec<i64>| Ok(numbers.iter().sum::<i64>()));
/// let endpoint = Endpoint::new("/sums", Dialect::Json(JsonDialect::default())).route("sum", sum);
/// ```
pub fn json_handler<Req, Res, F>(
    handler: F,
) -> impl Fn(&mut Context<'_>, &Message<'_>) + Send + Sync + 'static
where
    Req: DeserializeOwned,
    Res: Serialize,
    F: Fn(&mut Context<'_>, Req) -> Result<Res, ErrorAnswer<'static>> + Send + Sync + 'static,
{
    move |ctx, message| {
        let request = message.body.parse().map_err(|e| bad_request("JSON", &e));
        let answer = request.and_then(|request| handler(ctx, request));
        if message.correlation.is_some() {
            match answer {
                Ok(answer) => ctx.reply_json(&answer),
                Err(error) => ctx.reply_error(error.code, &error.message),
            }
        }
    }
}

/// A handler of protobuf bodies, for [`Endpoint::route`](super::Endpoint::route).
///
/// The answer is protobuf too, as binary. What does not decode is answered with 400 and the reason.
///
/// ```
/// use tidegate::{Dialect, Endpoint};
/// use tidegate::routing::proto_handler;
///
/// // `String` and `u32` stand for messages with one field here, as protobuf's wrappers do.
/// let length = proto_handler(|_, text: String| Ok(text.len() as u32));
/// let endpoint = Endpoint::new("/lengths", Dialect::Hub).route("2", length);
/// ```
pub fn proto_handler<Req, Res, F>(
    handler: F,
) -> impl Fn(&mut Context<'_>, &Message<'_>) + Send + Sync + 'static
where
    Req: prost::Message + Default,
    Res: prost::Message,
    F: Fn(&mut Context<'_>, Req) -> Result<Res, ErrorAnswer<'static>> + Send + Sync + 'static,
{
    move |ctx, message| {
        let request = Req::decode(message.body.as_bytes());
        let request = request.map_err(|e| bad_request("protobuf", &e));
        let answer = request.and_then(|request| handler(ctx, request));
        if message.correlation.is_some() {
            match answer {
                Ok(answer) => ctx.reply(Body::Binary(&answer.encode_to_vec())),
                Err(error) => ctx.reply_error(error.code, &error.message),
            }
        }
    }
}

fn bad_request(form: &str, reason: &dyn std::fmt::Display) -> ErrorAnswer<'static> {
    ErrorAnswer::new(400, format!("the body is not what this route expects as {form}: {reason}"))
}
