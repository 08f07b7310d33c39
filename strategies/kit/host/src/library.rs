//! Opens an image and reads its table. This file and `handle` contain all `unsafe` code of the crate.
//!
//! Invariants: an image is opened with `RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE` and never closed, so its pointers are
//! valid until the process ends. At most `size` bytes of a table are copied. Fields beyond them read as absent.

use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lb_strategy::abi::*;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use crate::crash::Subject;
use crate::inside::{self, Hook, Tag};
use crate::resident;
use crate::talk::{self, Limit};

/// Keeps the image mapped even if the handle is closed (dlfcn.h; the same on x86-64 and aarch64 Linux).
const RTLD_NODELETE: i32 = 0x1000;

/// A resident plugin: its description and its hooks.
pub struct Plugin {
    table: LbStrategyTable,
    name: String,
    version: String,
    build: String,
    state_schema: String,
    expectation: String,
    response_headers: Arc<[Box<[u8]>]>,
    path: Option<PathBuf>,
    sha256: Option<[u8; 32]>,
    /// The entry returned NULL. The table is all zero.
    refuses_host: bool,
    pub(crate) host: HostInfo,
    /// The limit of its log lines.
    pub(crate) lines: Arc<Limit>,
}

/// What a plugin asks for. The rest costs it nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// The key of each request, and its hash.
    pub hash: bool,
    /// The begin of each attempt.
    pub start: bool,
    /// The end of each attempt.
    pub finish: bool,
    /// With the end, what the response was.
    pub answer: bool,
    /// The bytes of each body that are read before the pick.
    pub body: u32,
    /// Probes with a pick, and their ends.
    pub probes: bool,
}

/// The struct that plugins get as the host. It is leaked, because plugins may keep the pointer.
#[derive(Clone, Copy)]
pub(crate) struct HostInfo(pub(crate) &'static LbHost);

/// A plugin that is linked into this program, for tests of a strategy in its own crate. The same version rules apply.
pub fn plugin_from_table(table: &'static LbStrategyTable, workers: usize) -> Result<Arc<Plugin>, String> {
    // SAFETY: a 'static table made by the SDK.
    let plugin = unsafe { Plugin::from_raw(table, None, None, HostInfo::new(workers)) };
    plugin.check_version()?;
    Ok(Arc::new(plugin))
}

// === impl HostInfo ===

impl HostInfo {
    pub(crate) fn new(workers: usize) -> Self {
        Self(Box::leak(Box::new(LbHost {
            size: size_of::<LbHost>() as u32,
            abi_major: ABI_MAJOR,
            abi_minor: ABI_MINOR,
            n_workers: workers as u32,
            request_size: size_of::<LbRequest>() as u32,
            ctx: std::ptr::null_mut(),
            log: Some(log),
            sink_write: Some(sink_write),
            pick_size: size_of::<LbPick>() as u32,
            stats_size: size_of::<LbStats>() as u32,
        })))
    }
}

// SAFETY: the struct is immutable and its functions may be called from any thread.
unsafe impl Send for HostInfo {}
// SAFETY: as above.
unsafe impl Sync for HostInfo {}

unsafe extern "C" fn log(_: *mut c_void, level: u32, message: LbStr) {
    // SAFETY: by the contract, the message is valid during the call.
    let text = unsafe { text(message) };
    let told = inside::here(|tag, hook| {
        if level == 1
            && let Some(panic) = text.strip_prefix(PANIC)
        {
            tag.panics.keep_text(hook, panic);
            if hook.is_mute() {
                tag.panicked(hook);
            }
        }
        if let Some(line) = tag.lines.line(&text) {
            talk::tell(level, &line, Some((tag, hook)));
        }
    });
    if told.is_none()
        && let Some(line) = UNNAMED.line(&text)
    {
        talk::tell(level, &line, None);
    }
}

/// The limit of all threads that plugins started.
static UNNAMED: Limit = Limit::new();

/// How the line begins by which a plugin reports a panic. Of a hook that returns no status, it is the only report.
const PANIC: &str = "panicked at ";

/// The limit of a sink, which is a `Vec<u8>`. More bytes are dropped, so that a plugin cannot fill the memory.
const SINK_MAX_BYTES: usize = 16 << 20;

unsafe extern "C" fn sink_write(sink: *mut LbSink, bytes: LbStr) {
    // SAFETY: every lent sink is a live `Vec<u8>`, and no other code uses it during the call.
    if let Some(buffer) = unsafe { sink.cast::<Vec<u8>>().as_mut() }
        && buffer.len().saturating_add(bytes.len) <= SINK_MAX_BYTES
        && !bytes.ptr.is_null()
    {
        // SAFETY: by the contract, `len` bytes are valid during the call.
        buffer.extend_from_slice(unsafe { std::slice::from_raw_parts(bytes.ptr, bytes.len) });
    }
}

/// # Safety
/// `text` must be null or point to `len` readable bytes.
unsafe fn text(text: LbStr) -> String {
    if text.ptr.is_null() {
        return String::new();
    }
    // SAFETY: the caller ensures it.
    String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(text.ptr, text.len) }).into_owned()
}

/// The longest name of a response header that a table may ask for.
const HEADER_NAME_MAX_BYTES: usize = 64;

/// Whether `name` is a token (RFC 9110, section 5.6.2) of a sound length.
fn is_header_name(name: &[u8]) -> bool {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    (1..=HEADER_NAME_MAX_BYTES).contains(&name.len()) && name.iter().all(is_token)
}

/// The names of response headers in a table, in lower case. None if there are too many: the version check refuses that.
///
/// # Safety
/// The table's names must be null or valid.
unsafe fn names(table: &LbStrategyTable) -> Arc<[Box<[u8]>]> {
    let count = table.n_response_headers as usize;
    if table.response_headers.is_null() || count > RESPONSE_HEADERS_MAX {
        return Arc::default();
    }
    // SAFETY: the caller ensures it.
    let names = unsafe { std::slice::from_raw_parts(table.response_headers, count) };
    // SAFETY: as above.
    names.iter().map(|name| unsafe { text(*name) }.to_ascii_lowercase().into_bytes().into_boxed_slice()).collect()
}

/// The loader's error, followed by the linker's message, which names the missing symbol or library.
fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

// === impl Plugin ===

impl Plugin {
    /// Maps `copy`, calls its entry and copies the table.
    pub(crate) fn open(copy: &Path, origin: &Path, sha256: [u8; 32], host: &HostInfo) -> Result<Self, String> {
        if cfg!(target_feature = "crt-static") {
            return Err(
                "cannot be opened, because this lb is linked statically: build it for a target with glibc, or with \
                        -C target-feature=-crt-static"
                    .into(),
            );
        }
        let (name, sum) = (origin.display().to_string(), crate::load::hex(&sha256));
        let subject = Subject {
            plugin: &name,
            version: "",
            pool: None,
            file: Some(origin),
            sha256: Some(&sum),
            options: &serde_json::Value::Null,
        };
        let tag = Tag::new(&subject, Arc::default());
        let call = inside::enter(&tag, Hook::Entry);
        // SAFETY: the image's constructors run here. The file is a private copy that passed the checks of `elf`, and a
        // plugin is trusted native code.
        let library = unsafe { Library::open(Some(copy), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) }
            .map_err(|error| format!("cannot be opened: {}", with_cause(&error)))?;
        // SAFETY: the symbol's name contains the major version, which determines its type.
        let entry = unsafe { library.get::<EntryFn>(ENTRY_SYMBOL) }
            .map(|symbol| *symbol)
            .map_err(|error| format!("has no entry: {}", with_cause(&error)))?;
        resident::note(name.clone());
        #[expect(clippy::disallowed_methods, reason = "an image is never unmapped: threads may be in its code")]
        std::mem::forget(library);
        // SAFETY: the host struct lives until the process ends.
        let table = unsafe { entry(host.0) };
        drop(call);
        // SAFETY: a plugin's table is null or valid as long as its image, which is never unmapped.
        Ok(unsafe { Self::from_raw(table, Some(origin.to_owned()), Some(sha256), *host) })
    }

    /// # Safety
    /// `table` must be null, or point to at least 4 bytes. These contain the table's size, and so many bytes must
    /// exist.
    unsafe fn from_raw(
        table: *const LbStrategyTable,
        path: Option<PathBuf>,
        sha256: Option<[u8; 32]>,
        host: HostInfo,
    ) -> Self {
        // SAFETY: all-zero is a valid table: numbers 0, null strings, absent hooks.
        let mut copy: LbStrategyTable = unsafe { std::mem::zeroed() };
        // SAFETY: every table begins with its size.
        let size = if table.is_null() { 0 } else { unsafe { *table.cast::<u32>() } };
        // Only whole words are copied, so that a size that ends inside a pointer does not leave half a pointer.
        let whole = (size as usize & !(align_of::<LbStrategyTable>() - 1)).min(size_of::<LbStrategyTable>());
        // SAFETY: the table has `size` bytes, and `whole` is not more than that or than the size of the copy.
        unsafe { std::ptr::copy_nonoverlapping(table.cast::<u8>(), (&raw mut copy).cast::<u8>(), whole) };
        copy.size = size;
        // Only a table of this major version has its strings at these offsets.
        let is_readable = size as usize >= TABLE_REQUIRED_SIZE && copy.abi_major == ABI_MAJOR;
        let read = |field: LbStr| {
            // SAFETY: the strings of a table live as long as the image.
            if is_readable { unsafe { text(field) } } else { String::new() }
        };
        Self {
            name: read(copy.name),
            version: read(copy.version),
            build: read(copy.build),
            state_schema: read(copy.state_schema),
            expectation: read(copy.expectation),
            // SAFETY: a readable table's names live as long as the image.
            response_headers: if is_readable { unsafe { names(&copy) } } else { Arc::default() },
            table: copy,
            path,
            sha256,
            refuses_host: table.is_null(),
            host,
            lines: Arc::default(),
        }
    }

    /// Checks all conditions that the contract has for a table. The plugin's own version and build are not checked.
    pub(crate) fn check_version(&self) -> Result<(), String> {
        let table = &self.table;
        if self.refuses_host {
            return Err(format!(
                "refuses this host (version {ABI_MAJOR}.{ABI_MINOR} of the contract): build it against this lb's header"
            ));
        }
        if (table.size as usize) < TABLE_REQUIRED_SIZE {
            return Err(format!("has a table of {} bytes; version 1 needs {TABLE_REQUIRED_SIZE}", table.size));
        }
        if table.abi_major != ABI_MAJOR {
            return Err(format!("uses major version {} of the contract, this lb {ABI_MAJOR}", table.abi_major));
        }
        if table.min_host_minor > u32::from(ABI_MINOR) {
            return Err(format!(
                "needs a host of version {ABI_MAJOR}.{} or newer, this is {ABI_MAJOR}.{ABI_MINOR}: update lb",
                table.min_host_minor
            ));
        }
        if table.body_bytes > LB_BODY_BYTES_MAX {
            return Err(format!(
                "asks for {} bytes of each body (body_bytes): at most {LB_BODY_BYTES_MAX} are possible",
                table.body_bytes
            ));
        }
        let missing = [
            (table.strategy_new.is_none(), "strategy_new"),
            (table.strategy_free.is_none(), "strategy_free"),
            (table.picker_new.is_none(), "picker_new"),
            (table.picker_free.is_none(), "picker_free"),
            (table.pick.is_none(), "pick"),
        ];
        if let Some((_, hook)) = missing.iter().find(|(is_missing, _)| *is_missing) {
            return Err(format!("lacks the required hook {hook}"));
        }
        if table.n_response_headers as usize > RESPONSE_HEADERS_MAX {
            let count = table.n_response_headers;
            return Err(format!("names {count} response headers: {RESPONSE_HEADERS_MAX} is the limit"));
        }
        let gets_headers = self.wants().answer || self.wants().probes;
        if table.n_response_headers > 0 && (table.response_headers.is_null() || !gets_headers) {
            return Err("names response headers, but its table lacks the names, or has neither on_probe nor \
                        LB_F_WANTS_ANSWER, LB_F_WANTS_FINISH and on_finish, so it would get no value"
                .into());
        }
        match self.response_headers.iter().find(|name| !is_header_name(name)) {
            Some(name) => Err(format!(
                "asks for the response header {:?}, which is no header name of at most {HEADER_NAME_MAX_BYTES} bytes",
                String::from_utf8_lossy(name)
            )),
            None => Ok(()),
        }
    }

    pub(crate) fn table(&self) -> &LbStrategyTable {
        &self.table
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    /// The plugin's text about its compiler and SDK, for messages only.
    pub fn build(&self) -> &str {
        &self.build
    }

    /// The declared expectation: JSON, or "" for none.
    pub fn expectation(&self) -> &str {
        &self.expectation
    }

    /// The response headers whose values a finish and a probe bring, at most [`RESPONSE_HEADERS_MAX`].
    pub fn response_headers(&self) -> &Arc<[Box<[u8]>]> {
        &self.response_headers
    }

    /// Schema and version of its learned state, if it has one.
    pub fn state_schema(&self) -> Option<(&str, u32)> {
        (!self.state_schema.is_empty()).then_some((self.state_schema.as_str(), self.table.state_version))
    }

    /// What the host prepares and reports for it.
    pub fn wants(&self) -> Wants {
        let has = |flag| self.table.flags & flag != 0;
        Wants {
            hash: has(LB_F_WANTS_HASH),
            start: self.table.on_start.is_some(),
            finish: has(LB_F_WANTS_FINISH) && self.table.on_finish.is_some(),
            answer: has(LB_F_WANTS_ANSWER) && has(LB_F_WANTS_FINISH) && self.table.on_finish.is_some(),
            body: self.table.body_bytes,
            probes: self.table.on_probe.is_some(),
        }
    }

    /// Milliseconds between two calls of [`Strategy::tick`](crate::Strategy::tick); 0 means no calls.
    pub fn tick_ms(&self) -> u32 {
        if self.table.tick.is_some() { self.table.tick_ms } else { 0 }
    }

    /// Milliseconds between two periodic probes of each eligible backend; 0 means none.
    pub fn probe_ms(&self) -> u32 {
        if self.table.on_probe.is_some() { self.table.probe_ms } else { 0 }
    }

    /// Whether it has metrics of its own.
    pub fn has_metrics(&self) -> bool {
        self.table.metrics.is_some()
    }

    /// Whether it offers an explanation.
    pub fn explains(&self) -> bool {
        self.table.explain.is_some()
    }

    /// The path of the operator's file; `None` for a plugin that is linked in.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub fn sha256(&self) -> Option<[u8; 32]> {
        self.sha256
    }

    /// The SHA-256 as 64 hexadecimal digits.
    pub fn sha256_hex(&self) -> Option<String> {
        self.sha256.map(|sum| crate::load::hex(&sum))
    }
}

// SAFETY: the table and its strings are immutable copies. The contract says which threads may call its functions.
unsafe impl Send for Plugin {}
// SAFETY: as above.
unsafe impl Sync for Plugin {}
