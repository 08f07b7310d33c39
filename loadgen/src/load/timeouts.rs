//! The phases in which requests timed out.
//!
//! Why: "no response" alone does not say whether the server accepted the connection, read the request or began to
//! respond. The causes differ: a full accept queue, a stopped process, a slow body.

/// The phase of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The connection was not established.
    Connect,
    /// The server had not accepted the whole request.
    Send,
    /// The request was sent; the head of the response was missing or incomplete.
    Head,
    /// The body of the response was incomplete.
    Body,
}

/// The number of requests that timed out, by phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts([u64; Phase::ALL.len()]);

// === impl Phase ===

impl Phase {
    pub const ALL: [Self; 4] = [Self::Connect, Self::Send, Self::Head, Self::Body];

    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Send => "send",
            Self::Head => "head",
            Self::Body => "body",
        }
    }

    /// For example `waiting for the response head`.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Connect => "while connecting",
            Self::Send => "while sending the request",
            Self::Head => "waiting for the response head",
            Self::Body => "within the response body",
        }
    }
}

// === impl Timeouts ===

impl Timeouts {
    pub fn of(&self, phase: Phase) -> u64 {
        self.0[phase as usize]
    }

    /// The phases in which requests timed out.
    pub fn iter(&self) -> impl Iterator<Item = (Phase, u64)> + '_ {
        Phase::ALL.into_iter().map(|phase| (phase, self.of(phase))).filter(|(_, count)| *count > 0)
    }

    pub fn count(&mut self, phase: Phase) {
        self.0[phase as usize] += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, other)| *mine += other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_has_a_place_of_its_own() {
        let mut timeouts = Timeouts::default();
        for (times, phase) in (1..).zip(Phase::ALL) {
            (0..times).for_each(|_| timeouts.count(phase));
        }
        timeouts.add(&timeouts.clone());
        assert_eq!(timeouts.iter().map(|(_, count)| count).collect::<Vec<_>>(), [2, 4, 6, 8]);
    }
}
