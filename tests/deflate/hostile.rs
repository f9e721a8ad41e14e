//! What breaks the rules, or tries to take memory.

use tidegate::protocol::deflate::DeflateMode::{Off, Shared};

use crate::client::{BINARY, CONTINUATION, Client, PING, TEXT, frame, put_masked};
use crate::peer::{Peer, put_compressed};
use crate::wait::wait_until;
use crate::{OFFER, all, lines, noise, start, start_with};

/// Resident memory of this process, bytes: the most so far.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn a_gigabyte_out_of_a_megabyte_ends_at_the_limit() {
    all(|mode, workers| {
        let running = start(mode, workers);
        let mut peer = Peer::open(running.addresses()[0], "/echo", OFFER);
        peer.echoes(TEXT, lines(100).as_bytes());
        // A mebibyte of zeros, flushed, can stand any number of times.
        let megabyte = [peer.compressed(&[0; 1 << 20]), vec![0, 0, 0xff, 0xff]].concat();
        let bomb = megabyte.repeat(1000);
        assert!((500 << 10..1 << 20).contains(&bomb.len()), "{} bytes", bomb.len());
        let before = peak_bytes();
        let mut out = Vec::new();
        put_compressed(&mut out, BINARY, &bomb);
        peer.client.send(&out);
        peer.client.expect_close_and_end(1009);
        let more = peak_bytes() - before;
        // What the test holds of the frame, its pieces in the gateway, and the limit's 1 MiB.
        assert!(more < 16 << 20, "{more} bytes");
        wait_until("it is counted", || running.stats()["closes"]["too_big"] == 1);
    });
}

#[test]
fn compressed_frames_need_an_agreement() {
    for (mode, offer) in [(Shared, "none"), (Off, OFFER)] {
        let running = start(mode, 0);
        let mut peer = Peer::open(running.addresses()[0], "/echo", offer);
        assert_eq!(peer.answer, None);
        let mut out = Vec::new();
        put_compressed(&mut out, TEXT, &[0]);
        peer.client.send(&out);
        peer.client.expect_close_and_end(1002);
    }
}

#[test]
fn broken_messages_close_the_connection() {
    let ended: &[(u16, &[u8])] = &[
        // A block of a type that there is not.
        (1007, &[0x07]),
        // It breaks off.
        (1007, &[0xf2, 0x48]),
        // Refers to before its beginning.
        (1007, &[0x02, 0x13, 0x00]),
        // A text that is none: stored, 0xff.
        (1007, &[0x00, 0x01, 0x00, 0xfe, 0xff, 0xff, 0x00]),
    ];
    all(|mode, workers| {
        let running = start(mode, workers);
        for (code, payload) in ended {
            let mut peer = Peer::open(running.addresses()[0], "/echo", OFFER);
            let mut out = Vec::new();
            put_compressed(&mut out, TEXT, payload);
            peer.client.send(&out);
            peer.client.expect_close_and_end(*code);
        }
    });
}

#[test]
fn only_the_first_frame_of_a_message_says_that_it_is_compressed() {
    let running = start(Shared, 0);
    let addr = running.addresses()[0];
    let open = || Peer::open(addr, "/echo", OFFER).client;
    let end = |mut client: Client, bytes: &[u8]| {
        client.send(bytes);
        client.expect_close_and_end(1002);
    };
    let mut out = Vec::new();
    put_compressed(&mut out, PING, b"");
    end(open(), &out);
    let mut out = Vec::new();
    put_masked(&mut out, false, TEXT, b"a");
    put_compressed(&mut out, CONTINUATION, b"b");
    end(open(), &out);
}

#[test]
fn limits_hold_for_what_is_inflated() {
    let running = start_with(Shared, 0, |config| config.max_message_bytes = 5000);
    let addr = running.addresses()[0];
    let mut peer = Peer::open(addr, "/echo", OFFER);
    peer.echoes(BINARY, &[b'a'; 5000]);
    // What does not compress grows, in one frame or several.
    let message = noise(5000);
    let stored = stored(&message);
    let mut out = Vec::new();
    put_compressed(&mut out, BINARY, &stored);
    let at = out.len();
    put_masked(&mut out, false, BINARY, &stored[..10]);
    out[at] |= 0x40;
    put_masked(&mut out, true, CONTINUATION, &stored[10..]);
    peer.client.send(&out);
    assert_eq!(peer.receive().message, message);
    assert_eq!(peer.receive().message, message);
    // What is not compressed may not.
    peer.client.send(&frame(BINARY, &noise(5000)));
    assert_eq!(peer.receive().message, message);
    peer.send(BINARY, &[b'a'; 5001]);
    peer.client.expect_close_and_end(1009);
    let mut plain = Peer::open(addr, "/echo", OFFER).client;
    plain.send(&frame(BINARY, &noise(5001)));
    plain.expect_close_and_end(1009);
    let mut peer = Peer::open(addr, "/echo", OFFER);
    let mut out = Vec::new();
    put_compressed(&mut out, BINARY, &[0; 5000 + 5000 / 16 + 65]);
    peer.client.send(&out);
    peer.client.expect_close_and_end(1009);
}

/// A message in blocks that compress nothing, of a hundred bytes each.
fn stored(message: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    for block in message.chunks(100) {
        let len = block.len() as u16;
        payload.push(0);
        payload.extend(len.to_le_bytes());
        payload.extend((!len).to_le_bytes());
        payload.extend(block);
    }
    // The last block is empty, and its end is left out (RFC 7692, 7.2.1).
    payload.push(0);
    payload
}
