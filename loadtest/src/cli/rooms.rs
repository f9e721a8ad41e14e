//! The arguments of the commands that use rooms.

use std::time::Duration;

use clap::Args;

use super::{
    Common, count,
    dialect::{LoginArgs, Spoken},
    rate, size, some_time, time,
};
use crate::rooms::{Given, Portion};

/// What `broadcast` says behind its help.
pub(super) const BROADCAST_HELP: &str = "\
Connection i is a member of room i mod --rooms. The first --publishers of them also publish, each in \
its own room. All joins are answered before the first publish.\n\n\
With --rate the loop is open: publishes are due at fixed times and latency counts from when one was \
due to each delivery. Without it the loop is closed: each publisher keeps --in-flight publishes on \
their way, and sends the next when all members have the oldest.\n\n\
Every member must get every publish of its room, once, each publisher's in their order, and all \
publishes in the order in which the other members get them. What is not so is counted and fails the \
run. \"In another order\" counts deliveries that came in another order than to the member that was \
first; if that one misses a publish, it may count once for each of the others, too. Rates count what \
was sent, and came, within --duration; --fail-if rate<95% means deliveries, against --rate times the \
members that should get a publish.\n\n\
Examples:\n  \
loadtest broadcast --url ws://127.0.0.1:8080/ws --connections 5000 --rooms 10 --publishers 20 \
--rate 100 --duration 30s\n  \
loadtest broadcast --url ws://127.0.0.1:9000/ --connections 200 --rate 50 --join 'SUB {room}' \
--joined OK --publish 'PUB {room} {data}'\n  \
loadtest broadcast --url ws://127.0.0.1:8080/ws --connections 600 --rate 50 \
--dialect json,mef,action,event,hub,kim";

/// What `stall` says behind its help.
pub(super) const STALL_HELP: &str = "\
As broadcast at a fixed rate, but --stalled of the members, chosen by the seed among those that do \
not publish, stop reading once they have joined. Deliveries are counted and measured for the others: \
those must miss nothing. That the server closes who does not read is allowed; those it did not close \
read again at the end, and must then answer a ping or find themselves closed. What they read is whole \
publishes in order, once each; that the server has dropped some is counted and allowed.\n\n\
Example:\n  \
loadtest stall --url ws://127.0.0.1:8080/ws --connections 1000 --stalled 1% --rate 200 --size 4KiB \
--duration 30s";

/// What `scale` says behind its help.
pub(super) const SCALE_HELP: &str = "\
The course: open all connections; hold them; ping each; echo --echoes messages over each of \
--echo-sample of them; let --room-members of them join one room, publish once, and see that each gets \
that once; close all. The seed chooses which. All threads end a stage before any begins the next.\n\n\
Example:\n  \
loadtest scale --url ws://127.0.0.1:8080/ws --connections 1000000 --hold 60s --echo-sample 1% \
--echoes 10 --room-members 100000";

/// How a server is spoken to.
#[derive(Debug, Args)]
#[command(next_help_heading = "The words of the server")]
pub(crate) struct WordsArgs {
    /// What is spoken: json, mef, action, event, kim or hub; several, with commas, by members in turn.
    ///
    /// Member k of room r takes number k + r of the list. Rooms are joined and published to by the
    /// routes "join" and "publish" of tidegate's endpoints (in mef join:room and publish:room, in hub
    /// protocols 3 and 4), in every dialect with the same JSON as body: {"room":"…"} and
    /// {"room":"…","data":"…","self":true}.
    ///
    /// A name may say where it is spoken, as in kim=tcp://127.0.0.1:9000 (frames over plain TCP). Else
    /// one alone is spoken at --url, and of several each in its place: the last segment of --url's
    /// path becomes its name ("ws" for json). --join and the like are templates in the place of the
    /// JSON of "json", and go with it alone.
    #[arg(long, value_name = "NAME[=URL],…", value_delimiter = ',', default_value = "json")]
    pub(crate) dialect: Vec<Spoken>,

    /// What joins a room, with {room} for its name; '' if nothing is to be said.
    ///
    /// A server with a join of its own is expected neither to answer as the dialect does nor to
    /// refuse as it does, unless --joined and --refused say how.
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) join: Option<String>,

    /// What an answer to a join contains; '' if joins are not answered, then a pong must follow.
    #[arg(long, value_name = "TEXT")]
    pub(crate) joined: Option<String>,

    /// What publishes, with {room} and {data}, which consists of letters, digits and "._-".
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) publish: Option<String>,

    /// What an answer contains that refuses a join or a publish; '' if none does.
    #[arg(long, value_name = "TEXT")]
    pub(crate) refused: Option<String>,

    /// The server does not send a publish to its publisher.
    ///
    /// The order in which publishers get the publishes of others is then compared for each of these,
    /// but not with the order of the room.
    #[arg(long)]
    pub(crate) no_self: bool,

    /// What names of rooms begin with; a number follows [default: load-SEED-].
    #[arg(long, value_name = "TEXT")]
    pub(crate) room_prefix: Option<String>,

    /// Who connections say they are.
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

/// What `broadcast` and `stall` take.
#[derive(Debug, Args)]
pub(crate) struct RoomArgs {
    /// Connects per second while ramping up, over all threads; 0: as fast as possible.
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) connect_rate: u64,

    /// Rooms that the connections are spread over.
    #[arg(long, value_name = "N", default_value = "1", value_parser = count)]
    pub(crate) rooms: u32,

    /// How many of the connections publish [default: one in each room].
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) publishers: Option<u32>,

    /// Characters of the published data, 40 to 64MiB; KiB and MiB are understood.
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = size)]
    pub(crate) size: usize,

    /// How long to publish.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    pub(crate) duration: Duration,

    /// How the server is spoken to.
    #[command(flatten)]
    pub(crate) words: WordsArgs,
}

/// Arguments of `broadcast`.
#[derive(Debug, Args)]
pub(crate) struct BroadcastArgs {
    /// What every command takes.
    #[command(flatten)]
    pub(crate) common: Common,

    /// Rooms and publishes.
    #[command(flatten)]
    pub(crate) rooms: RoomArgs,

    /// Publishes per second, of all publishers together [default: a closed loop].
    #[arg(long, value_name = "N", value_parser = rate, conflicts_with = "in_flight")]
    pub(crate) rate: Option<u64>,

    /// Publishes in flight of each publisher of a closed loop.
    #[arg(long, value_name = "N", default_value = "1", value_parser = count)]
    pub(crate) in_flight: u32,
}

/// Arguments of `stall`.
#[derive(Debug, Args)]
pub(crate) struct StallArgs {
    /// What every command takes.
    #[command(flatten)]
    pub(crate) common: Common,

    /// Rooms and publishes.
    #[command(flatten)]
    pub(crate) rooms: RoomArgs,

    /// Publishes per second, of all publishers together.
    #[arg(long, value_name = "N", default_value = "100", value_parser = rate)]
    pub(crate) rate: u64,

    /// Members that stop reading: a count, or a share like 1%.
    #[arg(long, value_name = "N|N%", default_value = "1%")]
    pub(crate) stalled: Portion,

    /// Receive buffer of the sockets of these; the kernel doubles it, and has a least.
    ///
    /// Their segments are those of an Ethernet (1,448 B), also over the loopback, so that the server's
    /// send buffer is no larger than for clients elsewhere.
    #[arg(long, value_name = "BYTES", default_value = "4KiB", value_parser = size)]
    pub(crate) receive_buffer: usize,
}

/// Arguments of `scale`.
#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// What every command takes.
    #[command(flatten)]
    pub(crate) common: Common,

    /// Connects per second, over all threads; 0: as fast as possible.
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) rate: u64,

    /// How long to hold the connections before they are pinged.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    pub(crate) hold: Duration,

    /// Pings, or other questions, that a thread has out at once.
    #[arg(long, value_name = "N", default_value = "512", value_parser = count)]
    pub(crate) max_pinging: u32,

    /// Connections that echo: a count, or a share like 1%.
    #[arg(long, value_name = "N|N%", default_value = "1%")]
    pub(crate) echo_sample: Portion,

    /// Messages over each of these, one after the other.
    #[arg(long, value_name = "N", default_value = "10", value_parser = count)]
    pub(crate) echoes: u32,

    /// Connections that join the room: a count, or a share like 10%.
    #[arg(long, value_name = "N|N%", default_value = "10%")]
    pub(crate) room_members: Portion,

    /// Characters of what is echoed and published, 40 to 64MiB; KiB and MiB are understood.
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = size)]
    pub(crate) size: usize,

    /// What asks for an echo, with {data}.
    #[arg(long, value_name = "TEMPLATE", help_heading = "The words of the server")]
    pub(crate) echo: Option<String>,

    /// How the server is spoken to.
    #[command(flatten)]
    pub(crate) words: WordsArgs,
}

impl WordsArgs {
    /// What is given, for the run with this seed.
    pub(crate) fn given(&self, seed: u64) -> Given {
        Given {
            dialects: self.dialect.iter().map(|spoken| spoken.dialect).collect(),
            join: self.join.clone(),
            joined: self.joined.clone(),
            publish: self.publish.clone(),
            refused: self.refused.clone(),
            echo: None,
            not_self: self.no_self,
            prefix: self.room_prefix.clone().unwrap_or_else(|| format!("load-{seed}-")),
        }
    }
}
