//! Blame for a crash or a hang: the plugin and the hook that a thread was in.
//!
//! Why: a core dump names a function, if there is one. An operator needs the plugin, its pool and its file, and the
//! next start must know them. So a handler writes one line to stderr and one to the blame file.
//!
//! Invariants: the handler calls only async-signal-safe functions, takes no lock and does not allocate. Every text
//! about an instance is prepared when the instance is made. A signal from another process blames no plugin. SIGKILL
//! and a loss of power run no handler, so they blame no plugin either. After the report the process ends as it would
//! have ended without the handler: by the same signal, with the same core dump. A thread that was asked goes on.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use libc::{c_int, c_void, siginfo_t};

use crate::inside::here;
use crate::resident;

/// The signals that faults of native code raise, with their names.
const SIGNALS: [(c_int, &str); 5] = [
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGFPE, "SIGFPE"),
];

/// The name of a hang, in place of a signal.
const HANG: &str = "hang";

/// The size of a thread's stack for the handler. The kernel stores up to 11 KiB of registers on it.
const STACK_BYTES: usize = 64 << 10;
/// The parts of one line, at most.
const PARTS_MAX: usize = 12;

/// What a report says about an instance.
pub(crate) struct Subject<'a> {
    pub(crate) plugin: &'a str,
    pub(crate) version: &'a str,
    pub(crate) pool: Option<&'a str>,
    pub(crate) file: Option<&'a Path>,
    pub(crate) sha256: Option<&'a str>,
    pub(crate) options: &'a serde_json::Value,
}

/// The text of a report about one instance, prepared for the handler.
#[derive(Debug)]
pub(crate) struct Report {
    /// The line for people, before and after the name of the hook.
    line: [Box<str>; 2],
    /// The begin of the line in the blame file: a JSON object that is still open.
    entry: Box<str>,
    /// Its probation has ended well, in this process or in an earlier one.
    pub(crate) is_proven: AtomicBool,
}

/// A number as text, without allocation.
struct Digits {
    text: [u8; 20],
    from: usize,
}

/// The actions that were in force before [`install`], in the order of [`SIGNALS`]. Set once, before the first handler.
static BEFORE: OnceLock<[libc::sigaction; SIGNALS.len()]> = OnceLock::new();
static BLAME: OnceLock<File> = OnceLock::new();
/// The monotonic second of [`install`], which is the begin of the run.
static STARTED_S: AtomicU64 = AtomicU64::new(0);
/// A thread reports; the process ends when it is done.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// Handles the signals of crashes from now on, in the whole process. For the begin of `main`: threads that start before
/// have no stack for the handler.
pub fn install() -> io::Result<()> {
    let mut before = [const { MaybeUninit::<libc::sigaction>::uninit() }; SIGNALS.len()];
    for ((signal, _), old) in SIGNALS.iter().zip(&mut before) {
        // SAFETY: without a new action this only writes the present one to `old`, which has space for it.
        checked(unsafe { libc::sigaction(*signal, ptr::null(), old.as_mut_ptr()) })?;
    }
    // SAFETY: the loop has written every element.
    let before = before.map(|old| unsafe { old.assume_init() });
    if BEFORE.set(before).is_err() {
        return Ok(());
    }
    STARTED_S.store(now_s(libc::CLOCK_MONOTONIC), Relaxed);
    // SAFETY: all-zero is a valid value of this struct of numbers.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    for (signal, _) in SIGNALS {
        // SAFETY: the set is a field of `action`. A second fault in the handler then ends the process at once.
        unsafe { libc::sigaddset(&raw mut action.sa_mask, signal) };
    }
    for (signal, _) in SIGNALS {
        // SAFETY: the handler is async-signal-safe, as its comments say, and has the signature of SA_SIGINFO.
        checked(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) })?;
    }
    action.sa_sigaction = on_question as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize;
    action.sa_flags |= libc::SA_RESTART;
    // SAFETY: as above.
    checked(unsafe { libc::sigaction(question(), &raw const action, ptr::null_mut()) })
}

/// The signal of [`ask`]. No other part of lb or of the C library uses it.
fn question() -> c_int {
    libc::SIGRTMIN() + 7
}

/// The number of this thread for [`ask`].
pub fn this_thread() -> i32 {
    // SAFETY: without arguments.
    unsafe { libc::gettid() }
}

/// Makes a thread of this process report the plugin that it is in as hanging, if it is in one. Does nothing without
/// [`install`].
pub fn ask(thread: i32) {
    if BEFORE.get().is_some() {
        // SAFETY: a plain system call. A thread that has ended is an error without effect.
        unsafe { libc::syscall(libc::SYS_tgkill, our_pid(), thread, question()) };
    }
}

/// Gives this thread a stack for the handler, so that it can report a stack overflow too. For the begin of every thread
/// that runs plugins. Does nothing without [`install`].
pub fn cover_thread() {
    if BEFORE.get().is_none() {
        return;
    }
    // The thread may run until the process ends, and so may its signals.
    let stack = Box::leak(vec![0_u8; STACK_BYTES].into_boxed_slice());
    let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    // SAFETY: the memory is never freed or used otherwise. After a failure, the stack of Rust's runtime stays.
    let _ = unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) };
}

/// Appends a line about each further crash to `file`, which must be open for appending. The first file stays.
pub fn blame_into(file: File) {
    let _ = BLAME.set(file);
}

/// Whether crashes are reported.
pub fn is_installed() -> bool {
    BEFORE.get().is_some()
}

fn checked(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn on_signal(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    if IS_ENDING.swap(true, Relaxed) {
        loop {
            // SAFETY: async-signal-safe; it waits for the end of the process.
            unsafe { libc::pause() };
        }
    }
    let name = SIGNALS.iter().find(|(one, _)| *one == signal).map_or("a signal", |(_, name)| name);
    // SAFETY: with SA_SIGINFO the kernel passes a valid `siginfo_t`.
    let code = unsafe { (*info).si_code };
    // A fault has a positive code. `abort` and `raise` send to their own process.
    let sender = (code <= 0).then(|| {
        // SAFETY: a signal that was sent has the id of its sender in this field.
        unsafe { (*info).si_pid() }
    });
    report(name, sender.filter(|pid| *pid != our_pid()));
    end(signal, sender.is_some());
}

extern "C" fn on_question(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the code that was interrupted must find its own error number again.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above; the pointer is that of this thread.
    let before = unsafe { *errno };
    // SAFETY: the kernel passes a valid `siginfo_t`, and this signal is always sent.
    if unsafe { (*info).si_pid() } == our_pid() {
        blame(HANG);
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}

fn our_pid() -> libc::pid_t {
    // SAFETY: async-signal-safe, without arguments.
    unsafe { libc::getpid() }
}

/// Writes which plugin is to blame. `other` is the process that sent the signal, if it is not this one.
fn report(signal: &str, other: Option<libc::pid_t>) {
    if let Some(pid) = other {
        let pid = Digits::of(pid.unsigned_abs().into());
        return tell(&["lb: ", signal, " was sent by process ", pid.as_str(), ": no plugin is blamed\n"]);
    }
    if blame(signal).is_none() {
        let what = " in no call of a plugin: a fault of lb, or of a thread that a plugin started; loaded plugins: ";
        tell(&[resident::line(&["lb: ", signal, what]).finish()]);
    }
}

/// Blames the plugin that this thread is in; `None` if it is in none.
fn blame(signal: &str) -> Option<()> {
    here(|tag, hook| {
        let Report { line: [before, after], entry, is_proven } = &tag.report;
        let (hook, at) = (hook.as_str(), Digits::of(now_s(libc::CLOCK_REALTIME)));
        let up = Digits::of(now_s(libc::CLOCK_MONOTONIC).saturating_sub(STARTED_S.load(Relaxed)));
        let proven = if is_proven.load(Relaxed) { "true" } else { "false" };
        if let Some(file) = BLAME.get() {
            let (to_hook, to_proven) = ("\",\"hook\":\"", "\",\"proven\":");
            let (to_at, to_up) = (",\"unix_s\":", ",\"up_s\":");
            let parts =
                [entry, signal, to_hook, hook, to_proven, proven, to_at, at.as_str(), to_up, up.as_str(), "}\n"];
            write(file.as_raw_fd(), &parts);
        }
        tell(&["lb: ", signal, before, hook, after]);
    })
}

/// Writes a line to stderr, unless its reader is stuck: that must not keep the process from ending.
fn tell(parts: &[&str]) {
    let mut stderr = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    // SAFETY: async-signal-safe; one valid element, and no wait.
    let ready = unsafe { libc::poll(&raw mut stderr, 1, 0) };
    if ready == 1 && stderr.revents & libc::POLLOUT != 0 {
        write(libc::STDERR_FILENO, parts);
    }
}

/// Writes the parts in one system call. A failure has no remedy here.
fn write(fd: c_int, parts: &[&str]) {
    let mut vectors = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; PARTS_MAX];
    for (vector, part) in vectors.iter_mut().zip(parts) {
        *vector = libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
    }
    // SAFETY: a plain system call, so it is async-signal-safe on Linux. It only reads the parts, which outlive it.
    let _ = unsafe { libc::writev(fd, vectors.as_ptr(), parts.len().min(PARTS_MAX) as c_int) };
}

fn now_s(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: async-signal-safe; `now` has space for the result.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now.tv_sec.unsigned_abs()
}

/// Makes the process end by `signal` when the handler returns.
fn end(signal: c_int, was_sent: bool) {
    for ((one, _), before) in SIGNALS.iter().zip(BEFORE.get().into_iter().flatten()) {
        // SAFETY: async-signal-safe; the action was in force before.
        unsafe { libc::sigaction(*one, before, ptr::null_mut()) };
    }
    // A fault happens again at the same instruction, for the action before. That of Rust's runtime reports a stack
    // overflow. A signal that was sent does not come again, and that action ignores the first one.
    if was_sent {
        // SAFETY: async-signal-safe. The signal is blocked until the handler returns.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }
}

// === impl Report ===

impl Report {
    pub(crate) fn new(subject: &Subject<'_>) -> Self {
        let Subject { plugin, version, pool, file, sha256, options } = *subject;
        let pool_and = pool.map(|pool| format!("pool {pool}, ")).unwrap_or_default();
        let file = file.map(|file| file.to_string_lossy().into_owned());
        let file_told = file.as_ref().map(|file| format!(", file {file}")).unwrap_or_default();
        let sum_told = sha256.map(|sum| format!(", sha256 {sum}")).unwrap_or_default();
        let entry = serde_json::json!({
            "pool": pool, "strategy": plugin, "version": version, "file": file, "sha256": sha256, "options": options,
        });
        let entry = entry.to_string();
        let open = entry.strip_suffix('}').unwrap_or(&entry);
        Self {
            line: [
                plain(&format!(" in plugin {plugin} ({pool_and}hook ")),
                plain(&format!("{file_told}{sum_told})")) + "\n",
            ]
            .map(String::into_boxed_str),
            entry: format!("{open},\"signal\":\"").into(),
            is_proven: AtomicBool::new(false),
        }
    }
}

/// The text in one line, because a plugin chooses its name.
fn plain(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { '?' } else { one }).collect()
}

// === impl Digits ===

impl Digits {
    fn of(mut number: u64) -> Self {
        let mut digits = Self { text: [b'0'; 20], from: 20 };
        for place in (0..20).rev() {
            digits.text[place] = b'0' + (number % 10) as u8;
            number /= 10;
            digits.from = place;
            if number == 0 {
                break;
            }
        }
        digits
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[self.from..]).unwrap_or("?")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report_of(plugin: &str, pool: Option<&str>) -> Report {
        let options = serde_json::json!({ "a": "}" });
        let (file, sha256) = (Some(Path::new("/x/liba.so")), Some("ab12"));
        Report::new(&Subject { plugin, version: "1", pool, file, sha256, options: &options })
    }

    #[test]
    fn the_parts_of_a_report_make_a_line_for_people_and_a_line_of_json() {
        let Report { line: [before, after], entry, .. } = report_of("moody", Some("default"));
        let line = format!("lb: SIGSEGV{before}pick{after}");
        assert_eq!(line, "lb: SIGSEGV in plugin moody (pool default, hook pick, file /x/liba.so, sha256 ab12)\n");
        let entry = format!("{entry}SIGSEGV\",\"hook\":\"pick\",\"proven\":false,\"unix_s\":7}}\n");
        let read: serde_json::Value = serde_json::from_str(&entry).unwrap();
        assert_eq!(
            (&read["options"]["a"], &read["pool"], &read["unix_s"]),
            (&"}".into(), &"default".into(), &7.into())
        );
    }

    #[test]
    fn a_name_with_control_characters_stays_one_line() {
        let Report { line: [before, _], .. } = report_of("a\nb", None);
        assert_eq!(&*before, " in plugin a?b (hook ");
    }

    #[test]
    fn numbers_are_written_without_leading_zeros() {
        let told = [0, 7, 10, 1_700_000_000, u64::MAX].map(|number| Digits::of(number).as_str().to_owned());
        assert_eq!(told, ["0", "7", "10", "1700000000", "18446744073709551615"]);
    }

    #[test]
    fn a_line_is_written_in_one_piece_without_limit_of_its_parts() {
        let file = tempfile::tempfile().unwrap();
        let long = "x".repeat(10_000);
        write(file.as_raw_fd(), &["a", &long, "b\n"]);
        let mut text = String::new();
        let mut file = file;
        io::Seek::rewind(&mut file).unwrap();
        io::Read::read_to_string(&mut file, &mut text).unwrap();
        assert_eq!(text, format!("a{long}b\n"));
    }
}
