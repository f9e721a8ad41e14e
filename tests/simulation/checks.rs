//! What is checked after every step, at every deadline, and at the end.

use super::*;

impl Host {
    /// Every deadline that runs, with its time.
    fn deadlines(&self) -> Vec<(Due, Tick)> {
        let (watch, timeouts) = (&self.watch, &self.timeouts);
        let mut all = Vec::new();
        let mut add = |due, since: Option<Tick>, ticks: Option<u32>| {
            if let (Some(since), Some(ticks)) = (since, ticks) {
                all.push((due, since + ticks));
            }
        };
        add(Due::Write, watch.write, Some(timeouts.write));
        match self.conn.phase() {
            Phase::Open if !self.conn.is_paused() => {
                add(Due::Pong, watch.ping, Some(timeouts.pong));
                add(Due::Idle, Some(watch.read), timeouts.idle.map(|t| t.get()));
                add(Due::Message, watch.message, timeouts.message.map(|t| t.get()));
                if watch.ping.is_none() {
                    let ping = timeouts.ping.map(|t| t.get());
                    let jittered = ping.map(|t| tidegate::connection::jittered(t, self.seed));
                    add(Due::Ping, Some(watch.read), jittered);
                }
            }
            Phase::Draining | Phase::Closing | Phase::Lingering => {
                add(Due::Close, Some(watch.phase), Some(timeouts.close));
            }
            _ => {}
        }
        all
    }

    /// The loop did not look: nothing was to be seen.
    pub(super) fn check_nothing_missed(&self) -> Result<(), String> {
        match self.deadlines().into_iter().find(|(_, at)| *at <= self.now) {
            Some((due, at)) => Err(format!("{due:?} of {at} missed at {}", self.now)),
            None => Ok(()),
        }
    }

    /// What fires is due, and where nothing fires nothing is.
    pub(super) fn check_due(&self, due: Due) -> Result<(), String> {
        let all = self.deadlines();
        match due {
            Due::Nothing(_) => self.check_nothing_missed(),
            due => match all.iter().find(|(other, _)| *other == due) {
                Some((_, at)) if *at <= self.now => Ok(()),
                other => Err(format!("{due:?} at {}, but {other:?}", self.now)),
            },
        }
    }

    /// After every step.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.check_memory()?;
        self.check_messages()?;
        self.check_frames()?;
        self.check_pace()
    }

    fn check_memory(&self) -> Result<(), String> {
        let owed = self.conn.owed_bytes();
        if owed > self.room.limit_bytes + CONTROL_BYTES {
            return Err(format!("{owed} bytes owed under {:?}", self.room));
        }
        if !self.conn.owes() && self.conn.outbox_bytes() > 0 {
            return Err("an outbox for nothing owed".to_owned());
        }
        let between = self.peer.inside(self.peer.read()).is_none();
        if between && self.conn.inbound_bytes() > 0 {
            return Err("a buffer for nothing begun".to_owned());
        }
        Ok(())
    }

    /// Handlers have got what was read while the connection was open, in order and once.
    fn check_messages(&self) -> Result<(), String> {
        let got = &self.handlers.messages;
        let sent = self.peer.messages.iter().map(|(_, payload)| payload);
        if got.len() > self.peer.messages.len()
            || got.iter().zip(sent).any(|(got, sent)| got != sent)
        {
            return Err("handlers got something else than was sent".to_owned());
        }
        let read = self.peer.messages_in(self.peer.read());
        if self.conn.phase() == Phase::Open && got.len() != read {
            return Err(format!("{} messages of {read} reached the handlers", got.len()));
        }
        if got.len() > read {
            return Err("a message out of nowhere".to_owned());
        }
        Ok(())
    }

    /// What the peer has is a front of what was queued, but for publishes dropped whole.
    fn check_frames(&self) -> Result<(), String> {
        let got = &self.peer.serials;
        if !got.is_sorted_by(|a, b| a < b) {
            return Err(format!("frames out of order or twice: {got:?}"));
        }
        let own = got.iter().filter(|serial| self.own.binary_search(serial).is_ok());
        if !own.eq(self.own.iter().take_while(|own| got.last().is_some_and(|last| *own <= last))) {
            return Err("an answer is missing between others".to_owned());
        }
        let publishes = got.iter().filter(|serial| self.shared.binary_search(serial).is_ok());
        let passed = |serial: &&u32| got.last().is_some_and(|last| *serial <= last);
        let (came, missing) = (publishes.count(), self.shared.iter().take_while(passed).count());
        if missing - came > self.dropped {
            return Err(format!("{} publishes missing, {} dropped", missing - came, self.dropped));
        }
        if self.room.policy == OverflowPolicy::Close && self.dropped > 0 {
            return Err("dropped under `close`".to_owned());
        }
        Ok(())
    }

    /// Once it ends it is dead within the time for handlers, for the Close, and for lingering.
    fn check_pace(&self) -> Result<(), String> {
        let most = 3 * self.timeouts.close + 40;
        match self.watch.left_open {
            Some(since) if !self.is_dead() && self.now > since + most => {
                Err(format!("still {:?} {} after its end", self.conn.phase(), self.now - since))
            }
            _ => Ok(()),
        }
    }

    /// Lets the script end: the client closes, reads all, and goes; handlers return.
    pub(crate) fn run_out(&mut self, rng: &mut Rng) -> Result<(), String> {
        let clean = self.phase == Phase::Open && self.peer.stop.is_none() && !self.peer.eof;
        if !self.peer.eof {
            self.peer.close(rng);
            self.peer.eof = true;
        }
        if self.conn.is_paused() {
            self.toggle_pause(rng)?;
        }
        let mut left = 20_000;
        while !self.is_dead() {
            self.window = usize::MAX;
            self.blocked = false;
            self.read(rng, false)?;
            self.settle(rng)?;
            self.flush(rng)?;
            if rng.one_in(10) {
                self.advance(1)?;
            }
            self.check()?;
            left -= 1;
            if left == 0 {
                return Err("it never ends".to_owned());
            }
        }
        self.check_end(clean)
    }

    fn check_end(&mut self, clean: bool) -> Result<(), String> {
        self.conn.release(env!(self));
        if self.conn.outbox_bytes() + self.conn.inbound_bytes() > 0 {
            return Err("memory is kept beyond the end".to_owned());
        }
        if self.memory.total() != 0 {
            return Err("a shared frame is kept beyond the end".to_owned());
        }
        if !clean || self.conn.cause() != Some(CloseCause::PeerClose) {
            return self.check_code();
        }
        let all = self.own.len() + self.shared.len() - self.dropped;
        let handled = self.conn.in_flight() == 0;
        if handled && self.peer.serials.len() != all {
            return Err(format!("{} frames of {all} came", self.peer.serials.len()));
        }
        if self.handlers.messages.len() != self.peer.messages.len() {
            return Err("a message before the Close never reached the handlers".to_owned());
        }
        self.check_code()
    }

    /// A Close that came says how it came to it.
    fn check_code(&self) -> Result<(), String> {
        let (Some(code), Some(cause)) = (self.peer.closed, self.conn.cause()) else {
            return Ok(());
        };
        if self.hasty {
            return Ok(());
        }
        let fits = match cause {
            CloseCause::ProtocolError => code == Some(1002),
            CloseCause::InvalidUtf8 => code == Some(1007),
            CloseCause::TooBig => code == Some(1009),
            CloseCause::PeerEof => code == Some(1002),
            CloseCause::OutboundLimit => code == Some(1008),
            CloseCause::PeerClose => {
                matches!(self.peer.stop, Some((_, Stop::Close)))
                    && matches!(code, Some(1000 | 1001 | 3000 | 4999))
            }
            _ => true,
        };
        let violated = match self.peer.stop {
            Some((_, Stop::Violation(wanted))) => {
                !matches!(
                    cause,
                    CloseCause::ProtocolError | CloseCause::InvalidUtf8 | CloseCause::TooBig
                ) || code == Some(wanted)
            }
            _ => true,
        };
        if fits && violated { Ok(()) } else { Err(format!("{code:?} for {cause:?}")) }
    }
}
