//! `--exit-with-parent`: whether the program that started us is still there.
//!
//! It holds the other end of our stdin and writes nothing. However it ends, by SIGKILL too, the system closes its end, and ours reads
//! the end of the file. (Being told by the system of a parent's death is worse: it is bound to the thread that started us.)

use std::io;

use tokio::sync::oneshot;

/// Ready when the parent has gone.
pub(super) struct Parent(oneshot::Receiver<()>);

// === impl Parent ===

impl Parent {
    /// Reads stdin on a thread of its own, as such a read cannot be broken off; the process's end ends it.
    pub(super) fn watch() -> io::Result<Self> {
        let (sender, gone) = oneshot::channel();
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            // an error is the end as well: without a pipe there is nobody
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            drop(sender);
        })?;
        Ok(Self(gone))
    }

    /// Never ready where there is none to watch, or when that was said.
    pub(super) async fn gone(parent: &mut Option<Self>) {
        let Some(Self(gone)) = parent else { return std::future::pending().await };
        let _ = gone.await; // the drop of the sender is the message
        *parent = None;
    }
}
