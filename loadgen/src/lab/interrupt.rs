//! A flag for Ctrl-C, SIGTERM and SIGHUP: a run checks it or waits for it, then ends and writes its partial results.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::signal::unix::{SignalKind, signal};

/// Cheap to clone; all clones share one flag.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    is_raised: Mutex<bool>,
    raised: Condvar,
}

// === impl Interrupt ===

impl Interrupt {
    /// From now on, SIGINT, SIGTERM and SIGHUP raise the flag and do not end the process.
    pub fn watch() -> io::Result<Self> {
        let interrupt = Self::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (mut int, mut term, mut hup) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
        };
        let theirs = interrupt.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! { _ = int.recv() => {} _ = term.recv() => {} _ = hup.recv() => {} }
                theirs.raise();
                // further signals are ignored: the end has begun and takes seconds
                loop {
                    tokio::select! { _ = int.recv() => {} _ = term.recv() => {} _ = hup.recv() => {} }
                }
            });
        })?;
        Ok(interrupt)
    }

    pub fn raise(&self) {
        *self.shared.is_raised.lock() = true;
        self.shared.raised.notify_all();
    }

    pub fn is_raised(&self) -> bool {
        *self.shared.is_raised.lock()
    }

    /// Waits for this time, or until the flag is raised. Returns whether it is raised.
    pub fn wait(&self, time: Duration) -> bool {
        let mut is_raised = self.shared.is_raised.lock();
        self.shared.raised.wait_while_for(&mut is_raised, |is_raised| !*is_raised, time);
        *is_raised
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_flag_stays_raised_for_all_clones() {
        let interrupt = Interrupt::default();
        assert!(!interrupt.wait(Duration::from_millis(1)));
        let theirs = interrupt.clone();
        let raiser = std::thread::spawn(move || theirs.raise());
        assert!(interrupt.wait(Duration::from_secs(30)), "woken by the other thread");
        raiser.join().expect("no panic");
        assert!(interrupt.clone().is_raised());
    }
}
