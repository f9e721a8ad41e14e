//! Connections that send their request by drips and never finish it.
//!
//! They stand in the same table, but apart from its counts: none is attempted, refused or closed. A
//! driver hears of each end by [`Driver::ended`], in the phase [`Phase::Dripping`].

use super::*;

impl<C: Default> Table<C> {
    /// Begins a connection whose request comes by drips. Returns its key, or why there is no socket.
    pub(crate) fn begin_dripping(&mut self, index: u32) -> Result<usize, Trouble> {
        let now = self.clock.now();
        let target = &self.setup.lanes.first().target;
        let handshake = Handshake::dripping(target);
        self.open(index, None)
            .and_then(|opened| self.insert(opened, index, now, handshake, Phase::Dripping))
    }

    /// Sends `count` bytes more of the request of connection `index`, if it is still there.
    pub(crate) fn drip(
        &mut self,
        key: usize,
        index: u32,
        count: usize,
        driver: &mut impl Driver<Client = C>,
    ) -> bool {
        let there = |conn: &&mut Conn<C>| conn.phase == Phase::Dripping && conn.index == index;
        let Some(conn) = self.conns.get_mut(key).filter(there) else { return false };
        if let Codec::Handshake(handshake) = &mut conn.codec {
            handshake.release(count);
        }
        self.pump(key, Readiness::Nothing, driver);
        true
    }

    /// Drops connection `index`, if it is still there and drips.
    pub(crate) fn stop_dripping(
        &mut self,
        key: usize,
        index: u32,
        driver: &mut impl Driver<Client = C>,
    ) {
        let there = |conn: &Conn<C>| conn.phase == Phase::Dripping && conn.index == index;
        if self.conns.get(key).is_some_and(there) {
            self.abort(key, Abort::Reset, driver);
        }
    }
}
