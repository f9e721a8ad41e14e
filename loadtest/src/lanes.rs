//! What connections speak, and where each of them goes.

use crate::{
    cli::{Common, dialect::Spoken},
    dialect::Dialect,
    handshake::Handshake,
    login::Login,
    target::{Address, Target},
    tls::{Session, Tls},
    transport::Framing,
    trouble::Trouble,
};

/// One of the ways that connections go.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    /// What is spoken there.
    pub(crate) dialect: Dialect,
    /// Where it leads.
    pub(crate) target: Target,
}

/// The ways that connections take in turn; at least one.
#[derive(Clone, Debug)]
pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    turns: Turns,
    login: Option<Login>,
    /// Where some speak it.
    tls: Option<Tls>,
    /// Whether the command has a choice of dialects, so that reports say which it was.
    named: bool,
}

/// Which of several a connection takes: the members of each room take them in turn, and the first
/// members of the rooms, who publish, begin with different ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turns {
    rooms: u32,
    count: u32,
}

impl Lanes {
    /// One way, for a command that knows no dialects.
    pub(crate) fn plain(common: &Common) -> Result<Self, String> {
        let target = Target::resolve(&common.url, &common.network)?;
        if target.framing == Framing::Tcp {
            let url = &target.url;
            return Err(format!(
                "--url {url}: this command goes over WebSocket, so ws:// or wss://"
            ));
        }
        let lanes = vec![Lane { dialect: Dialect::Raw, target }];
        let tls = tls(&lanes, common)?;
        Ok(Self { lanes, turns: Turns::new(1, 1), login: None, tls, named: false })
    }

    /// Those that the arguments name; members of `rooms` rooms take them in turn.
    pub(crate) fn new(
        common: &Common,
        spoken: &[Spoken],
        rooms: u32,
        login: Option<Login>,
    ) -> Result<Self, String> {
        let alone = spoken.len() == 1;
        let (url, flags) = (&common.url, &common.network);
        let lane = |spoken: &Spoken| {
            let dialect = spoken.dialect;
            let target = match &spoken.url {
                Some(own) => Target::resolve(own, flags)?,
                None if alone => Target::resolve(url, flags)?,
                None => Target::resolve(url, flags)?.beside(dialect.path())?,
            };
            if target.framing == Framing::Tcp && over_tcp(dialect).is_none() {
                let (url, name) = (&target.url, dialect.name());
                return Err(format!("{url}: only kim, json and hub go over plain TCP, not {name}"));
            }
            Ok(Lane { dialect, target })
        };
        let lanes = spoken.iter().map(lane).collect::<Result<Vec<_>, String>>()?;
        let family = |lane: &Lane| lane.target.address.ip().map(|ip| ip.is_ipv4());
        if lanes.iter().any(|lane| family(lane) != family(&lanes[0])) {
            return Err("--dialect: all URLs must be of one family of addresses".to_owned());
        }
        let (turns, tls) = (Turns::new(rooms, lanes.len()), tls(&lanes, common)?);
        Ok(Self { lanes, turns, login, tls, named: true })
    }

    /// The first of them.
    pub(crate) fn first(&self) -> &Lane {
        &self.lanes[0]
    }

    /// The way of a connection.
    pub(crate) fn lane(&self, index: u32) -> &Lane {
        &self.lanes[self.turns.of(index)]
    }

    /// The opening handshake of a connection.
    pub(crate) fn handshake(&self, index: u32) -> Handshake {
        let Lane { dialect, target } = self.lane(index);
        match (&self.login, target.framing) {
            (_, Framing::Tcp) => Handshake::bare(over_tcp(*dialect).unwrap_or(Framing::Tcp)),
            (None, _) => Handshake::new(target),
            (Some(_), _) => {
                let (path, headers) = Login::upgrade(*dialect, &target.path, index);
                Handshake::with(target, &path, &headers)
            }
        }
    }

    /// Whether TLS is spoken anywhere.
    pub(crate) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The session of a connection, where TLS is spoken.
    pub(crate) fn session(&self, index: u32) -> Option<Result<Session, Trouble>> {
        let Target { tls, framing, .. } = &self.lane(index).target;
        Some(self.tls.as_ref()?.session(tls.as_ref()?, *framing))
    }

    /// That there are pings everywhere, which a command may not do without.
    pub(crate) fn with_pings(self) -> Result<Self, String> {
        let without = |lane: &&Lane| {
            let framing = (lane.target.framing == Framing::Tcp).then(|| over_tcp(lane.dialect));
            matches!(framing, Some(Some(Framing::Lengths { .. })))
        };
        match self.lanes.iter().find(without) {
            None => Ok(self),
            Some(lane) => Err(format!(
                "{}: this command pings, and {} over TCP has no pings; use `echo` or `broadcast`",
                lane.target.url,
                lane.dialect.name()
            )),
        }
    }

    /// How connections log in, if they do.
    pub(crate) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// The URLs, as reports have them.
    pub(crate) fn urls(&self) -> String {
        let urls: Vec<_> = self.lanes.iter().map(|lane| &*lane.target.url).collect();
        urls.join(" ")
    }

    /// The dialects, as reports have them; `None` for a command that knows none.
    pub(crate) fn names(&self) -> Option<String> {
        let name = |lane: &Lane| {
            let Target { framing, tls, address, deflate, .. } = &lane.target;
            let over = [
                (*framing == Framing::Tcp, "tcp"),
                (tls.is_some(), "tls"),
                (matches!(address, Address::Unix(_)), "unix"),
                (deflate.is_some(), "deflate"),
            ];
            let over: Vec<_> = over.iter().filter_map(|(is, what)| is.then_some(*what)).collect();
            let parts = if over.is_empty() { "" } else { " over " };
            format!("{}{parts}{}", lane.dialect.name(), over.join(", "))
        };
        self.named.then(|| self.lanes.iter().map(name).collect::<Vec<_>>().join(", "))
    }
}

/// What a dialect's frames look like over TCP, as the gateway has it unless it is told otherwise.
fn over_tcp(dialect: Dialect) -> Option<Framing> {
    match dialect {
        Dialect::Kim => Some(Framing::Tcp),
        Dialect::Json => Some(Framing::Lengths { text: true }),
        Dialect::Hub => Some(Framing::Lengths { text: false }),
        _ => None,
    }
}

/// How TLS is spoken, where that is, or which flag says so though it is not.
fn tls(lanes: &[Lane], common: &Common) -> Result<Option<Tls>, String> {
    let how = &common.network.how;
    match (lanes.iter().any(|lane| lane.target.tls.is_some()), how.named()) {
        (true, _) => Tls::new(how).map(Some),
        (false, None) => Ok(None),
        (false, Some(flag)) => Err(format!("{flag}: nothing goes over TLS; say --tls or wss://")),
    }
}

impl Turns {
    /// Takes one of `count` things, at least one.
    pub(crate) fn new(rooms: u32, count: usize) -> Self {
        Self { rooms, count: u32::try_from(count).expect("a handful") }
    }

    /// Which of them a connection takes.
    pub(crate) fn of(self, index: u32) -> usize {
        let (rank, room) = (index / self.rooms, index % self.rooms);
        ((rank % self.count + room % self.count) % self.count) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(text: &str) -> Vec<Spoken> {
        text.split(',').map(|one| one.parse().unwrap()).collect()
    }

    fn lanes(url: &str, text: &str) -> Result<Lanes, String> {
        Lanes::new(&Common::to(url), &spoken(text), 1, None)
    }

    #[test]
    fn one_dialect_goes_where_the_url_says() {
        let lanes = lanes("ws://127.0.0.1:8080/some/where", "hub").unwrap();
        assert_eq!(lanes.first().target.path, "/some/where");
        assert_eq!(lanes.names().as_deref(), Some("hub"));
        assert_eq!(Lanes::plain(&Common::to("ws://127.0.0.1:1/")).unwrap().names(), None);
    }

    #[test]
    fn several_go_beside_each_other() {
        let text = "json,hub,kim,kim=tcp://127.0.0.1:9000";
        let lanes = lanes("ws://127.0.0.1:8080/a/ws?x=y", text).unwrap();
        let paths: Vec<_> = lanes.lanes.iter().map(|lane| lane.target.path.as_str()).collect();
        assert_eq!(paths, ["/a/ws?x=y", "/a/hub?x=y", "/a/kim?x=y", "/"]);
        assert_eq!(lanes.lane(3).target.address.to_string(), "127.0.0.1:9000");
        assert_eq!(lanes.names().as_deref(), Some("json, hub, kim, kim over tcp"));
        assert!(lanes.urls().starts_with("ws://127.0.0.1:8080/a/ws?x=y ws://127.0.0.1:8080/a/hub"));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let error = |url, text| lanes(url, text).unwrap_err();
        assert!(error("tcp://127.0.0.1:1", "mef").contains("only kim"));
        assert!(error("tcp://127.0.0.1:1", "json,kim").contains("tcp://"));
        assert!(error("ws://127.0.0.1:1", "json,kim=ws://[::1]:1/").contains("family"));
        assert!(Lanes::plain(&Common::to("tcp://127.0.0.1:1")).unwrap_err().contains("--url"));
    }

    #[test]
    fn every_room_and_all_publishers_have_all_dialects() {
        // As many rooms as dialects would be the worst case of taking turns by the number alone.
        let turns = Turns::new(3, 3);
        for room in 0..3 {
            let mut taken: Vec<_> = (0..3).map(|rank| turns.of(room + 3 * rank)).collect();
            taken.sort_unstable();
            assert_eq!(taken, [0, 1, 2]);
        }
        let publishers: Vec<_> = (0..3).map(|index| turns.of(index)).collect();
        assert_eq!(publishers, [0, 1, 2]);
        assert_eq!(
            (0..4).map(|index| Turns::new(1, 2).of(index)).collect::<Vec<_>>(),
            [0, 1, 0, 1]
        );
    }
}
