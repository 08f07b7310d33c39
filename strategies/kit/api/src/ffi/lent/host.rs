//! The host, as a strategy sees it: a log and the number of workers.
//!
//! Invariant: valid until the process ends, so a strategy may keep it.

use crate::abi::{LbHost, LbStr};

/// The host, as a strategy sees it: a log and the number of workers.
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
    /// A host that is not there, for unit tests of a strategy: it logs nothing and has one worker.
    pub const NONE: Self = Self { raw: None };

    /// The host that loads the plugin.
    ///
    /// # Safety
    /// `raw` must stay valid until the process ends.
    pub unsafe fn from_raw(raw: *const LbHost) -> Self {
        // SAFETY: the caller's promise; null becomes `NONE`.
        Self { raw: unsafe { raw.as_ref() } }
    }

    /// The raw host, null for `NONE`.
    pub(crate) fn as_raw(&self) -> *const LbHost {
        self.raw.map_or(std::ptr::null(), std::ptr::from_ref)
    }

    /// Workers that may pick at the same time.
    pub fn workers(&self) -> usize {
        self.raw.map_or(1, |host| host.n_workers as usize)
    }

    /// One line into the host's log. Never blocks; the host may drop it.
    pub fn log(&self, level: LogLevel, message: &str) {
        if let Some(host) = self.raw
            && let Some(log) = host.log
        {
            // SAFETY: the host's function takes its own context and a message borrowed for the call, from any thread.
            unsafe { log(host.ctx, level as u32, LbStr::new(message.as_bytes())) }
        }
    }
}

// SAFETY: the host struct is immutable and lives until the process ends; its functions may be called from any thread.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}
