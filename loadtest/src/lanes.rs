//! What connections speak, and where each of them goes.

use crate::{
    cli::dialect::Spoken, dialect::Dialect, handshake::Handshake, login::Login, target::Target,
    transport::Framing,
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
    pub(crate) fn plain(url: &str) -> Result<Self, String> {
        let target = Target::resolve(url)?;
        if target.framing == Framing::Tcp {
            return Err(format!("--url {url}: this command goes over WebSocket, so ws://"));
        }
        Ok(Self::of(vec![Lane { dialect: Dialect::Raw, target }], 1, None, false))
    }

    /// Those that the arguments name; members of `rooms` rooms take them in turn.
    pub(crate) fn new(
        url: &str,
        spoken: &[Spoken],
        rooms: u32,
        login: Option<Login>,
    ) -> Result<Self, String> {
        let alone = spoken.len() == 1;
        let lane = |spoken: &Spoken| {
            let dialect = spoken.dialect;
            let target = match &spoken.url {
                Some(own) => Target::resolve(own)?,
                None if alone => Target::resolve(url)?,
                None => Target::resolve(url)?.beside(dialect.path())?,
            };
            if target.framing == Framing::Tcp && dialect != Dialect::Kim {
                let name = dialect.name();
                return Err(format!("{}: only kim goes over plain TCP, not {name}", target.url));
            }
            Ok(Lane { dialect, target })
        };
        let lanes = spoken.iter().map(lane).collect::<Result<Vec<_>, String>>()?;
        let first = lanes[0].target.address;
        if lanes.iter().any(|lane| lane.target.address.is_ipv4() != first.is_ipv4()) {
            return Err("--dialect: all URLs must be of one family of addresses".to_owned());
        }
        Ok(Self::of(lanes, rooms, login, true))
    }

    fn of(lanes: Vec<Lane>, rooms: u32, login: Option<Login>, named: bool) -> Self {
        let turns = Turns::new(rooms, lanes.len());
        Self { lanes, turns, login, named }
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
            (_, Framing::Tcp) => Handshake::bare(),
            (None, _) => Handshake::new(target),
            (Some(_), _) => {
                let (path, headers) = Login::upgrade(*dialect, &target.path, index);
                Handshake::with(target, &path, &headers)
            }
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
        let name = |lane: &Lane| match lane.target.framing {
            Framing::WebSocket => lane.dialect.name().to_owned(),
            Framing::Tcp => format!("{} over tcp", lane.dialect.name()),
        };
        self.named.then(|| self.lanes.iter().map(name).collect::<Vec<_>>().join(", "))
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
        Lanes::new(url, &spoken(text), 1, None)
    }

    #[test]
    fn one_dialect_goes_where_the_url_says() {
        let lanes = lanes("ws://127.0.0.1:8080/some/where", "hub").unwrap();
        assert_eq!(lanes.first().target.path, "/some/where");
        assert_eq!(lanes.names().as_deref(), Some("hub"));
        assert_eq!(Lanes::plain("ws://127.0.0.1:1/").unwrap().names(), None);
    }

    #[test]
    fn several_go_beside_each_other() {
        let text = "json,hub,kim,kim=tcp://127.0.0.1:9000";
        let lanes = lanes("ws://127.0.0.1:8080/a/ws?x=y", text).unwrap();
        let paths: Vec<_> = lanes.lanes.iter().map(|lane| lane.target.path.as_str()).collect();
        assert_eq!(paths, ["/a/ws?x=y", "/a/hub?x=y", "/a/kim?x=y", "/"]);
        assert_eq!(lanes.lane(3).target.address.port(), 9000);
        assert_eq!(lanes.names().as_deref(), Some("json, hub, kim, kim over tcp"));
        assert!(lanes.urls().starts_with("ws://127.0.0.1:8080/a/ws?x=y ws://127.0.0.1:8080/a/hub"));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let error = |url, text| lanes(url, text).unwrap_err();
        assert!(error("tcp://127.0.0.1:1", "hub").contains("only kim"));
        assert!(error("tcp://127.0.0.1:1", "json,kim").contains("tcp://"));
        assert!(error("ws://127.0.0.1:1", "json,kim=ws://[::1]:1/").contains("family"));
        assert!(Lanes::plain("tcp://127.0.0.1:1").unwrap_err().contains("--url"));
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
