//! What goes over TLS comes out of it, whole and in order, and what is wrong ends.

use std::io::Read as _;
use std::net::{Shutdown, TcpStream};
use std::thread;

use tidegate::{SelfDelivery, Stopped};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::{LOCALHOST, PATIENCE, Served, all, read_to_end, stats_until, write};

#[test]
fn messages_of_all_sizes_come_back() {
    all(|set| {
        let served = Served::start(set);
        let mut clients: Vec<_> = (0..4).map(|_| served.open("/echo")).collect();
        for size in [0, 1, 125, 126, 1024, 16_383, 16_384, 70_000, 1_000_000] {
            for client in &mut clients {
                let message = Message::binary(vec![size as u8; size]);
                client.send(message.clone()).unwrap();
                assert_eq!(client.read().unwrap(), message, "{size}");
            }
        }
        for client in &mut clients {
            client.close(None).unwrap();
            while client.read().is_ok() {}
        }
        stats_until(&served.running, "all gone", |s| s["totals"]["connections"] == 0);
        let stats = served.running.stats();
        assert_eq!(stats["totals"]["tls_handshakes"], 4);
        assert_eq!(stats["closes"]["peer_close"], 4);
        assert_eq!(stats["buffers"]["tls_bytes"], 0);
    });
}

#[test]
fn many_messages_in_one_write_come_back_in_order() {
    all(|set| {
        let served = Served::start(set);
        let mut client = served.open("/echo");
        for n in 0..2000_u32 {
            client.write(Message::text(n.to_string())).unwrap();
        }
        client.flush().unwrap();
        for n in 0..2000_u32 {
            assert_eq!(client.read().unwrap(), Message::text(n.to_string()));
        }
    });
}

#[test]
fn a_peer_that_does_not_read_gets_all_of_it_later() {
    all(|set| {
        let served = Served::start(|builder| {
            set(builder).route("many", |ctx, _| {
                ctx.join("r").unwrap();
                for n in 0..100_u8 {
                    let body =
                        format!("\"{}\"", (n as char).to_string().repeat(0) + &"x".repeat(30_000));
                    ctx.publish("r", tidegate::Body::Json(&body), SelfDelivery::Include).unwrap();
                }
                ctx.reply("done");
            })
        });
        let mut client = served.open("/ws");
        client.send(Message::text(r#"{"route":"many","id":1}"#)).unwrap();
        stats_until(&served.running, "all is queued", |s| s["totals"]["deliveries"] == 100);
        for _ in 0..101 {
            let text = client.read().unwrap().into_text().unwrap();
            assert!(text.len() > 30_000 || text.contains("done"), "{text}");
        }
    });
}

#[test]
fn closing_is_told_over_tls() {
    all(|set| {
        let served =
            Served::start(|builder| set(builder).route("bye", |ctx, _| ctx.close(4000, "bye")));
        let mut client = served.open("/ws");
        client.send(Message::text(r#"{"route":"bye"}"#)).unwrap();
        let frame = CloseFrame { code: CloseCode::Library(4000), reason: "bye".into() };
        assert_eq!(client.read().unwrap(), Message::Close(Some(frame)));
        // Answered by tungstenite; then the gateway's close_notify, and the end of the stream.
        let end = client.read();
        assert!(matches!(end, Err(tungstenite::Error::ConnectionClosed)), "{end:?}");
        let tls = client.get_mut();
        assert_eq!(tls.read(&mut [0]).unwrap(), 0, "close_notify");
        stats_until(&served.running, "gone", |s| s["totals"]["connections"] == 0);
    });
}

#[test]
fn a_drain_closes_all() {
    all(|set| {
        let served = Served::start(set);
        let mut clients: Vec<_> = (0..8).map(|_| served.open("/echo")).collect();
        let Served { running, .. } = served;
        thread::scope(|scope| {
            let stopped = scope.spawn(move || running.stop(|| false).0);
            for client in &mut clients {
                let Message::Close(Some(frame)) = client.read().unwrap() else {
                    panic!("no close")
                };
                assert_eq!(frame.code, CloseCode::Away);
                while client.read().is_ok() {}
            }
            assert_eq!(stopped.join().unwrap(), Stopped::Clean);
        });
    });
}

#[test]
fn what_is_no_tls_is_refused_and_counted() {
    all(|set| {
        let served = Served::start(set);
        let stream = TcpStream::connect(served.addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write(&stream, b"GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let alert = read_to_end(&stream);
        assert!(alert.is_empty() || alert[0] == 21, "{alert:?}");
        stats_until(&served.running, "gone", |s| s["totals"]["connections"] == 0);
        assert_eq!(served.running.stats()["tls_failures"]["malformed"], 1);
    });
}

#[test]
fn a_hello_that_never_ends_is_closed_at_the_handshake_deadline() {
    all(|set| {
        let served = Served::start(|builder| {
            set(builder).configure(|c| c.handshake_timeout = std::time::Duration::from_millis(300))
        });
        let stream = TcpStream::connect(served.addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write(&stream, &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]);
        assert!(read_to_end(&stream).len() < 1024);
        stats_until(&served.running, "gone", |s| s["totals"]["connections"] == 0);
        assert_eq!(served.running.stats()["refusals"]["handshake_timeout"], 1);
    });
}

#[test]
fn frames_without_a_request_go_over_tls_too() {
    all(|set| {
        let served = Served::start(|builder| {
            set(builder).configure(|config| {
                let endpoint = "/echo".to_owned();
                let address = LOCALHOST.into();
                let listen = tidegate::TcpListen { address, endpoint, framing: None };
                config.tls_tcp_listen.push(listen);
            })
        });
        let mut stream = served.dial(served.running.tls_tcp_addresses()[0]);
        for size in [1_u32, 20_000, 300_000] {
            let mut frame = vec![2];
            frame.extend_from_slice(&size.to_be_bytes());
            frame.resize(5 + size as usize, 7);
            write(&mut stream, &frame);
            let mut back = vec![0; frame.len()];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back, frame);
        }
        stream.sock.shutdown(Shutdown::Both).unwrap();
        stats_until(&served.running, "gone", |s| s["totals"]["connections"] == 0);
        assert_eq!(served.running.stats()["totals"]["opened"], 1);
    });
}

/// Without a Close, the end of what is sent is one: TLS tells it by a close_notify.
#[test]
fn frames_that_are_a_length_go_over_tls_too() {
    all(|set| {
        let served = Served::start(|builder| {
            set(builder).configure(|config| {
                let endpoint = "/ws".to_owned();
                let address = LOCALHOST.into();
                let listen = tidegate::TcpListen { address, endpoint, framing: None };
                config.tls_tcp_listen.push(listen);
            })
        });
        let mut stream = served.dial(served.running.tls_tcp_addresses()[0]);
        for size in [1, 20_000, 300_000] {
            let body = "x".repeat(size);
            let request = format!(r#"{{"route":"echo","id":1,"body":"{body}"}}"#);
            let (head, rest) = request.as_bytes().split_at(1);
            let mut frame = (request.len() as u32).to_be_bytes().to_vec();
            frame.extend_from_slice(head);
            // In two records, of which the first ends inside the message.
            write(&mut stream, &frame);
            write(&mut stream, rest);
            let mut len = [0; 4];
            stream.read_exact(&mut len).unwrap();
            let mut answer = vec![0; u32::from_be_bytes(len) as usize];
            stream.read_exact(&mut answer).unwrap();
            let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
            assert!(answer["id"] == 1 && answer["body"] == body, "{size}");
        }
        stream.conn.send_close_notify();
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
        stats_until(&served.running, "gone", |s| s["totals"]["connections"] == 0);
        assert_eq!(served.running.stats()["closes"]["peer_close"], 1);
    });
}

#[test]
fn a_hello_that_is_longer_than_is_held_is_closed_at_once() {
    all(|set| {
        let served = Served::start(|builder| {
            set(builder).configure(|c| c.handshake_timeout = std::time::Duration::from_secs(3600))
        });
        let stream = TcpStream::connect(served.addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // A ClientHello of 65,000 bytes, in records of 16 KiB; a little at a time.
        let mut hello = vec![22, 3, 1, 0x40, 0, 1, 0, 0xfd, 0xe8, 3, 3];
        hello.resize(5 + 0x4000, 0);
        hello.extend([22, 3, 1, 0x40, 0]);
        hello.resize(18 * 1024, 0);
        for piece in hello.chunks(1000) {
            write(&stream, piece);
        }
        stats_until(&served.running, "all is read", |s| s["totals"]["bytes_in"] == hello.len());
        assert_eq!(served.running.stats()["totals"]["connections"], 1);
        assert!(served.running.stats()["buffers"]["tls_bytes"].as_u64() <= Some(22 * 1024));
        write(&stream, &[0]);
        assert!(read_to_end(&stream).len() < 1024);
        stats_until(&served.running, "gone", |s| s["totals"]["connections"] == 0);
        let stats = served.running.stats();
        assert_eq!(stats["tls_failures"]["handshake_too_long"], 1);
        assert_eq!(
            (&stats["refusals"]["tls"], &stats["refusals"]["peer_gone"]),
            (&1.into(), &0.into())
        );
        assert_eq!(stats["buffers"]["tls_bytes"], 0);
    });
}

#[test]
fn handshakes_that_wait_for_their_turn_all_get_it() {
    all(|set| {
        let served = Served::start(|builder| {
            set(builder).configure(|config| {
                config.tuning.tls_handshakes_per_turn = 1;
                let endpoint = "/echo".to_owned();
                let listen =
                    tidegate::TcpListen { address: LOCALHOST.into(), endpoint, framing: None };
                config.tls_tcp_listen.push(listen);
            })
        });
        let bare = served.running.tls_tcp_addresses()[0];
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    // All at once, and some that never go on or leave half way.
                    let held: Vec<_> = (0..8).map(|_| TcpStream::connect(served.addr())).collect();
                    let mut dialed: Vec<_> = (0..32).map(|_| served.dial(bare)).collect();
                    for tls in &mut dialed {
                        tls.conn.write_tls(&mut tls.sock).unwrap();
                    }
                    for mut tls in dialed.drain(..16) {
                        write(&mut tls, &[2, 0, 0, 0, 2, b'h', b'i']);
                        let mut back = [0; 7];
                        tls.read_exact(&mut back).unwrap();
                        assert_eq!(back, [2, 0, 0, 0, 2, b'h', b'i']);
                    }
                    drop((dialed, held));
                });
            }
        });
        stats_until(&served.running, "all gone", |s| s["totals"]["connections"] == 0);
        let opened = served.running.stats()["totals"]["opened"].as_u64().unwrap();
        assert!((64..=128).contains(&opened), "{opened}");
        // Each takes two reads, the ClientHello's and that of the client's end, and a turn has one.
        for each in served.running.stats()["loops"].as_array().unwrap() {
            let count = |name: &str| each[name].as_u64().unwrap();
            assert!(2 * count("tls_handshakes") <= count("turns"), "{each:#}");
        }
        assert_eq!(served.running.stats()["buffers"]["tls_bytes"], 0);
    });
}
