//! Which plugin, instance and hook each thread is in.
//!
//! Why: a log line, a panic or a crash of a plugin comes without a name. The host knows where the thread is, because
//! it notes that around every call. Invariants: the note costs a few stores and no atomic operation. A call does not
//! nest in another call. A signal handler may read the note, because it is a constant-initialised thread-local.

use std::cell::Cell;
use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use lb_strategy::abi::{LB_E_PANIC, LbStatus};

use crate::crash::{Report, Subject};
use crate::error::HookError;
use crate::talk::Limit;

/// The functions of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Hook {
    /// The constructors of the library and its entry.
    Entry,
    StrategyNew,
    StrategyFree,
    PickerNew,
    PickerFree,
    Pick,
    OnStart,
    OnFinish,
    StateExport,
    StateImport,
    Tick,
    Metrics,
    Explain,
    OnProbe,
}

/// Panics of one instance that the plugin caught and reported, by hook.
#[derive(Debug, Default)]
pub struct HookPanics([Panics; Hook::ALL.len()]);

#[derive(Debug, Default)]
struct Panics {
    count: AtomicU64,
    /// The log line of the first one, if the plugin wrote one.
    first: OnceLock<Box<str>>,
}

/// The target of a call: a plugin, and the pool of the instance.
#[derive(Debug)]
pub(crate) struct Tag {
    pub(crate) plugin: Box<str>,
    /// The pool that the instance works for; `None` outside a pool, for example in a check.
    pub(crate) pool: Option<Box<str>>,
    /// Shared by the instances of the plugin.
    pub(crate) lines: Arc<Limit>,
    /// Outlives the instance, so that the metrics lose no count.
    pub(crate) panics: Arc<HookPanics>,
    /// For the handler of crashes.
    pub(crate) report: Report,
}

/// The longest text of a panic. A longer one is cut.
const TEXT_MAX_BYTES: usize = 400;

/// A call in progress. Its end clears the note.
pub(crate) struct Call;

/// The note of a thread. Without a tag the hook means nothing, so the end of a call clears the tag alone.
struct Place {
    tag: Cell<*const Tag>,
    hook: Cell<Hook>,
}

thread_local! {
    static PLACE: Place = const { Place { tag: Cell::new(ptr::null()), hook: Cell::new(Hook::Entry) } };
}

/// Notes that this thread calls `hook` of `tag`, until the result is dropped.
#[inline]
pub(crate) fn enter(tag: &Tag, hook: Hook) -> Call {
    PLACE.with(|place| {
        place.hook.set(hook);
        place.tag.set(ptr::from_ref(tag));
    });
    Call
}

/// Runs `look` with the tag and the hook of the running call; `None` if this thread runs no plugin.
pub(crate) fn here<T>(look: impl FnOnce(&Tag, Hook) -> T) -> Option<T> {
    let (tag, hook) = PLACE.with(|place| (place.tag.get(), place.hook.get()));
    // SAFETY: `enter` borrowed the tag, and `Call` clears the pointer before the borrow of the caller ends.
    unsafe { tag.as_ref() }.map(|tag| look(tag, hook))
}

// === impl Hook ===

impl Hook {
    pub const ALL: [Self; 14] = [
        Self::Entry,
        Self::StrategyNew,
        Self::StrategyFree,
        Self::PickerNew,
        Self::PickerFree,
        Self::Pick,
        Self::OnStart,
        Self::OnFinish,
        Self::StateExport,
        Self::StateImport,
        Self::Tick,
        Self::Metrics,
        Self::Explain,
        Self::OnProbe,
    ];

    /// Whether it returns no status, so that a plugin can report its panic only by a log line.
    pub(crate) fn is_mute(self) -> bool {
        matches!(self, Self::StrategyFree | Self::PickerFree | Self::OnStart | Self::OnFinish | Self::OnProbe)
    }

    /// Its name in the header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::StrategyNew => "strategy_new",
            Self::StrategyFree => "strategy_free",
            Self::PickerNew => "picker_new",
            Self::PickerFree => "picker_free",
            Self::Pick => "pick",
            Self::OnStart => "on_start",
            Self::OnFinish => "on_finish",
            Self::StateExport => "state_export",
            Self::StateImport => "state_import",
            Self::Tick => "tick",
            Self::Metrics => "metrics",
            Self::Explain => "explain",
            Self::OnProbe => "on_probe",
        }
    }
}

// === impl HookPanics ===

impl HookPanics {
    pub fn of(&self, hook: Hook) -> u64 {
        self.0[hook as usize].count.load(Relaxed)
    }

    /// Where and why the hook panicked first: `<place>: <message>`. `None` if the plugin wrote no log line.
    pub fn first(&self, hook: Hook) -> Option<&str> {
        self.0[hook as usize].first.get().map(|text| &**text)
    }

    /// In the order of [`Hook::ALL`].
    pub fn counts(&self) -> [u64; Hook::ALL.len()] {
        Hook::ALL.map(|hook| self.of(hook))
    }

    /// Counts a panic in `hook`.
    pub fn count(&self, hook: Hook) {
        self.0[hook as usize].count.fetch_add(1, Relaxed);
    }

    /// Keeps the text of the first panic of a hook. Later ones cost no copy.
    pub(crate) fn keep_text(&self, hook: Hook, text: &str) {
        self.0[hook as usize].first.get_or_init(|| {
            let line = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
            cut(&line, TEXT_MAX_BYTES).into()
        });
    }
}

/// The first `most` bytes of `text`, or fewer so that no character is split.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or_default()]
}

// === impl Tag ===

impl Tag {
    pub(crate) fn new(subject: &Subject<'_>, lines: Arc<Limit>) -> Self {
        let Subject { plugin, pool, .. } = subject;
        let (plugin, pool) = ((*plugin).into(), pool.map(Into::into));
        Self { plugin, pool, lines, panics: Arc::default(), report: Report::new(subject) }
    }

    /// The failure of `hook` with `status`, counted if it was a panic; `reason` is the text that the plugin gave.
    pub(crate) fn failed(&self, hook: Hook, status: LbStatus, reason: &[u8]) -> HookError {
        if status == LB_E_PANIC {
            self.panicked(hook);
        }
        HookError::failed(&self.plugin, hook.as_str(), status, reason, self.panics.first(hook))
    }

    pub(crate) fn panicked(&self, hook: Hook) {
        self.panics.count(hook);
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pool {
            Some(pool) => write!(f, "{} of pool {pool}", self.plugin),
            None => f.write_str(&self.plugin),
        }
    }
}

// === impl Call ===

impl Drop for Call {
    #[inline]
    fn drop(&mut self) {
        PLACE.with(|place| place.tag.set(ptr::null()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(plugin: &str, pool: Option<&str>) -> Tag {
        let options = serde_json::Value::Null;
        Tag::new(&Subject { plugin, version: "1", pool, file: None, sha256: None, options: &options }, Arc::default())
    }

    #[test]
    fn the_note_is_there_during_the_call_and_only_in_its_thread() {
        let tag = tag("moody", Some("default"));
        let told = || here(|tag, hook| format!("{tag}, {}", hook.as_str()));
        assert_eq!(told(), None);
        {
            let _call = enter(&tag, Hook::Pick);
            assert_eq!(told().as_deref(), Some("moody of pool default, pick"));
            assert_eq!(std::thread::spawn(move || here(|_, hook| hook)).join().unwrap(), None);
        }
        assert_eq!(told(), None);
    }

    #[test]
    fn the_number_of_a_hook_is_its_place_in_all_and_names_differ() {
        assert!(Hook::ALL.iter().enumerate().all(|(place, hook)| *hook as usize == place));
        let names: std::collections::BTreeSet<_> = Hook::ALL.iter().map(|hook| hook.as_str()).collect();
        assert_eq!(names.len(), Hook::ALL.len());
    }

    #[test]
    fn panics_are_counted_by_hook() {
        let tag = tag("moody", None);
        tag.panicked(Hook::OnFinish);
        assert_eq!((tag.panics.of(Hook::OnFinish), tag.panics.of(Hook::Pick)), (1, 0));
    }

    #[test]
    fn the_first_text_of_a_hooks_panics_is_kept_as_one_short_line() {
        let panics = HookPanics::default();
        panics.keep_text(Hook::Tick, "src/lib.rs:1:2:\n  tenth\n");
        panics.keep_text(Hook::Tick, "src/lib.rs:3:4: eleventh");
        assert_eq!((panics.first(Hook::Tick), panics.first(Hook::Pick)), (Some("src/lib.rs:1:2: tenth"), None));
        panics.keep_text(Hook::Pick, &"\u{e4}".repeat(TEXT_MAX_BYTES));
        assert_eq!(panics.first(Hook::Pick).map(str::len), Some(TEXT_MAX_BYTES));
    }
}
