//! Messages to the service manager: a unit with `Type=notify` (systemd) knows when lb is ready, reloads and stops.
//!
//! The protocol is sd_notify(3): a datagram of `NAME=value` lines to the socket in `$NOTIFY_SOCKET`. Plain Rust is
//! enough for that, so there is no C library. Without the variable nothing is sent.
//!
//! Invariants: no failure here stops lb. The watchdog is fed only while every worker shows signs of life. So a worker
//! that hangs in a plugin makes the service manager restart lb.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::control::{Handle, Reloading, Status};
use crate::generation::{Hall, SILENCE_MAX};

/// The way to the service manager, if there is one.
pub(super) struct Notifier {
    socket: Option<UnixDatagram>,
    /// The time after which the service manager restarts a silent lb.
    watchdog: Option<Duration>,
}

/// How long the status line waits for control; the watchdog must not wait longer.
const STATUS_TIME_MAX: Duration = Duration::from_secs(1);

// === impl Notifier ===

impl Notifier {
    /// As the environment says. A socket that cannot be reached is a warning.
    pub(super) fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()).and_then(|name| {
            let opened = open(&name);
            let warn = |error| tracing::warn!(socket = %name.display(), %error, "$NOTIFY_SOCKET cannot be used");
            opened.map_err(warn).ok()
        });
        let variable = |name| std::env::var(name).ok();
        let watchdog = watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id());
        Self { watchdog: watchdog.filter(|_| socket.is_some()), socket }
    }

    /// The first generation serves.
    pub(super) fn ready(&self, status: &Status) {
        self.tell(&format!("READY=1\nSTATUS={}", line(status)));
    }

    /// lb stops, and needs up to `time_max` for that.
    pub(super) fn stopping(&self, time_max: Duration) {
        self.tell(&format!("STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC={}", time_max.as_micros()));
    }

    /// Reports reloads and feeds the watchdog. Never returns.
    pub(super) async fn follow(&self, mut reloads: watch::Receiver<Reloading>, hall: &Hall, handle: &Handle) {
        if self.socket.is_none() {
            return std::future::pending().await;
        }
        let mut begun = reloads.borrow_and_update().begun;
        let mut feeding = self.watchdog.map(|time| interval(time / 2));
        if let Some(feeding) = &mut feeding {
            feeding.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut is_fed = true;
        loop {
            tokio::select! {
                changed = reloads.changed() => match changed {
                    Ok(()) => {
                        let now = *reloads.borrow_and_update();
                        self.reload(now, now.begun > begun, handle).await;
                        begun = now.begun;
                    }
                    // control has ended, and so will this run
                    Err(_) => std::future::pending().await,
                },
                () = tick(&mut feeding) => is_fed = self.feed(hall.stuck_workers(SILENCE_MAX), is_fed),
            }
        }
    }

    /// A reload has begun or ended, or both.
    async fn reload(&self, now: Reloading, has_begun: bool, handle: &Handle) {
        if has_begun {
            let clock = clock_gettime(ClockId::Monotonic);
            let microseconds = clock.tv_sec * 1_000_000 + clock.tv_nsec / 1_000;
            self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}\nSTATUS=reloading"));
        }
        if !now.is_running {
            let status = timeout(STATUS_TIME_MAX, handle.status()).await;
            let status = status.ok().and_then(Result::ok).map(|status| format!("\nSTATUS={}", line(&status)));
            self.tell(&format!("READY=1{}", status.unwrap_or_default()));
        }
    }

    /// Feeds the watchdog if no worker is stuck; returns whether it did.
    fn feed(&self, stuck_workers: usize, was_fed: bool) -> bool {
        let is_fed = stuck_workers == 0;
        if is_fed {
            self.tell("WATCHDOG=1");
        } else if was_fed {
            tracing::error!(
                stuck_workers,
                "a worker does not respond: the watchdog is not fed, so that lb is restarted"
            );
        }
        is_fed
    }

    fn tell(&self, message: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(message.as_bytes())
        {
            tracing::warn!(%error, "a message to the service manager was lost: {}", message.replace('\n', " "));
        }
    }
}

/// A socket that sends to `name`: a path, or `@` and an abstract name.
fn open(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // a manager that does not read must not stop control
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The time of the watchdog, if it is meant for the process `pid`.
fn watchdog(microseconds: Option<String>, for_pid: Option<String>, pid: u32) -> Option<Duration> {
    let is_ours = for_pid.is_none_or(|text| text.parse() == Ok(pid));
    let time = Duration::from_micros(microseconds?.parse().ok()?);
    Some(time).filter(|time| is_ours && !time.is_zero())
}

/// The next feeding time; never without a watchdog.
async fn tick(feeding: &mut Option<tokio::time::Interval>) {
    match feeding {
        Some(feeding) => drop(feeding.tick().await),
        None => std::future::pending().await,
    }
}

/// The state in one line, for `systemctl status`.
fn line(status: &Status) -> String {
    let listeners: Vec<String> = status.listeners.iter().map(ToString::to_string).collect();
    let pools: Vec<String> = status.pools.iter().map(|pool| format!("{}: {}", pool.name, pool.strategy)).collect();
    let refused = status.reload.last.as_ref().and_then(|last| last.reason.as_ref());
    let refused = refused.map(|reason| format!("; the last reload was refused: {reason}")).unwrap_or_default();
    let line =
        format!("serving on {}; generation {}; {}{refused}", listeners.join(", "), status.generation, pools.join(", "));
    line.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_only_while_no_worker_is_stuck() {
        let (socket, manager) = UnixDatagram::pair().unwrap();
        manager.set_nonblocking(true).unwrap();
        let notifier = Notifier { socket: Some(socket), watchdog: None };
        let mut message = [0; 64];
        assert!(!notifier.feed(1, true) && !notifier.feed(2, false));
        assert_eq!(manager.recv(&mut message).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(notifier.feed(0, false));
        assert_eq!(manager.recv(&mut message).map(|length| &message[..length]).unwrap(), b"WATCHDOG=1");
    }

    #[test]
    fn a_watchdog_of_another_process_or_without_a_time_is_none() {
        let of = |time: &str, pid: Option<&str>| watchdog(Some(time.to_owned()), pid.map(str::to_owned), 7);
        assert_eq!(of("30000000", None), Some(Duration::from_secs(30)));
        assert_eq!(of("30000000", Some("7")), Some(Duration::from_secs(30)));
        for (time, pid) in [("30000000", Some("8")), ("30000000", Some("x")), ("0", None), ("soon", None)] {
            assert_eq!(of(time, pid), None, "{time} {pid:?}");
        }
        assert_eq!(watchdog(None, None, 7), None);
    }

    #[test]
    fn a_socket_that_is_no_address_is_refused() {
        assert_eq!(open(OsStr::new("vsock:2:1")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(open(OsStr::new("/none/such/socket")).is_err());
    }
}
