//! Every publish that a slow connection loses is counted, whatever pushed it out.

mod wire;

use std::net::SocketAddr;

use tidegate::app::Stopped;
use tidegate::connection::OverflowPolicy;
use tidegate::dialect::Dialect;
use tidegate::routing::{Endpoint, Gateway};
use wire::{Client, TEXT, put_masked};

#[test]
fn publishes_that_an_answer_pushes_out_are_counted() {
    for workers in [0, 1] {
        let endpoint = Endpoint::new("/drops", Dialect::Raw)
            .overflow(OverflowPolicy::DropOldest)
            .fallback(|ctx, _| {
                let conn = ctx.conn();
                (0..2).for_each(|_| ctx.push(conn, "p".repeat(1500).as_str()));
                ctx.reply("r".repeat(3500).as_str());
            });
        let running = Gateway::builder()
            .configure(|config| {
                config.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
                config.workers = workers;
                config.outbound_limit_bytes = 4096;
            })
            .endpoint(endpoint)
            .start()
            .expect("the gateway starts");
        let mut client = Client::connect(running.addresses()[0], "/drops");
        let mut request = Vec::new();
        put_masked(&mut request, true, TEXT, b"go");
        client.send(&request);
        // All three are queued before any is written: the answer leaves no room for the others.
        assert_eq!(client.next().expect("the answer").payload, [b'r'; 3500]);
        drop(client);
        let (stopped, stats) = running.stop(|| false);
        assert_eq!(stopped, Stopped::Clean);
        assert_eq!(stats["drops"]["drop_oldest"], 2, "{stats:#}");
    }
}
