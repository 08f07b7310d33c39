//! The signals that lb listens to: SIGTERM and SIGINT stop it, SIGHUP must not.
//!
//! Invariant: from [`Signals::catch`] on none of them has its usual effect, so a start cannot be killed half-way.

use std::fmt;

use tokio::signal::unix::{self, SignalKind, signal};

pub(super) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Terminate,
    Interrupt,
}

// === impl Signals ===

impl Signals {
    pub(super) fn catch() -> std::io::Result<Self> {
        let signals = Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                tracing::warn!(
                    "SIGHUP: changes in the configuration apply at the next start; restart lb to apply them"
                );
            }
        });
        Ok(signals)
    }

    /// The next signal to stop.
    pub(super) async fn stop(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
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
