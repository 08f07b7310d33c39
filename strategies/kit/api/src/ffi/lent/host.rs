//! The host's part of the contract for a strategy: a log and the number of workers.
//!
//! Invariant: valid until the process ends, so a strategy may keep it.

use crate::abi::{LbHost, LbStr};

/// The host: a log and the number of workers. A strategy may keep it.
#[derive(Clone, Copy)]
pub struct Host {
    raw: Option<&'static LbHost>,
}

/// The severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LogLevel {
    /// An operator must act.
    Error = 1,
    /// An operator should know.
    Warn = 2,
    /// The normal course of events.
    Info = 3,
    /// For the author, hidden by default.
    Debug = 4,
    /// For the author, each step.
    Trace = 5,
}

// === impl Host ===

impl Host {
    /// No host, for unit tests of a strategy: it logs nothing and has one worker.
    pub const NONE: Self = Self { raw: None };

    /// The host that loads the plugin.
    ///
    /// # Safety
    /// `raw` must stay valid until the process ends.
    pub unsafe fn from_raw(raw: *const LbHost) -> Self {
        // SAFETY: the caller ensures it; null becomes `NONE`.
        Self { raw: unsafe { raw.as_ref() } }
    }

    /// The raw host, null for `NONE`.
    pub(crate) fn as_raw(&self) -> *const LbHost {
        self.raw.map_or(std::ptr::null(), std::ptr::from_ref)
    }

    /// The number of workers, which may all pick at the same time.
    pub fn workers(&self) -> usize {
        self.raw.map_or(1, |host| host.n_workers as usize)
    }

    /// Writes one line to the host's log, from any thread. `lb` drops lines over 20 a second from all plugins together,
    /// and counts them.
    pub fn log(&self, level: LogLevel, message: &str) {
        if let Some(host) = self.raw
            && let Some(log) = host.log
        {
            // SAFETY: any thread may call this function with the host's own context. The message is valid during the
            // call.
            unsafe { log(host.ctx, level as u32, LbStr::new(message.as_bytes())) }
        }
    }
}

// SAFETY: the host struct is immutable and lives until the process ends; its functions may be called from any thread.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}
