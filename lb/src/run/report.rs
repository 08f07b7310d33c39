//! The start report: what lb serves on which ports, with which strategy, and commands to try next.
//!
//! One value with two forms, lines for people and JSON for programs. Invariant: a command in it can be copied and works
//! (if there is an admin token, with the token in LB_ADMIN_TOKEN).

use std::fmt::{self, Display, Formatter};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;

use crate::config::{Loaded, Origin};
use crate::control::{BackendStatus, PoolStatus, Status};

#[derive(Serialize)]
pub(super) struct Report<'a> {
    pub(super) pid: u32,
    pub(super) proxy: Vec<SocketAddr>,
    pub(super) admin: SocketAddr,
    config: Option<&'a Path>,
    pub(super) status: Status,
    #[serde(skip)]
    loaded: &'a Loaded,
}

/// The outcome of the replicas that a start launches; printed when it is known.
pub(super) enum Joined {
    All(usize),
    /// One is known to fail.
    Failing(String),
    Late,
}

/// Longer lists of backends are cut.
const NAMES_MAX: usize = 6;

/// Prints to stdout; a reader that is gone is no reason to stop serving.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush());
}

// === impl Report ===

impl<'a> Report<'a> {
    pub(super) fn new(loaded: &'a Loaded, admin: SocketAddr, status: Status) -> Self {
        let proxy = status.listeners.clone();
        Self { pid: std::process::id(), proxy, admin, config: loaded.config.file.as_deref(), status, loaded }
    }

    pub(super) fn to_json(&self) -> String {
        // strings, numbers and paths: only a path that is not UTF-8 cannot be JSON
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":{:?}}}", error.to_string()))
    }

    fn pool_line(&self, f: &mut Formatter<'_>, pool: &PoolStatus) -> fmt::Result {
        let digest = pool.strategy_sha256.as_deref().map(|digest| format!(" (sha256 {:.12})", digest));
        let digest = digest.unwrap_or_default();
        writeln!(f, "  pool {:<9} strategy {} {}{digest}", pool.name, pool.strategy, pool.strategy_version)?;
        writeln!(f, "                 {}", backends_line(&pool.backends))
    }

    fn overlay_line(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let overlay = &self.status.overlay;
        let counts = [(overlay.added, "added"), (overlay.removed, "removed"), (overlay.changed, "changed")];
        let mut parts: Vec<_> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        parts.extend(overlay.replicas.map(|n| format!("{n} replicas wanted")));
        match parts.is_empty() {
            true => Ok(()),
            false => {
                let (changes, fresh) = (parts.join(", "), again("--fresh"));
                writeln!(f, "  in force       changes made at run time: {changes} ({fresh} drops them)")
            }
        }
    }

    fn try_lines(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let config = &self.loaded.config;
        let token = if config.admin.token.is_some() { "-H \"Authorization: Bearer $LB_ADMIN_TOKEN\" " } else { "" };
        let admin = self.admin;
        writeln!(f, "try")?;
        if let Some(proxy) = self.proxy.first() {
            writeln!(f, "  curl http://{proxy}/home")?;
        }
        // on the proxy's port no token is needed
        let (course_token, course) = match self.proxy.first() {
            Some(proxy) if config.course.on_proxy_port => ("", *proxy),
            _ => (token, admin),
        };
        writeln!(f, "  curl {course_token}http://{course}/rep")?;
        if config.launcher.is_some() {
            writeln!(f, "  curl {course_token}-X POST -d '{{\"n\":1}}' http://{course}/add")?;
        }
        writeln!(f, "  curl {token}http://{admin}/   # lists all routes")
    }

    /// Where to change the strategy.
    fn strategy_line(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let setting =
            self.loaded.settings.iter().find(|setting| ["strategy.name", "strategy.path"].contains(&&*setting.key));
        let Some(setting) = setting else { return Ok(()) };
        let key = setting.key.trim_start_matches("strategy.");
        let then = match self.loaded.config.reload.watch {
            true => "and save it".to_owned(),
            false => format!("and kill -HUP {}", self.pid),
        };
        let todo = match (&setting.origin, self.config) {
            (Origin::File { line }, Some(file)) => {
                format!("edit {key} in {} line {line} {then}", file.display())
            }
            (Origin::Environment(variable), _) => format!("change {variable} and restart"),
            (Origin::CommandLine(flag), _) => format!("change {flag} and restart"),
            _ => format!("set {key} under [strategy] {then}"),
        };
        writeln!(f, "another strategy: {todo}; `{}` lists them", again("strategies"))
    }
}

impl Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Status { version, workers, .. } = &self.status;
        let s = if *workers == 1 { "" } else { "s" };
        writeln!(f, "lb {version}, {workers} worker{s}, process {}", self.pid)?;
        for address in &self.proxy {
            writeln!(f, "  serving        http://{address}")?;
        }
        writeln!(f, "  admin          http://{}   (in a browser: a live page)", self.admin)?;
        if self.loaded.config.course.on_proxy_port {
            writeln!(f, "  course         /rep, /add and /rm on the serving port too")?;
        }
        for pool in &self.status.pools {
            self.pool_line(f, pool)?;
        }
        self.overlay_line(f)?;
        self.try_lines(f)?;
        self.strategy_line(f)
    }
}

// === impl Joined ===

impl Display for Joined {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(0) => f.write_str("ready"),
            Self::All(1) => f.write_str("ready: the replica has joined"),
            Self::All(count) => write!(f, "ready: all {count} replicas have joined"),
            Self::Failing(why) => write!(f, "ready, but not every replica: {why}; it is tried again"),
            Self::Late => {
                f.write_str("ready, but not every replica yet; the others join when they pass a health check")
            }
        }
    }
}

/// The command of this program with the same configuration and another `argument`, to be copied: `lb` is seldom in
/// PATH.
fn again(argument: &str) -> String {
    call(std::env::args_os().map(|word| word.to_string_lossy().into_owned()), argument)
}

fn call(mut words: impl Iterator<Item = String>, argument: &str) -> String {
    let mut call = vec![words.next().unwrap_or_else(|| "lb".to_owned())];
    while let Some(word) = words.next() {
        if word == "--config" {
            call.extend([word].into_iter().chain(words.next()));
        } else if word.starts_with("--config=") {
            call.push(word);
        }
    }
    call.push(argument.to_owned());
    call.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// `word`, quoted for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=@%".contains(&byte);
    match !word.is_empty() && word.bytes().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// "3 launched: Server 1, Server 2, Server 3".
fn backends_line(backends: &[BackendStatus]) -> String {
    let groups: Vec<String> = ["file", "attached", "launched"]
        .iter()
        .filter_map(|origin| {
            let names: Vec<&str> = backends.iter().filter(|one| one.origin == *origin).map(|one| &*one.id).collect();
            let more = if names.len() > NAMES_MAX { ", …" } else { "" };
            let shown = &names[..names.len().min(NAMES_MAX)];
            let which = if *origin == "file" { "from the file" } else { origin };
            (!names.is_empty()).then(|| format!("{} {which}: {}{more}", names.len(), shown.join(", ")))
        })
        .collect();
    match groups.is_empty() {
        true => "no backends yet".to_owned(),
        false => groups.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_keeps_the_program_and_its_configuration_only() {
        let again = |line: &str| call(line.split(' ').map(str::to_owned), "strategies");
        assert_eq!(again("target/release/lb --fresh"), "target/release/lb strategies");
        assert_eq!(again("./lb --fresh --config a.toml --set x=1"), "./lb --config a.toml strategies");
        assert_eq!(again("lb --config=a.toml"), "lb --config=a.toml strategies");
    }

    #[test]
    fn a_program_can_be_copied_into_a_shell_whatever_its_folder_is_called() {
        assert_eq!(quoted("target/release/lb"), "target/release/lb");
        assert_eq!(quoted("/my programs/it's/lb"), r"'/my programs/it'\''s/lb'");
    }
}
