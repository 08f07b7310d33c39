//! The signals of lb: SIGTERM and SIGINT stop it, SIGHUP reloads, SIGUSR1 reopens the access log. With
//! `--exit-with-parent`, the parent's end stops it as well.
//!
//! Invariants: from [`Signals::catch`] on, none of them has its usual effect, so a start cannot be killed half-way. A
//! SIGHUP during the start is obeyed after it. Signals in quick succession count as one, because `timeout` and some
//! supervisors send to the process and then to its group.

use std::fmt;
use std::time::{Duration, Instant};

use tokio::signal::unix::{self, SignalKind, signal};

use super::parent::Parent;

pub(super) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hangups: Option<Repeated>,
    rotations: Option<Repeated>,
    /// `None` without `--exit-with-parent`, or after the parent's end.
    parent: Option<Parent>,
    last: Option<Instant>,
}

/// A signal that triggers an action and stops nothing.
pub(super) struct Repeated(unix::Signal);

/// A person takes longer for a second Ctrl-C.
const SAME_WITHIN: Duration = Duration::from_millis(150);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Terminate,
    Interrupt,
    ParentGone,
}

// === impl Signals ===

impl Signals {
    pub(super) fn catch(with_parent: bool) -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let hangups = Some(Repeated(signal(SignalKind::hangup())?));
        let rotations = Some(Repeated(signal(SignalKind::user_defined1())?));
        let parent = with_parent.then(Parent::watch).transpose()?;
        Ok(Self { terminate, interrupt, hangups, rotations, parent, last: None })
    }

    /// SIGHUPs, once.
    pub(super) fn take_hangups(&mut self) -> Option<Repeated> {
        self.hangups.take()
    }

    /// SIGUSR1s, once.
    pub(super) fn take_rotations(&mut self) -> Option<Repeated> {
        self.rotations.take()
    }

    /// The first reason to stop.
    pub(super) async fn stop(&mut self) -> Signal {
        self.next(true).await
    }

    /// The next signal to stop; the parent's end does not count.
    pub(super) async fn again(&mut self) -> Signal {
        self.next(false).await
    }

    async fn next(&mut self, with_parent: bool) -> Signal {
        loop {
            let signal = tokio::select! {
                _ = self.terminate.recv() => Signal::Terminate,
                _ = self.interrupt.recv() => Signal::Interrupt,
                () = Parent::gone(&mut self.parent), if with_parent => Signal::ParentGone,
            };
            let now = Instant::now();
            if self.last.is_none_or(|last| now.duration_since(last) > SAME_WITHIN) {
                self.last = Some(now);
                return signal;
            }
        }
    }
}

// === impl Repeated ===

impl Repeated {
    /// Waits for one or more since the last; `false` if there will be no more.
    pub(super) async fn next(&mut self) -> bool {
        self.0.recv().await.is_some()
    }
}

// === impl Signal ===

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::ParentGone => "end of stdin",
        })
    }
}
