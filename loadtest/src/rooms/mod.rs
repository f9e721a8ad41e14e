//! What the commands that use rooms have in common.
//!
//! Invariants:
//! - Nothing here knows a server: what is said is a dialect or a template, and what comes back is
//!   recognised by the data it carries.
//! - What members of one room share over threads is lock-free and only grows: a log of publishes,
//!   counters, gates.

mod gate;
mod layout;
mod mark;
mod order;
mod sample;
mod words;

use tungstenite::{Bytes, Message};

pub(crate) use self::{
    gate::Gate,
    layout::Layout,
    mark::{Found, MARK_LEN, Mark, Marks},
    order::{Log, Order, PublishId, Received, Serial},
    sample::{Portion, Sample},
    words::{Answer, Given, Words, bytes},
};
use crate::{
    link::Link,
    payload::token,
    trouble::{Trouble, Waiting},
};

/// Questions, be it joins or pings, that a thread has out at once.
pub(crate) const WINDOW: u32 = 512;

/// Says what joins a room. Returns whether an answer is awaited: the one to the join or, where a
/// server does not answer joins, the pong to a ping behind it.
pub(crate) fn ask_to_join<C>(
    words: &Words,
    link: &mut Link<'_, C>,
    room: u32,
) -> Result<bool, Trouble> {
    let Some(join) = words.join(link.index, room) else { return Ok(false) };
    link.send(join)?;
    if !words.answers_joins(link.index) {
        send_ping(link)?;
    }
    link.await_for(Waiting::Joined);
    Ok(true)
}

/// Pings, and awaits the pong.
pub(crate) fn ping<C>(link: &mut Link<'_, C>) -> Result<(), Trouble> {
    link.await_for(Waiting::Pong);
    send_ping(link)
}

fn send_ping<C>(link: &mut Link<'_, C>) -> Result<(), Trouble> {
    link.send(Message::Ping(Bytes::copy_from_slice(&payload(link.index))))
}

/// Whether a pong is the one to our ping; one without a payload may come unasked (RFC 6455, section
/// 5.5.3).
pub(crate) fn is_our_pong(index: u32, pong: &[u8]) -> Result<bool, Trouble> {
    match pong {
        [] => Ok(false),
        pong if *pong == payload(index) => Ok(true),
        _ => Err(Trouble::WrongPong),
    }
}

fn payload(index: u32) -> [u8; 8] {
    token(0, index, 4).to_le_bytes()
}
