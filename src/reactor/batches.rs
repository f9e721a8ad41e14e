//! Batches on their way to the shards, and what routing inline answers.

use super::event_loop::{EventLoop, Routing};
use super::gate::Sent;
use crate::telemetry::memory::Component;
use crate::worker::Turn;

impl EventLoop {
    /// Does what rooms whose home is this loop have to do (inline routing only).
    pub(super) fn serve_rooms(&mut self) {
        let Routing::Inline(shard) = &mut self.routing else { return };
        shard.sweep_due(self.now);
        let _ = shard.room_turn(self.now);
        self.apply_local();
    }

    /// Applies what the inline shard posts to its own loop.
    fn apply_local(&mut self) {
        loop {
            let Routing::Inline(shard) = &mut self.routing else { return };
            let Some(mut post) = shard.take_local() else { return };
            post.routed_at = Some(self.now);
            self.apply(&mut post);
            self.give_back(post);
        }
    }

    /// Sends what is gathered for the shards. Says whether any took something.
    pub(super) fn send_batches(&mut self) -> bool {
        let mut any = false;
        for shard in 0..self.gates.len() {
            any |= self.send_batch(shard);
        }
        any
    }

    /// Sends what is gathered for one shard, or routes it here.
    pub(super) fn send_batch(&mut self, shard: usize) -> bool {
        let freed = match &mut self.routing {
            Routing::Pool(lanes) => {
                let gate = &mut self.gates[shard];
                match gate.send(&lanes[shard], &self.alarm) {
                    Sent::Accepted { freed, heap_bytes } => {
                        self.memory.add(Component::Arenas, heap_bytes);
                        freed
                    }
                    Sent::Nothing | Sent::Refused => return false,
                }
            }
            Routing::Inline(_) => match self.route_inline() {
                Some(freed) => freed,
                None => return false,
            },
        };
        for index in freed {
            self.free(index as usize);
        }
        true
    }

    fn route_inline(&mut self) -> Option<Vec<u32>> {
        let mut turn = self.go_on_inline();
        let mut freed = None;
        if turn == Turn::Done
            && let Some((batch, closing)) = self.gates[0].take_batch()
            && let Routing::Inline(shard) = &mut self.routing
        {
            self.memory.add(Component::Arenas, batch.heap_bytes());
            shard.begin(batch, self.now);
            turn = self.go_on_inline();
            freed = Some(closing);
        }
        self.gates[0].set_blocked(turn == Turn::Blocked);
        freed
    }

    /// Goes on with the batch that the inline shard is at, applying what it posts here as it goes.
    fn go_on_inline(&mut self) -> Turn {
        loop {
            let Routing::Inline(shard) = &mut self.routing else { return Turn::Done };
            let turn = shard.message_turn(self.now);
            self.apply_local();
            if turn != Turn::LocalFull {
                return turn;
            }
        }
    }

    /// Reads on from connections whose shard takes messages again.
    pub(super) fn reopen_gates(&mut self) {
        for shard in 0..self.gates.len() {
            if self.gates[shard].is_blocked() {
                self.send_batch(shard);
            }
            if self.gates[shard].is_blocked() {
                continue;
            }
            for index in std::mem::take(&mut self.gates[shard].paused) {
                self.resume(index as usize);
            }
            for index in std::mem::take(&mut self.gates[shard].buried) {
                self.tell_closed(index as usize, shard);
            }
        }
    }
}
