//! What is limited, to how much, and what happens over it.

/// So much a second, and so much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_s: u64,
    burst: u64,
}

impl Rate {
    /// Most of anything a second.
    pub const PER_S_MAX: u64 = 1 << 40;
    /// Longest time of its rate that a burst may be worth, seconds.
    pub const BURST_MAX_S: u64 = 60;

    /// So much a second, 1 to 2^40; as much at once.
    #[must_use]
    pub const fn per_s(per_s: u64) -> Self {
        let per_s = if per_s == 0 { 1 } else { per_s };
        let per_s = if per_s > Self::PER_S_MAX { Self::PER_S_MAX } else { per_s };
        Self { per_s, burst: per_s }
    }

    /// So much at once, 1 to what the rate gives in a minute, after a time in which nothing came.
    #[must_use]
    pub const fn burst(self, burst: u64) -> Self {
        let most = self.burst_max();
        let burst = if burst == 0 { 1 } else { burst };
        Self { burst: if burst > most { most } else { burst }, ..self }
    }

    /// So much a second.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.per_s
    }

    /// So much at once.
    #[must_use]
    pub const fn at_once(self) -> u64 {
        self.burst
    }

    /// The largest burst that goes with the rate.
    #[must_use]
    pub const fn burst_max(self) -> u64 {
        self.per_s * Self::BURST_MAX_S
    }
}

/// What happens over a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Over {
    /// What has come is handled, and nothing more is read until it is paid for.
    #[default]
    Delay,
    /// A message is answered with error 429 instead of being handled.
    Reject,
    /// The connection is closed with 1008.
    Close,
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Messages of one connection.
    Messages,
    /// Bytes of one connection.
    Bytes,
    /// Bytes of all connections together.
    Bandwidth,
    /// Messages of all connections to one route.
    Route,
    /// Connections.
    Connections,
}
