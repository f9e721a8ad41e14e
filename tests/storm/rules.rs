//! What must hold of a storm's rooms, checked from what its clients saw.

use std::collections::{HashMap, HashSet};

/// Something that a connection saw, in the order of its stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Joined { room: usize, begun: u64, answered: u64 },
    Left { room: usize, begun: u64 },
    Got { room: usize, index: usize },
}

/// What one connection saw.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) name: u64,
    pub(crate) events: Vec<Event>,
    /// It heard all that was published before its end, by asking the homes of all rooms last.
    pub(crate) heard_out: bool,
}

impl Log {
    pub(crate) fn new(name: u64) -> Self {
        Self { name, events: Vec::new(), heard_out: false }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub(crate) room: usize,
    /// The connection that published; none if it was no client.
    pub(crate) by: Option<u64>,
    /// Whether it reaches its publisher.
    pub(crate) own: bool,
    pub(crate) begun: u64,
    /// When it was answered, its serial number, and how many it was sent to.
    pub(crate) answer: Option<(u64, u64, u64)>,
}

/// A time of membership.
struct Stay {
    /// When the join was answered.
    from: u64,
    /// When the member last asked the room's home for something that it got an answer to: what was
    /// published before came before that answer. Later publishes may have met the end of it.
    until: u64,
}

#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) logs: Vec<Log>,
    publishes: Vec<Publish>,
}

impl History {
    pub(crate) fn add(&mut self, publish: Publish) -> usize {
        self.publishes.push(publish);
        self.publishes.len() - 1
    }

    pub(crate) fn answer(&mut self, index: usize, answer: (u64, u64, u64)) {
        self.publishes[index].answer = Some(answer);
    }

    /// Checks every rule; says what broke one.
    pub(crate) fn check(&self) -> Result<(), String> {
        for log in &self.logs {
            self.check_log(log).map_err(|broken| format!("{broken}, in {log:?}"))?;
        }
        self.check_counts()?;
        self.check_one_order()
    }

    fn check_log(&self, log: &Log) -> Result<(), String> {
        let mut got = HashSet::new();
        for room in 0..super::ROOMS {
            let stays = self.check_stream(log, room, &mut got)?;
            self.check_reached(log, room, &stays, &got)?;
        }
        Ok(())
    }

    /// Publishes come while the connection is a member and at no other time, with rising serials,
    /// each once.
    fn check_stream(
        &self,
        log: &Log,
        room: usize,
        got: &mut HashSet<usize>,
    ) -> Result<Vec<Stay>, String> {
        let mut stays: Vec<Stay> = Vec::new();
        let (mut inside, mut serial) = (false, 0);
        for event in &log.events {
            match *event {
                Event::Joined { room: r, answered, .. } if r == room && !inside => {
                    (inside, serial) = (true, 0);
                    stays.push(Stay { from: answered, until: 0 });
                }
                Event::Joined { room: r, begun, .. } if r == room => {
                    stays.last_mut().expect("inside").until = begun;
                }
                Event::Left { room: r, begun } if r == room && inside => {
                    inside = false;
                    stays.last_mut().expect("inside").until = begun;
                }
                Event::Got { room: r, index } if r == room => {
                    let publish = &self.publishes[index];
                    if !inside {
                        return Err(format!("got {index} of room {room} while no member"));
                    }
                    if publish.room != room || !got.insert(index) {
                        return Err(format!("got {index} of room {room} wrongly or twice"));
                    }
                    if publish.by == Some(log.name) && !publish.own {
                        return Err(format!("got {index}, its own, against its wish"));
                    }
                    if let Some((_, s, _)) = publish.answer {
                        if s <= serial {
                            return Err(format!("serial {s} of {index} behind {serial}"));
                        }
                        serial = s;
                    }
                }
                _ => {}
            }
        }
        if let Some(last) = stays.last_mut()
            && inside
            && log.heard_out
        {
            last.until = u64::MAX;
        }
        Ok(stays)
    }

    /// A publish begun after the join was answered, and answered before the leave was asked for,
    /// has reached the member.
    fn check_reached(
        &self,
        log: &Log,
        room: usize,
        stays: &[Stay],
        got: &HashSet<usize>,
    ) -> Result<(), String> {
        for (index, publish) in self.publishes.iter().enumerate().filter(|(_, p)| p.room == room) {
            let Some((answered, ..)) = publish.answer else { continue };
            if publish.by == Some(log.name) && !publish.own {
                continue;
            }
            let within = |stay: &Stay| stay.from < publish.begun && answered < stay.until;
            if stays.iter().any(within) && !got.contains(&index) {
                return Err(format!("{index} never reached a member of room {room}"));
            }
        }
        Ok(())
    }

    /// No publish reached more connections than its home sent it to.
    fn check_counts(&self) -> Result<(), String> {
        let mut reached = vec![0; self.publishes.len()];
        for event in self.logs.iter().flat_map(|log| &log.events) {
            if let Event::Got { index, .. } = event {
                reached[*index] += 1;
            }
        }
        for (index, publish) in self.publishes.iter().enumerate() {
            if publish.answer.is_some_and(|(.., receivers)| reached[index] > receivers) {
                return Err(format!("{index} reached {}: {publish:?}", reached[index]));
            }
        }
        Ok(())
    }

    /// There is one order of a room's publishes in which every member saw those that it saw, and
    /// every publisher made its own: the graph of "directly before" has no cycle.
    fn check_one_order(&self) -> Result<(), String> {
        for room in 0..super::ROOMS {
            let mut behind: HashMap<usize, Vec<usize>> = HashMap::new();
            let mut before = vec![0; self.publishes.len()];
            for pair in self.orders(room).iter().flat_map(|order| order.windows(2)) {
                behind.entry(pair[0]).or_default().push(pair[1]);
                before[pair[1]] += 1;
            }
            let mut free: Vec<usize> = (0..before.len()).filter(|n| before[*n] == 0).collect();
            let mut placed = 0;
            while let Some(next) = free.pop() {
                placed += 1;
                for later in behind.remove(&next).unwrap_or_default() {
                    before[later] -= 1;
                    if before[later] == 0 {
                        free.push(later);
                    }
                }
            }
            if placed < self.publishes.len() {
                return Err(format!("members of room {room} saw different orders: {self:?}"));
            }
        }
        Ok(())
    }

    fn orders(&self, room: usize) -> Vec<Vec<usize>> {
        let seen = self.logs.iter().map(|log| {
            let got = log.events.iter().filter_map(|event| match event {
                Event::Got { room: r, index } if *r == room => Some(*index),
                _ => None,
            });
            got.collect()
        });
        let mut orders: Vec<Vec<usize>> = seen.collect();
        let mut made: HashMap<Option<u64>, Vec<usize>> = HashMap::new();
        for (index, publish) in self.publishes.iter().enumerate().filter(|(_, p)| p.room == room) {
            made.entry(publish.by).or_default().push(index);
        }
        orders.extend(made.into_values());
        orders
    }
}
