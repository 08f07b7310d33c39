//! The arguments of `lb`, with their help.
//!
//! Invariant: each flag of [`Settings`], except `--config`, is only another spelling of a configuration key. So it
//! passes the same checks, and `lb config` shows the flag as the origin of the value.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, ValueHint};

use super::commands::{self, Command, Json};
use crate::config::Source;
use crate::run;

const EXAMPLES: &str = "\
Examples:
  lb                                        start with config/lb.toml or, if there is none, /etc/lb/lb.toml
  lb --config config/assignment.toml        start with the course's setting
  lb --strategy least_connections           start with another strategy
  lb --listen 0.0.0.0:80 --workers 4        start on another address, with four worker threads
  lb --set timeouts.connect_ms=500 --set 'strategy.hash_on=[\"client_ip\"]'
                                            set any key of the configuration; values are TOML
  LB__PROXY__WORKERS=2 lb                   set a key by the environment
  lb check                                  test whether lb can start; if not, print the reason
  lb config                                 show every setting in force and where it comes from
  lb strategies                             list the strategies that can be named
  lb reload                                 make the running lb read its files again
  lb rollback                               restore the last proven strategy in the running lb
  lb status; lb backends                    show the state of the running lb
  lb drain ID --wait                        send no new requests to a backend, and wait until it has none
  lb explain KEY                            show where a request with this key would go, and why
  lb check-strategy libmine.so              check a plugin and print its score card
  (umask 077; lb token > admin.token)       make a token for admin.token_file
  lb help reload                            show what a command does and takes

The admin port of a running lb (127.0.0.1:8081) lists its routes: curl http://127.0.0.1:8081/
Exit codes: 0 success; 2 an error that you can correct (usage, configuration, port, plugin, no lb at the admin address, wrong admin \
token); 1 any other failure. If the running lb refuses a reload or a rollback, the exit code is 1.";

/// An HTTP load balancer whose routing strategy is a plugin.
#[derive(Debug, Parser)]
#[command(name = "lb", version = env!("BUILD_VERSION"), about, after_help = EXAMPLES)]
pub struct Args {
    /// Write this JSON file (pid, proxy, admin) when lb is ready; lb removes it when it ends
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub ready_file: Option<PathBuf>,

    /// Drop the runtime changes of earlier runs (backends added, removed, drained or with a new weight)
    #[arg(long)]
    pub fresh: bool,

    /// Stop, as by SIGTERM, when stdin ends: if the parent holds the pipe's other end, lb and its replicas end with it
    #[arg(long)]
    pub exit_with_parent: bool,

    #[command(flatten)]
    pub json: Json,

    #[command(flatten)]
    pub settings: Settings,

    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The sources of the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, ClapArgs)]
#[command(next_help_heading = "Settings")]
pub struct Settings {
    /// The configuration file; without it config/lb.toml, then etc/lb/lb.toml beside the folder bin of lb, then
    /// /etc/lb/lb.toml
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,

    /// The strategy of the pool default [key: strategy.name]
    #[arg(long, visible_alias = "algorithm", value_name = "NAME")]
    pub strategy: Option<String>,

    /// The address for client requests, IP:port; may be repeated [key: proxy.listen]
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<String>,

    /// The address of the admin port, IP:port [key: admin.listen]
    #[arg(long, value_name = "ADDR")]
    pub admin_listen: Option<String>,

    /// Worker threads, 0 for one per core [key: proxy.workers]
    #[arg(long, value_name = "N")]
    pub workers: Option<String>,

    /// Set any key of the configuration; the value is TOML; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set: Vec<(String, String)>,
}

pub(super) fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it has no `=`; write KEY=VALUE, such as proxy.workers=2")?;
    match key.trim() {
        "" => Err("it has no key; write KEY=VALUE, such as proxy.workers=2".to_owned()),
        key => Ok((key.to_owned(), value.trim().to_owned())),
    }
}

// === impl Args ===

impl Args {
    /// Parses the command line. Options may be before or behind the command: afterwards all are in `settings` and
    /// `json`.
    pub fn parse_all(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut args = Self::try_parse_from(arguments)?;
        if let Some(command) = &mut args.command {
            let (settings, json) = command.take_options();
            args.settings.extend(settings);
            args.json.json |= json.json;
        }
        Ok(args)
    }

    /// Refuses options that have no effect on the command.
    pub(super) fn check_combination(&self) -> Result<(), String> {
        let Some(command) = &self.command else { return Ok(()) };
        let settings = &self.settings;
        let given = [
            ("--ready-file", self.ready_file.is_some()),
            ("--fresh", self.fresh),
            ("--exit-with-parent", self.exit_with_parent),
            ("--strategy", settings.strategy.is_some() && !matches!(command, Command::Reload { .. })),
            ("--listen", !settings.listen.is_empty()),
            ("--workers", settings.workers.is_some()),
            ("--set", settings.set.iter().any(|(key, _)| !key.starts_with("admin."))),
        ];
        let mut given = given.iter().filter(|(_, is_given)| *is_given);
        given.find_map(|(flag, _)| commands::refusal(flag, command.name())).map_or(Ok(()), Err)
    }

    pub(super) fn run_options(&self) -> run::Options {
        run::Options {
            ready_file: self.ready_file.clone(),
            json: self.json.json,
            fresh: self.fresh,
            exit_with_parent: self.exit_with_parent,
            source: Some(self.settings.source()),
        }
    }
}

// === impl Settings ===

impl Settings {
    /// Adds the options behind the command. Each replaces the same option before it, but every `--set` counts.
    fn extend(&mut self, behind: Self) {
        let Self { config, strategy, listen, admin_listen, workers, set } = behind;
        self.config = config.or(self.config.take());
        self.strategy = strategy.or(self.strategy.take());
        self.admin_listen = admin_listen.or(self.admin_listen.take());
        self.workers = workers.or(self.workers.take());
        if !listen.is_empty() {
            self.listen = listen;
        }
        self.set.extend(set);
    }

    /// The sources of the configuration.
    pub(super) fn source(&self) -> Source {
        Source::new(self.config.clone(), self.as_keys())
    }

    /// The flags as configuration keys. `--set` is first, so that a key's own flag overrides it.
    pub(super) fn as_keys(&self) -> Vec<(String, String)> {
        let mut keys = self.set.clone();
        let mut put = |key: &str, value: &str| keys.push((key.to_owned(), value.to_owned()));
        if let Some(name) = &self.strategy {
            put("strategy.name", name);
        }
        match self.listen.as_slice() {
            [] => {}
            [one] => put("proxy.listen", one),
            many => put("proxy.listen", &toml::Value::from(many.to_vec()).to_string()),
        }
        if let Some(address) = &self.admin_listen {
            put("admin.listen", address);
        }
        if let Some(workers) = &self.workers {
            put("proxy.workers", workers);
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Args {
        Args::parse_all(line.split(' ').map(OsString::from)).unwrap()
    }

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn without_a_command_it_is_a_start() {
        let args = parse("lb");
        assert_eq!(args.command, None);
        assert_eq!(args.settings.config, None, "lb finds it by itself");
        assert!(args.settings.as_keys().is_empty());
    }

    #[test]
    fn flags_are_spellings_of_keys() {
        let args = parse("lb --set a.b=c=d --algorithm ring --listen a:1 --listen b:2 --admin-listen c:3 --workers 4");
        let keys = [
            ("a.b", "c=d"),
            ("strategy.name", "ring"),
            ("proxy.listen", r#"["a:1", "b:2"]"#),
            ("admin.listen", "c:3"),
            ("proxy.workers", "4"),
        ];
        assert_eq!(args.settings.as_keys(), keys.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn settings_may_be_before_or_after_the_command() {
        for line in [
            "lb --strategy a --json check",
            "lb check --strategy a --json",
            "lb --strategy b check --json --strategy a",
        ] {
            let args = parse(line);
            assert!(matches!(args.command, Some(Command::Check(_))) && args.json.json, "{line}");
            assert_eq!(args.settings.strategy.as_deref(), Some("a"), "{line}");
        }
        for line in ["lb --config x --admin-listen a:1 --json status", "lb status --admin-listen a:1 --config x --json"]
        {
            let Args { settings, json, .. } = parse(line);
            assert_eq!(
                (settings.config, settings.admin_listen, json.json),
                (Some("x".into()), Some("a:1".into()), true)
            );
        }
    }

    #[test]
    fn an_option_without_effect_on_the_command_is_refused() {
        let complaint = parse("lb --fresh check").check_combination().unwrap_err();
        assert_eq!(complaint, "--fresh is for a start only, not for `lb check`");
        assert!(parse("lb --fresh --exit-with-parent --ready-file x").check_combination().is_ok());
        let complaint = parse("lb --workers 2 status").check_combination().unwrap_err();
        assert!(complaint.starts_with("--workers has no effect on a running lb"), "{complaint}");
        for fine in ["lb --workers 2 check", "lb reload --strategy x", "lb --set admin.listen=a:1 backends"] {
            assert_eq!(parse(fine).check_combination(), Ok(()), "{fine}");
        }
    }

    #[test]
    fn a_set_without_key_or_value_is_refused() {
        assert!(key_and_value("proxy.workers").is_err() && key_and_value("=2").is_err());
        assert_eq!(key_and_value("k="), Ok(("k".into(), String::new())));
    }

    #[test]
    fn every_set_counts_before_and_after_the_command() {
        let keys = parse("lb --set a=1 --set=b=2 check --set c=3").settings.set.into_iter().map(|(key, _)| key);
        assert_eq!(keys.collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
