//! Messages to and fro.

use std::net::Shutdown;
use std::sync::{Mutex, mpsc};

use tidegate::protocol::deflate::DeflateMode::Dedicated;
use tidegate::{Endpoint, Gateway};

use crate::client::{BINARY, CONTINUATION, Client, PING, PONG, TEXT, frame, put_masked};
use crate::peer::Peer;
use crate::wait::wait_until;
use crate::{OFFER, all, lines, noise, start, start_with, total};

#[test]
fn messages_come_back() {
    all(|mode, workers| {
        let running = start(mode, workers);
        let mut peer = Peer::open(running.addresses()[0], "/echo", OFFER);
        for n in [1, 20, 20, 2000] {
            let long = peer.echoes(TEXT, lines(n).as_bytes());
            assert_eq!(long.is_compressed, n > 1, "{n}");
            assert!(n == 1 || long.wire.len() < long.message.len() / 2);
        }
        peer.echoes(BINARY, b"");
        peer.echoes(TEXT, "größer".as_bytes());
        // As much again in as it was.
        let message = noise(100_000);
        let same = peer.echoes(BINARY, &message);
        assert!(!same.is_compressed || mode == Dedicated);
        // What is not compressed is taken too.
        peer.client.send(&frame(BINARY, &noise(1000)));
        assert_eq!(peer.receive().message, noise(1000));
        assert_eq!(total(&running, "messages_inflated"), 7);
        assert_eq!(total(&running, "messages_in"), 8);
    });
}

#[test]
fn later_messages_refer_to_earlier_ones_in_dedicated_mode_only() {
    all(|mode, workers| {
        let running = start(mode, workers);
        let mut peer = Peer::open(running.addresses()[0], "/echo", OFFER);
        let message = [b"text-".repeat(4), noise(2000)].concat();
        let sizes = [(); 3].map(|()| peer.echoes(BINARY, &message).wire.len());
        let refers = sizes[1] < 300 && sizes[2] < 300;
        assert_eq!(refers, mode == Dedicated, "{sizes:?}");
    });
}

#[test]
fn the_client_may_want_no_takeover() {
    let running = start(Dedicated, 0);
    let offer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let mut peer = Peer::open(running.addresses()[0], "/echo", offer);
    assert_eq!(peer.answer.as_deref(), Some(offer));
    for n in [10, 10, 300] {
        peer.echoes(TEXT, lines(n).as_bytes());
    }
}

#[test]
fn a_message_in_fragments_is_inflated_once_it_is_whole() {
    all(|mode, workers| {
        let running = start(mode, workers);
        let mut peer = Peer::open(running.addresses()[0], "/echo", OFFER);
        for _ in 0..3 {
            let message = lines(100);
            let payload = peer.compressed(message.as_bytes());
            let mut out = Vec::new();
            for (at, piece) in payload.chunks(7).enumerate() {
                let start = out.len();
                let is_last = (at + 1) * 7 >= payload.len();
                put_masked(&mut out, is_last, if at == 0 { TEXT } else { CONTINUATION }, piece);
                out[start] |= if at == 0 { 0x40 } else { 0 };
                if at == 2 {
                    put_masked(&mut out, true, PING, b"between");
                }
            }
            peer.client.send(&out);
            let pong = peer.receive();
            assert_eq!((pong.opcode, &pong.message[..]), (PONG, &b"between"[..]));
            assert_eq!(peer.receive().message, message.as_bytes());
        }
    });
}

#[test]
fn what_waits_for_another_turn_is_in_order_and_not_lost() {
    all(|mode, workers| {
        // One message a turn.
        let running = start_with(mode, workers, |config| config.tuning.inflate_bytes_per_turn = 1);
        let mut peer = Peer::open(running.addresses()[0], "/echo", OFFER);
        let mut out = Vec::new();
        for n in 0..200 {
            peer.put(&mut out, TEXT, lines(n % 40).as_bytes());
        }
        put_masked(&mut out, true, PING, b"behind");
        // The end of the stream is behind all of it.
        peer.client.send(&out);
        peer.client.stream.shutdown(Shutdown::Write).unwrap();
        let (mut messages, mut pongs) = (0, 0);
        while messages < 200 || pongs < 1 {
            let received = peer.receive();
            if received.opcode == PONG {
                pongs += 1;
                continue;
            }
            assert_eq!(received.message, lines(messages % 40).as_bytes(), "{messages}");
            messages += 1;
        }
    });
}

#[test]
fn a_connection_that_inflates_much_leaves_room_for_others() {
    let (go, wait) = mpsc::sync_channel::<()>(0);
    let (note, noted) = mpsc::channel();
    let wait = Mutex::new(wait);
    let endpoint = Endpoint::json("/t")
        .route("hold", move |_, _| wait.lock().unwrap().recv().unwrap())
        .route("note", move |_, m| note.send(m.body.as_bytes().len()).unwrap());
    let running = Gateway::builder()
        .listen(([127, 0, 0, 1], 0))
        .endpoint(endpoint)
        .configure(|config| {
            (config.loops, config.workers) = (1, 0);
            config.tuning.inflate_bytes_per_turn = 1;
        })
        .start()
        .unwrap();
    let addr = running.addresses()[0];
    let mut busy = Peer::open(addr, "/t", OFFER);
    let (mut holder, mut other) = (Client::open(addr, "/t"), Client::open(addr, "/t"));
    // The loop stands still until all of it has come.
    holder.text(r#"{"route":"hold"}"#);
    let long = format!(r#"{{"route":"note","body":"{}"}}"#, "a".repeat(1000));
    let mut out = Vec::new();
    for _ in 0..60 {
        busy.put(&mut out, TEXT, long.as_bytes());
    }
    busy.client.send(&out);
    other.text(r#"{"route":"note","body":1}"#);
    go.send(()).unwrap();
    let order: Vec<usize> = noted.iter().take(61).collect();
    let place = order.iter().position(|bytes| *bytes == 1).unwrap();
    assert!(place < 10, "{place} went before");
}

#[test]
fn the_memory_of_takeover_is_counted_and_given_back() {
    let running = start(Dedicated, 0);
    let held = || running.stats()["buffers"]["deflate_bytes"].as_u64().unwrap();
    let shared = {
        // What the loops share stays.
        let offer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        let mut peers = [(); 16].map(|()| Peer::open(running.addresses()[0], "/echo", offer));
        peers.iter_mut().for_each(|peer| {
            peer.echoes(TEXT, lines(100).as_bytes());
        });
        wait_until("the loops' own", || held() > 300_000);
        held()
    };
    let mut peers = [(); 16].map(|()| Peer::open(running.addresses()[0], "/echo", OFFER));
    peers.iter_mut().for_each(|peer| {
        peer.echoes(TEXT, lines(100).as_bytes());
    });
    wait_until("sixteen compressors", || held() >= shared + 16 * 300_000);
    drop(peers);
    wait_until("given back", || held() < shared + 64 * 1024);
}
