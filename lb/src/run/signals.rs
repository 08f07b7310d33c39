//! The signals that lb listens to: SIGTERM and SIGINT stop it, SIGHUP must not.
//!
//! Invariants: from [`Signals::catch`] on none of them has its usual effect, so a start cannot be killed half-way; signals in quick
//! succession are one, because `timeout` and some supervisors send to the process and then to its group.

use std::fmt;
use std::time::{Duration, Instant};

use tokio::signal::unix::{self, SignalKind, signal};

pub(super) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    last: Option<Instant>,
}

/// A person takes longer for a second Ctrl-C.
const SAME_WITHIN: Duration = Duration::from_millis(150);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Terminate,
    Interrupt,
}

// === impl Signals ===

impl Signals {
    pub(super) fn catch() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                tracing::warn!(
                    "SIGHUP: changes in the configuration apply at the next start; restart lb to apply them"
                );
            }
        });
        Ok(Self { terminate, interrupt, last: None })
    }

    /// The next signal to stop.
    pub(super) async fn stop(&mut self) -> Signal {
        loop {
            let signal = tokio::select! {
                _ = self.terminate.recv() => Signal::Terminate,
                _ = self.interrupt.recv() => Signal::Interrupt,
            };
            let now = Instant::now();
            if self.last.is_none_or(|last| now.duration_since(last) > SAME_WITHIN) {
                self.last = Some(now);
                return signal;
            }
        }
    }
}

// === impl Signal ===

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        })
    }
}
