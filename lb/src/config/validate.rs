//! The checks: from the file form to the validated form, section by section.
//!
//! Every section is destructured by name, without `..`. So a new key does not compile before its check is written.
//! Pools, strategies and routes have their own file, [`super::pools`], and so have the two ports, [`super::ports`]. The
//! sections that pools and routes may set are in [`super::policy`] and [`super::health`].
//!
//! Invariants: every number in the result has a stated range. Every path is absolute. A mistake is a [`Fault`] with its
//! key, never a panic.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::Fault;
use super::failing::has_hedges;
use super::file;
use super::key_path::KeyPath;
use super::labels::check_labels;
use super::policy::{Rules, Sections};
use super::pools;
use super::ports::{check_admin, check_proxy};
use super::validated::{AccessLog, Config, Course, Launcher, Log, Reload, Secret, check_id};
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
        slow_start,
        retry,
        queue,
        sticky,
        timeouts,
        limits,
        reload,
        state,
        log,
        access_log,
    } = form;
    let proxy = check_proxy(proxy, around)?;
    let admin = check_admin(admin, around, &proxy)?;
    let sections =
        Sections { timeouts: timeouts.clone(), limits: limits.clone(), retry: retry.clone(), queue: queue.clone() };
    let failing = (outlier.clone(), panic.clone());
    let mut rules = Rules::global(sections, health, failing, slow_start.clone(), sticky.clone())?;
    let pools = pools::check_pools(strategy, backends, pools, &mut rules, around, warnings)?;
    let routes = pools::check_routes(routes, &pools, &mut rules)?;
    let launcher = check_launcher(launcher, around, warnings)?;
    pools::check_reach(&pools, &proxy, &admin, launcher.as_ref(), warnings)?;
    if launcher.is_some() && pools[0].health.port.is_some() {
        warnings.push("health.port: the checks of all launched servers go to this one port".to_owned());
    }
    let policies = rules.policies();
    if policies.iter().any(|policy| policy.retry.rules.hedge)
        && !policies.iter().any(|policy| has_hedges(&policy.retry))
    {
        let what = "retry.hedge: no request is hedged, because a hedge needs retry.attempts of 2 or more, and a budget";
        warnings.push(what.to_owned());
    }
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
        health: rules.health(None)?,
        timeouts: rules.policy().timeouts.clone(),
        limits: rules.policy().limits.clone(),
        policies: rules.into_policies(),
        reload: check_reload(reload)?,
        state: state.check(around)?,
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

/// A number of three digits, without a sign.
pub(super) fn status_code(text: &str) -> Option<u16> {
    let is_plain = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
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
    let file::Launcher { kind, replicas, names, host, first_port, command, max_replicas, labels } = form;
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
        labels: check_labels(labels, &section.key("labels"))?,
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

/// A time from `min` to [`MILLISECONDS_MAX`].
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
pub(super) fn small(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
