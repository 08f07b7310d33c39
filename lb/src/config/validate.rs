//! The checks: from the file form to the validated form, section by section.
//!
//! Every section is destructured by name, without `..`. So a new key does not compile before its check is written.
//! Pools, strategies and routes have their own file, [`super::pools`], and so have the two ports, [`super::ports`].
//!
//! Invariants: every number in the result has a stated range. Every path is absolute. A mistake is a [`Fault`] with its
//! key, never a panic.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::Fault;
use super::file;
use super::key_path::KeyPath;
use super::pools;
use super::ports::{check_admin, check_proxy};
use super::validated::{
    AccessLog, Config, Course, Health, Launcher, Limits, Log, Reload, Secret, State, Timeouts, check_id,
};
use super::values::check_level;

/// The inputs of the checks beside the text.
#[derive(Debug)]
pub(super) struct Surroundings {
    /// The configuration file, absolute.
    pub(super) file: PathBuf,
    /// Where relative paths start.
    pub(super) folder: PathBuf,
    /// Folders of plugins after those that the file names.
    pub(super) plugin_folders: Vec<PathBuf>,
    pub(super) cores: usize,
    /// The state folder if the file names none.
    pub(super) state_dir: PathBuf,
    pub(super) admin_token: Option<Secret>,
}

/// One day; longer waits are mistakes in a unit.
const MILLISECONDS_MAX: i64 = 86_400_000;
/// Between two health checks of a backend.
const INTERVAL_MIN_MS: i64 = 10;
const REPLICAS_MAX: i64 = 1_024;
/// An image keeps a thread-local key of its own, and a process has about a thousand.
const IMAGES_MAX: i64 = 500;

/// Checks all of `form`. Adds to `warnings` what is allowed but probably a mistake.
pub(super) fn validate(form: &file::File, around: &Surroundings, warnings: &mut Vec<String>) -> Result<Config, Fault> {
    let file::File {
        plugin_dirs: dirs,
        allow_group_writable,
        proxy,
        admin,
        strategy,
        backends,
        pools,
        routes,
        launcher,
        course,
        health,
        outlier,
        panic,
        timeouts,
        limits,
        reload,
        state,
        log,
        access_log,
    } = form;
    let proxy = check_proxy(proxy, around)?;
    let admin = check_admin(admin, around, &proxy)?;
    let failing = (outlier.check()?, panic.check()?);
    let pools = pools::check_pools(strategy, backends, pools, failing, around, warnings)?;
    let routes = pools::check_routes(routes, &pools)?;
    let launcher = check_launcher(launcher, around, warnings)?;
    pools::check_reach(&pools, &proxy, &admin, launcher.is_some(), warnings)?;
    Ok(Config {
        file: Some(around.file.clone()),
        plugin_dirs: plugin_dirs(dirs, around)?,
        allow_group_writable: *allow_group_writable,
        proxy,
        admin,
        pools,
        routes,
        launcher,
        course: check_course(course)?,
        health: check_health(health)?,
        timeouts: check_timeouts(timeouts)?,
        limits: check_limits(limits)?,
        reload: check_reload(reload)?,
        state: check_state(state, around)?,
        log: check_log(log)?,
        access_log: check_access_log(access_log, around)?,
    })
}

/// `path` relative to the folder of the configuration file.
pub(super) fn absolute(path: &Path, key: KeyPath, around: &Surroundings) -> Result<PathBuf, Fault> {
    if path.as_os_str().is_empty() {
        return Err(Fault::new(key, "a path cannot be empty"));
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(Fault::new(key, "a path cannot have a zero byte in it"));
    }
    if path.starts_with("~") {
        return Err(Fault::new(key, "~ is not expanded here; write the whole path"));
    }
    // Normalised by `components`, so that "./" and doubled slashes do not give one file two names.
    Ok(around.folder.join(path).components().collect())
}

/// A number from `min` to `max`.
pub(super) fn within(key: KeyPath, value: i64, min: i64, max: i64) -> Result<i64, Fault> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(Fault::new(key, format!("must be from {min} to {max}, not {value}")))
}

fn plugin_dirs(dirs: &[PathBuf], around: &Surroundings) -> Result<Vec<PathBuf>, Fault> {
    let key = KeyPath::of(&["plugin_dirs"]);
    let configured = dirs.iter().enumerate().map(|(index, dir)| absolute(dir, key.index(index), around));
    configured.chain(around.plugin_folders.iter().cloned().map(Ok)).collect()
}

fn check_launcher(
    form: &file::Launcher,
    around: &Surroundings,
    warnings: &mut Vec<String>,
) -> Result<Option<Launcher>, Fault> {
    let file::Launcher { kind, replicas, names, host, first_port, command, max_replicas } = form;
    let section = KeyPath::of(&["launcher"]);
    let max_replicas = within(section.key("max_replicas"), *max_replicas, 1, REPLICAS_MAX)?;
    let replicas = within(section.key("replicas"), *replicas, 0, max_replicas)?;
    if !names.contains("{n}") {
        let what = format!("{names:?} has no {{n}} in it, so all replicas would be called the same");
        return Err(Fault::new(section.key("names"), what));
    }
    check_id(&names.replace("{n}", &u32::MAX.to_string()))
        .map_err(|what| Fault::new(section.key("names"), format!("{names:?} makes no ids: {what}")))?;
    let host: IpAddr = host
        .parse()
        .map_err(|_| Fault::new(section.key("host"), format!("{host:?} is not an IP address, such as 127.0.0.1")))?;
    let first_port = within(section.key("first_port"), *first_port, 0, i64::from(u16::MAX))?;
    if first_port + max_replicas - 1 > i64::from(u16::MAX) {
        let what = format!("leaves no room for {max_replicas} ports (launcher.max_replicas)");
        return Err(Fault::new(section.key("first_port"), what));
    }
    let key = section.key("command");
    let Some(program) = command.first().filter(|program| !program.is_empty()) else {
        return Err(Fault::new(key, "needs a program, such as [\"mock-server\"]"));
    };
    if command.iter().any(|part| part.contains('\0')) {
        return Err(Fault::new(key, "cannot have a zero byte in it"));
    }
    let is_mock_server = Path::new(program).file_name().is_some_and(|name| name == "mock-server");
    if !is_mock_server && !command.iter().any(|part| part.contains("{port}")) {
        warnings.push(format!("{key} has no {{port}} in it: the program must learn its port itself"));
    }
    let mut command = command.clone();
    // A bare name is searched beside the executable and in PATH; one with a slash is a path.
    if program.contains('/') {
        let program = absolute(Path::new(program), key.index(0), around)?;
        command[0] = program.to_string_lossy().into_owned();
    }
    let launcher = Launcher {
        replicas: size(replicas),
        names: names.clone(),
        first_port: u16::try_from(first_port).unwrap_or(u16::MAX),
        command,
        max_replicas: size(max_replicas),
        host,
    };
    Ok(match kind {
        file::LauncherKind::None => None,
        file::LauncherKind::Process => Some(launcher),
    })
}

fn check_course(form: &file::Course) -> Result<Course, Fault> {
    let file::Course { on_proxy_port, missing_path_is_400, seed } = *form;
    let seed = seed
        .map(|seed| within(KeyPath::of(&["course", "seed"]), seed, 0, i64::MAX))
        .transpose()?
        .map(i64::unsigned_abs);
    Ok(Course { on_proxy_port, missing_path_is_400, seed })
}

fn check_health(form: &file::Health) -> Result<Health, Fault> {
    let file::Health { enabled, path, interval_ms, fast_interval_ms, timeout_ms, down_after, up_after } = form;
    let section = KeyPath::of(&["health"]);
    if !path.starts_with('/') || path.parse::<http::uri::PathAndQuery>().is_err() {
        let what = format!("{path:?} is not a path, such as \"/heartbeat\"");
        return Err(Fault::new(section.key("path"), what));
    }
    let interval = milliseconds(section.key("interval_ms"), *interval_ms, INTERVAL_MIN_MS)?;
    let fast_interval = match fast_interval_ms {
        Some(fast) => milliseconds(section.key("fast_interval_ms"), *fast, INTERVAL_MIN_MS)?,
        None => (interval / 4).max(Duration::from_millis(INTERVAL_MIN_MS.unsigned_abs())),
    };
    if fast_interval > interval {
        let what = format!("must not be longer than interval_ms, which is {interval_ms}");
        return Err(Fault::new(section.key("fast_interval_ms"), what));
    }
    let checks = |name: &str, value: i64| within(section.key(name), value, 1, 1_000).map(small);
    Ok(Health {
        enabled: *enabled,
        path: path.clone(),
        interval,
        fast_interval,
        timeout: milliseconds(section.key("timeout_ms"), *timeout_ms, 10)?,
        down_after: checks("down_after", *down_after)?,
        up_after: checks("up_after", *up_after)?,
    })
}

fn check_timeouts(form: &file::Timeouts) -> Result<Timeouts, Fault> {
    let file::Timeouts {
        connect_ms,
        head_ms,
        response_head_ms,
        idle_ms,
        body_grace_ms,
        tunnel_idle_ms,
        half_closed_ms,
        client_keep_alive_ms,
        upstream_idle_ms,
        total_ms,
        drain_ms,
    } = *form;
    let at_least_1 = |name: &str, value: i64| milliseconds(KeyPath::of(&["timeouts", name]), value, 1);
    let total = milliseconds(KeyPath::of(&["timeouts", "total_ms"]), total_ms, 0)?;
    Ok(Timeouts {
        connect: at_least_1("connect_ms", connect_ms)?,
        head: at_least_1("head_ms", head_ms)?,
        response_head: at_least_1("response_head_ms", response_head_ms)?,
        idle: at_least_1("idle_ms", idle_ms)?,
        body_grace: at_least_1("body_grace_ms", body_grace_ms)?,
        tunnel_idle: at_least_1("tunnel_idle_ms", tunnel_idle_ms)?,
        half_closed: at_least_1("half_closed_ms", half_closed_ms)?,
        client_keep_alive: at_least_1("client_keep_alive_ms", client_keep_alive_ms)?,
        upstream_idle: at_least_1("upstream_idle_ms", upstream_idle_ms)?,
        total: (!total.is_zero()).then_some(total),
        drain: at_least_1("drain_ms", drain_ms)?,
    })
}

fn check_limits(form: &file::Limits) -> Result<Limits, Fault> {
    let file::Limits {
        head_bytes,
        headers,
        body_bytes,
        body_min_bytes_per_s: rate,
        connections,
        requests_in_flight_per_backend: in_flight,
        upstream_idle_connections: idle,
        retries,
    } = *form;
    let limit = |name: &str, value: i64, min: i64, max: i64| within(KeyPath::of(&["limits", name]), value, min, max);
    let body_bytes = limit("body_bytes", body_bytes, 0, i64::MAX)?;
    let rate = limit("body_min_bytes_per_s", rate, 0, 1_000_000_000)?;
    let in_flight = limit("requests_in_flight_per_backend", in_flight, 0, 1_000_000)?;
    Ok(Limits {
        head_bytes: size(limit("head_bytes", head_bytes, 8_192, 1_048_576)?),
        headers: size(limit("headers", headers, 1, 4_096)?),
        body_bytes: (body_bytes > 0).then_some(body_bytes.unsigned_abs()),
        body_min_bytes_per_s: (rate > 0).then_some(rate.unsigned_abs()),
        connections: size(limit("connections", connections, 1, 1_000_000)?),
        requests_in_flight_per_backend: (in_flight > 0).then_some(small(in_flight)),
        upstream_idle_connections: size(limit("upstream_idle_connections", idle, 0, 65_536)?),
        retries: small(limit("retries", retries, 0, 1)?),
    })
}

fn check_reload(form: &file::Reload) -> Result<Reload, Fault> {
    let file::Reload { watch, settle_ms, poll_ms, max_images, probation_ms } = *form;
    let section = KeyPath::of(&["reload"]);
    Ok(Reload {
        watch,
        settle: milliseconds(section.key("settle_ms"), settle_ms, 10)?,
        poll: milliseconds(section.key("poll_ms"), poll_ms, 10)?,
        max_images: size(within(section.key("max_images"), max_images, 1, IMAGES_MAX)?),
        probation: milliseconds(section.key("probation_ms"), probation_ms, 0)?,
    })
}

fn check_state(form: &file::State, around: &Surroundings) -> Result<State, Fault> {
    let file::State { keep, dir } = form;
    let dir = match dir {
        Some(dir) => absolute(dir, KeyPath::of(&["state", "dir"]), around)?,
        None => around.state_dir.clone(),
    };
    Ok(State { keep: *keep, dir })
}

fn check_log(form: &file::Log) -> Result<Log, Fault> {
    let file::Log { level } = form;
    check_level(level).map_err(|what| Fault::new(KeyPath::of(&["log", "level"]), what))?;
    Ok(Log { level: level.clone() })
}

fn check_access_log(form: &file::AccessLog, around: &Surroundings) -> Result<Option<AccessLog>, Fault> {
    let file::AccessLog { enabled, format, path, sample, always_errors, query } = form;
    let section = KeyPath::of(&["access_log"]);
    if !(0.0..=1.0).contains(sample) {
        let what = format!("must be from 0 to 1, the share of requests that get a line, not {sample}");
        return Err(Fault::new(section.key("sample"), what));
    }
    let path = match path.as_os_str() == "-" {
        true => None,
        false => Some(absolute(path, section.key("path"), around)?),
    };
    let (format, sample, always_errors, query) = (*format, *sample, *always_errors, *query);
    Ok(enabled.then_some(AccessLog { format, path, sample, always_errors, query }))
}

pub(super) fn milliseconds(key: KeyPath, value: i64, min: i64) -> Result<Duration, Fault> {
    if (min..=MILLISECONDS_MAX).contains(&value) {
        return Ok(Duration::from_millis(value.unsigned_abs()));
    }
    let what = format!("must be from {min} to {MILLISECONDS_MAX} milliseconds, not {value}");
    Err(Fault::new(key, what))
}

/// For numbers that `within` has let through.
pub(super) fn size(value: i64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// For numbers that `within` has let through.
fn small(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
