//! `--exit-with-parent`: whether the parent process is still running.
//!
//! The parent holds the other end of our stdin and writes nothing. At its end, also by SIGKILL, the system closes its
//! end of the pipe, and our read returns the end of the file. (A death signal from the system is worse: it depends on
//! the thread that started us.)

use std::io;

use tokio::sync::oneshot;

/// Ready when the parent is gone.
pub(super) struct Parent(oneshot::Receiver<()>);

// === impl Parent ===

impl Parent {
    /// Reads stdin on a thread of its own, because such a read cannot be interrupted; the process's end ends the
    /// thread.
    pub(super) fn watch() -> io::Result<Self> {
        let (sender, gone) = oneshot::channel();
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            // an error counts as the end: without a pipe there is no parent
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            drop(sender);
        })?;
        Ok(Self(gone))
    }

    /// Never ready if there is no parent to watch, or after it was reported.
    pub(super) async fn gone(parent: &mut Option<Self>) {
        let Some(Self(gone)) = parent else { return std::future::pending().await };
        let _ = gone.await; // the drop of the sender is the message
        *parent = None;
    }
}
